//! resource.k8s.io: devices, who offers them and who claims them. Expressions that select devices are compiled elsewhere.

mod capacity;
mod claim;
pub(crate) mod deviceclasses;
mod devices;
pub(crate) mod resourceclaims;
pub(crate) mod resourceclaimtemplates;
pub(crate) mod resourceslices;
mod rules;
mod status;

#[cfg(test)]
mod tests;
