//! Counts and times every request, and tells about it at `/metrics`.

use super::App;
use super::classify::Class;
use super::query;
use super::session::Session;
use super::stack::Next;
use crate::metrics::Underway;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, header};
use http_body::{Body as _, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

pub(super) async fn observe(app: &App, request: Request, next: impl Next) -> Response {
    let Some(class) = request.extensions().get::<Arc<Class>>() else {
        return next.run(request).await;
    };
    let dry_run = query::raw(request.uri().query().unwrap_or_default(), "dryRun").is_some();
    let underway = app.metrics.begin(class, dry_run);
    let response = next.run(request).await;
    underway.answered(response.status().as_u16(), response.body().size_hint().exact());
    if !underway.is_long_running() {
        return response;
    }
    if let Some(session) = Session::begun(&response) {
        session.hold(underway);
        return response;
    }
    response.map(|inner| {
        Body::new(Counted {
            inner,
            _underway: underway,
        })
    })
}

/// A stream that is counted as long as it lasts.
struct Counted {
    inner: Body,
    _underway: Underway,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let objects = app.registry.counts();
    let unread = app.registry.decode_errors();
    let levels = app.flow.stats();
    let admission = app.registry.admission_metrics();
    let text = app
        .metrics
        .render(&objects, &unread, &levels, app.vault.state_bytes(), admission);
    std::future::ready(exposition(text)).await
}

/// GET `/metrics/slis`.
pub(super) async fn slis(State(app): State<Arc<App>>) -> Response {
    std::future::ready(exposition(app.metrics.render_slis())).await
}

/// DELETE `/metrics/slis`.
pub(super) async fn reset_slis(State(app): State<Arc<App>>) -> Response {
    app.metrics.slis.reset();
    std::future::ready(Response::new(Body::from("metrics reset\n"))).await
}

fn exposition(text: String) -> Response {
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
    );
    response
}
