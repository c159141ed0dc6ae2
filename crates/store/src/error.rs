//! What can go wrong with a write, a read or a watch; one type for every backend.

use crate::Revision;
use std::path::PathBuf;

/// Why the store refused or failed. Refusals (`Exists`, `Conflict`, `NotFound`) changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("key {key} exists already")]
    Exists { key: String },
    #[error("key {key} does not exist")]
    NotFound { key: String },
    #[error("key {key} is at revision {current}, not {expected}")]
    Conflict {
        key: String,
        expected: Revision,
        current: Revision,
    },
    #[error("revision {requested} was compacted; the oldest retained is {oldest}")]
    Compacted { requested: Revision, oldest: Revision },
    #[error("revision {requested} is in the future; the store is at {current}")]
    Future { requested: Revision, current: Revision },
    #[error("the watcher read too slowly and was cut off at revision {at}")]
    Lagged { at: Revision },
    #[error("the store is shutting down")]
    Closed,
    /// The file is there but is not a store this program can read. It was not touched.
    #[error("{} cannot be used as a Catamaran store: {reason}", path.display())]
    Unusable { path: PathBuf, reason: String },
    /// Two processes assigning revisions to one file would corrupt it, so the second is refused.
    #[error("{} is in use by another process", path.display())]
    InUse { path: PathBuf },
    #[error("the value of {key} has {length} bytes; at most {limit} are possible")]
    TooLarge { key: String, length: usize, limit: usize },
    /// The value is encrypted, and the key to read it is missing or another one. Nothing was changed.
    #[error("the value of {key} cannot be opened: {reason}")]
    Sealed { key: String, reason: String },
    /// The backend has no such thing.
    #[error("{what} is not possible")]
    Unsupported { what: &'static str },
    #[error("{url:?} is no store: expected mem: or sqlite:<path>")]
    Url { url: String },
    /// The disk or the database failed: the outcome of a write that got this answer is unknown until it is read back.
    #[error("{step}")]
    Backend {
        step: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// Is a value of this length possible?
    pub(crate) fn check_length(key: &str, length: usize, limit: usize) -> Result<(), Error> {
        if length <= limit {
            return Ok(());
        }
        Err(Error::TooLarge {
            key: key.to_owned(),
            length,
            limit,
        })
    }

    /// For `map_err`: what was being done when a library failed.
    pub(crate) fn backend<E>(step: &'static str) -> impl FnOnce(E) -> Error
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |source| Error::Backend {
            step,
            source: source.into(),
        }
    }
}
