//! One device: its attributes, capacities, taints and counters.

use super::capacity;
use super::rules::{EFFECTS, binding, each, each_entry, each_once, label, label_key, qualified};
use crate::checks::shown;
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement};
use k8s_openapi::api::resource::v1::{
    Counter, CounterSet, Device, DeviceAttribute, DeviceCounterConsumption, DeviceTaint,
};
use serde_json::Value;

/// Attributes and capacities together.
const MAX_PROPERTIES: usize = 32;
const MAX_TAINTS: usize = 16;
const MAX_CONSUMPTIONS: usize = 2;
const MAX_COUNTERS: usize = 32;
/// Longest text and version, in bytes.
const MAX_VALUE: usize = 64;

pub(super) fn validate(device: &Device, per_device_nodes: bool, path: &Path<'_>, errors: &mut Errors) {
    label(&device.name, &path.child("name"), errors);
    let count = |len: Option<usize>| len.unwrap_or_default();
    let properties = count(device.attributes.as_ref().map(std::collections::BTreeMap::len))
        + count(device.capacity.as_ref().map(std::collections::BTreeMap::len));
    if properties > MAX_PROPERTIES {
        let detail = format!("the total number of attributes and capacities must not exceed {MAX_PROPERTIES}");
        errors.invalid(path, properties, detail);
    }
    let attributes = device.attributes.as_ref();
    each_entry(
        attributes,
        None,
        &path.child("attributes"),
        errors,
        qualified,
        validate_attribute,
    );
    let shared = device.allow_multiple_allocations == Some(true);
    let check = |capacity: &_, at: &Path<'_>, errors: &mut Errors| capacity::validate(capacity, shared, at, errors);
    each_entry(
        device.capacity.as_ref(),
        None,
        &path.child("capacity"),
        errors,
        qualified,
        check,
    );
    let taints = device.taints.as_deref().unwrap_or_default();
    each(taints, MAX_TAINTS, &path.child("taints"), errors, validate_taint);
    let consumptions = device.consumes_counters.as_deref().unwrap_or_default();
    let key = |consumption: &DeviceCounterConsumption| consumption.counter_set.clone();
    let at = path.child("consumesCounters");
    each_once(consumptions, MAX_CONSUMPTIONS, &at, errors, key, validate_consumption);
    validate_nodes(device, per_device_nodes, path, errors);
    let (conditions, failures) = (&device.binding_conditions, &device.binding_failure_conditions);
    binding(conditions.as_deref(), failures.as_deref(), path, errors);
}

fn validate_attribute(attribute: &DeviceAttribute, path: &Path<'_>, errors: &mut Errors) {
    let too_long = |text: &str| text.len() > MAX_VALUE;
    if attribute.string.as_deref().is_some_and(too_long) {
        errors.too_long(&path.child("string"), MAX_VALUE);
    }
    if let Some(version) = &attribute.version {
        let at = path.child("version");
        if !is_semantic_version(version) {
            let detail = "must be a string compatible with semver.org spec 2.0.0";
            errors.invalid(&at, version.as_str(), detail);
        }
        if too_long(version) {
            errors.too_long(&at, MAX_VALUE);
        }
    }
    let set = [
        attribute.bool.is_some(),
        attribute.int.is_some(),
        attribute.string.is_some(),
        attribute.version.is_some(),
    ];
    let value = match set.iter().filter(|set| **set).count() {
        0 => Value::from(""),
        1 => return,
        _ => shown(attribute),
    };
    errors.invalid(path, value, "exactly one value must be specified");
}

/// <https://semver.org/spec/v2.0.0.html>
fn is_semantic_version(text: &str) -> bool {
    let (text, build) = text
        .split_once('+')
        .map_or((text, None), |(text, build)| (text, Some(build)));
    let (core, pre) = text
        .split_once('-')
        .map_or((text, None), |(core, pre)| (core, Some(pre)));
    let numeric = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let no_leading_zero = |part: &str| part == "0" || !part.starts_with('0');
    let word = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let numbers: Vec<&str> = core.split('.').collect();
    numbers.len() == 3
        && numbers.iter().all(|part| numeric(part) && no_leading_zero(part))
        && pre.is_none_or(|pre| {
            pre.split('.')
                .all(|part| word(part) && (!numeric(part) || no_leading_zero(part)))
        })
        && build.is_none_or(|build| build.split('.').all(word))
}

