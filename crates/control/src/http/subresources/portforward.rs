//! GET or POST `pods/portforward`: streams to ports of a pod. The node speaks the protocol, in whichever form the client chose.

use super::super::resource::Call;
use axum::body::Body;
use axum::response::Response;
use catamaran_api::Status;
use http::Method;

pub(super) async fn answer(call: &Call<'_>, body: Body) -> Result<Response, Status> {
    if !matches!(call.head.method, Method::GET | Method::POST) {
        return Err(Status::method_not_allowed());
    }
    let options = call.write_options("CreateOptions")?;
    call.app.registry.admit_connection(&call.target, &options).await?;
    call.app
        .nodes
        .forward(&call.app.registry, &call.target, &call.query, &call.head, body)
        .await
}
