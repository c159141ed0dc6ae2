//! What the agent writes to the API server about pods: statuses, final deletions, events.

mod events;

use crate::layout::PodKey;
use crate::machine::{Reported, Reports, Severity};
use async_trait::async_trait;
use events::Recorder;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use serde_json::{Value, json};
use std::sync::Arc;

pub(crate) struct ApiReports {
    client: Client,
    recorder: Recorder,
}

impl ApiReports {
    /// Starts the event writer, which lives as long as this value.
    pub(crate) fn new(client: Client, node_name: &str) -> Self {
        Self {
            recorder: Recorder::start(client.clone(), node_name),
            client,
        }
    }

    fn pods(&self, pod: &PodKey) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &pod.namespace)
    }

    async fn outcome<T>(&self, pod: &PodKey, result: Result<T, kube::Error>) -> Reported {
        let Err(error) = result else { return Reported::Done };
        match &error {
            kube::Error::Api(status) if status.code == 404 => Reported::Gone,
            kube::Error::Api(status) if status.code == 409 => self.after_conflict(pod).await,
            _ => {
                tracing::warn!(
                    pod = pod.uid,
                    error = crate::chain(&error),
                    "the API server did not take a pod's report"
                );
                Reported::Failed
            }
        }
    }

    /// A conflict is either another pod of that name, or worth another try.
    async fn after_conflict(&self, pod: &PodKey) -> Reported {
        match self.pods(pod).get_metadata_opt(&pod.name).await {
            Ok(None) => Reported::Gone,
            Ok(Some(found)) if found.metadata.uid.as_deref() != Some(&pod.uid) => Reported::Gone,
            _ => Reported::Failed,
        }
    }
}

#[async_trait]
impl Reports for ApiReports {
    async fn status(&self, pod: &PodKey, status: &PodStatus) -> Reported {
        let patch = Patch::Merge(status_patch(pod, status));
        let result = self
            .pods(pod)
            .patch_status(&pod.name, &PatchParams::default(), &patch)
            .await;
        self.outcome(pod, result).await
    }

    async fn delete(&self, pod: &PodKey) -> Reported {
        let preconditions = Preconditions {
            uid: Some(pod.uid.clone()),
            resource_version: None,
        };
        let parameters = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        let result = self.pods(pod).delete(&pod.name, &parameters).await;
        self.outcome(pod, result).await
    }

    fn event(&self, pod: &Arc<Pod>, container: Option<&str>, severity: Severity, reason: &str, message: &str) {
        self.recorder.record(pod, container, severity, reason, message);
    }
}

/// A merge patch that says all of the status that is ours: what is absent is removed, the uid is a precondition.
fn status_patch(pod: &PodKey, status: &PodStatus) -> Value {
    let mut value = serde_json::to_value(status).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        for field in [
            "message",
            "reason",
            "initContainerStatuses",
            "ephemeralContainerStatuses",
        ] {
            fields.entry(field).or_insert(Value::Null);
        }
    }
    json!({"metadata": {"uid": pod.uid}, "status": value})
}
