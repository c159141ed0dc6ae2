//! What happens to every request before a handler sees it.

use super::error::response;
use super::request_info::RequestInfo;
use super::{App, query};
use crate::authn::{ANONYMOUS, Identity};
use crate::authz::{Attempt, AttemptedResource, Verdict};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use catamaran_api::{GroupResource, Status};
use http::{HeaderMap, Method};
use std::any::Any;
use std::sync::Arc;
use std::time::Duration;
use tower_http::catch_panic::CatchPanicLayer;

/// How long a request waits for its turn.
const TURN_PATIENCE: Duration = Duration::from_secs(15);

/// A layer that says who all requests through it are from.
pub(crate) fn with_identity<B>(
    identity: Identity,
) -> tower::util::MapRequestLayer<impl Fn(http::Request<B>) -> http::Request<B> + Clone> {
    tower::util::MapRequestLayer::new(move |mut request: http::Request<B>| {
        request.extensions_mut().insert(identity.clone());
        request
    })
}

type PanicHandler = fn(Box<dyn Any + Send + 'static>) -> Response;

/// A bug in a handler costs its request, not the server.
pub(super) fn catch_panic() -> CatchPanicLayer<PanicHandler> {
    CatchPanicLayer::custom(panicked as PanicHandler)
}

#[expect(clippy::needless_pass_by_value, reason = "the signature is the layer's")]
fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
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

/// Finds out who asks for what, parses the path once, and asks the authoriser.
pub(super) async fn authorize(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let info = RequestInfo::parse(request.uri().path());
    let identity = request
        .extensions()
        .get::<Identity>()
        .cloned()
        .unwrap_or_else(Identity::anonymous);
    let identity = match impersonated(&app, identity, request.headers()) {
        Ok(identity) => identity,
        Err(status) => return response(&status),
    };
    let verdict = {
        let method = request.method().as_str().to_ascii_lowercase();
        let verb = match &info {
            Some(info) => verb(request.method(), info, request.uri().query().unwrap_or_default()),
            None => &method,
        };
        let resource = info.as_ref().map(|info| AttemptedResource {
            group: info.api_version.split_once('/').map_or("", |(group, _)| group),
            plural: &info.plural,
            subresource: &info.subresource,
            namespace: info.namespace.as_deref().unwrap_or_default(),
            name: &info.name,
        });
        let path = request.uri().path();
        app.authorizer.decide(&Attempt {
            identity: &identity,
            verb,
            resource,
            path,
        })
    };
    match verdict {
        Verdict::Allowed => {
            let extensions = request.extensions_mut();
            extensions.insert(identity);
            if let Some(info) = info {
                extensions.insert(Arc::new(info));
            }
            next.run(request).await
        }
        Verdict::Unauthenticated => response(&Status::unauthorized("")),
        Verdict::Denied { reason } => {
            let (resource, name) = match info {
                Some(info) => {
                    let group = info
                        .api_version
                        .split_once('/')
                        .map_or("", |(group, _)| group)
                        .to_owned();
                    (
                        GroupResource {
                            group: group.into(),
                            resource: info.plural.into(),
                        },
                        info.name,
                    )
                }
                None => (GroupResource::from_static("", ""), String::new()),
            };
            response(&Status::forbidden(&resource, &name, reason))
        }
    }
}

/// Who a request is to be treated as: the one it names in its headers, if the one it is from may take that part. To ignore
/// the headers would let somebody do more than they asked for.
/// <https://kubernetes.io/docs/reference/access-authn-authz/authentication/#user-impersonation>
fn impersonated(app: &App, identity: Identity, headers: &HeaderMap) -> Result<Identity, Status> {
    let texts = |name: &str| {
        let values = headers.get_all(name).iter();
        values.filter_map(|value| value.to_str().ok()).collect::<Vec<&str>>()
    };
    let (user, groups) = (texts("impersonate-user"), texts("impersonate-group"));
    let Some(user) = user.first().copied().filter(|user| !user.is_empty()) else {
        if headers.keys().any(|name| name.as_str().starts_with("impersonate-")) {
            return Err(Status::bad_request(
                "requested impersonation without an Impersonate-User header",
            ));
        }
        return Ok(identity);
    };
    let parts = std::iter::once(("users", user)).chain(groups.iter().map(|group| ("groups", *group)));
    for (plural, name) in parts {
        let verdict = app.authorizer.decide(&Attempt {
            identity: &identity,
            verb: "impersonate",
            resource: Some(AttemptedResource {
                group: "",
                plural,
                subresource: "",
                namespace: "",
                name,
            }),
            path: "",
        });
        match verdict {
            Verdict::Allowed => {}
            Verdict::Unauthenticated => return Err(Status::unauthorized("")),
            Verdict::Denied { reason } => {
                return Err(Status::forbidden(&GroupResource::from_static("", plural), name, reason));
            }
        }
    }
    if user == ANONYMOUS {
        return Ok(Identity::anonymous());
    }
    Ok(Identity::authenticated(user, &groups))
}

/// Bounds how many requests are worked on at a time, and so the memory they take: a body is read only once it is its
/// request's turn. Watches are bounded where they begin, streams by the connection each of them has to itself.
pub(super) async fn take_turns(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let brief = request
        .extensions()
        .get::<Arc<RequestInfo>>()
        .is_some_and(|info| is_brief(&request, info));
    if !brief {
        return next.run(request).await;
    }
    match tokio::time::timeout(TURN_PATIENCE, app.requests.acquire()).await {
        Ok(Ok(_turn)) => next.run(request).await,
        _ => response(&Status::too_many_requests(
            "the server has received too many requests and has asked us to try again later",
            1,
        )),
    }
}

/// Is a request over once it is answered?
fn is_brief(request: &Request, info: &RequestInfo) -> bool {
    let query = request.uri().query().unwrap_or_default();
    let stream = matches!(info.subresource.as_str(), "exec" | "attach" | "log" | "portforward");
    !stream && verb(request.method(), info, query) != "watch"
}

/// The verb of a request for a resource, as policies name it.
pub(super) fn verb(method: &Method, info: &RequestInfo, query: &str) -> &'static str {
    let collection = info.name.is_empty();
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if collection => "deletecollection",
        Method::DELETE => "delete",
        _ if collection && query::flag(query, "watch") => "watch",
        _ if collection => "list",
        _ => "get",
    }
}
