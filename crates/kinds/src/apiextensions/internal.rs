//! Parts of definitions as Kubernetes shows them in its complaints: its internal types, written by Go.
//!
//! These have other names than the fields that clients send, all of them are there, and they come in their own order.

use catamaran_api::field::{Errors, FieldError, Path, Reason};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinitionVersion, JSONSchemaProps, ValidationRule,
};
use serde::Serialize;
use serde_json::Value;

/// An `invalid` error about something internal.
pub(super) fn invalid(errors: &mut Errors, path: &Path<'_>, shown: &str, why: &str) {
    let mut error = FieldError::new(Reason::Invalid, path, None, why);
    error.shown = Some(shown.into());
    errors.push(error);
}

/// A rule.
pub(super) fn rule(rule: &ValidationRule) -> String {
    let text = |text: &Option<String>| Value::from(text.as_deref().unwrap_or_default());
    object(&[
        ("Rule", Value::from(rule.rule.as_str())),
        ("Message", text(&rule.message)),
        ("MessageExpression", text(&rule.message_expression)),
        ("Reason", Value::from(rule.reason.as_deref())),
        ("FieldPath", text(&rule.field_path)),
        ("OptionalOldSelf", Value::from(rule.optional_old_self)),
    ])
}

/// Versions that have nothing of their own but their names; what they have in common stands above them.
pub(super) fn versions(versions: &[CustomResourceDefinitionVersion]) -> String {
    let shown = versions.iter().map(|version| {
        object(&[
            ("Name", Value::from(version.name.as_str())),
            ("Served", Value::from(version.served)),
            ("Storage", Value::from(version.storage)),
            ("Deprecated", Value::from(version.deprecated.unwrap_or(false))),
            (
                "DeprecationWarning",
                Value::from(version.deprecation_warning.as_deref()),
            ),
            ("Schema", Value::Null),
            ("Subresources", Value::Null),
            ("AdditionalPrinterColumns", Value::Null),
            ("SelectableFields", Value::Null),
        ])
    });
    let shown: Vec<String> = shown.collect();
    if shown.is_empty() {
        "null".to_owned()
    } else {
        format!("[{}]", shown.join(","))
    }
}

/// A schema.
pub(super) fn schema(props: &JSONSchemaProps) -> String {
    let document = serde_json::to_value(props).unwrap_or_default();
    schema_of(&document)
}

/// Fields of the internal type: its name, the name clients know, and what stands for nothing.
const FIELDS: &[(&str, &str, &str)] = &[
    ("ID", "id", "\"\""),
    ("Schema", "$schema", "\"\""),
    ("Ref", "$ref", "null"),
    ("Description", "description", "\"\""),
    ("Type", "type", "\"\""),
    ("Nullable", "nullable", "false"),
    ("Format", "format", "\"\""),
    ("Title", "title", "\"\""),
    ("Default", "default", "null"),
    ("Maximum", "maximum", "null"),
    ("ExclusiveMaximum", "exclusiveMaximum", "false"),
    ("Minimum", "minimum", "null"),
    ("ExclusiveMinimum", "exclusiveMinimum", "false"),
    ("MaxLength", "maxLength", "null"),
    ("MinLength", "minLength", "null"),
    ("Pattern", "pattern", "\"\""),
    ("MaxItems", "maxItems", "null"),
    ("MinItems", "minItems", "null"),
    ("UniqueItems", "uniqueItems", "false"),
    ("MultipleOf", "multipleOf", "null"),
    ("Enum", "enum", "null"),
    ("MaxProperties", "maxProperties", "null"),
    ("MinProperties", "minProperties", "null"),
    ("Required", "required", "null"),
    ("Items", "items", "null"),
    ("AllOf", "allOf", "null"),
    ("OneOf", "oneOf", "null"),
    ("AnyOf", "anyOf", "null"),
    ("Not", "not", "null"),
    ("Properties", "properties", "null"),
    ("AdditionalProperties", "additionalProperties", "null"),
    ("PatternProperties", "patternProperties", "null"),
    ("Dependencies", "dependencies", "null"),
    ("AdditionalItems", "additionalItems", "null"),
    ("Definitions", "definitions", "null"),
    ("ExternalDocs", "externalDocs", "null"),
    ("Example", "example", "null"),
    ("XPreserveUnknownFields", "x-kubernetes-preserve-unknown-fields", "null"),
    ("XEmbeddedResource", "x-kubernetes-embedded-resource", "false"),
    ("XIntOrString", "x-kubernetes-int-or-string", "false"),
    ("XListMapKeys", "x-kubernetes-list-map-keys", "null"),
    ("XListType", "x-kubernetes-list-type", "null"),
    ("XMapType", "x-kubernetes-map-type", "null"),
    ("XValidations", "x-kubernetes-validations", "null"),
];

