//! What classes of storage have in common: a driver, and parameters that only it understands.

use catamaran_api::{Errors, Path, names};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;
use std::collections::BTreeMap;

/// All keys and values together, in bytes.
const MAX_SIZE: usize = 256 * 1024;
const MAX_COUNT: usize = 512;

pub(super) fn validate_driver(driver: &str, path: &Path<'_>, errors: &mut Errors) {
    if driver.is_empty() {
        errors.required(path, "");
    } else {
        let lower = driver.to_lowercase();
        errors.invalid_each(path, &lower, names::qualified_name(&lower));
    }
}

pub(super) fn validate(
    parameters: Option<&BTreeMap<String, String>>,
    may_be_empty: bool,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    let count = parameters.map_or(0, BTreeMap::len);
    if count > MAX_COUNT {
        return errors.too_long(path, MAX_COUNT);
    }
    let mut size = 0;
    for (key, value) in parameters.into_iter().flatten() {
        if key.is_empty() {
            errors.invalid(path, "", "field can not be empty.");
        }
        size += key.len() + value.len();
    }
    if size > MAX_SIZE {
        errors.too_long(path, MAX_SIZE);
    }
    if !may_be_empty && count == 0 {
        errors.required(path, "must contain at least one key/value pair");
    }
}

pub(super) fn differ(new: Option<&BTreeMap<String, String>>, old: Option<&BTreeMap<String, String>>) -> bool {
    let some = |map: Option<&BTreeMap<String, String>>| map.cloned().unwrap_or_default();
    some(new) != some(old)
}

/// The name, and whether it is the one that claims without a class get.
pub(super) fn name_cell(metadata: &ObjectMeta, annotations: &[&str]) -> Value {
    let name = metadata.name.as_deref().unwrap_or_default();
    let says = |key: &&str| {
        let annotations = metadata.annotations.as_ref();
        annotations
            .and_then(|all| all.get(*key))
            .is_some_and(|value| value == "true")
    };
    if annotations.iter().any(says) {
        format!("{name} (default)").into()
    } else {
        name.into()
    }
}
