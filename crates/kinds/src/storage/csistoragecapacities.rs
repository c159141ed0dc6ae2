//! CSIStorageCapacity: how much a driver could still provide in one part of the cluster.

use crate::checks::{IMMUTABLE, deprecated_node_label, label_selector, shown};
use crate::{Kind, name};
use catamaran_api::quantity::Quantity;
use catamaran_api::table::Column;
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::storage::v1::CSIStorageCapacity;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

pub(crate) struct CsiStorageCapacities;

impl Kind for CsiStorageCapacities {
    type Object = CSIStorageCapacity;
    const NAMESPACED: bool = true;
    const UNCONDITIONAL_UPDATE: bool = false;

    fn validate(&self, object: &CSIStorageCapacity, errors: &mut Errors) {
        label_selector(object.node_topology.as_ref(), &Path::new("nodeTopology"), errors);
        let class = &object.storage_class_name;
        errors.invalid_each(&Path::new("storageClassName"), class, names::dns1123_subdomain(class));
        if let Some(capacity) = &object.capacity
            && Quantity::try_from(capacity).is_ok_and(Quantity::is_negative)
        {
            let detail = "must be greater than or equal to 0";
            errors.invalid(&Path::new("capacity"), capacity.0.as_str(), detail);
        }
    }

    fn validate_update(&self, new: &CSIStorageCapacity, old: &CSIStorageCapacity, errors: &mut Errors) {
        if new.node_topology != old.node_topology {
            errors.invalid(&Path::new("nodeTopology"), shown(&new.node_topology), IMMUTABLE);
        }
        if new.storage_class_name != old.storage_class_name {
            errors.invalid(
                &Path::new("storageClassName"),
                new.storage_class_name.as_str(),
                IMMUTABLE,
            );
        }
    }

    fn warnings(&self, new: &CSIStorageCapacity, _old: Option<&CSIStorageCapacity>) -> Vec<String> {
        let Some(selector) = &new.node_topology else {
            return Vec::new();
        };
        let path = Path::new("nodeTopology");
        let list = path.child("matchExpressions");
        let mut warnings = Vec::new();
        for (index, expression) in selector.match_expressions.iter().flatten().enumerate() {
            if let Some(text) = deprecated_node_label(&expression.key) {
                warnings.push(format!("{}: {text}", list.index(index).child("key")));
            }
        }
        for key in selector.match_labels.iter().flat_map(|labels| labels.keys()) {
            if let Some(text) = deprecated_node_label(key) {
                warnings.push(format!("{}: {text}", path.child("matchLabels").key(key)));
            }
        }
        warnings
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            Column::NAME,
            Column::string("StorageClassName", "The class the capacity is for."),
            Column::string("Capacity", "How much there is."),
        ];
        COLUMNS
    }

    fn row(&self, object: &CSIStorageCapacity, _now: Timestamp) -> Vec<Value> {
        let capacity = object.capacity.as_ref().map(|capacity| capacity.0.clone());
        vec![
            name(&object.metadata),
            object.storage_class_name.clone().into(),
            capacity.unwrap_or_else(|| "<unset>".to_owned()).into(),
        ]
    }
}
