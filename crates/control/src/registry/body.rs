//! From the tree of a request's body to a typed object.
//!
//! Typed decoding drops fields it does not know without a word, so the tree is walked along its schema first: that finds
//! unknown fields and values of the wrong type, and names them as Kubernetes does.

use super::resource::Resource;
use crate::kinds::{KindRef, Object};
use catamaran_api::body::Body;
use catamaran_api::schema::FieldValidation;
use catamaran_api::{Errors, GroupKind, Path, Status};
use serde_json::Value;

/// Decodes a body. What there is to complain about is an error or a warning, as the client wishes.
pub(super) fn decode(
    resource: &Resource,
    body: Body,
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> Result<Box<dyn Object>, Status> {
    let Body { mut value, duplicates } = body;
    check_type(resource, &value)?;
    let mut unknown = match resource.schema() {
        Some(schema) => schema
            .normalise(&mut value)
            .map_err(|error| error.into_status(&resource.gvk))?,
        None => Vec::new(),
    };
    if matches!(resource.kind, KindRef::Defined(_)) {
        unknown.sort_by_cached_key(|path| (reported(path), path.clone()));
    }
    warnings.extend(validation.judge(&unknown, &duplicates, &resource.gvk)?);
    resource
        .kind
        .decode(value)
        .map_err(|error| cannot_handle(resource, &error.to_string()))
}

/// When an unknown field is told: those of the metadata first, those of the metadata of embedded objects last.
fn reported(path: &str) -> u8 {
    match path {
        path if path.starts_with("metadata.") => 0,
        path if path.contains(".metadata.") => 2,
        _ => 1,
    }
}

/// A tree that did not come from text, so that no field can be there twice.
pub(super) fn tree_body(value: Value) -> Body {
    Body {
        value,
        duplicates: Vec::new(),
    }
}

/// The type in the body must be that of the URL. Leaving it out is allowed where the kind is built in.
fn check_type(resource: &Resource, body: &Value) -> Result<(), Status> {
    if !body.is_object() {
        return Err(cannot_handle(resource, "the body is not an object"));
    }
    let text = |field: &str| body.get(field).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let is_defined = matches!(resource.kind, KindRef::Defined(_));
    if (is_defined || !api_version.is_empty()) && api_version != resource.api_version {
        return Err(Status::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({})",
            resource.api_version
        )));
    }
    if is_defined && kind != resource.info.kind {
        let mut errors = Errors::new();
        let detail = format!("must be {}", resource.info.kind);
        errors.invalid(&Path::new("kind"), kind, detail);
        let name = body
            .pointer("/metadata/name")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let group = resource.info.group.to_string();
        return Err(Status::invalid(
            &GroupKind {
                group: group.into(),
                kind: kind.to_owned().into(),
            },
            name,
            &errors,
        ));
    }
    if !kind.is_empty() && kind != resource.info.kind {
        return Err(Status::bad_request(format!(
            "the kind in the data ({kind}) does not match the expected kind ({})",
            resource.info.kind
        )));
    }
    Ok(())
}

fn cannot_handle(resource: &Resource, why: &str) -> Status {
    let kind = &resource.info.kind;
    Status::bad_request(format!(
        "{kind} in version \"{}\" cannot be handled as a {kind}: {why}",
        resource.info.version
    ))
}
