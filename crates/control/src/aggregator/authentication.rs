//! How other servers know that a request comes from this one, and whom it is from.
//!
//! They read it in a ConfigMap that every cluster has (`bootstrap` makes it): which authority signs the certificate of whoever may state users, and in
//! which headers the user is.
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/configure-aggregation-layer/>

use crate::authn::Identity;
use crate::pki::{self, Pair};
use http::{HeaderMap, HeaderName, HeaderValue};
use rustls::client::ResolvesClientCert;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use std::fmt::Write as _;
use std::sync::Arc;

const USER: HeaderName = HeaderName::from_static("x-remote-user");
const UID: HeaderName = HeaderName::from_static("x-remote-uid");
const GROUP: HeaderName = HeaderName::from_static("x-remote-group");
const EXTRA: &str = "x-remote-extra-";

/// What this server shows other servers.
pub(crate) struct FrontProxy {
    certificate: Arc<SingleCertAndKey>,
}

impl FrontProxy {
    /// # Errors
    /// If certificate and key cannot be used.
    pub(crate) fn new(client: &Pair) -> Result<Self, crate::http::serve::Error> {
        fn bad<E: std::error::Error + Send + Sync + 'static>(error: E) -> crate::http::serve::Error {
            crate::http::serve::Error::Certificate(Box::new(error))
        }
        let chain = vec![pki::der(&client.cert_pem).map_err(bad)?];
        let key = pki::key_der(&client.key_pem).map_err(bad)?;
        let key = CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider()).map_err(bad)?;
        Ok(FrontProxy {
            certificate: Arc::new(SingleCertAndKey::from(key)),
        })
    }

    pub(super) fn certificate(&self) -> Arc<dyn ResolvesClientCert> {
        Arc::clone(&self.certificate) as Arc<dyn ResolvesClientCert>
    }
}

/// States who a request is from, and takes away what the client itself said about that.
pub(super) fn state(identity: &Identity, headers: &mut HeaderMap) {
    let theirs: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            let name = name.as_str();
            name == "authorization" || name.starts_with("x-remote-") || name.starts_with("impersonate-")
        })
        .cloned()
        .collect();
    for name in theirs {
        headers.remove(name);
    }
    let value = |text: &str| HeaderValue::from_bytes(text.as_bytes()).ok();
    let mut add = |name: HeaderName, text: &str| {
        if let Some(value) = value(text) {
            headers.append(name, value);
        }
    };
    add(USER, &identity.user);
    if !identity.uid.is_empty() {
        add(UID, &identity.uid);
    }
    for group in &identity.groups {
        add(GROUP, group);
    }
    for (key, values) in &identity.extra {
        let Ok(name) = HeaderName::try_from(format!("{EXTRA}{}", encode(key))) else {
            continue;
        };
        for text in values {
            add(name.clone(), text);
        }
    }
}

/// Keys may have characters that names of headers may not.
fn encode(key: &str) -> String {
    let mut text = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b'0'..=b'9'
            | b'a'..=b'z'
            | b'A'..=b'Z'
            | b'-'
            | b'.'
            | b'_'
            | b'~'
            | b'!'
            | b'#'
            | b'$'
            | b'&'
            | b'\''
            | b'*'
            | b'+'
            | b'^'
            | b'`'
            | b'|' => text.push(char::from(byte)),
            other => {
                let _ = write!(text, "%{other:02x}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_do_not_state_users() {
        let mut headers = HeaderMap::new();
        for name in [
            "x-remote-user",
            "x-remote-group",
            "x-remote-extra-a",
            "impersonate-user",
            "authorization",
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static("root"));
        }
        headers.insert("accept", HeaderValue::from_static("*/*"));
        let mut identity = Identity::authenticated("jane", &["devs"]);
        identity.uid = "42".to_owned();
        identity
            .extra
            .insert("acme.com/scope".to_owned(), vec!["a".to_owned(), "b".to_owned()]);
        state(&identity, &mut headers);
        let mut lines: Vec<String> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().expect("text")))
            .collect();
        lines.sort();
        assert_eq!(
            lines,
            [
                "accept: */*",
                "x-remote-extra-acme.com%2fscope: a",
                "x-remote-extra-acme.com%2fscope: b",
                "x-remote-group: devs",
                "x-remote-group: system:authenticated",
                "x-remote-uid: 42",
                "x-remote-user: jane",
            ]
        );
    }
}
