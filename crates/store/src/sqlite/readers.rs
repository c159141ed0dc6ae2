//! Reading: each question gets a snapshot of its own on a read-only connection, off the async threads.
//!
//! A version lives from the revision that wrote it (`modified`) to the one that replaced it (its row in `history`). As
//! of revision R, a key is therefore its row in `current` if that is no newer than R, else the version in `history`
//! written up to R and replaced after it.

use super::{from_sql, to_sql};
use crate::follow::Stretch;
use crate::mem::reachable;
use crate::{Entry, Error, Event, Page, Revision};
use bytes::Bytes;
use parking_lot::Mutex;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Connections, and so blocking threads and page caches, at once.
const READERS: usize = 4;
/// How much history one stretch holds at most, in revisions and (about) in bytes.
const STRETCH_REVISIONS: i64 = 1_024;
const STRETCH_BYTES: usize = 4 << 20;

pub(super) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn new(path: &Path) -> Readers {
        Readers {
            path: path.to_owned(),
            idle: Mutex::default(),
            permits: Arc::new(Semaphore::new(READERS)),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `question` on a snapshot.
    pub(super) async fn read<T, F>(self: &Arc<Self>, question: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Snapshot<'_>) -> Result<T, Error> + Send + 'static,
    {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(|_| Error::Closed)?;
        let readers = Arc::clone(self);
        let answer = tokio::task::spawn_blocking(move || {
            let answer = readers.read_blocking(question);
            drop(permit);
            answer
        });
        answer.await.map_err(Error::backend("read the state database"))?
    }

    fn read_blocking<T>(&self, question: impl FnOnce(&Snapshot<'_>) -> Result<T, Error>) -> Result<T, Error> {
        let idle = self.idle.lock().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self
                .connect()
                .map_err(Error::backend("open the state database for reading"))?,
        };
        // A connection whose question failed is closed, not kept: its state is not worth reasoning about.
        let transaction = connection
            .unchecked_transaction()
            .map_err(Error::backend("begin to read"))?;
        let answer = question(&Snapshot(&transaction))?;
        transaction.finish().map_err(Error::backend("end reading"))?;
        self.idle.lock().push(connection);
        Ok(answer)
    }

    fn connect(&self) -> Result<Connection, rusqlite::Error> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        connection.pragma_update(None, "cache_size", -1_024)?;
        connection.pragma_update(None, "mmap_size", 0)?;
        connection.pragma_update(None, "temp_store", "memory")?;
        Ok(connection)
    }
}

/// The store as of one moment.
pub(super) struct Snapshot<'a>(&'a Connection);

const CURRENT: &str = "SELECT key, value, created, modified FROM current WHERE key = ?1";
const RANGE: &str = "SELECT key, value, created, modified FROM current \
     WHERE key >= ?1 AND key < ?2 ORDER BY key LIMIT ?3";
const COUNT: &str = "SELECT count(*) FROM current WHERE key >= ?1 AND key < ?2";
const RANGE_AT: &str = "SELECT key, value, created, modified FROM current \
     WHERE key >= ?1 AND key < ?2 AND modified <= ?4 \
     UNION ALL SELECT key, value, created, modified FROM history \
     WHERE revision > ?4 AND modified > 0 AND modified <= ?4 AND key >= ?1 AND key < ?2 \
     ORDER BY key LIMIT ?3";
const COUNT_AT: &str = "SELECT \
     (SELECT count(*) FROM current WHERE key >= ?1 AND key < ?2 AND modified <= ?3) + \
     (SELECT count(*) FROM history \
      WHERE revision > ?3 AND modified > 0 AND modified <= ?3 AND key >= ?1 AND key < ?2)";
const HISTORY: &str = "SELECT revision, key, deleted, value, created, modified FROM history \
     WHERE revision > ?1 AND revision <= ?2 ORDER BY revision LIMIT ?3";
const SUPERSEDED: &str = "SELECT value FROM history WHERE modified = ?1 AND modified > 0";
const CURRENT_AT: &str = "SELECT value FROM current WHERE key = ?1 AND modified = ?2";
const COMPACTED: &str = "SELECT value FROM meta WHERE name = 'compacted'";
const NEWEST: &str = "SELECT max(revision) FROM history";

