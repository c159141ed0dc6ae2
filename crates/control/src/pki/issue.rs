//! Certificates for those who ask for one with a signing request. The subject goes into the certificate byte for byte as it
//! was approved: a user may be in several groups, and rcgen keeps one organisation per name. So the certificate is written here.

use super::der::{bit_string, boolean, context, integer, octet_string, oid, sequence, time};
use base64::Engine as _;
use catamaran_kinds::signing::{self, Subject};
use jiff::{SignedDuration, Timestamp};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256, SigningKey as _};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls_pki_types::CertificateDer;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Clocks of other machines may be this far behind. Shorter than any certificate.
const BACKDATE: SignedDuration = SignedDuration::from_mins(5);
/// Certificates with less are valid to the end of what was asked for, not of what is left of it after back-dating.
const SHORT: SignedDuration = SignedDuration::from_hours(8);

/// Names of usages, and their bits in the extension keyUsage.
const KEY_USAGES: [(&str, u8); 10] = [
    ("signing", 0),
    ("digital signature", 0),
    ("content commitment", 1),
    ("key encipherment", 2),
    ("data encipherment", 3),
    ("key agreement", 4),
    ("cert sign", 5),
    ("crl sign", 6),
    ("encipher only", 7),
    ("decipher only", 8),
];
/// Names of usages, and what they are in the extension extKeyUsage, in the order they stand there.
const EXTENDED_KEY_USAGES: [(&str, &[u64]); 13] = [
    ("any", &[2, 5, 29, 37, 0]),
    ("server auth", &[1, 3, 6, 1, 5, 5, 7, 3, 1]),
    ("client auth", &[1, 3, 6, 1, 5, 5, 7, 3, 2]),
    ("code signing", &[1, 3, 6, 1, 5, 5, 7, 3, 3]),
    ("email protection", &[1, 3, 6, 1, 5, 5, 7, 3, 4]),
    ("s/mime", &[1, 3, 6, 1, 5, 5, 7, 3, 4]),
    ("ipsec end system", &[1, 3, 6, 1, 5, 5, 7, 3, 5]),
    ("ipsec tunnel", &[1, 3, 6, 1, 5, 5, 7, 3, 6]),
    ("ipsec user", &[1, 3, 6, 1, 5, 5, 7, 3, 7]),
    ("timestamping", &[1, 3, 6, 1, 5, 5, 7, 3, 8]),
    ("ocsp signing", &[1, 3, 6, 1, 5, 5, 7, 3, 9]),
    ("microsoft sgc", &[1, 3, 6, 1, 4, 1, 311, 10, 3, 3]),
    ("netscape sgc", &[2, 16, 840, 1, 113_730, 4, 1]),
];
const KEY_USAGE: &[u64] = &[2, 5, 29, 15];
const ALTERNATIVE_NAMES: &[u64] = &[2, 5, 29, 17];
const BASIC_CONSTRAINTS: &[u64] = &[2, 5, 29, 19];
const AUTHORITY_KEY: &[u64] = &[2, 5, 29, 35];
const EXTENDED_KEY_USAGE: &[u64] = &[2, 5, 29, 37];

/// Why a certificate could not be issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    #[error("unable to parse certificate request: {why}")]
    Request { why: String },
    #[error("unable to verify certificate request signature")]
    Signature,
    #[error("unrecognized usage values: {0:?}")]
    Usages(Vec<String>),
    #[error("the certificate of the authority cannot be read")]
    Authority,
    #[error("the authority's certificate ends at {until}")]
    Expired { until: Timestamp },
    #[error("there is no random number to be had")]
    Random,
    #[error("the authority cannot sign")]
    Sign(#[from] rcgen::Error),
}

/// A CA that signs requests.
pub(crate) struct Issuer {
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

impl Issuer {
    pub(super) fn new(certificate: CertificateDer<'static>, key: KeyPair) -> Self {
        Issuer { certificate, key }
    }

