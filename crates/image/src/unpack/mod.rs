//! Turns a layer's archive into a directory that overlayfs can stack.
//!
//! ```text
//! blob → decompress (gzip, zstd, none) → Meter: hash, bomb limits → tar::Reader → Tree: directory in overlayfs form
//! ```
//! The caller gives a fresh directory and renames it when this returns; a failure leaves nothing visible.

mod lower;
mod meter;
mod node;
mod number;
mod tar;
mod tree;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use self::meter::Meter;
use self::tar::{Kind, Reader, TarError};
use self::tree::{Tree, TreeError, os};
use crate::import::clean;
use crate::options::Limits;
use crate::{Digest, Error};

pub(crate) use self::node::keeps_xattr;

/// Windows beyond 128 MiB are a memory bomb; no builder uses them.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
const READ_BUFFER: usize = 256 * 1024;

/// One layer to unpack.
pub(crate) struct Layer<'a> {
    pub(crate) blob: &'a Path,
    /// Digest of the uncompressed archive, from the image config.
    pub(crate) diff_id: &'a Digest,
    /// Unpacked layers below, topmost first.
    pub(crate) lowers: &'a [PathBuf],
}

/// Unpacks into the empty directory `target`, verifies the diff ID and syncs.
pub(crate) fn unpack(layer: &Layer<'_>, target: &Path, limits: &Limits) -> Result<(), Error> {
    let blob = File::open(layer.blob).map_err(|source| Error::io("open", layer.blob, source))?;
    let compressed = blob
        .metadata()
        .map_err(|source| Error::io("inspect", layer.blob, source))?
        .len();
    let archive = decompress(blob).map_err(|source| Error::io("read", layer.blob, source))?;
    let tree = Tree::new(target, layer.lowers).map_err(|error| tree_error(error, layer.diff_id.as_str(), "/", 0))?;
    let digest = apply(
        Meter::new(archive, compressed, limits),
        tree,
        layer.diff_id.as_str(),
        limits,
    )?;
    if digest != *layer.diff_id {
        let (expected, actual) = (layer.diff_id.to_string(), digest.to_string());
        return Err(Error::DigestMismatch {
            what: format!("layer {}", layer.blob.display()),
            expected,
            actual,
        });
    }
    Ok(())
}

fn apply<R: Read>(archive: Meter<R>, mut tree: Tree, layer: &str, limits: &Limits) -> Result<Digest, Error> {
    let allowed = archive.allowed();
    let mut reader = Reader::new(archive, limits.header_bytes);
    let (mut entries, mut logical) = (0u64, 0u64);
    while let Some(entry) = reader.next().map_err(|error| archive_error(error, layer, allowed))? {
        let shown = || {
            String::from_utf8_lossy(&entry.path)
                .chars()
                .take(200)
                .collect::<String>()
        };
        entries += 1;
        if entries > limits.layer_entries {
            let reason = format!("more than {} entries", limits.layer_entries);
            return Err(Error::Archive {
                layer: layer.to_owned(),
                reason,
            });
        }
        if entry.kind == Kind::File {
            logical = logical.saturating_add(entry.size);
        }
        if logical > limits.layer_bytes {
            return Err(Error::TooLarge {
                what: format!("layer {layer}"),
                actual: logical,
                limit: limits.layer_bytes,
            });
        }
        let data = &mut |buffer: &mut [u8]| reader.read_data(buffer).map_err(DataError);
        tree.apply(&entry, data)
            .map_err(|error| tree_error(error, layer, &shown(), allowed))?;
    }
    tree.finish().map_err(|error| tree_error(error, layer, "/", allowed))?;
    reader
        .into_inner()
        .finish()
        .map_err(|error| archive_error(TarError::Io(error), layer, allowed))
}

fn tree_error(error: TreeError, layer: &str, entry: &str, allowed: u64) -> Error {
    let (layer, entry) = (layer.to_owned(), entry.to_owned());
    match error {
        TreeError::Refused(reason) => Error::LayerEntry { layer, entry, reason },
        TreeError::Io(error) if error.kind() == io::ErrorKind::FileTooLarge => too_large(&layer, allowed),
        TreeError::Io(source) => Error::LayerIo { layer, entry, source },
    }
}

