//! The ServiceCIDR `kubernetes`: the blocks that the server was started with, as an object.
//!
//! It is made when it is missing, and grows when a second family is added to the flags; otherwise the object is what counts,
//! and flags that say something else are only warned about.

use super::{is_conflict, named};
use crate::registry::Registry;
use crate::service_network::ServiceNetwork;
use k8s_openapi::api::networking::v1::{ServiceCIDR, ServiceCIDRSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const NAME: &str = "kubernetes";
const MANAGER: &str = "kubernetes-service-cidr-controller";
/// How long to wait before what failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Creates it if it is missing, and says that it is ready.
pub(super) async fn ensure(client: &Client, network: &ServiceNetwork) -> kube::Result<()> {
    let api: Api<ServiceCIDR> = Api::all(client.clone());
    let cidrs: Vec<String> = network.cluster_ips.blocks().iter().map(ToString::to_string).collect();
    let mut present = match api.get_opt(NAME).await? {
        Some(present) => present,
        None => {
            let wanted = ServiceCIDR {
                metadata: named(NAME),
                spec: Some(ServiceCIDRSpec {
                    cidrs: Some(cidrs.clone()),
                }),
                status: None,
            };
            match api.create(&PostParams::default(), &wanted).await {
                Err(error) if is_conflict(&error) => return Ok(()),
                other => other?,
            }
        }
    };
    let mut own = cidrs_of(&present);
    if own.len() == 1 && cidrs.len() == 2 && own[0] == cidrs[0] {
        present.spec.get_or_insert_default().cidrs = Some(cidrs.clone());
        present = api.replace(NAME, &PostParams::default(), &present).await?;
        own = cidrs_of(&present);
    }
    if own != cidrs {
        tracing::warn!(
            object = own.join(","),
            flags = cidrs.join(","),
            "the default ServiceCIDR is not what the flags say; the object counts"
        );
        return Ok(());
    }
    let conditions = present.status.as_ref().and_then(|status| status.conditions.as_ref());
    let knows = conditions.is_some_and(|all| all.iter().any(|condition| condition.type_ == "Ready"));
    if present.metadata.deletion_timestamp.is_some() || knows {
        return Ok(());
    }
    let status = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": NAME},
        "status": {"conditions": [{
            "type": "Ready", "status": "True", "reason": "", "message": "Kubernetes default Service CIDR is ready",
            "lastTransitionTime": Time(Timestamp::now()),
        }]},
    });
    let parameters = PatchParams::apply(MANAGER).force();
    api.patch_status(NAME, &parameters, &Patch::Apply(&status)).await?;
    Ok(())
}

fn cidrs_of(object: &ServiceCIDR) -> Vec<String> {
    let spec = object.spec.as_ref();
    spec.and_then(|spec| spec.cidrs.clone()).unwrap_or_default()
}

/// Makes it anew whenever it is gone, until `shutdown`.
pub(super) async fn keep(client: Client, registry: Arc<Registry>, network: ServiceNetwork, stop: CancellationToken) {
    const API_VERSION: &str = "networking.k8s.io/v1";
    let Some(mut changes) = registry.changes_of(API_VERSION, "servicecidrs") else {
        return;
    };
    loop {
        let mut failed = false;
        if registry.peek(API_VERSION, "servicecidrs", None, NAME).is_none()
            && let Err(error) = ensure(&client, &network).await
        {
            tracing::warn!(%error, "the default ServiceCIDR cannot be made");
            failed = true;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(RETRY), if failed => {}
        }
    }
}
