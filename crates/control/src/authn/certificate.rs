//! Client certificates: TLS has verified them already, here is what they say.

use super::{CREDENTIAL_ID, Identity};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::time::{SystemTime, UNIX_EPOCH};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// What the certificate of a TLS connection says. TLS asked once whether it holds, and connections last for weeks: so every
/// request asks again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    who: Who,
    /// Seconds since 1970.
    holds: RangeInclusive<i64>,
}

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Who {
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
        let validity = certificate.validity();
        let holds = validity.not_before.timestamp()..=validity.not_after.timestamp();
        let who = if certificate.verify_signature(Some(ca.public_key())).is_ok() {
            let name = certificate.subject().iter_common_name().next()?.as_str().ok()?;
            (name == super::front_proxy::CLIENT).then_some(Who::FrontProxy)?
        } else {
            Who::Client(Identity::of_certificate(der)?)
        };
        Some(Peer { who, holds })
    }

    /// Who it is, as long as the certificate holds.
    pub(crate) fn at(&self, now: SystemTime) -> Option<&Who> {
        let seconds = now.duration_since(UNIX_EPOCH).ok()?.as_secs();
        self.holds.contains(&i64::try_from(seconds).ok()?).then_some(&self.who)
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_certificate_is_good_for_its_time_only() {
        let who = Who::Client(Identity::authenticated("jane", &[]));
        let peer = Peer {
            who: who.clone(),
            holds: 100..=200,
        };
        let at = |seconds| peer.at(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(99), None);
        assert_eq!(at(100), Some(&who));
        assert_eq!(at(200), Some(&who));
        assert_eq!(at(201), None);
    }
}
