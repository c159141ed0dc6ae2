//! The roles and bindings every cluster begins with: Kubernetes' own, as tables.
//!
//! They are made, and mended, at every start; see [`bootstrap::rbac`](crate::bootstrap). An object whose annotation
//! `rbac.authorization.kubernetes.io/autoupdate` is `false` is left alone.
//! <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#default-roles-and-role-bindings>

mod cluster_roles;
mod controllers;
mod namespaces;

use super::rule::Rule;
use k8s_openapi::api::rbac::v1::{
    AggregationRule, ClusterRole, ClusterRoleBinding, Role, RoleBinding, RoleRef, Subject,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use std::collections::BTreeMap;

/// Says whether an object is mended at start.
pub(crate) const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
const GROUP: &str = "rbac.authorization.k8s.io";
const READ: &str = "get list watch";
const WRITE: &str = "create delete deletecollection patch update";
const READ_WRITE: &str = "create delete deletecollection get list patch update watch";
const READ_UPDATE: &str = "get list patch update watch";

/// A rule; all fields are lists of words. The core group is called `core`.
#[derive(Clone, Copy)]
struct Entry {
    groups: &'static str,
    resources: &'static str,
    names: &'static str,
    paths: &'static str,
    verbs: &'static str,
}

const fn rule(groups: &'static str, resources: &'static str, verbs: &'static str) -> Entry {
    Entry {
        groups,
        resources,
        names: "",
        paths: "",
        verbs,
    }
}

const fn named(groups: &'static str, resources: &'static str, names: &'static str, verbs: &'static str) -> Entry {
    Entry {
        names,
        ..rule(groups, resources, verbs)
    }
}

const fn paths(paths: &'static str, verbs: &'static str) -> Entry {
    Entry {
        paths,
        ..rule("", "", verbs)
    }
}

/// What writes events needs this.
const EVENTS: Entry = rule("core events.k8s.io", "events", "create patch update");

/// A cluster role. The words of `joins` name the roles it becomes part of, that of `gathers` the label it gathers others by.
struct Table {
    name: &'static str,
    joins: &'static str,
    gathers: &'static str,
    rules: &'static [Entry],
}

const fn role(name: &'static str, rules: &'static [Entry]) -> Table {
    Table {
        name,
        joins: "",
        gathers: "",
        rules,
    }
}

impl From<&Entry> for Rule {
    fn from(entry: &Entry) -> Self {
        let list = |words: &str| {
            let mut list: Vec<String> = words.split_whitespace().map(ToOwned::to_owned).collect();
            for word in &mut list {
                if word == "core" {
                    word.clear();
                }
            }
            list.sort();
            list
        };
        Rule {
            verbs: list(entry.verbs),
            groups: list(entry.groups),
            resources: list(entry.resources),
            names: list(entry.names),
            paths: list(entry.paths),
        }
    }
}

fn rules<T: From<Rule>>(entries: &[Entry]) -> Vec<T> {
    entries.iter().map(|entry| T::from(Rule::from(entry))).collect()
}

/// What the node authorizer grants every node that is not divided up among nodes.
pub(crate) fn node_rules() -> Vec<Rule> {
    rules(cluster_roles::NODE)
}

fn metadata(name: &str, namespace: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: (!namespace.is_empty()).then(|| namespace.to_owned()),
        labels: Some(BTreeMap::from([(
            "kubernetes.io/bootstrapping".to_owned(),
            "rbac-defaults".to_owned(),
        )])),
        annotations: Some(BTreeMap::from([(AUTOUPDATE.to_owned(), "true".to_owned())])),
        ..ObjectMeta::default()
    }
}

fn aggregate_to(name: &str) -> String {
    format!("rbac.authorization.k8s.io/aggregate-to-{name}")
}

