//! Serves the OpenAPI documents.

use super::App;
use super::error::Failure;
use crate::authn::Identity;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use catamaran_api::Status;
use http::{HeaderMap, HeaderValue, header};
use std::sync::Arc;

const JSON: &str = "application/json";
const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Clients that want protobuf write its name in one of two ways.
pub(super) async fn v2(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let protobuf = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|accept| accept.to_str().ok())
        .any(|accept| accept.contains("proto-openapi.spec.v2"));
    let content_type = if protobuf { V2_PROTOBUF } else { JSON };
    let make = move |app: &App| Some(app.openapi().v2(protobuf, &app.aggregator.remotes()));
    let mut response = made(app, content_type, "no-cache", make).await;
    response
        .headers_mut()
        .insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}

pub(super) async fn index(State(app): State<Arc<App>>) -> Response {
    // What it names changes with the server's version.
    made(app, JSON, "no-cache", |app| {
        let remotes = app.aggregator.remotes();
        let others = remotes.versions.iter().filter_map(|remote| {
            let path = format!("apis/{}/{}", remote.group, remote.version);
            Some((path, remote.openapi.clone()?))
        });
        Some(app.openapi().index(others))
    })
    .await
}

pub(super) async fn document(State(app): State<Arc<App>>, Path(path): Path<String>, request: Request) -> Response {
    // That of another server is its own to write.
    let backend = path
        .strip_prefix("apis/")
        .and_then(|api_version| app.aggregator.backend(api_version));
    if let Some(backend) = backend {
        let (head, body) = request.into_parts();
        return backend
            .answer(head, body, &Identity::authenticated("system:aggregator", &[]))
            .await;
    }
    // The hash in the URL stands for the content.
    made(app, JSON, "public, max-age=86400", move |app| {
        app.openapi().document(&path)
    })
    .await
}

/// The first answer takes milliseconds of work to make, which do not belong on a thread that serves others.
async fn made(
    app: Arc<App>,
    content_type: &'static str,
    cache_control: &'static str,
    make: impl FnOnce(&App) -> Option<Bytes> + Send + 'static,
) -> Response {
    match tokio::task::spawn_blocking(move || make(&app)).await {
        Ok(Some(json)) => {
            let headers = [
                (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
                (header::CACHE_CONTROL, HeaderValue::from_static(cache_control)),
            ];
            (headers, json).into_response()
        }
        Ok(None) => Failure(Status::unknown_path()).into_response(),
        Err(error) => Failure(Status::internal(error)).into_response(),
    }
}
