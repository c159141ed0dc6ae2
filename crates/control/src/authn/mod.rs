//! Who is asking.
//!
//! Every request is asked for its credentials in one order; the first kind that is there decides, and a credential that
//! does not hold is an error, not a stranger:
//!
//! ```text
//!   in-process layer ─▶ front proxy's headers ─▶ client certificate ─▶ bearer token ─▶ anonymous
//!                                                                       │ static file, service account, bootstrap
//!                                                                       └ Authorization header or websocket protocol
//!   then: Impersonate-* headers, if whoever asks may take that part
//! ```
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/authentication/>

mod bootstrap_token;
mod certificate;
mod claims;
mod credentials;
pub(crate) mod front_proxy;
mod impersonation;
pub(crate) mod jwt;
pub(crate) mod service_account;
mod token_file;

pub(crate) use certificate::{Peer, Who};
pub(crate) use claims::{Bound, Issue, Reference};
pub(crate) use impersonation::{Refused, impersonate};
pub use token_file::{Error as TokenFileError, TokenFile};

use crate::registry::Registry;
use catamaran_api::Status;
use http::request::Parts;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

/// A user: name, unique id, groups, and whatever else its authenticator knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub user: String,
    /// Tells users of one name apart; empty where the authenticator knows none.
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

/// The user of requests that do not say who they are from.
pub const ANONYMOUS: &str = "system:anonymous";
/// The group of everybody who said who they are.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group of everybody else.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The group that may do everything.
pub const MASTERS: &str = "system:masters";
/// What in [`Identity::extra`] names the credential a request came with.
pub const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

impl Identity {
    /// Somebody who proved who they are.
    pub fn authenticated(user: &str, groups: &[&str]) -> Self {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        Identity {
            user: user.to_owned(),
            groups,
            ..Identity::default()
        }
        .with_authenticated()
    }

    /// Somebody who did not.
    pub fn anonymous() -> Self {
        Identity {
            user: ANONYMOUS.to_owned(),
            groups: vec![UNAUTHENTICATED.to_owned()],
            ..Identity::default()
        }
    }

    /// A service account, as its tokens name it, without what a token knows beside the name.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        Identity {
            user: service_account_user(namespace, name),
            groups: service_account_groups(namespace),
            ..Identity::default()
        }
        .with_authenticated()
    }

    /// The server itself.
    pub(crate) fn system() -> Self {
        Identity::authenticated("system:apiserver", &[MASTERS])
    }

    pub fn is_authenticated(&self) -> bool {
        self.is_in(AUTHENTICATED)
    }

    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }

    /// Puts it in the group of those who said who they are.
    fn with_authenticated(mut self) -> Self {
        if self.user != ANONYMOUS && !self.is_in(AUTHENTICATED) {
            self.groups.push(AUTHENTICATED.to_owned());
        }
        self
    }
}

/// `system:serviceaccount:<namespace>:<name>`.
pub(crate) fn service_account_user(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

/// Namespace and name of the service account a user name stands for.
pub(crate) fn split_service_account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    let plain = !namespace.is_empty() && !name.is_empty() && !name.contains(':');
    plain.then_some((namespace, name))
}

fn service_account_groups(namespace: &str) -> Vec<String> {
    vec![
        "system:serviceaccounts".to_owned(),
        format!("system:serviceaccounts:{namespace}"),
    ]
}

/// All authenticators.
pub(crate) struct Authenticator {
    registry: Arc<Registry>,
    service_accounts: service_account::Tokens,
    token_file: TokenFile,
}

/// A token that holds: whose it is, and for which of the audiences asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proven {
    pub(crate) identity: Identity,
    pub(crate) audiences: Vec<String>,
}

impl Authenticator {
    pub(crate) fn new(
        registry: Arc<Registry>,
        service_accounts: service_account::Tokens,
        token_file: TokenFile,
    ) -> Self {
        Authenticator {
            registry,
            service_accounts,
            token_file,
        }
    }

    pub(crate) fn service_accounts(&self) -> &service_account::Tokens {
        &self.service_accounts
    }

    /// By what means a request that was refused says who it is from, as audit logs put it.
    pub(crate) fn attempted(head: &Parts) -> String {
        let mut methods = Vec::new();
        let header = head.headers.get(http::header::AUTHORIZATION);
        let header = header.and_then(|value| value.to_str().ok()).unwrap_or_default().trim();
        match header.split_once(' ') {
            Some(("Basic", _)) => methods.push("basic"),
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("bearer") => methods.push("bearer"),
            _ => {}
        }
        if head
            .uri
            .query()
            .unwrap_or_default()
            .split('&')
            .any(|pair| pair.starts_with("access_token="))
        {
            methods.push("access_token");
        }
        if head.extensions.get::<Peer>().is_some() {
            methods.push("x509");
        }
        match methods.as_slice() {
            [] => "Authentication failed, no credentials provided".to_owned(),
            methods => format!("Authentication failed, attempted: {}", methods.join(", ")),
        }
    }

