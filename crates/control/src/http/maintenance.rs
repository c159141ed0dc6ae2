//! What an operator asks of a running server and no Kubernetes client knows: a backup, new encryption keys. Paths that are
//! no resources, so RBAC grants them by `nonResourceURLs`; by default only `system:masters` may.

use super::App;
use super::error::Failure;
use crate::backup::{self, Archive};
use crate::encryption;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use catamaran_api::Status;
use futures::stream;
use http::{HeaderValue, header};
use std::sync::Arc;

/// Answers with a backup, as it is packed.
pub(super) async fn backup(State(app): State<Arc<App>>) -> Response {
    let archive = match Archive::take(&app.vault).await {
        Ok(archive) => archive,
        Err(error) => return failed(&error),
    };
    let revision = archive.revision;
    let pieces = stream::unfold(backup::stream(archive), |mut pieces| async move {
        pieces.recv().await.map(|piece| (piece, pieces))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/gzip"));
    headers.insert("catamaran-revision", HeaderValue::from(revision));
    response
}

/// Makes a new encryption key and waits until everything is rewritten with it.
pub(super) async fn rotate(State(app): State<Arc<App>>) -> Response {
    let vault = Arc::clone(&app.vault);
    // A client that goes away does not stop it half way.
    let rotated = tokio::spawn(async move { vault.rotate().await }).await;
    match rotated {
        Ok(Ok(rotated)) => axum::Json(rotated).into_response(),
        Ok(Err(error @ encryption::Error::Configured)) => {
            Failure(Status::bad_request(error.to_string())).into_response()
        }
        Ok(Err(error)) => failed(&error),
        Err(error) => failed(&error),
    }
}

fn failed(error: &(dyn std::error::Error + 'static)) -> Response {
    tracing::error!(error, "maintenance failed");
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    Failure(Status::internal(text)).into_response()
}
