//! Kinds of `apps/v1`: what keeps pods running.

pub(super) mod controllerrevisions;
pub(super) mod daemonsets;
pub(super) mod deployments;
pub(super) mod replicasets;
pub(super) mod statefulsets;
