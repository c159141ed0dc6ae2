//! Content-addressed blobs: a file's name is the hash of its bytes.
//!
//! A blob is written under `tmp/`, hashed on the way, synced, and only then renamed to its name; so whatever is visible is
//! whole, after `kill -9` and after power loss alike, and writers of the same blob in any number of processes need no
//! lock: the last rename puts identical bytes over identical bytes. Leftovers in `tmp/` belong to the collector.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tempfile::{NamedTempFile, TempDir};

use crate::{Digest, Error};

#[derive(Debug, Clone)]
pub(crate) struct Content {
    blobs: PathBuf,
    temporary: PathBuf,
}

impl Content {
    /// Opens (and creates) the blob directories below `dir`.
    pub(crate) fn open(dir: &Path) -> Result<Content, Error> {
        let content = Content {
            blobs: dir.join("blobs/sha256"),
            temporary: dir.join("tmp"),
        };
        for dir in [&content.blobs, &content.temporary] {
            fs::create_dir_all(dir).map_err(|source| Error::io("create", dir, source))?;
        }
        restrict(&content.temporary, 0o700)?;
        restrict(&content.blobs, 0o700)?;
        Ok(content)
    }

    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        self.blobs.join(digest.hex())
    }

    pub(crate) fn blobs_dir(&self) -> &Path {
        &self.blobs
    }

    pub(crate) fn temporary_dir(&self) -> &Path {
        &self.temporary
    }

    /// Whether the blob is here, with the size that its descriptor promises.
    pub(crate) fn has(&self, digest: &Digest, size: u64) -> bool {
        fs::metadata(self.path(digest)).is_ok_and(|metadata| metadata.len() == size)
    }

    /// Reads a small blob and verifies it again: disks forget.
    pub(crate) fn read(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, Error> {
        let path = self.path(digest);
        let file = File::open(&path).map_err(|source| Error::io("open", &path, source))?;
        let mut bytes = Vec::new();
        file.take(limit + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| Error::io("read", &path, source))?;
        if bytes.len() as u64 > limit {
            return Err(Error::TooLarge {
                what: digest.to_string(),
                actual: bytes.len() as u64,
                limit,
            });
        }
        let actual = Digest::of(&bytes);
        if actual != *digest {
            let what = path.display().to_string();
            return Err(Error::DigestMismatch {
                what,
                expected: digest.to_string(),
                actual: actual.to_string(),
            });
        }
        Ok(bytes)
    }

    /// Stores bytes that are in memory.
    pub(crate) fn put(&self, bytes: &[u8]) -> Result<Digest, Error> {
        let digest = Digest::of(bytes);
        if !self.has(&digest, bytes.len() as u64) {
            let mut writer = self.writer()?;
            writer
                .write_all(bytes)
                .map_err(|source| Error::io("write", &self.temporary, source))?;
            writer.commit("blob", Some(&digest))?;
        }
        Ok(digest)
    }

    /// Starts a blob whose bytes arrive in pieces.
    pub(crate) fn writer(&self) -> Result<Writer, Error> {
        let file =
            NamedTempFile::new_in(&self.temporary).map_err(|source| Error::io("create", &self.temporary, source))?;
        Ok(Writer {
            content: self.clone(),
            file,
            hash: Sha256::new(),
            size: 0,
        })
    }

    /// A directory on the store's file system that vanishes unless it is renamed away.
    pub(crate) fn temporary(&self) -> Result<TempDir, Error> {
        tempfile::Builder::new()
            .prefix("dir-")
            .tempdir_in(&self.temporary)
            .map_err(|source| Error::io("create directory in", &self.temporary, source))
    }
}

/// A blob in the making.
#[derive(Debug)]
pub(crate) struct Writer {
    content: Content,
    file: NamedTempFile,
    hash: Sha256,
    size: u64,
}

