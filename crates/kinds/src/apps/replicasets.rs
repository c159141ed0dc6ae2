//! ReplicaSet: so many pods of one template.

use crate::core::pods::template;
use crate::{FieldLabel, Kind, SCALE, STATUS, Subresource, age, cells, differs, name, rules};
use catamaran_api::table::Column;
use catamaran_api::{Errors, Path};
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetSpec, ReplicaSetStatus};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

pub(crate) struct ReplicaSets;

impl Kind for ReplicaSets {
    type Object = ReplicaSet;
    const NAMESPACED: bool = true;
    const SHORT_NAMES: &'static [&'static str] = &["rs"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const FIELD_SELECTORS: &'static [FieldLabel] = &[FieldLabel::new("status.replicas").or("0")];
    const SUBRESOURCES: &'static [Subresource] = &[SCALE, STATUS];

    fn default(&self, object: &mut ReplicaSet) {
        let spec = object.spec.get_or_insert_default();
        template::default(spec.template.get_or_insert_default());
        spec.replicas.get_or_insert(1);
    }

    fn prepare_create(&self, object: &mut ReplicaSet) {
        object.status = Some(ReplicaSetStatus::default());
    }

    fn prepare_update(&self, new: &mut ReplicaSet, old: &ReplicaSet) {
        new.status.clone_from(&old.status);
    }

    fn prepare_status(&self, new: &mut ReplicaSet, old: &ReplicaSet) {
        new.spec.clone_from(&old.spec);
    }

    fn spec_changed(&self, new: &ReplicaSet, old: &ReplicaSet) -> Option<bool> {
        differs(&new.spec, &old.spec)
    }

    fn validate(&self, object: &ReplicaSet, errors: &mut Errors) {
        let (no_spec, no_template) = (ReplicaSetSpec::default(), PodTemplateSpec::default());
        let spec = object.spec.as_ref().unwrap_or(&no_spec);
        let template = spec.template.as_ref().unwrap_or(&no_template);
        let path = Path::new("spec");
        rules::nonnegative_fields(
            [
                ("replicas", spec.replicas.map(i64::from)),
                ("minReadySeconds", spec.min_ready_seconds.map(i64::from)),
            ],
            &path,
            errors,
        );
        template::validate_selector(&spec.selector, template, &path, errors);
        template::validate_running(template, "ReplicaSet", &path.child("template"), errors);
    }

    fn validate_update(&self, new: &ReplicaSet, old: &ReplicaSet, errors: &mut Errors) {
        if let (Some(new), Some(old)) = (&new.spec, &old.spec) {
            let path = Path::new("spec");
            rules::immutable(&new.selector, &old.selector, &path.child("selector"), errors);
        }
    }

    fn validate_status(&self, new: &ReplicaSet, _old: &ReplicaSet, errors: &mut Errors) {
        let none = ReplicaSetStatus::default();
        let status = new.status.as_ref().unwrap_or(&none);
        let counts = Counts {
            replicas: status.replicas,
            fully_labeled: status.fully_labeled_replicas,
            ready: status.ready_replicas,
            available: status.available_replicas,
            observed_generation: status.observed_generation,
        };
        counts.validate(errors);
    }

    fn warnings(&self, new: &ReplicaSet, old: Option<&ReplicaSet>) -> Vec<String> {
        let mut warnings = Vec::new();
        match old {
            None => warnings.extend(template::warn_about_name(new.metadata.name.as_ref())),
            Some(old) if new.spec == old.spec => return warnings,
            Some(_) => {}
        }
        if let Some(template) = new.spec.as_ref().and_then(|spec| spec.template.as_ref()) {
            let path = Path::new("spec");
            warnings.extend(template::warn(template, &path.child("template")));
        }
        warnings
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &ReplicaSet, now: Timestamp) -> Vec<Value> {
        let (no_spec, no_status) = (ReplicaSetSpec::default(), ReplicaSetStatus::default());
        let spec = object.spec.as_ref().unwrap_or(&no_spec);
        let status = object.status.as_ref().unwrap_or(&no_status);
        let [names, images] = cells::names_and_images(cells::containers(spec.template.as_ref()));
        vec![
            name(&object.metadata),
            spec.replicas.unwrap_or(0).into(),
            status.replicas.into(),
            status.ready_replicas.unwrap_or(0).into(),
            age(&object.metadata, now),
            names.into(),
            images.into(),
            cells::selector(&spec.selector).into(),
        ]
    }
}

/// The table of what keeps a number of pods, replication controllers too.
pub(crate) const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::integer("Desired", "How many pods there should be."),
    Column::integer("Current", "How many pods there are."),
    Column::integer("Ready", "How many of them are ready."),
    Column::AGE,
    cells::CONTAINERS,
    cells::IMAGES,
    cells::SELECTOR,
];

/// What the status of such a kind counts.
pub(crate) struct Counts {
    pub(crate) replicas: i32,
    pub(crate) fully_labeled: Option<i32>,
    pub(crate) ready: Option<i32>,
    pub(crate) available: Option<i32>,
    pub(crate) observed_generation: Option<i64>,
}

impl Counts {
    pub(crate) fn validate(&self, errors: &mut Errors) {
        let path = Path::new("status");
        rules::nonnegative_fields(
            [
                ("replicas", Some(i64::from(self.replicas))),
                ("fullyLabeledReplicas", self.fully_labeled.map(i64::from)),
                ("readyReplicas", self.ready.map(i64::from)),
                ("availableReplicas", self.available.map(i64::from)),
                ("observedGeneration", self.observed_generation),
            ],
            &path,
            errors,
        );
        let parts = [
            ("fullyLabeledReplicas", self.fully_labeled),
            ("readyReplicas", self.ready),
            ("availableReplicas", self.available),
        ];
        for (field, count) in parts {
            if let Some(count) = count.filter(|count| *count > self.replicas) {
                errors.invalid(&path.child(field), count, "cannot be greater than status.replicas");
            }
        }
        let available = self.available.unwrap_or(0);
        if available > self.ready.unwrap_or(0) {
            let detail = "cannot be greater than readyReplicas";
            errors.invalid(&path.child("availableReplicas"), available, detail);
        }
    }
}
