//! What the scheduler writes about a pod: its binding, or why there is none.

use crate::pod::PodView;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Binding, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Error};
use std::time::Duration;

/// After this, an answer is not waited for any longer. The watch tells what became of the request.
const PATIENCE: Duration = Duration::from_secs(30);

/// How a request that did not succeed ended.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The pod is gone.
    Gone,
    /// The pod is not what it was taken for: on a node already, being deleted, another of the same name.
    Stale,
    /// Anything else; worth another try.
    Other(String),
}

/// POSTs the binding of `pod` to `node`.
pub(crate) async fn bind(client: Client, pod: &PodView, node: &str) -> Result<(), Failure> {
    let binding = Binding {
        metadata: ObjectMeta {
            name: Some(pod.key.name.to_string()),
            namespace: Some(pod.key.namespace.to_string()),
            // Another pod of the same name must not inherit the decision.
            uid: Some(pod.uid.to_string()),
            ..ObjectMeta::default()
        },
        target: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(node.to_owned()),
            ..ObjectReference::default()
        },
    };
    let api: Api<Pod> = Api::namespaced(client, &pod.key.namespace);
    let params = PostParams::default();
    let request = api.create_subresource::<_, serde_json::Value>("binding", &pod.key.name, &params, &binding);
    finish(request).await
}

/// Sets `PodScheduled=False`, reason `Unschedulable`. The time of the transition is kept when it is none.
pub(crate) async fn unschedulable(client: Client, pod: &PodView, message: &str) -> Result<(), Failure> {
    let was_false = pod.condition.as_ref().filter(|condition| condition.status == "False");
    let since = was_false.and_then(|condition| condition.since.clone());
    let patch = serde_json::json!({
        "metadata": { "uid": &*pod.uid },
        "status": { "conditions": [{
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": message,
            "lastProbeTime": null,
            "lastTransitionTime": since.unwrap_or_else(|| Time(Timestamp::now())),
        }]},
    });
    let api: Api<Pod> = Api::namespaced(client, &pod.key.namespace);
    let params = PatchParams::default();
    let patch = Patch::Strategic(patch);
    finish(api.patch_status(&pod.key.name, &params, &patch)).await
}

async fn finish<T>(request: impl Future<Output = Result<T, Error>>) -> Result<(), Failure> {
    match tokio::time::timeout(PATIENCE, request).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(Error::Api(status))) if status.code == 404 => Err(Failure::Gone),
        Ok(Err(Error::Api(status))) if status.code == 409 => Err(Failure::Stale),
        Ok(Err(error)) => Err(Failure::Other(chain(&error))),
        Err(_) => Err(Failure::Other(format!("no answer within {} s", PATIENCE.as_secs()))),
    }
}

/// An error with its causes, for people.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        // Some libraries repeat the cause in their own words.
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        cause = error.source();
    }
    text
}