struct DataError(TarError);

impl From<DataError> for TreeError {
    fn from(DataError(error): DataError) -> TreeError {
        match error {
            TarError::Io(error) if error.kind() == io::ErrorKind::FileTooLarge => TreeError::Io(error),
            // Reading failed, so it is the archive's fault, unlike an error of writing.
            TarError::Io(error) => TreeError::Refused(format!("damaged archive: {error}")),
            TarError::Damaged(reason) => TreeError::Refused(format!("damaged archive: {reason}")),
        }
    }
}

fn archive_error(error: TarError, layer: &str, allowed: u64) -> Error {
    match error {
        TarError::Io(error) if error.kind() == io::ErrorKind::FileTooLarge => too_large(layer, allowed),
        // What a decompressor says of its input is about the archive, not about this machine.
        TarError::Io(error) => Error::Archive {
            layer: layer.to_owned(),
            reason: error.to_string(),
        },
        TarError::Damaged(reason) => Error::Archive {
            layer: layer.to_owned(),
            reason,
        },
    }
}

fn too_large(layer: &str, limit: u64) -> Error {
    Error::TooLarge {
        what: format!("layer {layer} uncompressed"),
        actual: limit.saturating_add(1),
        limit,
    }
}

/// A file of an archive that is not unpacked but read.
pub(crate) enum ArchiveFile<'a> {
    Regular {
        path: PathBuf,
        size: u64,
        data: &'a mut dyn FnMut(&mut [u8]) -> Result<usize, Error>,
    },
    /// A symbolic link; a hard link is one to a path from the root.
    Link { path: PathBuf, target: PathBuf },
}

/// Shows every file of an archive to `each`, in order.
pub(crate) fn read_archive(
    archive: impl Read,
    what: &str,
    limits: &Limits,
    mut each: impl FnMut(ArchiveFile<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut reader = Reader::new(archive, limits.header_bytes);
    let mut entries = 0u64;
    while let Some(entry) = reader
        .next()
        .map_err(|error| archive_error(error, what, limits.layer_bytes))?
    {
        entries += 1;
        if entries > limits.layer_entries {
            let reason = format!("more than {} entries", limits.layer_entries);
            return Err(Error::Archive {
                layer: what.to_owned(),
                reason,
            });
        }
        let path = clean(Path::new(os(&entry.path)));
        match entry.kind {
            Kind::File if entry.segments.is_none() => {
                let mut data = |buffer: &mut [u8]| {
                    reader
                        .read_data(buffer)
                        .map_err(|error| archive_error(error, what, limits.layer_bytes))
                };
                each(ArchiveFile::Regular {
                    path,
                    size: entry.size,
                    data: &mut data,
                })?;
            }
            Kind::Symlink => each(ArchiveFile::Link {
                path,
                target: PathBuf::from(os(&entry.link)),
            })?,
            Kind::Hardlink => {
                each(ArchiveFile::Link {
                    path,
                    target: Path::new("/").join(os(&entry.link)),
                })?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// How a layer is compressed. Media types are often wrong about it, and a wrong guess cannot get past the diff ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    pub(crate) fn of(start: &[u8]) -> Compression {
        match start {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            // The second pattern is a skippable frame, with which some zstd streams begin.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
            _ => Compression::None,
        }
    }
}

/// Reads through whatever compression there is.
pub(crate) fn decompress<'a, R: Read + 'a>(input: R) -> io::Result<Box<dyn Read + 'a>> {
    let mut input = BufReader::with_capacity(READ_BUFFER, input);
    match Compression::of(input.fill_buf()?) {
        Compression::Gzip => Ok(Box::new(BufReader::with_capacity(
            READ_BUFFER,
            flate2::bufread::MultiGzDecoder::new(input),
        ))),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Ok(Box::new(BufReader::with_capacity(READ_BUFFER, decoder)))
        }
        Compression::None => Ok(Box::new(input)),
    }
}

#[cfg(test)]
mod tests;
