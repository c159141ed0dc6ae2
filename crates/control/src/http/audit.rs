//! Tells the audit log about requests, and gives each of them an id. Stands between authentication and everything that may
//! refuse a request, so that refusals are told too; authentication lets its own refusals pass to here.

use super::App;
use super::classify::Class;
use super::layers::{Impersonator, Turned};
use super::session::Session;
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
    let class = request.extensions().get::<Arc<Class>>();
    let mut pending = Pending {
        long_running: class.is_some_and(|class| class.long_running),
        audit,
        draft,
        over: false,
    };
    let served = noting(Arc::clone(&pending.draft.notes), next.run(request));
    let response = match AssertUnwindSafe(served).catch_unwind().await {
        Ok(response) => response,
        Err(panic) => {
            pending.panicked();
            std::panic::resume_unwind(panic);
        }
    };
    let code = response.status().as_u16();
    pending.draft.set_status(code, None);
    if pending.long_running {
        pending.audit.tell(&pending.draft, Stage::ResponseStarted).await;
    }
    if pending.long_running && code < 400 {
        if let Some(session) = Session::begun(&response) {
            session.hold(pending);
            return response;
        }
        return response.map(|inner| {
            Body::new(Ended {
                inner,
                pending: Some(pending),
            })
        });
    }
    let response = with_answer(&mut pending.draft, response, code).await;
    pending.complete().await;
    response
}

/// A request whose end is not told yet. It is when this is dropped: hyper drops what serves a request as soon as its client is
/// gone, whatever was done for it until then.
struct Pending {
    audit: Arc<Audit>,
    draft: Draft,
    long_running: bool,
    /// Told.
    over: bool,
}

impl Pending {
    async fn complete(mut self) {
        self.set_request();
        self.over = true;
        self.audit.tell(&self.draft, Stage::ResponseComplete).await;
    }

    fn panicked(&mut self) {
        self.set_request();
        let failure = json!({
            "kind": "Status", "status": "Failure", "reason": "InternalError", "message": "APIServer panic'd",
        });
        self.draft.set_status(500, Some(&failure));
        self.over = true;
        self.audit.tell_now(&self.draft, Stage::Panic);
    }

