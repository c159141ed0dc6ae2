//! Metadata of untyped objects: reading and writing it, and the rules every kind shares.
//!
//! The API server's pipeline is generic, so it meets objects as JSON. [`Meta`] names the fields it needs once; a missing or
//! ill-typed field reads as empty, because field types were checked before ([`crate::schema`]).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value, json};

use crate::field::{Errors, Path};
use crate::names;

/// The fields of a JSON object.
pub type Object = Map<String, Value>;

/// All annotations of one object together, keys and values, in bytes.
pub const ANNOTATIONS_MAX: usize = 256 * 1024;

pub const FINALIZER_ORPHAN: &str = "orphan";
pub const FINALIZER_FOREGROUND: &str = "foregroundDeletion";

/// Reading and writing `metadata` on untyped objects.
pub trait Meta {
    fn api_version(&self) -> &str;
    fn kind(&self) -> &str;
    /// A string of `metadata`, empty if absent.
    fn meta_str(&self, field: &str) -> &str;
    fn meta_value(&self, field: &str) -> Option<&Value>;
    /// Sets a field of `metadata`, creating `metadata` where missing. `Value::Null` removes it.
    fn set_meta(&mut self, field: &str, value: impl Into<Value>);
    fn remove_meta(&mut self, field: &str) -> Option<Value>;

    fn name(&self) -> &str {
        self.meta_str("name")
    }
    fn generate_name(&self) -> &str {
        self.meta_str("generateName")
    }
    fn namespace(&self) -> &str {
        self.meta_str("namespace")
    }
    fn uid(&self) -> &str {
        self.meta_str("uid")
    }
    fn resource_version(&self) -> &str {
        self.meta_str("resourceVersion")
    }
    fn creation_timestamp(&self) -> &str {
        self.meta_str("creationTimestamp")
    }
    /// RFC 3339, empty while the object is not being deleted.
    fn deletion_timestamp(&self) -> &str {
        self.meta_str("deletionTimestamp")
    }
    fn is_terminating(&self) -> bool {
        !self.deletion_timestamp().is_empty()
    }
    fn deletion_grace_period_seconds(&self) -> Option<i64> {
        self.meta_value("deletionGracePeriodSeconds").and_then(Value::as_i64)
    }
    fn generation(&self) -> i64 {
        self.meta_value("generation").and_then(Value::as_i64).unwrap_or(0)
    }
    fn labels(&self) -> Option<&Object> {
        self.meta_value("labels").and_then(Value::as_object)
    }
    fn label(&self, key: &str) -> Option<&str> {
        self.labels()?.get(key)?.as_str()
    }
    fn annotations(&self) -> Option<&Object> {
        self.meta_value("annotations").and_then(Value::as_object)
    }
    fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations()?.get(key)?.as_str()
    }
    fn finalizers(&self) -> Vec<&str> {
        strings(self.meta_value("finalizers"))
    }
    fn has_finalizer(&self, finalizer: &str) -> bool {
        self.finalizers().contains(&finalizer)
    }
    fn owner_references(&self) -> &[Value] {
        self.meta_value("ownerReferences")
            .and_then(Value::as_array)
            .map_or(&[], Vec::as_slice)
    }
}

impl Meta for Value {
    fn api_version(&self) -> &str {
        self.get("apiVersion").and_then(Value::as_str).unwrap_or_default()
    }

    fn kind(&self) -> &str {
        self.get("kind").and_then(Value::as_str).unwrap_or_default()
    }

    fn meta_str(&self, field: &str) -> &str {
        self.meta_value(field).and_then(Value::as_str).unwrap_or_default()
    }

    fn meta_value(&self, field: &str) -> Option<&Value> {
        self.get("metadata")?.get(field)
    }

    fn set_meta(&mut self, field: &str, value: impl Into<Value>) {
        let value = value.into();
        if value.is_null() {
            self.remove_meta(field);
            return;
        }
        let Some(object) = self.as_object_mut() else { return };
        let metadata = object.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
        if !metadata.is_object() {
            *metadata = Value::Object(Map::new());
        }
        metadata[field] = value;
    }

    fn remove_meta(&mut self, field: &str) -> Option<Value> {
        self.get_mut("metadata")?.as_object_mut()?.remove(field)
    }
}

/// The strings of a JSON array; anything else is skipped.
pub fn strings(value: Option<&Value>) -> Vec<&str> {
    value
        .and_then(Value::as_array)
        .map_or_else(Vec::new, |items| items.iter().filter_map(Value::as_str).collect())
}

/// [`validate`] for the typed view of metadata.
pub fn validate_typed(metadata: &ObjectMeta, namespaced: bool, name_check: fn(&str) -> Vec<String>) -> Errors {
    validate(&json!({ "metadata": metadata }), namespaced, name_check)
}

/// [`validate_update`] for the typed view of metadata.
pub fn validate_update_typed(new: &ObjectMeta, old: &ObjectMeta) -> Errors {
    validate_update(&json!({ "metadata": new }), &json!({ "metadata": old }))
}

