//! Every request that is not meant to last waits for its turn: see [`crate::flow`]. A watch takes a turn only until it has
//! begun; streams to nodes take none.

use super::App;
use super::classify::Class;
use super::query;
use super::stack::Next;
use crate::authn::Identity;
use crate::flow::{Digest, DigestResource, Found, Turn};
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body::{Body as _, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

const SCHEMA_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const LEVEL_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");
/// Answers longer than this hold their turn until they are sent.
const SHORT: u64 = 64 << 10;

pub(super) async fn take_turns(app: &App, request: Request, next: impl Next) -> Response {
    let Some(class) = request.extensions().get::<Arc<Class>>().cloned() else {
        return next.run(request).await;
    };
    if class.long_running && class.verb != "watch" {
        return next.run(request).await;
    }
    let found = {
        let anonymous;
        let identity = match request.extensions().get::<Identity>() {
            Some(identity) => identity,
            None => {
                anonymous = Identity::anonymous();
                &anonymous
            }
        };
        app.flow.classify(&digest(&class, identity, request.uri().path()))
    };
    let seats = seats(app, &class, &found, request.uri().query().unwrap_or_default());
    let arrived = Instant::now();
    let mut response = match app.flow.turn(&found, seats).await {
        Ok(None) => {
            app.metrics.dispatched(&found.schema, Duration::ZERO);
            next.run(request).await
        }
        Ok(Some(turn)) => {
            app.metrics.dispatched(&found.schema, arrived.elapsed());
            hold(turn, &class, next.run(request).await)
        }
        Err(refusal) => {
            app.metrics.rejected(&found.schema, refusal);
            refused()
        }
    };
    say(response.headers_mut(), &found);
    response
}

fn digest<'a>(class: &'a Class, identity: &'a Identity, path: &'a str) -> Digest<'a> {
    let resource = class.info.as_ref().map(|info| DigestResource {
        group: class.group(),
        plural: &info.plural,
        subresource: &info.subresource,
        namespace: info.namespace.as_deref().unwrap_or_default(),
    });
    Digest {
        identity,
        verb: class.verb,
        resource,
        path,
    }
}

/// Lists cost by what they have to look at, and so do watches that begin with what is there.
fn seats(app: &App, class: &Class, found: &Found, query: &str) -> u32 {
    let lists = match class.verb {
        "list" | "deletecollection" => true,
        "watch" => {
            let version = query::raw(query, "resourceVersion").unwrap_or_default();
            query::flag(query, "sendInitialEvents") || matches!(version.as_str(), "" | "0")
        }
        _ => false,
    };
    let (true, Some(info)) = (lists, &class.info) else {
        return 1;
    };
    let count = app.registry.count(&info.api_version, &info.plural);
    app.flow.seats_of_list(found, count)
}

fn refused() -> Response {
    let mut response = Response::new(Body::from("Too many requests, please try again later.\n"));
    *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    let headers = response.headers_mut();
    headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

fn say(headers: &mut HeaderMap, found: &Found) {
    for (name, uid) in [(SCHEMA_UID, &found.schema.uid), (LEVEL_UID, &found.schema.level_uid)] {
        if let Ok(value) = HeaderValue::from_str(uid)
            && !uid.is_empty()
        {
            headers.insert(name, value);
        }
    }
}

/// A long answer is still work after its head was made.
fn hold(turn: Turn, class: &Class, response: Response) -> Response {
    let short = response
        .body()
        .size_hint()
        .upper()
        .is_some_and(|length| length <= SHORT);
    if class.long_running || short {
        return response;
    }
    response.map(|inner| Body::new(Held { inner, _turn: turn }))
}

struct Held {
    inner: Body,
    _turn: Turn,
}

impl http_body::Body for Held {
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
