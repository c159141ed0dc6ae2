//! What ConfigMaps and Secrets have in common: bounded data under keys that are file names, and a lock.

use catamaran_api::{Errors, Path, names};

/// All values of one object together.
pub(super) const MAX_BYTES: usize = 1024 * 1024;

pub(super) fn validate_key(path: &Path<'_>, key: &str, errors: &mut Errors) {
    errors.invalid_each(&path.key(key), key, names::config_key(key));
}

/// Is the old object locked? Taking the lock away is an error.
pub(super) fn stays_immutable(new: Option<bool>, old: Option<bool>, errors: &mut Errors) -> bool {
    let locked = old == Some(true);
    if locked && new != Some(true) {
        errors.forbidden(&Path::new("immutable"), "field is immutable when `immutable` is set");
    }
    locked
}
