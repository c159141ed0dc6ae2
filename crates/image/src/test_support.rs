//! What the unit tests of this crate share.

use tempfile::TempDir;

use crate::{Options, Store};

/// A fresh store in a directory that goes away with it.
pub(crate) fn store() -> (TempDir, Store) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = Store::open(dir.path().join("images"), Options::default()).expect("a fresh store");
    (dir, store)
}

/// Whether `what`, which takes root, can be tested. In CI it must be.
pub(crate) fn require_root(what: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    assert!(
        root || std::env::var_os("CI").is_none_or(|ci| ci != "true"),
        "{what} needs root, and CI must not skip it"
    );
    if !root {
        eprintln!("skipped: {what} needs root");
    }
    root
}
