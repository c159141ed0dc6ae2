//! Server-side apply: who owns which field of an object, and what a declaration does to it.
//!
//! ```text
//!   apply    live ⊕ applied → without what this manager applied before, does not now, and nobody else owns
//!            → what changed and is others': conflicts, or (force) theirs no more
//!   update   what changed is now this manager's, and nobody else's
//! ```
//!
//! From below: [`element`] and [`set`] are paths and sets of them (`FieldsV1`), [`typed`] says which fields an object has by its
//! schema, [`compare`](mod@compare) and [`merge`](mod@merge) are what is done with two objects, [`managers`] is
//! `metadata.managedFields`, [`update`](mod@update) puts them together. Everything behaves as structured-merge-diff does in
//! Kubernetes 1.35, oddities included: clients look at the result.
//! <https://kubernetes.io/docs/reference/using-api/server-side-apply/>

mod compare;
mod conflict;
mod element;
mod managers;
mod merge;
mod set;
mod typed;
mod update;
pub(super) mod values;

pub use compare::{Comparison, compare};
pub use conflict::{Conflict, Conflicts};
pub use element::{Element, ElementError, display_path};
pub use managers::{Entry, MAX_UPDATERS, Managers, Operation, Owner, is_reset};
pub use merge::{merge, without};
pub use set::{FieldsError, Set};
pub use typed::{TypedErrors, check, fields};
pub use update::{Applied, ApplyError, Versions, Write, apply, update};

/// The annotation in which a client-side apply keeps what it applied.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

#[cfg(test)]
mod tests;
