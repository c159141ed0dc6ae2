//! A namespace that is being deleted is emptied, and then let go.
//!
//! ```text
//!   Terminating ─▶ delete every collection ─▶ wait until they are empty (a watch says when) ─▶ finalize ─▶ gone
//!        ▲                                        │ something failed: wait, begin again
//!        └────────────────────────────────────────┘
//! ```

use super::is_gone;
use crate::kinds;
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{ApiResource, DeleteParams, ListParams, PartialObjectMeta, WatchEvent, WatchParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt as _};
use std::collections::HashSet;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Pause before a namespace that could not be emptied is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Seconds after which the watch for emptiness looks anew.
const WATCH_SECONDS: u32 = 290;

pub(super) async fn run(client: Client, shutdown: CancellationToken) {
    let namespaces = Api::<Namespace>::all(client.clone());
    let mut events = std::pin::pin!(watcher(namespaces, watcher::Config::default()).default_backoff());
    let mut emptying: JoinSet<String> = JoinSet::new();
    let mut names: HashSet<String> = HashSet::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            Some(done) = emptying.join_next() => match done {
                Ok(name) => drop(names.remove(&name)),
                Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "emptying a namespace crashed"),
            },
            Some(event) = events.next() => match event {
                Ok(Event::Apply(namespace) | Event::InitApply(namespace)) => {
                    let name = namespace.name_any();
                    if namespace.metadata.deletion_timestamp.is_some() && names.insert(name.clone()) {
                        emptying.spawn(remove(client.clone(), name));
                    }
                }
                Ok(Event::Delete(_) | Event::Init | Event::InitDone) => {}
                Err(error) => tracing::debug!(error = &error as &dyn std::error::Error, "watch of namespaces"),
            }
        }
    }
}

/// Empties one namespace and lets it go, however often it takes.
async fn remove(client: Client, name: String) -> String {
    loop {
        let result = async {
            empty(&client, &name).await?;
            finalize(&client, &name).await?;
            // Whoever began to create something before the deletion was seen has finished by now.
            empty(&client, &name).await
        };
        match result.await {
            Ok(()) => return name,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    namespace = name,
                    "not emptied yet"
                );
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn empty(client: &Client, namespace: &str) -> kube::Result<()> {
    let collections: Vec<Api<kube::api::DynamicObject>> = kinds::ALL
        .iter()
        .map(|kind| kind.info())
        .filter(|info| info.namespaced)
        .map(|info| {
            let resource = ApiResource {
                group: info.group.to_string(),
                version: info.version.to_string(),
                api_version: info.api_version(),
                kind: info.kind.to_string(),
                plural: info.plural.to_string(),
            };
            Api::namespaced_with(client.clone(), namespace, &resource)
        })
        .collect();
    for collection in &collections {
        collection
            .delete_collection(&DeleteParams::default(), &ListParams::default())
            .await?;
    }
    for collection in &collections {
        until_empty(collection).await?;
    }
    Ok(())
}

/// Resolves when a collection has no objects.
async fn until_empty(collection: &Api<kube::api::DynamicObject>) -> kube::Result<()> {
    loop {
        let list = collection.list_metadata(&ListParams::default()).await?;
        let mut left: HashSet<String> = list.items.iter().map(PartialObjectMeta::name_any).collect();
        if left.is_empty() {
            return Ok(());
        }
        let version = list.metadata.resource_version.unwrap_or_default();
        let params = WatchParams::default().timeout(WATCH_SECONDS);
        let mut events = collection.watch_metadata(&params, &version).await?.boxed();
        while let Some(event) = events.try_next().await? {
            match event {
                WatchEvent::Deleted(object) => drop(left.remove(&object.name_any())),
                WatchEvent::Added(object) => drop(left.insert(object.name_any())),
                WatchEvent::Modified(_) | WatchEvent::Bookmark(_) => {}
                WatchEvent::Error(_) => break,
            }
            if left.is_empty() {
                return Ok(());
            }
        }
    }
}

/// Takes the system's hold off the namespace. Its own finalizers may still keep it.
async fn finalize(client: &Client, name: &str) -> kube::Result<()> {
    let api = Api::<Namespace>::all(client.clone());
    let mut namespace = match api.get(name).await {
        Err(error) if is_gone(&error) => return Ok(()),
        other => other?,
    };
    namespace.spec.get_or_insert_default().finalizers = None;
    let body = serde_json::to_vec(&namespace).map_err(kube::Error::SerdeError)?;
    let request = http::Request::put(format!("/api/v1/namespaces/{name}/finalize"))
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(body)
        .map_err(kube::Error::HttpError)?;
    match client.request::<Namespace>(request).await {
        Err(error) if is_gone(&error) => Ok(()),
        other => other.map(drop),
    }
}
