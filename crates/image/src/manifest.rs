//! Manifests and indexes, read leniently.
//!
//! Only the fields we act on are modelled: the bytes themselves are kept and passed on as they are (their digest is their
//! name), so nothing is lost by not knowing a field, and registries full of small deviations stay readable.

use serde::{Deserialize, Deserializer};

/// `null` means the same as absent in documents written by Go programs.
pub(crate) fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