impl Writer {
    /// Bytes written so far.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Forgets what was written: the transfer starts over.
    pub(crate) fn restart(&mut self) -> io::Result<()> {
        use io::Seek as _;
        self.file.as_file_mut().rewind()?;
        self.file.as_file().set_len(0)?;
        self.hash = Sha256::new();
        self.size = 0;
        Ok(())
    }

    /// Makes the blob visible if its hash is the expected one; `what` names it in the error.
    pub(crate) fn commit(self, what: &str, expected: Option<&Digest>) -> Result<(Digest, u64), Error> {
        let digest = Digest::from_hash(&self.hash.finalize());
        if let Some(expected) = expected
            && *expected != digest
        {
            let (expected, actual) = (expected.to_string(), digest.to_string());
            return Err(Error::DigestMismatch {
                what: what.to_owned(),
                expected,
                actual,
            });
        }
        let path = self.content.path(&digest);
        let file = self.file.as_file();
        file.set_permissions(Permissions::from_mode(0o444))
            .map_err(|source| Error::io("protect", &path, source))?;
        file.sync_data().map_err(|source| Error::io("sync", &path, source))?;
        self.file
            .persist(&path)
            .map_err(|source| Error::io("rename", &path, source.error))?;
        sync_dir(&self.content.blobs)?;
        Ok((digest, self.size))
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Replaces a small file so that readers see the old or the new one, never half of one.
pub(crate) fn replace(path: &Path, temporary: &Path, bytes: &[u8]) -> Result<(), Error> {
    let fail = |source| Error::io("write", path, source);
    let mut file = NamedTempFile::new_in(temporary).map_err(fail)?;
    file.write_all(bytes).map_err(fail)?;
    file.as_file().sync_data().map_err(fail)?;
    file.persist(path).map_err(|error| fail(error.error))?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// Makes renames in `dir` durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), Error> {
    File::open(dir)
        .and_then(|file| file.sync_all())
        .map_err(|source| Error::io("sync", dir, source))
}

/// Image content may be private and may contain setuid programs: keep other users of the host out.
pub(crate) fn restrict(dir: &Path, mode: u32) -> Result<(), Error> {
    let current = fs::metadata(dir)
        .map_err(|source| Error::io("inspect", dir, source))?
        .permissions();
    if current.mode() & 0o7777 != mode {
        fs::set_permissions(dir, Permissions::from_mode(mode)).map_err(|source| Error::io("protect", dir, source))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_appears_only_when_whole_and_right() {
        let dir = tempfile::tempdir().unwrap();
        let content = Content::open(dir.path()).unwrap();
        let digest = Digest::of(b"hello");
        let mut writer = content.writer().unwrap();
        writer.write_all(b"hel").unwrap();
        assert!(!content.path(&digest).exists());
        drop(writer);
        let mut writer = content.writer().unwrap();
        writer.write_all(b"help!").unwrap();
        assert!(matches!(
            writer.commit("x", Some(&digest)),
            Err(Error::DigestMismatch { .. })
        ));
        assert_eq!(fs::read_dir(content.blobs_dir()).unwrap().count(), 0);
        assert_eq!(
            fs::read_dir(content.temporary_dir()).unwrap().count(),
            0,
            "dropped writers clean up"
        );

        let mut writer = content.writer().unwrap();
        writer.write_all(b"rubbish").unwrap();
        writer.restart().unwrap();
        writer.write_all(b"hello").unwrap();
        writer.commit("x", Some(&digest)).unwrap();
        assert!(content.has(&digest, 5) && !content.has(&digest, 6));
        assert_eq!(content.read(&digest, 5).unwrap(), b"hello");
        assert!(matches!(content.read(&digest, 4), Err(Error::TooLarge { .. })));
    }

    #[test]
    fn a_damaged_blob_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let content = Content::open(dir.path()).unwrap();
        let digest = content.put(b"hello").unwrap();
        fs::remove_file(content.path(&digest)).unwrap();
        fs::write(content.path(&digest), b"hellp").unwrap();
        assert!(matches!(content.read(&digest, 100), Err(Error::DigestMismatch { .. })));
    }
}
