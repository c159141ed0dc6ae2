//! Addresses and ports of services: chosen while a service is written, and unique.
//!
//! ```text
//!   mutating admission ─▶ choose under a short lock ─▶ validation, validating admission ─▶ write ─▶ answer
//!                              │ reserved                                                   │
//!                              └────────── given back if it does not come to that ──────────┤
//!                                                                                           └▶ kept until the caches show it
//! ```
//!
//! What is taken is what services and IPAddress objects have, which the ledger follows through the watch caches, and what
//! writes under way have reserved. No lock is held while anything is waited for: however slow a webhook is, nobody else waits
//! for it. The write itself runs in a task of its own ([`claim`]), so that its end is known even if the client is gone. What a
//! crash leaves between two writes is put right by [`repair`].
//! <https://kubernetes.io/docs/reference/networking/virtual-ips/#ip-address-objects>

mod claim;
mod ledger;
mod repair;

pub(super) use claim::{Claim, Failure, Write};

use super::resource::Resource;
use super::{Registry, Target, WriteOptions, codec_failed, metadata};
use crate::kinds::Object;
use crate::kinds::services::{Choice, Refusal};
use crate::service_network::ServiceNetwork;
use crate::watch_cache::{Caches, Follower};
use bytes::Bytes;
use catamaran_api::Status;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::{IPAddress, IPAddressSpec, ParentReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use ledger::{Ledger, Needs};
use parking_lot::Mutex;
use std::any::Any;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::Notify;

const NETWORKING: &str = "networking.k8s.io/v1";
const FAMILY_LABEL: &str = "ipaddress.kubernetes.io/ip-family";
const MANAGED_LABEL: &str = "ipaddress.kubernetes.io/managed-by";
/// Whose IPAddress objects are those of services.
const MANAGER: &str = "ipallocator.k8s.io";

/// What services have, and may have.
pub(super) struct Addresses {
    services: Follower,
    objects: Follower,
    blocks: Follower,
    ledger: Mutex<Ledger>,
    /// Something that was reserved is so no more.
    settled: Notify,
}

impl Addresses {
    pub(super) fn new(table: &super::Table, caches: &Caches, network: &ServiceNetwork) -> Self {
        let follow = |api_version, plural| Follower::new(table, caches, api_version, plural);
        Addresses {
            services: follow("v1", "services"),
            objects: follow(NETWORKING, "ipaddresses"),
            blocks: follow(NETWORKING, "servicecidrs"),
            ledger: Mutex::new(Ledger::new(network)),
            settled: Notify::new(),
        }
    }

    /// Brings the ledger up to date: it shows at least what the caches showed at `applied`.
    fn follow(&self, ledger: &mut Ledger, applied: catamaran_store::Revision) {
        ledger.follow_blocks(&self.blocks);
        ledger.follow_services(&self.services);
        ledger.follow_objects(&self.objects);
        ledger.settle(applied);
    }
}

fn service(object: &dyn Object) -> Option<&Service> {
    (object as &dyn Any).downcast_ref()
}

impl Registry {
    /// Gives a service what it needs and reserves it until the claim is written or dropped; does nothing to objects of other
    /// kinds. `old` is what it replaces. The caches must show what was acknowledged before the request came.
    ///
    /// # Errors
    /// If the service asks for what it cannot have, in Kubernetes' words; if there is nothing left to give.
    pub(super) fn allocate(
        &self,
        target: &Target,
        old: Option<&dyn Object>,
        new: &mut dyn Object,
        options: &WriteOptions,
    ) -> Result<Option<Claim>, Status> {
        let any: &mut dyn Any = new;
        let Some(new) = any.downcast_mut::<Service>() else {
            return Ok(None);
        };
        let old = old.and_then(service);
        let name = new.metadata.name.clone().unwrap_or_default();
        let applied = self.caches.applied();
        let (claimed, released, id) = {
            let mut ledger = self.addresses.ledger.lock();
            self.addresses.follow(&mut ledger, applied);
            let mut random = || uuid::Uuid::new_v4().as_u64_pair().0;
            let mut choice = Choice {
                pools: ledger.pools(),
                taken: &*ledger,
                random: &mut random,
                dry_run: options.dry_run,
            };
            match crate::kinds::services::allocate(old, new, &mut choice) {
                Ok(()) => {}
                Err(Refusal::Invalid(errors)) => {
                    return Err(Status::invalid(&target.resource.group_kind, &name, &errors));
                }
                Err(Refusal::Internal(text)) => return Err(Status::internal(text)),
            }
            let (had, has) = (old.map(Needs::of).unwrap_or_default(), Needs::of(new));
            let (claimed, released) = (has.without(&had), had.without(&has));
            if options.dry_run || (claimed.is_empty() && released.is_empty()) {
                return Ok(None);
            }
            let id = ledger.reserve(&claimed, &released);
            (claimed, released, id)
        };
        // From here on, dropping the claim gives back what was reserved.
        let mut claim = self.claim(id);
        for ip in &claimed.addresses {
            claim.create(self.address_object(*ip, target.namespace.as_deref(), &name)?);
        }
        for ip in &released.addresses {
            claim.release(self.address_key(*ip)?);
        }
        Ok(Some(claim))
    }

    /// For the deletion of a service: what it has becomes free when the claim is written.
    pub(super) fn relinquish(&self, old: &dyn Object) -> Result<Option<Claim>, Status> {
        let Some(old) = service(old) else { return Ok(None) };
        let had = Needs::of(old);
        if had.addresses.is_empty() {
            return Ok(None);
        }
        let id = self.addresses.ledger.lock().reserve(&Needs::default(), &had);
        let mut claim = self.claim(id);
        for ip in &had.addresses {
            claim.release(self.address_key(*ip)?);
        }
        Ok(Some(claim))
    }

    fn claim(&self, id: u64) -> Claim {
        Claim::new(Arc::clone(&self.addresses), Arc::clone(&self.store), id)
    }

    fn address_resource(&self) -> Result<Arc<Resource>, Status> {
        self.resource(NETWORKING, "ipaddresses")
            .ok_or_else(Status::unknown_path)
    }

    fn address_key(&self, ip: IpAddr) -> Result<String, Status> {
        Ok(self.address_resource()?.key(None, &ip.to_string()))
    }

    /// The object that says who has an address: its key, and what is stored.
    fn address_object(&self, ip: IpAddr, namespace: Option<&str>, service: &str) -> Result<(String, Bytes), Status> {
        let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
        let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let mut object = IPAddress {
            metadata: ObjectMeta {
                name: Some(ip.to_string()),
                labels: Some([label(FAMILY_LABEL, family), label(MANAGED_LABEL, MANAGER)].into()),
                ..ObjectMeta::default()
            },
            spec: Some(IPAddressSpec {
                parent_ref: ParentReference {
                    group: None,
                    resource: "services".to_owned(),
                    namespace: namespace.map(ToOwned::to_owned),
                    name: service.to_owned(),
                },
            }),
        };
        let resource = self.address_resource()?;
        let has_generation = resource.kind.spec_changed(&object, &object).is_some();
        metadata::birth(&mut object.metadata, has_generation);
        let target = Target {
            resource: Arc::clone(&resource),
            namespace: None,
            name: ip.to_string(),
        };
        // The server itself is who writes it.
        self.own_new(&target, &mut object, &WriteOptions::default())?;
        let stored = resource.encode(&mut object).map_err(|error| codec_failed(&error))?;
        Ok((target.key(), stored))
    }
}
