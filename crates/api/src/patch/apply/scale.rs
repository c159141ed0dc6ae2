//! Ownership through the `scale` subresource: whoever owns an object's replicas owns `spec.replicas` of its scale, and the other
//! way round.

use super::element::Element;
use super::managers::{Entry, Managers, Operation, Owner};
use super::set::Set;

const SCALE_VERSION: &str = "autoscaling/v1";

/// Where the replicas are in each version of a kind: `apps/v1` → `spec.replicas`. A version without replicas has `None`.
pub type ReplicasPaths<'a> = &'a [(&'a str, Option<Vec<Element>>)];

fn path_of<'a>(paths: ReplicasPaths<'a>, version: &str) -> Option<Option<&'a [Element]>> {
    let (_, path) = paths.iter().find(|(known, _)| *known == version)?;
    Some(path.as_deref())
}

fn scale_fields() -> Set {
    Set::of_fields(&[&["spec", "replicas"]])
}

/// The owners of a scale, given those of its object.
pub fn to_scale(parent: &Managers, paths: ReplicasPaths<'_>) -> Managers {
    let owns = |entry: &&Entry| {
        let path = path_of(paths, &entry.owner.api_version).flatten();
        path.is_some_and(|path| entry.fields.has(path))
    };
    let entries = parent.0.iter().filter(owns).map(|entry| Entry {
        owner: Owner {
            api_version: SCALE_VERSION.to_owned(),
            ..entry.owner.clone()
        },
        time: entry.time,
        fields: scale_fields(),
    });
    Managers(entries.collect())
}

/// The owners of an object after a write to its scale, given those of the scale. `version` is that of the object.
pub fn from_scale(parent: Managers, scale: Managers, version: &str, paths: ReplicasPaths<'_>) -> Managers {
    // An update of the object is known to its scale under the scale's version.
    let is_same = |own: &Owner, of_scale: &Owner| {
        own.manager == of_scale.manager
            && own.operation == of_scale.operation
            && own.subresource == of_scale.subresource
    };
    let mut left = scale.0;
    let mut managers = Managers::default();
    for mut entry in parent.0 {
        let Some(path) = path_of(paths, &entry.owner.api_version) else {
            continue;
        };
        if let Some(path) = path.filter(|path| entry.fields.has(path)) {
            match left.iter().position(|of_scale| is_same(&entry.owner, &of_scale.owner)) {
                // Not taken.
                Some(at) => {
                    let of_scale = left.remove(at);
                    entry.time = of_scale.time.or(entry.time);
                }
                None => {
                    let mut gone = Set::default();
                    gone.insert(path);
                    entry.fields = entry.fields.difference(&gone);
                }
            }
        }
        if !entry.fields.is_empty() {
            managers.0.push(entry);
        }
    }
    let spec_replicas = [Element::field("spec"), Element::field("replicas")];
    let Some(Some(path)) = path_of(paths, version) else {
        return managers;
    };
    for entry in left.into_iter().filter(|entry| entry.fields.has(&spec_replicas)) {
        let mut fields = Set::default();
        fields.insert(path);
        managers.0.push(Entry {
            owner: Owner {
                api_version: version.to_owned(),
                ..entry.owner
            },
            time: entry.time,
            fields,
        });
    }
    debug_assert!(
        managers
            .0
            .iter()
            .all(|entry| entry.owner.operation <= Operation::Update)
    );
    managers
}
