//! Values that are encrypted where they lie.
//!
//! Whoever gets hold of the state database, a disk or a backup of it, should not have the cluster's Secrets. So they are
//! sealed on their way into the store and opened on their way out, by a layer around it that nothing above notices:
//!
//! ```text
//!   registry ─▶ Sealed ──(seal: key of the value is authenticated with it)──▶ store ─▶ disk
//!   caches   ◀─ Sealed ◀─(open: whichever key it names; plaintext from before stays readable)─┘
//! ```
//!
//! | file | its one concern |
//! |---|---|
//! | `envelope.rs` | pure: one value, one key |
//! | `rules.rs` | pure: which values are sealed with what |
//! | `configuration.rs` | rules from an `EncryptionConfiguration` |
//! | `key_file.rs` | keys of our own, made at first start |
//! | `sealed.rs` | the layer |
//! | `rotation.rs` | rewriting everything with the newest key, and forgetting the old ones |
//!
//! Sealed values have the form Kubernetes gives them (`k8s:enc:aesgcm:v1:<key>:…`).

mod configuration;
mod envelope;
mod key_file;
mod rotation;
mod rules;
mod sealed;

pub(crate) use key_file::FILE as KEY_FILE;
pub use rotation::Rotated;
pub(crate) use sealed::unreadable;

use crate::files::FileError;
use catamaran_store::{Error as StoreError, Store};
use key_file::KeyFile;
use rules::Rules;
use sealed::Sealed;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a server that was configured by nobody encrypts.
const DEFAULT_RESOURCES: &[&str] = &["secrets"];

/// Why encryption at rest cannot be set up, or keys cannot be rotated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{} is not usable: {reason}", path.display())]
    Unusable { path: PathBuf, reason: String },
    #[error("the operating system has no random numbers")]
    Random,
    #[error("keys come from an EncryptionConfiguration: rotate them there")]
    Configured,
    #[error("{left} values could not be rewritten with the new key; the old ones were kept")]
    Unfinished { left: usize },
    #[error("cannot rewrite the encrypted values")]
    Store(#[from] StoreError),
}

/// The keys of a running server: what it encrypts with, and how that changes.
pub(crate) struct Vault {
    sealed: Arc<Sealed>,
    data_dir: PathBuf,
    /// The keys are ours, and not the user's own.
    own_keys: bool,
    /// Held while keys change, and by whoever needs keys and values that fit together.
    steady: tokio::sync::Mutex<()>,
}

impl Vault {
    /// Puts the layer around a store. Keys come from `configuration`, or from the data directory, where they are made if
    /// there are none.
    ///
    /// # Errors
    /// If the configuration or the key file cannot be read or makes no sense.
    pub(crate) fn open(store: Arc<dyn Store>, data_dir: &Path, configuration: Option<&Path>) -> Result<Vault, Error> {
        let rules = match configuration {
            Some(path) => configuration::read(path)?,
            None => own_rules(&KeyFile::open_or_create(data_dir)?),
        };
        Ok(Vault {
            sealed: Arc::new(Sealed::new(store, rules)),
            data_dir: data_dir.to_owned(),
            own_keys: configuration.is_none(),
            steady: tokio::sync::Mutex::new(()),
        })
    }

    pub(crate) fn store(&self) -> Arc<dyn Store> {
        Arc::<Sealed>::clone(&self.sealed)
    }

    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Size of the state database's file in the data directory; 0 if it is elsewhere.
    pub(crate) fn state_bytes(&self) -> u64 {
        std::fs::metadata(self.data_dir.join("state.db")).map_or(0, |file| file.len())
    }

    /// While the guard lives, the key file and the sealed values fit together.
    pub(crate) async fn steady(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.steady.lock().await
    }

    /// Can every value be opened?
    ///
    /// # Errors
    /// The first one that cannot.
    pub(crate) async fn check(&self) -> Result<(), Error> {
        for prefix in self.sealed.rules().prefixes() {
            let page = self.sealed.range(prefix, None, 0, None).await?;
            for entry in &page.entries {
                if let Some(reason) = unreadable(&entry.value) {
                    return Err(Error::Store(StoreError::Sealed {
                        key: entry.key.to_string(),
                        reason: reason.to_owned(),
                    }));
                }
            }
        }
        Ok(())
    }

    /// Makes a new key, rewrites everything with it and forgets the old keys.
    ///
    /// # Errors
    /// [`Error::Configured`] if the keys are not ours; otherwise if the key file or the store fail. The old keys are
    /// kept then, everything stays readable, and [`settle`](Self::settle) goes on where this stopped.
    pub(crate) async fn rotate(&self) -> Result<Rotated, Error> {
        let _steady = self.steady.lock().await;
        if !self.own_keys {
            return Err(Error::Configured);
        }
        let keys = KeyFile::open_or_create(&self.data_dir)?.with_new_primary()?;
        // First the file, then the values: a value whose key is in no file would be lost.
        keys.write(&self.data_dir)?;
        self.sealed.set_rules(own_rules(&keys)).await?;
        rotation::settle(&self.sealed, &self.data_dir, keys).await
    }

    /// Finishes what a rotation that was killed left undone, and seals what was written before there was encryption.
    ///
    /// # Errors
    /// As for [`rotate`](Self::rotate).
    pub(crate) async fn settle(&self) -> Result<(), Error> {
        let _steady = self.steady.lock().await;
        if !self.own_keys {
            return Ok(());
        }
        let keys = KeyFile::open_or_create(&self.data_dir)?;
        rotation::settle(&self.sealed, &self.data_dir, keys).await.map(drop)
    }
}

fn own_rules(keys: &KeyFile) -> Rules {
    Rules::sealing(DEFAULT_RESOURCES, keys.keys())
}

#[cfg(test)]
mod tests;
