//! scheduling.k8s.io: how important pods are.

pub(crate) mod priorityclasses;

#[cfg(test)]
mod tests;
