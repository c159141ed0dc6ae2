//! The way of a request through the layers: one future, polled as a whole.
//!
//! Layers of a library are services that are cloned for each request and boxed one inside the other; nine of them cost more than
//! many a request itself. Here a layer is a function that is handed what comes after it, and the compiler makes one state
//! machine of them all.

use super::{App, audit, classify, compress, deadline, fairness, layers, observe, present, resource};
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, Method, header};
use http_body::Body as _;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tower::{BoxError, ServiceExt as _};

/// What comes after a layer.
pub(super) trait Next: Send {
    fn run(self, request: Request) -> impl Future<Output = Response> + Send;
}

impl<F, A> Next for F
where
    F: FnOnce(Request) -> A + Send,
    A: Future<Output = Response> + Send,
{
    fn run(self, request: Request) -> impl Future<Output = Response> + Send {
        self(request)
    }
}

/// The whole server as a service. Cheap to clone. Requests carry their [`Identity`](crate::authn::Identity) as an extension;
/// without one they are anonymous.
#[derive(Clone)]
pub(crate) struct Stack {
    app: Arc<App>,
    /// Everything that is no resource.
    routes: Router,
}

impl Stack {
    pub(super) fn new(app: Arc<App>, routes: Router) -> Self {
        Stack { app, routes }
    }

    /// The layers, innermost first: each is handed the one above it.
    async fn answer(self, request: Request) -> Response {
        let Stack { app, routes } = self;
        let app = &app;
        let is_head = request.method() == Method::HEAD;
        let next = |request| route(app, routes, request);
        let next = |request| layers::authorize(app, request, next);
        let next = |request| fairness::take_turns(app, request, next);
        let next = |request| deadline::deadline(request, next);
        let next = |request| layers::refuse(request, next);
        let next = |request| audit::audit(app, request, next);
        let next = |request| layers::authenticate(app, request, next);
        let next = |request| layers::catch_panic(request, next);
        let next = |request| present::present(request, next);
        let next = |request| compress::compress(request, next);
        let next = |request| observe::observe(app, request, next);
        let response = classify::classify(app, request, next).await;
        finished(response, is_head)
    }
}

/// The length is told where it is known, also of a body that HEAD leaves out. Caches on the way keep nothing, unless an answer
/// says that they may.
fn finished(mut response: Response, is_head: bool) -> Response {
    let length = response.body().size_hint().exact();
    if let Some(length) = length.filter(|_| !response.headers().contains_key(header::CONTENT_LENGTH)) {
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    }
    let headers = response.headers_mut();
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    }
    if is_head {
        *response.body_mut() = Body::empty();
    }
    response
}

/// Resources have one handler, and nearly all requests are for them: they do not need to be looked up among the other paths.
async fn route(app: &Arc<App>, routes: Router, request: Request) -> Response {
    if is_resource(request.uri().path()) {
        // A future of its own, as it is by far the largest.
        return Box::pin(resource::handle(app, request)).await;
    }
    let Ok(response) = routes.oneshot(request).await;
    response
}

fn is_resource(path: &str) -> bool {
    ["/api/", "/apis/"]
        .into_iter()
        .any(|prefix| path.len() > prefix.len() && path.starts_with(prefix))
}

impl<B> tower::Service<http::Request<B>> for Stack
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let request = request.map(Body::new);
        let stack = self.clone();
        Box::pin(async move { Ok(stack.answer(request).await) })
    }
}

#[cfg(test)]
mod tests {
    use super::is_resource;

    #[test]
    fn discovery_is_no_resource() {
        for path in ["/api/v1", "/apis/apps/v1/deployments", "/api//"] {
            assert!(is_resource(path), "{path}");
        }
        for path in ["/api", "/api/", "/apis", "/apis/", "/apix/v1", "/version"] {
            assert!(!is_resource(path), "{path}");
        }
    }
}
