//! An MVCC log of opaque bytes.
//!
//! The store knows revisions, not kinds. A write is acknowledged when it is durable; it takes the next revision, and
//! watchers see every revision once, in order, without gaps. Semantics follow etcd's v3 API (revisions, compaction)
//! because that is what Kubernetes' `resourceVersion` is defined over.
//!
//! | file | its one concern |
//! |---|---|
//! | [`contract`] | what every backend promises, executable |
//! | `tail.rs` | the newest events, shared by all live watchers, bounded |
//! | `follow.rs` | one watch: history first, then the tail, without a seam |
//! | `mem.rs` | the backend for tests and simulations; the model the others are checked against |
//! | `sqlite/` | the durable backend |
//!
//! *Architecture invariant:* nothing here parses a value, and only `control::registry` calls it.
#![forbid(unsafe_code)]

pub mod contract;
mod error;
mod follow;
mod mem;
mod sqlite;
mod tail;

pub use error::Error;
pub use follow::Stretch;
pub use mem::Mem;
pub use sqlite::Sqlite;

use async_trait::async_trait;
use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

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
#[derive(Clone, Debug, PartialEq, Eq)]
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

impl Event {
    /// The revision this change took. Every revision is exactly one event.
    pub fn revision(&self) -> Revision {
        match self {
            Event::Put { entry, .. } => entry.modified,
            Event::Delete { revision, .. } => *revision,
        }
    }

    pub fn key(&self) -> &Arc<str> {
        match self {
            Event::Put { entry, .. } => &entry.key,
            Event::Delete { previous, .. } => &previous.key,
        }
    }

    /// Bytes this event keeps alive, for bounds.
    fn weight(&self) -> usize {
        const BOOKKEEPING: usize = 160;
        let values = match self {
            Event::Put { entry, previous } => {
                entry.value.len() + previous.as_ref().map_or(0, |entry| entry.value.len())
            }
            Event::Delete { previous, .. } => previous.value.len(),
        };
        BOOKKEEPING + self.key().len() + values
    }
}

/// Events of consecutive revisions, in order; an item is never empty. Ends with an error item when the watcher is cut
/// off: `Error::Compacted` when compaction overtook its replay of the past, `Error::Lagged` when it read too slowly,
/// `Error::Closed` when the store was dropped.
pub type Watch = futures::stream::BoxStream<'static, Result<Vec<Event>, Error>>;

/// What every backend promises; [`contract`] is the executable form of it.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Writes a key that must not exist: `Error::Exists` otherwise. `Error::TooLarge`, here and in [`update`](Self::update),
    /// when the value is longer than the store takes.
    async fn create(&self, key: &str, value: Bytes) -> Result<Entry, Error>;

    /// Replaces a key that must be at `expected`: `Error::Conflict` (with the present revision) or `Error::NotFound`.
    async fn update(&self, key: &str, value: Bytes, expected: Revision) -> Result<Entry, Error>;

    /// Removes a key, at `expected` if given. Returns the removed entry and the revision of the removal.
    async fn delete(&self, key: &str, expected: Option<Revision>) -> Result<(Entry, Revision), Error>;

    /// The key now.
    async fn get(&self, key: &str) -> Result<Option<Entry>, Error>;

    /// Keys that start with `prefix` and sort after `after`, at most `limit` (0: all), as of `at` (now if `None`).
    /// `Error::Compacted` when `at` lies before [`Store::compacted`], `Error::Future` when it was not reached yet.
    async fn range(&self, prefix: &str, after: Option<&str>, limit: usize, at: Option<Revision>)
    -> Result<Page, Error>;

    /// Every change with a revision greater than `after` to keys that start with `prefix`. Fails at once with
    /// `Error::Compacted` or `Error::Future` when `after` is known to be out of reach.
    async fn watch(&self, prefix: &str, after: Revision) -> Result<Watch, Error>;

    /// Changes at revisions in `(after, until]` to keys that start with `prefix`, as many as are convenient at once:
    /// [`Stretch::reached`] tells how far it got, at least one revision further. `Error::Compacted` when `after` is too old.
    async fn changes(&self, prefix: &str, after: Revision, until: Revision) -> Result<Stretch, Error>;

    /// Forgets history before `revision`: the state at `revision` and the changes after it stay readable.
    async fn compact(&self, revision: Revision) -> Result<(), Error>;

    /// Writes a copy of the present state, and of the history that is retained, to a file that must not exist, while
    /// writers go on. Returns the revision of the copy. `Error::Unsupported` where there is nothing durable to copy.
    async fn backup(&self, to: &Path) -> Result<Revision, Error>;

    /// The revision of the last acknowledged write.
    fn revision(&self) -> Revision;

    /// The oldest revision whose state can still be read (0: never compacted).
    fn compacted(&self) -> Revision;
}

/// The bounds of a store. The defaults suit one control plane.
#[derive(Clone, Debug)]
pub struct Options {
    /// History is forgotten by itself when it is both older than this …
    pub keep_history: Duration,
    /// … and further back than this many revisions …
    pub keep_revisions: Revision,
    /// … or, however young, further back than this many.
    pub max_revisions: Revision,
    /// A live watcher further behind than this many events is cut off.
    pub tail_events: usize,
    /// A live watcher is cut off when the events it has not read hold more than this many bytes.
    pub tail_bytes: usize,
    /// A value longer than this many bytes is refused (`Error::TooLarge`).
    pub max_value_bytes: usize,
    /// A durable store refuses writes (`Error::Backend`) that would make its file larger than this many bytes.
    pub max_bytes: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            keep_history: Duration::from_secs(5 * 60),
            keep_revisions: 1_000,
            max_revisions: 50_000,
            tail_events: 16_384,
            tail_bytes: 32 << 20,
            max_value_bytes: 1_536 << 10,
            max_bytes: None,
        }
    }
}

/// Opens `mem:` (empty, gone when dropped) or `sqlite:<path>` (created when missing; its directory must exist).
pub fn open(url: &str) -> Result<Arc<dyn Store>, Error> {
    open_with(url, &Options::default())
}

/// [`open`] with bounds of one's own.
pub fn open_with(url: &str, options: &Options) -> Result<Arc<dyn Store>, Error> {
    match url.split_once(':') {
        Some(("mem", "")) => Ok(Arc::new(Mem::new(options))),
        Some(("sqlite", path)) if !path.is_empty() => Ok(Arc::new(Sqlite::open(Path::new(path), options)?)),
        _ => Err(Error::Url { url: url.to_owned() }),
    }
}
