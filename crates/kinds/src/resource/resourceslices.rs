//! ResourceSlice: some of the devices a driver offers, on one node or in reach of several.

use super::devices;
use super::rules::{driver, each_once, pool};
use crate::checks::immutable;
use crate::{FieldLabel, Kind, age, differs, name};
use catamaran_api::table::Column;
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::resource::v1::{Device, ResourceSlice, ResourceSliceSpec};
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

pub(crate) struct ResourceSlices;

const MAX_DEVICES: usize = 128;
/// Devices with taints or counters are larger.
const MAX_LARGE_DEVICES: usize = 64;
const MAX_COUNTER_SETS: usize = 8;

impl Kind for ResourceSlices {
    type Object = ResourceSlice;
    const NAMESPACED: bool = false;
    const FIELD_SELECTORS: &'static [FieldLabel] = &[FieldLabel::new("spec.driver"), FieldLabel::new("spec.nodeName")];

    fn spec_changed(&self, new: &ResourceSlice, old: &ResourceSlice) -> Option<bool> {
        differs(&new.spec, &old.spec)
    }

    fn validate(&self, object: &ResourceSlice, errors: &mut Errors) {
        let path = Path::new("spec");
        let spec = &object.spec;
        driver(&spec.driver, &path.child("driver"), errors);
        let at = path.child("pool");
        pool(&spec.pool.name, &at.child("name"), errors);
        if spec.pool.resource_slice_count <= 0 {
            let count = spec.pool.resource_slice_count;
            errors.invalid(&at.child("resourceSliceCount"), count, "must be greater than zero");
        }
        if spec.pool.generation < 0 {
            let detail = "must be greater than or equal to zero";
            errors.invalid(&at.child("generation"), spec.pool.generation, detail);
        }
        validate_nodes(spec, &path, errors);
        if spec.shared_counters.is_some() && spec.devices.is_some() {
            errors.invalid(&path, "", "only one of `sharedCounters` or `devices` is allowed");
        }
        let list = spec.devices.as_deref().unwrap_or_default();
        let set = |list: &Option<Vec<_>>| list.as_ref().is_some_and(|list| !list.is_empty());
        let large = list.iter().any(|device| {
            set(&device.taints.as_ref().map(|taints| vec![(); taints.len()]))
                || set(&device
                    .consumes_counters
                    .as_ref()
                    .map(|counters| vec![(); counters.len()]))
        });
        let max = if large { MAX_LARGE_DEVICES } else { MAX_DEVICES };
        let key = |device: &Device| device.name.clone();
        let per_device = spec.per_device_node_selection == Some(true);
        let check = |device: &Device, at: &Path<'_>, errors: &mut Errors| {
            devices::validate(device, per_device, at, errors);
        };
        each_once(list, max, &path.child("devices"), errors, key, check);
        let sets = spec.shared_counters.as_deref().unwrap_or_default();
        let at = path.child("sharedCounters");
        each_once(
            sets,
            MAX_COUNTER_SETS,
            &at,
            errors,
            |set| set.name.clone(),
            devices::validate_counter_set,
        );
    }

    fn validate_update(&self, new: &ResourceSlice, old: &ResourceSlice, errors: &mut Errors) {
        let path = Path::new("spec");
        let (new, old) = (&new.spec, &old.spec);
        let at = path.child("pool");
        immutable(&new.pool.name, &old.pool.name, &at.child("name"), errors);
        immutable(&new.driver, &old.driver, &path.child("driver"), errors);
        immutable(&new.node_name, &old.node_name, &path.child("nodeName"), errors);
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            Column::NAME,
            Column::string("Node", "The node that has the devices."),
            Column::string("Driver", "The driver that offers them."),
            Column::string("Pool", "The pool they belong to."),
            Column::AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &ResourceSlice, now: Timestamp) -> Vec<Value> {
        let spec = &object.spec;
        vec![
            name(&object.metadata),
            spec.node_name.clone().unwrap_or_default().into(),
            spec.driver.clone().into(),
            spec.pool.name.clone().into(),
            age(&object.metadata, now),
        ]
    }
}

/// One way of saying where the devices are.
fn validate_nodes(spec: &ResourceSliceSpec, path: &Path<'_>, errors: &mut Errors) {
    let mut set = Vec::new();
    match spec.node_name.as_deref() {
        None => {}
        Some("") => {
            let detail = "must be either unset or set to a non-empty string";
            errors.invalid(&path.child("nodeName"), "", detail);
        }
        Some(node) => {
            set.push("`nodeName`");
            errors.invalid_each(&path.child("nodeName"), node, names::dns1123_subdomain(node));
        }
    }
    if let Some(selector) = &spec.node_selector {
        set.push("`nodeSelector`");
        let at = path.child("nodeSelector");
        devices::validate_node_selector(selector, &at, errors);
        if selector.node_selector_terms.len() != 1 {
            let shown = crate::checks::shown(&selector.node_selector_terms);
            errors.invalid(
                &at.child("nodeSelectorTerms"),
                shown,
                "must have exactly one node selector term",
            );
        }
    }
    let flags = [
        ("allNodes", "`allNodes`", spec.all_nodes),
        (
            "perDeviceNodeSelection",
            "`perDeviceNodeSelection`",
            spec.per_device_node_selection,
        ),
    ];
    for (field, shown, flag) in flags {
        match flag {
            Some(true) => set.push(shown),
            Some(false) => errors.invalid(&path.child(field), false, "must be either unset or set to true"),
            None => {}
        }
    }
    const EXACTLY_ONE: &str =
        "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    match set.len() {
        0 => errors.required(path, EXACTLY_ONE),
        1 => {}
        _ => {
            let shown = format!("{{{}}}", set.join(", "));
            errors.invalid(path, shown, format!("{EXACTLY_ONE}, but multiple fields are set"));
        }
    }
}
