//! Deployment: pods of one template, replaced step by step when the template changes.

use crate::core::pods::template;
use crate::defaulting::text;
use crate::{Kind, SCALE, STATUS, Subresource, age, cells, name, rules};
use catamaran_api::table::Column;
use catamaran_api::{Errors, Path};
use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStatus, DeploymentStrategy, RollingUpdateDeployment,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

pub(crate) struct Deployments;

impl Kind for Deployments {
    type Object = Deployment;
    const NAMESPACED: bool = true;
    const SHORT_NAMES: &'static [&'static str] = &["deploy"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[SCALE, STATUS];

    fn default(&self, object: &mut Deployment) {
        let spec = object.spec.get_or_insert_default();
        template::default(&mut spec.template);
        spec.replicas.get_or_insert(1);
        let strategy = spec.strategy.get_or_insert_default();
        text(&mut strategy.type_, "RollingUpdate");
        if strategy.type_.as_deref() == Some("RollingUpdate") {
            let rolling = strategy.rolling_update.get_or_insert_default();
            let quarter = || IntOrString::String("25%".to_owned());
            rolling.max_unavailable.get_or_insert_with(quarter);
            rolling.max_surge.get_or_insert_with(quarter);
        }
        spec.revision_history_limit.get_or_insert(10);
        spec.progress_deadline_seconds.get_or_insert(600);
    }

    fn prepare_create(&self, object: &mut Deployment) {
        object.status = Some(DeploymentStatus::default());
    }

    fn prepare_update(&self, new: &mut Deployment, old: &Deployment) {
        new.status.clone_from(&old.status);
    }

    fn prepare_status(&self, new: &mut Deployment, old: &Deployment) {
        new.spec.clone_from(&old.spec);
        new.metadata.labels.clone_from(&old.metadata.labels);
    }

    /// Annotations count: the controller copies them to replica sets.
    fn spec_changed(&self, new: &Deployment, old: &Deployment) -> Option<bool> {
        Some(new.spec != old.spec || new.metadata.annotations != old.metadata.annotations)
    }

    fn validate(&self, object: &Deployment, errors: &mut Errors) {
        let no_spec = DeploymentSpec::default();
        spec(object.spec.as_ref().unwrap_or(&no_spec), &Path::new("spec"), errors);
    }

    fn validate_update(&self, new: &Deployment, old: &Deployment, errors: &mut Errors) {
        if let (Some(new), Some(old)) = (&new.spec, &old.spec) {
            let path = Path::new("spec");
            rules::immutable(&new.selector, &old.selector, &path.child("selector"), errors);
        }
    }

    fn validate_status(&self, new: &Deployment, old: &Deployment, errors: &mut Errors) {
        let none = DeploymentStatus::default();
        let old = old.status.as_ref().unwrap_or(&none);
        status(new.status.as_ref().unwrap_or(&none), old, &Path::new("status"), errors);
    }

    fn warnings(&self, new: &Deployment, old: Option<&Deployment>) -> Vec<String> {
        let mut warnings = Vec::new();
        match old {
            None => warnings.extend(template::warn_about_name(new.metadata.name.as_ref())),
            Some(old) if new.spec == old.spec => return warnings,
            Some(_) => {}
        }
        if let Some(spec) = &new.spec {
            let path = Path::new("spec");
            warnings.extend(template::warn(&spec.template, &path.child("template")));
        }
        warnings
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            Column::NAME,
            Column::string("Ready", "Pods that are ready, of all that should be."),
            Column::string("Up-to-date", "Pods that have the present template."),
            Column::string("Available", "Pods that have been ready for long enough."),
            Column::AGE,
            cells::CONTAINERS,
            cells::IMAGES,
            cells::SELECTOR,
        ];
        COLUMNS
    }

    fn row(&self, object: &Deployment, now: Timestamp) -> Vec<Value> {
        let (no_spec, no_status) = (DeploymentSpec::default(), DeploymentStatus::default());
        let spec = object.spec.as_ref().unwrap_or(&no_spec);
        let status = object.status.as_ref().unwrap_or(&no_status);
        let [names, images] = cells::names_and_images(cells::containers(Some(&spec.template)));
        let selector = cells::selector_text(&spec.selector).unwrap_or_else(|| "<invalid>".to_owned());
        vec![
            name(&object.metadata),
            format!("{}/{}", status.ready_replicas.unwrap_or(0), spec.replicas.unwrap_or(0)).into(),
            status.updated_replicas.unwrap_or(0).into(),
            status.available_replicas.unwrap_or(0).into(),
            age(&object.metadata, now),
            names.into(),
            images.into(),
            selector.into(),
        ]
    }
}

