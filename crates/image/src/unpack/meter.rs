//! Counts and hashes what comes out of a decompressor, and stops it when it is a bomb.

use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

use crate::Digest;
use crate::options::Limits;

pub(super) struct Meter<R> {
    inner: R,
    hash: Sha256,
    bytes: u64,
    allowed: u64,
}

impl<R: Read> Meter<R> {
    /// `compressed` is the size of the blob that `inner` decompresses.
    pub(super) fn new(inner: R, compressed: u64, limits: &Limits) -> Meter<R> {
        let by_ratio = compressed.saturating_mul(limits.ratio).max(limits.ratio_floor_bytes);
        Meter {
            inner,
            hash: Sha256::new(),
            bytes: 0,
            allowed: limits.layer_bytes.min(by_ratio),
        }
    }

    /// Bytes that may come out at all.
    pub(super) fn allowed(&self) -> u64 {
        self.allowed
    }

    /// Reads to the end; the digest is over everything, trailing padding included.
    pub(super) fn finish(mut self) -> io::Result<Digest> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(Digest::from_hash(&self.hash.finalize()))
    }
}

impl<R: Read> Read for Meter<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.update(&buffer[..read]);
        self.bytes += read as u64;
        if self.bytes > self.allowed {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                "the layer decompresses to too much",
            ));
        }
        Ok(read)
    }
}