    /// A certificate, PEM, for a request, DER, that was approved: for these usages, valid for `lifetime` and no longer than the
    /// CA's own. DER, as that is what was judged: nothing is left to be read in another way here.
    pub(crate) fn issue(
        &self,
        der: &[u8],
        usages: &[String],
        lifetime: SignedDuration,
        now: Timestamp,
    ) -> Result<String, IssueError> {
        let refused = |why| IssueError::Request { why };
        let request = signing::parse(der).map_err(refused)?;
        let subject = Subject::read(&request.certification_request_info.subject).map_err(refused)?;
        subject.check_unambiguous().map_err(refused)?;
        request.verify_signature().map_err(|_| IssueError::Signature)?;
        let (_, authority) = X509Certificate::from_der(&self.certificate).map_err(|_| IssueError::Authority)?;
        let until =
            Timestamp::from_second(authority.validity().not_after.timestamp()).map_err(|_| IssueError::Authority)?;
        let (from, to) = validity(lifetime, until, now)?;
        let info = &request.certification_request_info;
        let algorithm = self.algorithm();
        let body = sequence(&[
            context(0, &integer(&[2])),
            integer(&serial()?),
            algorithm.clone(),
            authority.subject().as_raw().to_vec(),
            sequence(&[time(from), time(to)]),
            info.subject.as_raw().to_vec(),
            info.subject_pki.raw.to_vec(),
            context(3, &sequence(&extensions(&request, usages, &authority)?)),
        ]);
        let signature = self.key.sign(&body)?;
        let certificate = sequence(&[body, algorithm, bit_string(0, &signature)]);
        Ok(pem(&certificate))
    }

    /// How the CA's key signs.
    fn algorithm(&self) -> Vec<u8> {
        let own = self.key.algorithm();
        let null = vec![5, 0];
        if *own == PKCS_RSA_SHA256 {
            sequence(&[oid(&[1, 2, 840, 113_549, 1, 1, 11]), null])
        } else if *own == PKCS_ECDSA_P384_SHA384 {
            sequence(&[oid(&[1, 2, 840, 10_045, 4, 3, 3])])
        } else if *own == PKCS_ED25519 {
            sequence(&[oid(&[1, 3, 101, 112])])
        } else {
            debug_assert!(*own == PKCS_ECDSA_P256_SHA256, "the only other one ring reads");
            sequence(&[oid(&[1, 2, 840, 10_045, 4, 3, 2])])
        }
    }
}

/// From when to when.
fn validity(lifetime: SignedDuration, until: Timestamp, now: Timestamp) -> Result<(Timestamp, Timestamp), IssueError> {
    if now >= until {
        return Err(IssueError::Expired { until });
    }
    let left = if lifetime < SHORT {
        lifetime
    } else {
        lifetime - BACKDATE
    };
    let wanted = now.checked_add(left).unwrap_or(until);
    Ok((now.checked_sub(BACKDATE).unwrap_or(now), wanted.min(until)))
}

/// A positive number that no other certificate has.
fn serial() -> Result<[u8; 16], IssueError> {
    let mut serial = [0; 16];
    SystemRandom::new().fill(&mut serial).map_err(|_| IssueError::Random)?;
    Ok(serial)
}

fn extension(kind: &[u64], critical: bool, value: &[u8]) -> Vec<u8> {
    let mut parts = vec![oid(kind)];
    if critical {
        parts.push(boolean(true));
    }
    parts.push(octet_string(value));
    sequence(&parts)
}

fn extensions(
    request: &X509CertificationRequest<'_>,
    usages: &[String],
    authority: &X509Certificate<'_>,
) -> Result<Vec<Vec<u8>>, IssueError> {
    let (bits, extended) = known_usages(usages)?;
    let mut extensions = Vec::new();
    if bits != 0 {
        let [first, second] = bits.to_be_bytes();
        let bytes = if second == 0 { vec![first] } else { vec![first, second] };
        let unused = bytes.last().map_or(0, |last| last.trailing_zeros());
        let value = bit_string(u8::try_from(unused).unwrap_or_default(), &bytes);
        extensions.push(extension(KEY_USAGE, true, &value));
    }
    if !extended.is_empty() {
        let value = sequence(&extended.into_iter().map(oid).collect::<Vec<_>>());
        extensions.push(extension(EXTENDED_KEY_USAGE, false, &value));
    }
    // It is no authority.
    extensions.push(extension(BASIC_CONSTRAINTS, true, &sequence(&[])));
    let key_of_authority = authority
        .iter_extensions()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(key) => Some(key.0),
            _ => None,
        });
    if let Some(key) = key_of_authority {
        let value = sequence(&[super::der::implicit(0, key)]);
        extensions.push(extension(AUTHORITY_KEY, false, &value));
    }
    let names = alternative_names(request);
    if !names.is_empty() {
        let nameless = request.certification_request_info.subject.iter().next().is_none();
        extensions.push(extension(ALTERNATIVE_NAMES, nameless, &sequence(&names)));
    }
    Ok(extensions)
}

