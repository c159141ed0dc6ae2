//! The cluster's certificates.
//!
//! One CA per data directory, made at first start and kept; everything else is signed by it and made anew when it is
//! missing, nearing its end, signed by another CA, or lacking a name it should have.
//!
//! ```text
//!   pki/ca.{crt,key}                 the CA
//!   pki/apiserver.{crt,key}          what the API server shows its clients
//!   pki/apiserver-kubelet.{crt,key}  what the API server shows nodes
//!   pki/admin.{crt,key}              what the admin kubeconfig shows the API server
//!   pki/node-<name>.{crt,key}        what a node's agent shows the API server
//!   pki/kubelet-<name>.{crt,key}     what a node's own server shows the API server
//!   pki/front-proxy-ca.{crt,key}     another CA, whose certificates let their bearer speak for others
//!   pki/front-proxy-client.{crt,key} what the API server shows those it passes requests on to
//!   pki/sa.key                       signs the tokens of service accounts
//! ```

mod der;
pub(crate) mod issue;

use crate::authn::front_proxy;
use crate::authn::jwt::{Key, KeyError};
use crate::files::{self, FileError, reading, writing};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const CA_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
const LIFE: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Certificates with less than this left are made anew at start.
const RENEW_BEFORE: Duration = Duration::from_secs(60 * 24 * 60 * 60);
/// Clocks of other machines may be this far behind.
const SKEW: Duration = Duration::from_secs(60 * 60);

/// Why certificates could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{} is no certificate or key; move it away to have a new one made", path.display())]
    Damaged { path: PathBuf },
    #[error("cannot make the certificate of {subject}")]
    Make {
        subject: String,
        #[source]
        source: rcgen::Error,
    },
    #[error("{name:?} can be no name in a certificate")]
    Name { name: String },
    #[error("cannot have the key of tokens")]
    TokenKey(#[from] KeyError),
}

/// A certificate and its key, PEM.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) cert_pem: String,
    pub(crate) key_pem: String,
}

/// What a node needs to join: who it is, what its own server shows, and whom to trust.
#[derive(Clone)]
pub struct NodeCredentials {
    /// `CN=system:node:<name>, O=system:nodes`, for the API.
    pub client_cert_pem: String,
    pub client_key_pem: String,
    /// For the node's own server; valid for the node's name and its addresses.
    pub serving_cert_pem: String,
    pub serving_key_pem: String,
    pub ca_pem: String,
}

impl std::fmt::Debug for NodeCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NodeCredentials")
    }
}

/// The CA and the directory of everything it signed.
pub(crate) struct Pki {
    dir: PathBuf,
    ca: Authority,
    front_proxy: Authority,
}

/// A CA.
struct Authority {
    pair: Pair,
    issuer: Issuer<'static, KeyPair>,
}

/// The certificates of a server, and its key for tokens.
pub(crate) struct Own {
    pub(crate) server: Pair,
    pub(crate) kubelet_client: Pair,
    pub(crate) front_proxy_client: Pair,
    pub(crate) admin: Pair,
    pub(crate) token_key: Key,
}

/// Who a certificate is for, and for what.
struct Wanted<'a> {
    file: String,
    common_name: String,
    organization: Option<&'a str>,
    server: bool,
    names: Vec<String>,
    addresses: Vec<IpAddr>,
}

impl Pki {
    /// Opens the CA below a data directory, or makes one.
    pub(crate) fn open(data_dir: &Path) -> Result<Pki, Error> {
        let dir = data_dir.join("pki");
        files::create_private_dir(&dir).map_err(writing(&dir))?;
        let (ca, front_proxy) = std::thread::scope(|scope| {
            let front_proxy = scope.spawn(|| Authority::open(&dir, "front-proxy-ca", "catamaran-front-proxy-ca"));
            (Authority::open(&dir, "ca", "catamaran-ca"), joined(front_proxy))
        });
        let (ca, front_proxy) = (ca?, front_proxy?);
        Ok(Pki { dir, ca, front_proxy })
    }

