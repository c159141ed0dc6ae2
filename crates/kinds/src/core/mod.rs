//! Kinds of the legacy group, `/api/v1`.

pub(crate) mod amounts;
pub(super) mod componentstatuses;
pub(super) mod configmaps;
pub(super) mod endpoints;
pub(super) mod events;
pub(super) mod limitranges;
pub(super) mod namespaces;
pub(super) mod nodes;
pub(crate) mod persistentvolumeclaims;
pub(crate) mod persistentvolumes;
pub(crate) mod pods;
pub(super) mod podtemplates;
pub(super) mod replicationcontrollers;
pub(super) mod resourcequotas;
pub(super) mod secrets;
pub(super) mod serviceaccounts;
pub(super) mod services;
mod volume_sources;
