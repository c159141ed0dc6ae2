//! `/`: what there is to ask for, for people who look around.

use super::App;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderValue, header};
use serde_json::json;
use std::sync::Arc;

/// Paths that are always there, beside those of groups and versions.
const PATHS: &[&str] = &[
    "/.well-known/openid-configuration",
    "/api",
    "/apis",
    "/apis/",
    "/healthz",
    "/livez",
    "/metrics",
    "/metrics/slis",
    "/openapi/v2",
    "/openapi/v3",
    "/openapi/v3/",
    "/openid/v1/jwks",
    "/readyz",
    "/version",
];

pub(super) async fn index(State(app): State<Arc<App>>) -> Response {
    let mut paths: Vec<String> = PATHS.iter().map(|path| (*path).to_owned()).collect();
    paths.extend(app.discovery().paths());
    paths.sort_unstable();
    // Indented, whoever asks.
    let json = serde_json::to_vec_pretty(&json!({ "paths": paths })).unwrap_or_default();
    let mut response = Response::new(json.into());
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    std::future::ready(response).await
}
