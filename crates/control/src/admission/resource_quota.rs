//! What a namespace as a whole may have.
//!
//! A quota is charged before the object is written: the new usage goes to its status with the revision that was read as
//! precondition, so that of two requests for the last pod one loses, whatever server it came to. Requests of one namespace
//! queue up; whoever has its turn settles all that wait, with one write per quota. What is charged and then not written is
//! given back when the quota is recounted.
//! <https://kubernetes.io/docs/concepts/policy/resource-quotas/>

mod account;

use super::{Attributes, Operation, Plugin, World, decoded};
use crate::kinds::Object;
use crate::kinds::quota::{Counter, Subject, of_wire, scopes_of};
use crate::watch_cache::Record;
use account::{Account, Request};
use async_trait::async_trait;
use catamaran_api::Status;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, Service};
use parking_lot::Mutex;
use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

/// How often quotas that somebody else wrote in between are charged anew.
const ATTEMPTS: usize = 4;

#[derive(Default)]
pub(super) struct ResourceQuotas {
    queues: Mutex<HashMap<String, Arc<Queue>>>,
}

/// The requests of one namespace.
#[derive(Default)]
struct Queue {
    turn: tokio::sync::Mutex<()>,
    waiting: Mutex<Vec<Arc<Charge>>>,
}

/// What one request would cost.
struct Charge {
    counter: Counter,
    new: Box<dyn Object>,
    old: Option<Box<dyn Object>>,
    to_status: bool,
    dry_run: bool,
    /// A refusal is its reason.
    settled: OnceLock<Result<(), Refusal>>,
}

#[derive(Clone)]
enum Refusal {
    /// The quota says no.
    Forbidden(String),
    Failed(Status),
}

#[async_trait]
impl Plugin for ResourceQuotas {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        let info = &attributes.target.resource.info;
        if attributes.target.namespace.is_none() || info.plural == "events" {
            return false;
        }
        let counted_with_parts =
            attributes.concerns("", "persistentvolumeclaims") || attributes.concerns("", "services");
        match (attributes.operation, attributes.subresource) {
            (Operation::Create, "") => true,
            (Operation::Update, "resize") => attributes.concerns("", "pods"),
            (Operation::Create | Operation::Update, _) => counted_with_parts,
            _ => false,
        }
    }

    async fn validate(
        &self,
        world: &World<'_>,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
    ) -> Result<(), Status> {
        let Some(object) = object else { return Ok(()) };
        let Some(namespace) = attributes.target.namespace.as_deref() else {
            return Ok(());
        };
        if world.list("v1", "resourcequotas", Some(namespace)).is_empty() {
            return Ok(());
        }
        let info = &attributes.target.resource.info;
        let charge = Arc::new(Charge {
            counter: Counter::of(&info.group, &info.plural),
            new: object.boxed_clone(),
            old: attributes.old.map(Object::boxed_clone),
            to_status: attributes.subresource == "status",
            dry_run: attributes.dry_run,
            settled: OnceLock::new(),
        });
        match self.settle(world, namespace, &charge).await {
            Ok(()) => Ok(()),
            Err(Refusal::Forbidden(why)) => Err(attributes.forbidden(Some(object), why)),
            Err(Refusal::Failed(status)) => Err(status),
        }
    }
}

impl ResourceQuotas {
    async fn settle(&self, world: &World<'_>, namespace: &str, charge: &Arc<Charge>) -> Result<(), Refusal> {
        let queue = Arc::clone(self.queues.lock().entry(namespace.to_owned()).or_default());
        queue.waiting.lock().push(Arc::clone(charge));
        let turn = queue.turn.lock().await;
        if charge.settled.get().is_none() {
            let mut batch = std::mem::take(&mut *queue.waiting.lock());
            // Whoever took it along may have been cancelled before it was settled.
            if !batch.iter().any(|other| Arc::ptr_eq(other, charge)) {
                batch.push(Arc::clone(charge));
            }
            settle_all(world, namespace, &batch).await;
        }
        drop(turn);
        let mut queues = self.queues.lock();
        // One in the table, one here: nobody else is waiting.
        if Arc::strong_count(&queue) == 2 {
            queues.remove(namespace);
        }
        drop(queues);
        charge.settled.get().cloned().unwrap_or(Ok(()))
    }
}

