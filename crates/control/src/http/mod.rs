//! HTTP: one stack, read from top to bottom.
//!
//! ```text
//!   serve (TLS, certificate → identity)   in-process client (identity by a layer)
//!            └───────────────┬───────────────────┘
//!   language, gzip; panic → 500 Status
//!                            │
//!   who, as whom, may they, take turns    layers
//!   health, version, discovery, OpenAPI : /api/** and /apis/** → resource → registry
//! ```

mod activity;
mod audit;
mod classify;
mod component_statuses;
mod compress;
mod deadline;
mod delete;
pub(crate) mod discovery;
mod error;
mod fairness;
mod health;
mod index;
mod layers;
mod list_body;
mod maintenance;
mod negotiate;
mod node_proxy;
mod observe;
mod oidc;
mod openapi;
mod present;
mod protobuf;
mod query;
mod render;
mod request_info;
mod resource;
mod reviews;
pub(crate) mod serve;
mod session;
mod stack;
mod subresources;
mod watch_socket;
mod watch_stream;

pub(crate) use audit::Peer;
pub(crate) use classify::Class;
pub(crate) use discovery::priorities;
pub(crate) use health::GIT_VERSION;
pub(crate) use layers::{with_identities, with_identity, without_owners};
pub(crate) use node_proxy::{NodeDialer, tunnel};
pub(crate) use session::Session;
pub(crate) use stack::Stack;

use crate::aggregator::Aggregator;
use crate::audit::Audit;
use crate::authn::Authenticator;
use crate::authz::Authorizer;
use crate::encryption::Vault;
use crate::flow::Flow;
use crate::metrics::Metrics;
use crate::registry::Registry;
use axum::Router;
use axum::routing::{get, post};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Semaphore;

/// Watches at a time; more are refused.
const MOST_WATCHES: usize = 10_000;

/// What handlers share.
pub(crate) struct App {
    pub(crate) registry: Arc<Registry>,
    pub(crate) authenticator: Authenticator,
    pub(crate) authorizer: Arc<dyn Authorizer>,
    pub(crate) aggregator: Arc<Aggregator>,
    discovery: discovery::Cache,
    openapi: crate::openapi::Cache,
    pub(crate) nodes: NodeDialer,
    /// Where clients on this machine reach the server.
    pub(crate) external_url: String,
    pub(crate) vault: Arc<Vault>,
    /// `None` if nobody wants to know.
    pub(crate) audit: Option<Arc<Audit>>,
    pub(crate) flow: Arc<Flow>,
    pub(crate) metrics: Arc<Metrics>,
    /// Events that several watches send.
    frames: Arc<protobuf::Frames>,
    /// Room for watches.
    watches: Arc<Semaphore>,
    /// The objects every cluster has are there.
    bootstrapped: AtomicBool,
}

impl App {
    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of the server are assembled here, once"
    )]
    pub(crate) fn new(
        registry: Arc<Registry>,
        authenticator: Authenticator,
        nodes: NodeDialer,
        vault: Arc<Vault>,
        external_url: String,
        metrics: Arc<Metrics>,
        audit: Option<Arc<Audit>>,
        aggregator: Arc<Aggregator>,
    ) -> Self {
        let authorizer: Arc<dyn Authorizer> = Arc::clone(&registry.authorizer) as _;
        App {
            registry,
            authenticator,
            authorizer,
            external_url,
            aggregator,
            discovery: discovery::Cache::default(),
            openapi: crate::openapi::Cache::new(health::GIT_VERSION),
            nodes,
            vault,
            audit,
            flow: Flow::new(),
            metrics,
            frames: Arc::default(),
            watches: Arc::new(Semaphore::new(MOST_WATCHES)),
            bootstrapped: AtomicBool::new(false),
        }
    }

    /// What is served at this moment, as clients ask for it.
    pub(crate) fn discovery(&self) -> Arc<discovery::Documents> {
        self.discovery
            .documents(&self.registry.table(), &self.aggregator.remotes())
    }

    /// What it looks like.
    pub(crate) fn openapi(&self) -> Arc<crate::openapi::Documents> {
        self.openapi.documents(&self.registry.table())
    }

    pub(crate) fn set_bootstrapped(&self) {
        self.bootstrapped.store(true, Ordering::Release);
    }

    pub(crate) fn is_bootstrapped(&self) -> bool {
        self.bootstrapped.load(Ordering::Acquire)
    }
}

/// The whole stack.
pub(crate) fn stack(app: &Arc<App>) -> Stack {
    Stack::new(Arc::clone(app), routes(app))
}

/// Everything that is no resource.
fn routes(app: &Arc<App>) -> Router {
    Router::new()
        .route("/", get(index::index))
        .route("/index.html", get(index::index))
        .route("/healthz", get(health::healthz))
        .route("/healthz/{*check}", get(health::healthz))
        .route("/livez", get(health::livez))
        .route("/livez/{*check}", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/readyz/{*check}", get(health::readyz))
        .route("/metrics", get(observe::metrics))
        .route("/metrics/slis", get(observe::slis).delete(observe::reset_slis))
        .route("/version", get(health::version))
        .route("/version/", get(health::version))
        .route("/catamaran.dev/v1/backup", get(maintenance::backup))
        .route("/catamaran.dev/v1/encryption/rotate", post(maintenance::rotate))
        .route("/.well-known/openid-configuration", get(oidc::configuration))
        .route("/openid/v1/jwks", get(oidc::keys))
        .route("/openapi/v2", get(openapi::v2))
        .route("/openapi/v3", get(openapi::index))
        .route("/openapi/v3/{*path}", get(openapi::document))
        .route("/api", get(discovery::core))
        .route("/api/", get(discovery::core))
        .route("/apis", get(discovery::groups))
        .route("/apis/", get(discovery::groups))
        .fallback(error::unknown_path)
        .method_not_allowed_fallback(error::method_not_allowed)
        .with_state(Arc::clone(app))
}
