//! Versions of a defined kind: schemas, subresources, columns, selectable fields.
//!
//! Where all versions say the same, Kubernetes keeps it once, above the versions, and that is where its errors point to. A
//! definition with a single version is such a case.

use super::{internal, schema};
use catamaran_api::field::{Errors, Path};
use catamaran_api::names::dns1035_label;
use catamaran_api::structural::{Schema, Type, paths};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinitionSpec, CustomResourceDefinitionVersion,
    CustomResourceSubresources, JSONSchemaProps, SelectableField,
};
use std::collections::BTreeSet;

/// Most fields by which objects of one version can be selected.
const MAX_SELECTABLE_FIELDS: usize = 8;
/// Types of columns.
const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
/// Formats of columns.
const COLUMN_FORMATS: [&str; 8] = [
    "byte",
    "date",
    "date-time",
    "double",
    "float",
    "int32",
    "int64",
    "password",
];
/// Longest warning about a deprecated version, in characters.
const MAX_WARNING: usize = 256;

fn schema_of(version: &CustomResourceDefinitionVersion) -> Option<&JSONSchemaProps> {
    version.schema.as_ref()?.open_api_v3_schema.as_ref()
}

/// Do all versions say the same, and say something?
fn is_shared<T: PartialEq>(
    spec: &CustomResourceDefinitionSpec,
    part: impl Fn(&CustomResourceDefinitionVersion) -> &Option<T>,
) -> bool {
    spec.versions
        .first()
        .is_some_and(|first| part(first).is_some() && spec.versions.iter().all(|version| part(version) == part(first)))
}

pub(super) fn validate(path: &Path<'_>, spec: &CustomResourceDefinitionSpec, errors: &mut Errors) {
    let versions = path.child("versions");
    for (index, version) in spec.versions.iter().enumerate() {
        if schema_of(version).is_none() {
            let version = versions.index(index);
            errors.required(&version.child("schema").child("openAPIV3Schema"), "");
        }
    }
    for (index, version) in spec.versions.iter().enumerate() {
        let path = versions.index(index);
        let problems = dns1035_label(&version.name);
        if !problems.is_empty() {
            errors.invalid(&path.child("name"), version.name.as_str(), problems.join(","));
        }
        validate_version(&path, spec, version, errors);
    }
    let names: BTreeSet<&str> = spec.versions.iter().map(|version| version.name.as_str()).collect();
    if names.len() < spec.versions.len() {
        let shown = internal::versions(&spec.versions);
        internal::invalid(errors, &versions, &shown, "must contain unique version names");
    }
    if spec.versions.iter().filter(|version| version.storage).count() != 1 {
        let shown = internal::versions(&spec.versions);
        let why = "must have exactly one version marked as storage version";
        internal::invalid(errors, &versions, &shown, why);
    }
}

fn validate_version(
    path: &Path<'_>,
    spec: &CustomResourceDefinitionSpec,
    version: &CustomResourceDefinitionVersion,
    errors: &mut Errors,
) {
    if let Some(warning) = &version.deprecation_warning {
        let path = path.child("deprecationWarning");
        let mut problem = |detail: &str| errors.invalid(&path, warning.as_str(), detail);
        if version.deprecated != Some(true) {
            problem("can only be set for deprecated versions");
        } else if warning.is_empty() {
            problem("must not be an empty string");
        } else if warning.len() > MAX_WARNING {
            problem("must be <= 256 characters long");
        } else if let Some((index, _)) = warning.char_indices().find(|(_, c)| c.is_control()) {
            problem(&format!(
                "must only contain printable UTF-8 characters; non-printable character found at index {index}"
            ));
        }
    }
    let has_status = |version: &CustomResourceDefinitionVersion| {
        version
            .subresources
            .as_ref()
            .is_some_and(|subresources| subresources.status.is_some())
    };
    if !is_shared(spec, |version| &version.schema)
        && let Some(schema) = schema_of(version)
    {
        schema::validate(&path.child("schema"), schema, has_status(version), errors);
    }
    if !is_shared(spec, |version| &version.subresources)
        && let Some(subresources) = &version.subresources
    {
        validate_subresources(&path.child("subresources"), subresources, errors);
    }
    if !is_shared(spec, |version| &version.additional_printer_columns) {
        let path = path.child("additionalPrinterColumns");
        validate_columns(
            &path,
            version.additional_printer_columns.as_deref().unwrap_or_default(),
            errors,
        );
    }
    if !is_shared(spec, |version| &version.selectable_fields) {
        let fields = version.selectable_fields.as_deref().unwrap_or_default();
        let path = path.child("selectableFields");
        // A schema that all versions share stands above them, and Kubernetes does not look there for fields that they do not share.
        if is_shared(spec, |version| &version.schema) && !fields.is_empty() {
            let detail = "may only be set when `version.schema.openAPIV3Schema` is not included";
            errors.invalid(&path, "", detail);
        } else {
            validate_selectable(&path, fields, schema_of(version), errors);
        }
    }
}

