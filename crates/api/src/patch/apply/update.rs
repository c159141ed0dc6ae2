//! What a write does to the owners of an object's fields.

use std::sync::LazyLock;

use jiff::Timestamp;
use serde_json::Value;

use super::compare::{Comparison, compare};
use super::conflict::{Conflict, Conflicts};
use super::managers::{Entry, Managers, Operation, Owner};
use super::merge::{merge, without};
use super::set::Set;
use super::typed::{TypedErrors, check, fields, reconcile, with_named_fields};
use super::values::same;
use super::{Element, LAST_APPLIED};
use crate::schema::Node;

/// The versions of a kind, as far as they are served.
pub trait Versions {
    /// The type of objects of a version; `None` if it is not served any more.
    fn node(&self, api_version: &str) -> Option<Node<'_>>;

    /// The object in another version. Only called for versions that have a [`node`](Self::node).
    fn convert(&self, object: &Value, api_version: &str) -> Option<Value>;
}

/// A write, as far as ownership is concerned.
#[derive(Clone, Copy)]
pub struct Write<'a> {
    pub versions: &'a dyn Versions,
    /// The version in which it is made.
    pub api_version: &'a str,
    /// Empty for the resource itself.
    pub subresource: &'a str,
    pub manager: &'a str,
    /// Fields which this endpoint cannot set, whoever tries.
    pub ignored: &'a Set,
    pub now: Timestamp,
}

/// What an apply comes to.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The object as it shall be; `None` if it is that already.
    pub object: Option<Value>,
    pub managers: Managers,
}

/// Why an apply is refused.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ApplyError {
    #[error("the fields are owned by others")]
    Conflicts(Conflicts),
    #[error("failed to create typed patch object ({name}): {errors}")]
    Patch { name: String, errors: TypedErrors },
    #[error("failed to create typed live object ({name}): {errors}")]
    Live { name: String, errors: TypedErrors },
    #[error("failed to merge config: {0}")]
    Merge(TypedErrors),
    #[error("no corresponding type for {0}")]
    NoType(String),
}

/// Fields that are nobody's: identity, and what the server keeps.
static STRIPPED: LazyLock<Set> = LazyLock::new(|| {
    let mut set = Set::of_fields(&[&["apiVersion"], &["kind"], &["metadata"]]);
    for field in [
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    ] {
        set.insert(&[Element::field("metadata"), Element::field(field)]);
    }
    set
});

impl<'a> Write<'a> {
    fn owner(&self, operation: Operation) -> Owner {
        let manager = if self.manager.is_empty() {
            "unknown"
        } else {
            self.manager
        };
        Owner {
            manager: manager.to_owned(),
            operation,
            api_version: self.api_version.to_owned(),
            subresource: self.subresource.to_owned(),
        }
    }

    fn node(&self) -> Result<Node<'a>, ApplyError> {
        let node = self.versions.node(self.api_version);
        node.ok_or_else(|| ApplyError::NoType(self.api_version.to_owned()))
    }
}

/// The owners after an object has become another by a create, update or patch: what changed is the writer's. `live` is the empty
/// object of its kind for a create. An object nobody owns a field of stays so, unless it is new.
pub fn update(write: &Write<'_>, live: &Value, new: &Value, managers: Managers) -> Managers {
    let is_new = live.pointer("/metadata/uid").is_none();
    if managers.0.is_empty() && !is_new {
        return managers;
    }
    let mut managers = track(write, live, new, managers);
    managers.cap();
    managers
}

fn track(write: &Write<'_>, live: &Value, new: &Value, mut managers: Managers) -> Managers {
    let Ok(node) = write.node() else { return managers };
    let changes = compare(node, live, new).excluding(write.ignored);
    if changes.is_same() {
        return managers;
    }
    reconcile_all(write, &mut managers);
    // Whether the writer has been here before makes no difference: what it changes it owns.
    transfer(write, (live, new), &changes, &mut managers, None);
    let Comparison { modified, added, .. } = changes;
    let own = modified
        .union(added)
        .recursive_difference(write.ignored)
        .difference(&STRIPPED);
    if own.is_empty() {
        return managers;
    }
    let owner = write.owner(Operation::Update);
    let previous = managers.take(&owner).map(|entry| entry.fields).unwrap_or_default();
    managers.0.push(Entry {
        owner,
        time: Some(write.now),
        fields: previous.union(own),
    });
    managers
}

