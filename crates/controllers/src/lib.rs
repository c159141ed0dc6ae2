//! Keeps what is as it should be: the controllers of a cluster, as clients of its API and of nothing else.
//!
//! | file | keeps |
//! |---|---|
//! | [`bootstrap_tokens`] | tokens from outliving their time, and their signatures of `cluster-info` |
//! | [`certificates`] | requests for certificates from waiting, once approved, and old ones from staying |
//! | [`garbage_collector`] | objects whose owners are gone from staying, and owners until their dependents are gone |
//! | [`namespaces`] | a namespace that is being deleted until it is empty |
//! | [`cluster_roles`] | aggregated roles up to date |
//! | [`protection`] | volumes and claims that are in use |
//! | [`quotas`] | the counts in the status of ResourceQuotas |
//! | [`root_ca`] | the cluster's certificate in every namespace |
//! | [`service_accounts`] | an account in every namespace |
//! | [`service_cidrs`] | blocks of addresses that services still use |
//!
//! *Architecture invariant:* a controller does nothing while nothing changes: no ticks, no polling. It acts on what it reads at
//! that moment, and its writes name the uid and the version they were decided on.
#![forbid(unsafe_code)]

mod bootstrap_tokens;
mod certificates;
mod cluster_roles;
mod framework;
mod garbage_collector;
mod namespaces;
mod protection;
mod quotas;
mod root_ca;
mod service_accounts;
mod service_cidrs;
mod touched;

pub use certificates::Sign;

use framework::discovery::Discovery;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What the controllers need to know.
pub struct Config {
    /// A client for each of them, by the name of its service account in `kube-system`: each may do what its role allows.
    pub client: Box<dyn Fn(&str) -> kube::Client + Send + Sync>,
    /// The certificate by which pods know the API server.
    pub ca_pem: String,
    /// The cluster's CA, for requests that were approved.
    pub sign: Sign,
}

/// Why the controllers stopped before they were told to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the controller {name} ended")]
    Ended { name: &'static str },
    #[error("a controller crashed")]
    Crashed(#[source] tokio::task::JoinError),
}

type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs all controllers until `shutdown` is cancelled. Requests that fail are tried again, so this fails only when a controller
/// cannot go on.
///
/// # Errors
/// If one of them ends by itself.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    let mut running: JoinSet<&'static str> = JoinSet::new();
    for (name, controller) in all(&config, &shutdown) {
        running.spawn(async move {
            controller.await;
            name
        });
    }
    let ended = running.join_next().await;
    if shutdown.is_cancelled() {
        running.shutdown().await;
        return Ok(());
    }
    match ended {
        Some(Err(error)) => Err(Error::Crashed(error)),
        Some(Ok(name)) => Err(Error::Ended { name }),
        None => Ok(()),
    }
}

/// The controllers, by name.
fn all(config: &Config, shutdown: &CancellationToken) -> Vec<(&'static str, Running)> {
    let client = |account: &str| (config.client)(account);
    let stop = || shutdown.clone();
    let touched = touched::Touched::default();
    let (discovery, discovering) = Discovery::new(client("generic-garbage-collector"), stop());
    vec![
        (
            "bootstrapsigner",
            Box::pin(bootstrap_tokens::sign(client("bootstrap-signer"), stop())),
        ),
        (
            "certificatesigningrequest",
            Box::pin(certificates::run(
                client("certificate-controller"),
                Arc::clone(&config.sign),
                stop(),
            )),
        ),
        (
            "clusterrole-aggregation",
            Box::pin(cluster_roles::run(client("clusterrole-aggregation-controller"), stop())),
        ),
        ("discovery", Box::pin(discovering)),
        (
            "garbage-collector",
            Box::pin(garbage_collector::run(
                client("generic-garbage-collector"),
                discovery.clone(),
                touched.clone(),
                stop(),
            )),
        ),
        (
            "namespace",
            Box::pin(namespaces::run(client("namespace-controller"), stop())),
        ),
        (
            "persistentvolume-protection",
            Box::pin(protection::volumes(client("pv-protection-controller"), stop())),
        ),
        (
            "persistentvolumeclaim-protection",
            Box::pin(protection::claims(
                client("pvc-protection-controller"),
                touched.listen(|resource| resource.group.is_empty() && resource.api.plural == "pods"),
                stop(),
            )),
        ),
        (
            "resourcequota",
            Box::pin(quotas::run(
                client("resourcequota-controller"),
                discovery.clone(),
                touched.listen(quotas::is_counted),
                stop(),
            )),
        ),
        (
            "root-ca-certificate-publisher",
            Box::pin(root_ca::run(
                client("root-ca-cert-publisher"),
                Arc::from(config.ca_pem.as_str()),
                stop(),
            )),
        ),
        (
            "serviceaccount",
            Box::pin(service_accounts::run(client("service-account-controller"), stop())),
        ),
        (
            "service-cidrs",
            Box::pin(service_cidrs::run(client("service-cidrs-controller"), stop())),
        ),
        (
            "tokencleaner",
            Box::pin(bootstrap_tokens::clean(client("token-cleaner"), stop())),
        ),
    ]
}
