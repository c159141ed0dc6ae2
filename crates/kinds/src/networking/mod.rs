//! networking.k8s.io: what comes in, what may talk to what, and which addresses services have.

mod backend;
pub(crate) mod ingressclasses;
pub(crate) mod ingresses;
pub(crate) mod ipaddresses;
pub(crate) mod networkpolicies;
pub(crate) mod servicecidrs;

#[cfg(test)]
mod tests;
