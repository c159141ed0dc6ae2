//! From bytes to a data directory. Nothing of the directory is touched before the whole backup was read and found sound.

use super::{Error, FORMAT, MANIFEST, Manifest, PKI, STATE, hex};
use crate::encryption::{KEY_FILE, Vault};
use crate::files::{self, FileError, reading, writing};
use catamaran_store::{Options, Revision, Sqlite, Store};
use flate2::read::GzDecoder;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a backup is unpacked and examined, below the data directory.
const STAGING: &str = "restore.tmp";
/// How far revisions jump. More than a cluster writes between its last backup and its end.
const JUMP: Revision = 1_000_000_000;
/// What is put aside when a cluster is replaced, besides what the backup brings.
const ASIDE: &[&str] = &["state.db", "state.db-wal", "state.db-shm", KEY_FILE, PKI, "kubeconfig"];
const LONGEST_MANIFEST: u64 = 16 << 20;

/// A restored cluster.
#[derive(Debug)]
pub struct Restored {
    /// When the backup was made.
    pub time: String,
    /// The revision of the backup.
    pub revision: u64,
    /// Where the cluster that was replaced is kept, if there was one.
    pub aside: Option<PathBuf>,
}

/// Restores a backup into a data directory in which no server runs. A cluster that is there already is put aside if
/// `replace`, else it is [`Error::NotEmpty`].
///
/// # Errors
/// If the backup is none, is damaged or cannot be written. The directory is as before then.
pub async fn restore(backup: impl Read, data_dir: &Path, replace: bool) -> Result<Restored, Error> {
    files::create_private_dir(data_dir).map_err(writing(data_dir))?;
    let present: Vec<&str> = ASIDE
        .iter()
        .copied()
        .filter(|name| data_dir.join(name).exists())
        .collect();
    if present.iter().any(|name| *name != "kubeconfig") && !replace {
        return Err(Error::NotEmpty {
            path: data_dir.to_owned(),
        });
    }
    let staging = data_dir.join(STAGING);
    remove_dir(&staging)?;
    let outcome = prepare(backup, &staging).await;
    let put = outcome.and_then(|manifest| {
        let aside = put_aside(data_dir, &present)?;
        put_in_place(&staging, data_dir, &manifest)?;
        Ok(Restored {
            time: manifest.time,
            revision: manifest.revision,
            aside,
        })
    });
    let removed = remove_dir(&staging);
    let restored = put?;
    removed?;
    Ok(restored)
}

/// Unpacks, checks, and lets the state begin a history of its own.
async fn prepare(backup: impl Read, staging: &Path) -> Result<Manifest, Error> {
    files::create_private_dir(&staging.join(PKI)).map_err(writing(staging))?;
    let manifest = unpack(backup, staging)?;
    let state = staging.join(STATE);
    Sqlite::begin_new_history(&state, JUMP)?;
    if manifest.files.contains_key(KEY_FILE) {
        let store: Arc<dyn Store> = Arc::new(Sqlite::open(&state, &Options::default())?);
        let vault = Vault::open(store, staging, None).map_err(Error::Keys)?;
        vault.check().await.map_err(Error::Keys)?;
    }
    Ok(manifest)
}

