//! POST `pods/eviction`: a deletion that respects disruption budgets.

use super::super::render;
use super::super::resource::Call;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use catamaran_api::Status;
use http::{Method, StatusCode};
use k8s_openapi::api::policy::v1::Eviction;
use serde_json::{Value, json};

pub(super) async fn answer(call: &Call<'_>, body: Body) -> Result<Response, Status> {
    if call.head.method != Method::POST {
        return Err(Status::method_not_allowed());
    }
    let style = call.style()?;
    let options = call.write_options("CreateOptions")?;
    let eviction = decode(call.object(body).await?.value)?;
    let status = call.app.registry.evict(&call.target, eviction, &options).await?;
    // Also one that says it failed: that is how Kubernetes answers.
    render::respond(style.form, StatusCode::CREATED, Bytes::from(status.to_vec()))
}

/// Both versions of the type are the same.
fn decode(mut value: Value) -> Result<Eviction, Status> {
    let has_metadata = value.get("metadata").is_none_or(|own| own.is_object() || own.is_null());
    if !value.is_object() || !has_metadata {
        return Err(Status::bad_request(
            "the object provided is unrecognized: it must be an Eviction",
        ));
    }
    let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    if !matches!(api_version, "" | "policy/v1" | "policy/v1beta1") {
        return Err(Status::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version (policy/v1)"
        )));
    }
    if !matches!(kind, "" | "Eviction") {
        return Err(Status::bad_request(format!(
            "the kind in the data ({kind}) does not match the expected kind (Eviction)"
        )));
    }
    value["apiVersion"] = json!("policy/v1");
    value["kind"] = json!("Eviction");
    serde_json::from_value(value).map_err(|error| {
        Status::bad_request(format!(
            "Eviction in version \"v1\" cannot be handled as a Eviction: {error}"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_object_is_refused() {
        for body in [json!([]), json!("a"), json!({"metadata": 1}), json!({"metadata": []})] {
            assert_eq!(decode(body.clone()).unwrap_err().code(), 400, "{body}");
        }
        assert!(decode(json!({"metadata": {"name": "a"}})).is_ok());
    }
}