    /// What a server needs from the start. Each is made on a thread of its own: a new one waits for the disk four times.
    pub(crate) fn own(&self, advertise: &[String]) -> Result<Own, Error> {
        std::thread::scope(|scope| {
            let server = scope.spawn(|| self.server(advertise));
            let kubelet_client = scope.spawn(|| self.kubelet_client());
            let front_proxy_client = scope.spawn(|| self.front_proxy_client());
            let admin = scope.spawn(|| self.admin());
            let token_key = self.token_key();
            Ok(Own {
                server: joined(server)?,
                kubelet_client: joined(kubelet_client)?,
                front_proxy_client: joined(front_proxy_client)?,
                admin: joined(admin)?,
                token_key: token_key?,
            })
        })
    }

    pub(crate) fn ca_pem(&self) -> &str {
        &self.ca.pair.cert_pem
    }

    /// The CA of those who may speak for others.
    pub(crate) fn front_proxy_ca_pem(&self) -> &str {
        &self.front_proxy.pair.cert_pem
    }

    /// What we show those we pass requests on to.
    fn front_proxy_client(&self) -> Result<Pair, Error> {
        self.pair(
            &self.front_proxy,
            &Wanted {
                file: "front-proxy-client".to_owned(),
                common_name: front_proxy::CLIENT.to_owned(),
                organization: None,
                server: false,
                names: Vec::new(),
                addresses: Vec::new(),
            },
        )
    }

    /// Signs the tokens of service accounts.
    fn token_key(&self) -> Result<Key, Error> {
        Ok(Key::open(&self.dir.join("sa.key"))?)
    }

    /// The API server's own certificate: for this machine's names, and for those given (names or addresses).
    pub(crate) fn server(&self, advertise: &[String]) -> Result<Pair, Error> {
        let mut names: Vec<String> = [
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        ]
        .map(ToOwned::to_owned)
        .to_vec();
        let host = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
        if is_dns_name(&host) {
            names.push(host);
        }
        let mut addresses = vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        for extra in advertise {
            match extra.parse() {
                Ok(address) => addresses.push(address),
                Err(_) if is_dns_name(extra) => names.push(extra.clone()),
                Err(_) => return Err(Error::Name { name: extra.clone() }),
            }
        }
        self.pair(
            &self.ca,
            &Wanted {
                file: "apiserver".to_owned(),
                common_name: "kube-apiserver".to_owned(),
                organization: None,
                server: true,
                names,
                addresses,
            },
        )
    }

    /// What the API server shows nodes.
    fn kubelet_client(&self) -> Result<Pair, Error> {
        // No group of this server's: what a node's address leads to may be this server itself, and then it is nobody there.
        self.client("apiserver-kubelet", "catamaran-apiserver", "catamaran.dev:node-clients")
    }

    /// Who may do everything.
    fn admin(&self) -> Result<Pair, Error> {
        self.client("admin", "system:admin", "system:masters")
    }

    /// Both certificates of a node whose server listens on these addresses.
    pub(crate) fn node(&self, name: &str, addresses: &[IpAddr]) -> Result<NodeCredentials, Error> {
        if !catamaran_api::names::dns1123_subdomain(name).is_empty() {
            return Err(Error::Name { name: name.to_owned() });
        }
        let user = format!("system:node:{name}");
        let client = self.client(&format!("node-{name}"), &user, "system:nodes")?;
        let serving = self.pair(
            &self.ca,
            &Wanted {
                file: format!("kubelet-{name}"),
                common_name: user,
                organization: Some("system:nodes"),
                server: true,
                names: vec![name.to_owned()],
                addresses: addresses.to_vec(),
            },
        )?;
        Ok(NodeCredentials {
            client_cert_pem: client.cert_pem,
            client_key_pem: client.key_pem,
            serving_cert_pem: serving.cert_pem,
            serving_key_pem: serving.key_pem,
            ca_pem: self.ca.pair.cert_pem.clone(),
        })
    }

    /// The CA as one that signs what others ask for.
    pub(crate) fn issuer(&self) -> Result<issue::Issuer, Error> {
        let damaged = |extension: &str| Error::Damaged {
            path: self.dir.join(format!("ca.{extension}")),
        };
        let certificate = der(&self.ca.pair.cert_pem).map_err(|_| damaged("crt"))?;
        let key = KeyPair::from_pem(&self.ca.pair.key_pem).map_err(|_| damaged("key"))?;
        Ok(issue::Issuer::new(certificate, key))
    }

