//! StorageClass: how volumes of one quality are made.

use super::parameters;
use crate::checks::{deprecated_node_label, immutable};
use crate::{Kind, age};
use catamaran_api::table::Column;
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::core::v1::TopologySelectorTerm;
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

pub(crate) struct StorageClasses;

const DEFAULT_ANNOTATIONS: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];

impl Kind for StorageClasses {
    type Object = StorageClass;
    const NAMESPACED: bool = false;
    const SHORT_NAMES: &'static [&'static str] = &["sc"];

    fn default(&self, object: &mut StorageClass) {
        object.reclaim_policy.get_or_insert_with(|| "Delete".to_owned());
        object.volume_binding_mode.get_or_insert_with(|| "Immediate".to_owned());
    }

    fn validate(&self, object: &StorageClass, errors: &mut Errors) {
        parameters::validate_driver(&object.provisioner, &Path::new("provisioner"), errors);
        parameters::validate(object.parameters.as_ref(), true, &Path::new("parameters"), errors);
        let policy = object.reclaim_policy.as_deref().unwrap_or_default();
        if !matches!(policy, "" | "Delete" | "Retain") {
            errors.not_supported(&Path::new("reclaimPolicy"), policy, &["Delete", "Retain"]);
        }
        let mode = object.volume_binding_mode.as_deref().unwrap_or_default();
        if !matches!(mode, "Immediate" | "WaitForFirstConsumer") {
            let supported = ["Immediate", "WaitForFirstConsumer"];
            errors.not_supported(&Path::new("volumeBindingMode"), mode, &supported);
        }
        validate_topologies(object.allowed_topologies.as_deref().unwrap_or_default(), errors);
    }

    fn validate_update(&self, new: &StorageClass, old: &StorageClass, errors: &mut Errors) {
        if parameters::differ(new.parameters.as_ref(), old.parameters.as_ref()) {
            errors.forbidden(&Path::new("parameters"), "updates to parameters are forbidden.");
        }
        if new.provisioner != old.provisioner {
            errors.forbidden(&Path::new("provisioner"), "updates to provisioner are forbidden.");
        }
        if new.reclaim_policy != old.reclaim_policy {
            errors.forbidden(&Path::new("reclaimPolicy"), "updates to reclaimPolicy are forbidden.");
        }
        let path = Path::new("volumeBindingMode");
        immutable(&new.volume_binding_mode, &old.volume_binding_mode, &path, errors);
    }

    fn warnings(&self, new: &StorageClass, _old: Option<&StorageClass>) -> Vec<String> {
        let path = Path::new("allowedTopologies");
        let mut warnings = Vec::new();
        for (index, term) in new.allowed_topologies.iter().flatten().enumerate() {
            let at = path.index(index);
            let list = at.child("matchLabelExpressions");
            for (index, expression) in term.match_label_expressions.iter().flatten().enumerate() {
                if let Some(text) = deprecated_node_label(&expression.key) {
                    warnings.push(format!("{}: {text}", list.index(index).child("key")));
                }
            }
        }
        warnings
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            Column::NAME,
            Column::string("Provisioner", "Who makes the volumes."),
            Column::string("ReclaimPolicy", "What becomes of a volume whose claim is gone."),
            Column::string("VolumeBindingMode", "When a volume is made and bound."),
            Column::string("AllowVolumeExpansion", "Whether claims may grow."),
            Column::AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &StorageClass, now: Timestamp) -> Vec<Value> {
        let text = |value: &Option<String>, absent: &str| value.clone().unwrap_or_else(|| absent.to_owned());
        vec![
            parameters::name_cell(&object.metadata, &DEFAULT_ANNOTATIONS),
            object.provisioner.clone().into(),
            text(&object.reclaim_policy, "Delete").into(),
            text(&object.volume_binding_mode, "Immediate").into(),
            object.allow_volume_expansion.unwrap_or_default().into(),
            age(&object.metadata, now),
        ]
    }
}

fn validate_topologies(topologies: &[TopologySelectorTerm], errors: &mut Errors) {
    let path = Path::new("allowedTopologies");
    let mut seen: Vec<BTreeMap<&str, BTreeSet<&str>>> = Vec::new();
    for (index, term) in topologies.iter().enumerate() {
        let at = path.index(index);
        let expressions = validate_term(term, &at.child("matchLabelExpressions"), errors);
        if seen.contains(&expressions) {
            errors.duplicate(&at.child("matchLabelExpressions"), "");
        }
        seen.push(expressions);
    }
}

fn validate_term<'a>(
    term: &'a TopologySelectorTerm,
    path: &Path<'_>,
    errors: &mut Errors,
) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let mut expressions = BTreeMap::new();
    for (index, expression) in term.match_label_expressions.iter().flatten().enumerate() {
        let at = path.index(index);
        let at_values = at.child("values");
        if expression.values.is_empty() {
            errors.required(&at_values, "");
        }
        let mut values = BTreeSet::new();
        for (index, value) in expression.values.iter().enumerate() {
            if !values.insert(value.as_str()) {
                errors.duplicate(&at_values.index(index), value.as_str());
            }
        }
        let key = expression.key.as_str();
        errors.invalid_each(&at.child("key"), key, names::qualified_name(key));
        if expressions.insert(key, values).is_some() {
            errors.duplicate(&at.child("key"), key);
        }
    }
    expressions
}