fn schema_of(document: &Value) -> String {
    let fields = FIELDS.iter().map(|(name, key, nothing)| {
        let shown = match document.get(key) {
            None => (*nothing).to_owned(),
            Some(value) => field(key, value),
        };
        format!("\"{name}\":{shown}")
    });
    let fields: Vec<String> = fields.collect();
    format!("{{{}}}", fields.join(","))
}

fn field(key: &str, value: &Value) -> String {
    match (key, value) {
        ("allOf" | "oneOf" | "anyOf", Value::Array(parts)) => list(parts.iter().map(schema_of)),
        ("not", part) => schema_of(part),
        ("properties" | "patternProperties" | "definitions", Value::Object(all)) => {
            let all = all
                .iter()
                .map(|(name, part)| format!("{}:{}", text(name), schema_of(part)));
            format!("{{{}}}", all.collect::<Vec<_>>().join(","))
        }
        ("items", Value::Array(all)) => {
            format!(
                "{{\"Schema\":null,\"JSONSchemas\":{}}}",
                list(all.iter().map(schema_of))
            )
        }
        ("items", one) => format!("{{\"Schema\":{},\"JSONSchemas\":null}}", schema_of(one)),
        ("additionalProperties" | "additionalItems", Value::Bool(allows)) => {
            format!("{{\"Allows\":{allows},\"Schema\":null}}")
        }
        ("additionalProperties" | "additionalItems", one) => {
            format!("{{\"Allows\":true,\"Schema\":{}}}", schema_of(one))
        }
        ("x-kubernetes-validations", all) => {
            let all: Vec<ValidationRule> = serde_json::from_value(all.clone()).unwrap_or_default();
            list(all.iter().map(rule))
        }
        (_, other) => text(other),
    }
}

fn list(parts: impl Iterator<Item = String>) -> String {
    format!("[{}]", parts.collect::<Vec<_>>().join(","))
}

fn object(fields: &[(&str, Value)]) -> String {
    let fields: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("\"{name}\":{}", text(value)))
        .collect();
    format!("{{{}}}", fields.join(","))
}

/// JSON as Go writes it: what could be markup is escaped.
fn text(value: &(impl Serialize + ?Sized)) -> String {
    let json = catamaran_api::json::to_vec(value).unwrap_or_default();
    catamaran_api::json::without_markup(&String::from_utf8_lossy(&json))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rules_are_whole() {
        let short: ValidationRule =
            serde_json::from_value(json!({"rule": "self > 1", "reason": "FieldValueInvalid"})).unwrap();
        assert_eq!(
            rule(&short),
            r#"{"Rule":"self \u003e 1","Message":"","MessageExpression":"","Reason":"FieldValueInvalid","FieldPath":"","OptionalOldSelf":null}"#
        );
    }

    #[test]
    fn schemas_are_whole() {
        let props: JSONSchemaProps = serde_json::from_value(json!({
            "type": "object", "properties": {"a": {"type": "array", "items": {"type": "integer", "minimum": 1}}},
        }))
        .unwrap();
        let shown: Value = serde_json::from_str(&schema(&props)).unwrap();
        assert_eq!(shown.as_object().unwrap().len(), FIELDS.len());
        assert_eq!(shown["Properties"]["a"]["Items"]["Schema"]["Minimum"], 1);
        assert_eq!(shown["Properties"]["a"]["Items"]["JSONSchemas"], Value::Null);
    }
}
