//! apiextensions.k8s.io: kinds that users define.

mod conversion;
pub(crate) mod customresourcedefinitions;
mod internal;
mod names;
mod normal;
mod schema;
mod versions;

#[cfg(test)]
mod tests;
