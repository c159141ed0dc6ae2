//! Serves the OpenAPI v3 documents.

use super::App;
use super::error::Failure;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use catamaran_api::Status;
use http::{HeaderValue, header};
use std::sync::Arc;

pub(super) async fn index(State(app): State<Arc<App>>) -> Response {
    // What it names changes with the server's version.
    made(app, "no-cache", |app| Some(app.openapi.index())).await
}

pub(super) async fn document(State(app): State<Arc<App>>, Path(path): Path<String>) -> Response {
    // The hash in the URL stands for the content.
    made(app, "public, max-age=86400", move |app| app.openapi.document(&path)).await
}

/// The first answer takes milliseconds of work to make, which do not belong on a thread that serves others.
async fn made(
    app: Arc<App>,
    cache_control: &'static str,
    make: impl FnOnce(&App) -> Option<Bytes> + Send + 'static,
) -> Response {
    match tokio::task::spawn_blocking(move || make(&app)).await {
        Ok(Some(json)) => {
            let headers = [
                (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
                (header::CACHE_CONTROL, HeaderValue::from_static(cache_control)),
            ];
            (headers, json).into_response()
        }
        Ok(None) => Failure(Status::unknown_path()).into_response(),
        Err(error) => Failure(Status::internal(error)).into_response(),
    }
}
