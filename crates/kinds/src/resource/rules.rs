//! Names and shapes that all kinds of this group share.

use crate::checks::{c_identifier, csi_driver_name};
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::resource::v1::{DeviceSelector, DeviceToleration, OpaqueDeviceConfiguration};
use serde_json::Value;
use std::collections::BTreeMap;

const MAX_SELECTORS: usize = 32;
/// Longest expression, in bytes.
const MAX_EXPRESSION: usize = 10 * 1024;
/// Most JSON that is passed through to a driver, in bytes.
pub(super) const MAX_OPAQUE: usize = 10 * 1024;
const MAX_ID: usize = 32;
const MAX_DOMAIN: usize = 63;
pub(super) const EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "None"];

/// Too many items are counted and not looked at.
pub(super) fn each<T>(
    items: &[T],
    max: usize,
    path: &Path<'_>,
    errors: &mut Errors,
    mut check: impl FnMut(&T, &Path<'_>, &mut Errors),
) -> bool {
    if items.len() > max {
        errors.too_many(path, items.len(), max);
        return false;
    }
    for (index, item) in items.iter().enumerate() {
        check(item, &path.index(index), errors);
    }
    true
}

/// [`each`] for items that have to differ in their keys.
pub(super) fn each_once<T, K: PartialEq + Into<Value>>(
    items: &[T],
    max: usize,
    path: &Path<'_>,
    errors: &mut Errors,
    key: impl Fn(&T) -> K,
    check: impl FnMut(&T, &Path<'_>, &mut Errors),
) {
    if !each(items, max, path, errors, check) {
        return;
    }
    for (index, item) in items.iter().enumerate() {
        let own = key(item);
        if items[..index].iter().any(|other| key(other) == own) {
            errors.duplicate(&path.index(index), own);
        }
    }
}

/// The keys and values of a map, in the order of the keys. Long keys are cut in the middle where they are shown.
pub(super) fn each_entry<V>(
    map: Option<&BTreeMap<String, V>>,
    max: Option<usize>,
    path: &Path<'_>,
    errors: &mut Errors,
    key_rule: fn(&str, &Path<'_>, &mut Errors),
    check: impl Fn(&V, &Path<'_>, &mut Errors),
) {
    let count = map.map_or(0, BTreeMap::len);
    if let Some(max) = max.filter(|max| count > *max) {
        return errors.too_many(path, count, max);
    }
    for (key, value) in map.into_iter().flatten() {
        let shown = cut(key, MAX_DOMAIN + 1 + MAX_ID);
        let at = path.key(&shown);
        key_rule(key, &at, errors);
        check(value, &at, errors);
    }
}

fn cut(text: &str, max: usize) -> String {
    if text.len() <= max || !text.is_ascii() {
        return text.to_owned();
    }
    let rest = max - 3;
    format!("{}...{}", &text[..rest.div_ceil(2)], &text[text.len() - rest / 2..])
}

pub(super) fn driver(name: &str, path: &Path<'_>, errors: &mut Errors) {
    csi_driver_name(name, path, errors);
}

pub(super) fn label(name: &str, path: &Path<'_>, errors: &mut Errors) {
    errors.invalid_each(path, name, names::dns1123_label(name));
}

pub(super) fn label_key(name: &str, path: &Path<'_>, errors: &mut Errors) {
    errors.invalid_each(path, name, names::qualified_name(name));
}

/// A subdomain, or several with slashes between.
pub(super) fn pool(name: &str, path: &Path<'_>, errors: &mut Errors) {
    if name.is_empty() {
        return errors.required(path, "");
    }
    if name.len() > names::SUBDOMAIN_MAX {
        errors.too_long(path, names::SUBDOMAIN_MAX);
    }
    for part in name.split('/') {
        errors.invalid_each(path, part, names::dns1123_subdomain(part));
    }
}

fn identifier(id: &str, path: &Path<'_>, errors: &mut Errors) {
    if id.len() > MAX_ID {
        errors.too_long(path, MAX_ID);
    }
    errors.invalid_each(path, id, c_identifier(id));
}

/// `id` or `domain/id`.
pub(super) fn qualified(name: &str, path: &Path<'_>, errors: &mut Errors) {
    let parts: Vec<&str> = name.split('/').collect();
    match parts[..] {
        [id] => identifier(id, path, errors),
        [domain, id] => {
            if domain.is_empty() {
                errors.invalid(path, "", "the domain must not be empty");
            } else {
                driver(domain, path, errors);
            }
            if id.is_empty() {
                errors.invalid(path, "", "the name must not be empty");
            } else {
                identifier(id, path, errors);
            }
        }
        _ => {}
    }
}

/// `domain/id`.
pub(super) fn fully_qualified(name: &str, path: &Path<'_>, errors: &mut Errors) {
    qualified(name, path, errors);
    if !name.contains('/') {
        let detail = "a fully qualified name must be a domain and a name separated by a slash";
        errors.invalid(path, name, detail);
    }
}

pub(super) fn device_class(name: &str, path: &Path<'_>, errors: &mut Errors) {
    if name.is_empty() {
        errors.required(path, "");
    } else {
        errors.invalid_each(path, name, names::dns1123_subdomain(name));
    }
}

pub(super) fn selectors(selectors: Option<&[DeviceSelector]>, path: &Path<'_>, errors: &mut Errors) {
    let check = |selector: &DeviceSelector, at: &Path<'_>, errors: &mut Errors| match &selector.cel {
        None => errors.required(&at.child("cel"), ""),
        Some(cel) if cel.expression.len() > MAX_EXPRESSION => {
            let at = at.child("cel");
            errors.too_long(&at.child("expression"), MAX_EXPRESSION);
        }
        Some(_) => {}
    };
    each(selectors.unwrap_or_default(), MAX_SELECTORS, path, errors, check);
}

pub(super) fn opaque(configuration: Option<&OpaqueDeviceConfiguration>, path: &Path<'_>, errors: &mut Errors) {
    let at = path.child("opaque");
    let Some(configuration) = configuration else {
        return errors.required(&at, "");
    };
    driver(&configuration.driver, &at.child("driver"), errors);
    raw(&configuration.parameters.0, &at.child("parameters"), errors);
}

/// A JSON object of bounded size.
pub(super) fn raw(value: &Value, path: &Path<'_>, errors: &mut Errors) {
    if value.is_null() {
        errors.required(path, "");
    } else if value.to_string().len() > MAX_OPAQUE {
        errors.too_long(path, MAX_OPAQUE);
    } else if !value.is_object() {
        errors.invalid(path, "<value omitted>", "must be a valid JSON object");
    }
}

pub(super) fn toleration(toleration: &DeviceToleration, path: &Path<'_>, errors: &mut Errors) {
    let set = |text: &Option<String>| text.clone().unwrap_or_default();
    let (key, value, effect) = (set(&toleration.key), set(&toleration.value), set(&toleration.effect));
    if !key.is_empty() {
        label_key(&key, &path.child("key"), errors);
    }
    match toleration.operator.as_deref().unwrap_or_default() {
        "Exists" if !value.is_empty() => {
            let detail = "must be empty for operator `Exists`";
            errors.invalid(&path.child("value"), value, detail);
        }
        "Exists" => {}
        "Equal" => errors.invalid_each(&path.child("value"), &value, names::label_value(&value)),
        "" => errors.required(&path.child("operator"), ""),
        other => errors.not_supported(&path.child("operator"), other, &["Equal", "Exists"]),
    }
    if !effect.is_empty() && !EFFECTS.contains(&effect.as_str()) {
        errors.not_supported(&path.child("effect"), effect, &EFFECTS);
    }
}

/// Conditions under which a device is, or will never be, ready for a pod.
pub(super) fn binding(
    conditions: Option<&[String]>,
    failures: Option<&[String]>,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    const MAX: usize = 4;
    let (conditions, failures) = (conditions.unwrap_or_default(), failures.unwrap_or_default());
    let (at, at_failures) = (path.child("bindingConditions"), path.child("bindingFailureConditions"));
    let check = |name: &String, at: &Path<'_>, errors: &mut Errors| label_key(name, at, errors);
    each(conditions, MAX, &at, errors, check);
    each(failures, MAX, &at_failures, errors, check);
    for (index, name) in conditions.iter().enumerate() {
        if conditions[..index].contains(name) {
            errors.duplicate(&at.index(index), name.as_str());
        }
    }
    for (index, name) in failures.iter().enumerate() {
        if failures[..index].contains(name) {
            errors.duplicate(&at_failures.index(index), name.as_str());
        }
        if conditions.contains(name) {
            let detail = "bindingFailureConditions must not overlap with bindingConditions";
            errors.invalid(&at_failures.index(index), name.as_str(), detail);
        }
    }
    if conditions.is_empty() && !failures.is_empty() {
        let detail = "bindingConditions are required to use bindingFailureConditions";
        errors.invalid(&at, Value::Null, detail);
    }
    if failures.is_empty() && !conditions.is_empty() {
        let detail = "bindingFailureConditions are required to use bindingConditions";
        errors.invalid(&at_failures, Value::Null, detail);
    }
}