    /// What the client sent, as far as anybody wanted to read it.
    fn set_request(&mut self) {
        if let Some(received) = self.draft.notes.take_body() {
            let object = sent(&received.media_type, &received.bytes);
            self.draft.set_request(object);
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        self.set_request();
        if self.draft.set_abandoned() && self.long_running {
            self.audit.tell_now(&self.draft, Stage::ResponseStarted);
        }
        self.audit.tell_now(&self.draft, Stage::ResponseComplete);
    }
}

fn media_type(headers: &HeaderMap) -> &str {
    let media_type = headers.get(header::CONTENT_TYPE);
    media_type.and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The body of a request as JSON: patches are kept as they are, if they are JSON at all.
fn sent(media_type: &str, bytes: &[u8]) -> Option<Value> {
    parse(language(media_type)?, bytes)
}

/// An answer as JSON, if it is an object of the API: what else there is to ask for (health, metrics, documents) is not told.
fn answered(media_type: &str, bytes: &[u8]) -> Option<Value> {
    let language = language(media_type).filter(|_| !media_type.is_empty())?;
    parse(language, bytes).filter(|value| value.get("kind").is_some_and(Value::is_string))
}

fn parse(language: Format, bytes: &[u8]) -> Option<Value> {
    match language {
        Format::Json => serde_json::from_slice(bytes).ok(),
        other => catamaran_api::body::parse(other, bytes).ok().map(|body| body.value),
    }
}

/// That of objects and patches; `None` for what is neither. A request that does not say is in JSON.
fn language(media_type: &str) -> Option<Format> {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    match essence.rsplit_once('+') {
        Some(("application/apply-patch", "yaml")) => Some(Format::Yaml),
        Some((kind, "json")) if kind.ends_with("-patch") => Some(Format::Json),
        _ => Format::from_content_type(essence),
    }
}

/// What is told of the answer; the body is read only if it is to be told, or says why something failed.
async fn with_answer(draft: &mut Draft, response: Response, code: u16) -> Response {
    let short = response
        .body()
        .size_hint()
        .upper()
        .is_some_and(|length| length <= LONGEST_FAILURE);
    let whole = draft.plan.level == Level::RequestResponse;
    let tells_why = code >= 400 && short;
    if !whole && !tells_why {
        return response;
    }
    let (head, body) = response.into_parts();
    let bytes = match beginning(body, LONGEST_ANSWER).await {
        Beginning::Whole(bytes) => bytes,
        Beginning::Part(body) => return Response::from_parts(head, body),
    };
    let plain = !head.headers.contains_key(header::CONTENT_ENCODING);
    let value = Some(&head.headers)
        .filter(|_| plain)
        .and_then(|headers| answered(media_type(headers), &bytes));
    if code >= 400 {
        draft.set_status(code, value.as_ref());
    }
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
    pending: Option<Pending>,
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
            self.pending = None;
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

    /// What serves a request is dropped when its client hangs up, whatever was done until then.
    #[tokio::test]
    async fn the_end_is_told_when_nobody_waits_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let (policy_file, path) = (dir.path().join("policy.yaml"), dir.path().join("audit.log"));
        let policy =
            "{apiVersion: audit.k8s.io/v1, kind: Policy, rules: [{level: Request}], omitStages: [RequestReceived]}";
        std::fs::write(&policy_file, policy).unwrap();
        let config = crate::audit::Config {
            policy_file,
            log: Some(crate::audit::LogConfig {
                path: path.clone(),
                mode: crate::audit::Mode::Blocking,
                max_megabytes: 0,
                max_backups: 0,
                max_days: 0,
            }),
            webhook: None,
        };
        let metrics = crate::metrics::Metrics::new();
        let shutdown = tokio_util::sync::CancellationToken::new();
        let audit = Arc::new(Audit::open(&config, &metrics, &shutdown).await.unwrap());
        let plan = audit.plan(&Subject {
            identity: &Identity::default(),
            verb: "create",
            resource: None,
            path: "/",
        });
        let draft = Draft::new(plan.unwrap(), "id", "/", "create");
        let next = async |_: Request| {
            crate::audit::note_body("application/json", &Bytes::from_static(b"{\"a\":1}"));
            std::future::pending().await
        };
        let mut served = Box::pin(told(Arc::clone(&audit), draft, Request::new(Body::empty()), next));
        assert!(futures::poll!(&mut served).is_pending());
        drop(served);
        audit.finish().await;
        let event: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!(event["stage"], "ResponseComplete");
        assert_eq!(event["requestObject"], json!({ "a": 1 }));
        let status = json!({ "metadata": {}, "status": "Success", "message": "Connection closed early", "code": 200 });
        assert_eq!(event["responseStatus"], status);
    }

    #[test]
    fn only_objects_are_told() {
        let map = json!({ "kind": "Status", "a": 1 });
        for (media_type, body, expected) in [
            ("text/plain; charset=utf-8", "ok", None),
            ("text/plain; version=0.0.4", "a: b", None),
            ("", "{\"kind\":\"Status\"}", None),
            ("application/json", "[1]", None),
            ("application/json", "{\"major\":\"1\"}", None),
            ("application/json;as=Table", "{\"kind\":\"Status\",\"a\":1}", Some(&map)),
            ("application/yaml", "kind: Status\na: 1", Some(&map)),
            ("application/yaml", "ok", None),
        ] {
            assert_eq!(
                answered(media_type, body.as_bytes()).as_ref(),
                expected,
                "{media_type} {body}"
            );
        }
        for (media_type, body, expected) in [
            ("", "{\"a\":1}", Some(json!({ "a": 1 }))),
            (
                "application/json-patch+json",
                "[{\"op\":\"test\"}]",
                Some(json!([{ "op": "test" }])),
            ),
            ("application/merge-patch+json; charset=utf-8", "{}", Some(json!({}))),
            ("application/apply-patch+yaml", "a: 1", Some(json!({ "a": 1 }))),
            ("application/octet-stream", "a: 1", None),
        ] {
            assert_eq!(sent(media_type, body.as_bytes()), expected, "{media_type} {body}");
        }
    }

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
