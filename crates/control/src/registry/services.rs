//! Addresses and ports of services: given while a service is written, and unique.
//!
//! Nothing is kept beside the services themselves. One lock is held from looking at all of them to the commit, and a view that
//! shows every acknowledged write is what is looked at; so no two services get one address, and what a deleted service had is
//! free with no further bookkeeping.

use super::{Registry, Target};
use crate::kinds::Object;
use crate::kinds::services::{Pools, Refusal, Taken};
use crate::watch_cache::Record;
use catamaran_api::Status;
use k8s_openapi::api::core::v1::Service;
use serde::Deserialize;
use std::any::Any;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::{Mutex, MutexGuard};

/// See the module.
#[derive(Default)]
pub(super) struct Addresses {
    pools: Pools,
    writing: Mutex<()>,
}

/// As much of a stored service as says what it has.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Held {
    spec: HeldSpec,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct HeldSpec {
    #[serde(rename = "clusterIPs")]
    cluster_ips: Vec<String>,
    ports: Vec<HeldPort>,
    health_check_node_port: i32,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct HeldPort {
    node_port: i32,
}

impl Registry {
    /// Keeps others from writing services until the guard is dropped. `None` for any other kind: nobody has to wait.
    pub(super) async fn hold_addresses(&self, target: &Target) -> Option<MutexGuard<'_, ()>> {
        let info = &target.resource.info;
        if info.group.is_empty() && info.plural == "services" {
            Some(self.addresses.writing.lock().await)
        } else {
            None
        }
    }

    /// Gives a service what it needs; does nothing to objects of other kinds. To be called under
    /// [`hold_addresses`](Self::hold_addresses), after which the caches were made fresh.
    ///
    /// # Errors
    /// If the service asks for what it cannot have, in Kubernetes' words; if there is nothing left to give.
    pub(super) fn allocate(
        &self,
        target: &Target,
        old: Option<&dyn Object>,
        new: &mut dyn Object,
    ) -> Result<(), Status> {
        let any: &mut dyn Any = new;
        let Some(new) = any.downcast_mut::<Service>() else {
            return Ok(());
        };
        let old = old.and_then(|old| (old as &dyn Any).downcast_ref::<Service>());
        let name = new.metadata.name.clone().unwrap_or_default();
        let taken = self.taken(target, &name)?;
        let mut random = || uuid::Uuid::new_v4().as_u64_pair().0;
        match crate::kinds::services::allocate(old, new, &self.addresses.pools, &taken, &mut random) {
            Ok(()) => Ok(()),
            Err(Refusal::Invalid(errors)) => Err(Status::invalid(&target.resource.group_kind, &name, &errors)),
            Err(Refusal::Internal(text)) => Err(Status::internal(text)),
        }
    }

    /// What all services but this one have.
    fn taken(&self, target: &Target, name: &str) -> Result<Taken, Status> {
        let cache = self.cache(&target.resource)?;
        let all = cache.select(&target.resource.prefix(None), None, 0, |_| true).records;
        let own = cache.get(target.namespace.as_deref(), name);
        let is_own = |record: &Arc<Record>| own.as_ref().is_some_and(|own| Arc::ptr_eq(own, record));
        let mut taken = Taken::default();
        for record in all.iter().filter(|record| !is_own(record)) {
            let Ok(held) = serde_json::from_slice::<Held>(&record.json()) else {
                continue;
            };
            let addresses = held.spec.cluster_ips.iter();
            taken
                .addresses
                .extend(addresses.filter_map(|ip| ip.parse::<IpAddr>().ok()));
            let ports = held.spec.ports.iter().map(|port| port.node_port);
            let ports = ports.chain([held.spec.health_check_node_port]);
            taken.node_ports.extend(ports.filter(|port| *port != 0));
        }
        Ok(taken)
    }
}