    /// Who a request is from. Takes the credentials out of its headers, so that nobody further in sees them.
    pub(crate) async fn authenticate(&self, head: &mut Parts) -> Result<Identity, Status> {
        if let Some(identity) = head.extensions.get::<Identity>() {
            return Ok(identity.clone());
        }
        let peer = head.extensions.get::<Peer>();
        let who = peer.and_then(|peer| peer.at(SystemTime::now()));
        // A certificate whose time is over says nothing, but whoever shows one is no stranger either.
        let is_over = peer.is_some() && who.is_none();
        match who {
            Some(Who::FrontProxy) => {
                if let Some(identity) = front_proxy::identity(&mut head.headers)? {
                    return Ok(identity);
                }
            }
            Some(Who::Client(identity)) => {
                let identity = identity.clone();
                credentials::forget(&mut head.headers);
                return Ok(identity);
            }
            None => {}
        }
        let Some(token) = credentials::take(&mut head.headers) else {
            return match is_over {
                true => Err(Status::unauthorized("")),
                false => Ok(Identity::anonymous()),
            };
        };
        match self.prove(&token, self.service_accounts.audiences()).await {
            Ok(proven) => Ok(proven.identity),
            Err(reason) => {
                tracing::debug!(reason, "a token was refused");
                Err(Status::unauthorized(""))
            }
        }
    }

    /// Whose token it is, for at least one of the audiences.
    ///
    /// # Errors
    /// Why it does not hold; never the token itself.
    pub(crate) async fn prove(&self, token: &str, audiences: &[String]) -> Result<Proven, String> {
        if let Some(identity) = self.token_file.get(token) {
            let own = self.service_accounts.audiences();
            return for_audiences(identity.clone(), own, audiences);
        }
        if token.bytes().filter(|byte| *byte == b'.').count() == 2 {
            self.registry
                .caches
                .fresh()
                .await
                .map_err(|status| status.message().to_owned())?;
            return self.service_accounts.prove(&self.registry, token, audiences);
        }
        if let Some((id, secret)) = bootstrap_token::split(token) {
            self.registry
                .caches
                .fresh()
                .await
                .map_err(|status| status.message().to_owned())?;
            let identity = bootstrap_token::prove(&self.registry, id, secret)?;
            return for_audiences(identity, self.service_accounts.audiences(), audiences);
        }
        Err("invalid bearer token".to_owned())
    }
}

/// For tokens that know no audience: they are meant for this server.
fn for_audiences(identity: Identity, own: &[String], wanted: &[String]) -> Result<Proven, String> {
    let audiences: Vec<String> = own
        .iter()
        .filter(|audience| wanted.contains(audience))
        .cloned()
        .collect();
    if audiences.is_empty() {
        return Err(format!(
            "token audiences {own:?} is invalid for the target audiences {wanted:?}"
        ));
    }
    Ok(Proven { identity, audiences })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_util::sync::CancellationToken;

    async fn authenticator() -> Authenticator {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tokens.csv");
        std::fs::write(&file, "good,jane,42\n").unwrap();
        let key = jwt::Key::open(&dir.path().join("key.pem")).unwrap();
        let store = catamaran_store::open("mem:").unwrap();
        let registry = Registry::open(store, CancellationToken::new()).await.unwrap();
        let tokens = service_account::Tokens::new(key);
        Authenticator::new(Arc::new(registry), tokens, TokenFile::open(&file).unwrap())
    }

    #[tokio::test]
    async fn a_certificate_whose_time_is_over_is_no_credential() {
        let authenticator = authenticator().await;
        let who = async |peer: Option<Peer>, token: &str| {
            let mut request = http::Request::new(());
            if !token.is_empty() {
                let value = format!("Bearer {token}").parse().unwrap();
                request.headers_mut().insert(http::header::AUTHORIZATION, value);
            }
            if let Some(peer) = peer {
                request.extensions_mut().insert(peer);
            }
            let identity = authenticator.authenticate(&mut request.into_parts().0).await;
            identity.map(|identity| identity.user).map_err(|status| status.code())
        };
        let peer = |holds| Some(Peer::of_test(Identity::authenticated("ann", &[]), holds));
        let (over, now) = (0..=1, 0..=i64::MAX);
        assert_eq!(who(peer(now.clone()), "good").await.as_deref(), Ok("ann"));
        assert_eq!(who(peer(over.clone()), "good").await.as_deref(), Ok("jane"));
        assert_eq!(who(peer(over.clone()), "bad").await, Err(401));
        assert_eq!(who(peer(over), "").await, Err(401), "never somebody unknown");
        assert_eq!(who(None, "").await.as_deref(), Ok(ANONYMOUS));
    }
}