/// `metadata` of an object about to be created, as `ValidateObjectMeta`: `name_check` is the kind's rule for names. The name has
/// been generated by now if the client asked for that.
pub fn validate(object: &Value, namespaced: bool, name_check: fn(&str) -> Vec<String>) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("metadata");
    let (name, generate_name) = (object.name(), object.generate_name());
    if !generate_name.is_empty() {
        let messages = names::as_prefix(generate_name, name_check);
        errors.invalid_each(&path.child("generateName"), generate_name, messages);
    }
    if name.is_empty() {
        errors.required(&path.child("name"), "name or generateName is required");
    } else {
        errors.invalid_each(&path.child("name"), name, name_check(name));
    }
    let namespace = object.namespace();
    if !namespaced && !namespace.is_empty() {
        errors.forbidden(&path.child("namespace"), "not allowed on this type");
    } else if namespaced && namespace.is_empty() {
        errors.required(&path.child("namespace"), "");
    } else if namespaced {
        errors.invalid_each(&path.child("namespace"), namespace, names::dns1123_label(namespace));
    }
    validate_generation(object, &path, &mut errors);
    validate_labels(object.labels(), &path.child("labels"), &mut errors);
    validate_annotations(object.annotations(), &path.child("annotations"), &mut errors);
    validate_owners(object, &path.child("ownerReferences"), &mut errors);
    validate_finalizers(object, &path.child("finalizers"), &mut errors);
    errors
}

/// `metadata` of an update against what is stored, as `ValidateObjectMetaUpdate`.
pub fn validate_update(new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("metadata");
    if old.is_terminating() {
        let known = old.finalizers();
        let mut added: Vec<&str> = new
            .finalizers()
            .into_iter()
            .filter(|name| !known.contains(name))
            .collect();
        added.sort_unstable();
        added.dedup();
        if !added.is_empty() {
            let added: Vec<String> = added.into_iter().map(crate::field::quote).collect();
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                added.join(", ")
            );
            errors.forbidden(&path.child("finalizers"), detail);
        }
    }
    if new.resource_version().is_empty() {
        errors.invalid(&path.child("resourceVersion"), "", "must be specified for an update");
    }
    validate_generation(new, &path, &mut errors);
    if new.generation() < old.generation() {
        errors.invalid(&path.child("generation"), new.generation(), "must not be decremented");
    }
    for field in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        immutable(
            new.meta_value(field),
            old.meta_value(field),
            &path.child(field),
            &mut errors,
        );
    }
    validate_labels(new.labels(), &path.child("labels"), &mut errors);
    validate_annotations(new.annotations(), &path.child("annotations"), &mut errors);
    validate_owners(new, &path.child("ownerReferences"), &mut errors);
    validate_finalizers(new, &path.child("finalizers"), &mut errors);
    errors
}

/// Absent and null are the same value.
pub fn immutable(new: Option<&Value>, old: Option<&Value>, path: &Path<'_>, errors: &mut Errors) {
    let (new, old) = (new.unwrap_or(&Value::Null), old.unwrap_or(&Value::Null));
    if new != old {
        errors.invalid(path, new.clone(), "field is immutable");
    }
}

fn validate_generation(object: &Value, path: &Path<'_>, errors: &mut Errors) {
    let generation = object.generation();
    if generation < 0 {
        errors.invalid(
            &path.child("generation"),
            generation,
            "must be greater than or equal to 0",
        );
    }
}

pub fn validate_labels(labels: Option<&Object>, path: &Path<'_>, errors: &mut Errors) {
    for (key, value) in labels.into_iter().flatten() {
        errors.invalid_each(path, key, names::qualified_name(key));
        let value = value.as_str().unwrap_or_default();
        errors.invalid_each(path, value, names::label_value(value));
    }
}

/// Keys are label keys in any case; the size of all together is bounded.
pub fn validate_annotations(annotations: Option<&Object>, path: &Path<'_>, errors: &mut Errors) {
    let mut total = 0;
    for (key, value) in annotations.into_iter().flatten() {
        total += key.len() + value.as_str().map_or(0, str::len);
        errors.invalid_each(path, key, names::qualified_name(&key.to_lowercase()));
    }
    if total > ANNOTATIONS_MAX {
        errors.too_long(path, ANNOTATIONS_MAX);
    }
}

fn validate_owners(object: &Value, path: &Path<'_>, errors: &mut Errors) {
    let mut controller: Option<String> = None;
    for (index, owner) in object.owner_references().iter().enumerate() {
        let at = path.index(index);
        let text = |field: &str| owner.get(field).and_then(Value::as_str).unwrap_or_default();
        let api_version = text("apiVersion");
        if api_version.is_empty() {
            errors.required(&at.child("apiVersion"), "must not be empty");
        } else if crate::GroupVersion::parse(api_version).is_none() {
            errors.invalid(
                &at.child("apiVersion"),
                api_version,
                "must be <group>/<version> or <version>",
            );
        }
        for field in ["kind", "name", "uid"] {
            if text(field).is_empty() {
                errors.required(&at.child(field), "must not be empty");
            }
        }
        if api_version == "v1" && text("kind") == "Event" {
            errors.invalid(&at, owner.clone(), "/v1, Kind=Event is disallowed from being an owner");
        }
        if owner.get("controller") == Some(&Value::Bool(true)) {
            let this = format!("{}/{}", text("kind"), text("name"));
            if let Some(first) = &controller {
                let detail = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
                );
                errors.invalid(path, object.owner_references().to_vec(), detail);
            } else {
                controller = Some(this);
            }
        }
    }
}

