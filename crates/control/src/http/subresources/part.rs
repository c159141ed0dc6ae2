//! Paths that change one part of an object as a kind allows it: `approval`, `ephemeralcontainers`, `resize`. A GET shows the whole.

use super::super::resource::Call;
use super::Verb;
use crate::registry::Part;
use axum::body::Body;
use axum::response::Response;
use catamaran_api::Status;

pub(super) async fn answer(call: &Call<'_>, name: &'static str, body: Body) -> Result<Response, Status> {
    match Verb::of(&call.head.method)? {
        Verb::Get => call.get().await,
        Verb::Put => call.update(Part::Named(name), body).await,
        Verb::Patch => call.patch(Part::Named(name), body).await,
    }
}
