//! What every cluster has, and keeps having: its namespaces, their service accounts, the runtime classes.
//!
//! All of it goes through the in-process client, like anybody else's objects.

mod namespaces;
mod service_accounts;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Namespaces that exist from the start.
const NAMESPACES: &[&str] = &["default", "kube-node-lease", "kube-public", "kube-system"];

/// Runtime classes that exist from the start, and their handlers. The last ones are names other runtimes made common.
const RUNTIME_CLASSES: &[(&str, &str)] = &[("oci", "oci"), ("wasm", "wasm"), ("wasmtime", "wasm")];

/// Creates what is missing.
pub(crate) async fn ensure(client: &Client) -> kube::Result<()> {
    for name in NAMESPACES {
        create(
            client,
            &Namespace {
                metadata: named(name),
                ..Default::default()
            },
        )
        .await?;
    }
    for (name, handler) in RUNTIME_CLASSES {
        let class = RuntimeClass {
            metadata: named(name),
            handler: (*handler).to_owned(),
            ..Default::default()
        };
        create(client, &class).await?;
    }
    Ok(())
}

/// Starts the controllers that keep namespaces in order.
pub(crate) fn spawn(client: &Client, tasks: &TaskTracker, shutdown: &CancellationToken) {
    tasks.spawn(service_accounts::run(client.clone(), shutdown.clone()));
    tasks.spawn(namespaces::run(client.clone(), shutdown.clone()));
}

async fn create<K>(client: &Client, object: &K) -> kube::Result<()>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    match Api::<K>::all(client.clone())
        .create(&PostParams::default(), object)
        .await
    {
        Err(error) if !is_conflict(&error) => Err(error),
        _ => Ok(()),
    }
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        ..Default::default()
    }
}

/// Is it there already, or did somebody else write it first?
fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

/// Is it gone, or going?
fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 403 | 404))
}
