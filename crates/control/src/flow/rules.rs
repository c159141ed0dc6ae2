//! From a request to its schema, its level and its flow. Pure.

use super::dispatch::{Key, LevelSpec, Queuing};
use crate::authn::Identity;
use k8s_openapi::api::flowcontrol::v1::{PolicyRulesWithSubjects, Subject};
use std::sync::Arc;

pub(crate) use k8s_openapi::api::flowcontrol::v1::{FlowSchema, PriorityLevelConfiguration};

const CATCH_ALL: &str = "catch-all";
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";

/// What rules see of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Digest<'a> {
    pub(crate) identity: &'a Identity,
    pub(crate) verb: &'a str,
    /// `None` for paths that are no resources.
    pub(crate) resource: Option<DigestResource<'a>>,
    pub(crate) path: &'a str,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct DigestResource<'a> {
    pub(crate) group: &'a str,
    /// With the subresource: `pods/status`.
    pub(crate) plural: &'a str,
    pub(crate) subresource: &'a str,
    /// Empty if the request is not about one namespace.
    pub(crate) namespace: &'a str,
}

/// A schema as it is used.
#[derive(Debug)]
pub(crate) struct Schema {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) level_name: String,
    pub(crate) level_uid: String,
    precedence: i32,
    by: By,
    rules: Vec<PolicyRulesWithSubjects>,
}

/// What tells the flows of a schema apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Nothing,
    User,
    Namespace,
}

/// All schemas, in the order in which they are asked.
#[derive(Default)]
pub(super) struct Rules {
    schemas: Vec<(Arc<Schema>, Key)>,
    catch_all: Option<(Arc<Schema>, Key)>,
}

impl Rules {
    /// Schemas whose level is not there do not count.
    pub(super) fn new(
        schemas: &[FlowSchema],
        levels: &[PriorityLevelConfiguration],
        key: impl Fn(&str) -> Option<Key>,
    ) -> Rules {
        let mut found: Vec<(Arc<Schema>, Key)> = schemas
            .iter()
            .filter_map(|object| {
                let schema = schema(object, levels)?;
                let key = key(&schema.level_name)?;
                Some((Arc::new(schema), key))
            })
            .collect();
        found.sort_by(|(a, _), (b, _)| (a.precedence, &a.name).cmp(&(b.precedence, &b.name)));
        Rules {
            catch_all: found.iter().find(|(schema, _)| schema.name == CATCH_ALL).cloned(),
            schemas: found,
        }
    }

    /// The first schema that matches. `catch-all` always does, and is always there: see [`super::suggested`].
    pub(super) fn classify(&self, digest: &Digest<'_>) -> (&Arc<Schema>, Key) {
        static NOTHING: std::sync::LazyLock<Arc<Schema>> = std::sync::LazyLock::new(|| {
            Arc::new(Schema {
                name: String::new(),
                uid: String::new(),
                level_name: String::new(),
                level_uid: String::new(),
                precedence: 0,
                by: By::Nothing,
                rules: Vec::new(),
            })
        });
        let found = self.schemas.iter().find(|(schema, _)| schema.matches(digest));
        match found.or(self.catch_all.as_ref()) {
            Some((schema, key)) => (schema, *key),
            None => (&NOTHING, 0),
        }
    }
}

impl Schema {
    fn matches(&self, digest: &Digest<'_>) -> bool {
        self.rules.iter().any(|rule| rule_matches(rule, digest))
    }

    /// Requests with the same one are one flow.
    pub(super) fn distinguisher<'a>(&self, digest: &Digest<'a>) -> &'a str {
        match self.by {
            By::Nothing => "",
            By::User => &digest.identity.user,
            By::Namespace => digest.resource.map_or("", |resource| resource.namespace),
        }
    }
}

