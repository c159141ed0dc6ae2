//! storage.k8s.io: who makes volumes, who attaches them, and what their drivers say about themselves.

pub(crate) mod csidrivers;
pub(crate) mod csinodes;
pub(crate) mod csistoragecapacities;
mod parameters;
pub(crate) mod storageclasses;
pub(crate) mod volumeattachments;
pub(crate) mod volumeattributesclasses;

#[cfg(test)]
mod tests;
