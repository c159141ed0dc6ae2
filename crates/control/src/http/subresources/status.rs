//! `status`: what is, beside what should be. The rest of the object is as on the main path; what changes is which part of it
//! a write reaches.

use super::super::resource::Call;
use super::Verb;
use crate::registry::Part;
use axum::body::Body;
use axum::response::Response;
use catamaran_api::Status;

pub(super) async fn answer(call: &Call<'_>, body: Body) -> Result<Response, Status> {
    match Verb::of(&call.head.method)? {
        Verb::Get => call.get().await,
        Verb::Put => call.update(Part::Status, body).await,
        Verb::Patch => call.patch(Part::Status, body).await,
    }
}