/// All default cluster roles. Those that gather others come without rules.
pub(crate) fn cluster_roles() -> Vec<ClusterRole> {
    let made = |table: &Table| {
        let mut metadata = metadata(table.name, "");
        let labels = metadata.labels.get_or_insert_default();
        labels.extend(
            table
                .joins
                .split_whitespace()
                .map(|name| (aggregate_to(name), "true".to_owned())),
        );
        let selector = |name: &str| LabelSelector {
            match_labels: Some(BTreeMap::from([(aggregate_to(name), "true".to_owned())])),
            ..LabelSelector::default()
        };
        let gathers = !table.gathers.is_empty();
        ClusterRole {
            metadata,
            aggregation_rule: gathers.then(|| AggregationRule {
                cluster_role_selectors: Some(vec![selector(table.gathers)]),
            }),
            rules: (!gathers).then(|| rules(table.rules)),
        }
    };
    cluster_roles::ALL.iter().chain(controllers::ALL).map(made).collect()
}

/// All default bindings of cluster roles.
pub(crate) fn cluster_role_bindings() -> Vec<ClusterRoleBinding> {
    let made = |name: &str, subjects: Vec<Subject>| ClusterRoleBinding {
        metadata: metadata(name, ""),
        role_ref: role_ref("ClusterRole", name),
        subjects: (!subjects.is_empty()).then_some(subjects),
    };
    let mut bindings: Vec<ClusterRoleBinding> = cluster_roles::BINDINGS
        .iter()
        .map(|(name, subjects)| made(name, subjects.split_whitespace().map(subject).collect()))
        .collect();
    bindings.extend(controllers::ALL.iter().map(|table| {
        let account = table.name.strip_prefix(controllers::PREFIX).unwrap_or(table.name);
        made(table.name, vec![service_account(account)])
    }));
    bindings
}

/// All default roles.
pub(crate) fn roles() -> Vec<Role> {
    let made = |(namespace, name, entries): &(&str, &str, &[Entry])| Role {
        metadata: metadata(name, namespace),
        rules: Some(rules(entries)),
    };
    namespaces::ROLES.iter().map(made).collect()
}

/// All default bindings of roles.
pub(crate) fn role_bindings() -> Vec<RoleBinding> {
    let made = |(namespace, name, role, subjects): &(&str, &str, &str, &str)| RoleBinding {
        metadata: metadata(name, namespace),
        role_ref: role_ref("Role", role),
        subjects: Some(subjects.split_whitespace().map(subject).collect()),
    };
    namespaces::BINDINGS.iter().map(made).collect()
}

fn role_ref(kind: &str, name: &str) -> RoleRef {
    RoleRef {
        api_group: GROUP.to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
    }
}

/// `group=<name>`, `user=<name>` or `account=<name>`, the last in kube-system.
fn subject(text: &str) -> Subject {
    let (kind, name) = match text.split_once('=') {
        Some(("account", name)) => return service_account(name),
        Some(("group", name)) => ("Group", name),
        Some((_, name)) => ("User", name),
        None => ("User", text),
    };
    Subject {
        api_group: Some(GROUP.to_owned()),
        kind: kind.to_owned(),
        name: name.to_owned(),
        namespace: None,
    }
}

fn service_account(name: &str) -> Subject {
    Subject {
        api_group: None,
        kind: "ServiceAccount".to_owned(),
        name: name.to_owned(),
        namespace: Some("kube-system".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn tables_are_sound() {
        let roles = cluster_roles();
        let names: BTreeSet<&str> = roles.iter().filter_map(|role| role.metadata.name.as_deref()).collect();
        assert_eq!(names.len(), roles.len(), "every role once");
        for binding in cluster_role_bindings() {
            assert!(
                names.contains(binding.role_ref.name.as_str()),
                "{:?}",
                binding.metadata.name
            );
        }
        for role in &roles {
            for rule in role.rules.iter().flatten() {
                assert!(!rule.verbs.is_empty(), "{:?}", role.metadata.name);
                let resources =
                    rule.resources.iter().flatten().count() > 0 && rule.api_groups.iter().flatten().count() > 0;
                assert!(
                    resources != rule.non_resource_urls.is_some(),
                    "{:?}",
                    role.metadata.name
                );
            }
        }
        let own: BTreeSet<(Option<String>, Option<String>)> = super::roles()
            .into_iter()
            .map(|role| (role.metadata.namespace, role.metadata.name))
            .collect();
        for binding in role_bindings() {
            assert!(own.contains(&(binding.metadata.namespace, Some(binding.role_ref.name))));
        }
    }
}
