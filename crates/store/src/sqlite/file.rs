//! Opening the file: is it ours, which version, are we alone.
//!
//! Two tables, because their lives differ. `current` is the present, one row per key. `history` is a queue, one row
//! per revision, written at its end and forgotten from its front, so that churn reuses its own pages: row R says what
//! happened at R and holds the version that R replaced. A value is therefore written once, when it is new, and moved
//! once, when it is replaced; nothing is kept twice.

use super::{from_sql, to_sql};
use crate::{Error, Options, Revision};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// "CATA": marks the file as ours for `file(1)` and for us.
const APPLICATION_ID: i32 = 0x4341_5441;
const SCHEMA_VERSION: i32 = 1;
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// `history_superseded` finds the version that was written at a revision once it is no longer current.
const SCHEMA: &str = "
    CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    INSERT INTO meta VALUES ('compacted', 0);
    CREATE TABLE current (
        id INTEGER PRIMARY KEY,
        key BLOB NOT NULL UNIQUE,
        value BLOB NOT NULL,
        created INTEGER NOT NULL,
        modified INTEGER NOT NULL
    );
    CREATE TABLE history (
        revision INTEGER PRIMARY KEY,
        key BLOB NOT NULL,
        deleted INTEGER NOT NULL,
        value BLOB,
        created INTEGER NOT NULL,
        modified INTEGER NOT NULL
    );
    CREATE UNIQUE INDEX history_superseded ON history (modified) WHERE modified > 0;
";

/// Frames after which a commit itself moves the write-ahead log into the file; the writer usually does it before, when
/// nobody waits.
const WAL_FRAMES_MAX: i64 = 4_000;
/// What the write-ahead log is cut to after a burst, in bytes.
const WAL_KEPT: i64 = 16 << 20;

/// An open store file and where its revisions stand.
pub(super) struct Opened {
    pub(super) connection: Connection,
    pub(super) revision: Revision,
    pub(super) compacted: Revision,
    /// The first revision `history` still has a row for (`revision + 1` when it has none).
    pub(super) oldest_row: Revision,
    /// Held for as long as the connection lives.
    pub(super) lock: File,
}

pub(super) fn open(path: &Path, options: &Options) -> Result<Opened, Error> {
    let lock = lock(path)?;
    create_or_check(path)?;
    let unusable = |step| move |source| classify(path, step, source);
    let connection = connect(path).map_err(unusable("open the state database"))?;
    prepare(&connection, path)?;
    limit_size(&connection, options).map_err(unusable("set the state database's size limit"))?;
    let (revision, compacted, oldest_row) = stand(&connection).map_err(unusable("read the state database"))?;
    Ok(Opened {
        connection,
        revision,
        compacted,
        oldest_row,
        lock,
    })
}

/// The lock is a file of its own: closing any descriptor of the database itself would drop SQLite's own locks on it.
fn lock(path: &Path) -> Result<File, Error> {
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push(".lock");
    let lock_path = PathBuf::from(lock_path);
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&lock_path)
        .map_err(Error::backend("create the state database's lock file"))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(Error::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(Error::backend("lock the state database")(source)),
    }
}

/// Secrets live in the file, so it is private from its first byte on, and its name is durable before its content is.
fn create_or_check(path: &Path) -> Result<(), Error> {
    let mut magic = Vec::new();
    match File::open(path) {
        Ok(file) => {
            let read = file.take(MAGIC.len() as u64).read_to_end(&mut magic);
            read.map_err(Error::backend("read the state database"))?;
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let mut create = OpenOptions::new();
            let created = create.create_new(true).write(true).mode(0o600).open(path);
            created.map_err(Error::backend("create the state database"))?;
            let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let synced = File::open(directory.unwrap_or(Path::new("."))).and_then(|directory| directory.sync_all());
            synced.map_err(Error::backend("sync the state database's directory"))?;
        }
        Err(source) => return Err(Error::backend("open the state database")(source)),
    }
    if magic.is_empty() || magic == MAGIC {
        return Ok(());
    }
    Err(unusable(path, "it is not a SQLite database"))
}

fn connect(path: &Path) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(32);
    connection.pragma_update(None, "cache_size", -4_096)?;
    connection.pragma_update(None, "mmap_size", 0)?;
    connection.pragma_update(None, "temp_store", "memory")?;
    Ok(connection)
}

/// Checks an existing database, or makes an empty file one.
fn prepare(connection: &Connection, path: &Path) -> Result<(), Error> {
    let number = |name: &str| -> Result<i32, Error> {
        let value = connection.pragma_query_value(None, name, |row| row.get(0));
        value.map_err(|source| classify(path, "read the state database's header", source))
    };
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(|source| classify(path, "read the state database's schema", source))?;
    let fresh = tables == 0 && number("application_id")? == 0;
    if !fresh && number("application_id")? != APPLICATION_ID {
        return Err(unusable(path, "it is the SQLite database of another program"));
    }
    let version = number("user_version")?;
    if !fresh && version != SCHEMA_VERSION {
        let reason = format!("it has schema version {version}; this program reads version {SCHEMA_VERSION}");
        return Err(unusable(path, &reason));
    }
    let configured = if fresh { create_schema(connection) } else { Ok(()) };
    configured
        .and_then(|()| configure(connection))
        .map_err(|source| classify(path, "prepare the state database", source))
}

/// All of it in one transaction, the marks included: a kill leaves either an empty file or a whole store.
fn create_schema(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.pragma_update(None, "auto_vacuum", "incremental")?;
    let script = format!(
        "BEGIN IMMEDIATE; {SCHEMA} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION}; \
         COMMIT;"
    );
    connection.execute_batch(&script)
}

fn configure(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update_and_check(None, "wal_autocheckpoint", WAL_FRAMES_MAX, |_| Ok(()))?;
    connection.pragma_update_and_check(None, "journal_size_limit", WAL_KEPT, |_| Ok(()))
}

fn limit_size(connection: &Connection, options: &Options) -> Result<(), rusqlite::Error> {
    let Some(max_bytes) = options.max_bytes else {
        return Ok(());
    };
    let page_size: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
    let pages = to_sql(max_bytes) / page_size.max(1);
    connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
}

/// Every revision after the compacted one has its row, so the last row is the last revision.
pub(super) fn stand(connection: &Connection) -> Result<(Revision, Revision, Revision), rusqlite::Error> {
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, Option<i64>>(0));
    let compacted = number("SELECT value FROM meta WHERE name = 'compacted'")?.map_or(0, from_sql);
    let newest = number("SELECT max(revision) FROM history")?.map_or(0, from_sql);
    let revision = newest.max(compacted);
    let oldest = number("SELECT min(revision) FROM history")?.map_or(revision + 1, from_sql);
    Ok((revision, compacted, oldest))
}

fn classify(path: &Path, step: &'static str, source: rusqlite::Error) -> Error {
    match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            unusable(path, &format!("it is damaged ({source}); restore it from a backup"))
        }
        _ => match source {
            rusqlite::Error::SqlInputError { .. } => unusable(path, &format!("its tables are not ours ({source})")),
            source => Error::backend(step)(source),
        },
    }
}

fn unusable(path: &Path, reason: &str) -> Error {
    Error::Unusable {
        path: path.to_owned(),
        reason: reason.to_owned(),
    }
}