/// The bits of keyUsage, the first of them highest, and the entries of extKeyUsage, each once.
fn known_usages(usages: &[String]) -> Result<(u16, Vec<&'static [u64]>), IssueError> {
    let is_known = |usage: &&String| {
        let names = KEY_USAGES.iter().map(|(name, _)| name);
        let mut names = names.chain(EXTENDED_KEY_USAGES.iter().map(|(name, _)| name));
        names.any(|name| name == usage)
    };
    let unknown: Vec<String> = usages.iter().filter(|usage| !is_known(usage)).cloned().collect();
    if !unknown.is_empty() {
        return Err(IssueError::Usages(unknown));
    }
    let wanted = |name: &str| usages.iter().any(|usage| usage == name);
    let bits = KEY_USAGES
        .iter()
        .filter(|(name, _)| wanted(name))
        .fold(0, |bits, (_, bit)| bits | 0x8000 >> bit);
    let mut extended: Vec<&'static [u64]> = Vec::new();
    for (name, id) in EXTENDED_KEY_USAGES {
        if wanted(name) && !extended.contains(&id) {
            extended.push(id);
        }
    }
    Ok((bits, extended))
}

/// The names that are asked for, as in the certificate: those of hosts, of mailboxes, addresses, URIs.
fn alternative_names(request: &X509CertificationRequest<'_>) -> Vec<Vec<u8>> {
    let mut names: Vec<(u8, Vec<u8>)> = Vec::new();
    for extension in request.requested_extensions().into_iter().flatten() {
        let ParsedExtension::SubjectAlternativeName(asked) = extension else {
            continue;
        };
        names.extend(asked.general_names.iter().filter_map(|name| match name {
            GeneralName::DNSName(host) => Some((2, host.as_bytes().to_vec())),
            GeneralName::RFC822Name(mailbox) => Some((1, mailbox.as_bytes().to_vec())),
            GeneralName::IPAddress(address) => Some((7, address.to_vec())),
            GeneralName::URI(uri) => Some((6, uri.as_bytes().to_vec())),
            _ => None,
        }));
    }
    names.sort_by_key(|(tag, _)| [2, 1, 7, 6].iter().position(|other| other == tag));
    names
        .iter()
        .map(|(tag, name)| super::der::implicit(*tag, name))
        .collect()
}

