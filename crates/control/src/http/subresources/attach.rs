//! GET or POST `pods/attach`: a stream to the process a container runs.

use super::super::resource::Call;
use axum::body::Body;
use axum::response::Response;
use catamaran_api::Status;

pub(super) async fn answer(call: &Call<'_>, body: Body) -> Result<Response, Status> {
    super::exec::stream(call, "attach", body).await
}
