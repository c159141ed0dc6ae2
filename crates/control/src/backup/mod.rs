//! Backups: everything a cluster is, in one file, made while it runs.
//!
//! A backup has to be worth something on an empty machine after a fire. So it holds, besides the state, what the state is
//! of no use without: the keys of its encrypted values, and the CA that nodes and kubeconfigs trust. It is as secret as
//! all of these, and is handled so (mode 0600, only for those who may do everything).
//!
//! ```text
//!   state.db            the state at one revision
//!   encryption-keys     unless the user keeps the keys elsewhere
//!   pki/*               the CA and what it signed, the keys of service-account tokens
//!   manifest.json       last: what belongs to the backup, with digests; without it, the file was cut off
//! ```
//!
//! The form is a gzipped tar, so that nobody needs this program to look inside.
//!
//! | file | its one concern |
//! |---|---|
//! | `archive.rs` | from a running server to bytes |
//! | `restore.rs` | from bytes to a data directory |

mod archive;
mod restore;

pub(crate) use archive::{Archive, stream};
pub use restore::{Restored, restore};

use crate::files::FileError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

const FORMAT: &str = "catamaran-backup/1";
const STATE: &str = "state.db";
const PKI: &str = "pki";
const MANIFEST: &str = "manifest.json";

/// What a backup consists of.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    format: String,
    /// Of the program that made it.
    version: String,
    time: String,
    revision: u64,
    /// SHA-256 in hex, by name.
    files: BTreeMap<String, String>,
}

/// Why a backup was not made or not restored.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("cannot copy the state")]
    Store(#[from] catamaran_store::Error),
    #[error("the keys and the state of the backup do not fit together")]
    Keys(#[source] crate::encryption::Error),
    #[error("this is no backup: {reason}")]
    NoBackup { reason: String },
    #[error("the backup is damaged: {reason}")]
    Damaged { reason: String },
    #[error("{} holds a cluster already", path.display())]
    NotEmpty { path: PathBuf },
}

fn hex(digest: &[u8]) -> String {
    use std::fmt::Write as _;
    digest.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests;
