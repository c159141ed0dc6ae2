//! Writes a layer archive whose bytes depend on nothing but its content: fixed times, fixed owners, sorted by the caller.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::Path;

use tar::{Builder, EntryType, Header};

/// Owner, mode and extended attributes of an entry.
#[derive(Debug, Clone, Default)]
pub(super) struct Attributes {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) xattrs: BTreeMap<String, Vec<u8>>,
}

impl Attributes {
    /// Owned by root.
    pub(super) fn mode(mode: u32) -> Attributes {
        Attributes {
            mode,
            ..Attributes::default()
        }
    }
}

pub(super) struct LayerWriter<W: Write>(Builder<W>);

impl<W: Write> LayerWriter<W> {
    pub(super) fn new(output: W) -> LayerWriter<W> {
        LayerWriter(Builder::new(output))
    }

    pub(super) fn directory(&mut self, path: &Path, attributes: &Attributes) -> io::Result<()> {
        let mut header = self.header(EntryType::Directory, attributes)?;
        self.0.append_data(&mut header, path, io::empty())
    }

    /// `size` bytes are taken from `data`; fewer is an error.
    pub(super) fn file(&mut self, path: &Path, attributes: &Attributes, size: u64, data: impl Read) -> io::Result<()> {
        let mut header = self.header(EntryType::Regular, attributes)?;
        header.set_size(size);
        let mut data = Exactly { data, left: size };
        self.0.append_data(&mut header, path, &mut data)
    }

    pub(super) fn symlink(&mut self, path: &Path, target: &Path, attributes: &Attributes) -> io::Result<()> {
        let mut header = self.header(EntryType::Symlink, attributes)?;
        self.0.append_link(&mut header, path, target)
    }

    pub(super) fn hardlink(&mut self, path: &Path, target: &Path, attributes: &Attributes) -> io::Result<()> {
        let mut header = self.header(EntryType::Link, attributes)?;
        self.0.append_link(&mut header, path, target)
    }

    pub(super) fn special(
        &mut self,
        path: &Path,
        kind: EntryType,
        device: (u32, u32),
        attributes: &Attributes,
    ) -> io::Result<()> {
        let mut header = self.header(kind, attributes)?;
        header.set_device_major(device.0)?;
        header.set_device_minor(device.1)?;
        self.0.append_data(&mut header, path, io::empty())
    }

    pub(super) fn finish(self) -> io::Result<W> {
        self.0.into_inner()
    }

    fn header(&mut self, kind: EntryType, attributes: &Attributes) -> io::Result<Header> {
        if !attributes.xattrs.is_empty() {
            let records: Vec<(String, &[u8])> = attributes
                .xattrs
                .iter()
                .map(|(name, value)| (format!("SCHILY.xattr.{name}"), value.as_slice()))
                .collect();
            self.0
                .append_pax_extensions(records.iter().map(|(name, value)| (name.as_str(), *value)))?;
        }
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(attributes.mode);
        header.set_uid(attributes.uid.into());
        header.set_gid(attributes.gid.into());
        header.set_mtime(0);
        header.set_size(0);
        Ok(header)
    }
}

/// A file that changes its size while it is read must not shift everything behind it.
struct Exactly<R> {
    data: R,
    left: u64,
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        if wanted == 0 {
            return Ok(0);
        }
        let read = self.data.read(&mut buffer[..wanted])?;
        if read == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the file shrank while it was read",
            ));
        }
        self.left -= read as u64;
        Ok(read)
    }
}
