//! DaemonSet: one pod on every node that the template fits.
//!
//! The number of the template is an annotation in this version of the API. It is the system's: it grows with every change of
//! the template, whatever the client sent.

use crate::core::pods::template;
use crate::defaulting::text;
use crate::{Kind, STATUS, Subresource, age, cells, differs, name, rules};
use catamaran_api::table::Column;
use catamaran_api::{Errors, Path};
use k8s_openapi::api::apps::v1::{
    DaemonSet, DaemonSetSpec, DaemonSetStatus, DaemonSetUpdateStrategy, RollingUpdateDaemonSet,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

pub(crate) struct DaemonSets;

impl Kind for DaemonSets {
    type Object = DaemonSet;
    const NAMESPACED: bool = true;
    const SHORT_NAMES: &'static [&'static str] = &["ds"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];

    fn default(&self, object: &mut DaemonSet) {
        let spec = object.spec.get_or_insert_default();
        template::default(&mut spec.template);
        let strategy = spec.update_strategy.get_or_insert_default();
        text(&mut strategy.type_, "RollingUpdate");
        if strategy.type_.as_deref() == Some("RollingUpdate") {
            let rolling = strategy.rolling_update.get_or_insert_default();
            rolling.max_unavailable.get_or_insert(IntOrString::Int(1));
            rolling.max_surge.get_or_insert(IntOrString::Int(0));
        }
        spec.revision_history_limit.get_or_insert(10);
    }

    fn prepare_create(&self, object: &mut DaemonSet) {
        object.status = Some(DaemonSetStatus::default());
        let generation = template_generation(object).max(1);
        set_template_generation(object, generation);
    }

    fn prepare_update(&self, new: &mut DaemonSet, old: &DaemonSet) {
        new.status.clone_from(&old.status);
        let template = |object: &DaemonSet| object.spec.as_ref().map(|spec| spec.template.clone());
        let changed = template(new) != template(old);
        set_template_generation(new, template_generation(old) + i64::from(changed));
    }

    fn prepare_status(&self, new: &mut DaemonSet, old: &DaemonSet) {
        new.spec.clone_from(&old.spec);
    }

    fn spec_changed(&self, new: &DaemonSet, old: &DaemonSet) -> Option<bool> {
        differs(&new.spec, &old.spec)
    }

    fn validate(&self, object: &DaemonSet, errors: &mut Errors) {
        let no_spec = DaemonSetSpec::default();
        spec(object.spec.as_ref().unwrap_or(&no_spec), &Path::new("spec"), errors);
    }

    fn validate_update(&self, new: &DaemonSet, old: &DaemonSet, errors: &mut Errors) {
        if let (Some(new), Some(old)) = (&new.spec, &old.spec) {
            let path = Path::new("spec");
            rules::immutable(&new.selector, &old.selector, &path.child("selector"), errors);
        }
    }

    fn validate_status(&self, new: &DaemonSet, old: &DaemonSet, errors: &mut Errors) {
        let none = DaemonSetStatus::default();
        let (status, old) = (
            new.status.as_ref().unwrap_or(&none),
            old.status.as_ref().unwrap_or(&none),
        );
        let path = Path::new("status");
        rules::nonnegative_fields(
            [
                (
                    "currentNumberScheduled",
                    Some(i64::from(status.current_number_scheduled)),
                ),
                ("numberMisscheduled", Some(i64::from(status.number_misscheduled))),
                (
                    "desiredNumberScheduled",
                    Some(i64::from(status.desired_number_scheduled)),
                ),
                ("numberReady", Some(i64::from(status.number_ready))),
                ("observedGeneration", status.observed_generation),
                ("updatedNumberScheduled", status.updated_number_scheduled.map(i64::from)),
                ("numberAvailable", status.number_available.map(i64::from)),
                ("numberUnavailable", status.number_unavailable.map(i64::from)),
                ("collisionCount", status.collision_count.map(i64::from)),
            ],
            &path,
            errors,
        );
        let at = path.child("collisionCount");
        rules::not_decremented(status.collision_count, old.collision_count, &at, errors);
    }

    fn warnings(&self, new: &DaemonSet, old: Option<&DaemonSet>) -> Vec<String> {
        if old.is_some_and(|old| old.spec == new.spec) {
            return Vec::new();
        }
        let path = Path::new("spec");
        let template = new.spec.as_ref().map(|spec| &spec.template);
        template.map_or_else(Vec::new, |template| template::warn(template, &path.child("template")))
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            Column::NAME,
            Column::integer("Desired", "Nodes that should have a pod."),
            Column::integer("Current", "Nodes that have one and should."),
            Column::integer("Ready", "Nodes whose pod is ready."),
            Column::integer("Up-to-date", "Nodes whose pod has the present template."),
            Column::integer("Available", "Nodes whose pod has been ready for long enough."),
            Column::string("Node Selector", "Labels of the nodes that get a pod."),
            Column::AGE,
            cells::CONTAINERS,
            cells::IMAGES,
            cells::SELECTOR,
        ];
        COLUMNS
    }

    fn row(&self, object: &DaemonSet, now: Timestamp) -> Vec<Value> {
        let (no_spec, no_status) = (DaemonSetSpec::default(), DaemonSetStatus::default());
        let spec = object.spec.as_ref().unwrap_or(&no_spec);
        let status = object.status.as_ref().unwrap_or(&no_status);
        let [names, images] = cells::names_and_images(cells::containers(Some(&spec.template)));
        let node_selector = spec.template.spec.as_ref().and_then(|spec| spec.node_selector.as_ref());
        vec![
            name(&object.metadata),
            status.desired_number_scheduled.into(),
            status.current_number_scheduled.into(),
            status.number_ready.into(),
            status.updated_number_scheduled.unwrap_or(0).into(),
            status.number_available.unwrap_or(0).into(),
            cells::labels(node_selector).into(),
            age(&object.metadata, now),
            names.into(),
            images.into(),
            cells::selector(&spec.selector).into(),
        ]
    }
}