fn unpack(backup: impl Read, staging: &Path) -> Result<Manifest, Error> {
    let damaged = |error: io::Error| Error::Damaged {
        reason: error.to_string(),
    };
    let mut tar = tar::Archive::new(GzDecoder::new(io::BufReader::new(backup)));
    let mut found = BTreeMap::new();
    let mut manifest: Option<Manifest> = None;
    for entry in tar.entries().map_err(no_backup)? {
        let mut entry = entry.map_err(|error| {
            if found.is_empty() {
                no_backup(error)
            } else {
                damaged(error)
            }
        })?;
        let name = entry.path().map_err(damaged)?.to_string_lossy().into_owned();
        if name == MANIFEST {
            let mut text = Vec::new();
            let read = (&mut entry).take(LONGEST_MANIFEST).read_to_end(&mut text);
            read.map_err(damaged)?;
            manifest = Some(serde_json::from_slice(&text).map_err(|error| Error::Damaged {
                reason: format!("its manifest: {error}"),
            })?);
            continue;
        }
        if !is_known(&name) || entry.header().entry_type() != tar::EntryType::Regular {
            return Err(Error::NoBackup {
                reason: format!("it holds {name:?}"),
            });
        }
        let digest = write(&mut entry, &staging.join(&name)).map_err(|error| match error {
            Error::File(FileError::Read { source, .. }) => damaged(source),
            other => other,
        })?;
        found.insert(name, digest);
    }
    // The archive may end before the file does; only its very end has the checksum of it all.
    io::copy(&mut tar.into_inner(), &mut io::sink()).map_err(damaged)?;
    let manifest = manifest.ok_or_else(|| Error::Damaged {
        reason: "it ends too early".to_owned(),
    })?;
    if manifest.format != FORMAT {
        return Err(Error::NoBackup {
            reason: format!("it has the format {:?}, this program reads {FORMAT:?}", manifest.format),
        });
    }
    if found != manifest.files || !found.contains_key(STATE) {
        return Err(Error::Damaged {
            reason: "its files are not those of its manifest".to_owned(),
        });
    }
    Ok(manifest)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn no_backup(error: io::Error) -> Error {
    Error::NoBackup {
        reason: error.to_string(),
    }
}

/// Nothing else is ever written, whatever an archive says.
fn is_known(name: &str) -> bool {
    let plain = |file: &str| {
        !file.is_empty()
            && !file.starts_with('.')
            && file
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
    };
    match name.split_once('/') {
        None => name == STATE || name == KEY_FILE,
        Some((directory, file)) => directory == PKI && plain(file),
    }
}

/// Returns the digest of what was written.
fn write(from: &mut impl Read, path: &Path) -> Result<String, Error> {
    let mut file = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(writing(path))?;
    let (mut digest, mut buffer) = (Sha256::new(), vec![0; 128 << 10]);
    loop {
        let count = from.read(&mut buffer).map_err(reading(path))?;
        if count == 0 {
            break;
        }
        digest.update(&buffer[..count]);
        file.write_all(&buffer[..count]).map_err(writing(path))?;
    }
    file.sync_all().map_err(writing(path))?;
    Ok(hex(&digest.finalize()))
}

fn put_aside(data_dir: &Path, present: &[&str]) -> Result<Option<PathBuf>, Error> {
    if present.iter().all(|name| *name == "kubeconfig") {
        return Ok(None);
    }
    let now = k8s_openapi::jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    let aside = (0..)
        .map(|number| match number {
            0 => data_dir.join(format!("replaced-{now}")),
            number => data_dir.join(format!("replaced-{now}-{number}")),
        })
        .find(|path| !path.exists())
        .unwrap_or_default();
    files::create_private_dir(&aside).map_err(writing(&aside))?;
    for name in present {
        let path = data_dir.join(name);
        std::fs::rename(&path, aside.join(name)).map_err(writing(path))?;
    }
    Ok(Some(aside))
}

/// The state last: as long as it is missing, a start finds no cluster rather than half of one.
fn put_in_place(staging: &Path, data_dir: &Path, manifest: &Manifest) -> Result<(), Error> {
    let mut names = vec![PKI];
    names.extend(manifest.files.contains_key(KEY_FILE).then_some(KEY_FILE));
    names.push(STATE);
    for name in names {
        let path = data_dir.join(name);
        std::fs::rename(staging.join(name), &path).map_err(writing(path))?;
    }
    File::open(data_dir)
        .and_then(|directory| directory.sync_all())
        .map_err(writing(data_dir))?;
    Ok(())
}

fn remove_dir(path: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(writing(path)(error).into()),
        _ => Ok(()),
    }
}