    fn client(&self, file: &str, common_name: &str, organization: &str) -> Result<Pair, Error> {
        self.pair(
            &self.ca,
            &Wanted {
                file: file.to_owned(),
                common_name: common_name.to_owned(),
                organization: Some(organization),
                server: false,
                names: Vec::new(),
                addresses: Vec::new(),
            },
        )
    }

    /// The pair on disk if it will do, else a new one.
    fn pair(&self, ca: &Authority, wanted: &Wanted<'_>) -> Result<Pair, Error> {
        if let Some(pair) = read_pair(&self.dir, &wanted.file)?
            && ca.will_do(&pair, wanted)
        {
            return Ok(pair);
        }
        let pair = ca.sign(wanted).map_err(|source| Error::Make {
            subject: wanted.common_name.clone(),
            source,
        })?;
        write_pair(&self.dir, &wanted.file, &pair)?;
        Ok(pair)
    }
}

impl Authority {
    fn open(dir: &Path, file: &str, common_name: &str) -> Result<Self, Error> {
        let pair = match read_pair(dir, file)? {
            Some(pair) => pair,
            None => {
                let pair = make_ca(common_name)?;
                write_pair(dir, file, &pair)?;
                pair
            }
        };
        let damaged = |extension: &str| Error::Damaged {
            path: dir.join(format!("{file}.{extension}")),
        };
        let key = KeyPair::from_pem(&pair.key_pem).map_err(|_| damaged("key"))?;
        let issuer = Issuer::from_ca_cert_pem(&pair.cert_pem, key).map_err(|_| damaged("crt"))?;
        Ok(Authority { pair, issuer })
    }

    /// A damaged pair, one of another CA or one about to end will not do.
    fn will_do(&self, pair: &Pair, wanted: &Wanted<'_>) -> bool {
        let (Ok(ca), Ok(own)) = (der(&self.pair.cert_pem), der(&pair.cert_pem)) else {
            return false;
        };
        let (Ok((_, ca)), Ok((_, own))) = (X509Certificate::from_der(&ca), X509Certificate::from_der(&own)) else {
            return false;
        };
        let signed = own.verify_signature(Some(ca.public_key())).is_ok();
        let renewal =
            jiff::Timestamp::try_from(SystemTime::now() + RENEW_BEFORE).map_or(i64::MAX, jiff::Timestamp::as_second);
        let fresh = own.validity().not_after.timestamp() > renewal;
        let common_name = own
            .subject()
            .iter_common_name()
            .next()
            .and_then(|name| name.as_str().ok());
        let organization = own
            .subject()
            .iter_organization()
            .next()
            .and_then(|name| name.as_str().ok());
        let same_subject = common_name == Some(&wanted.common_name) && organization == wanted.organization;
        let same_key = KeyPair::from_pem(&pair.key_pem)
            .is_ok_and(|key| own.public_key().subject_public_key.data.as_ref() == key.public_key_raw());
        signed && fresh && same_key && same_subject && has_names(&own, wanted)
    }

    fn sign(&self, wanted: &Wanted<'_>) -> Result<Pair, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(&wanted.common_name, wanted.organization);
        params.not_before = (SystemTime::now() - SKEW).into();
        params.not_after = (SystemTime::now() + LIFE).into();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.use_authority_key_identifier_extension = true;
        params.extended_key_usages = vec![if wanted.server {
            ExtendedKeyUsagePurpose::ServerAuth
        } else {
            ExtendedKeyUsagePurpose::ClientAuth
        }];
        for name in &wanted.names {
            params
                .subject_alt_names
                .push(SanType::DnsName(name.as_str().try_into()?));
        }
        params
            .subject_alt_names
            .extend(wanted.addresses.iter().copied().map(SanType::IpAddress));
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Pair {
            cert_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        })
    }
}

pub(crate) fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn make_ca(common_name: &str) -> Result<Pair, Error> {
    let make = || {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(common_name, None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
        ];
        params.not_before = (SystemTime::now() - DAY).into();
        params.not_after = (SystemTime::now() + CA_LIFE).into();
        let certificate = params.self_signed(&key)?;
        Ok(Pair {
            cert_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        })
    };
    make().map_err(|source| Error::Make {
        subject: common_name.to_owned(),
        source,
    })
}

