use crate::Revision;

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
    #[error("{step}")]
    Backend {
        step: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
