//! Blocks of headers: names and values, in one zlib stream that lasts as long as the connection.
//!
//! What is read may be compressed in any way; what is written is not compressed at all, but framed as zlib: the few headers of
//! these protocols are not worth a compressor per connection, and what is not compressed gives nothing away by its length.

use crate::dictionary::{CHECKSUM, DICTIONARY};
use flate2::{Decompress, FlushDecompress, Status};

/// The longest block that is taken, uncompressed, in bytes. Kubernetes' have a few hundred. What is kept of a block is no longer,
/// and neither is what it takes to write it again.
pub const LONGEST_BLOCK: usize = 16 << 10;
/// Names in a block. Kubernetes' have three.
pub const MAX_NAMES: usize = 64;
/// What a written block has more than what it says: zlib's beginning, and the heads of two stored blocks.
pub(crate) const OVERHEAD: usize = 12;
/// Separates the values of one name.
const SEPARATOR: char = '\0';
/// zlib without a preset dictionary, for deflate's blocks that store.
const ZLIB: [u8; 2] = [0x78, 0x01];
/// Stored blocks have 16 bits for their length.
const LONGEST_STORED: usize = 0xffff;
/// The bit of zlib's second byte that says that the checksum of a dictionary follows.
const WITH_DICTIONARY: u8 = 0x20;
const DEFLATE: u8 = 8;

/// Why a block cannot be read. The connection is of no use afterwards: the state of the compression is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("the headers are not a zlib stream")]
    NotZlib,
    #[error("the headers are compressed with an unknown dictionary")]
    Dictionary,
    #[error("the headers cannot be decompressed")]
    Corrupt,
    #[error("the headers are longer than {LONGEST_BLOCK} bytes")]
    TooLong,
    #[error("there are more than {MAX_NAMES} headers")]
    TooMany,
    #[error("the headers end before they are complete")]
    Short,
    #[error("a header is not text")]
    NotText,
}

/// Names in lower case with their values, each name once: values of one name stand together, as on the wire. Nothing here is
/// larger than what was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    pub fn new<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut headers = Self::default();
        for (name, value) in pairs {
            headers.add(name, value);
        }
        headers
    }

    /// Adds a value, or several with separators.
    fn add(&mut self, name: &str, value: &str) {
        let name = name.to_ascii_lowercase();
        match self.0.iter_mut().find(|(own, _)| *own == name) {
            Some((_, values)) => {
                values.push(SEPARATOR);
                values.push_str(value);
            }
            None => self.0.push((name, value.to_owned())),
        }
    }

    /// The first value of a name, in whatever case.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut found = self.0.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name));
        found.next().and_then(|(_, values)| values.split(SEPARATOR).next())
    }

    /// Every value with its name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let named = self.0.iter();
        named.flat_map(|(name, values)| values.split(SEPARATOR).map(|value| (name.as_str(), value)))
    }

    fn parse(mut block: &[u8]) -> Result<Self, Error> {
        let count = number(&mut block)? as usize;
        if count > MAX_NAMES {
            return Err(Error::TooMany);
        }
        let mut headers = Self::default();
        for _ in 0..count {
            let name = text(&mut block)?;
            headers.add(name, text(&mut block)?);
        }
        Ok(headers)
    }

    fn print(&self) -> Vec<u8> {
        let mut block = Vec::new();
        put(&mut block, self.0.len());
        for (name, values) in &self.0 {
            for text in [name, values] {
                put(&mut block, text.len());
                block.extend_from_slice(text.as_bytes());
            }
        }
        block
    }
}

fn put(block: &mut Vec<u8>, number: usize) {
    block.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes());
}

fn number(block: &mut &[u8]) -> Result<u32, Error> {
    let (bytes, rest) = block.split_first_chunk::<4>().ok_or(Error::Short)?;
    *block = rest;
    Ok(u32::from_be_bytes(*bytes))
}