fn subject(common_name: &str, organization: Option<&str>) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    if let Some(organization) = organization {
        subject.push(DnType::OrganizationName, organization);
    }
    subject.push(DnType::CommonName, common_name);
    subject
}

fn has_names(certificate: &X509Certificate<'_>, wanted: &Wanted<'_>) -> bool {
    let names = match certificate.subject_alternative_name() {
        Ok(Some(extension)) => extension.value.general_names.as_slice(),
        _ => &[],
    };
    let has_name = |name: &String| {
        names
            .iter()
            .any(|own| matches!(own, GeneralName::DNSName(own) if own == name))
    };
    let has_address = |address: &IpAddr| {
        let octets = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        names
            .iter()
            .any(|own| matches!(own, GeneralName::IPAddress(own) if *own == octets))
    };
    wanted.names.iter().all(has_name) && wanted.addresses.iter().all(has_address)
}

fn is_dns_name(name: &str) -> bool {
    catamaran_api::names::dns1123_subdomain(name.strip_prefix("*.").unwrap_or(name)).is_empty()
}

fn read_pair(dir: &Path, file: &str) -> Result<Option<Pair>, Error> {
    let read = |extension: &str| {
        let path = dir.join(format!("{file}.{extension}"));
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(reading(path)(error)),
        }
    };
    Ok(read("crt")?
        .zip(read("key")?)
        .map(|(cert_pem, key_pem)| Pair { cert_pem, key_pem }))
}

/// The key first: a certificate without its key would be useless, a key without its certificate is only made anew.
fn write_pair(dir: &Path, file: &str, pair: &Pair) -> Result<(), Error> {
    for (extension, text) in [("key", &pair.key_pem), ("crt", &pair.cert_pem)] {
        let path = dir.join(format!("{file}.{extension}"));
        files::write_private(&path, text.as_bytes()).map_err(writing(path))?;
    }
    Ok(())
}

/// The first certificate of a PEM text.
pub(crate) fn der(pem: &str) -> Result<CertificateDer<'static>, rustls_pki_types::pem::Error> {
    CertificateDer::from_pem_slice(pem.as_bytes())
}

/// The private key of a PEM text.
pub(crate) fn key_der(pem: &str) -> Result<PrivateKeyDer<'static>, rustls_pki_types::pem::Error> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_survive_a_restart_until_they_will_not_do() {
        let dir = tempfile::tempdir().unwrap();
        let first = Pki::open(dir.path()).unwrap();
        let server = first.server(&["10.1.2.3".to_owned()]).unwrap();
        let again = Pki::open(dir.path()).unwrap();
        assert_eq!(again.ca_pem(), first.ca_pem());
        assert_eq!(
            again.server(&["10.1.2.3".to_owned()]).unwrap().cert_pem,
            server.cert_pem
        );
        assert_ne!(
            again.server(&["example.org".to_owned()]).unwrap().cert_pem,
            server.cert_pem,
            "a name is new"
        );
        std::fs::write(dir.path().join("pki/admin.crt"), "damaged").unwrap();
        std::fs::write(dir.path().join("pki/admin.key"), "damaged").unwrap();
        assert!(again.admin().unwrap().cert_pem.contains("BEGIN CERTIFICATE"));
    }

    #[test]
    fn keys_are_nobody_elses_business() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        Pki::open(dir.path())
            .unwrap()
            .node("n1", &[IpAddr::V4(Ipv4Addr::LOCALHOST)])
            .unwrap();
        for entry in std::fs::read_dir(dir.path().join("pki")).unwrap() {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{:?}", entry.path());
        }
    }

    #[test]
    fn a_certificate_says_who_it_is_for() {
        let dir = tempfile::tempdir().unwrap();
        let node = Pki::open(dir.path()).unwrap().node("n1", &[]).unwrap();
        let identity = crate::authn::Identity::of_certificate(&der(&node.client_cert_pem).unwrap()).unwrap();
        assert_eq!(identity.user, "system:node:n1");
        assert_eq!(identity.groups, ["system:nodes", "system:authenticated"]);
    }
}
