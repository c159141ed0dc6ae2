//! apiextensions.k8s.io: kinds that users define.

mod conversion;
pub(crate) mod customresourcedefinitions;
mod names;
mod schema;
mod versions;

#[cfg(test)]
mod tests;
