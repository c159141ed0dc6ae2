//! Who is asking.
//!
//! A client certificate of the cluster's CA names the user (`CN`) and the groups (`O`). A request without one is
//! anonymous; in-process clients state who they are by a layer.

use std::collections::BTreeMap;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// A user and the groups it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub user: String,
    /// Tells users of the same name apart over time; empty where nothing does.
    pub uid: String,
    pub groups: Vec<String>,
    /// What else the authenticator knows, by lower-case keys.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// The user of requests that do not say who they are from.
pub const ANONYMOUS: &str = "system:anonymous";
/// The group of everybody who said who they are.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group of everybody else.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";

impl Identity {
    /// Somebody who proved who they are.
    pub fn authenticated(user: &str, groups: &[&str]) -> Self {
        let mut groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
        if !groups.iter().any(|group| group == AUTHENTICATED) {
            groups.push(AUTHENTICATED.to_owned());
        }
        Identity {
            user: user.to_owned(),
            uid: String::new(),
            groups,
            extra: BTreeMap::new(),
        }
    }

    /// Somebody who did not.
    pub fn anonymous() -> Self {
        Identity {
            user: ANONYMOUS.to_owned(),
            uid: String::new(),
            groups: vec![UNAUTHENTICATED.to_owned()],
            extra: BTreeMap::new(),
        }
    }

    /// The server itself.
    pub(crate) fn system() -> Self {
        Identity::authenticated("system:apiserver", &["system:masters"])
    }

    pub fn is_authenticated(&self) -> bool {
        self.groups.iter().any(|group| group == AUTHENTICATED)
    }

    /// The subject of a certificate that TLS has verified already. `None` if it names nobody.
    pub(crate) fn of_certificate(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let subject = certificate.subject();
        let user = subject.iter_common_name().next()?.as_str().ok()?;
        let groups: Vec<&str> = subject
            .iter_organization()
            .filter_map(|group| group.as_str().ok())
            .collect();
        (!user.is_empty()).then(|| Identity::authenticated(user, &groups))
    }
}
