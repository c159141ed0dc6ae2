//! An API server of a few objects in memory, for tests of whole controllers: it reads, lists, watches, writes and deletes, with
//! versions and preconditions, and knows nothing of kinds.

use bytes::Bytes;
use futures::StreamExt as _;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::mpsc;

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

#[derive(Clone, Default)]
pub(crate) struct Fake(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// By resource, namespace and name.
    objects: BTreeMap<(String, String, String), Value>,
    version: u64,
    /// Every change: its version, and the resource and namespace it is of.
    past: Vec<(u64, String, String, Bytes)>,
    watches: Vec<(String, Option<String>, mpsc::UnboundedSender<Bytes>)>,
    /// Whoever asks for an access review gets this answer.
    allowed: bool,
    reviews: usize,
    news: Vec<mpsc::UnboundedSender<()>>,
}

/// What a path is about.
struct Target {
    /// With group and version: `/api/v1/pods`.
    resource: String,
    namespace: Option<String>,
    name: Option<String>,
}

fn target(path: &str) -> Target {
    let mut parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let prefix: Vec<&str> = parts.drain(..if parts[0] == "api" { 2 } else { 3 }).collect();
    let namespace = (parts.len() > 2 && parts[0] == "namespaces").then(|| {
        let namespace = parts[1].to_owned();
        parts.drain(..2);
        namespace
    });
    Target {
        resource: format!("/{}/{}", prefix.join("/"), parts[0]),
        namespace,
        name: parts.get(1).map(|name| (*name).to_owned()),
    }
}

fn answer(status: StatusCode, body: &Value) -> Answer {
    let body = Full::new(Bytes::from(body.to_string())).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

fn refusal(status: StatusCode, reason: &str) -> Answer {
    let status_object = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "metadata": {},
        "reason": reason, "message": reason, "code": status.as_u16(),
    });
    answer(status, &status_object)
}

impl Fake {
    pub(crate) fn client(&self) -> Client {
        self.client_after(|_, _| None)
    }

