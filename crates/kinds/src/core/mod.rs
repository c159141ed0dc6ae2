//! Kinds of the legacy group, `/api/v1`.

pub(super) mod configmaps;
pub(super) mod events;
pub(super) mod namespaces;
pub(super) mod nodes;
pub(super) mod pods;
pub(super) mod secrets;
pub(super) mod serviceaccounts;
