//! Role-based access control: roles hold rules, bindings give roles to users and groups, everywhere or in a namespace.
//!
//! ```text
//!   user, groups ──▶ bindings (cluster-wide, of the namespace) ──▶ roles ──▶ rules: the first that allows it decides
//! ```
//!
//! Bindings are kept by subject and roles by name, so that a request looks at the few that are about whoever asks. Both follow
//! the watch caches change by change.
//! <https://kubernetes.io/docs/reference/access-authn-authz/rbac/>

use super::rule::Rule;
use super::{Attempt, PathRule, ResourceRule, Rules};
use crate::authn::{Identity, service_account_user};
use crate::registry::Table;
use crate::registry::resource::Change;
use crate::watch_cache::{Caches, Record};
use crate::watch_cache::{Follower, News, Position};
use catamaran_api::field::quote;
use k8s_openapi::api::rbac::v1::{PolicyRule, RoleRef, Subject};
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;

const API_VERSION: &str = "rbac.authorization.k8s.io/v1";
/// In the order of [`Rbac::followers`].
const PLURALS: [&str; 4] = ["clusterroles", "roles", "clusterrolebindings", "rolebindings"];

/// The index, and what it follows.
pub(crate) struct Rbac {
    followers: [Follower; 4],
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    positions: [Position; 4],
    index: Index,
}

/// Roles by name and bindings by subject; the namespace of what is cluster-wide is "".
#[derive(Default)]
struct Index {
    roles: HashMap<String, HashMap<String, Arc<[Rule]>>>,
    bindings: HashMap<String, BySubject>,
    /// By the key in the store, to find a binding when it changes.
    by_key: HashMap<Arc<str>, Arc<Binding>>,
}

#[derive(Default)]
struct BySubject {
    users: HashMap<String, Vec<Arc<Binding>>>,
    groups: HashMap<String, Vec<Arc<Binding>>>,
}

struct Binding {
    key: Arc<str>,
    namespace: String,
    name: String,
    role: RoleRef,
    subjects: Vec<Subject>,
}

impl Rbac {
    pub(crate) fn new(table: &Table, caches: &Caches) -> Self {
        Rbac {
            followers: PLURALS.map(|plural| Follower::new(table, caches, API_VERSION, plural)),
            state: RwLock::default(),
        }
    }

    /// Calls `read` with the index as the caches are now.
    fn with<T>(&self, read: impl FnOnce(&Index) -> T) -> T {
        let behind = |state: &State| {
            let mut all = self.followers.iter().zip(&state.positions);
            all.any(|(follower, position)| follower.is_behind(position))
        };
        let state = self.state.read();
        if !behind(&state) {
            return read(&state.index);
        }
        drop(state);
        let mut state = self.state.write();
        let State { positions, index } = &mut *state;
        for (number, (follower, position)) in self.followers.iter().zip(positions).enumerate() {
            index.apply(number, follower.news(position));
        }
        read(&state.index)
    }

    pub(crate) fn allows(&self, attempt: &Attempt<'_>) -> bool {
        self.with(|index| index.find(attempt, |_| {}).is_some())
    }

    /// By what it is allowed; empty if it is not.
    pub(super) fn why_allowed(&self, attempt: &Attempt<'_>) -> String {
        self.with(|index| match index.find(attempt, |_| {}) {
            Some((binding, subject)) => format!("RBAC: allowed by {}", binding.describe(subject)),
            None => String::new(),
        })
    }

    /// What was wrong with the bindings that do not allow it; empty if nothing was.
    pub(super) fn why_denied(&self, attempt: &Attempt<'_>) -> String {
        self.with(|index| {
            let mut errors = Vec::new();
            index.find(attempt, |binding| errors.push(binding.lacks_role()));
            match errors.as_slice() {
                [] => String::new(),
                errors => format!("RBAC: [{}]", errors.join(" ")),
            }
        })
    }

    /// All rules somebody has in a namespace, and what was wrong with their bindings.
    pub(crate) fn rules_for(&self, identity: &Identity, namespace: &str) -> (Vec<Rule>, Vec<String>) {
        self.with(|index| {
            let (mut rules, mut errors) = (Vec::new(), Vec::new());
            index.each_binding(identity, namespace, |binding, _| {
                match index.role(binding) {
                    Some(role) => rules.extend(role.iter().cloned()),
                    None => errors.push(binding.lacks_role()),
                }
                false
            });
            (rules, errors)
        })
    }

