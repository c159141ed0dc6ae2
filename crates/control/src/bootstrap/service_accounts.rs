//! Every namespace has a service account `default`, also after somebody deleted it.

use super::{is_conflict, is_gone, named};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::PostParams;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt as _};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const NAME: &str = "default";
/// Pause before namespaces that failed are tried again.
const RETRY: Duration = Duration::from_secs(2);

pub(super) async fn run(client: Client, shutdown: CancellationToken) {
    let namespaces = Api::<Namespace>::all(client.clone());
    let mut namespaces = std::pin::pin!(watcher(namespaces, watcher::Config::default()).default_backoff());
    let accounts = Api::<ServiceAccount>::all(client.clone());
    let only_default = watcher::Config::default().fields("metadata.name=default");
    let mut accounts = std::pin::pin!(watcher(accounts, only_default).default_backoff());
    let mut dirty: BTreeSet<String> = BTreeSet::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            Some(event) = namespaces.next() => match event {
                Ok(Event::Apply(namespace) | Event::InitApply(namespace)) => {
                    if namespace.metadata.deletion_timestamp.is_none() {
                        dirty.insert(namespace.name_any());
                    }
                }
                Ok(Event::Delete(_) | Event::Init | Event::InitDone) => {}
                Err(error) => tracing::debug!(error = &error as &dyn std::error::Error, "watch of namespaces"),
            },
            Some(event) = accounts.next() => match event {
                Ok(Event::Delete(account)) => dirty.extend(account.namespace()),
                Ok(_) => {}
                Err(error) => tracing::debug!(error = &error as &dyn std::error::Error, "watch of service accounts"),
            },
            () = tokio::time::sleep(RETRY), if !dirty.is_empty() => {}
        }
        for namespace in std::mem::take(&mut dirty) {
            if let Err(error) = ensure(&client, &namespace).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    namespace,
                    "no default service account yet"
                );
                dirty.insert(namespace);
            }
        }
    }
}

async fn ensure(client: &Client, namespace: &str) -> kube::Result<()> {
    let account = ServiceAccount {
        metadata: named(NAME),
        ..Default::default()
    };
    match Api::namespaced(client.clone(), namespace)
        .create(&PostParams::default(), &account)
        .await
    {
        Err(error) if is_conflict(&error) || is_gone(&error) => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Ok(()),
    }
}
