//! Tells the audit log about requests, and gives each of them an id. Stands between authentication and everything that may
//! refuse a request, so that refusals are told too; authentication lets its own refusals pass to here.

use super::App;
use super::classify::Class;
use super::layers::{Impersonator, Turned};
use super::stack::Next;
use crate::audit::{Audit, Draft, Level, Stage, Subject, noting, user};
use crate::authn::Identity;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use catamaran_api::body::Format;
use futures::{FutureExt as _, StreamExt as _};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use http_body::{Body as _, Frame, SizeHint};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
const LONGEST_ID: usize = 64;
/// Bodies longer than this are not told. No request may have a longer one.
const LONGEST_BODY: usize = 3 << 20;
/// Failures say about themselves what they have to say in less.
const LONGEST_FAILURE: u64 = 1 << 20;
/// Answers longer than this are passed on untold: nobody waits until all of a long list is in memory twice.
const LONGEST_ANSWER: usize = 1 << 20;

/// Where a request came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

pub(super) async fn audit(app: &App, request: Request, next: impl Next) -> Response {
    let id = audit_id(request.headers());
    let mut response = match plan(app, &request, &id) {
        Some((audit, draft)) => told(audit, draft, request, next).await,
        None => next.run(request).await,
    };
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(AUDIT_ID, value);
    }
    response
}

/// The client's own, so that one request can be followed through several servers.
fn audit_id(headers: &HeaderMap) -> String {
    let own = headers.get(AUDIT_ID).and_then(|value| value.to_str().ok());
    match own.filter(|id| !id.is_empty()) {
        Some(id) => id.chars().take(LONGEST_ID).collect(),
        None => uuid::Uuid::new_v4().to_string(),
    }
}

fn plan(app: &App, request: &Request, id: &str) -> Option<(Arc<Audit>, Draft)> {
    let audit = app.audit.as_ref()?;
    let class = request.extensions().get::<Arc<Class>>()?;
    let nobody = Identity::default();
    let effective = request.extensions().get::<Identity>().unwrap_or(&nobody);
    let impersonator = request.extensions().get::<Impersonator>();
    // Rules are about who is really there.
    let identity = impersonator.map_or(effective, |Impersonator(identity)| identity);
    let resource = class.info.as_ref().map(|info| {
        [
            class.group(),
            info.plural.as_str(),
            info.subresource.as_str(),
            info.namespace.as_deref().unwrap_or_default(),
            info.name.as_str(),
        ]
    });
    let plan = audit.plan(&Subject {
        identity,
        verb: class.verb,
        resource,
        path: request.uri().path(),
    })?;
    let uri = request.uri();
    let uri = uri.path_and_query().map_or(uri.path(), http::uri::PathAndQuery::as_str);
    let mut draft = Draft::new(plan, id, uri, class.verb);
    let unknown = matches!(request.extensions().get(), Some(Turned::Away { .. }));
    draft.set("user", if unknown { json!({}) } else { user(identity) });
    if impersonator.is_some() {
        draft.set("impersonatedUser", user(effective));
    }
    let sources = sources(request);
    if !sources.is_empty() {
        draft.set("sourceIPs", json!(sources));
    }
    let agent = request.headers().get(header::USER_AGENT);
    if let Some(agent) = agent.and_then(|value| value.to_str().ok()) {
        draft.set("userAgent", json!(agent));
    }
    if let Some([group, plural, subresource, namespace, name]) = resource {
        let mut reference = json!({ "resource": plural });
        for (field, value) in [
            ("namespace", namespace),
            ("name", name),
            ("apiGroup", group),
            ("apiVersion", class.version()),
            ("subresource", subresource),
        ] {
            if !value.is_empty() {
                reference[field] = json!(value);
            }
        }
        draft.set("objectRef", reference);
    }
    Some((Arc::clone(audit), draft))
}

/// What proxies say, then who is at the other end.
fn sources(request: &Request) -> Vec<String> {
    let headers = request.headers();
    let text = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let is_address = |part: &&str| part.parse::<std::net::IpAddr>().is_ok();
    let mut sources: Vec<String> = text("x-forwarded-for")
        .split(',')
        .map(str::trim)
        .filter(is_address)
        .map(ToOwned::to_owned)
        .collect();
    let mut add = |address: String| {
        if sources.last() != Some(&address) {
            sources.push(address);
        }
    };
    if let Some(real) = Some(text("x-real-ip").trim()).filter(is_address) {
        add(real.to_owned());
    }
    if let Some(Peer(address)) = request.extensions().get::<Peer>() {
        add(address.ip().to_string());
    }
    sources
}

