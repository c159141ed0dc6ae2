//! What others need to believe service accounts' tokens: who issues them, and the key they are signed with.
//! <https://kubernetes.io/docs/tasks/configure-pod-container/configure-service-account/#service-account-issuer-discovery>

use super::App;
use crate::authn::{jwt, service_account};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;
use serde_json::json;
use std::sync::Arc;

const CACHED: &str = "public, max-age=3600";

pub(super) async fn configuration(State(app): State<Arc<App>>) -> Response {
    let issuer = service_account::ISSUER;
    let document = json!({
        "issuer": issuer,
        "jwks_uri": format!("{}/openid/v1/jwks", app.external_url),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [jwt::ALGORITHM],
    });
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, CACHED),
    ];
    std::future::ready((headers, document.to_string()).into_response()).await
}

pub(super) async fn keys(State(app): State<Arc<App>>) -> Response {
    let keys = app.authenticator.service_accounts().jwks();
    let headers = [
        (header::CONTENT_TYPE, "application/jwk-set+json"),
        (header::CACHE_CONTROL, CACHED),
    ];
    std::future::ready((headers, keys.to_string()).into_response()).await
}
