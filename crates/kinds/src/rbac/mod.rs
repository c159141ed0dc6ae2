//! Roles and who has them. What the rules mean is the authoriser's business.

mod bindings;
pub(crate) mod clusterrolebindings;
pub(crate) mod clusterroles;
pub(crate) mod rolebindings;
pub(crate) mod roles;
mod rules;

const GROUP: &str = "rbac.authorization.k8s.io";

#[cfg(test)]
mod tests;
