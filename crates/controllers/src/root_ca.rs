//! Every namespace has a ConfigMap `kube-root-ca.crt` with the certificate by which pods know the API server.

use crate::framework::drive::{Change, Next, drive, source};
use crate::framework::requests::{is_conflict, is_forbidden, is_not_found, named};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::PostParams;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, ResourceExt as _};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

const NAME: &str = "kube-root-ca.crt";
const KEY: &str = "ca.crt";
/// Says what the certificate is for, and what not.
const DESCRIPTION: (&str, &str) = (
    "kubernetes.io/description",
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.",
);
const WORKERS: usize = 4;

pub(crate) async fn run(client: Client, ca_pem: Arc<str>, shutdown: CancellationToken) {
    let namespaces = watcher(
        Api::<PartialObjectMeta<Namespace>>::all(client.clone()),
        watcher::Config::default(),
    );
    let only_these = watcher::Config::default().fields("metadata.name=kube-root-ca.crt");
    let maps = watcher(Api::<PartialObjectMeta<ConfigMap>>::all(client.clone()), only_these);
    let sources = vec![
        source("namespaces", namespaces, |change| match change {
            Change::Is(namespace) if namespace.metadata.deletion_timestamp.is_none() => vec![namespace.name_any()],
            _ => Vec::new(),
        }),
        source("config maps", maps, |change| {
            change.object().namespace().into_iter().collect()
        }),
    ];
    drive(
        "root-ca-certificate-publisher",
        sources,
        WORKERS,
        shutdown,
        |namespace| ensure(client.clone(), namespace, Arc::clone(&ca_pem)),
    )
    .await;
}

async fn ensure(client: Client, namespace: String, ca_pem: Arc<str>) -> kube::Result<Next> {
    let maps: Api<ConfigMap> = Api::namespaced(client, &namespace);
    let data = BTreeMap::from([(KEY.to_owned(), ca_pem.to_string())]);
    let (key, description) = DESCRIPTION;
    let result = match maps.get_opt(NAME).await? {
        Some(map) if map.data.as_ref() == Some(&data) && map.annotations().contains_key(key) => Ok(()),
        Some(mut map) => {
            map.data = Some(data);
            map.annotations_mut().insert(key.to_owned(), description.to_owned());
            maps.replace(NAME, &PostParams::default(), &map).await.map(drop)
        }
        None => {
            let mut map = ConfigMap {
                metadata: named(NAME),
                data: Some(data),
                ..ConfigMap::default()
            };
            map.annotations_mut().insert(key.to_owned(), description.to_owned());
            maps.create(&PostParams::default(), &map).await.map(drop)
        }
    };
    match result {
        // Its namespace is going away, or somebody was faster: the watch shows what they wrote.
        Err(error) if is_conflict(&error) || is_not_found(&error) || is_forbidden(&error) => Ok(Next::Done),
        other => other.map(|()| Next::Done),
    }
}
