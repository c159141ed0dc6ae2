//! A request for a certificate, read in one way by all who have to do with it: validation, admission, whoever approves, and the
//! signer. Readers that differ in what they take for the request would judge one and sign another.
//!
//! The rules are those of Go's `encoding/pem` and `crypto/x509`, which Kubernetes reads with, except that a text in which readers
//! of other kinds could find another request than the first is refused.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use x509_parser::asn1_rs::Tag;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

const KIND: &str = "CERTIFICATE REQUEST";
const WANTED: &str = "PEM block type must be CERTIFICATE REQUEST";
const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// The DER of the one request that a PEM text has. Text around it is fine, as is a header inside.
///
/// # Errors
/// What is wrong with it.
pub fn decode(pem: &[u8]) -> Result<Vec<u8>, String> {
    let lone = |at: usize| pem[at] == b'\r' && pem.get(at + 1) != Some(&b'\n');
    if (0..pem.len()).any(lone) {
        return Err("PEM must not have a carriage return that ends no line".to_owned());
    }
    let begins = pem.windows(BEGIN.len()).filter(|part| *part == BEGIN.as_bytes());
    match begins.count() {
        0 => return Err(WANTED.to_owned()),
        1 => {}
        _ => return Err("must contain exactly one PEM block".to_owned()),
    }
    let mut lines = pem.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
    let kind = lines.find_map(|line| line.strip_prefix(BEGIN.as_bytes()));
    let kind = kind.and_then(|rest| rest.strip_suffix(DASHES.as_bytes()));
    if kind != Some(KIND.as_bytes()) {
        return Err(WANTED.to_owned());
    }
    let end = format!("{END}{KIND}{DASHES}");
    let mut text = Vec::new();
    let mut in_headers = true;
    for line in lines {
        if line == end.as_bytes() {
            return STANDARD.decode(text).map_err(|_| WANTED.to_owned());
        }
        in_headers &= line.contains(&b':');
        if !in_headers {
            text.extend(line.iter().filter(|byte| !matches!(byte, b' ' | b'\t')));
        }
    }
    Err(WANTED.to_owned())
}

/// What the DER says. Nothing may follow.
///
/// # Errors
/// What is wrong with it.
pub fn parse(der: &[u8]) -> Result<X509CertificationRequest<'_>, String> {
    let (rest, request) = X509CertificationRequest::from_der(der).map_err(|error| format!("asn1: {error}"))?;
    if rest.is_empty() {
        Ok(request)
    } else {
        Err("asn1: syntax error: trailing data".to_owned())
    }
}

/// Whom a request or a certificate is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// In the order they stand there.
    pub common_names: Vec<String>,
    pub organizations: Vec<String>,
}

impl Subject {
    /// # Errors
    /// If any attribute is no text: who cannot read it does not know whom this is for.
    pub fn read(name: &X509Name<'_>) -> Result<Subject, String> {
        for attribute in name.iter_attributes() {
            text(attribute)?;
        }
        Ok(Subject {
            common_names: name.iter_common_name().map(text).collect::<Result<_, _>>()?,
            organizations: name.iter_organization().map(text).collect::<Result<_, _>>()?,
        })
    }

    /// The user: of several names the last, as in Go.
    pub fn user(&self) -> &str {
        self.common_names.last().map_or("", String::as_str)
    }

    /// Of whom there must be no doubt.
    ///
    /// # Errors
    /// If it has several common names.
    pub fn check_unambiguous(&self) -> Result<(), String> {
        if self.common_names.len() > 1 {
            return Err("subject must not have more than one common name".to_owned());
        }
        Ok(())
    }
}

/// An attribute of a subject as Go reads it.
///
/// # Errors
/// If it is no text, or has characters that texts of its type do not have.
pub fn text(attribute: &AttributeTypeAndValue<'_>) -> Result<String, String> {
    let bytes = attribute.as_slice();
    let ascii = |holds: fn(&u8) -> bool| bytes.iter().all(holds).then(|| latin(bytes));
    let text = match attribute.attr_value().tag() {
        Tag::Utf8String => String::from_utf8(bytes.to_vec()).ok(),
        Tag::PrintableString => ascii(is_printable),
        Tag::Ia5String => ascii(u8::is_ascii),
        Tag::NumericString => ascii(|byte| byte.is_ascii_digit() || *byte == b' '),
        Tag::T61String => Some(latin(bytes)),
        Tag::BmpString => utf16(bytes),
        _ => None,
    };
    text.ok_or_else(|| {
        format!(
            "x509: the attribute {} of the subject is no text",
            attribute.attr_type()
        )
    })
}

