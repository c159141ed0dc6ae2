//! Groups and versions in the order in which clients should prefer them, whoever serves them.

use super::super::reviews;
use crate::aggregator::{Remote, Remotes};
use crate::kinds::{Info, KindRef};
use crate::registry::resource::Resource;
use catamaran_api::GroupVersionKind;
use std::cmp::Ordering;
use std::sync::Arc;

/// Verbs of every collection, sorted.
const VERBS: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

/// Priorities of the groups and versions that are built in: of the group, and of the version within it.
const PRIORITIES: &[(&str, &str, i32, i32)] = &[
    ("", "v1", 18_000, 1),
    ("apiregistration.k8s.io", "v1", 18_000, 15),
    ("apps", "v1", 17_800, 15),
    ("events.k8s.io", "v1", 17_750, 15),
    ("authentication.k8s.io", "v1", 17_700, 15),
    ("authorization.k8s.io", "v1", 17_600, 15),
    ("autoscaling", "v1", 17_500, 15),
    ("autoscaling", "v2", 17_500, 30),
    ("batch", "v1", 17_400, 15),
    ("certificates.k8s.io", "v1", 17_300, 15),
    ("networking.k8s.io", "v1", 17_200, 15),
    ("policy", "v1", 17_100, 15),
    ("rbac.authorization.k8s.io", "v1", 17_000, 15),
    ("storage.k8s.io", "v1", 16_800, 15),
    ("admissionregistration.k8s.io", "v1", 16_700, 15),
    ("apiextensions.k8s.io", "v1", 16_700, 15),
    ("scheduling.k8s.io", "v1", 16_600, 15),
    ("coordination.k8s.io", "v1", 16_500, 15),
    ("node.k8s.io", "v1", 16_300, 15),
    ("discovery.k8s.io", "v1", 16_200, 15),
    ("flowcontrol.apiserver.k8s.io", "v1", 16_100, 21),
    ("resource.k8s.io", "v1", 15_900, 30),
];

/// Priorities of a group and a version that this server serves. Groups that are defined at run time come after all others.
pub(crate) fn priorities(group: &str, version: &str) -> (i32, i32) {
    let found = PRIORITIES.iter().find(|(own, of, ..)| (*own, *of) == (group, version));
    found.map_or((1000, 100), |(.., group, version)| (*group, *version))
}

/// `apps/v1`; `v1` of the legacy group.
pub(super) fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}

pub(super) struct Groups(Vec<Group>);

pub(super) struct Group {
    pub(super) name: String,
    priority: i32,
    /// The preferred one first.
    pub(super) versions: Vec<Version>,
}

pub(super) struct Version {
    pub(super) name: String,
    priority: i32,
    pub(super) content: Content,
}

/// Who serves a version.
pub(super) enum Content {
    Local(Vec<Listed>),
    Remote(Arc<Remote>),
}

/// What one resource has to say.
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) singular: String,
    pub(super) namespaced: bool,
    pub(super) verbs: Vec<&'static str>,
    /// Names for short, categories, paths below: what only stored kinds have.
    pub(super) stored: Option<Stored>,
}

pub(super) struct Stored {
    pub(super) info: Info,
    /// The version that is kept.
    pub(super) storage: GroupVersionKind,
}