/// Takes what changed from everybody but `except`, and returns what that was.
fn transfer(
    write: &Write<'_>,
    (live, new): (&Value, &Value),
    changes: &Comparison,
    managers: &mut Managers,
    except: Option<&Owner>,
) -> Vec<(Owner, Set)> {
    let mut taken = Vec::new();
    let mut elsewhere: Vec<(String, Option<Comparison>)> = Vec::new();
    managers.0.retain_mut(|entry| {
        if except.is_some_and(|except| entry.owner.is(except)) {
            return true;
        }
        let version = &entry.owner.api_version;
        let changes = if version == write.api_version {
            changes
        } else {
            let known = elsewhere
                .iter()
                .position(|(known, _)| known == version)
                .unwrap_or_else(|| {
                    elsewhere.push((version.clone(), compare_as(write.versions, live, new, version)));
                    elsewhere.len() - 1
                });
            match &elsewhere[known].1 {
                Some(changes) => changes,
                // The version is not served any more.
                None => return false,
            }
        };
        let mut conflict = entry.fields.intersection(&changes.modified);
        if !changes.added.is_empty() {
            conflict = conflict.union(entry.fields.intersection(&changes.added));
        }
        let fields = std::mem::take(&mut entry.fields);
        entry.fields = fields.difference(&conflict).difference(&changes.removed);
        if !conflict.is_empty() {
            taken.push((entry.owner.clone(), conflict));
        }
        !entry.fields.is_empty()
    });
    taken
}

fn compare_as(versions: &dyn Versions, live: &Value, new: &Value, version: &str) -> Option<Comparison> {
    let node = versions.node(version)?;
    let (live, new) = (versions.convert(live, version)?, versions.convert(new, version)?);
    Some(compare(node, &live, &new))
}

fn reconcile_all(write: &Write<'_>, managers: &mut Managers) {
    managers
        .0
        .retain_mut(|entry| match write.versions.node(&entry.owner.api_version) {
            Some(node) => {
                reconcile(&mut entry.fields, node);
                true
            }
            None => false,
        });
}

/// Applies a declaration to an object. `live` is the empty object of its kind if there is none yet; neither has `managedFields`.
///
/// # Errors
/// Conflicts, unless `force` resolves them; a declaration that does not fit its schema.
pub fn apply(
    write: &Write<'_>,
    live: &Value,
    applied: &Value,
    mut managers: Managers,
    force: bool,
) -> Result<Applied, ApplyError> {
    if managers.0.is_empty() {
        let empty = serde_json::json!({});
        let before = Write {
            manager: "before-first-apply",
            ..*write
        };
        managers = track(&before, &empty, &without_server_fields(live), managers);
    }
    let node = write.node()?;
    check(node, applied, false).map_err(|errors| ApplyError::Patch {
        name: object_name(applied),
        errors,
    })?;
    check(node, live, true).map_err(|errors| ApplyError::Live {
        name: object_name(live),
        errors,
    })?;
    let outcome = match apply_once(write, live, applied, managers.clone(), force) {
        Err(ApplyError::Conflicts(conflicts)) if write.manager == "kubectl" => {
            match allowed_by_last_applied(write, node, live) {
                None => return Err(ApplyError::Conflicts(conflicts)),
                Some(allowed) => {
                    let mut left = conflicts;
                    left.0.retain(|conflict| !allowed.has(&conflict.path));
                    if !left.0.is_empty() {
                        return Err(ApplyError::Conflicts(left));
                    }
                    apply_once(write, live, applied, managers, true)
                }
            }
        }
        other => other,
    };
    let mut outcome = outcome?;
    if write.manager == "kubectl" {
        renew_last_applied(live, applied, &mut outcome.object);
    }
    Ok(outcome)
}

/// An object that exists has what the server gave it, which nobody shall own.
fn without_server_fields(live: &Value) -> Value {
    let mut live = live.clone();
    if let Some(fields) = live.as_object_mut()
        && fields
            .get("metadata")
            .and_then(Value::as_object)
            .is_none_or(|metadata| !metadata.contains_key("uid"))
    {
        // Nothing is there yet.
        fields.clear();
    }
    live
}

fn apply_once(
    write: &Write<'_>,
    live: &Value,
    applied: &Value,
    mut managers: Managers,
    force: bool,
) -> Result<Applied, ApplyError> {
    let node = write.node()?;
    reconcile_all(write, &mut managers);
    let merged = merge(node, live, applied).map_err(ApplyError::Merge)?;
    let owner = write.owner(Operation::Apply);
    let last = managers.take(&owner);
    managers.0.push(Entry {
        owner: owner.clone(),
        time: last.as_ref().and_then(|last| last.time),
        fields: fields(node, applied).recursive_difference(write.ignored),
    });
    let object = match &last {
        Some(last) if !last.fields.is_empty() => prune(write, merged, &managers, last),
        _ => merged,
    };
    let changes = compare(node, live, &object).excluding(write.ignored);
    let taken = transfer(write, (live, &object), &changes, &mut managers, Some(&owner));
    if !force && !taken.is_empty() {
        return Err(ApplyError::Conflicts(conflicts(taken)));
    }
    let is_same = same(live, &object);
    if let Some(entry) = managers.get_mut(&owner) {
        entry.fields = std::mem::take(&mut entry.fields).difference(&STRIPPED);
        if !is_same {
            entry.time = Some(write.now);
        }
    }
    managers.0.retain(|entry| !entry.fields.is_empty());
    Ok(Applied {
        object: (!is_same).then_some(object),
        managers,
    })
}

