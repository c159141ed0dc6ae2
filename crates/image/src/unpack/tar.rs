//! A tar reader that expects the worst.
//!
//! Layers come from strangers, so this reader is ours: every length is bounded before anything is allocated, numbers that do
//! not fit are errors rather than truncations, and names stay bytes. It reads ustar, GNU (long names, base-256 numbers, old
//! sparse) and PAX (POSIX.1-2001, with the GNU sparse formats 0.0, 0.1 and 1.0 and `SCHILY.xattr`), which is what builders
//! in the wild emit.

use std::io::{self, Read};

use super::number::{decimal, narrow, number, signed, timestamp};

pub(super) const BLOCK: usize = 512;

/// Pieces of a sparse file, `(offset, length)` ascending.
pub(super) type Segments = Vec<(u64, u64)>;

/// What an entry is; `Other` carries the type flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Hardlink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
    Other(u8),
}

/// One entry's metadata. Its data, if it has any, is read from the [`Reader`] before the next entry.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) path: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Seconds and nanoseconds since the epoch.
    pub(super) mtime: (i64, u32),
    /// Length of the file that results.
    pub(super) size: u64,
    pub(super) device: (u32, u32),
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the data goes; `None` is the whole file.
    pub(super) segments: Option<Segments>,
}

/// Why an archive cannot be read.
#[derive(Debug)]
pub(super) enum TarError {
    Io(io::Error),
    Damaged(String),
}

impl From<io::Error> for TarError {
    fn from(error: io::Error) -> TarError {
        TarError::Io(error)
    }
}

pub(super) fn damaged<T>(reason: impl Into<String>) -> Result<T, TarError> {
    Err(TarError::Damaged(reason.into()))
}

pub(super) struct Reader<R> {
    inner: R,
    /// Data of the current entry that is still in the archive, and its padding.
    data: u64,
    padding: u64,
    /// Records of `g` headers, which hold until overridden.
    global: Pax,
    header_limit: u64,
}

/// PAX records that matter, each as last set.
#[derive(Debug, Clone, Default)]
struct Pax {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    sparse_major: Option<u64>,
    sparse_name: Option<Vec<u8>>,
    sparse_size: Option<u64>,
    sparse_map: Vec<u64>,
}

impl<R: Read> Reader<R> {
    pub(super) fn new(inner: R, header_limit: u64) -> Reader<R> {
        Reader {
            inner,
            data: 0,
            padding: 0,
            global: Pax::default(),
            header_limit,
        }
    }

    /// The stream behind, for what follows the archive's end.
    pub(super) fn into_inner(self) -> R {
        self.inner
    }

