//! Every error a client sees is a `metav1.Status`; here is where it becomes a response.

use axum::response::{IntoResponse, Response};
use catamaran_api::Status;
use http::{HeaderValue, StatusCode, header};

/// A [`Status`] on its way out.
pub(crate) struct Failure(pub(crate) Status);

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Failure(status)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        response(&self.0)
    }
}

/// Marks the response that carries a status: the client may want it in another language.
#[derive(Clone)]
pub(super) struct Carried(pub(super) Status);

/// The response that carries a status, error or not.
pub(crate) fn response(status: &Status) -> Response {
    let mut response = Response::new(status.to_vec().into());
    *response.status_mut() = StatusCode::from_u16(status.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(seconds) = status.retry_after_seconds() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response.extensions_mut().insert(Carried(status.clone()));
    response
}

pub(super) async fn unknown_path() -> Response {
    std::future::ready(page_not_found()).await
}

/// What is nothing of ours at all is answered in plain text: there is no API that could say more.
pub(super) fn page_not_found() -> Response {
    let mut response = Response::new("404 page not found\n".into());
    *response.status_mut() = StatusCode::NOT_FOUND;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

pub(super) async fn method_not_allowed() -> Failure {
    std::future::ready(Failure(Status::method_not_allowed())).await
}
