//! The end of a definition: its instances go first, however long their finalizers take.

use super::status;
use crate::registry::resource::Resource;
use crate::registry::{DeleteOptions, Registry, Target};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinitionStatus;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// How long to wait before what is left is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Deletes all instances, waits until they are seen to be gone, and lets the definition go.
pub(super) async fn run(registry: &Registry, definition: &Target, storage: Option<Arc<Resource>>) {
    let outcome = match storage {
        None => ("NeverEstablished", "resource was never established"),
        Some(storage) => {
            let message = "CustomResource deletion is in progress";
            report(
                registry,
                definition,
                "True",
                "InstanceDeletionInProgress",
                message,
                false,
            )
            .await;
            // Nobody may create any more; whoever was about to has done so then.
            registry.definitions.created().await;
            empty(registry, &storage).await;
            ("InstanceDeletionCompleted", "removed all instances")
        }
    };
    // Nobody else would ever let it go.
    while !report(registry, definition, "False", outcome.0, outcome.1, true).await {
        tokio::time::sleep(RETRY).await;
    }
}

async fn empty(registry: &Registry, storage: &Arc<Resource>) {
    loop {
        // Taken anew each time, as another version of the definition brings another cache.
        let Some(cache) = registry.caches.of(storage) else {
            tokio::time::sleep(RETRY).await;
            continue;
        };
        let mut changes = cache.subscribe();
        if registry.caches.fresh().await.is_err() || cache.closed().is_cancelled() {
            tokio::time::sleep(RETRY).await;
            continue;
        }
        let left = cache.select(&storage.prefix(None), None, 0, |_| true).records;
        if left.is_empty() {
            return;
        }
        for record in left {
            let target = Target {
                resource: Arc::clone(storage),
                namespace: record.namespace().map(ToOwned::to_owned),
                name: record.name().to_owned(),
            };
            // What is gone already is fine, and what cannot be deleted now is tried again.
            if let Err(status) = registry.delete(&target, &DeleteOptions::default()).await
                && status.code() != 404
            {
                tracing::warn!(name = target.name, reason = %status, "an instance of a deleted kind cannot be deleted");
            }
        }
        tokio::select! {
            () = cache.closed().cancelled() => {}
            _ = changes.changed() => {}
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

/// False if it could not be written.
async fn report(
    registry: &Registry,
    definition: &Target,
    value: &str,
    reason: &str,
    message: &str,
    done: bool,
) -> bool {
    let now = Time(k8s_openapi::jiff::Timestamp::now());
    let written = registry
        .rewrite_status(definition, &mut |object| {
            let status: Option<CustomResourceDefinitionStatus> = serde_json::from_value(object["status"].clone()).ok();
            let mut status = status.unwrap_or_default();
            status::set(&mut status, "Terminating", value, reason, message.to_owned(), &now);
            object["status"] = serde_json::to_value(status).unwrap_or_default();
            if done && let Some(finalizers) = object.pointer_mut("/metadata/finalizers").and_then(Value::as_array_mut) {
                finalizers.retain(|finalizer| finalizer != FINALIZER);
            }
            true
        })
        .await;
    match written {
        Err(status) if status.code() != 404 => {
            tracing::error!(definition = definition.name, reason = %status, "the end of a definition cannot be written");
            false
        }
        _ => true,
    }
}
