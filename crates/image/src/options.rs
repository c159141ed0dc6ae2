//! How a store behaves: hosts, limits, timeouts. Every bound has a name and a default here.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::platform::Platform;

/// Configuration of a [`crate::Store`].
#[derive(Debug, Clone)]
pub struct Options {
    /// Registry hosts (`host` or `host:port`) that speak plain HTTP; loopback hosts always may.
    pub plain_http_hosts: Vec<String>,
    /// Registry hosts whose certificate is not verified.
    pub insecure_tls_hosts: Vec<String>,
    /// PEM certificates to trust instead of the platform's.
    pub ca_file: Option<PathBuf>,
    /// Registry → hosts that are asked first, in order; the registry itself is the last resort.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// What this machine runs.
    pub platform: Platform,
    /// Layers of one image that are downloaded at the same time.
    pub parallel_downloads: usize,
    /// TCP and TLS connection set-up.
    pub connect_timeout: Duration,
    /// Longest silence in the middle of an answer.
    pub read_timeout: Duration,
    /// Tries of one request or blob before its error counts.
    pub attempts: u32,
    /// Wait before the second try; doubles each time, up to 16 times this.
    pub retry_delay: Duration,
    pub limits: Limits,
}

/// Upper bounds on what an image may make us store.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// One manifest, index or config.
    pub document_bytes: u64,
    /// All blobs of one image, as transferred.
    pub image_bytes: u64,
    /// Layers of one image.
    pub layers: usize,
    /// One layer after decompression, holes of sparse files included.
    pub layer_bytes: u64,
    /// Entries of one layer.
    pub layer_entries: u64,
    /// Decompressed size over compressed size, looked at once a layer has grown past `ratio_floor_bytes`.
    pub ratio: u64,
    pub ratio_floor_bytes: u64,
    /// Extended headers (long names, xattrs) of one entry.
    pub header_bytes: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            document_bytes: 8 << 20,
            image_bytes: 64 << 30,
            layers: 500,
            layer_bytes: 64 << 30,
            layer_entries: 4_000_000,
            ratio: 400,
            ratio_floor_bytes: 1 << 30,
            header_bytes: 1 << 20,
        }
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            plain_http_hosts: Vec::new(),
            insecure_tls_hosts: Vec::new(),
            ca_file: None,
            mirrors: BTreeMap::new(),
            platform: Platform::host(),
            parallel_downloads: 3,
            connect_timeout: Duration::from_secs(15),
            read_timeout: Duration::from_secs(60),
            attempts: 5,
            retry_delay: Duration::from_millis(250),
            limits: Limits::default(),
        }
    }
}
