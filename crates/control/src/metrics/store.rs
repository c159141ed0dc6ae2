//! A layer around the store that times it.

use super::Metrics;
use async_trait::async_trait;
use bytes::Bytes;
use catamaran_store::{Entry, Error, Page, Revision, Store, Stretch, Watch};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

pub(crate) struct Measured {
    inner: Arc<dyn Store>,
    metrics: Arc<Metrics>,
}

impl Measured {
    pub(crate) fn new(inner: Arc<dyn Store>, metrics: Arc<Metrics>) -> Self {
        Measured { inner, metrics }
    }

    async fn time<T>(
        &self,
        operation: &str,
        key: &str,
        work: impl Future<Output = Result<T, Error>> + Send,
    ) -> Result<T, Error> {
        let since = Instant::now();
        let outcome = work.await;
        self.metrics.store(operation, key, outcome.is_err(), since.elapsed());
        outcome
    }
}

/// Group (empty for the core group) and plural of a key.
pub(super) fn resource_of(key: &str) -> (&str, &str) {
    let rest = key.strip_prefix(crate::registry::resource::ROOT).unwrap_or_default();
    let mut parts = rest.splitn(3, '/');
    let group = parts.next().unwrap_or_default();
    let plural = parts.next().unwrap_or_default();
    (if group == "core" { "" } else { group }, plural)
}

#[async_trait]
impl Store for Measured {
    async fn create(&self, key: &str, value: Bytes) -> Result<Entry, Error> {
        self.time("create", key, self.inner.create(key, value)).await
    }

    async fn update(&self, key: &str, value: Bytes, expected: Revision) -> Result<Entry, Error> {
        self.time("update", key, self.inner.update(key, value, expected)).await
    }

    async fn delete(&self, key: &str, expected: Option<Revision>) -> Result<(Entry, Revision), Error> {
        self.time("delete", key, self.inner.delete(key, expected)).await
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        self.time("get", key, self.inner.get(key)).await
    }

    async fn range(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        at: Option<Revision>,
    ) -> Result<Page, Error> {
        self.time("list", prefix, self.inner.range(prefix, after, limit, at))
            .await
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Watch, Error> {
        self.inner.watch(prefix, after).await
    }

    async fn changes(&self, prefix: &str, after: Revision, until: Revision) -> Result<Stretch, Error> {
        self.time("listChanges", prefix, self.inner.changes(prefix, after, until))
            .await
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