fn schema(object: &FlowSchema, levels: &[PriorityLevelConfiguration]) -> Option<Schema> {
    let spec = object.spec.as_ref()?;
    let level_name = &spec.priority_level_configuration.name;
    let level = levels
        .iter()
        .find(|level| level.metadata.name.as_deref() == Some(level_name));
    Some(Schema {
        name: object.metadata.name.clone()?,
        uid: object.metadata.uid.clone().unwrap_or_default(),
        level_uid: level.and_then(|level| level.metadata.uid.clone()).unwrap_or_default(),
        level_name: level_name.clone(),
        precedence: spec.matching_precedence.unwrap_or(1000),
        by: match spec.distinguisher_method.as_ref().map(|method| method.type_.as_str()) {
            Some("ByUser") => By::User,
            Some("ByNamespace") => By::Namespace,
            _ => By::Nothing,
        },
        rules: spec.rules.clone().unwrap_or_default(),
    })
}

fn rule_matches(rule: &PolicyRulesWithSubjects, digest: &Digest<'_>) -> bool {
    let about = match &digest.resource {
        Some(resource) => rule.resource_rules.iter().flatten().any(|rule| {
            has(&rule.verbs, digest.verb)
                && has(&rule.api_groups, resource.group)
                && has_resource(&rule.resources, resource)
                && if resource.namespace.is_empty() {
                    rule.cluster_scope == Some(true)
                } else {
                    has(rule.namespaces.as_deref().unwrap_or_default(), resource.namespace)
                }
        }),
        None => rule
            .non_resource_rules
            .iter()
            .flatten()
            .any(|rule| has(&rule.verbs, digest.verb) && has_path(&rule.non_resource_urls, digest.path)),
    };
    about && rule.subjects.iter().any(|subject| is_from(subject, digest.identity))
}

fn has(wanted: &[String], value: &str) -> bool {
    wanted.iter().any(|own| own == "*" || own == value)
}

fn has_resource(wanted: &[String], resource: &DigestResource<'_>) -> bool {
    wanted.iter().any(|own| match own.split_once('/') {
        _ if own == "*" => true,
        Some((plural, subresource)) => plural == resource.plural && subresource == resource.subresource,
        None => resource.subresource.is_empty() && own == resource.plural,
    })
}

fn has_path(wanted: &[String], path: &str) -> bool {
    wanted.iter().any(|own| {
        own == "*"
            || own == path
            || own
                .strip_suffix('*')
                .is_some_and(|prefix| prefix.ends_with('/') && path.starts_with(prefix))
    })
}

fn is_from(subject: &Subject, identity: &Identity) -> bool {
    match subject.kind.as_str() {
        "User" => subject
            .user
            .as_ref()
            .is_some_and(|user| user.name == "*" || user.name == identity.user),
        "Group" => subject
            .group
            .as_ref()
            .is_some_and(|group| group.name == "*" || identity.groups.contains(&group.name)),
        "ServiceAccount" => subject.service_account.as_ref().is_some_and(|wanted| {
            let parts = identity.user.strip_prefix(SERVICE_ACCOUNT);
            parts
                .and_then(|parts| parts.split_once(':'))
                .is_some_and(|(namespace, name)| {
                    namespace == wanted.namespace && (wanted.name == "*" || wanted.name == name)
                })
        }),
        _ => false,
    }
}

/// How the levels of some objects are to be.
pub(super) fn level_specs(levels: &[PriorityLevelConfiguration]) -> Vec<LevelSpec> {
    let number = |value: Option<i32>, default: u32| value.map_or(default, |value| u32::try_from(value).unwrap_or(0));
    levels
        .iter()
        .filter_map(|object| {
            let spec = object.spec.as_ref()?;
            let name = object.metadata.name.clone()?;
            let exempt = spec.type_ == "Exempt";
            let limited = spec.limited.as_ref();
            let queuing = limited
                .and_then(|limited| limited.limit_response.as_ref())
                .filter(|response| response.type_ == "Queue")
                .map(|response| {
                    let queuing = response.queuing.as_ref();
                    Queuing {
                        queues: number(queuing.and_then(|queuing| queuing.queues), 64).max(1),
                        hand_size: number(queuing.and_then(|queuing| queuing.hand_size), 8).max(1),
                        length: number(queuing.and_then(|queuing| queuing.queue_length_limit), 50),
                    }
                });
            let exempted = spec.exempt.as_ref();
            Some(LevelSpec {
                name,
                exempt,
                shares: match exempt {
                    true => number(exempted.and_then(|exempt| exempt.nominal_concurrency_shares), 0),
                    false => number(limited.and_then(|limited| limited.nominal_concurrency_shares), 30),
                },
                lendable_percent: match exempt {
                    true => number(exempted.and_then(|exempt| exempt.lendable_percent), 0),
                    false => number(limited.and_then(|limited| limited.lendable_percent), 0),
                }
                .min(100),
                borrowing_percent: limited
                    .and_then(|limited| limited.borrowing_limit_percent)
                    .map(|percent| u32::try_from(percent).unwrap_or(0)),
                queuing,
            })
        })
        .collect()
}

