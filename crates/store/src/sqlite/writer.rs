//! The one thread that writes.
//!
//! While a commit is on its way to the disk, requests gather; the next transaction takes all of them, so that a write
//! costs a share of an fsync. Each request is decided against what the ones before it in the batch left: a refusal
//! writes nothing and concerns nobody else. Order: commit, publish to watchers, answer, so that whoever has an answer
//! finds its revision already published, and nobody ever sees a revision that a crash could take back.
//!
//! Compaction marks its revision durably first; the rows before it go in small steps, along with later batches or when
//! nobody waits.

use super::file::Opened;
use super::retention::Retention;
use super::{readers, to_sql};
use crate::tail::Tail;
use crate::{Entry, Error, Event, Options, Revision, mem};
use bytes::Bytes;
use rusqlite::{Connection, params};
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

const BATCH_REQUESTS: usize = 512;
const BATCH_BYTES: usize = 4 << 20;
/// How long a batch waits for the callers of the one before to come back. Without it, batches alternate between one
/// request and all the others.
const GATHER: Duration = Duration::from_micros(150);
/// Rows of history forgotten along with a batch, and when idle.
const FORGET_BUSY: Revision = 256;
const FORGET_IDLE: Revision = 2_048;
/// Bytes written after which an idle moment is used to move the write-ahead log into the file.
const CHECKPOINT_BYTES: usize = 4 << 20;
/// Free pages are given back to the file system when they are this many and more than half of the file.
const FREE_PAGES: i64 = 1_024;
const VACUUM_PAGES: i64 = 256;

pub(super) enum Op {
    Create { value: Bytes },
    Update { value: Bytes, expected: Revision },
    Delete { expected: Option<Revision> },
}

pub(super) enum Request {
    Write {
        key: Arc<str>,
        op: Op,
        answer: oneshot::Sender<Result<Event, Error>>,
    },
    Compact {
        revision: Revision,
        answer: oneshot::Sender<Result<(), Error>>,
    },
}

impl Request {
    fn weight(&self) -> usize {
        match self {
            Request::Write {
                op: Op::Create { value } | Op::Update { value, .. },
                ..
            } => value.len(),
            _ => 0,
        }
    }
}

/// A decided request: its answer goes out only after the commit.
enum Answer {
    Write(oneshot::Sender<Result<Event, Error>>, Result<Event, Error>),
    Compact(oneshot::Sender<Result<(), Error>>, Result<(), Error>),
}

pub(super) struct Writer {
    connection: Connection,
    queue: mpsc::Receiver<Request>,
    tail: Arc<Tail>,
    shared_compacted: Arc<AtomicU64>,
    retention: Retention,
    revision: Revision,
    compacted: Revision,
    oldest_row: Revision,
    last_batch: usize,
    unmoved_bytes: usize,
    /// The store is ours until the connection is closed.
    _lock: File,
}

impl Writer {
    pub(super) fn new(
        opened: Opened,
        options: &Options,
        queue: mpsc::Receiver<Request>,
        tail: Arc<Tail>,
        shared_compacted: Arc<AtomicU64>,
    ) -> Writer {
        Writer {
            connection: opened.connection,
            queue,
            tail,
            shared_compacted,
            retention: Retention::new(options),
            revision: opened.revision,
            compacted: opened.compacted,
            oldest_row: opened.oldest_row,
            last_batch: 0,
            unmoved_bytes: 0,
            _lock: opened.lock,
        }
    }

    /// Until the last sender is gone and the queue is empty.
    pub(super) fn run(mut self) {
        while let Some(first) = self.next() {
            let batch = self.gather(first);
            self.last_batch = batch.len();
            self.write(batch);
        }
    }

