//! What all controllers share.
//!
//! | file | its one concern |
//! |---|---|
//! | [`discovery`] | which resources there are, and when that changes |
//! | [`drive`] | the loop of a controller: keys from watches, one task per key, retries |
//! | [`queue`] | pure: which key is next, which waits for what |
//! | [`requests`] | small requests, and what their failures mean |

pub(crate) mod discovery;
pub(crate) mod drive;
#[cfg(test)]
pub(crate) mod fake;
pub(crate) mod queue;
pub(crate) mod requests;
