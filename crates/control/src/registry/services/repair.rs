//! Brings IPAddress objects in line with the services: after a crash between two writes, for services from before there were
//! such objects, and where somebody changed one by hand.

use super::ledger::Flaw;
use crate::registry::Registry;
use catamaran_store::Error;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long to wait before a write that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

impl Registry {
    /// Repairs until `shutdown`. Does nothing while nothing changes.
    pub(crate) async fn keep_addresses(self: Arc<Self>, shutdown: CancellationToken) {
        let addresses = Arc::clone(&self.addresses);
        let changes = [&addresses.services, &addresses.objects, &addresses.blocks].map(super::Follower::subscribe);
        let [Some(mut services), Some(mut objects), Some(mut blocks)] = changes else {
            return;
        };
        loop {
            let settled = addresses.settled.notified();
            let again = !self.repair().await;
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = services.changed() => {}
                _ = objects.changed() => {}
                _ = blocks.changed() => {}
                () = settled => {}
                () = tokio::time::sleep(RETRY), if again => {}
            }
        }
    }

    /// False if something could not be done.
    async fn repair(&self) -> bool {
        let applied = self.caches.applied();
        let flaws = {
            let mut ledger = self.addresses.ledger.lock();
            self.addresses.follow(&mut ledger, applied);
            ledger.flaws()
        };
        let mut done = true;
        for flaw in flaws {
            if let Err(error) = self.mend(&flaw).await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, ?flaw, "an address cannot be put in order");
                self.addresses.ledger.lock().touch(flaw.address());
                done = false;
            }
        }
        done
    }

    async fn mend(&self, flaw: &Flaw) -> Result<(), Error> {
        let outcome = match flaw {
            Flaw::Missing {
                address,
                namespace,
                service,
            } => {
                tracing::info!(%address, namespace, service, "the address of a service is not registered; repairing");
                let Ok((key, value)) = self.address_object(*address, Some(namespace), service) else {
                    return Ok(());
                };
                self.store.create(&key, value).await.map(drop)
            }
            Flaw::Wrong { object, .. } => {
                tracing::info!(
                    key = &*object.key,
                    "an address is registered for a service that does not have it; repairing"
                );
                self.store.delete(&object.key, Some(object.revision)).await.map(drop)
            }
        };
        match outcome {
            // Somebody else was faster; the caches show what they did.
            Err(Error::Exists { .. } | Error::Conflict { .. } | Error::NotFound { .. }) => Ok(()),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faulty_store::{Faulty, Op};
    use crate::registry::services::{MANAGED_LABEL, MANAGER};
    use catamaran_store::Store as _;
    use serde_json::json;

    #[tokio::test]
    async fn what_could_not_be_put_right_is_tried_again() {
        let shutdown = CancellationToken::new();
        let store = Faulty::new();
        let registry = Registry::open(Arc::clone(&store) as _, shutdown.clone()).await.unwrap();
        tokio::spawn(Arc::clone(&registry.caches).follow(shutdown.clone()));
        let resource = registry.resource("networking.k8s.io/v1", "ipaddresses").unwrap();
        let key = resource.key(None, "10.96.0.9");
        let object = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
            "metadata": {"name": "10.96.0.9", "labels": {MANAGED_LABEL: MANAGER}},
            "spec": {"parentRef": {"resource": "services", "namespace": "default", "name": "gone"}},
        });
        store.create(&key, object.to_string().into()).await.unwrap();
        registry.caches.fresh().await.unwrap();
        store.fail(Op::Delete, &key, 1);
        assert!(!registry.repair().await, "the store fails");
        assert!(store.get(&key).await.unwrap().is_some());
        assert!(registry.repair().await);
        assert!(store.get(&key).await.unwrap().is_none());
        shutdown.cancel();
    }
}
