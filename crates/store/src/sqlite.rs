//! In progress.
use crate::{Entry, Error, Options, Page, Revision, Store, Watch};
use async_trait::async_trait;
use bytes::Bytes;
use std::path::Path;

/// Replaced within the hour.
pub struct Sqlite(crate::Mem);
impl Sqlite {
    pub fn open(_path: &Path, options: Options) -> Result<Sqlite, Error> {
        Ok(Sqlite(crate::Mem::new(options)))
    }
}
#[async_trait]
impl Store for Sqlite {
    async fn create(&self, key: &str, value: Bytes) -> Result<Entry, Error> { self.0.create(key, value).await }
    async fn update(&self, key: &str, value: Bytes, expected: Revision) -> Result<Entry, Error> { self.0.update(key, value, expected).await }
    async fn delete(&self, key: &str, expected: Option<Revision>) -> Result<(Entry, Revision), Error> { self.0.delete(key, expected).await }
    async fn get(&self, key: &str) -> Result<Option<Entry>, Error> { self.0.get(key).await }
    async fn range(&self, prefix: &str, after: Option<&str>, limit: usize, at: Option<Revision>) -> Result<Page, Error> { self.0.range(prefix, after, limit, at).await }
    async fn watch(&self, prefix: &str, after: Revision) -> Result<Watch, Error> { self.0.watch(prefix, after).await }
    async fn compact(&self, revision: Revision) -> Result<(), Error> { self.0.compact(revision).await }
    fn revision(&self) -> Revision { self.0.revision() }
    fn compacted(&self) -> Revision { self.0.compacted() }
}
