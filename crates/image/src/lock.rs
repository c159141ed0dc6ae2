//! `flock`s: how processes that share a store agree.
//!
//! The kernel drops them with the process, so a `kill -9` leaves nothing to clean up. Each lock opens the file anew, so
//! that two tasks of one process exclude each other like two processes do.

use std::fs::{File, OpenOptions};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::Error;

/// A held lock; dropping it releases it.
#[derive(Debug)]
pub(crate) struct FileLock(#[expect(dead_code, reason = "the open file is the lock")] File);

impl FileLock {
    /// Waits for a lock that excludes exclusive holders.
    pub(crate) fn shared(path: &Path) -> Result<FileLock, Error> {
        Ok(acquire(path, FlockOperation::LockShared)?.expect("a blocking flock returns with the lock"))
    }

    /// Waits until there is no other holder.
    pub(crate) fn exclusive(path: &Path) -> Result<FileLock, Error> {
        Ok(acquire(path, FlockOperation::LockExclusive)?.expect("a blocking flock returns with the lock"))
    }

    pub(crate) fn try_shared(path: &Path) -> Result<Option<FileLock>, Error> {
        acquire(path, FlockOperation::NonBlockingLockShared)
    }

    pub(crate) fn try_exclusive(path: &Path) -> Result<Option<FileLock>, Error> {
        acquire(path, FlockOperation::NonBlockingLockExclusive)
    }
}

fn acquire(path: &Path, operation: FlockOperation) -> Result<Option<FileLock>, Error> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(path)
        .map_err(|source| Error::io("open lock", path, source))?;
    loop {
        match flock(&file, operation) {
            Ok(()) => return Ok(Some(FileLock(file))),
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(source) => return Err(Error::io("lock", path, source)),
        }
    }
}