/// A quota as it was read, and as it will be.
struct Held {
    record: Arc<Record>,
    quota: ResourceQuota,
    account: Account,
}

fn held(record: Arc<Record>) -> Result<Held, Status> {
    let quota: ResourceQuota = decoded(&record)?;
    let status = quota.status.as_ref();
    let account = Account {
        name: quota.metadata.name.clone().unwrap_or_default(),
        scopes: quota.spec.as_ref().map(scopes_of).unwrap_or_default(),
        hard: of_wire(status.and_then(|status| status.hard.as_ref())),
        used: of_wire(status.and_then(|status| status.used.as_ref())),
    };
    Ok(Held { record, quota, account })
}

/// Settles charges one after the other against the same quotas, then writes the quotas.
async fn settle_all(world: &World<'_>, namespace: &str, batch: &[Arc<Charge>]) {
    // After a lost race: the quotas that are still to be charged.
    let mut lost: Option<Vec<String>> = None;
    for _ in 0..ATTEMPTS {
        match attempt(world, namespace, batch, lost.as_deref()).await {
            Ok(still_lost) if still_lost.is_empty() => {
                for charge in batch {
                    let _ = charge.settled.set(Ok(()));
                }
                return;
            }
            Ok(still_lost) => lost = Some(still_lost),
            Err(status) => {
                for charge in batch {
                    let _ = charge.settled.set(Err(Refusal::Failed(status.clone())));
                }
                return;
            }
        }
    }
    let name = lost.and_then(|names| names.into_iter().next()).unwrap_or_default();
    let resource = catamaran_api::GroupResource::from_static("", "resourcequotas");
    for charge in batch {
        let refusal = Refusal::Failed(Status::modified(&resource, &name));
        let _ = charge.settled.set(Err(refusal));
    }
}

/// Returns the names of quotas that somebody else wrote in between.
async fn attempt(
    world: &World<'_>,
    namespace: &str,
    batch: &[Arc<Charge>],
    only: Option<&[String]>,
) -> Result<Vec<String>, Status> {
    world.registry.caches.fresh().await?;
    let records = world.list("v1", "resourcequotas", Some(namespace));
    let mut quotas = records.into_iter().map(held).collect::<Result<Vec<Held>, Status>>()?;
    if let Some(only) = only {
        quotas.retain(|held| only.contains(&held.account.name));
    }
    let mut accounts: Vec<Account> = quotas.iter().map(|held| held.account.clone()).collect();
    let now = k8s_openapi::jiff::Timestamp::now();
    for charge in batch.iter().filter(|charge| charge.settled.get().is_none()) {
        let request = Request {
            counter: &charge.counter,
            new: subject(charge.new.as_ref()),
            old: charge.old.as_deref().map(subject),
            to_status: charge.to_status,
            now,
        };
        match account::charge(&accounts, &request) {
            Err(why) => {
                let _ = charge.settled.set(Err(Refusal::Forbidden(why)));
            }
            Ok(_) if charge.dry_run => {
                let _ = charge.settled.set(Ok(()));
            }
            Ok(charged) => accounts = charged,
        }
    }
    let mut lost = Vec::new();
    for (held, account) in quotas.into_iter().zip(accounts) {
        if account.used == held.account.used {
            continue;
        }
        let mut quota = held.quota;
        quota.status.get_or_insert_default().used = Some(crate::kinds::quota::to_wire(&account.used));
        let replaced = world
            .registry
            .replace_if_current("v1", "resourcequotas", &held.record, Box::new(quota))
            .await?;
        if !replaced {
            lost.push(account.name);
        }
    }
    Ok(lost)
}

fn subject(object: &dyn Object) -> Subject<'_> {
    let any: &dyn Any = object;
    if let Some(pod) = any.downcast_ref::<Pod>() {
        Subject::Pod(pod)
    } else if let Some(claim) = any.downcast_ref::<PersistentVolumeClaim>() {
        Subject::Claim(claim)
    } else if let Some(service) = any.downcast_ref::<Service>() {
        Subject::Service(service)
    } else {
        Subject::Other
    }
}
