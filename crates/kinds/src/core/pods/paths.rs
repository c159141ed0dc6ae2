//! Paths of files in volumes and below mount points.

use catamaran_api::{Errors, Path};

/// A path below a directory.
pub(crate) fn descending(file: &str, path: &Path<'_>, errors: &mut Errors) {
    if file.starts_with('/') {
        errors.invalid(path, file, "must be a relative path");
    }
    no_parents(file, path, errors);
}

/// A path that does not lead out again.
pub(crate) fn no_parents(file: &str, path: &Path<'_>, errors: &mut Errors) {
    if file.split('/').any(|part| part == "..") {
        errors.invalid(path, file, "must not contain '..'");
    }
}