    /// The next request; until there is one, what can be tidied in the meantime.
    fn next(&mut self) -> Option<Request> {
        loop {
            match self.queue.try_recv() {
                Ok(request) => return Some(request),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => match self.tidy() {
                    Ok(true) => {}
                    Ok(false) => return self.queue.blocking_recv(),
                    Err(error) => {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "tidying the state database failed"
                        );
                        return self.queue.blocking_recv();
                    }
                },
            }
        }
    }

    fn gather(&mut self, first: Request) -> Vec<Request> {
        let deadline = Instant::now() + GATHER;
        let mut bytes = first.weight();
        let mut batch = vec![first];
        while batch.len() < BATCH_REQUESTS && bytes < BATCH_BYTES {
            match self.queue.try_recv() {
                Ok(request) => {
                    bytes += request.weight();
                    batch.push(request);
                }
                Err(TryRecvError::Empty) if batch.len() < self.last_batch && Instant::now() < deadline => {
                    std::thread::yield_now();
                }
                Err(_) => break,
            }
        }
        batch
    }

    /// One transaction for the whole batch, then the news, then the answers.
    fn write(&mut self, batch: Vec<Request>) {
        let before = (self.revision, self.compacted, self.oldest_row);
        let mut answers = Vec::with_capacity(batch.len());
        let committed = self.transact(batch, &mut answers);
        if let Err(error) = committed {
            (self.revision, self.compacted, self.oldest_row) = before;
            self.roll_back();
            return fail(answers, error);
        }
        self.shared_compacted.store(self.compacted, Ordering::Release);
        let events: Vec<Event> = answers.iter().filter_map(Answer::event).cloned().collect();
        self.unmoved_bytes += events.iter().map(Event::weight).sum::<usize>();
        self.tail.publish(events);
        answers.into_iter().for_each(Answer::send);
    }

    /// Every request is moved into `answers`, also when this fails.
    fn transact(&mut self, batch: Vec<Request>, answers: &mut Vec<Answer>) -> Result<(), rusqlite::Error> {
        let mut failed = self.connection.execute_batch("BEGIN IMMEDIATE").err();
        for request in batch {
            match request {
                Request::Write { key, op, answer } => {
                    let decided = match failed {
                        None => self.decide(&key, op).unwrap_or_else(|error| {
                            failed = Some(error);
                            Err(Error::Closed)
                        }),
                        Some(_) => Err(Error::Closed),
                    };
                    answers.push(Answer::Write(answer, decided));
                }
                Request::Compact { revision, answer } => {
                    let decided = match failed {
                        None => self.compact(revision).unwrap_or_else(|error| {
                            failed = Some(error);
                            Err(Error::Closed)
                        }),
                        Some(_) => Err(Error::Closed),
                    };
                    answers.push(Answer::Compact(answer, decided));
                }
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        self.retain()?;
        self.forget(FORGET_BUSY)?;
        self.connection.execute_batch("COMMIT")
    }

    /// The inner result is for the caller alone, the outer one is the whole batch's.
    fn decide(&mut self, key: &Arc<str>, op: Op) -> Result<Result<Event, Error>, rusqlite::Error> {
        let present = readers::current(&self.connection, key)?;
        let present = present.as_ref();
        let revision = self.revision + 1;
        let decided = match op {
            Op::Create { value } => mem::creation(present, key, value, revision),
            Op::Update { value, expected } => mem::replacement(present, key, value, expected, revision),
            Op::Delete { expected } => mem::removal(present, key, expected, revision),
        };
        if let Ok(event) = &decided {
            self.store(event)?;
            self.revision = revision;
        }
        Ok(decided)
    }

    fn store(&self, event: &Event) -> Result<(), rusqlite::Error> {
        match event {
            Event::Put { entry, previous } => {
                match previous {
                    Some(_) => self.execute(
                        "UPDATE current SET value = ?2, modified = ?3 WHERE key = ?1",
                        params![entry.key.as_bytes(), &entry.value[..], to_sql(entry.modified)],
                    )?,
                    None => self.execute(
                        "INSERT INTO current (key, value, created, modified) VALUES (?1, ?2, ?3, ?3)",
                        params![entry.key.as_bytes(), &entry.value[..], to_sql(entry.created)],
                    )?,
                }
                self.remember(entry.modified, &entry.key, previous.as_ref(), false)
            }
            Event::Delete { previous, revision } => {
                self.execute("DELETE FROM current WHERE key = ?1", params![previous.key.as_bytes()])?;
                self.remember(*revision, &previous.key, Some(previous), true)
            }
        }
    }

    fn remember(
        &self,
        revision: Revision,
        key: &str,
        replaced: Option<&Entry>,
        deleted: bool,
    ) -> Result<(), rusqlite::Error> {
        let value = replaced.map(|entry| &entry.value[..]);
        let (created, modified) = replaced.map_or((0, 0), |entry| (entry.created, entry.modified));
        self.execute(
            "INSERT INTO history (revision, key, deleted, value, created, modified) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                to_sql(revision),
                key.as_bytes(),
                deleted,
                value,
                to_sql(created),
                to_sql(modified)
            ],
        )
    }

    fn execute(&self, sql: &str, params: &[&dyn rusqlite::ToSql]) -> Result<(), rusqlite::Error> {
        self.connection.prepare_cached(sql)?.execute(params).map(drop)
    }

    fn compact(&mut self, revision: Revision) -> Result<Result<(), Error>, rusqlite::Error> {
        if revision > self.revision {
            return Ok(Err(Error::Future {
                requested: revision,
                current: self.revision,
            }));
        }
        if revision > self.compacted {
            self.execute(
                "UPDATE meta SET value = ?1 WHERE name = 'compacted'",
                params![to_sql(revision)],
            )?;
            self.compacted = revision;
        }
        Ok(Ok(()))
    }

    /// Compacts what the retention rule gives up.
    fn retain(&mut self) -> Result<(), rusqlite::Error> {
        match self.retention.target(Instant::now(), self.revision, self.compacted) {
            Some(target) => self.compact(target).map(drop),
            None => Ok(()),
        }
    }

    /// Removes at most `rows` of what is compacted.
    fn forget(&mut self, rows: Revision) -> Result<(), rusqlite::Error> {
        if self.oldest_row > self.compacted {
            return Ok(());
        }
        let until = self.compacted.min(self.oldest_row + rows - 1);
        self.execute("DELETE FROM history WHERE revision <= ?1", params![to_sql(until)])?;
        self.oldest_row = until + 1;
        Ok(())
    }

    /// One step of what can be done while nobody waits; false when there is nothing left.
    fn tidy(&mut self) -> Result<bool, rusqlite::Error> {
        if self.oldest_row <= self.compacted {
            self.forget(FORGET_IDLE)?;
            return Ok(true);
        }
        if self.unmoved_bytes >= CHECKPOINT_BYTES {
            self.unmoved_bytes = 0;
            self.connection
                .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
            return Ok(true);
        }
        self.give_back()
    }

    fn give_back(&mut self) -> Result<bool, rusqlite::Error> {
        let number = |name| {
            self.connection
                .pragma_query_value(None, name, |row| row.get::<_, i64>(0))
        };
        let free = number("freelist_count")?;
        if free < FREE_PAGES || free < number("page_count")? / 2 {
            return Ok(false);
        }
        let vacuum = format!("PRAGMA incremental_vacuum({VACUUM_PAGES})");
        let mut statement = self.connection.prepare(&vacuum)?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
        // The file itself becomes shorter only when the log is moved into it.
        self.unmoved_bytes = CHECKPOINT_BYTES;
        Ok(true)
    }

    fn roll_back(&self) {
        // SQLite has rolled back by itself after some errors.
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "rolling back a failed transaction failed"
            );
        }
    }
}

/// Nothing of the batch was written: everyone in it hears why, also those that would have been refused, because what
/// they were refused for may just have been undone.
fn fail(answers: Vec<Answer>, error: rusqlite::Error) {
    const STEP: &str = "write to the state database";
    let error = Arc::new(error);
    for answer in answers {
        let failure = Error::backend(STEP)(Arc::clone(&error));
        match answer {
            Answer::Write(sender, _) => Answer::Write(sender, Err(failure)).send(),
            Answer::Compact(sender, _) => Answer::Compact(sender, Err(failure)).send(),
        }
    }
}

impl Answer {
    fn event(&self) -> Option<&Event> {
        match self {
            Answer::Write(_, Ok(event)) => Some(event),
            _ => None,
        }
    }

    /// A caller that gave up does not hear it; what was written stays written.
    fn send(self) {
        match self {
            Answer::Write(sender, answer) => drop(sender.send(answer)),
            Answer::Compact(sender, answer) => drop(sender.send(answer)),
        }
    }
}
