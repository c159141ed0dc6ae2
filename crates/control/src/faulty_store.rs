//! A store that fails or waits where a test says so.

use async_trait::async_trait;
use bytes::Bytes;
use catamaran_store::{Entry, Error, Page, Revision, Store, Stretch, Watch};
use parking_lot::Mutex;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::Notify;

/// What a write is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Create,
    Update,
    Delete,
}

/// Where a write waits.
#[derive(Default)]
pub(crate) struct Gate {
    /// It has come so far.
    pub(crate) reached: Notify,
    /// It may go on.
    pub(crate) open: Notify,
}

enum Fault {
    /// The next so many fail.
    Fail(usize),
    Hold(Arc<Gate>),
}

pub(crate) struct Faulty {
    inner: Arc<dyn Store>,
    /// Of writes of one kind to keys with a prefix.
    fault: Mutex<Option<(Op, String, Fault)>>,
}

impl Faulty {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Faulty {
            inner: catamaran_store::open("mem:").expect("a store"),
            fault: Mutex::default(),
        })
    }

    pub(crate) fn fail(&self, op: Op, prefix: &str, times: usize) {
        *self.fault.lock() = Some((op, prefix.to_owned(), Fault::Fail(times)));
    }

    pub(crate) fn hold(&self, op: Op, prefix: &str) -> Arc<Gate> {
        let gate = Arc::<Gate>::default();
        *self.fault.lock() = Some((op, prefix.to_owned(), Fault::Hold(Arc::clone(&gate))));
        gate
    }

    async fn pass(&self, op: Op, key: &str) -> Result<(), Error> {
        let gate = match &mut *self.fault.lock() {
            Some((of, prefix, fault)) if *of == op && key.starts_with(prefix.as_str()) => match fault {
                Fault::Fail(0) => return Ok(()),
                Fault::Fail(left) => {
                    *left -= 1;
                    return Err(Error::Backend {
                        step: "writing",
                        source: "the disk is full".into(),
                    });
                }
                Fault::Hold(gate) => Arc::clone(gate),
            },
            _ => return Ok(()),
        };
        gate.reached.notify_one();
        gate.open.notified().await;
        Ok(())
    }
}

#[async_trait]
impl Store for Faulty {
    async fn create(&self, key: &str, value: Bytes) -> Result<Entry, Error> {
        self.pass(Op::Create, key).await?;
        self.inner.create(key, value).await
    }

    async fn update(&self, key: &str, value: Bytes, expected: Revision) -> Result<Entry, Error> {
        self.pass(Op::Update, key).await?;
        self.inner.update(key, value, expected).await
    }

    async fn delete(&self, key: &str, expected: Option<Revision>) -> Result<(Entry, Revision), Error> {
        self.pass(Op::Delete, key).await?;
        self.inner.delete(key, expected).await
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        self.inner.get(key).await
    }

    async fn range(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        at: Option<Revision>,
    ) -> Result<Page, Error> {
        self.inner.range(prefix, after, limit, at).await
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Watch, Error> {
        self.inner.watch(prefix, after).await
    }

    async fn changes(&self, prefix: &str, after: Revision, until: Revision) -> Result<Stretch, Error> {
        self.inner.changes(prefix, after, until).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.inner.compact(revision).await
    }

    async fn backup(&self, to: &Path) -> Result<Revision, Error> {
        self.inner.backup(to).await
    }

    fn revision(&self) -> Revision {
        self.inner.revision()
    }

    fn compacted(&self) -> Revision {
        self.inner.compacted()
    }
}
