//! A write of a service together with what it needs: all of it happens, or nothing is left of it.

use super::Addresses;
use bytes::Bytes;
use catamaran_store::{Error, Revision, Store};
use std::sync::Arc;

/// The write of the service itself.
pub(in crate::registry) enum Write {
    Create {
        key: String,
        value: Bytes,
    },
    Update {
        key: String,
        value: Bytes,
        expected: Revision,
    },
    Delete {
        key: String,
        expected: Revision,
    },
}

/// Why a service was not written.
pub(in crate::registry) enum Failure {
    Store(Error),
    /// Somebody registered the address by hand at the same moment.
    AddressTaken,
}

/// What is reserved for one service. Dropped without a write, it is given back.
pub(in crate::registry) struct Claim {
    addresses: Arc<Addresses>,
    store: Arc<dyn Store>,
    id: u64,
    /// Keys and values of objects that say which addresses it has.
    creates: Vec<(String, Bytes)>,
    /// Keys of those that are over.
    releases: Vec<String>,
}

impl Claim {
    pub(super) fn new(addresses: Arc<Addresses>, store: Arc<dyn Store>, id: u64) -> Self {
        Claim {
            addresses,
            store,
            id,
            creates: Vec::new(),
            releases: Vec::new(),
        }
    }

    pub(super) fn create(&mut self, object: (String, Bytes)) {
        self.creates.push(object);
    }

    pub(super) fn release(&mut self, key: String) {
        self.releases.push(key);
    }

    /// Writes the service, in a task that goes on to its end whoever stops waiting for it.
    pub(in crate::registry) async fn write(self, write: Write) -> Result<Revision, Failure> {
        match tokio::spawn(self.run(write)).await {
            Ok(result) => result,
            Err(error) => {
                tracing::error!(%error, "the write of a service did not end");
                Err(Failure::Store(Error::Closed))
            }
        }
    }

    async fn run(self, write: Write) -> Result<Revision, Failure> {
        for (index, (key, value)) in self.creates.iter().enumerate() {
            if let Err(error) = self.store.create(key, value.clone()).await {
                self.undo(index).await;
                return Err(match error {
                    Error::Exists { .. } => Failure::AddressTaken,
                    other => Failure::Store(other),
                });
            }
        }
        let written = match write {
            Write::Create { key, value } => self.store.create(&key, value).await.map(|entry| entry.modified),
            Write::Update { key, value, expected } => {
                let written = self.store.update(&key, value, expected).await;
                written.map(|entry| entry.modified)
            }
            Write::Delete { key, expected } => {
                let deleted = self.store.delete(&key, Some(expected)).await;
                deleted.map(|(_, revision)| revision)
            }
        };
        let revision = match written {
            Ok(revision) => revision,
            Err(error) => {
                self.undo(self.creates.len()).await;
                return Err(Failure::Store(error));
            }
        };
        for key in &self.releases {
            self.forget(key).await;
        }
        let shown = self.store.revision();
        self.addresses.ledger.lock().written(self.id, shown);
        self.addresses.settled.notify_one();
        Ok(revision)
    }

    /// Takes back the first objects that were created.
    async fn undo(&self, count: usize) {
        for (key, _) in &self.creates[..count] {
            self.forget(key).await;
        }
    }

    /// What cannot be removed now is found by the repair.
    async fn forget(&self, key: &str) {
        match self.store.delete(key, None).await {
            Ok(_) | Err(Error::NotFound { .. }) => {}
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, key, "the object of an address that is free again stays");
            }
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut ledger = self.addresses.ledger.lock();
        if !ledger.is_written(self.id) {
            ledger.give_back(self.id);
            drop(ledger);
            self.addresses.settled.notify_one();
        }
    }
}
