//! From a running server to bytes: a snapshot first, then an archive of it as fast as whoever asked for it reads.

use super::{Error, FORMAT, MANIFEST, Manifest, PKI, STATE, hex};
use crate::encryption::{KEY_FILE, Vault};
use crate::files::{reading, writing};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use tokio::sync::mpsc;

/// Where the snapshot is made, below the data directory; its name is gone as soon as it is complete.
const SNAPSHOT: &str = "backup.tmp";
/// Size of the pieces an archive is handed over in, and how many may wait.
const PIECE: usize = 128 << 10;
const PIECES: usize = 4;

/// One consistent moment, still to be packed.
pub(crate) struct Archive {
    pub(crate) revision: u64,
    state: File,
    /// Small ones, in memory: they must be those of the moment.
    files: BTreeMap<String, Vec<u8>>,
}

impl Archive {
    /// Takes the snapshot.
    pub(crate) async fn take(vault: &Vault) -> Result<Archive, Error> {
        // While keys change, the file of keys and the values in the state are of different moments.
        let _steady = vault.steady().await;
        let data_dir = vault.data_dir();
        let path = data_dir.join(SNAPSHOT);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(writing(path)(error).into()),
            _ => {}
        }
        let revision = vault.store().backup(&path).await?;
        let state = File::open(&path).map_err(reading(&path))?;
        // From here on a kill leaves nothing behind.
        std::fs::remove_file(&path).map_err(writing(&path))?;
        Ok(Archive {
            revision,
            state,
            files: small_files(data_dir)?,
        })
    }

    /// Packs it all. Blocks.
    pub(crate) fn write_to(mut self, sink: impl Write) -> io::Result<()> {
        let mut tar = tar::Builder::new(GzEncoder::new(sink, Compression::fast()));
        let mut manifest = Manifest {
            format: FORMAT.to_owned(),
            version: crate::http::GIT_VERSION.to_owned(),
            time: k8s_openapi::jiff::Timestamp::now().to_string(),
            revision: self.revision,
            files: BTreeMap::new(),
        };
        let length = self.state.metadata()?.len();
        let mut hashing = Hashing {
            inner: &mut self.state,
            digest: Sha256::new(),
        };
        tar.append_data(&mut header(length), STATE, &mut hashing)?;
        manifest.files.insert(STATE.to_owned(), hex(&hashing.digest.finalize()));
        for (name, content) in &self.files {
            tar.append_data(&mut header(content.len() as u64), name, content.as_slice())?;
            manifest.files.insert(name.clone(), hex(&Sha256::digest(content)));
        }
        let text = serde_json::to_vec_pretty(&manifest)?;
        tar.append_data(&mut header(text.len() as u64), MANIFEST, text.as_slice())?;
        tar.into_inner()?.finish()?.flush()
    }
}

fn header(length: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o600);
    header.set_size(length);
    header
}

/// Keys and certificates. What is not there is not part of the cluster.
fn small_files(data_dir: &Path) -> Result<BTreeMap<String, Vec<u8>>, Error> {
    let mut files = BTreeMap::new();
    let mut add = |name: String| -> Result<(), Error> {
        let path = data_dir.join(&name);
        match std::fs::read(&path) {
            Ok(content) => drop(files.insert(name, content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(reading(path)(error).into()),
        }
        Ok(())
    };
    add(KEY_FILE.to_owned())?;
    let pki = data_dir.join(PKI);
    let entries = match std::fs::read_dir(&pki) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(files),
        Err(error) => return Err(reading(pki)(error).into()),
    };
    for entry in entries {
        let entry = entry.map_err(reading(&pki))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_file = entry.file_type().is_ok_and(|file_type| file_type.is_file());
        // Names with a dot in front are files that are being written.
        if is_file && !name.starts_with('.') {
            add(format!("{PKI}/{name}"))?;
        }
    }
    Ok(files)
}

struct Hashing<'a> {
    inner: &'a mut File,
    digest: Sha256,
}

impl Read for Hashing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.digest.update(&buffer[..count]);
        Ok(count)
    }
}

/// The archive, piece by piece; ends with an error if it cannot be made. Dropping the receiver ends the packing.
pub(crate) fn stream(archive: Archive) -> mpsc::Receiver<io::Result<Bytes>> {
    let (sender, receiver) = mpsc::channel(PIECES);
    tokio::task::spawn_blocking(move || {
        let sink = io::BufWriter::with_capacity(PIECE, Pieces(sender.clone()));
        if let Err(error) = archive.write_to(sink) {
            tracing::warn!(error = &error as &dyn std::error::Error, "a backup was not completed");
            let _ = sender.blocking_send(Err(error));
        }
    });
    receiver
}

struct Pieces(mpsc::Sender<io::Result<Bytes>>);

impl Write for Pieces {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self.0.blocking_send(Ok(Bytes::copy_from_slice(buffer))) {
            Ok(()) => Ok(buffer.len()),
            Err(_) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