fn validate_taint(taint: &DeviceTaint, path: &Path<'_>, errors: &mut Errors) {
    label_key(&taint.key, &path.child("key"), errors);
    let value = taint.value.as_deref().unwrap_or_default();
    errors.invalid_each(&path.child("value"), value, names::label_value(value));
    if taint.effect.is_empty() {
        errors.required(&path.child("effect"), "");
    } else if !EFFECTS.contains(&taint.effect.as_str()) {
        errors.not_supported(&path.child("effect"), taint.effect.as_str(), &EFFECTS);
    }
}

fn counter_name(name: &str, path: &Path<'_>, errors: &mut Errors) {
    if name.is_empty() {
        errors.required(path, "");
    } else {
        label(name, path, errors);
    }
}

fn validate_counters(counters: &std::collections::BTreeMap<String, Counter>, path: &Path<'_>, errors: &mut Errors) {
    if counters.is_empty() {
        return errors.required(path, "");
    }
    each_entry(Some(counters), Some(MAX_COUNTERS), path, errors, label, |_, _, _| {});
}

fn validate_consumption(consumption: &DeviceCounterConsumption, path: &Path<'_>, errors: &mut Errors) {
    counter_name(&consumption.counter_set, &path.child("counterSet"), errors);
    validate_counters(&consumption.counters, &path.child("counters"), errors);
}

pub(super) fn validate_counter_set(set: &CounterSet, path: &Path<'_>, errors: &mut Errors) {
    counter_name(&set.name, &path.child("name"), errors);
    validate_counters(&set.counters, &path.child("counters"), errors);
}

/// Where the device is, if each says so for itself.
fn validate_nodes(device: &Device, per_device: bool, path: &Path<'_>, errors: &mut Errors) {
    const EXACTLY_ONE: &str = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when \
                               `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
    if !per_device {
        if device.node_name.is_some() || device.node_selector.is_some() || device.all_nodes.is_some() {
            let detail = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to \
                          true in the ResourceSlice spec";
            errors.invalid(path, Value::Null, detail);
        }
        return;
    }
    let mut set = Vec::new();
    match device.node_name.as_deref() {
        None => {}
        Some("") => errors.invalid(&path.child("nodeName"), "", "must not be empty"),
        Some(node) => {
            set.push("`nodeName`");
            errors.invalid_each(&path.child("nodeName"), node, names::dns1123_subdomain(node));
        }
    }
    if let Some(selector) = &device.node_selector {
        set.push("`nodeSelector`");
        validate_node_selector(selector, &path.child("nodeSelector"), errors);
    }
    match device.all_nodes {
        Some(true) => set.push("`allNodes`"),
        Some(false) => errors.invalid(&path.child("allNodes"), false, "must be either unset or set to true"),
        None => {}
    }
    match set.len() {
        0 => errors.required(path, EXACTLY_ONE),
        1 => {}
        _ => errors.invalid(path, format!("{{{}}}", set.join(", ")), EXACTLY_ONE),
    }
}

pub(super) fn validate_node_selector(selector: &NodeSelector, path: &Path<'_>, errors: &mut Errors) {
    let list = path.child("nodeSelectorTerms");
    if selector.node_selector_terms.is_empty() {
        return errors.required(&list, "must have at least one node selector term");
    }
    for (index, term) in selector.node_selector_terms.iter().enumerate() {
        let at = list.index(index);
        let expressions = at.child("matchExpressions");
        for (index, requirement) in term.match_expressions.iter().flatten().enumerate() {
            let at = expressions.index(index);
            validate_requirement(requirement, &at, errors);
            let key = &requirement.key;
            errors.invalid_each(&at.child("key"), key, names::qualified_name(key));
        }
        let fields = at.child("matchFields");
        for (index, requirement) in term.match_fields.iter().flatten().enumerate() {
            let at = fields.index(index);
            validate_requirement(requirement, &at, errors);
            if requirement.key != "metadata.name" {
                let detail = "not a valid field selector key";
                errors.invalid(&at.child("key"), requirement.key.as_str(), detail);
            }
        }
    }
}

fn validate_requirement(requirement: &NodeSelectorRequirement, path: &Path<'_>, errors: &mut Errors) {
    let values = requirement.values.as_deref().unwrap_or_default();
    let at = path.child("values");
    match requirement.operator.as_str() {
        "In" | "NotIn" if values.is_empty() => {
            errors.required(&at, "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.forbidden(&at, detail);
        }
        "Gt" | "Lt" if values.len() != 1 => {
            let detail = "must be specified single value when `operator` is 'Lt' or 'Gt'";
            errors.required(&at, detail);
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
    }
}