/// FNV-1a: no secret is needed, as a hand of queues is nothing to be guarded.
pub(super) fn flow_hash(schema: &str, distinguisher: &str) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in schema.bytes().chain([0]).chain(distinguisher.bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    // The low bits of FNV are weak, and it is the low ones that deal the first card.
    hash ^ (hash >> 29)
}

#[cfg(test)]
mod tests {
    use super::super::suggested;
    use super::*;

    #[track_caller]
    fn check(
        user: &str,
        groups: &[&str],
        verb: &str,
        resource: Option<(&str, &str, &str)>,
        path: &str,
        expected: &str,
    ) {
        let (schemas, levels) = suggested::objects();
        let rules = Rules::new(&schemas, &levels, |_| Some(1));
        let identity = match user {
            crate::authn::ANONYMOUS => Identity::anonymous(),
            user => Identity::authenticated(user, groups),
        };
        let resource = resource.map(|(group, plural, namespace)| {
            let (plural, subresource) = plural.split_once('/').unwrap_or((plural, ""));
            DigestResource {
                group,
                plural,
                subresource,
                namespace,
            }
        });
        let (schema, _) = rules.classify(&Digest {
            identity: &identity,
            verb,
            resource,
            path,
        });
        assert_eq!(schema.name, expected, "{user} {verb} {resource:?} {path}");
    }

    #[test]
    fn requests_fall_where_kubernetes_has_them() {
        let node = ("system:node:n1", &["system:nodes"][..]);
        let lease = Some(("coordination.k8s.io", "leases", "kube-node-lease"));
        check(node.0, node.1, "update", lease, "", "system-node-high");
        check(
            node.0,
            node.1,
            "patch",
            Some(("", "nodes/status", "")),
            "",
            "system-node-high",
        );
        check(
            node.0,
            node.1,
            "get",
            Some(("", "secrets", "default")),
            "",
            "system-nodes",
        );
        check(
            "root",
            &["system:masters"],
            "list",
            Some(("", "pods", "")),
            "",
            "exempt",
        );
        check("alice", &[], "list", Some(("", "pods", "")), "", "global-default");
        check("alice", &[], "get", None, "/readyz", "probes");
        check(crate::authn::ANONYMOUS, &[], "get", None, "/healthz", "probes");
        check(crate::authn::ANONYMOUS, &[], "get", None, "/version", "global-default");
        let scheduler = "system:kube-scheduler";
        check(
            scheduler,
            &[],
            "update",
            Some(("coordination.k8s.io", "leases", "kube-system")),
            "",
            "system-leader-election",
        );
        check(
            scheduler,
            &[],
            "create",
            Some(("", "pods/binding", "default")),
            "",
            "kube-scheduler",
        );
        let account = "system:serviceaccount:kube-system:dns";
        let groups = ["system:serviceaccounts"];
        check(
            account,
            &groups,
            "list",
            Some(("", "pods", "")),
            "",
            "kube-system-service-accounts",
        );
        let account = "system:serviceaccount:default:default";
        check(account, &groups, "list", Some(("", "pods", "")), "", "service-accounts");
    }

    #[test]
    fn flows_are_told_apart() {
        assert_ne!(flow_hash("a", "b"), flow_hash("ab", ""));
        assert_eq!(flow_hash("a", "b"), flow_hash("a", "b"));
    }
}
