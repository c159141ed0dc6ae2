//! flowcontrol.apiserver.k8s.io: how requests share the server.

pub(crate) mod flowschemas;
pub(crate) mod prioritylevelconfigurations;

#[cfg(test)]
mod tests;
