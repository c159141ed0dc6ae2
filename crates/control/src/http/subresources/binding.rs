//! POST `pods/binding`: the scheduler's decision.

use super::super::render;
use super::super::resource::Call;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use catamaran_api::Status;
use http::{Method, StatusCode};
use k8s_openapi::api::core::v1::Binding;

pub(super) async fn answer(call: &Call<'_>, body: Body) -> Result<Response, Status> {
    if call.head.method != Method::POST {
        return Err(Status::method_not_allowed());
    }
    let style = call.style()?;
    let options = call.write_options("CreateOptions")?;
    let object = call.object(body).await?;
    let binding: Binding = serde_json::from_value(object.value).map_err(|error| {
        Status::bad_request(format!(
            "Binding in version \"v1\" cannot be handled as a Binding: {error}"
        ))
    })?;
    let written = call.app.registry.bind(&call.target, &binding, &options).await?;
    let mut response = render::respond(style.form, StatusCode::CREATED, Bytes::from(Status::success().to_vec()))?;
    render::warn(&mut response, &written.warnings);
    Ok(response)
}
