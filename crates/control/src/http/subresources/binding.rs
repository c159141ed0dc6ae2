//! POST `pods/binding`: the scheduler's decision. The older form posts the same to the collection `bindings`.

use super::super::App;
use super::super::query::Query;
use super::super::render;
use super::super::request_info::RequestInfo;
use super::super::resource::Call;
use crate::registry::Target;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use catamaran_api::Status;
use http::{Method, StatusCode, request};
use k8s_openapi::api::core::v1::Binding;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as metav1;

pub(super) async fn answer(call: &Call<'_>, body: Body) -> Result<Response, Status> {
    if call.head.method != Method::POST {
        return Err(Status::method_not_allowed());
    }
    let binding = decode(call, body).await?;
    bind(call, &binding).await
}

/// Is the request for the collection `bindings` of a namespace?
pub(in super::super) fn is_collection(info: &RequestInfo) -> bool {
    info.api_version == "v1" && info.plural == "bindings" && info.name.is_empty() && info.namespace.is_some()
}

/// POST to `bindings`: the binding itself names the pod.
pub(in super::super) async fn answer_collection(
    app: &App,
    info: &RequestInfo,
    head: request::Parts,
    body: Body,
) -> Result<Response, Status> {
    if head.method != Method::POST {
        return Err(Status::method_not_allowed());
    }
    let resource = app.registry.resource("v1", "pods").ok_or_else(Status::unknown_path)?;
    let mut call = Call {
        app,
        query: Query::parse(&head.uri)?,
        target: Target {
            resource,
            namespace: info.namespace.clone(),
            name: String::new(),
        },
        subresource: "binding".to_owned(),
        head,
    };
    let binding = decode(&call, body).await?;
    call.target.name = binding.metadata.name.clone().unwrap_or_default();
    if call.target.name.is_empty() {
        return Err(Status::bad_request("name must be provided"));
    }
    bind(&call, &binding).await
}

async fn decode(call: &Call<'_>, body: Body) -> Result<Binding, Status> {
    let object = call.object(body).await?;
    serde_json::from_value(object.value).map_err(|error| {
        Status::bad_request(format!(
            "Binding in version \"v1\" cannot be handled as a Binding: {error}"
        ))
    })
}

async fn bind(call: &Call<'_>, binding: &Binding) -> Result<Response, Status> {
    let style = call.style()?;
    let options = call.write_options("CreateOptions")?;
    let written = call.app.registry.bind(&call.target, binding, &options).await?;
    let success = Status::from(metav1::Status {
        status: Some("Success".to_owned()),
        code: Some(201),
        ..metav1::Status::default()
    });
    let mut response = render::respond(style.form, StatusCode::CREATED, Bytes::from(success.to_vec()))?;
    render::warn(&mut response, &written.warnings);
    Ok(response)
}
