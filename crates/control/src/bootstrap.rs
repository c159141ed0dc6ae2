//! What every cluster has from the start: its namespaces, their service accounts, the runtime classes, roles. That it goes on
//! having them is the controllers' business.
//!
//! All of it goes through the in-process client, like anybody else's objects.

mod api_service;
mod front_proxy;
mod priority_classes;
mod rbac;
mod service_cidr;
mod token_secrets;

use crate::http::App;
use crate::registry::Registry;
use crate::service_network::ServiceNetwork;
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Namespaces that exist from the start.
const NAMESPACES: &[&str] = &["default", "kube-node-lease", "kube-public", "kube-system"];

/// Runtime classes that exist from the start, and their handlers. The last ones are names other runtimes made common.
const RUNTIME_CLASSES: [(&str, &str); 3] = [("oci", "oci"), ("wasm", "wasm"), ("wasmtime", "wasm")];

/// Certificates that clients find in objects, PEM.
#[derive(Clone, Copy)]
pub(crate) struct Authorities<'a> {
    pub(crate) clients: &'a str,
    pub(crate) front_proxies: &'a str,
}

/// Creates what is missing. `address` is where the server listens. What does not need one another is written at once: the store
/// commits together what waits together.
pub(crate) async fn ensure(
    client: &Client,
    address: SocketAddr,
    authorities: Authorities<'_>,
    network: &ServiceNetwork,
) -> kube::Result<()> {
    try_join_all(NAMESPACES.iter().map(|name| namespace(client, name))).await?;
    let priorities: Vec<_> = priority_classes::all().collect();
    let runtimes = RUNTIME_CLASSES.map(|(name, handler)| RuntimeClass {
        metadata: named(name),
        handler: handler.to_owned(),
        ..Default::default()
    });
    futures::try_join!(
        try_join_all(priorities.iter().map(|class| create(client, class))),
        try_join_all(runtimes.iter().map(|class| create(client, class))),
        rbac::ensure(client),
        front_proxy::ensure(client, authorities),
        async {
            service_cidr::ensure(client, network).await?;
            api_service::ensure(client, address, network).await
        },
    )?;
    Ok(())
}

/// A namespace and its account, so that pods can be created at once, whoever sees to the accounts of later namespaces.
async fn namespace(client: &Client, name: &str) -> kube::Result<()> {
    let namespace = Namespace {
        metadata: named(name),
        ..Default::default()
    };
    create(client, &namespace).await?;
    let account = ServiceAccount {
        metadata: ObjectMeta {
            namespace: Some(name.to_owned()),
            ..named("default")
        },
        ..Default::default()
    };
    create_in(Api::namespaced(client.clone(), name), &account).await
}

/// Tells clients in the cluster where the server listens now.
pub(crate) async fn publish_address(
    client: &Client,
    address: SocketAddr,
    network: &ServiceNetwork,
) -> kube::Result<()> {
    api_service::ensure(client, address, network).await
}

/// Makes the default ServiceCIDR anew whenever it is gone.
pub(crate) async fn keep_service_cidr(
    client: Client,
    registry: Arc<Registry>,
    network: ServiceNetwork,
    shutdown: CancellationToken,
) {
    service_cidr::keep(client, registry, network, shutdown).await;
}

/// Keeps the tokens in Secrets: the one controller that needs the server's key.
pub(crate) async fn token_secrets(client: Client, app: Arc<App>, ca_pem: String, shutdown: CancellationToken) {
    token_secrets::run(client, app, ca_pem, shutdown).await;
}

async fn create<K>(client: &Client, object: &K) -> kube::Result<()>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    create_in(Api::all(client.clone()), object).await
}

async fn create_in<K>(api: Api<K>, object: &K) -> kube::Result<()>
where
    K: Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    match api.create(&PostParams::default(), object).await {
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