impl Snapshot<'_> {
    pub(super) fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        current(self.0, key).map_err(Error::backend("read a key"))
    }

    /// See [`crate::Store::range`].
    pub(super) fn range(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        at: Option<Revision>,
    ) -> Result<Page, Error> {
        let (compacted, newest) = self.stand().map_err(Error::backend("read the present revision"))?;
        let revision = at.unwrap_or(newest);
        reachable(revision, compacted, newest)?;
        let past = (revision < newest).then_some(revision);
        self.page(prefix, after, limit, revision, past)
            .map_err(Error::backend("list keys"))
    }

    fn page(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        revision: Revision,
        past: Option<Revision>,
    ) -> Result<Page, rusqlite::Error> {
        let lower = after.map(behind).unwrap_or_default().max(prefix.as_bytes().to_vec());
        let upper = beyond(prefix);
        let rows = if limit == 0 {
            -1
        } else {
            i64::try_from(limit).unwrap_or(-1)
        };
        let mut statement = self.0.prepare_cached(if past.is_some() { RANGE_AT } else { RANGE })?;
        let found = match past {
            Some(at) => statement.query_map(params![lower, upper, rows, to_sql(at)], entry),
            None => statement.query_map(params![lower, upper, rows], entry),
        };
        let entries = found?.collect::<Result<Vec<Entry>, _>>()?;
        let remaining = match entries.last() {
            Some(last) if entries.len() == limit => self.count(&behind(&last.key), &upper, past)?,
            _ => 0,
        };
        Ok(Page {
            entries,
            revision,
            more: remaining > 0,
            remaining,
        })
    }

    fn count(&self, lower: &[u8], upper: &[u8], past: Option<Revision>) -> Result<u64, rusqlite::Error> {
        let mut statement = self.0.prepare_cached(if past.is_some() { COUNT_AT } else { COUNT })?;
        let count: i64 = match past {
            Some(at) => statement.query_row(params![lower, upper, to_sql(at)], |row| row.get(0)),
            None => statement.query_row(params![lower, upper], |row| row.get(0)),
        }?;
        Ok(count.unsigned_abs())
    }

    /// Whether `revision` can be read.
    pub(super) fn check(&self, revision: Revision) -> Result<(), Error> {
        let (compacted, newest) = self.stand().map_err(Error::backend("read the present revision"))?;
        reachable(revision, compacted, newest)
    }

    fn stand(&self) -> Result<(Revision, Revision), rusqlite::Error> {
        let number = |sql| {
            self.0
                .prepare_cached(sql)?
                .query_row([], |row| row.get::<_, Option<i64>>(0))
        };
        let compacted = number(COMPACTED)?.map_or(0, from_sql);
        let newest = number(NEWEST)?.map_or(0, from_sql);
        Ok((compacted, newest.max(compacted)))
    }

    /// See [`crate::follow::History::stretch`].
    pub(super) fn stretch(&self, prefix: &str, after: Revision, until: Revision) -> Result<Stretch, Error> {
        self.check(after)?;
        self.replay(prefix, after, until)
            .map_err(Error::backend("replay history"))
    }

    fn replay(&self, prefix: &str, after: Revision, until: Revision) -> Result<Stretch, rusqlite::Error> {
        let mut statement = self.0.prepare_cached(HISTORY)?;
        let mut rows = statement.query(params![to_sql(after), to_sql(until), STRETCH_REVISIONS])?;
        let (mut events, mut bytes, mut seen, mut reached) = (Vec::new(), 0, 0, after);
        while bytes < STRETCH_BYTES {
            let Some(row) = rows.next()? else {
                // Fewer rows than asked for: the end was reached, not only the limit.
                let reached = if seen < STRETCH_REVISIONS { until } else { reached };
                return Ok(Stretch { events, reached });
            };
            seen += 1;
            reached = from_sql(row.get(0)?);
            if row.get_ref(1)?.as_blob()?.starts_with(prefix.as_bytes()) {
                let event = self.event(row, reached)?;
                bytes += event.weight();
                events.push(event);
            }
        }
        Ok(Stretch { events, reached })
    }

    fn event(&self, row: &Row<'_>, revision: Revision) -> Result<Event, rusqlite::Error> {
        let key = text(row.get_ref(1)?)?;
        let modified = from_sql(row.get(5)?);
        let previous = match row.get_ref(3)? {
            ValueRef::Blob(value) if modified > 0 => Some(Entry {
                key: Arc::clone(&key),
                value: Bytes::copy_from_slice(value),
                created: from_sql(row.get(4)?),
                modified,
            }),
            _ => None,
        };
        match previous {
            Some(previous) if row.get(2)? => Ok(Event::Delete { previous, revision }),
            previous => {
                let entry = Entry {
                    value: self.written_at(&key, revision)?,
                    created: previous.as_ref().map_or(revision, |previous| previous.created),
                    modified: revision,
                    key,
                };
                Ok(Event::Put { entry, previous })
            }
        }
    }

    /// The value that `revision` wrote: superseded since, or still current.
    fn written_at(&self, key: &str, revision: Revision) -> Result<Bytes, rusqlite::Error> {
        let revision = to_sql(revision);
        let mut superseded = self.0.prepare_cached(SUPERSEDED)?;
        let value: Option<Vec<u8>> = superseded.query_row([revision], |row| row.get(0)).optional()?;
        if let Some(value) = value {
            return Ok(value.into());
        }
        let mut current = self.0.prepare_cached(CURRENT_AT)?;
        let value: Vec<u8> = current.query_row(params![key.as_bytes(), revision], |row| row.get(0))?;
        Ok(value.into())
    }
}

/// The row of `key` in `current`.
pub(super) fn current(connection: &Connection, key: &str) -> Result<Option<Entry>, rusqlite::Error> {
    connection
        .prepare_cached(CURRENT)?
        .query_row([key.as_bytes()], entry)
        .optional()
}

fn entry(row: &Row<'_>) -> Result<Entry, rusqlite::Error> {
    Ok(Entry {
        key: text(row.get_ref(0)?)?,
        value: Bytes::copy_from_slice(row.get_ref(1)?.as_blob()?),
        created: from_sql(row.get(2)?),
        modified: from_sql(row.get(3)?),
    })
}

fn text(value: ValueRef<'_>) -> Result<Arc<str>, rusqlite::Error> {
    let bytes = value.as_blob()?;
    let text = std::str::from_utf8(bytes).map_err(|error| rusqlite::Error::Utf8Error(0, error))?;
    Ok(Arc::from(text))
}

/// The smallest key greater than `key`.
fn behind(key: &str) -> Vec<u8> {
    let mut next = key.as_bytes().to_vec();
    next.push(0);
    next
}

/// The smallest byte string greater than everything that starts with `prefix`; 0xff never occurs in UTF-8.
fn beyond(prefix: &str) -> Vec<u8> {
    let mut next = prefix.as_bytes().to_vec();
    match next.last_mut() {
        Some(last) => *last += 1,
        None => next.push(0xff),
    }
    next
}