impl Groups {
    pub(super) fn of(resources: &[Arc<Resource>], remotes: &Remotes) -> Self {
        let mut groups = Groups(Vec::new());
        for resource in resources {
            let info = &resource.info;
            groups.local(&info.group, &info.version, listed(resource));
        }
        for review in reviews::ALL {
            let listed = Listed {
                name: review.plural.to_owned(),
                kind: review.kind.to_owned(),
                singular: review.plural.trim_end_matches('s').to_owned(),
                namespaced: review.namespaced,
                verbs: vec!["create"],
                stored: None,
            };
            groups.local(review.group, reviews::VERSION, listed);
        }
        for remote in &remotes.versions {
            groups.remote(remote);
        }
        groups.sort();
        groups
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Group> {
        self.0.iter()
    }

    /// All but the legacy group.
    pub(super) fn named(&self) -> impl Iterator<Item = &Group> {
        self.0.iter().filter(|group| !group.name.is_empty())
    }

    /// The legacy group.
    pub(super) fn core(&self) -> impl Iterator<Item = &Group> {
        self.0.iter().filter(|group| group.name.is_empty())
    }

    fn group(&mut self, name: &str, priority: i32) -> &mut Group {
        let index = self.0.iter().position(|group| group.name == name);
        let index = index.unwrap_or_else(|| {
            self.0.push(Group {
                name: name.to_owned(),
                priority,
                versions: Vec::new(),
            });
            self.0.len() - 1
        });
        let group = &mut self.0[index];
        group.priority = group.priority.max(priority);
        group
    }

    fn local(&mut self, group: &str, version: &str, listed: Listed) {
        let (of_group, of_version) = priorities(group, version);
        let group = self.group(group, of_group);
        for own in &mut group.versions {
            if let (true, Content::Local(list)) = (own.name == version, &mut own.content) {
                return list.push(listed);
            }
        }
        group.versions.push(Version {
            name: version.to_owned(),
            priority: of_version,
            content: Content::Local(vec![listed]),
        });
    }

    fn remote(&mut self, remote: &Arc<Remote>) {
        let group = self.group(&remote.group, remote.group_priority);
        group.versions.retain(|version| version.name != remote.version);
        group.versions.push(Version {
            name: remote.version.clone(),
            priority: remote.version_priority,
            content: Content::Remote(Arc::clone(remote)),
        });
    }

    fn sort(&mut self) {
        self.0
            .sort_by(|a, b| b.priority.cmp(&a.priority).then_with(|| a.name.cmp(&b.name)));
        for group in &mut self.0 {
            group.versions.sort_by(|a, b| {
                let by_priority = b.priority.cmp(&a.priority);
                by_priority.then_with(|| newest_first(&a.name, &b.name))
            });
            for version in &mut group.versions {
                if let Content::Local(list) = &mut version.content {
                    list.sort_by(|a, b| a.name.cmp(&b.name));
                }
            }
        }
    }
}

fn listed(resource: &Resource) -> Listed {
    let info = &resource.info;
    Listed {
        name: info.plural.to_string(),
        kind: info.kind.to_string(),
        singular: info.singular.clone(),
        namespaced: info.namespaced,
        verbs: verbs(resource),
        stored: Some(Stored {
            info: info.clone(),
            storage: resource.storage().gvk.clone(),
        }),
    }
}

/// A namespace is emptied before it goes, one by one: there is no deleting them all.
fn verbs(resource: &Resource) -> Vec<&'static str> {
    let builtin = matches!(resource.kind, KindRef::Builtin(_));
    let legacy = builtin && resource.info.group.is_empty();
    match resource.info.kind.as_ref() {
        "Binding" if legacy => vec!["create"],
        "ComponentStatus" if legacy => vec!["get", "list"],
        "Namespace" if legacy => without("deletecollection"),
        _ => VERBS.to_vec(),
    }
}

fn without(verb: &str) -> Vec<&'static str> {
    VERBS.iter().copied().filter(|own| *own != verb).collect()
}

/// `v2` before `v1` before `v1beta2` before `v1beta1` before `v1alpha1`; what is no such version comes last, by name.
pub(crate) fn newest_first(a: &str, b: &str) -> Ordering {
    match (rank(a), rank(b)) {
        (Some(a), Some(b)) => b.cmp(&a),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

/// How stable a version is, its number, and the number of the attempt at it.
fn rank(version: &str) -> Option<(u8, u32, u32)> {
    let rest = version.strip_prefix('v')?;
    let number = |text: &str| -> Option<u32> {
        let plain = !text.is_empty() && !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| text.parse().ok()).flatten()
    };
    for (word, stability) in [("beta", 1), ("alpha", 0)] {
        if let Some((major, minor)) = rest.split_once(word) {
            return Some((stability, number(major)?, number(minor)?));
        }
    }
    Some((2, number(rest)?, 0))
}
