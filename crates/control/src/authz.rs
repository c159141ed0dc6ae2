//! May they? The place RBAC and the node authoriser will fill.

use crate::authn::Identity;

/// What somebody wants to do.
#[derive(Clone, Debug)]
pub struct Attempt<'a> {
    pub identity: &'a Identity,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; for paths that are no
    /// resources the HTTP method in lower case.
    pub verb: &'a str,
    /// `None` for paths that are no resources.
    pub resource: Option<AttemptedResource<'a>>,
    pub path: &'a str,
}

/// The resource of an attempt. Empty strings where the request does not say.
#[derive(Clone, Copy, Debug)]
pub struct AttemptedResource<'a> {
    pub group: &'a str,
    pub plural: &'a str,
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
}

/// The answer to an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allowed,
    /// The request has to say who it is from.
    Unauthenticated,
    Denied {
        reason: String,
    },
}

/// Decides attempts. Called for every request, so it must be quick and may not block.
pub trait Authorizer: Send + Sync + 'static {
    fn decide(&self, attempt: &Attempt<'_>) -> Verdict;
}

/// Everybody who said who they are may do everything; everybody may ask whether the server is well and what it is.
pub struct AuthenticatedMay;

/// Paths that need no credentials.
const OPEN: &[&str] = &["/healthz", "/livez", "/readyz", "/version"];

impl Authorizer for AuthenticatedMay {
    fn decide(&self, attempt: &Attempt<'_>) -> Verdict {
        let open = OPEN.iter().any(|open| {
            attempt
                .path
                .strip_prefix(open)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        if attempt.identity.is_authenticated() || open {
            Verdict::Allowed
        } else {
            Verdict::Unauthenticated
        }
    }
}