    /// The next entry; `None` at the end-of-archive mark, or where the stream ends between entries.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, TarError> {
        let mut pax = self.global.clone();
        let (mut long_name, mut long_link) = (None, None);
        let mut extended = 0u64;
        loop {
            self.skip_data()?;
            let Some(header) = self.header()? else {
                return if extended > 0 {
                    damaged("an extended header without its entry")
                } else {
                    Ok(None)
                };
            };
            let flag = header[156];
            let size = number(&header[124..136], "size")?;
            if matches!(flag, b'L' | b'K' | b'x' | b'X' | b'g') {
                extended = extended.saturating_add(size).saturating_add(BLOCK as u64);
                if extended > self.header_limit {
                    return damaged(format!("extended headers of more than {} bytes", self.header_limit));
                }
                self.set_data(size)?;
                let body = self.read_all(size)?;
                match flag {
                    b'L' => long_name = Some(until_nul(&body).to_vec()),
                    b'K' => long_link = Some(until_nul(&body).to_vec()),
                    b'g' => {
                        self.global.apply(&body)?;
                        pax = self.global.clone();
                    }
                    _ => pax.apply(&body)?,
                }
                continue;
            }
            return self.entry(&header, size, pax, long_name, long_link).map(Some);
        }
    }

    fn entry(
        &mut self,
        header: &[u8; BLOCK],
        size: u64,
        pax: Pax,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<Entry, TarError> {
        let path = pax.path.or(long_name).unwrap_or_else(|| header_name(header));
        let flag = header[156];
        let kind = match flag {
            0 | b'0' if path.ends_with(b"/") => Kind::Directory,
            0 | b'0' | b'7' | b'S' => Kind::File,
            b'1' => Kind::Hardlink,
            b'2' => Kind::Symlink,
            b'3' => Kind::CharDevice,
            b'4' => Kind::BlockDevice,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => Kind::Other(other),
        };
        let has_data = matches!(kind, Kind::File | Kind::Other(_));
        let size = if has_data { pax.size.unwrap_or(size) } else { 0 };
        self.set_data(size)?;
        let mut entry = Entry {
            path,
            link: pax
                .link
                .or(long_link)
                .unwrap_or_else(|| until_nul(&header[157..257]).to_vec()),
            kind,
            mode: narrow(number(&header[100..108], "mode")?, "mode")? & 0o7777,
            uid: pax
                .uid
                .map_or_else(|| narrow(number(&header[108..116], "uid")?, "uid"), Ok)?,
            gid: pax
                .gid
                .map_or_else(|| narrow(number(&header[116..124], "gid")?, "gid"), Ok)?,
            mtime: pax
                .mtime
                .map_or_else(|| signed(&header[136..148]).map(|seconds| (seconds, 0)), Ok)?,
            size,
            device: match kind {
                Kind::CharDevice | Kind::BlockDevice => (
                    narrow(number(&header[329..337], "device")?, "device")?,
                    narrow(number(&header[337..345], "device")?, "device")?,
                ),
                _ => (0, 0),
            },
            xattrs: pax.xattrs,
            segments: None,
        };
        if entry.uid == u32::MAX || entry.gid == u32::MAX {
            return damaged("owner 4294967295 does not exist");
        }
        let sparse = if flag == b'S' {
            Some(self.old_sparse(header)?)
        } else if kind == Kind::File && pax.sparse_major == Some(1) {
            let map = self.leading_sparse_map()?;
            Some((map, pax.sparse_size))
        } else if kind == Kind::File && !pax.sparse_map.is_empty() {
            Some((pairs(&pax.sparse_map)?, pax.sparse_size))
        } else {
            None
        };
        if let Some((segments, size)) = sparse {
            entry.size = check_segments(&segments, size, self.data)?;
            entry.segments = Some(segments);
            if let Some(name) = pax.sparse_name {
                entry.path = name;
            }
        }
        Ok(entry)
    }

    /// One header block with a good checksum; `None` at the end.
    fn header(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        let mut block = [0; BLOCK];
        if !self.read_block(&mut block)? || block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let stored = number(&block[148..156], "checksum")?;
        let sum = |signed: bool| -> i64 {
            let value = |byte: u8| {
                if signed {
                    i64::from(byte.cast_signed())
                } else {
                    i64::from(byte)
                }
            };
            block
                .iter()
                .enumerate()
                .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { value(*byte) })
                .sum()
        };
        let stored = i64::try_from(stored).unwrap_or(-1);
        if stored != sum(false) && stored != sum(true) {
            return damaged("a header has a wrong checksum; this is no tar archive");
        }
        Ok(Some(block))
    }

    /// Fills the block; false where the stream ends before its first byte.
    fn read_block(&mut self, block: &mut [u8; BLOCK]) -> Result<bool, TarError> {
        let mut filled = 0;
        while filled < BLOCK {
            match self.inner.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return damaged("it ends inside a header"),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    fn set_data(&mut self, size: u64) -> Result<(), TarError> {
        if size > i64::MAX.cast_unsigned() {
            return damaged("an entry of more than 8 EiB");
        }
        self.data = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
        Ok(())
    }

    /// Reads data of the current entry; 0 only at its end.
    pub(super) fn read_data(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        let wanted = usize::try_from(self.data).map_or(buffer.len(), |left| left.min(buffer.len()));
        if wanted == 0 {
            return Ok(0);
        }
        loop {
            match self.inner.read(&mut buffer[..wanted]) {
                Ok(0) => return damaged("it ends inside a file"),
                Ok(read) => {
                    self.data -= read as u64;
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn read_all(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
        let mut filled = 0;
        while filled < bytes.len() {
            filled += self.read_data(&mut bytes[filled..])?;
        }
        Ok(bytes)
    }

    /// Goes to the end of the entry. Some builders write no end-of-archive mark and pad not even the last file; nothing is
    /// lost then, and all others read it.
    fn skip_data(&mut self) -> Result<(), TarError> {
        let (data, padding) = (self.data, self.padding);
        (self.data, self.padding) = (0, 0);
        if io::copy(&mut (&mut self.inner).take(data), &mut io::sink())? < data {
            return damaged("it ends inside a file");
        }
        io::copy(&mut (&mut self.inner).take(padding), &mut io::sink())?;
        Ok(())
    }

    /// GNU's `S` entries: four segments in the header, then blocks of 21.
    fn old_sparse(&mut self, header: &[u8; BLOCK]) -> Result<(Segments, Option<u64>), TarError> {
        let size = number(&header[483..495], "sparse size")?;
        let mut segments = Vec::new();
        sparse_table(&header[386..482], &mut segments)?;
        let mut more = header[482] != 0;
        while more {
            let mut block = [0; BLOCK];
            if segments.len() as u64 * 16 > self.header_limit || !self.read_block(&mut block)? {
                return damaged("a sparse map without end");
            }
            sparse_table(&block[..504], &mut segments)?;
            more = block[504] != 0;
        }
        Ok((segments, Some(size)))
    }

    /// PAX sparse 1.0: decimal lines before the data, padded to a block.
    fn leading_sparse_map(&mut self) -> Result<Segments, TarError> {
        let mut numbers: Vec<u64> = Vec::new();
        let mut digits = Vec::new();
        let mut wanted = None;
        let mut consumed = 0u64;
        while wanted.is_none_or(|wanted| numbers.len() as u64 <= wanted) {
            let mut block = [0; BLOCK];
            let mut filled = 0;
            while filled < BLOCK {
                match self.read_data(&mut block[filled..])? {
                    0 => return damaged("it ends inside a sparse map"),
                    read => filled += read,
                }
            }
            consumed += BLOCK as u64;
            if consumed > self.header_limit {
                return damaged("a sparse map without end");
            }
            for byte in block {
                if wanted.is_some_and(|wanted| numbers.len() as u64 > wanted) {
                    break;
                }
                if byte != b'\n' {
                    digits.push(byte);
                    continue;
                }
                let value = decimal(&digits)?;
                digits.clear();
                if numbers.is_empty() {
                    wanted = Some(value.saturating_mul(2));
                }
                numbers.push(value);
            }
        }
        pairs(&numbers[1..])
    }
}

impl Pax {
    /// Applies `length key=value\n` records; an empty value unsets.
    fn apply(&mut self, mut body: &[u8]) -> Result<(), TarError> {
        while !body.is_empty() {
            let Some(space) = body.iter().position(|byte| *byte == b' ') else {
                // Some writers pad the last block into the header's size.
                return if body.iter().all(|byte| *byte == 0) {
                    Ok(())
                } else {
                    damaged("a PAX record without length")
                };
            };
            let length = usize::try_from(decimal(&body[..space])?).unwrap_or(usize::MAX);
            let Some(record) = body
                .get(space + 1..length)
                .and_then(|record| record.strip_suffix(b"\n"))
            else {
                return damaged("a PAX record with a wrong length");
            };
            let Some(equals) = record.iter().position(|byte| *byte == b'=') else {
                return damaged("a PAX record without a value");
            };
            self.set(&record[..equals], &record[equals + 1..])?;
            body = &body[length..];
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), TarError> {
        let bytes = || (!value.is_empty()).then(|| value.to_vec());
        let number = || {
            if value.is_empty() {
                Ok(None)
            } else {
                decimal(value).map(Some)
            }
        };
        match key {
            b"path" => self.path = bytes(),
            b"linkpath" => self.link = bytes(),
            b"size" => self.size = number()?,
            b"uid" => self.uid = number()?.map(|value| narrow(value, "uid")).transpose()?,
            b"gid" => self.gid = number()?.map(|value| narrow(value, "gid")).transpose()?,
            b"mtime" => {
                self.mtime = if value.is_empty() {
                    None
                } else {
                    Some(timestamp(value)?)
                }
            }
            b"GNU.sparse.major" => self.sparse_major = number()?,
            b"GNU.sparse.name" => self.sparse_name = bytes(),
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse_size = number()?,
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => self.sparse_map.push(decimal(value)?),
            b"GNU.sparse.map" => {
                self.sparse_map = value
                    .split(|byte| *byte == b',')
                    .map(decimal)
                    .collect::<Result<_, _>>()?;
            }
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.retain(|(existing, _)| existing != name);
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Ok(())
    }
}

/// ustar splits long names into prefix and name; GNU uses the prefix field for other things.
fn header_name(header: &[u8; BLOCK]) -> Vec<u8> {
    let name = until_nul(&header[..100]);
    let prefix = until_nul(&header[345..500]);
    if &header[257..263] == b"ustar\0" && !prefix.is_empty() {
        return [prefix, b"/", name].concat();
    }
    name.to_vec()
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn sparse_table(table: &[u8], segments: &mut Vec<(u64, u64)>) -> Result<(), TarError> {
    for pair in table.chunks_exact(24) {
        if pair[0] == 0 {
            break;
        }
        segments.push((
            number(&pair[..12], "sparse offset")?,
            number(&pair[12..], "sparse length")?,
        ));
    }
    Ok(())
}

fn pairs(numbers: &[u64]) -> Result<Segments, TarError> {
    if !numbers.len().is_multiple_of(2) {
        return damaged("a sparse map with an odd number of values");
    }
    Ok(numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}

/// Segments must ascend within the file, and their lengths must be what the archive holds.
fn check_segments(segments: &[(u64, u64)], size: Option<u64>, data: u64) -> Result<u64, TarError> {
    let (mut end, mut sum) = (0u64, 0u64);
    for (offset, length) in segments {
        if *offset < end {
            return damaged("sparse segments overlap");
        }
        let Some(next) = offset.checked_add(*length) else {
            return damaged("a sparse segment out of range");
        };
        end = next;
        sum += length;
    }
    let size = size.unwrap_or(end);
    if end > size || sum != data {
        return damaged("the sparse map does not fit its file");
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rubbish_is_an_error_and_never_a_panic() {
        use proptest::prelude::*;
        proptest!(|(bytes in proptest::collection::vec(any::<u8>(), 0..4096), flag in any::<u8>(), fix in any::<bool>())| {
            let mut bytes = bytes;
            if fix && bytes.len() >= BLOCK {
                bytes[156] = flag;
                bytes[124..136].copy_from_slice(b"00000000777\0");
                let sum: u32 = bytes[..BLOCK].iter().enumerate()
                    .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) }).sum();
                bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
            let mut reader = Reader::new(bytes.as_slice(), 1 << 16);
            let mut buffer = [0; 100];
            while let Ok(Some(_)) = reader.next() {
                while matches!(reader.read_data(&mut buffer), Ok(1..)) {}
            }
        });
    }

    #[test]
    fn pax_rubbish_is_an_error_and_never_a_panic() {
        use proptest::prelude::*;
        proptest!(|(body in "([0-9]{1,3} (path|size|mtime|GNU.sparse.map|uid)=[0-9.,-]{0,9}\n){0,4}")| {
            let _ = Pax::default().apply(body.as_bytes());
        });
    }
}