    /// A client before whose requests something happens; they may also be refused.
    pub(crate) fn client_after<F>(&self, first: F) -> Client
    where
        F: Fn(&Fake, &http::request::Parts) -> Option<StatusCode> + Clone + Send + 'static,
    {
        let fake = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let (fake, first) = (fake.clone(), first.clone());
            async move {
                let (parts, body) = request.into_parts();
                if let Some(status) = first(&fake, &parts) {
                    return Ok(refusal(status, "Refused"));
                }
                let body = body.collect().await.map(http_body_util::Collected::to_bytes);
                let body = serde_json::from_slice(&body.unwrap_or_default()).unwrap_or(Value::Null);
                Ok::<_, Infallible>(fake.serve(&parts, body))
            }
        });
        Client::new(service, "default")
    }

    /// From now on everybody may do everything.
    pub(crate) fn allow(&self) {
        self.0.lock().allowed = true;
    }

    /// How often it was asked.
    pub(crate) fn reviews(&self) -> usize {
        self.0.lock().reviews
    }

    /// Puts an object there: `resource` as in a path, without the namespace.
    pub(crate) fn put(&self, resource: &str, mut object: Value) {
        let mut state = self.0.lock();
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = json!(format!("u{}", state.version));
        }
        state.write(resource, object);
    }

    pub(crate) fn remove(&self, resource: &str, namespace: &str, name: &str) {
        let key = (resource.to_owned(), namespace.to_owned(), name.to_owned());
        self.0.lock().delete(&key);
    }

    pub(crate) fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        let key = (resource.to_owned(), namespace.to_owned(), name.to_owned());
        self.0.lock().objects.get(&key).cloned()
    }

    /// Resolves with what `look` finds, which it tries again after every change.
    pub(crate) async fn until<T>(&self, look: impl Fn(&Fake) -> Option<T>) -> T {
        let (sender, mut news) = mpsc::unbounded_channel();
        self.0.lock().news.push(sender);
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            news.recv().await.expect("the server is there");
        }
    }

    fn serve(&self, parts: &http::request::Parts, body: Value) -> Answer {
        let target = target(parts.uri.path());
        let query = parts.uri.query().unwrap_or_default();
        let mut state = self.0.lock();
        let namespace = target.namespace.clone().unwrap_or_default();
        match (&parts.method, &target.name) {
            (&Method::GET, None) if query.contains("watch=true") => state.watch(target, query),
            (&Method::GET, None) => {
                let items = state.objects.iter().filter(|((resource, of, _), _)| {
                    *resource == target.resource && target.namespace.as_ref().is_none_or(|wanted| wanted == of)
                });
                let items: Vec<&Value> = items.map(|(_, object)| object).collect();
                let metadata = json!({ "resourceVersion": state.version.to_string() });
                answer(StatusCode::OK, &json!({ "metadata": metadata, "items": items }))
            }
            (&Method::POST, None) if target.resource.ends_with("reviews") => {
                state.reviews += 1;
                state.news.retain(|sender| sender.send(()).is_ok());
                let mut review = body;
                review["status"] = json!({ "allowed": state.allowed });
                answer(StatusCode::CREATED, &review)
            }
            (&Method::POST, None) => {
                let mut object = body;
                object["metadata"]["namespace"] = json!(namespace);
                object["metadata"]["uid"] = json!(format!("u{}", state.version));
                let object = state.write(&target.resource, object);
                answer(StatusCode::CREATED, &object)
            }
            (method, Some(name)) => {
                let key = (target.resource.clone(), namespace, name.clone());
                let Some(present) = state.objects.get(&key).cloned() else {
                    return refusal(StatusCode::NOT_FOUND, "NotFound");
                };
                match *method {
                    Method::GET => answer(StatusCode::OK, &present),
                    Method::PUT => {
                        let of = &body["metadata"]["resourceVersion"];
                        if !of.is_null() && *of != present["metadata"]["resourceVersion"] {
                            return refusal(StatusCode::CONFLICT, "Conflict");
                        }
                        let object = state.write(&target.resource, body);
                        answer(StatusCode::OK, &object)
                    }
                    Method::PATCH => {
                        let of = &body["metadata"]["resourceVersion"];
                        if !of.is_null() && *of != present["metadata"]["resourceVersion"] {
                            return refusal(StatusCode::CONFLICT, "Conflict");
                        }
                        let mut object = present;
                        merge(&mut object, body);
                        answer(StatusCode::OK, &state.write(&target.resource, object))
                    }
                    Method::DELETE => {
                        let preconditions = &body["preconditions"];
                        let fails = |what: &str| {
                            let wanted = &preconditions[what];
                            !wanted.is_null() && *wanted != present["metadata"][what]
                        };
                        if fails("uid") || fails("resourceVersion") {
                            return refusal(StatusCode::CONFLICT, "Conflict");
                        }
                        state.delete(&key);
                        answer(StatusCode::OK, &present)
                    }
                    _ => refusal(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
                }
            }
            _ => refusal(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
        }
    }
}

/// As a merge patch does.
fn merge(object: &mut Value, patch: Value) {
    match patch {
        Value::Object(fields) if object.is_object() => {
            for (name, value) in fields {
                merge(&mut object[name], value);
            }
        }
        other => *object = other,
    }
}

impl State {
    fn write(&mut self, resource: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let key = (
            resource.to_owned(),
            text(&object["metadata"]["namespace"]),
            text(&object["metadata"]["name"]),
        );
        let is_new = self.objects.insert(key.clone(), object.clone()).is_none();
        self.tell(&key, if is_new { "ADDED" } else { "MODIFIED" }, &object);
        object
    }

    fn delete(&mut self, key: &(String, String, String)) {
        if let Some(mut object) = self.objects.remove(key) {
            self.version += 1;
            object["metadata"]["resourceVersion"] = json!(self.version.to_string());
            self.tell(key, "DELETED", &object);
        }
    }

    fn tell(&mut self, (resource, namespace, _): &(String, String, String), what: &str, object: &Value) {
        let event = Bytes::from(format!("{}\n", json!({ "type": what, "object": object })));
        let past = (self.version, resource.clone(), namespace.clone(), event.clone());
        self.past.push(past);
        self.watches.retain(|(of, within, sender)| {
            let concerns = of == resource && within.as_ref().is_none_or(|within| within == namespace);
            !concerns || sender.send(event.clone()).is_ok()
        });
        self.news.retain(|sender| sender.send(()).is_ok());
    }

    fn watch(&mut self, target: Target, query: &str) -> Answer {
        let version = query.split('&').find_map(|pair| pair.strip_prefix("resourceVersion="));
        let after: u64 = version.and_then(|version| version.parse().ok()).unwrap_or_default();
        let (sender, receiver) = mpsc::unbounded_channel();
        for (version, resource, namespace, event) in &self.past {
            let within = target.namespace.as_ref().is_none_or(|within| within == namespace);
            if *version > after && *resource == target.resource && within {
                let _ = sender.send(event.clone());
            }
        }
        self.watches.push((target.resource, target.namespace, sender));
        let frames = futures::stream::unfold(receiver, |mut receiver| async move {
            let event = receiver.recv().await?;
            Some((Ok(http_body::Frame::data(event)), receiver))
        });
        Response::new(StreamBody::new(frames.boxed()).boxed_unsync())
    }
}