fn template_generation(object: &DaemonSet) -> i64 {
    let annotations = object.metadata.annotations.as_ref();
    let text = annotations.and_then(|annotations| annotations.get(TEMPLATE_GENERATION));
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn set_template_generation(object: &mut DaemonSet, generation: i64) {
    let annotations = object.metadata.annotations.get_or_insert_default();
    annotations.insert(TEMPLATE_GENERATION.to_owned(), generation.to_string());
}

fn spec(spec: &DaemonSetSpec, path: &Path<'_>, errors: &mut Errors) {
    template::validate_selector(&spec.selector, &spec.template, path, errors);
    template::validate_running(&spec.template, "DaemonSet", &path.child("template"), errors);
    rules::nonnegative_fields(
        [("minReadySeconds", spec.min_ready_seconds.map(i64::from))],
        path,
        errors,
    );
    let no_strategy = DaemonSetUpdateStrategy::default();
    let strategy = spec.update_strategy.as_ref().unwrap_or(&no_strategy);
    update_strategy(strategy, &path.child("updateStrategy"), errors);
    rules::nonnegative_fields(
        [("revisionHistoryLimit", spec.revision_history_limit.map(i64::from))],
        path,
        errors,
    );
}

fn update_strategy(strategy: &DaemonSetUpdateStrategy, path: &Path<'_>, errors: &mut Errors) {
    match (strategy.type_.as_deref().unwrap_or_default(), &strategy.rolling_update) {
        ("OnDelete", _) => {}
        ("RollingUpdate", None) => errors.required(&path.child("rollingUpdate"), ""),
        ("RollingUpdate", Some(rolling)) => rolling_update(rolling, &path.child("rollingUpdate"), errors),
        (other, rolling) => {
            let rolling = rolling.as_ref().map(|rolling| {
                let shown = |value: &Option<IntOrString>| value.as_ref().map_or(Value::from(0), rules::shown);
                json!({"MaxUnavailable": shown(&rolling.max_unavailable), "MaxSurge": shown(&rolling.max_surge)})
            });
            let shown = json!({"Type": other, "RollingUpdate": rolling});
            errors.not_supported(path, shown, &["RollingUpdate", "OnDelete"]);
        }
    }
}

fn rolling_update(rolling: &RollingUpdateDaemonSet, path: &Path<'_>, errors: &mut Errors) {
    let zero = IntOrString::Int(0);
    let unavailable = rolling.max_unavailable.as_ref().unwrap_or(&zero);
    let surge = rolling.max_surge.as_ref().unwrap_or(&zero);
    let (at_unavailable, at_surge) = (path.child("maxUnavailable"), path.child("maxSurge"));
    rules::int_or_percent(unavailable, &at_unavailable, errors);
    rules::int_or_percent(surge, &at_surge, errors);
    rules::at_most_100_percent(unavailable, &at_unavailable, errors);
    rules::at_most_100_percent(surge, &at_surge, errors);
    let given = |value: &IntOrString| rules::int_or_percent_value(value) != 0;
    match (given(unavailable), given(surge)) {
        (true, true) => errors.invalid(
            &at_surge,
            rules::shown(surge),
            "may not be set when maxUnavailable is non-zero",
        ),
        (false, false) => errors.required(&at_unavailable, "cannot be 0 when maxSurge is 0"),
        _ => {}
    }
}
