//! May they?
//!
//! ```text
//!   system:masters ─▶ yes      node ─▶ what its pods refer to ─▶ yes      RBAC ─▶ a rule allows it ─▶ yes      no
//! ```
//!
//! Asked for every request, and answered from structures that follow the watch caches: no lock but a shared one, no
//! allocation, no parsing. Authorizers have no opinion or allow; when nobody allows, their reasons are the answer.
//! <https://kubernetes.io/docs/reference/access-authn-authz/authorization/>

pub(crate) mod escalation;
pub(crate) mod node;
pub(crate) mod policy;
pub(crate) mod rbac;
pub(crate) mod rule;

use crate::authn::{Identity, MASTERS};
use crate::registry::Table;
use crate::watch_cache::Caches;
use catamaran_api::field::quote;
use catamaran_api::{GroupResource, Status};

/// What somebody wants to do.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    pub identity: &'a Identity,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, or what a rule of policy asks
    /// (`impersonate`, `bind`, …); for paths that are no resources the HTTP method in lower case.
    pub verb: &'a str,
    /// `None` for paths that are no resources.
    pub resource: Option<AttemptedResource<'a>>,
    pub path: &'a str,
}

/// The resource of an attempt. Empty strings where the request does not say.
#[derive(Clone, Copy, Debug, Default)]
pub struct AttemptedResource<'a> {
    pub group: &'a str,
    pub version: &'a str,
    pub plural: &'a str,
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    /// Of lists, watches and deletions of collections, as the query has them.
    pub field_selector: &'a str,
    pub label_selector: &'a str,
}

impl<'a> Attempt<'a> {
    /// Nothing yet; for struct update syntax.
    pub fn new(identity: &'a Identity) -> Self {
        Attempt {
            identity,
            verb: "",
            resource: None,
            path: "",
        }
    }

    /// `User "x" cannot get resource "pods" in API group "" in the namespace "y"`
    fn describe(&self) -> String {
        let (user, verb) = (quote(&self.identity.user), self.verb);
        let text = match &self.resource {
            None => format!("User {user} cannot {verb} path {}", quote(self.path)),
            Some(resource) => {
                let what = match resource.subresource {
                    "" => quote(resource.plural),
                    subresource => quote(&format!("{}/{subresource}", resource.plural)),
                };
                let place = match resource.namespace {
                    "" => "at the cluster scope".to_owned(),
                    namespace => format!("in the namespace {}", quote(namespace)),
                };
                let group = quote(resource.group);
                format!("User {user} cannot {verb} resource {what} in API group {group} {place}")
            }
        };
        text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
    }
}

/// The answer to an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allowed,
    /// Nobody allows it; why, as far as anybody says. Often empty.
    Denied {
        reason: String,
    },
}

impl Verdict {
    pub fn is_allowed(&self) -> bool {
        *self == Verdict::Allowed
    }
}

/// Decides attempts. Called for every request, so it must be quick and may not block.
pub trait Authorizer: Send + Sync + 'static {
    fn decide(&self, attempt: &Attempt<'_>) -> Verdict;

    /// Why something is allowed that is, for reviews and audit logs. Empty if nobody says. Costs more than [`Self::decide`].
    fn why_allowed(&self, _attempt: &Attempt<'_>) -> String {
        String::new()
    }

    /// What [`Self::decide`] decides, with a reason also where it is allowed.
    fn explain(&self, attempt: &Attempt<'_>) -> (bool, String) {
        match self.decide(attempt) {
            Verdict::Allowed => (true, self.why_allowed(attempt)),
            Verdict::Denied { reason } => (false, reason),
        }
    }

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
    /// Why there may be others, if so.
    pub error: String,
}

/// Verbs on resources; `*` stands for all. Without names it is for all names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceRule {
    pub verbs: Vec<String>,
    pub groups: Vec<String>,
    pub plurals: Vec<String>,
    pub names: Vec<String>,
}

/// Verbs on paths that are no resources; `*` stands for all, or for the rest of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathRule {
    pub verbs: Vec<String>,
    pub paths: Vec<String>,
}

/// The 403 that tells somebody what they may not.
pub(crate) fn forbidden(attempt: &Attempt<'_>, reason: &str) -> Status {
    let mut why = attempt.describe();
    if !reason.is_empty() {
        why.push_str(": ");
        why.push_str(reason);
    }
    match &attempt.resource {
        Some(resource) => {
            let name = GroupResource {
                group: resource.group.to_owned().into(),
                resource: resource.plural.to_owned().into(),
            };
            Status::forbidden(&name, resource.name, why)
        }
        None => Status::forbidden(&GroupResource::from_static("", ""), "", why),
    }
}

/// Everybody may do everything. For tests.
#[cfg(test)]
pub(crate) struct AllowAll;

#[cfg(test)]
impl Authorizer for AllowAll {
    fn decide(&self, _: &Attempt<'_>) -> Verdict {
        Verdict::Allowed
    }
}

/// What a cluster runs with.
pub(crate) struct Standard {
    node: node::NodeAuthorizer,
    rbac: rbac::Rbac,
}

impl Standard {
    pub(crate) fn new(table: &Table, caches: &Caches) -> Self {
        Standard {
            node: node::NodeAuthorizer::new(table, caches),
            rbac: rbac::Rbac::new(table, caches),
        }
    }

    pub(crate) fn rbac(&self) -> &rbac::Rbac {
        &self.rbac
    }
}

impl Authorizer for Standard {
    fn decide(&self, attempt: &Attempt<'_>) -> Verdict {
        if attempt.identity.is_in(MASTERS) {
            return Verdict::Allowed;
        }
        let node = self.node.decide(attempt);
        if node == node::Opinion::Allowed || self.rbac.allows(attempt) {
            return Verdict::Allowed;
        }
        Verdict::Denied {
            reason: join(&node, self.rbac.why_denied(attempt)),
        }
    }

    fn why_allowed(&self, attempt: &Attempt<'_>) -> String {
        let others = attempt.identity.is_in(MASTERS) || self.node.decide(attempt) == node::Opinion::Allowed;
        match others {
            true => String::new(),
            false => self.rbac.why_allowed(attempt),
        }
    }

    fn rules(&self, identity: &Identity, namespace: &str) -> Rules {
        let mut rules = self.rbac.rules(identity, namespace);
        if node::name_of(identity).is_some() {
            rules.error = "node authorizer does not support user rule resolution".to_owned();
        }
        rules
    }
}

/// Reasons of all who have one, a line each.
fn join(node: &node::Opinion, rbac: String) -> String {
    match node {
        node::Opinion::None(reason) if !reason.is_empty() && rbac.is_empty() => reason.clone(),
        node::Opinion::None(reason) if !reason.is_empty() => format!("{reason}\n{rbac}"),
        _ => rbac,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Has a reason for everything, and allows nothing but reading.
    struct Talkative;

    impl Authorizer for Talkative {
        fn decide(&self, attempt: &Attempt<'_>) -> Verdict {
            match attempt.verb {
                "get" => Verdict::Allowed,
                _ => Verdict::Denied {
                    reason: "it writes".to_owned(),
                },
            }
        }

        fn why_allowed(&self, _: &Attempt<'_>) -> String {
            "it reads".to_owned()
        }
    }

    #[test]
    fn a_reason_changes_no_verdict() {
        let identity = Identity::anonymous();
        let explained = |verb| {
            Talkative.explain(&Attempt {
                verb,
                ..Attempt::new(&identity)
            })
        };
        assert_eq!(explained("get"), (true, "it reads".to_owned()));
        assert_eq!(explained("delete"), (false, "it writes".to_owned()));
    }
}
