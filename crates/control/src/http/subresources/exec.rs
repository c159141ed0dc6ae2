//! GET or POST `pods/exec`: a stream to a new process in a container.

use super::super::node_proxy::Running;
use super::super::query::Query;
use super::super::render;
use super::super::resource::Call;
use axum::body::Body;
use axum::response::Response;
use catamaran_api::Status;
use http::Method;

pub(super) async fn answer(call: &Call<'_>, body: Body) -> Result<Response, Status> {
    stream(call, "exec", body).await
}

/// What `exec` and `attach` have in common: the node speaks the protocol.
pub(super) async fn stream(call: &Call<'_>, verb: &'static str, body: Body) -> Result<Response, Status> {
    if !matches!(call.head.method, Method::GET | Method::POST) {
        return Err(Status::method_not_allowed());
    }
    let admitted = super::connection::admit(call, &call.target, None).await?;
    let pod = Running {
        target: &call.target,
        verb,
    };
    let query = Query::of_options(&admitted.body);
    let streamed = call
        .app
        .nodes
        .stream(&call.app.registry, &pod, &query, &call.head, body);
    let mut response = streamed.await?;
    render::warn(&mut response, &admitted.warnings);
    Ok(response)
}
