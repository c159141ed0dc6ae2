//! The durable backend: one SQLite file.
//!
//! What an API server asks of a disk is few, small, durable, totally ordered writes, and a history that does not grow.
//! So: one thread owns the only writing connection and gives out revisions inside the transaction; requests that wait
//! while a commit is on its way to the disk share the next one; readers never block it.
//!
//! ```text
//!   create/update/delete ──► queue ──► writer thread: BEGIN · decide each · COMMIT (fsync) ──► tail ──► answers
//!   get/range/replay ──► readers: read-only connections, blocking pool, a snapshot each
//! ```
//!
//! | file | its one concern |
//! |---|---|
//! | `file.rs` | opening: ours or not, which version, the schema, sole ownership |
//! | `writer.rs` | the transaction: batches, revisions, answers |
//! | `retention.rs` | pure: how far back history is kept |
//! | `readers.rs` | snapshots and the queries on them |
//! | `backup.rs` | a copy at one moment, and how it goes on when it is restored |

mod backup;
mod file;
mod readers;
mod retention;
mod writer;

use crate::follow::{self, History, Stretch};
use crate::tail::Tail;
use crate::{Entry, Error, Options, Page, Revision, Store, Watch, mem};
use async_trait::async_trait;
use bytes::Bytes;
use readers::Readers;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot};
use writer::{Op, Request, Writer};

/// Requests that may wait for the writer before callers wait for a place in the queue.
const QUEUE: usize = 1_024;

/// A store in one SQLite file; see the module. Dropping it finishes the writes already accepted.
pub struct Sqlite {
    shared: Arc<Shared>,
    requests: Option<mpsc::Sender<Request>>,
    writer: Option<JoinHandle<()>>,
}

struct Shared {
    tail: Arc<Tail>,
    readers: Arc<Readers>,
    compacted: Arc<AtomicU64>,
    max_value_bytes: usize,
}

impl Sqlite {
    /// Opens the store at `path`, creating it (mode 0600) when there is none. Only one process can have it open:
    /// `Error::InUse`. A file that is not ours, damaged or too new is `Error::Unusable` and stays as it is.
    pub fn open(path: &Path, options: &Options) -> Result<Sqlite, Error> {
        let opened = file::open(path, options)?;
        let tail = Tail::new(opened.revision, options);
        let compacted = Arc::new(AtomicU64::new(opened.compacted));
        let (requests, queue) = mpsc::channel(QUEUE);
        let writer = Writer::new(opened, options, queue, Arc::clone(&tail), Arc::clone(&compacted));
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(Error::backend("start the store's writer thread"))?;
        let shared = Shared {
            tail,
            readers: Arc::new(Readers::new(path)),
            compacted,
            max_value_bytes: options.max_value_bytes,
        };
        Ok(Sqlite {
            shared: Arc::new(shared),
            requests: Some(requests),
            writer: Some(thread),
        })
    }

    /// Prepares a copy of a store ([`Store::backup`]) to take the place of the original: it goes on `by` revisions after
    /// its last one, and everything before counts as compacted, because the original may have gone on after the copy was
    /// made. Returns the new revision. `Error::Unusable` and `Error::InUse` as for [`open`](Self::open).
    pub fn begin_new_history(path: &Path, by: Revision) -> Result<Revision, Error> {
        backup::jump(path, by)
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Request) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        let requests = self.requests.as_ref().ok_or(Error::Closed)?;
        requests.send(request(answer)).await.map_err(|_| Error::Closed)?;
        answered.await.map_err(|_| Error::Closed)?
    }

    async fn write(&self, key: &str, op: Op) -> Result<crate::Event, Error> {
        let key = Arc::from(key);
        self.ask(|answer| Request::Write { key, op, answer }).await
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the store's writer thread had panicked");
        }
        self.shared.tail.close();
    }
}

#[async_trait]
impl Store for Sqlite {
    async fn create(&self, key: &str, value: Bytes) -> Result<Entry, Error> {
        Error::check_length(key, value.len(), self.shared.max_value_bytes)?;
        Ok(mem::written(self.write(key, Op::Create { value }).await?))
    }

    async fn update(&self, key: &str, value: Bytes, expected: Revision) -> Result<Entry, Error> {
        Error::check_length(key, value.len(), self.shared.max_value_bytes)?;
        Ok(mem::written(self.write(key, Op::Update { value, expected }).await?))
    }

    async fn delete(&self, key: &str, expected: Option<Revision>) -> Result<(Entry, Revision), Error> {
        let event = self.write(key, Op::Delete { expected }).await?;
        let revision = event.revision();
        Ok((mem::written(event), revision))
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        let key: Arc<str> = Arc::from(key);
        self.shared.readers.read(move |snapshot| snapshot.get(&key)).await
    }

    async fn range(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        at: Option<Revision>,
    ) -> Result<Page, Error> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        self.shared
            .readers
            .read(move |snapshot| snapshot.range(&prefix, after.as_deref(), limit, at))
            .await
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Watch, Error> {
        let published = self.shared.tail.published();
        if after > published || after < self.compacted() {
            // A reader sees a commit a moment before it is published, so ask what a reader would.
            self.shared.readers.read(move |snapshot| snapshot.check(after)).await?;
        }
        let history: Arc<dyn History> = Arc::<Shared>::clone(&self.shared);
        Ok(follow::follow(Arc::clone(&self.shared.tail), history, prefix, after))
    }

    async fn changes(&self, prefix: &str, after: Revision, until: Revision) -> Result<Stretch, Error> {
        self.shared.stretch(prefix, after, until).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.ask(|answer| Request::Compact { revision, answer }).await
    }

    async fn backup(&self, to: &Path) -> Result<Revision, Error> {
        let (from, to) = (self.shared.readers.path().to_owned(), to.to_owned());
        let copied = tokio::task::spawn_blocking(move || backup::copy(&from, &to)).await;
        copied.map_err(Error::backend("copy the state database"))?
    }

    fn revision(&self) -> Revision {
        self.shared.tail.published()
    }

    fn compacted(&self) -> Revision {
        self.shared.compacted.load(Ordering::Acquire)
    }
}

#[async_trait]
impl History for Shared {
    async fn stretch(&self, prefix: &str, after: Revision, until: Revision) -> Result<Stretch, Error> {
        let prefix = prefix.to_owned();
        self.readers
            .read(move |snapshot| snapshot.stretch(&prefix, after, until))
            .await
    }
}

/// SQLite integers are signed; revisions never get near the difference.
fn to_sql(revision: Revision) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

fn from_sql(revision: i64) -> Revision {
    Revision::try_from(revision).unwrap_or(0)
}
