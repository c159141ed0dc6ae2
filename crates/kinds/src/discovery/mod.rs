//! discovery.k8s.io: which addresses stand behind a service.

pub(crate) mod endpointslices;

#[cfg(test)]
mod tests;
