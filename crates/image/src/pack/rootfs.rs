//! Archives a directory as it is: owners, modes, attributes, hard links, devices. Only times are dropped.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tar::EntryType;

use super::layer::{Attributes, LayerWriter};
use crate::Error;
use crate::unpack::keeps_xattr;

struct Walk<'a, W: Write> {
    root: &'a Path,
    device: u64,
    /// Where a file with several names was written first.
    linked: HashMap<(u64, u64), PathBuf>,
    /// Who packs without being root owns the files; in the image root does.
    myself: Option<(u32, u32)>,
    output: LayerWriter<W>,
}

/// Writes the tree below `root` in a fixed order. Other file systems mounted in it are left out.
pub(super) fn archive<W: Write>(root: &Path, output: W) -> Result<W, Error> {
    let metadata = fs::metadata(root).map_err(|source| Error::io("inspect", root, source))?;
    if !metadata.is_dir() {
        return Err(Error::Pack {
            path: root.to_path_buf(),
            reason: "not a directory".to_owned(),
        });
    }
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    let myself = (!uid.is_root()).then_some((uid.as_raw(), gid.as_raw()));
    let output = LayerWriter::new(output);
    let mut walk = Walk {
        root,
        device: metadata.dev(),
        linked: HashMap::new(),
        myself,
        output,
    };
    walk.directory(root)?;
    walk.output
        .finish()
        .map_err(|source| Error::io("archive", root, source))
}

impl<W: Write> Walk<'_, W> {
    fn directory(&mut self, directory: &Path) -> Result<(), Error> {
        let entries = fs::read_dir(directory).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let entries = entries.map_err(|source| Error::io("list", directory, source))?;
        let mut paths: Vec<PathBuf> = entries.iter().map(fs::DirEntry::path).collect();
        paths.sort();
        for path in paths {
            if path
                .file_name()
                .is_some_and(|name| name.as_bytes().starts_with(b".wh."))
            {
                return Err(Error::Pack {
                    path,
                    reason: "in a layer this name means a deletion".to_owned(),
                });
            }
            let metadata = fs::symlink_metadata(&path).map_err(|source| Error::io("inspect", &path, source))?;
            self.entry(&path, &metadata)
                .map_err(|source| Error::io("archive", &path, source))?;
            if metadata.is_dir() && metadata.dev() == self.device {
                self.directory(&path)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, metadata: &Metadata) -> io::Result<()> {
        let name = path.strip_prefix(self.root).map_err(io::Error::other)?;
        let attributes = self.attributes(path, metadata)?;
        let kind = metadata.file_type();
        if kind.is_dir() {
            return self.output.directory(name, &attributes);
        }
        if kind.is_socket() {
            return Ok(());
        }
        if metadata.nlink() > 1 {
            if let Some(first) = self.linked.get(&(metadata.dev(), metadata.ino())) {
                return self.output.hardlink(name, first, &Attributes::mode(attributes.mode));
            }
            self.linked.insert((metadata.dev(), metadata.ino()), name.to_path_buf());
        }
        if kind.is_symlink() {
            return self.output.symlink(name, &fs::read_link(path)?, &attributes);
        }
        if kind.is_file() {
            return self.output.file(name, &attributes, metadata.len(), File::open(path)?);
        }
        let (kind, device) = if kind.is_fifo() {
            (EntryType::Fifo, (0, 0))
        } else {
            let device = (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
            (
                if kind.is_char_device() {
                    EntryType::Char
                } else {
                    EntryType::Block
                },
                device,
            )
        };
        self.output.special(name, kind, device, &attributes)
    }

    fn attributes(&self, path: &Path, metadata: &Metadata) -> io::Result<Attributes> {
        let mut attributes = Attributes::mode(metadata.permissions().mode() & 0o7777);
        (attributes.uid, attributes.gid) = (metadata.uid(), metadata.gid());
        if let Some((uid, gid)) = self.myself {
            attributes.uid = if attributes.uid == uid { 0 } else { attributes.uid };
            attributes.gid = if attributes.gid == gid { 0 } else { attributes.gid };
        }
        if metadata.is_file() || metadata.is_dir() {
            for name in xattr::list(path).into_iter().flatten() {
                if let Some(text) = name.to_str().filter(|text| keeps_xattr(text.as_bytes()))
                    && let Some(value) = xattr::get(path, text)?
                {
                    attributes.xattrs.insert(text.to_owned(), value);
                }
            }
        }
        Ok(attributes)
    }
}
