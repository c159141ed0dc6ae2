//! ReplicationController: what replica sets were before they could select by expressions.

use crate::apps::replicasets::{COLUMNS, Counts};
use crate::core::pods::template;
use crate::{FieldLabel, Kind, SCALE, STATUS, Subresource, age, cells, differs, name, rules};
use catamaran_api::table::Column;
use catamaran_api::{Errors, Path};
use k8s_openapi::api::core::v1::{
    PodTemplateSpec, ReplicationController, ReplicationControllerSpec, ReplicationControllerStatus,
};
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;

pub(crate) struct ReplicationControllers;

impl Kind for ReplicationControllers {
    type Object = ReplicationController;
    const NAMESPACED: bool = true;
    const SHORT_NAMES: &'static [&'static str] = &["rc"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const FIELD_SELECTORS: &'static [FieldLabel] = &[FieldLabel::new("status.replicas").or("0")];
    const SUBRESOURCES: &'static [Subresource] = &[SCALE, STATUS];

    /// The template's labels stand for the selector and for the labels of the object itself.
    fn default(&self, object: &mut ReplicationController) {
        let spec = object.spec.get_or_insert_default();
        let labels = spec.template.as_ref().and_then(labels).cloned();
        if let Some(labels) = labels {
            if spec.selector.as_ref().is_none_or(BTreeMap::is_empty) {
                spec.selector = Some(labels.clone());
            }
            if object.metadata.labels.as_ref().is_none_or(BTreeMap::is_empty) {
                object.metadata.labels = Some(labels);
            }
        }
        spec.replicas.get_or_insert(1);
        if let Some(template) = &mut spec.template {
            template::default(template);
        }
    }

    fn prepare_create(&self, object: &mut ReplicationController) {
        object.status = Some(ReplicationControllerStatus::default());
    }

    fn prepare_update(&self, new: &mut ReplicationController, old: &ReplicationController) {
        new.status.clone_from(&old.status);
    }

    fn prepare_status(&self, new: &mut ReplicationController, old: &ReplicationController) {
        new.spec.clone_from(&old.spec);
    }

    fn spec_changed(&self, new: &ReplicationController, old: &ReplicationController) -> Option<bool> {
        differs(&new.spec, &old.spec)
    }

    fn validate(&self, object: &ReplicationController, errors: &mut Errors) {
        let no_spec = ReplicationControllerSpec::default();
        spec(object.spec.as_ref().unwrap_or(&no_spec), &Path::new("spec"), errors);
    }

    fn validate_status(&self, new: &ReplicationController, _old: &ReplicationController, errors: &mut Errors) {
        let none = ReplicationControllerStatus::default();
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

    fn warnings(&self, new: &ReplicationController, old: Option<&ReplicationController>) -> Vec<String> {
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

    fn row(&self, object: &ReplicationController, now: Timestamp) -> Vec<Value> {
        let (no_spec, no_status) = (Default::default(), Default::default());
        let spec: &ReplicationControllerSpec = object.spec.as_ref().unwrap_or(&no_spec);
        let status: &ReplicationControllerStatus = object.status.as_ref().unwrap_or(&no_status);
        let [names, images] = cells::names_and_images(cells::containers(spec.template.as_ref()));
        vec![
            name(&object.metadata),
            spec.replicas.unwrap_or(0).into(),
            status.replicas.into(),
            status.ready_replicas.unwrap_or(0).into(),
            age(&object.metadata, now),
            names.into(),
            images.into(),
            cells::labels(spec.selector.as_ref()).into(),
        ]
    }
}

fn labels(template: &PodTemplateSpec) -> Option<&BTreeMap<String, String>> {
    template.metadata.as_ref()?.labels.as_ref()
}

fn spec(spec: &ReplicationControllerSpec, path: &Path<'_>, errors: &mut Errors) {
    rules::nonnegative_fields(
        [
            ("minReadySeconds", spec.min_ready_seconds.map(i64::from)),
            ("replicas", spec.replicas.map(i64::from)),
        ],
        path,
        errors,
    );
    let selector = spec.selector.as_ref().filter(|selector| !selector.is_empty());
    if selector.is_none() {
        errors.required(&path.child("selector"), "");
    }
    let at = path.child("template");
    let Some(template) = &spec.template else {
        errors.required(&at, "");
        return;
    };
    let labels = labels(template);
    let has = |(key, value): (&String, &String)| labels.is_some_and(|labels| labels.get(key) == Some(value));
    if !selector.into_iter().flatten().all(has) {
        let metadata = at.child("metadata");
        let shown = serde_json::to_value(labels).unwrap_or_default();
        errors.invalid(
            &metadata.child("labels"),
            shown,
            "`selector` does not match template `labels`",
        );
    }
    template::validate_running(template, "ReplicationController", &at, errors);
}