fn text<'a>(block: &mut &'a [u8]) -> Result<&'a str, Error> {
    let length = number(block)? as usize;
    let (text, rest) = block.split_at_checked(length).ok_or(Error::Short)?;
    *block = rest;
    std::str::from_utf8(text).map_err(|_| Error::NotText)
}

/// Reads the blocks of one direction of a connection.
#[derive(Debug, Default)]
pub struct Reader {
    inflate: Option<Decompress>,
}

impl Reader {
    /// The headers of the next block.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn read(&mut self, mut compressed: &[u8]) -> Result<Headers, Error> {
        let inflate = match &mut self.inflate {
            Some(inflate) => inflate,
            none => none.insert(begin(&mut compressed)?),
        };
        Headers::parse(&decompress(inflate, compressed, LONGEST_BLOCK)?)
    }
}

/// Takes zlib's beginning off the first block. The rest is inflated without zlib's help: no Rust inflater takes a dictionary,
/// but all of them take what a dictionary stands for, a stored block that came before.
fn begin(compressed: &mut &[u8]) -> Result<Decompress, Error> {
    let ([method, flags], rest) = compressed.split_first_chunk::<2>().ok_or(Error::NotZlib)?;
    *compressed = rest;
    if method & 0xf != DEFLATE || (u16::from(*method) << 8 | u16::from(*flags)) % 31 != 0 {
        return Err(Error::NotZlib);
    }
    let mut inflate = Decompress::new(false);
    if flags & WITH_DICTIONARY != 0 {
        if number(compressed).map_err(|_| Error::NotZlib)? != CHECKSUM {
            return Err(Error::Dictionary);
        }
        let mut stored = Vec::with_capacity(DICTIONARY.len() + 5);
        store(&mut stored, &DICTIONARY);
        decompress(&mut inflate, &stored, DICTIONARY.len())?;
    }
    Ok(inflate)
}

/// Inflates all of `compressed` into at most `longest` bytes.
fn decompress(inflate: &mut Decompress, mut compressed: &[u8], longest: usize) -> Result<Vec<u8>, Error> {
    let mut block = Vec::with_capacity(1024.max(compressed.len() * 2).min(longest + 1));
    loop {
        let before = inflate.total_in();
        let status = inflate.decompress_vec(compressed, &mut block, FlushDecompress::Sync);
        let status = status.map_err(|_| Error::Corrupt)?;
        compressed = &compressed[(inflate.total_in() - before) as usize..];
        if block.len() > longest {
            return Err(Error::TooLong);
        }
        // Room left in the output means that everything there was has been given out.
        let done = compressed.is_empty() && block.len() < block.capacity();
        match status {
            Status::StreamEnd => return Err(Error::Corrupt),
            _ if done => return Ok(block),
            Status::BufError if block.len() < block.capacity() => return Err(Error::Corrupt),
            Status::Ok | Status::BufError => block.reserve(block.len().min(longest) + 1),
        }
    }
}

/// Writes the blocks of one direction of a connection.
#[derive(Debug, Default)]
pub struct Writer {
    begun: bool,
}

impl Writer {
    /// The block that says `headers`.
    pub fn write(&mut self, headers: &Headers) -> Vec<u8> {
        let block = headers.print();
        let mut stored = Vec::with_capacity(block.len() + OVERHEAD);
        if !std::mem::replace(&mut self.begun, true) {
            stored.extend_from_slice(&ZLIB);
        }
        for piece in block.chunks(LONGEST_STORED) {
            store(&mut stored, piece);
        }
        // An empty block is how readers learn that they have everything.
        store(&mut stored, &[]);
        stored
    }
}

/// One of deflate's blocks that are not compressed, and not the last.
fn store(stored: &mut Vec<u8>, piece: &[u8]) {
    let length = u16::try_from(piece.len()).unwrap_or(u16::MAX);
    stored.push(0);
    stored.extend_from_slice(&length.to_le_bytes());
    stored.extend_from_slice(&(!length).to_le_bytes());
    stored.extend_from_slice(piece);
}
