//! certificates.k8s.io: requests for certificates.

pub(crate) mod certificatesigningrequests;
mod pem;
pub(crate) mod request;

#[cfg(test)]
mod tests;