    /// The rules of the role a binding in `namespace` refers to.
    pub(crate) fn rules_of(&self, role: &RoleRef, namespace: &str) -> Option<Vec<Rule>> {
        let namespace = if role.kind == "Role" { namespace } else { "" };
        self.with(|index| Some(index.roles.get(namespace)?.get(&role.name)?.to_vec()))
    }

    pub(super) fn rules(&self, identity: &Identity, namespace: &str) -> Rules {
        let (own, errors) = self.rules_for(identity, namespace);
        let mut rules = Rules {
            error: errors.join(", "),
            ..Rules::default()
        };
        for rule in own {
            if !rule.resources.is_empty() {
                rules.resources.push(ResourceRule {
                    verbs: rule.verbs.clone(),
                    groups: rule.groups,
                    plurals: rule.resources,
                    names: rule.names,
                });
            }
            if !rule.paths.is_empty() {
                rules.paths.push(PathRule {
                    verbs: rule.verbs,
                    paths: rule.paths,
                });
            }
        }
        rules
    }
}

impl Index {
    /// The first binding that allows it, and the subject it is for. `broken` is told of bindings without a role.
    fn find(&self, attempt: &Attempt<'_>, mut broken: impl FnMut(&Binding)) -> Option<(Arc<Binding>, &Subject)> {
        let namespace = attempt.resource.as_ref().map_or("", |resource| resource.namespace);
        let mut found = None;
        self.each_binding(attempt.identity, namespace, |binding, subject| {
            match self.role(binding) {
                Some(rules) if rules.iter().any(|rule| rule.allows(attempt)) => {
                    found = Some((Arc::clone(binding), subject));
                    true
                }
                Some(_) => false,
                None => {
                    broken(binding);
                    false
                }
            }
        });
        found
    }

