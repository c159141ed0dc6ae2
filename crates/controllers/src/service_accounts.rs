//! Every namespace has a service account `default`, also after somebody deleted it.

use crate::framework::drive::{Change, Next, drive, source};
use crate::framework::requests::{is_conflict, is_forbidden, is_not_found, named};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::PostParams;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, ResourceExt as _};
use tokio_util::sync::CancellationToken;

const NAME: &str = "default";
const WORKERS: usize = 4;

pub(crate) async fn run(client: Client, shutdown: CancellationToken) {
    let namespaces = watcher(
        Api::<PartialObjectMeta<Namespace>>::all(client.clone()),
        watcher::Config::default(),
    );
    let only_default = watcher::Config::default().fields("metadata.name=default");
    let accounts = watcher(
        Api::<PartialObjectMeta<ServiceAccount>>::all(client.clone()),
        only_default,
    );
    let sources = vec![
        source("namespaces", namespaces, |change| match change {
            Change::Is(namespace) if namespace.metadata.deletion_timestamp.is_none() => vec![namespace.name_any()],
            _ => Vec::new(),
        }),
        source("service accounts", accounts, |change| match change {
            Change::Was(account) => account.namespace().into_iter().collect(),
            Change::Is(_) => Vec::new(),
        }),
    ];
    drive("serviceaccount", sources, WORKERS, shutdown, |namespace| {
        ensure(client.clone(), namespace)
    })
    .await;
}

async fn ensure(client: Client, namespace: String) -> kube::Result<Next> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client, &namespace);
    if accounts.get_metadata_opt(NAME).await?.is_some() {
        return Ok(Next::Done);
    }
    let account = ServiceAccount {
        metadata: named(NAME),
        ..ServiceAccount::default()
    };
    match accounts.create(&PostParams::default(), &account).await {
        // It is there already, or its namespace is going away.
        Err(error) if !(is_conflict(&error) || is_not_found(&error) || is_forbidden(&error)) => Err(error),
        _ => Ok(Next::Done),
    }
}
