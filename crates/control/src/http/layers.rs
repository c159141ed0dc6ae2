//! What happens to every request before a handler sees it.

use super::error::response;
use super::request_info::RequestInfo;
use super::stack::Next;
use super::{App, query};
use crate::authn::{self, Authenticator, Identity, Refused};
use crate::authz::{Attempt, AttemptedResource, Verdict, forbidden};
use axum::extract::Request;
use axum::response::Response;
use catamaran_api::Status;
use catamaran_api::selector::FieldSelector;
use futures::FutureExt as _;
use http::Method;
use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

/// Marks requests from parts of this process. They look at every change of what they watch and never at the owners of its
/// fields, which are a good part of it: their watches leave those out.
#[derive(Clone, Copy, Debug)]
pub(super) struct WithoutOwners;

/// A layer that marks them.
pub(crate) fn without_owners<B>() -> tower::util::MapRequestLayer<fn(http::Request<B>) -> http::Request<B>> {
    tower::util::MapRequestLayer::new(|mut request: http::Request<B>| {
        request.extensions_mut().insert(WithoutOwners);
        request
    })
}

/// A layer that says who all requests through it are from.
pub(crate) fn with_identity<B>(
    identity: Identity,
) -> tower::util::MapRequestLayer<impl Fn(http::Request<B>) -> http::Request<B> + Clone> {
    tower::util::MapRequestLayer::new(move |mut request: http::Request<B>| {
        request.extensions_mut().insert(identity.clone());
        request
    })
}

/// A layer for a controller. What it lists and watches, and reads of what any controller may read, is from `reader`;
/// everything else from `writer`.
pub(crate) fn with_identities<B>(
    reader: Identity,
    writer: Identity,
) -> tower::util::MapRequestLayer<impl Fn(http::Request<B>) -> http::Request<B> + Clone> {
    tower::util::MapRequestLayer::new(move |mut request: http::Request<B>| {
        let reads = *request.method() == Method::GET
            && RequestInfo::parse(request.uri().path())
                .is_none_or(|info| info.name.is_empty() || READ_BY_ALL.contains(&info.plural.as_str()));
        let identity = if reads { &reader } else { &writer };
        request.extensions_mut().insert(identity.clone());
        request.extensions_mut().insert(WithoutOwners);
        request
    })
}

/// Objects that the role of the controllers' common reader lets it get one by one.
const READ_BY_ALL: &[&str] = &["configmaps", "namespaces", "secrets", "serviceaccounts"];

