//! GET `pods/log`: the node has it.

use super::super::resource::{Call, readable};
use axum::response::Response;
use catamaran_api::Status;

pub(super) async fn answer(call: &Call<'_>) -> Result<Response, Status> {
    if !readable(&call.head.method) {
        return Err(Status::method_not_allowed());
    }
    call.app.nodes.logs(&call.app.registry, &call.target, &call.query).await
}
