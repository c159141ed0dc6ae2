//! Metadata of objects, embedded ones included: their form, and what it has to be.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value};

use super::Schema;
use crate::field::{Errors, FieldError, Path, Reason};
use crate::{meta, names};

/// Brings the metadata of all embedded objects (and of the object itself if `resource`) into the form that typed objects
/// have: unknown fields go.
///
/// # Errors
/// Metadata of the wrong type.
pub fn coerce(path: &Path<'_>, value: &mut Value, schema: &Schema, resource: bool) -> Result<(), FieldError> {
    match value {
        Value::Object(fields) => {
            if resource || schema.embedded {
                coerce_object(path, fields)?;
            }
            for (name, value) in fields.iter_mut() {
                if let Some(property) = schema.properties.get(&**name) {
                    coerce(&path.child(name), value, property, false)?;
                } else if let Some(additional) = schema.additional_schema() {
                    coerce(&path.key(name), value, additional, false)?;
                }
            }
            Ok(())
        }
        Value::Array(items) => {
            let Some(schema) = &schema.items else { return Ok(()) };
            for (index, item) in items.iter_mut().enumerate() {
                coerce(&path.index(index), item, schema, false)?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn coerce_object(path: &Path<'_>, fields: &mut Map<String, Value>) -> Result<(), FieldError> {
    let invalid = |path: &Path<'_>, value: &Value, detail: String| {
        FieldError::new(Reason::Invalid, path, Some(value.clone()), detail)
    };
    for name in ["apiVersion", "kind"] {
        if let Some(value) = fields.get(name).filter(|value| !value.is_string()) {
            return Err(invalid(&path.child(name), value, "must be a string".to_owned()));
        }
    }
    if let Some(metadata) = fields.get_mut("metadata") {
        let typed: ObjectMeta = serde_json::from_value(metadata.clone())
            .map_err(|error| invalid(&path.child("metadata"), metadata, error.to_string()))?;
        *metadata = serde_json::to_value(typed)
            .map_err(|error| invalid(&path.child("metadata"), metadata, error.to_string()))?;
    }
    Ok(())
}

/// Errors in the metadata of embedded objects, and of the object itself if `resource`.
pub fn validate_embedded(path: &Path<'_>, value: &Value, schema: &Schema, resource: bool, errors: &mut Errors) {
    match value {
        Value::Object(fields) => {
            if resource || schema.embedded {
                validate_object(path, fields, errors);
            }
            for (name, value) in fields {
                if let Some(property) = schema.properties.get(&**name) {
                    validate_embedded(&path.child(name), value, property, false, errors);
                } else if let Some(additional) = schema.additional_schema() {
                    validate_embedded(&path.key(name), value, additional, false, errors);
                }
            }
        }
        Value::Array(items) => {
            let Some(schema) = &schema.items else { return };
            for (index, item) in items.iter().enumerate() {
                validate_embedded(&path.index(index), item, schema, false, errors);
            }
        }
        _ => {}
    }
}

fn validate_object(path: &Path<'_>, fields: &Map<String, Value>, errors: &mut Errors) {
    for name in ["apiVersion", "kind"] {
        let path = path.child(name);
        match fields.get(name) {
            None => errors.required(&path, ""),
            Some(Value::String(text)) if text.is_empty() => errors.invalid(&path, "", "must not be empty"),
            Some(Value::String(text)) => check_type_name(&path, name, text, errors),
            Some(other) => errors.invalid(&path, other.clone(), "must be a string"),
        }
    }
    let Some(metadata) = fields.get("metadata") else { return };
    let path = path.child("metadata");
    match serde_json::from_value::<ObjectMeta>(metadata.clone()) {
        Err(error) => errors.invalid(&path, metadata.clone(), error.to_string()),
        Ok(mut typed) => {
            if typed.name.as_deref().unwrap_or_default().is_empty() {
                // A name is not asked for here.
                typed.name = Some("fakename".to_owned());
            }
            let namespaced = typed.namespace.as_ref().is_some_and(|namespace| !namespace.is_empty());
            let prefix = path.to_string();
            for mut error in meta::validate_typed(&typed, namespaced, names::path_segment) {
                let below = error.field.strip_prefix("metadata").unwrap_or(&error.field);
                error.field = format!("{prefix}{below}");
                errors.push(error);
            }
        }
    }
}

fn check_type_name(path: &Path<'_>, field: &str, text: &str, errors: &mut Errors) {
    if field == "apiVersion" {
        if text.matches('/').count() > 1 {
            errors.invalid(path, text, format!("unexpected GroupVersion string: {text}"));
        }
        return;
    }
    let problems = names::dns1035_label(&text.to_lowercase());
    if !problems.is_empty() {
        errors.invalid(
            path,
            text,
            format!(
                "may have mixed case, but should otherwise match: {}",
                problems.join(",")
            ),
        );
    }
}
