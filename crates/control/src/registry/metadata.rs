//! What the system itself keeps in `metadata`, and the rules all kinds share about the rest.

use super::resource::Resource;
use crate::kinds::Object;
use catamaran_api::{Errors, Status, meta};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

/// Letters and digits of generated names: no vowels and nothing that looks alike, so that they spell no words.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX: usize = 5;
const LONGEST_GENERATED: usize = 63;

/// A name made of a prefix and five random characters.
pub(crate) fn generate_name(prefix: &str) -> String {
    let mut base = prefix;
    while base.len() > LONGEST_GENERATED - SUFFIX {
        base = &base[..base.char_indices().next_back().map_or(0, |(index, _)| index)];
    }
    let mut name = String::with_capacity(base.len() + SUFFIX);
    name.push_str(base);
    let random = uuid::Uuid::new_v4();
    name.extend(
        random.as_bytes()[..SUFFIX]
            .iter()
            .map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()])),
    );
    name
}

/// Now, to the second, as Kubernetes writes times.
pub(super) fn now() -> Time {
    let now = Timestamp::now();
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

/// Makes a new object's metadata the system's: identity and birth are ours, deletion has not begun.
pub(super) fn birth(meta: &mut ObjectMeta, has_generation: bool) {
    meta.uid = Some(uuid::Uuid::new_v4().to_string());
    meta.creation_timestamp = Some(now());
    meta.generation = has_generation.then_some(1);
    meta.deletion_timestamp = None;
    meta.deletion_grace_period_seconds = None;
    scrub(meta);
}

/// Puts back what no update may change, and takes out what is not kept.
pub(super) fn inherit(new: &mut ObjectMeta, old: &ObjectMeta) {
    new.name.clone_from(&old.name);
    new.namespace.clone_from(&old.namespace);
    new.generate_name.clone_from(&old.generate_name);
    new.uid.clone_from(&old.uid);
    new.creation_timestamp.clone_from(&old.creation_timestamp);
    new.deletion_timestamp.clone_from(&old.deletion_timestamp);
    new.deletion_grace_period_seconds = old.deletion_grace_period_seconds;
    new.generation = old.generation;
    scrub(new);
}

fn scrub(meta: &mut ObjectMeta) {
    meta.self_link = None;
    meta.resource_version = None;
    for map in [&mut meta.labels, &mut meta.annotations] {
        if map.as_ref().is_some_and(std::collections::BTreeMap::is_empty) {
            *map = None;
        }
    }
    for list in [&mut meta.finalizers] {
        if list.as_ref().is_some_and(Vec::is_empty) {
            *list = None;
        }
    }
    if meta.owner_references.as_ref().is_some_and(Vec::is_empty) {
        meta.owner_references = None;
    }
}

/// Errors in the metadata of an object.
pub(super) fn validate(resource: &Resource, object: &dyn Object) -> Errors {
    match alone(object.meta()) {
        Ok(value) => meta::validate(&value, resource.info.namespaced, resource.info.name_rule),
        Err(error) => failed(&error),
    }
}

/// Errors in a change of metadata.
pub(super) fn validate_update(new: &dyn Object, old: &dyn Object) -> Errors {
    match alone(new.meta()).and_then(|new| Ok((new, alone(old.meta())?))) {
        Ok((mut new, old)) => {
            // The version was compared when the objects were matched, and is not part of what is stored.
            new["metadata"]["resourceVersion"] = "0".into();
            meta::validate_update(&new, &old)
        }
        Err(error) => failed(&error),
    }
}

/// Metadata as the checks want it: JSON with nothing beside it. The owners of fields are left out: no check is about them, and
/// they are the larger part of most objects' metadata.
fn alone(meta: &ObjectMeta) -> Result<Value, serde_json::Error> {
    let checked = ObjectMeta {
        managed_fields: None,
        annotations: meta.annotations.clone(),
        creation_timestamp: meta.creation_timestamp.clone(),
        deletion_grace_period_seconds: meta.deletion_grace_period_seconds,
        deletion_timestamp: meta.deletion_timestamp.clone(),
        finalizers: meta.finalizers.clone(),
        generate_name: meta.generate_name.clone(),
        generation: meta.generation,
        labels: meta.labels.clone(),
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        owner_references: meta.owner_references.clone(),
        resource_version: meta.resource_version.clone(),
        self_link: meta.self_link.clone(),
        uid: meta.uid.clone(),
    };
    Ok(json!({ "metadata": serde_json::to_value(checked)? }))
}

fn failed(error: &serde_json::Error) -> Errors {
    let mut errors = Errors::new();
    errors.internal(&catamaran_api::Path::new("metadata"), error.to_string());
    errors
}

/// The namespace of the body must be that of the URL, if it is there at all.
pub(super) fn settle_namespace(meta: &mut ObjectMeta, namespace: Option<&str>) -> Result<(), Status> {
    let own = meta.namespace.as_deref().unwrap_or_default();
    match namespace {
        Some(namespace) if own.is_empty() => meta.namespace = Some(namespace.to_owned()),
        Some(namespace) if own != namespace => {
            return Err(Status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        Some(_) => {}
        None => {
            if own.is_empty() {
                meta.namespace = None;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_fit() {
        let name = generate_name("web-");
        assert!(name.starts_with("web-") && name.len() == 9, "{name}");
        assert_eq!(generate_name(&"é".repeat(60)).chars().count(), 29 + 5);
        assert!(generate_name(&"x".repeat(80)).len() == 63);
    }
}
