//! PUT `namespaces/finalize`: says what still has to happen before a namespace may go.

use super::super::render;
use super::super::resource::Call;
use axum::body::Body;
use axum::response::Response;
use catamaran_api::Status;
use http::Method;

pub(super) async fn answer(call: &Call<'_>, body: Body) -> Result<Response, Status> {
    if call.head.method != Method::PUT {
        return Err(Status::method_not_allowed());
    }
    let style = call.style()?;
    let options = call.write_options("UpdateOptions")?;
    let object = call.object(body).await?;
    let written = call.app.registry.finalize(&call.target, object, &options).await?;
    render::written(&call.target.resource, style, written)
}
