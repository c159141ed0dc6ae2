//! As much of an API server as a scheduler speaks to, in memory, at the tower seam of `kube::Client`.

use bytes::Bytes;
use futures::StreamExt;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

#[derive(Clone)]
pub(crate) struct Fake {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
    /// A permit lets one request of that kind be answered; without an entry, all are.
    gates: Arc<Mutex<HashMap<&'static str, Arc<Semaphore>>>>,
}

#[derive(Default)]
pub(crate) struct State {
    revision: u64,
    objects: BTreeMap<(String, String), Value>,
    watchers: Vec<(String, UnboundedSender<Bytes>)>,
    pub(crate) events: Vec<Value>,
    /// Requests that arrived, whether they were answered or not: `bind p1 n1`, `status p1`.
    pub(crate) log: Vec<String>,
    /// Status codes that the next bindings fail with.
    pub(crate) binding_failures: VecDeque<u16>,
}

impl State {
    pub(crate) fn pod(&self, name: &str) -> &Value {
        &self.objects[&("pods".to_owned(), name.to_owned())]
    }

    pub(crate) fn node_of(&self, name: &str) -> Option<&str> {
        self.pod(name)["spec"]["nodeName"].as_str()
    }

    pub(crate) fn condition(&self, name: &str) -> Option<String> {
        let condition = &self.pod(name)["status"]["conditions"][0];
        let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
        condition.is_object().then(|| {
            format!(
                "{}={} {}: {}",
                text("type"),
                text("status"),
                text("reason"),
                text("message")
            )
        })
    }

    pub(crate) fn event_texts(&self) -> Vec<String> {
        let text = |event: &Value| {
            let field = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
            let pod = event["involvedObject"]["name"].as_str().unwrap_or_default();
            format!(
                "{pod} {} {} {}: {}",
                field("type"),
                field("reason"),
                field("reportingComponent"),
                field("message")
            )
        };
        self.events.iter().map(text).collect()
    }

    fn set(&mut self, plural: &str, mut object: Value) {
        let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let key = (plural.to_owned(), name);
        let kind = if self.objects.contains_key(&key) {
            "MODIFIED"
        } else {
            "ADDED"
        };
        self.announce(plural, kind, &object);
        self.objects.insert(key, object);
    }

    fn announce(&mut self, plural: &str, kind: &str, object: &Value) {
        let line = Bytes::from(format!("{}\n", json!({ "type": kind, "object": object })));
        self.watchers
            .retain(|(watched, sender)| watched != plural || sender.unbounded_send(line.clone()).is_ok());
    }
}

impl Fake {
    pub(crate) fn new() -> Fake {
        Fake {
            state: Arc::default(),
            changed: Arc::default(),
            gates: Arc::default(),
        }
    }

    pub(crate) fn client(&self) -> kube::Client {
        let fake = self.clone();
        let service = tower::service_fn(move |request| {
            let fake = fake.clone();
            async move { Ok::<_, Infallible>(fake.answer(request).await) }
        });
        kube::Client::new(service, "default")
    }

    pub(crate) fn edit(&self, edit: impl FnOnce(&mut State)) {
        edit(&mut self.state.lock());
        self.changed.notify_waiters();
    }