fn conflicts(mut taken: Vec<(Owner, Set)>) -> Conflicts {
    taken.sort_by(|(a, _), (b, _)| {
        let key = |owner: &Owner| {
            (
                owner.manager.clone(),
                owner.operation,
                owner.api_version.clone(),
                owner.subresource.clone(),
            )
        };
        key(a).cmp(&key(b))
    });
    let each = taken.into_iter().flat_map(|(owner, fields)| {
        let paths = fields.paths().into_iter();
        paths.map(move |path| Conflict {
            owner: owner.clone(),
            path,
        })
    });
    Conflicts(each.collect())
}

/// Removes what the manager applied last time, does not apply now, and nobody else owns.
fn prune(write: &Write<'_>, merged: Value, managers: &Managers, last: &Entry) -> Value {
    let version = last.owner.api_version.as_str();
    let Some(node) = write.versions.node(version) else {
        return merged;
    };
    let in_version = |object: &Value, version: &str| {
        if object.get("apiVersion").and_then(Value::as_str) == Some(version) {
            return Some(object.clone());
        }
        write.versions.convert(object, version)
    };
    let Some(whole) = in_version(&merged, version) else {
        return merged;
    };
    let last_fields = with_named_fields(last.fields.clone(), node);
    let mut pruned = without(node, &whole, &last_fields);
    let mut whole_there = whole.clone();
    // Its own version first: what was pruned may be needed to convert.
    let mut versions: Vec<&str> = vec![version];
    for entry in &managers.0 {
        if !versions.contains(&entry.owner.api_version.as_str()) {
            versions.push(&entry.owner.api_version);
        }
    }
    for version in versions {
        let owned = managers.0.iter().filter(|entry| entry.owner.api_version == version);
        let Some(owned) = owned.map(|entry| entry.fields.clone()).reduce(Set::union) else {
            continue;
        };
        let Some(node) = write.versions.node(version) else {
            continue;
        };
        let (Some(all), Some(rest)) = (in_version(&whole_there, version), in_version(&pruned, version)) else {
            continue;
        };
        pruned = add_back(node, &all, &rest, owned);
        whole_there = all;
    }
    let Some(pruned) = in_version(&pruned, version) else {
        return merged;
    };
    // What this manager did not own stays.
    let before = with_named_fields(fields(node, &whole), node);
    let after = with_named_fields(fields(node, &pruned), node);
    let doomed = before.difference(&after).intersection(&last_fields);
    let result = without(node, &whole, &doomed);
    in_version(&result, write.api_version).unwrap_or(merged)
}

/// `all` without what is neither in `rest` nor owned.
fn add_back(node: Node<'_>, all: &Value, rest: &Value, owned: Set) -> Value {
    let kept = with_named_fields(fields(node, rest), node).union(with_named_fields(owned, node));
    let doomed = with_named_fields(fields(node, all), node).difference(&kept);
    without(node, all, &doomed)
}

/// Fields that a client-side apply set, as its annotation says, and that are still as it left them: `kubectl` may take them over
/// without a conflict.
fn allowed_by_last_applied(write: &Write<'_>, node: Node<'_>, live: &Value) -> Option<Set> {
    let annotation = live.pointer("/metadata/annotations")?.get(LAST_APPLIED)?.as_str()?;
    let last: Value = serde_json::from_str(annotation).ok()?;
    if last.get("apiVersion")?.as_str()? != write.api_version {
        return None;
    }
    check(node, &last, false).ok()?;
    let changes = compare(node, &last, live);
    let allowed = fields(node, &last)
        .difference(&changes.modified)
        .difference(&changes.added);
    Some(allowed.difference(&changes.removed))
}

/// Keeps the annotation of client-side apply true, where it is there.
fn renew_last_applied(live: &Value, applied: &Value, object: &mut Option<Value>) {
    let now = object.as_ref().unwrap_or(live);
    let annotations = now.pointer("/metadata/annotations").and_then(Value::as_object);
    let Some(before) = annotations.and_then(|annotations| annotations.get(LAST_APPLIED)?.as_str()) else {
        return;
    };
    let mut bare = applied.clone();
    if let Some(annotations) = bare.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove(LAST_APPLIED);
    }
    let renewed = format!("{bare}\n");
    if renewed == before || before.is_empty() {
        return;
    }
    let mut object_now = now.clone();
    if let Some(annotations) = object_now
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
    {
        annotations.insert(LAST_APPLIED.to_owned(), renewed.into());
    }
    *object = Some(object_now);
}

/// `default/web; apps/v1, Kind=Deployment`.
fn object_name(object: &Value) -> String {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
    let version = text("/apiVersion");
    let slash = if version.contains('/') { "" } else { "/" };
    format!("{namespace}/{name}; {slash}{version}, Kind={}", text("/kind"))
}