fn latin(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

fn is_printable(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b" '()+,-./:=?*&".contains(byte)
}

fn utf16(bytes: &[u8]) -> Option<String> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let units = pairs.iter().map(|pair| u16::from_be_bytes(*pair));
    let text: Option<String> = char::decode_utf16(units).map(Result::ok).collect();
    text.filter(|_| rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{DistinguishedName, DnType, DnValue};

    /// A request, PEM, for a subject of these attributes.
    fn request(attributes: Vec<(DnType, DnValue)>) -> String {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in attributes {
            params.distinguished_name.push(kind, value);
        }
        let key = rcgen::KeyPair::generate().expect("a key");
        params.serialize_request(&key).expect("a request").pem().expect("PEM")
    }

    fn named(name: &str) -> String {
        request(vec![(DnType::CommonName, name.into())])
    }

    fn subject(pem: &str) -> Result<Subject, String> {
        let der = decode(pem.as_bytes())?;
        Subject::read(&parse(&der)?.certification_request_info.subject)
    }

    #[test]
    fn text_around_and_headers_inside_are_fine() {
        let pem = named("ann");
        let with = |text: String| subject(&text).map(|subject| subject.user().to_owned());
        assert_eq!(with(pem.clone()), Ok("ann".to_owned()));
        assert_eq!(
            with(format!("Certificate Request:\n  Data\n{pem}the end")),
            Ok("ann".to_owned())
        );
        assert_eq!(with(pem.lines().collect::<Vec<_>>().join("\r\n")), Ok("ann".to_owned()));
        let headers = pem.replacen("REQUEST-----\n", "REQUEST-----\nProc-Type: 4\nA: b\n\n", 1);
        assert_eq!(with(headers), Ok("ann".to_owned()));
    }

    #[test]
    fn a_text_with_another_request_for_other_readers_is_refused() {
        let (good, evil) = (named("good"), named("evil"));
        let hidden = format!("x\r{}\r\n{good}", evil.trim_end().replace('\n', "\r"));
        for pem in [
            hidden,
            format!("{evil}{good}"),
            format!("{} {good}", evil.replace('\n', " ")),
            good.replace('\n', "\r"),
            good.replace("CERTIFICATE REQUEST", "CERTIFICATE"),
            good.replace("-----END", "----END"),
            good.replacen("REQUEST-----\n", "REQUEST----- x\n", 1),
            format!(" {good}"),
            String::new(),
        ] {
            assert!(decode(pem.as_bytes()).is_err(), "{pem:?}");
        }
        let mut der = decode(good.as_bytes()).expect("DER");
        der.push(0);
        assert_eq!(parse(&der).unwrap_err(), "asn1: syntax error: trailing data");
    }

    #[test]
    fn subjects_are_read_as_go_reads_them() {
        // The table of rcgen has every type once.
        let again = DnType::CustomDnType(vec![2, 5, 4, 3]);
        let twice = request(vec![(DnType::CommonName, "first".into()), (again, "last".into())]);
        let twice = subject(&twice).expect("a subject");
        assert_eq!(twice.user(), "last");
        assert!(twice.check_unambiguous().is_err());
        let wide = DnValue::BmpString("system:masters".try_into().expect("text"));
        let old = DnValue::TeletexString("old".try_into().expect("text"));
        let read = subject(&request(vec![
            (DnType::OrganizationName, wide),
            (DnType::CommonName, old),
        ]));
        let read = read.expect("a subject");
        assert_eq!(
            (read.user(), &*read.organizations),
            ("old", &["system:masters".to_owned()][..])
        );
        let foreign = DnValue::UniversalString("system:masters".try_into().expect("text"));
        let refused = subject(&request(vec![(DnType::OrganizationName, foreign)]));
        assert_eq!(
            refused.unwrap_err(),
            "x509: the attribute 2.5.4.10 of the subject is no text"
        );
    }
}
