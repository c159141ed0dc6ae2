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

    /// What somebody may do in a namespace, for people to read. Nobody decides by it.
    fn rules(&self, _identity: &Identity, _namespace: &str) -> Rules {
        Rules::default()
    }
}

/// Rules as far as they can be listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    pub resources: Vec<ResourceRule>,
    pub paths: Vec<PathRule>,
    /// There are no others.
    pub complete: bool,
}

/// Verbs on resources; `*` stands for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceRule {
    pub verbs: Vec<String>,
    pub groups: Vec<String>,
    pub plurals: Vec<String>,
}

/// Verbs on paths that are no resources; `*` stands for all, or for the rest of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathRule {
    pub verbs: Vec<String>,
    pub paths: Vec<String>,
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

    fn rules(&self, identity: &Identity, _namespace: &str) -> Rules {
        let all = || vec!["*".to_owned()];
        let mut rules = Rules {
            complete: true,
            ..Rules::default()
        };
        if identity.is_authenticated() {
            rules.resources.push(ResourceRule {
                verbs: all(),
                groups: all(),
                plurals: all(),
            });
            rules.paths.push(PathRule {
                verbs: all(),
                paths: all(),
            });
        } else {
            rules.paths.push(PathRule {
                verbs: vec!["get".to_owned()],
                paths: OPEN.iter().map(|path| format!("{path}*")).collect(),
            });
        }
        rules
    }
}