fn pem(certificate: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for line in text.as_bytes().chunks(64) {
        pem.extend(line.iter().map(|byte| char::from(*byte)));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

#[cfg(test)]
mod tests {
    use super::super::Pki;
    use super::*;
    use rcgen::{CertificateParams, DnType, SanType};

    fn usages(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn issued(lifetime: SignedDuration, asked: &[&str]) -> Result<Vec<u8>, IssueError> {
        let dir = tempfile::tempdir().unwrap();
        let issuer = Pki::open(dir.path()).unwrap().issuer().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "a team");
        params.distinguished_name.push(DnType::CommonName, "ann");
        params.subject_alt_names = vec![
            SanType::IpAddress("10.0.0.1".parse().unwrap()),
            SanType::DnsName("host.example".try_into().unwrap()),
        ];
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let request = params.serialize_request(&key).unwrap();
        let pem = issuer.issue(request.der(), &usages(asked), lifetime, Timestamp::now())?;
        let der = super::super::der(&pem).unwrap().to_vec();
        let (_, certificate) = X509Certificate::from_der(&der).unwrap();
        let (_, authority) = X509Certificate::from_der(&issuer.certificate).unwrap();
        certificate.verify_signature(Some(authority.public_key())).unwrap();
        assert_eq!(certificate.issuer(), authority.subject());
        assert_eq!(certificate.subject().to_string(), "O=a team, CN=ann");
        assert!(!certificate.is_ca(), "however it was asked for");
        assert_eq!(
            certificate.public_key().subject_public_key.data.as_ref(),
            rcgen::PublicKeyData::der_bytes(&key)
        );
        Ok(der)
    }

    #[test]
    fn a_certificate_is_for_what_was_approved() {
        let der = issued(
            SignedDuration::from_hours(24),
            &["client auth", "digital signature", "key encipherment"],
        );
        let der = der.unwrap();
        let (_, certificate) = X509Certificate::from_der(&der).unwrap();
        let usage = certificate.key_usage().unwrap().unwrap();
        assert!(usage.critical && usage.value.digital_signature() && usage.value.key_encipherment());
        assert!(!usage.value.key_cert_sign());
        let extended = certificate.extended_key_usage().unwrap().unwrap();
        assert!(extended.value.client_auth && !extended.value.server_auth);
        let names = certificate.subject_alternative_name().unwrap().unwrap();
        let names: Vec<String> = names.value.general_names.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["DNSName(host.example)", "IPAddress(0a:00:00:01)"]);
        let validity = certificate.validity();
        let seconds = validity.not_after.timestamp() - validity.not_before.timestamp();
        assert_eq!(seconds, 24 * 60 * 60);
    }

    #[test]
    fn short_ones_are_not_cut_and_long_ones_end_with_the_authority() {
        let lasts = |lifetime| {
            let der = issued(lifetime, &["client auth"]).unwrap();
            let (_, certificate) = X509Certificate::from_der(&der).unwrap();
            certificate.validity().not_after.timestamp() - certificate.validity().not_before.timestamp()
        };
        assert_eq!(lasts(SignedDuration::from_mins(10)), 15 * 60);
        let decades = 20 * 365 * 24;
        assert!(lasts(SignedDuration::from_hours(decades)) <= 3650 * 24 * 60 * 60 + 300);
        let now = Timestamp::UNIX_EPOCH;
        let over = validity(SignedDuration::from_hours(1), now, now);
        assert!(matches!(over, Err(IssueError::Expired { .. })));
    }

    #[test]
    fn a_usage_that_nobody_knows_is_refused() {
        let refused = issued(SignedDuration::from_hours(1), &["client auth", "flying"]).unwrap_err();
        assert_eq!(refused.to_string(), r#"unrecognized usage values: ["flying"]"#);
    }

    /// Whoever approved it may have missed it.
    #[test]
    fn a_request_in_doubt_is_not_signed() {
        let dir = tempfile::tempdir().unwrap();
        let issuer = Pki::open(dir.path()).unwrap().issuer().unwrap();
        let sign = |der: &[u8]| {
            let lifetime = SignedDuration::from_hours(1);
            let signed = issuer.issue(der, &usages(&["client auth"]), lifetime, Timestamp::now());
            signed.map(drop).map_err(|error| error.to_string())
        };
        let request = |kind: DnType, value: rcgen::DnValue| {
            let mut params = CertificateParams::default();
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, "ann");
            params.distinguished_name.push(kind, value);
            let request = params.serialize_request(&KeyPair::generate().unwrap()).unwrap();
            request.der().to_vec()
        };
        let mut plain = request(DnType::OrganizationName, "team".into());
        assert_eq!(sign(&plain), Ok(()));
        plain.push(0);
        let refused = |why: &str| Err(format!("unable to parse certificate request: {why}"));
        assert_eq!(sign(&plain), refused("asn1: syntax error: trailing data"));
        // The table of rcgen has every type once.
        let twice = request(DnType::CustomDnType(vec![2, 5, 4, 3]), "admin".into());
        assert_eq!(sign(&twice), refused("subject must not have more than one common name"));
        let foreign = rcgen::DnValue::UniversalString("system:masters".try_into().unwrap());
        let foreign = request(DnType::OrganizationName, foreign);
        assert_eq!(
            sign(&foreign),
            refused("x509: the attribute 2.5.4.10 of the subject is no text")
        );
    }
}
