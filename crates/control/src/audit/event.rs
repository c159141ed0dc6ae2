//! What is told about a request: events of audit.k8s.io/v1, one JSON line for each stage. Pure but for the clock.

use super::policy::{Level, Plan};
use super::{Noted, Notes};
use crate::authn::Identity;
use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// How far a request has come.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub(crate) enum Stage {
    RequestReceived,
    /// Only of requests that are meant to last.
    ResponseStarted,
    ResponseComplete,
    Panic,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Stage::RequestReceived => "RequestReceived",
            Stage::ResponseStarted => "ResponseStarted",
            Stage::ResponseComplete => "ResponseComplete",
            Stage::Panic => "Panic",
        }
    }
}

/// An event in the making.
pub(crate) struct Draft {
    pub(crate) plan: Plan,
    pub(crate) notes: Notes,
    fields: Map<String, Value>,
}

impl Draft {
    pub(crate) fn new(plan: Plan, audit_id: &str, uri: &str, verb: &str) -> Self {
        let mut fields = Map::new();
        let mut set = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
        set("kind", json!("Event"));
        set("apiVersion", json!("audit.k8s.io/v1"));
        set("level", json!(plan.level.name()));
        set("auditID", json!(audit_id));
        set("stage", Value::Null);
        set("requestURI", json!(uri));
        set("verb", json!(verb));
        set("requestReceivedTimestamp", json!(now()));
        Draft {
            notes: Noted::new(plan.level >= Level::Request),
            plan,
            fields,
        }
    }

    pub(crate) fn set(&mut self, name: &str, value: Value) {
        self.fields.insert(name.to_owned(), value);
    }

    /// What the client sent, if it is to be told.
    pub(crate) fn set_request(&mut self, object: Option<Value>) {
        self.set_object("requestObject", Level::Request, object);
    }

    /// What it was answered, if it is to be told.
    pub(crate) fn set_response(&mut self, object: Option<Value>) {
        self.set_object("responseObject", Level::RequestResponse, object);
    }

    fn set_object(&mut self, name: &str, level: Level, object: Option<Value>) {
        let Some(mut object) = object else { return };
        if self.plan.level < level {
            return;
        }
        if self.plan.omit_managed_fields {
            forget_managed_fields(&mut object);
        }
        self.set(name, object);
    }

    /// The outcome: a code, and what a failure says about itself.
    pub(crate) fn set_status(&mut self, code: u16, failure: Option<&Value>) {
        let mut status = json!({ "metadata": {} });
        if let Some(failure) = failure.filter(|failure| failure["kind"] == "Status") {
            for name in ["status", "message", "reason", "details"] {
                if let Some(value) = failure.get(name) {
                    status[name] = value.clone();
                }
            }
        }
        status["code"] = json!(code);
        self.set("responseStatus", status);
    }

    /// The outcome of a request whose client did not wait for it, as Kubernetes tells it. False if the outcome is known.
    pub(crate) fn set_abandoned(&mut self) -> bool {
        let unknown = !self.fields.contains_key("responseStatus");
        if unknown {
            let status = json!({
                "metadata": {}, "status": "Success", "message": "Connection closed early", "code": 200,
            });
            self.set("responseStatus", status);
        }
        unknown
    }

    /// The line of a stage; `None` if it is not to be told.
    pub(super) fn line(&self, stage: Stage) -> Option<Vec<u8>> {
        if !self.plan.tells(stage) {
            return None;
        }
        let mut event = self.fields.clone();
        event.insert("stage".to_owned(), json!(stage.name()));
        event.insert("stageTimestamp".to_owned(), json!(now()));
        let notes = self.notes.annotations.lock();
        if !notes.is_empty() {
            let annotations = notes.iter().map(|(key, value)| (key.clone(), value.clone()));
            event.insert("annotations".to_owned(), Value::Object(annotations.collect()));
        }
        drop(notes);
        let mut line = serde_json::to_vec(&event).ok()?;
        line.push(b'\n');
        Some(line)
    }
}

/// With microseconds, as `MicroTime` has them.
fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// A user as `UserInfo`.
pub(crate) fn user(identity: &Identity) -> Value {
    let mut user = json!({ "username": identity.user });
    if !identity.uid.is_empty() {
        user["uid"] = json!(identity.uid);
    }
    if !identity.groups.is_empty() {
        user["groups"] = json!(identity.groups);
    }
    if !identity.extra.is_empty() {
        user["extra"] = json!(identity.extra);
    }
    user
}

fn forget_managed_fields(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    let items = object.get_mut("items").and_then(Value::as_array_mut);
    items.into_iter().flatten().for_each(forget_managed_fields);
}
