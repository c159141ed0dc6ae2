//! `scale`: how many, in the one form that autoscalers and `kubectl scale` know.

use super::super::render;
use super::super::resource::{Call, read};
use super::Verb;
use crate::registry::Written;
use axum::body::Body;
use axum::response::Response;
use catamaran_api::body::{self, Format};
use catamaran_api::patch::{self, PatchType};
use catamaran_api::schema::{FieldValidation, Node, Schemas};
use catamaran_api::{GroupVersionKind, Status};
use http::StatusCode;
use k8s_openapi::api::autoscaling::v1::Scale;
use serde_json::Value;

const SCALE: GroupVersionKind = GroupVersionKind::from_static("autoscaling", "v1", "Scale");

pub(super) async fn answer(call: &Call<'_>, body: Body) -> Result<Response, Status> {
    let registry = &call.app.registry;
    match Verb::of(&call.head.method)? {
        Verb::Get => {
            let json = registry.scale(&call.target).await?;
            render::respond(call.style()?.form, StatusCode::OK, json)
        }
        Verb::Put => {
            let options = call.write_options("UpdateOptions")?;
            let body = call.object(body).await?;
            let mut warnings = Vec::new();
            let scale = decode(body, options.validation, &mut warnings)?;
            let name = scale.metadata.name.as_deref().unwrap_or_default();
            if !name.is_empty() && name != call.target.name {
                return Err(Status::bad_request(format!(
                    "the name of the object ({name}) does not match the name on the URL ({})",
                    call.target.name
                )));
            }
            let written = registry
                .change_scale(&call.target, &|_: &Value| Ok(scale.clone()), &options)
                .await?;
            respond(call, written, &warnings)
        }
        Verb::Patch => patch(call, body).await,
    }
}

async fn patch(call: &Call<'_>, body: Body) -> Result<Response, Status> {
    let options = call.write_options("PatchOptions")?;
    let patch_type = call.patch_type()?;
    let registry = &call.app.registry;
    let bytes = read(&call.head.headers, body).await?;
    if patch_type == PatchType::Apply {
        let declaration = body::parse(Format::Yaml, &bytes)
            .map_err(|error| Status::bad_request(format!("error decoding YAML: {error}")))?;
        let written = registry.apply_scale(&call.target, &declaration.value, &options).await?;
        return respond(call, written, &[]);
    }
    let wish = |present: &Value| {
        let mut patched = apply(patch_type, present, &bytes)?;
        // The version counts only if the patch states another one.
        if patched.pointer("/metadata/resourceVersion") == present.pointer("/metadata/resourceVersion")
            && let Some(metadata) = patched.get_mut("metadata").and_then(Value::as_object_mut)
        {
            metadata.remove("resourceVersion");
        }
        let body = body::Body {
            value: patched,
            duplicates: Vec::new(),
        };
        decode(body, options.validation, &mut Vec::new())
    };
    let written = registry.change_scale(&call.target, &wish, &options).await?;
    respond(call, written, &[])
}

fn apply(patch_type: PatchType, present: &Value, bytes: &[u8]) -> Result<Value, Status> {
    let object = || match serde_json::from_slice(bytes) {
        Ok(Value::Object(patch)) => Ok(Value::Object(patch)),
        Ok(_) => Err(Status::bad_request("error decoding patch: it must be an object")),
        Err(error) => Err(Status::bad_request(format!("error decoding patch: {error}"))),
    };
    Ok(match patch_type {
        PatchType::Json => patch::json::apply(present, bytes)?,
        PatchType::Strategic => patch::strategic::apply(present, &object()?, schema())?,
        PatchType::Merge | PatchType::Apply => {
            let mut patched = present.clone();
            patch::merge::apply(&mut patched, &object()?);
            patched
        }
    })
}

fn schema() -> Option<Node<'static>> {
    Schemas::builtin().node("io.k8s.api.autoscaling.v1.Scale")
}

fn decode(body: body::Body, validation: FieldValidation, warnings: &mut Vec<String>) -> Result<Scale, Status> {
    let body::Body { mut value, duplicates } = body;
    let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default();
    if !matches!(
        (text("apiVersion"), text("kind")),
        ("" | "autoscaling/v1", "" | "Scale")
    ) {
        let (version, kind) = (text("apiVersion"), text("kind"));
        return Err(Status::bad_request(format!(
            "the object provided is unrecognized (must be of type Scale): no kind \"{kind}\" is registered for version \"{version}\" as a scale"
        )));
    }
    if let Some(schema) = schema() {
        let unknown = schema
            .normalise(&mut value)
            .map_err(|error| error.into_status(&SCALE))?;
        warnings.extend(validation.judge(&unknown, &duplicates, &SCALE)?);
    }
    serde_json::from_value(value)
        .map_err(|error| Status::bad_request(format!("Scale in version \"v1\" cannot be handled as a Scale: {error}")))
}

fn respond(call: &Call<'_>, written: Written, warnings: &[String]) -> Result<Response, Status> {
    let mut response = render::respond(call.style()?.form, StatusCode::OK, written.json)?;
    render::warn(&mut response, warnings);
    render::warn(&mut response, &written.warnings);
    Ok(response)
}
