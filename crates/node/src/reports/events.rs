//! Events: recorded at once, written later, counted instead of repeated.
//!
//! Nothing here is waited for by a pod. A bounded queue takes what is recorded (and drops it when the API server is away
//! for long); a task lets a second's worth gather, so that a pod's start is over before its events are written.

use crate::machine::Severity;
use crate::world::Role;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

const QUEUE: usize = 2048;
const GATHER: Duration = Duration::from_secs(1);
/// Events remembered for counting; past this the memory starts anew.
const REMEMBERED: usize = 4096;
const COMPONENT: &str = "kubelet";

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    uid: String,
    container: Option<String>,
    severity: Severity,
    reason: String,
    message: String,
}

#[derive(Debug)]
struct Draft {
    key: Key,
    pod: Arc<Pod>,
    at: Timestamp,
}

struct Written {
    name: String,
    count: i32,
}

pub(super) struct Recorder {
    queue: mpsc::Sender<Draft>,
    task: JoinHandle<()>,
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Recorder {
    pub(super) fn start(client: Client, node_name: &str) -> Self {
        let (queue, receiver) = mpsc::channel(QUEUE);
        let writer = Writer {
            client,
            node_name: node_name.to_owned(),
            written: HashMap::new(),
        };
        Self {
            queue,
            task: tokio::spawn(writer.run(receiver)),
        }
    }

    pub(super) fn record(
        &self,
        pod: &Arc<Pod>,
        container: Option<&str>,
        severity: Severity,
        reason: &str,
        message: &str,
    ) {
        let key = Key {
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            container: container.map(str::to_owned),
            severity,
            reason: reason.to_owned(),
            message: message.to_owned(),
        };
        if self
            .queue
            .try_send(Draft {
                key,
                pod: pod.clone(),
                at: Timestamp::now(),
            })
            .is_err()
        {
            tracing::debug!(reason, message, "the event queue is full; an event is lost");
        }
    }
}

struct Writer {
    client: Client,
    node_name: String,
    written: HashMap<Key, Written>,
}

impl Writer {
    async fn run(mut self, mut queue: mpsc::Receiver<Draft>) {
        let mut drafts = Vec::new();
        while queue.recv_many(&mut drafts, QUEUE).await > 0 {
            tokio::time::sleep(GATHER).await;
            while let Ok(draft) = queue.try_recv() {
                drafts.push(draft);
            }
            for (draft, count) in gathered(std::mem::take(&mut drafts)) {
                if let Err(error) = self.write(&draft, count).await {
                    tracing::debug!(
                        error = crate::chain(&error),
                        reason = draft.key.reason,
                        "an event was not written"
                    );
                }
            }
            if self.written.len() > REMEMBERED {
                self.written.clear();
            }
        }
    }

    async fn write(&mut self, draft: &Draft, count: i32) -> Result<(), kube::Error> {
        let namespace = draft.pod.metadata.namespace.clone().unwrap_or_default();
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        if let Some(written) = self.written.get_mut(&draft.key) {
            let patch = json!({"count": written.count + count, "lastTimestamp": Time(draft.at)});
            match api
                .patch(&written.name, &PatchParams::default(), &Patch::Merge(patch))
                .await
            {
                Ok(_) => {
                    written.count += count;
                    return Ok(());
                }
                // It expired: begin again.
                Err(kube::Error::Api(status)) if status.code == 404 => drop(self.written.remove(&draft.key)),
                Err(error) => return Err(error),
            }
        }
        let event = self.event(draft, namespace, count);
        let name = event.metadata.name.clone().unwrap_or_default();
        api.create(&PostParams::default(), &event).await?;
        self.written.insert(draft.key.clone(), Written { name, count });
        Ok(())
    }

    fn event(&self, draft: &Draft, namespace: String, count: i32) -> Event {
        let Draft { key, pod, at } = draft;
        let meta = &pod.metadata;
        let name = meta.name.clone().unwrap_or_default();
        let suffix = uuid::Uuid::new_v4().simple().to_string();
        let role = |name: &str| {
            crate::containers(pod)
                .find(|(container, _)| container.name == name)
                .map(|(_, role)| role)
        };
        let field_path = key.container.as_ref().map(|container| match role(container) {
            Some(Role::Init) => format!("spec.initContainers{{{container}}}"),
            Some(Role::Ephemeral) => format!("spec.ephemeralContainers{{{container}}}"),
            Some(Role::Main) | None => format!("spec.containers{{{container}}}"),
        });
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{name}.{}", &suffix[..16])),
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference {
                api_version: Some("v1".to_owned()),
                field_path,
                kind: Some("Pod".to_owned()),
                name: Some(name),
                namespace: Some(namespace),
                resource_version: meta.resource_version.clone(),
                uid: meta.uid.clone(),
            },
            reason: Some(key.reason.clone()),
            message: Some(key.message.clone()),
            type_: Some(
                if key.severity == Severity::Normal {
                    "Normal"
                } else {
                    "Warning"
                }
                .to_owned(),
            ),
            source: Some(EventSource {
                component: Some(COMPONENT.to_owned()),
                host: Some(self.node_name.clone()),
            }),
            reporting_component: Some(COMPONENT.to_owned()),
            reporting_instance: Some(self.node_name.clone()),
            first_timestamp: Some(Time(*at)),
            last_timestamp: Some(Time(*at)),
            count: Some(count),
            ..Event::default()
        }
    }
}

/// Equal events as one with a count, in the order of their first appearance.
fn gathered(drafts: Vec<Draft>) -> Vec<(Draft, i32)> {
    let mut all: Vec<(Draft, i32)> = Vec::new();
    for draft in drafts {
        match all.iter_mut().find(|(known, _)| known.key == draft.key) {
            Some((known, count)) => {
                known.at = draft.at;
                *count += 1;
            }
            None => all.push((draft, 1)),
        }
    }
    all
}