fn spec(spec: &DeploymentSpec, path: &Path<'_>, errors: &mut Errors) {
    rules::nonnegative(spec.replicas.unwrap_or(0), &path.child("replicas"), errors);
    template::validate_selector(&spec.selector, &spec.template, path, errors);
    template::validate_running(&spec.template, "ReplicaSet", &path.child("template"), errors);
    let no_strategy = DeploymentStrategy::default();
    strategy(
        spec.strategy.as_ref().unwrap_or(&no_strategy),
        &path.child("strategy"),
        errors,
    );
    rules::nonnegative_fields(
        [
            ("minReadySeconds", spec.min_ready_seconds.map(i64::from)),
            ("revisionHistoryLimit", spec.revision_history_limit.map(i64::from)),
            ("progressDeadlineSeconds", spec.progress_deadline_seconds.map(i64::from)),
        ],
        path,
        errors,
    );
    if let Some(deadline) = spec.progress_deadline_seconds
        && deadline <= spec.min_ready_seconds.unwrap_or(0)
    {
        let at = path.child("progressDeadlineSeconds");
        errors.invalid(&at, deadline, "must be greater than minReadySeconds");
    }
}

fn strategy(strategy: &DeploymentStrategy, path: &Path<'_>, errors: &mut Errors) {
    let at = path.child("rollingUpdate");
    match (strategy.type_.as_deref().unwrap_or_default(), &strategy.rolling_update) {
        ("Recreate", None) => {}
        ("Recreate", Some(_)) => {
            errors.forbidden(&at, "may not be specified when strategy `type` is 'Recreate'");
        }
        ("RollingUpdate", None) => errors.required(&at, "this should be defaulted and never be nil"),
        ("RollingUpdate", Some(rolling)) => rolling_update(rolling, &at, errors),
        (other, rolling) => {
            let rolling = rolling.as_ref().map(|rolling| {
                let shown = |value: &Option<IntOrString>| value.as_ref().map_or(Value::from(0), rules::shown);
                json!({"MaxUnavailable": shown(&rolling.max_unavailable), "MaxSurge": shown(&rolling.max_surge)})
            });
            let shown = json!({"Type": other, "RollingUpdate": rolling});
            errors.not_supported(path, shown, &["Recreate", "RollingUpdate"]);
        }
    }
}

fn rolling_update(rolling: &RollingUpdateDeployment, path: &Path<'_>, errors: &mut Errors) {
    let zero = IntOrString::Int(0);
    let unavailable = rolling.max_unavailable.as_ref().unwrap_or(&zero);
    let surge = rolling.max_surge.as_ref().unwrap_or(&zero);
    let at = path.child("maxUnavailable");
    rules::int_or_percent(unavailable, &at, errors);
    rules::int_or_percent(surge, &path.child("maxSurge"), errors);
    if rules::int_or_percent_value(unavailable) == 0 && rules::int_or_percent_value(surge) == 0 {
        errors.invalid(&at, rules::shown(unavailable), "may not be 0 when `maxSurge` is 0");
    }
    rules::at_most_100_percent(unavailable, &at, errors);
}

fn status(status: &DeploymentStatus, old: &DeploymentStatus, path: &Path<'_>, errors: &mut Errors) {
    rules::nonnegative_fields(
        [
            ("observedGeneration", status.observed_generation),
            ("replicas", status.replicas.map(i64::from)),
            ("updatedReplicas", status.updated_replicas.map(i64::from)),
            ("readyReplicas", status.ready_replicas.map(i64::from)),
            ("availableReplicas", status.available_replicas.map(i64::from)),
            ("unavailableReplicas", status.unavailable_replicas.map(i64::from)),
            ("terminatingReplicas", status.terminating_replicas.map(i64::from)),
            ("collisionCount", status.collision_count.map(i64::from)),
        ],
        path,
        errors,
    );
    let replicas = status.replicas.unwrap_or(0);
    for (field, count) in [
        ("updatedReplicas", status.updated_replicas),
        ("readyReplicas", status.ready_replicas),
        ("availableReplicas", status.available_replicas),
    ] {
        if let Some(count) = count.filter(|count| *count > replicas) {
            errors.invalid(&path.child(field), count, "cannot be greater than status.replicas");
        }
    }
    let available = status.available_replicas.unwrap_or(0);
    if available > status.ready_replicas.unwrap_or(0) {
        let detail = "cannot be greater than readyReplicas";
        errors.invalid(&path.child("availableReplicas"), available, detail);
    }
    let at = path.child("collisionCount");
    rules::not_decremented(status.collision_count, old.collision_count, &at, errors);
}
