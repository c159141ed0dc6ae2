//! CSINode: the drivers of a node, as its agent reports them.

use crate::checks::{csi_driver_name, immutable, non_negative};
use crate::{Kind, age, name};
use catamaran_api::table::Column;
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::storage::v1::{CSINode, CSINodeDriver};
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

pub(crate) struct CsiNodes;

const MAX_NODE_ID: usize = 256;

impl Kind for CsiNodes {
    type Object = CSINode;
    const NAMESPACED: bool = false;
    const UNCONDITIONAL_UPDATE: bool = false;

    fn validate(&self, object: &CSINode, errors: &mut Errors) {
        let path = Path::new("spec");
        let path = path.child("drivers");
        let drivers = &object.spec.drivers;
        for (index, driver) in drivers.iter().enumerate() {
            let at = path.index(index);
            validate_driver(driver, &at, errors);
            if drivers[..index].iter().any(|other| other.name == driver.name) {
                errors.duplicate(&at.child("name"), driver.name.as_str());
            }
            validate_keys(driver, &at, errors);
        }
    }

    /// Of a driver that stays, only how much it can attach may change.
    fn validate_update(&self, new: &CSINode, old: &CSINode, errors: &mut Errors) {
        let path = Path::new("spec");
        for before in &old.spec.drivers {
            let same = new.spec.drivers.iter().filter(|driver| driver.name == before.name);
            for after in same {
                let without = |driver: &CSINodeDriver| CSINodeDriver {
                    allocatable: None,
                    ..driver.clone()
                };
                immutable(&without(after), &without(before), &path.child("drivers"), errors);
            }
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            Column::NAME,
            Column::integer("Drivers", "How many drivers the node has."),
            Column::AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &CSINode, now: Timestamp) -> Vec<Value> {
        vec![
            name(&object.metadata),
            object.spec.drivers.len().into(),
            age(&object.metadata, now),
        ]
    }
}

fn validate_driver(driver: &CSINodeDriver, path: &Path<'_>, errors: &mut Errors) {
    csi_driver_name(&driver.name, &path.child("name"), errors);
    let at = path.child("nodeID");
    if driver.node_id.is_empty() {
        errors.required(&at, "");
    }
    if driver.node_id.len() > MAX_NODE_ID {
        let detail = format!("must be {MAX_NODE_ID} characters or less");
        errors.invalid(&at, driver.node_id.as_str(), detail);
    }
    if let Some(count) = driver.allocatable.as_ref().and_then(|resources| resources.count) {
        let at = path.child("allocatable");
        non_negative(count.into(), &at.child("count"), errors);
    }
}

fn validate_keys(driver: &CSINodeDriver, path: &Path<'_>, errors: &mut Errors) {
    let keys = driver.topology_keys.as_deref().unwrap_or_default();
    for (index, key) in keys.iter().enumerate() {
        if key.is_empty() {
            errors.required(path, "");
        }
        if keys[..index].contains(key) {
            errors.duplicate(path, key.as_str());
        }
        errors.invalid_each(path, key, names::qualified_name(key));
    }
}