/// A bug in a handler costs its request, not the server.
pub(super) async fn catch_panic(request: Request, next: impl Next) -> Response {
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(panic) => panicked(&*panic),
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Response {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("unknown");
    tracing::error!(panic = text, "a request handler panicked");
    response(&Status::internal(
        "this request caused a panic in the server; its log has the details",
    ))
}

/// Who a request was from before it was made on behalf of somebody else.
#[derive(Clone, Debug)]
pub(crate) struct Impersonator(pub(crate) Identity);

/// Why nobody serves a request; told to the audit log before it is answered.
#[derive(Clone, Debug)]
pub(super) enum Turned {
    /// It is not from whom it says; how it says so.
    Away { status: Status, attempted: String },
    /// It may not be as whom it wants.
    Down(Refused),
}

/// Finds out who asks, as whom, and what for. What is found wrong is carried on, as far as the audit log.
pub(super) async fn authenticate(app: &App, request: Request, next: impl Next) -> Response {
    let (mut head, body) = request.into_parts();
    let attempted = Authenticator::attempted(&head);
    match app.authenticator.authenticate(&mut head).await {
        Ok(identity) => match authn::impersonate(&*app.authorizer, &identity, &mut head.headers) {
            Ok(None) => drop(head.extensions.insert(identity)),
            Ok(Some(other)) => {
                head.extensions.insert(Impersonator(identity));
                head.extensions.insert(other);
            }
            Err(refused) => {
                head.extensions.insert(identity);
                head.extensions.insert(Turned::Down(refused));
            }
        },
        Err(status) => drop(head.extensions.insert(Turned::Away { status, attempted })),
    }
    if let Some(info) = RequestInfo::parse(head.uri.path()) {
        head.extensions.insert(Arc::new(info));
    }
    next.run(Request::from_parts(head, body)).await
}

/// Answers what was found wrong. Stands behind the audit log, and before everything that costs something.
pub(super) async fn refuse(mut request: Request, next: impl Next) -> Response {
    match request.extensions_mut().remove::<Turned>() {
        None => next.run(request).await,
        Some(Turned::Away { status, .. } | Turned::Down(Refused::Forbidden(status) | Refused::Unreadable(status))) => {
            response(&status)
        }
        Some(Turned::Down(Refused::Incomplete(why))) => internal_error(request.uri(), &why),
    }
}

/// In plain text, as Kubernetes answers what it cannot make sense of before it knows what the request is about.
fn internal_error(uri: &http::Uri, why: &str) -> Response {
    let text = format!("Internal Server Error: {:?}: {why}\n", uri.to_string());
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let mut response = Response::new(text.into());
    *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
    let plain = http::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(http::header::CONTENT_TYPE, plain);
    response
}

/// Asks the authoriser.
pub(super) async fn authorize(app: &App, request: Request, next: impl Next) -> Response {
    if let Err(status) = may(app, &request) {
        return response(&status);
    }
    let changes_policy = !matches!(*request.method(), Method::GET | Method::HEAD)
        && request
            .extensions()
            .get::<Arc<RequestInfo>>()
            .is_some_and(|info| info.api_version.starts_with(RBAC));
    let response = next.run(request).await;
    if changes_policy && app.registry.caches.fresh().await.is_err() {
        tracing::warn!("the caches are late: a change of policy does not hold yet");
    }
    response
}

/// The prefix of the versions of roles and bindings. Whoever was told that one was written may rely on it.
const RBAC: &str = "rbac.authorization.k8s.io/";

fn may(app: &App, request: &Request) -> Result<(), Status> {
    let anonymous = Identity::anonymous();
    let identity = request.extensions().get::<Identity>().unwrap_or(&anonymous);
    let info = request.extensions().get::<Arc<RequestInfo>>();
    let Some(info) = info.filter(|info| !info.plural.is_empty()) else {
        let verb = request.method().as_str().to_ascii_lowercase();
        return decide(
            app,
            &Attempt {
                verb: &verb,
                path: request.uri().path(),
                ..Attempt::new(identity)
            },
        );
    };
    let query = request.uri().query().unwrap_or_default();
    let verb = verb(request.method(), info, query);
    let selectors = match verb {
        "list" | "watch" | "deletecollection" if query.contains("Selector=") => Selectors::read(request.uri()),
        _ => Selectors::default(),
    };
    let (group, version) = info.api_version.split_once('/').unwrap_or(("", &info.api_version));
    // A namespace is in itself, so that whoever may read it as one of its objects may read it.
    let namespace = match &info.namespace {
        Some(namespace) => namespace,
        None if info.plural == "namespaces" && group.is_empty() => &info.name,
        None => "",
    };
    let name = if info.name.is_empty() {
        &selectors.name
    } else {
        &info.name
    };
    let attempt = |verb| Attempt {
        verb,
        resource: Some(AttemptedResource {
            group,
            version,
            plural: &info.plural,
            subresource: &info.subresource,
            namespace,
            name,
            field_selector: &selectors.field,
            label_selector: &selectors.label,
        }),
        path: request.uri().path(),
        ..Attempt::new(identity)
    };
    decide(app, &attempt(verb))?;
    if opens_connection(request, info) {
        decide(app, &attempt("create"))?;
    }
    Ok(())
}

/// Does a GET open a connection into a pod? Whoever may only read must not: it takes `create`, as a POST does.
/// Kubernetes: `AuthorizePodWebsocketUpgradeCreatePermission`.
fn opens_connection(request: &Request, info: &RequestInfo) -> bool {
    *request.method() == Method::GET
        && request.headers().contains_key(http::header::UPGRADE)
        && (info.api_version.as_str(), info.plural.as_str()) == ("v1", "pods")
        && matches!(info.subresource.as_str(), "attach" | "exec" | "portforward")
}

fn decide(app: &App, attempt: &Attempt<'_>) -> Result<(), Status> {
    // Why something is allowed costs more to find out than that it is, so only a log makes it worth it. The verdict is the same.
    let (allowed, reason) = if crate::audit::is_noting() {
        let (allowed, reason) = app.authorizer.explain(attempt);
        crate::audit::annotate(
            "authorization.k8s.io/decision",
            if allowed { "allow" } else { "forbid" },
        );
        crate::audit::annotate("authorization.k8s.io/reason", reason.as_str());
        (allowed, reason)
    } else {
        match app.authorizer.decide(attempt) {
            Verdict::Allowed => (true, String::new()),
            Verdict::Denied { reason } => (false, reason),
        }
    };
    match allowed {
        true => Ok(()),
        false => Err(forbidden(attempt, &reason)),
    }
}

/// What a request for a collection restricts itself to.
#[derive(Default)]
struct Selectors {
    field: String,
    label: String,
    /// The one object it is about, if the field selector says so.
    name: String,
}

impl Selectors {
    fn read(uri: &http::Uri) -> Self {
        // A query that cannot be read is refused later; it restricts nothing.
        let Ok(query) = query::Query::parse(uri) else {
            return Selectors::default();
        };
        let field = query.get("fieldSelector").to_owned();
        let name = FieldSelector::parse(&field)
            .ok()
            .and_then(|selector| selector.pinned("metadata.name").map(ToOwned::to_owned));
        Selectors {
            label: query.get("labelSelector").to_owned(),
            name: name.unwrap_or_default(),
            field,
        }
    }
}

/// The verb of a request for a resource, as policies name it. Methods that are none have none, which only those may use
/// who may do everything.
pub(super) fn verb(method: &Method, info: &RequestInfo, query: &str) -> &'static str {
    let collection = info.name.is_empty();
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if collection => "deletecollection",
        Method::DELETE => "delete",
        Method::GET | Method::HEAD if collection && query::flag(query, "watch") => "watch",
        Method::GET | Method::HEAD if collection => "list",
        Method::GET | Method::HEAD => "get",
        _ => "",
    }
}