async fn told(audit: Arc<Audit>, mut draft: Draft, request: Request, next: impl Next) -> Response {
    if let Some(Turned::Away { attempted, .. }) = request.extensions().get().cloned() {
        // As in Kubernetes, all that is told of it is that an answer began.
        let response = next.run(request).await;
        let failure = json!({ "kind": "Status", "message": attempted });
        draft.set_status(response.status().as_u16(), Some(&failure));
        audit.tell(&draft, Stage::ResponseStarted).await;
        return response;
    }
    audit.tell(&draft, Stage::RequestReceived).await;
    let class = request.extensions().get::<Arc<Class>>().cloned();
    let long_running = class.is_some_and(|class| class.long_running);
    let request = with_object(&mut draft, request, long_running).await;
    let served = noting(Arc::clone(&draft.notes), next.run(request));
    let response = match AssertUnwindSafe(served).catch_unwind().await {
        Ok(response) => response,
        Err(panic) => {
            let failure = json!({
                "kind": "Status", "status": "Failure", "reason": "InternalError", "message": "APIServer panic'd",
            });
            draft.set_status(500, Some(&failure));
            audit.tell_now(&draft, Stage::Panic);
            std::panic::resume_unwind(panic);
        }
    };
    let code = response.status().as_u16();
    if long_running && code < 400 {
        draft.set_status(code, None);
        audit.tell(&draft, Stage::ResponseStarted).await;
        return response.map(|inner| {
            Body::new(Ended {
                inner,
                audit,
                draft,
                told: false,
            })
        });
    }
    let response = with_answer(&mut draft, response, code).await;
    audit.tell(&draft, Stage::ResponseComplete).await;
    response
}

/// Reads the body, if it is to be told, and puts it back.
async fn with_object(draft: &mut Draft, request: Request, long_running: bool) -> Request {
    if draft.plan.level < Level::Request || long_running {
        return request;
    }
    let (head, body) = request.into_parts();
    let length = body.size_hint();
    if length.exact() == Some(0) || length.lower() > LONGEST_BODY as u64 {
        return Request::from_parts(head, body);
    }
    // One longer than possible is refused by whoever wants to read it: as much is left as tells that.
    let Ok(bytes) = axum::body::to_bytes(body, LONGEST_BODY + 1).await else {
        let too_long = Body::from(vec![b' '; LONGEST_BODY + 1]);
        return Request::from_parts(head, too_long);
    };
    draft.set_request(object(media_type(&head.headers), &bytes));
    Request::from_parts(head, Body::from(bytes))
}

fn media_type(headers: &HeaderMap) -> &str {
    let media_type = headers.get(header::CONTENT_TYPE);
    media_type.and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// A body as JSON: patches are kept as they are, if they are JSON at all.
fn object(media_type: &str, bytes: &[u8]) -> Option<Value> {
    if media_type.contains("json") {
        return serde_json::from_slice(bytes).ok();
    }
    let format = Format::from_content_type(media_type).unwrap_or(Format::Yaml);
    catamaran_api::body::parse(format, bytes).ok().map(|body| body.value)
}

/// The outcome; the body is read only if it is to be told, or says why something failed.
async fn with_answer(draft: &mut Draft, response: Response, code: u16) -> Response {
    let short = response
        .body()
        .size_hint()
        .upper()
        .is_some_and(|length| length <= LONGEST_FAILURE);
    let whole = draft.plan.level == Level::RequestResponse;
    let tells_why = code >= 400 && short;
    if !whole && !tells_why {
        draft.set_status(code, None);
        return response;
    }
    let (head, body) = response.into_parts();
    let bytes = match beginning(body, LONGEST_ANSWER).await {
        Beginning::Whole(bytes) => bytes,
        Beginning::Part(body) => {
            draft.set_status(code, None);
            return Response::from_parts(head, body);
        }
    };
    let plain = !head.headers.contains_key(header::CONTENT_ENCODING);
    let value = Some(&head.headers)
        .filter(|_| plain)
        .and_then(|headers| object(media_type(headers), &bytes));
    draft.set_status(code, value.as_ref().filter(|_| code >= 400));
    draft.set_response(value);
    Response::from_parts(head, Body::from(bytes))
}

enum Beginning {
    Whole(Bytes),
    /// It is longer, or ended badly: the body as it was.
    Part(Body),
}

/// Reads up to `most` bytes and a frame.
async fn beginning(body: Body, most: usize) -> Beginning {
    let mut rest = body.into_data_stream();
    let mut frames = Vec::new();
    let mut length = 0;
    while length <= most {
        match rest.next().await {
            None => {
                return Beginning::Whole(Bytes::from(
                    frames.into_iter().flatten().collect::<Vec<Bytes>>().concat(),
                ));
            }
            Some(Ok(frame)) => {
                length += frame.len();
                frames.push(Ok::<Bytes, axum::Error>(frame));
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "an answer ended badly");
                frames.push(Err(error));
                break;
            }
        }
    }
    Beginning::Part(Body::from_stream(futures::stream::iter(frames).chain(rest)))
}

/// A stream about whose end is told.
struct Ended {
    inner: Body,
    audit: Arc<Audit>,
    draft: Draft,
    told: bool,
}

impl Ended {
    fn tell(&mut self) {
        if !std::mem::replace(&mut self.told, true) {
            self.audit.tell_now(&self.draft, Stage::ResponseComplete);
        }
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.tell();
    }
}

impl http_body::Body for Ended {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        if matches!(polled, Poll::Ready(None)) {
            self.tell();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn long_answers_pass_untold_and_whole() {
        let body = || {
            let frames = ["ab", "cd", "ef"].map(|frame| Ok::<_, axum::Error>(Bytes::from_static(frame.as_bytes())));
            Body::from_stream(futures::stream::iter(frames))
        };
        let Beginning::Whole(bytes) = beginning(body(), 6).await else {
            panic!("it is short enough");
        };
        assert_eq!(bytes, "abcdef");
        let Beginning::Part(body) = beginning(body(), 3).await else {
            panic!("it is too long");
        };
        assert_eq!(axum::body::to_bytes(body, 100).await.unwrap(), "abcdef");
    }
}
