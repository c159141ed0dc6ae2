//! GET or POST `pods/portforward`: streams to ports of a pod. The node speaks the protocol, in whichever form the client chose.

use super::super::query::Query;
use super::super::render;
use super::super::resource::Call;
use axum::body::Body;
use axum::response::Response;
use catamaran_api::Status;
use http::Method;

pub(super) async fn answer(call: &Call<'_>, body: Body) -> Result<Response, Status> {
    if !matches!(call.head.method, Method::GET | Method::POST) {
        return Err(Status::method_not_allowed());
    }
    let admitted = super::connection::admit(call, &call.target, None).await?;
    let query = Query::of_options(&admitted.body);
    let forwarded = call
        .app
        .nodes
        .forward(&call.app.registry, &call.target, &query, &call.head, body);
    let mut response = forwarded.await?;
    render::warn(&mut response, &admitted.warnings);
    Ok(response)
}