    pub(crate) fn add_node(&self, name: &str, cpu: &str, labels: &Value) {
        let object = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": { "name": name, "labels": labels },
            "status": { "allocatable": { "cpu": cpu, "memory": "8Gi", "pods": "110" } },
        });
        self.edit(|state| state.set("nodes", object));
    }

    pub(crate) fn add_pod(&self, name: &str, spec: &Value) {
        let mut object = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": name, "namespace": "default", "uid": format!("uid-of-{name}") },
            "spec": { "schedulerName": "default-scheduler", "containers": [{ "name": "c" }] },
            "status": { "phase": "Pending" },
        });
        for (field, value) in spec.as_object().expect("a spec") {
            object["spec"][field] = value.clone();
        }
        self.edit(|state| state.set("pods", object));
    }

    pub(crate) fn delete_pod(&self, name: &str) {
        self.edit(|state| {
            if let Some(object) = state.objects.remove(&("pods".to_owned(), name.to_owned())) {
                state.announce("pods", "DELETED", &object);
            }
        });
    }

    /// Ends all watches with `410 Gone`, as after compaction, while `edit` changes things unseen.
    pub(crate) fn forget_history(&self, edit: impl FnOnce(&Fake)) {
        let watchers = std::mem::take(&mut self.state.lock().watchers);
        edit(self);
        let gone = json!({ "type": "ERROR", "object": {
            "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "message": "too old", "code": 410,
        }});
        for (_, watcher) in watchers {
            // A watcher that left is no concern of this.
            let _ = watcher.unbounded_send(format!("{gone}\n").into());
        }
    }

    /// From now on, requests of that kind (`binding`, `status`) wait for [`Fake::release`].
    pub(crate) fn hold(&self, kind: &'static str) {
        self.gates.lock().insert(kind, Arc::new(Semaphore::new(0)));
    }

    pub(crate) fn release(&self, kind: &'static str) {
        if let Some(gate) = self.gates.lock().remove(kind) {
            gate.close();
        }
    }

    async fn pass(&self, kind: &'static str) {
        let gate = self.gates.lock().get(kind).cloned();
        if let Some(gate) = gate {
            // Closed is open.
            let _ = gate.acquire().await;
        }
    }

    /// Waits until the state is as expected; the deadline only ends a test that failed.
    pub(crate) async fn until(&self, what: &str, is_so: impl Fn(&State) -> bool) {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if is_so(&self.state.lock()) {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(20), wait).await.is_err() {
            panic!("never happened: {what}; requests: {:#?}", self.state.lock().log);
        }
    }

    pub(crate) fn see<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.lock())
    }

    async fn answer(&self, request: Request<Body>) -> Answer {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let body = body.collect().await.expect("a body").to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let segments: Vec<&str> = path.trim_start_matches("/api/v1/").split('/').collect();
        let answer = match (&parts.method, &segments[..]) {
            (&Method::GET, [plural]) if query.contains("watch=") => self.watch(plural, &query),
            (&Method::GET, [plural]) => self.list(plural),
            (&Method::POST, ["namespaces", _, "pods", name, "binding"]) => self.bind(name, &body).await,
            (&Method::PATCH, ["namespaces", _, "pods", name, "status"]) => self.patch_status(name, &body).await,
            (&Method::POST, ["namespaces", _, "events"]) => self.create_event(&body),
            _ => failure(
                StatusCode::NOT_FOUND,
                &format!("the fake does not know {} {path}", parts.method),
            ),
        };
        self.changed.notify_waiters();
        answer
    }

    fn list(&self, plural: &str) -> Answer {
        let state = self.state.lock();
        let items: Vec<&Value> = state
            .objects
            .iter()
            .filter(|((is, _), _)| is == plural)
            .map(|(_, item)| item)
            .collect();
        json_body(&json!({ "metadata": { "resourceVersion": state.revision.to_string() }, "items": items }))
    }

    fn watch(&self, plural: &str, query: &str) -> Answer {
        let since = query.split('&').find_map(|part| part.strip_prefix("resourceVersion="));
        let since: u64 = since
            .and_then(|since| since.parse().ok())
            .expect("a revision to watch from");
        let (sender, receiver) = unbounded();
        let mut state = self.state.lock();
        // What happened between the list and this; deletions in between do not occur in these tests.
        for ((is, _), object) in &state.objects {
            let revision: u64 = object["metadata"]["resourceVersion"]
                .as_str()
                .expect("set")
                .parse()
                .expect("a number");
            if is == plural && revision > since {
                let line = format!("{}\n", json!({ "type": "MODIFIED", "object": object }));
                sender.unbounded_send(line.into()).expect("the receiver is here");
            }
        }
        state.watchers.push((plural.to_owned(), sender));
        let frames = receiver.map(|line| Ok(http_body::Frame::data(line)));
        Response::new(StreamBody::new(frames).boxed_unsync())
    }

    async fn bind(&self, name: &str, binding: &Value) -> Answer {
        let node = binding["target"]["name"].as_str().expect("a target").to_owned();
        self.edit(|state| state.log.push(format!("bind {name} {node}")));
        self.pass("binding").await;
        let mut state = self.state.lock();
        if let Some(code) = state.binding_failures.pop_front() {
            return failure(StatusCode::from_u16(code).expect("a code"), "as the test wants it");
        }
        let Some(mut pod) = state.objects.get(&("pods".to_owned(), name.to_owned())).cloned() else {
            return failure(StatusCode::NOT_FOUND, "pod not found");
        };
        if pod["metadata"]["uid"] != binding["metadata"]["uid"] || pod["spec"]["nodeName"].is_string() {
            return failure(StatusCode::CONFLICT, "pod is already assigned to a node");
        }
        pod["spec"]["nodeName"] = json!(node);
        pod["status"]["conditions"] = json!([{ "type": "PodScheduled", "status": "True" }]);
        state.set("pods", pod);
        json_body(&json!({ "kind": "Status", "apiVersion": "v1", "status": "Success", "code": 201 }))
    }

    async fn patch_status(&self, name: &str, patch: &Value) -> Answer {
        self.edit(|state| state.log.push(format!("status {name}")));
        self.pass("status").await;
        let mut state = self.state.lock();
        let Some(mut pod) = state.objects.get(&("pods".to_owned(), name.to_owned())).cloned() else {
            return failure(StatusCode::NOT_FOUND, "pod not found");
        };
        // One condition is all there is here, so replacing is merging.
        pod["status"]["conditions"] = patch["status"]["conditions"].clone();
        state.set("pods", pod.clone());
        json_body(&pod)
    }

    fn create_event(&self, event: &Value) -> Answer {
        self.edit(|state| state.events.push(event.clone()));
        json_body(event)
    }
}

fn json_body(value: &Value) -> Answer {
    Response::new(Full::new(Bytes::from(value.to_string())).boxed_unsync())
}

fn failure(code: StatusCode, message: &str) -> Answer {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": "Test", "code": code.as_u16(),
    });
    let mut answer = json_body(&status);
    *answer.status_mut() = code;
    answer
}