/// What all versions have in common.
pub(super) fn validate_shared(path: &Path<'_>, spec: &CustomResourceDefinitionSpec, errors: &mut Errors) {
    let Some(first) = spec.versions.first() else { return };
    // The name of the first version stands there as well.
    let problems = dns1035_label(&first.name);
    if !problems.is_empty() {
        errors.invalid(&path.child("version"), first.name.as_str(), problems.join(","));
    }
    if is_shared(spec, |version| &version.schema)
        && let Some(schema) = schema_of(first)
    {
        let has_status = spec.versions.iter().any(|version| {
            version
                .subresources
                .as_ref()
                .is_some_and(|subresources| subresources.status.is_some())
        });
        schema::validate(&path.child("validation"), schema, has_status, errors);
    }
    if is_shared(spec, |version| &version.subresources)
        && let Some(subresources) = &first.subresources
    {
        validate_subresources(&path.child("subresources"), subresources, errors);
    }
    if is_shared(spec, |version| &version.additional_printer_columns) {
        let columns = first.additional_printer_columns.as_deref().unwrap_or_default();
        validate_columns(&path.child("additionalPrinterColumns"), columns, errors);
    }
    if is_shared(spec, |version| &version.selectable_fields) {
        let fields = first.selectable_fields.as_deref().unwrap_or_default();
        validate_selectable(&path.child("selectableFields"), fields, schema_of(first), errors);
    }
}

fn simple_path(path: &Path<'_>, text: &str, errors: &mut Errors) -> bool {
    let simple = text.starts_with('.');
    if !simple {
        errors.invalid(path, text, "must be a simple json path starting with .");
    }
    simple
}

fn validate_subresources(path: &Path<'_>, subresources: &CustomResourceSubresources, errors: &mut Errors) {
    let Some(scale) = &subresources.scale else { return };
    let fields = [
        ("scale.specReplicasPath", &scale.spec_replicas_path, ".spec."),
        ("scale.statusReplicasPath", &scale.status_replicas_path, ".status."),
    ];
    for (name, text, below) in fields {
        let path = path.child(name);
        if text.is_empty() {
            errors.required(&path, "");
        } else if simple_path(&path, text, errors) && !text.starts_with(below) {
            let detail = format!("should be a json path under {}", below.trim_end_matches('.'));
            errors.invalid(&path, text.as_str(), detail);
        }
    }
    if let Some(text) = scale.label_selector_path.as_deref().filter(|text| !text.is_empty()) {
        let path = path.child("scale.labelSelectorPath");
        let below = text.starts_with(".spec.") || text.starts_with(".status.");
        if simple_path(&path, text, errors) && !below {
            errors.invalid(&path, text, "should be a json path under either .spec or .status");
        }
    }
}

fn validate_columns(path: &Path<'_>, columns: &[CustomResourceColumnDefinition], errors: &mut Errors) {
    for (index, column) in columns.iter().enumerate() {
        let path = path.index(index);
        if column.name.is_empty() {
            errors.required(&path.child("name"), "");
        }
        let types = format!("must be one of {}", COLUMN_TYPES.join(","));
        if column.type_.is_empty() {
            errors.required(&path.child("type"), types);
        } else if !COLUMN_TYPES.contains(&column.type_.as_str()) {
            errors.invalid(&path.child("type"), column.type_.as_str(), types);
        }
        if let Some(format) = column.format.as_deref().filter(|format| !format.is_empty())
            && !COLUMN_FORMATS.contains(&format)
        {
            let mut sorted = COLUMN_FORMATS;
            sorted.sort_unstable();
            errors.invalid(
                &path.child("format"),
                format,
                format!("must be one of {}", sorted.join(",")),
            );
        }
        let json_path = path.child("JSONPath");
        if column.json_path.is_empty() {
            errors.required(&json_path, "");
        } else {
            simple_path(&json_path, &column.json_path, errors);
        }
    }
}

fn validate_selectable(
    path: &Path<'_>,
    fields: &[SelectableField],
    schema: Option<&JSONSchemaProps>,
    errors: &mut Errors,
) {
    // A schema that cannot be read has been reported.
    let Some(schema) = schema.and_then(|schema| Schema::new(schema).ok()) else {
        return;
    };
    let mut seen = BTreeSet::new();
    for (index, field) in fields.iter().enumerate() {
        let path = path.index(index);
        let path = path.child("jsonPath");
        let text = field.json_path.as_str();
        if text.is_empty() {
            errors.required(&path, "");
            continue;
        }
        match paths::follow(text, &schema, false) {
            Err(error) => errors.invalid(&path, text, format!("is an invalid path: {error}")),
            Ok((place, found)) => {
                if place == "metadata" || place.starts_with("metadata.") {
                    errors.invalid(&path, text, "must not point to fields in metadata");
                }
                if !matches!(found.ty, Some(Type::String | Type::Boolean | Type::Integer)) {
                    errors.invalid(
                        &path,
                        text,
                        "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.",
                    );
                }
                if !seen.insert(place) {
                    errors.duplicate(&path, text);
                }
            }
        }
    }
    if seen.len() > MAX_SELECTABLE_FIELDS {
        errors.too_many(path, seen.len(), MAX_SELECTABLE_FIELDS);
    }
}
