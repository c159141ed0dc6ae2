//! From the tree of a request's body to a typed object.
//!
//! Typed decoding drops fields it does not know without a word, so the tree is walked along its schema first: that finds
//! unknown fields and values of the wrong type, and names them as Kubernetes does.

use super::resource::Resource;
use crate::kinds::Object;
use catamaran_api::Status;
use catamaran_api::body::Body;
use catamaran_api::schema::FieldValidation;
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
    let unknown = match resource.schema() {
        Some(schema) => schema
            .normalise(&mut value)
            .map_err(|error| error.into_status(&resource.gvk))?,
        None => Vec::new(),
    };
    warnings.extend(validation.judge(&unknown, &duplicates, &resource.gvk)?);
    resource
        .kind
        .decode(value)
        .map_err(|error| cannot_handle(resource, &error.to_string()))
}

/// A tree that did not come from text, so that no field can be there twice.
pub(super) fn tree_body(value: Value) -> Body {
    Body {
        value,
        duplicates: Vec::new(),
    }
}

/// The type in the body must be that of the URL. Leaving it out is allowed.
fn check_type(resource: &Resource, body: &Value) -> Result<(), Status> {
    if !body.is_object() {
        return Err(cannot_handle(resource, "the body is not an object"));
    }
    let text = |field: &str| body.get(field).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    if !api_version.is_empty() && api_version != resource.api_version {
        return Err(Status::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({})",
            resource.api_version
        )));
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
