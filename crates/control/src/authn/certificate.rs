//! Client certificates: TLS has verified them already, here is what they say.

use super::{CREDENTIAL_ID, Identity};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Who is at the other end of a TLS connection, as far as its certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Signed by the cluster's CA: `CN` is the user, every `O` a group.
    Client(Identity),
    /// Signed by the CA of front proxies: whoever its headers name.
    FrontProxy,
}

/// The attribute of a subject that is the user's uid (an arc of the CNCF).
const UID_OID: &str = "1.3.6.1.4.1.57683.2";

impl Peer {
    /// Of a certificate that TLS has verified. `front_proxy_ca` signs the certificates of front proxies, and nobody is a
    /// user by a certificate of it. `None` if the certificate names nobody.
    pub(crate) fn of_certificate(der: &[u8], front_proxy_ca: &[u8]) -> Option<Peer> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let (_, ca) = X509Certificate::from_der(front_proxy_ca).ok()?;
        if certificate.verify_signature(Some(ca.public_key())).is_ok() {
            let name = certificate.subject().iter_common_name().next()?.as_str().ok()?;
            return (name == super::front_proxy::CLIENT).then_some(Peer::FrontProxy);
        }
        Identity::of_certificate(der).map(Peer::Client)
    }
}

impl Identity {
    /// The subject of a certificate that TLS has verified already. `None` if it names nobody.
    pub(crate) fn of_certificate(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let subject = certificate.subject();
        let user = subject.iter_common_name().next()?.as_str().ok()?;
        if user.is_empty() {
            return None;
        }
        let groups: Vec<&str> = subject
            .iter_organization()
            .filter_map(|group| group.as_str().ok())
            .collect();
        let mut identity = Identity::authenticated(user, &groups);
        let uid = subject
            .iter_attributes()
            .find(|attribute| attribute.attr_type().to_id_string() == UID_OID);
        identity.uid = uid.and_then(|uid| uid.as_str().ok()).unwrap_or_default().to_owned();
        let mut id = "X509SHA256=".to_owned();
        for byte in Sha256::digest(der) {
            let _ = write!(id, "{byte:02x}");
        }
        identity.extra.insert(CREDENTIAL_ID.to_owned(), vec![id]);
        Some(identity)
    }
}