fn validate_finalizers(object: &Value, path: &Path<'_>, errors: &mut Errors) {
    let finalizers = object.finalizers();
    for finalizer in &finalizers {
        errors.invalid_each(path, finalizer, names::qualified_name(finalizer));
        let known = [FINALIZER_ORPHAN, FINALIZER_FOREGROUND, "kubernetes"].contains(finalizer);
        if !finalizer.contains('/') && !known && names::qualified_name(finalizer).is_empty() {
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            errors.invalid(path, *finalizer, detail);
        }
    }
    if finalizers.contains(&FINALIZER_ORPHAN) && finalizers.contains(&FINALIZER_FOREGROUND) {
        let detail = format!("finalizer {FINALIZER_ORPHAN} and {FINALIZER_FOREGROUND} cannot be both set");
        errors.invalid(path, finalizers, detail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    #[allow(clippy::needless_pass_by_value, reason = "a golden reads best in place")]
    fn check(errors: &Errors, expected: Expect) {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        expected.assert_eq(&lines.join("\n"));
    }

    #[test]
    fn reading_and_writing() {
        let mut pod = json!({"kind": "Pod"});
        assert_eq!(pod.name(), "");
        pod.set_meta("name", "web");
        pod.set_meta("generation", 3);
        pod.set_meta("labels", json!({"app": "x"}));
        assert_eq!((pod.name(), pod.generation(), pod.label("app")), ("web", 3, Some("x")));
        pod.set_meta("name", Value::Null);
        assert_eq!(
            pod,
            json!({"kind": "Pod", "metadata": {"generation": 3, "labels": {"app": "x"}}})
        );
        let mut odd = json!({"metadata": 7});
        odd.set_meta("name", "a");
        assert_eq!(odd.name(), "a");
    }

    #[test]
    fn create() {
        let fine = json!({"metadata": {"name": "web", "namespace": "default", "labels": {"a": "b"}}});
        check(&validate(&fine, true, names::dns1123_subdomain), expect![""]);
        let bad = json!({"metadata": {
            "generation": -1,
            "labels": {"a b": "c d"},
            "finalizers": ["orphan", "foregroundDeletion", "mine"],
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Event", "name": "a", "uid": "u", "controller": true},
                {"apiVersion": "a/b/c", "kind": "", "name": "b", "uid": "u", "controller": true}]}});
        check(
            &validate(&bad, true, names::dns1123_subdomain),
            expect![[r#"
                metadata.name: Required value: name or generateName is required
                metadata.namespace: Required value
                metadata.generation: Invalid value: -1: must be greater than or equal to 0
                metadata.labels: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
                metadata.labels: Invalid value: "c d": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')
                metadata.ownerReferences[0]: Invalid value: {"apiVersion":"v1","controller":true,"kind":"Event","name":"a","uid":"u"}: /v1, Kind=Event is disallowed from being an owner
                metadata.ownerReferences[1].apiVersion: Invalid value: "a/b/c": must be <group>/<version> or <version>
                metadata.ownerReferences[1].kind: Required value: must not be empty
                metadata.ownerReferences: Invalid value: [{"apiVersion":"v1","controller":true,"kind":"Event","name":"a","uid":"u"},{"apiVersion":"a/b/c","controller":true,"kind":"","name":"b","uid":"u"}]: Only one reference can have Controller set to true. Found "true" in references for Event/a and /b
                metadata.finalizers: Invalid value: "mine": name is neither a standard finalizer name nor is it fully qualified
                metadata.finalizers: Invalid value: ["orphan","foregroundDeletion","mine"]: finalizer orphan and foregroundDeletion cannot be both set"#]],
        );
    }

    #[test]
    fn update() {
        let old = json!({"metadata": {
            "name": "a", "uid": "1", "generation": 2, "finalizers": ["x/y"], "deletionTimestamp": "2026-01-01T00:00:00Z"}});
        let new = json!({"metadata": {"name": "b", "uid": "1", "generation": 1, "finalizers": ["x/y", "x/z"]}});
        check(
            &validate_update(&new, &old),
            expect![[r#"
                metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{"x/z"}
                metadata.resourceVersion: Invalid value: "": must be specified for an update
                metadata.generation: Invalid value: 1: must not be decremented
                metadata.name: Invalid value: "b": field is immutable
                metadata.deletionTimestamp: Invalid value: null: field is immutable"#]],
        );
    }
}
