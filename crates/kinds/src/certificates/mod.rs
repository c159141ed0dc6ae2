//! certificates.k8s.io: requests for certificates.

pub(crate) mod certificatesigningrequests;
mod pem;

#[cfg(test)]
mod tests;
