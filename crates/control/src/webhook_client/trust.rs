//! Whom a webhook's certificate has to come from, and what to say when it does not.

use super::Place;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::error::Error as StdError;
use std::sync::Arc;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// TLS as a client that trusts a bundle of PEM certificates, or this machine's roots if there is none.
pub(crate) fn client_config(bundle: &[u8], http2: bool) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    let mut pinned = Vec::new();
    if bundle.iter().all(u8::is_ascii_whitespace) {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    } else {
        for certificate in CertificateDer::pem_slice_iter(bundle) {
            let certificate = certificate.map_err(|_| BAD_BUNDLE.to_owned())?;
            roots.add(certificate.clone()).map_err(|_| BAD_BUNDLE.to_owned())?;
            pinned.push(certificate.into_owned());
        }
        if pinned.is_empty() {
            return Err(BAD_BUNDLE.to_owned());
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let mut config = if roots.is_empty() {
        // No roots at all: every certificate is one of an unknown authority.
        builder.with_root_certificates(roots).with_no_client_auth()
    } else {
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| error.to_string())?;
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(BundleVerifier { inner, pinned }))
            .with_no_client_auth()
    };
    config.alpn_protocols = if http2 {
        vec![b"h2".to_vec(), b"http/1.1".to_vec()]
    } else {
        vec![b"http/1.1".to_vec()]
    };
    Ok(config)
}

const BAD_BUNDLE: &str = "unable to load root certificates: unable to parse bytes as PEM block";

/// As the web does it, but a certificate that stands in the bundle itself may also be that of the server even if it says it is
/// an authority: that is how `openssl req -x509` makes them and how Kubernetes users configure webhooks.
#[derive(Debug)]
struct BundleVerifier {
    inner: Arc<WebPkiServerVerifier>,
    pinned: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for BundleVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let result = self
            .inner
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        let Err(error) = result else { return result };
        let excusable = matches!(
            error,
            TlsError::InvalidCertificate(CertificateError::Other(_) | CertificateError::UnknownIssuer)
        );
        if !excusable || !self.pinned.iter().any(|own| own.as_ref() == end_entity.as_ref()) {
            return Err(error);
        }
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        let (_, parsed) = X509Certificate::from_der(end_entity)
            .map_err(|_| TlsError::InvalidCertificate(CertificateError::BadEncoding))?;
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if seconds > parsed.validity().not_after.timestamp() {
            return Err(TlsError::InvalidCertificate(CertificateError::Expired));
        }
        if seconds < parsed.validity().not_before.timestamp() {
            return Err(TlsError::InvalidCertificate(CertificateError::NotValidYet));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// The innermost cause of a failed exchange, in the words users know.
pub(crate) fn detail(error: &(dyn StdError + 'static)) -> String {
    let mut innermost = error;
    loop {
        if let Some(tls) = tls_error(innermost) {
            return tls_detail(tls);
        }
        match innermost.source() {
            Some(source) => innermost = source,
            // An I/O error hides what it was made of from `source`.
            None => match innermost
                .downcast_ref::<std::io::Error>()
                .and_then(std::io::Error::get_ref)
            {
                Some(inner) => innermost = inner,
                None => break,
            },
        }
    }
    if let Some(io) = innermost.downcast_ref::<std::io::Error>() {
        return match io.kind() {
            std::io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
            std::io::ErrorKind::ConnectionReset => "read: connection reset by peer".to_owned(),
            kind => connect_failed(kind).map_or_else(|| io.to_string(), str::to_owned),
        };
    }
    if let Some(hyper) = innermost.downcast_ref::<hyper::Error>()
        && (hyper.is_incomplete_message() || hyper.is_closed())
    {
        return "EOF".to_owned();
    }
    innermost.to_string()
}

fn tls_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a TlsError> {
    error.downcast_ref::<TlsError>().or_else(|| {
        error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
            .and_then(|inner| inner.downcast_ref::<TlsError>())
    })
}

fn tls_detail(error: &TlsError) -> String {
    const FAILED: &str = "tls: failed to verify certificate: x509:";
    match error {
        // A bad signature: an authority of the same name as one in the bundle, but not that one.
        TlsError::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            format!("{FAILED} certificate signed by unknown authority")
        }
        TlsError::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => format!("{FAILED} certificate has expired or is not yet valid"),
        TlsError::InvalidCertificate(CertificateError::NotValidForNameContext { expected, presented }) => {
            let expected = expected.to_str();
            let names: Vec<&str> = presented
                .iter()
                .map(|name| {
                    name.strip_prefix("DnsName(\"")
                        .and_then(|name| name.strip_suffix("\")"))
                        .unwrap_or(name)
                })
                .collect();
            if names.is_empty() {
                format!("{FAILED} certificate is not valid for any names, but wanted to match {expected}")
            } else {
                format!("{FAILED} certificate is valid for {}, not {expected}", names.join(", "))
            }
        }
        TlsError::InvalidMessage(_) => "tls: first record does not look like a TLS handshake".to_owned(),
        TlsError::AlertReceived(alert) => format!("remote error: tls: {alert:?}"),
        TlsError::InvalidCertificate(other) => format!("{FAILED} {other}"),
        other => other.to_string(),
    }
}

/// What the system says of a connection that was not made.
fn connect_failed(kind: std::io::ErrorKind) -> Option<&'static str> {
    use std::io::ErrorKind;
    Some(match kind {
        ErrorKind::ConnectionRefused => "connect: connection refused",
        ErrorKind::HostUnreachable => "connect: no route to host",
        ErrorKind::NetworkUnreachable => "connect: network is unreachable",
        ErrorKind::TimedOut => "connect: connection timed out",
        _ => return None,
    })
}

/// Why no connection was had.
pub(crate) fn dial_failed(place: &Place, error: &std::io::Error) -> String {
    match connect_failed(error.kind()) {
        Some(why) => format!("dial tcp {place}: {why}"),
        None if error.raw_os_error().is_none() => format!("dial tcp: lookup {}: no such host", place.host),
        None => format!("dial tcp {place}: {error}"),
    }
}
