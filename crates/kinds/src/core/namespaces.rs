//! Namespace: the scope of names. Deletion is done by the namespace lifecycle (`bootstrap/namespaces.rs`), which empties
//! the namespace and then takes `kubernetes` out of `spec.finalizers` through the `finalize` subresource.

use crate::{FieldLabel, Kind, NameRule, STATUS, Subresource, age, name};
use catamaran_api::meta::{FINALIZER_FOREGROUND, FINALIZER_ORPHAN};
use catamaran_api::table::Column;
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::core::v1::{Namespace, NamespaceSpec, NamespaceStatus};
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

/// The finalizer in `spec.finalizers` that stands for "its content is still there".
pub(crate) const KUBERNETES_FINALIZER: &str = "kubernetes";

/// Finalizers that need no domain of their own.
const STANDARD_FINALIZERS: &[&str] = &[KUBERNETES_FINALIZER, FINALIZER_ORPHAN, FINALIZER_FOREGROUND];

pub(crate) struct Namespaces;

impl Kind for Namespaces {
    type Object = Namespace;
    const NAMESPACED: bool = false;
    const SHORT_NAMES: &'static [&'static str] = &["ns"];
    const NAME_RULE: NameRule = names::dns1123_label;
    const FIELD_SELECTORS: &'static [FieldLabel] = &[FieldLabel::new("status.phase")];
    const SUBRESOURCES: &'static [Subresource] = &[
        Subresource {
            name: "finalize",
            kind: "",
            api_version: "",
            verbs: &["update"],
        },
        STATUS,
    ];

    fn default(&self, object: &mut Namespace) {
        if let Some(name) = object.metadata.name.clone().filter(|name| !name.is_empty()) {
            object
                .metadata
                .labels
                .get_or_insert_default()
                .insert("kubernetes.io/metadata.name".to_owned(), name);
        }
    }

    fn prepare_create(&self, object: &mut Namespace) {
        object.status = Some(NamespaceStatus {
            phase: Some("Active".to_owned()),
            ..Default::default()
        });
        let finalizers = object
            .spec
            .get_or_insert_with(NamespaceSpec::default)
            .finalizers
            .get_or_insert_default();
        if !finalizers.iter().any(|finalizer| finalizer == KUBERNETES_FINALIZER) {
            finalizers.push(KUBERNETES_FINALIZER.to_owned());
        }
    }

    fn prepare_update(&self, new: &mut Namespace, old: &Namespace) {
        new.spec.clone_from(&old.spec);
        new.status.clone_from(&old.status);
    }

    fn prepare_status(&self, new: &mut Namespace, old: &Namespace) {
        new.spec.clone_from(&old.spec);
    }

    fn validate(&self, object: &Namespace, errors: &mut Errors) {
        let path = Path::new("spec");
        let path = path.child("finalizers");
        let finalizers = object.spec.as_ref().and_then(|spec| spec.finalizers.as_deref());
        for finalizer in finalizers.unwrap_or_default() {
            errors.invalid_each(&path, finalizer, names::qualified_name(finalizer));
            if !finalizer.contains('/') && !STANDARD_FINALIZERS.contains(&finalizer.as_str()) {
                let detail = "name is neither a standard finalizer name nor is it fully qualified";
                errors.invalid(&path, finalizer.as_str(), detail);
            }
        }
    }

    fn holds_deletion(&self, object: &Namespace) -> bool {
        let finalizers = object.spec.as_ref().and_then(|spec| spec.finalizers.as_ref());
        finalizers.is_some_and(|finalizers| !finalizers.is_empty())
    }

    fn mark_deleted(&self, object: &mut Namespace) {
        object.status.get_or_insert_default().phase = Some("Terminating".to_owned());
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            Column::NAME,
            Column::string("Status", "Active, or Terminating while it is emptied."),
            Column::AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &Namespace, now: Timestamp) -> Vec<Value> {
        let phase = object.status.as_ref().and_then(|status| status.phase.clone());
        vec![
            name(&object.metadata),
            phase.unwrap_or_default().into(),
            age(&object.metadata, now),
        ]
    }
}
