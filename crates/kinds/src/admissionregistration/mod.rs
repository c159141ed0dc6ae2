//! admissionregistration.k8s.io: who else has a say in what is admitted. CEL expressions are compiled elsewhere; here they
//! only have to be there.

mod matching;
pub(crate) mod mutatingwebhookconfigurations;
pub(crate) mod validatingadmissionpolicies;
pub(crate) mod validatingadmissionpolicybindings;
pub(crate) mod validatingwebhookconfigurations;
mod webhook;

#[cfg(test)]
mod tests;
