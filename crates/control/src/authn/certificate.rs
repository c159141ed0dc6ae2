//! Client certificates: TLS has verified them already, here is what they say.

use super::{CREDENTIAL_ID, Identity};
use catamaran_kinds::signing::{self, Subject};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::time::{SystemTime, UNIX_EPOCH};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::x509::X509Name;

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
            let subject = Subject::read(certificate.subject()).ok()?;
            (subject.user() == super::front_proxy::CLIENT).then_some(Who::FrontProxy)?
        } else {
            Who::Client(Identity::of_certificate(der)?)
        };
        Some(Peer { who, holds })
    }

    #[cfg(test)]
    pub(crate) fn of_test(identity: Identity, holds: RangeInclusive<i64>) -> Peer {
        let who = Who::Client(identity);
        Peer { who, holds }
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
        let subject = Subject::read(certificate.subject()).ok()?;
        if subject.user().is_empty() {
            return None;
        }
        let groups: Vec<&str> = subject.organizations.iter().map(String::as_str).collect();
        let mut identity = Identity::authenticated(subject.user(), &groups);
        identity.uid = uid(certificate.subject())?;
        let mut id = "X509SHA256=".to_owned();
        for byte in Sha256::digest(der) {
            let _ = write!(id, "{byte:02x}");
        }
        identity.extra.insert(CREDENTIAL_ID.to_owned(), vec![id]);
        Some(identity)
    }
}

/// The uid that the subject says, empty if it says none. `None` if it is not one text.
fn uid(subject: &X509Name<'_>) -> Option<String> {
    let attributes = subject.iter_attributes();
    let mut uids = attributes.filter(|attribute| attribute.attr_type().to_id_string() == UID_OID);
    let Some(first) = uids.next() else {
        return Some(String::new());
    };
    let uid = signing::text(first).ok().filter(|uid| !uid.is_empty())?;
    uids.next().is_none().then_some(uid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair};
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

    /// A certificate for a subject of these attributes.
    fn certificate(attributes: Vec<(DnType, DnValue)>) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in attributes {
            params.distinguished_name.push(kind, value);
        }
        params
            .self_signed(&KeyPair::generate().unwrap())
            .unwrap()
            .der()
            .to_vec()
    }

    /// The table of rcgen has every type once.
    fn another_common_name() -> DnType {
        DnType::CustomDnType(vec![2, 5, 4, 3])
    }

    #[test]
    fn the_last_common_name_is_the_user() {
        let of = |attributes| Identity::of_certificate(&certificate(attributes));
        let twice = of(vec![
            (DnType::CommonName, "system:node:n1".into()),
            (another_common_name(), "ann".into()),
        ]);
        assert_eq!(twice.map(|identity| identity.user).as_deref(), Some("ann"));
        let wide = DnValue::BmpString("team".try_into().unwrap());
        let read = of(vec![
            (DnType::CommonName, "ann".into()),
            (DnType::OrganizationName, wide),
        ]);
        assert_eq!(read.unwrap().groups, ["team", super::super::AUTHENTICATED]);
        let foreign = DnValue::UniversalString("team".try_into().unwrap());
        let nobody = of(vec![
            (DnType::CommonName, "ann".into()),
            (DnType::OrganizationName, foreign),
        ]);
        assert_eq!(nobody, None, "who cannot read all of it does not know who it is");
    }

    #[test]
    fn a_uid_is_one_text() {
        let uid = || DnType::CustomDnType(vec![1, 3, 6, 1, 4, 1, 57683, 2]);
        let of = |value: &str| {
            let attributes = vec![(DnType::CommonName, "ann".into()), (uid(), value.into())];
            Identity::of_certificate(&certificate(attributes))
        };
        assert_eq!(of("7").map(|identity| identity.uid).as_deref(), Some("7"));
        assert_eq!(of(""), None);
    }
}
