//! An MVCC log of opaque bytes.
//!
//! The store knows revisions, not kinds. A write is acknowledged when it is durable; it takes the next revision, and
//! watchers see every revision once, in order, without gaps. Semantics follow etcd's v3 API (revisions, compaction)
//! because that is what Kubernetes' `resourceVersion` is defined over.
//!
//! *Architecture invariant:* nothing here parses a value, and only `control::registry` calls it.

mod error;

pub use error::Error;

use async_trait::async_trait;
use bytes::Bytes;
use std::sync::Arc;

/// A point in the history of the whole store. The first write of a new store is revision 1; 0 means "nothing yet".
pub type Revision = u64;

/// One key at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: Arc<str>,
    pub value: Bytes,
    /// Revision at which the key was created (it survives updates, not deletion).
    pub created: Revision,
    /// Revision of the last write to the key.
    pub modified: Revision,
}

/// A page of keys below a prefix, in byte order of the key, as of one revision.
#[derive(Clone, Debug)]
pub struct Page {
    pub entries: Vec<Entry>,
    /// The revision the page shows: pass it, with the last key, to get the next page of the same list.
    pub revision: Revision,
    /// True when keys follow the last one of this page.
    pub more: bool,
    /// How many keys follow this page at that revision.
    pub remaining: u64,
}

/// One change, as watchers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// `entry.created == entry.modified` tells a creation from an update. `previous` is the entry before an update.
    Put { entry: Entry, previous: Option<Entry> },
    /// The entry as it was before; `revision` is that of the deletion.
    Delete { previous: Entry, revision: Revision },
}

/// Events of consecutive revisions, in order. Ends with an error item when the watcher is cut off
/// (`Error::Compacted` when it asked for the past, `Error::Lagged` when it was too slow).
pub type Watch = futures::stream::BoxStream<'static, Result<Vec<Event>, Error>>;

/// What every backend promises; [`contract`] is the executable form of it.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Writes a key that must not exist: `Error::Exists` otherwise.
    async fn create(&self, key: &str, value: Bytes) -> Result<Entry, Error>;

    /// Replaces a key that must be at `expected`: `Error::Conflict` (with the present revision) or `Error::NotFound`.
    async fn update(&self, key: &str, value: Bytes, expected: Revision) -> Result<Entry, Error>;

    /// Removes a key, at `expected` if given. Returns the removed entry and the revision of the removal.
    async fn delete(&self, key: &str, expected: Option<Revision>) -> Result<(Entry, Revision), Error>;

    /// The key now.
    async fn get(&self, key: &str) -> Result<Option<Entry>, Error>;

    /// Keys that start with `prefix` and sort after `after`, at most `limit` (0: all), as of `at` (now if `None`).
    async fn range(&self, prefix: &str, after: Option<&str>, limit: usize, at: Option<Revision>)
    -> Result<Page, Error>;

    /// Every change with a revision greater than `after` to keys that start with `prefix`.
    async fn watch(&self, prefix: &str, after: Revision) -> Result<Watch, Error>;

    /// Forgets history up to and including `revision`; the present state stays.
    async fn compact(&self, revision: Revision) -> Result<(), Error>;

    /// The revision of the last acknowledged write.
    fn revision(&self) -> Revision;

    /// The revision up to which history was forgotten (0: never compacted).
    fn compacted(&self) -> Revision;
}
