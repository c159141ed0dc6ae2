//! Reads what people send as PEM: a signing request, or a chain of certificates.

use super::request;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What is wrong with a PKCS#10 request in PEM form, if anything is.
pub(super) fn check_request(pem: &[u8]) -> Result<(), String> {
    let der = request::decode(pem)?;
    let request = request::parse(&der)?;
    request.verify_signature().map_err(|error| format!("x509: {error}"))
}

/// What is wrong with certificates in PEM form. None at all is fine.
pub(super) fn check_certificates(pem: &[u8]) -> Result<(), String> {
    if pem.is_empty() {
        return Ok(());
    }
    let mut found = false;
    for block in blocks(pem).map_while(Result::ok) {
        if block.label != "CERTIFICATE" {
            let label = catamaran_api::field::quote(&block.label);
            return Err(format!("only CERTIFICATE PEM blocks are allowed, found {label}"));
        }
        X509Certificate::from_der(&block.contents).map_err(|error| format!("x509: {error}"))?;
        found = true;
    }
    if found {
        Ok(())
    } else {
        Err("must contain at least one CERTIFICATE PEM block".to_owned())
    }
}

fn blocks(pem: &[u8]) -> impl Iterator<Item = Result<Pem, x509_parser::error::PEMError>> {
    Pem::iter_from_buffer(pem)
}
