//! A copy of the store at one moment, and what becomes of it when it is put in the place of the original.
//!
//! The copy is made by SQLite itself (`VACUUM INTO`) from one snapshot, while writers go on. It holds no free pages, so
//! nothing of what was deleted before.
//!
//! Whoever watched the original may have seen revisions the copy knows nothing of. A store that went on from the copy's
//! last revision would give those revisions out a second time, and a client that asked for "changes after N" would
//! silently miss some. So a restored copy jumps far ahead and counts as compacted there: every older position is refused,
//! and clients list anew.

use super::file;
use super::to_sql;
use crate::{Error, Options, Revision};
use rusqlite::{Connection, OpenFlags, params};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Writes a copy of the store at `from` to `to`, which must not exist (mode 0600), and returns the revision it shows.
pub(super) fn copy(from: &Path, to: &Path) -> Result<Revision, Error> {
    let created = OpenOptions::new().create_new(true).write(true).mode(0o600).open(to);
    created.map_err(Error::backend("create the copy of the state database"))?;
    let copied = vacuum(from, to).and_then(|()| revision_of(to));
    copied.inspect_err(|_| drop(std::fs::remove_file(to)))
}

fn vacuum(from: &Path, to: &Path) -> Result<(), Error> {
    const STEP: &str = "copy the state database";
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(from, flags).map_err(Error::backend(STEP))?;
    connection
        .busy_timeout(std::time::Duration::from_secs(5))
        .map_err(Error::backend(STEP))?;
    let target = to
        .to_str()
        .ok_or_else(|| Error::backend(STEP)("the path of the copy is not UTF-8"))?;
    connection
        .execute("VACUUM INTO ?1", [target])
        .map_err(Error::backend(STEP))?;
    File::open(to)
        .and_then(|file| file.sync_all())
        .map_err(Error::backend(STEP))
}

fn revision_of(copy: &Path) -> Result<Revision, Error> {
    let connection = Connection::open_with_flags(copy, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .map_err(Error::backend("open the copy of the state database"))?;
    let (revision, _, _) = file::stand(&connection).map_err(Error::backend("read the copy of the state database"))?;
    Ok(revision)
}

/// Lets the store at `path` go on `by` revisions after its last one, without a past.
pub(super) fn jump(path: &Path, by: Revision) -> Result<Revision, Error> {
    let opened = file::open(path, &Options::default())?;
    let revision = opened.revision + by;
    let connection = &opened.connection;
    let write = || -> Result<(), rusqlite::Error> {
        connection.execute_batch("BEGIN IMMEDIATE; DELETE FROM history;")?;
        connection.execute(
            "UPDATE meta SET value = ?1 WHERE name = 'compacted'",
            params![to_sql(revision)],
        )?;
        connection.execute_batch("COMMIT")?;
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
    };
    write().map_err(Error::backend("prepare the restored state database"))?;
    Ok(revision)
}