    /// Calls `visit` with every binding of somebody, the cluster-wide ones first, until it returns true.
    fn each_binding<'i>(
        &'i self,
        identity: &Identity,
        namespace: &str,
        mut visit: impl FnMut(&'i Arc<Binding>, &'i Subject) -> bool,
    ) {
        let places = ["", namespace];
        let places = if namespace.is_empty() {
            &places[..1]
        } else {
            &places[..]
        };
        for place in places {
            let Some(bindings) = self.bindings.get(*place) else {
                continue;
            };
            let users = bindings.users.get(&identity.user).into_iter().flatten();
            for binding in users {
                let subject = binding
                    .subjects
                    .iter()
                    .find(|own| binding.user(own).as_deref() == Some(&*identity.user));
                if subject.is_some_and(|subject| visit(binding, subject)) {
                    return;
                }
            }
            for group in &identity.groups {
                for binding in bindings.groups.get(group).into_iter().flatten() {
                    let is_group = |own: &&Subject| own.kind == "Group" && own.name == *group;
                    if binding
                        .subjects
                        .iter()
                        .find(is_group)
                        .is_some_and(|subject| visit(binding, subject))
                    {
                        return;
                    }
                }
            }
        }
    }

    fn role(&self, binding: &Binding) -> Option<&Arc<[Rule]>> {
        let namespace = if binding.role.kind == "Role" {
            binding.namespace.as_str()
        } else {
            ""
        };
        self.roles.get(namespace)?.get(&binding.role.name)
    }

    /// `number` is that of the kind in [`PLURALS`].
    fn apply(&mut self, number: usize, news: News) {
        let roles = number < 2;
        match news {
            News::Steps(steps) => {
                for step in steps {
                    match step.change {
                        Change::Deleted if roles => self.remove_role(&step.new),
                        Change::Deleted => self.remove_binding(&step.new.key),
                        Change::Added | Change::Modified if roles => self.set_role(&step.new),
                        Change::Added | Change::Modified => self.set_binding(&step.new),
                    }
                }
            }
            News::Anew(records) => {
                let cluster_wide = number.is_multiple_of(2);
                if roles {
                    self.roles.retain(|namespace, _| namespace.is_empty() != cluster_wide);
                    records.iter().for_each(|record| self.set_role(record));
                } else {
                    self.bindings
                        .retain(|namespace, _| namespace.is_empty() != cluster_wide);
                    self.by_key
                        .retain(|_, binding| binding.namespace.is_empty() != cluster_wide);
                    records.iter().for_each(|record| self.set_binding(record));
                }
            }
        }
    }

    fn set_role(&mut self, record: &Record) {
        #[derive(serde::Deserialize)]
        struct AnyRole {
            rules: Option<Vec<PolicyRule>>,
        }
        let rules = match serde_json::from_slice::<AnyRole>(&record.json()) {
            Ok(role) => role.rules.unwrap_or_default(),
            // Rules that cannot be read allow nothing.
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    role = record.name(),
                    "a role cannot be read"
                );
                Vec::new()
            }
        };
        let namespace = record.namespace().unwrap_or_default().to_owned();
        let rules = rules.into_iter().map(Rule::from).collect();
        self.roles
            .entry(namespace)
            .or_default()
            .insert(record.name().to_owned(), rules);
    }

    fn remove_role(&mut self, record: &Record) {
        let namespace = record.namespace().unwrap_or_default();
        if let Some(roles) = self.roles.get_mut(namespace) {
            roles.remove(record.name());
            if roles.is_empty() {
                self.roles.remove(namespace);
            }
        }
    }

    fn set_binding(&mut self, record: &Record) {
        self.remove_binding(&record.key);
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct AnyBinding {
            role_ref: RoleRef,
            subjects: Option<Vec<Subject>>,
        }
        let read: AnyBinding = match serde_json::from_slice(&record.json()) {
            Ok(read) => read,
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "a role binding cannot be read"
                );
                return;
            }
        };
        let binding = Arc::new(Binding {
            key: Arc::clone(&record.key),
            namespace: record.namespace().unwrap_or_default().to_owned(),
            name: record.name().to_owned(),
            role: read.role_ref,
            subjects: read.subjects.unwrap_or_default(),
        });
        let place = self.bindings.entry(binding.namespace.clone()).or_default();
        for subject in &binding.subjects {
            let list = match binding.user(subject) {
                Some(user) => place.users.entry(user.into_owned()).or_default(),
                None if subject.kind == "Group" => place.groups.entry(subject.name.clone()).or_default(),
                None => continue,
            };
            if !list.iter().any(|own| Arc::ptr_eq(own, &binding)) {
                list.push(Arc::clone(&binding));
            }
        }
        self.by_key.insert(Arc::clone(&binding.key), binding);
    }

    fn remove_binding(&mut self, key: &Arc<str>) {
        let Some(binding) = self.by_key.remove(key) else { return };
        let Some(place) = self.bindings.get_mut(&binding.namespace) else {
            return;
        };
        for subject in &binding.subjects {
            let (map, name) = match binding.user(subject) {
                Some(user) => (&mut place.users, user.into_owned()),
                None => (&mut place.groups, subject.name.clone()),
            };
            if let Some(list) = map.get_mut(&name) {
                list.retain(|own| !Arc::ptr_eq(own, &binding));
                if list.is_empty() {
                    map.remove(&name);
                }
            }
        }
        if place.users.is_empty() && place.groups.is_empty() {
            self.bindings.remove(&binding.namespace);
        }
    }
}

impl Binding {
    /// The user a subject stands for; `None` for groups.
    fn user<'s>(&self, subject: &'s Subject) -> Option<std::borrow::Cow<'s, str>> {
        match subject.kind.as_str() {
            "User" => Some(subject.name.as_str().into()),
            "ServiceAccount" => {
                let namespace = subject.namespace.as_deref().filter(|namespace| !namespace.is_empty());
                Some(service_account_user(namespace.unwrap_or(&self.namespace), &subject.name).into())
            }
            _ => None,
        }
    }

    fn describe(&self, subject: &Subject) -> String {
        let (kind, name) = match self.namespace.as_str() {
            "" => ("ClusterRoleBinding", self.name.clone()),
            namespace => ("RoleBinding", format!("{}/{namespace}", self.name)),
        };
        let whom = match subject.kind.as_str() {
            "ServiceAccount" => {
                let namespace = subject.namespace.as_deref().filter(|namespace| !namespace.is_empty());
                format!("{}/{}", subject.name, namespace.unwrap_or(&self.namespace))
            }
            _ => subject.name.clone(),
        };
        format!(
            "{kind} {} of {} {} to {} {}",
            quote(&name),
            self.role.kind,
            quote(&self.role.name),
            subject.kind,
            quote(&whom)
        )
    }

    fn lacks_role(&self) -> String {
        let kind = self.role.kind.to_lowercase();
        format!("{kind}.rbac.authorization.k8s.io {} not found", quote(&self.role.name))
    }
}
