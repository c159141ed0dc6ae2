//! Job: pods until enough of them succeeded.
//!
//! Unless told otherwise a job selects its pods by its own uid: labels for that are put into the selector and the template when
//! it is created, and what the client wrote there itself must agree.

mod status;
mod validate;

use crate::core::pods::template;
use crate::{FieldLabel, Kind, STATUS, Subresource, age, cells, differs, name};
use catamaran_api::table::{self, Column};
use catamaran_api::{Errors, Path};
use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus};
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

pub(super) use validate::template as validate_template;

/// The labels by which a job's pods are known, without and with the prefix.
const UID_LABELS: [&str; 2] = ["batch.kubernetes.io/controller-uid", "controller-uid"];
const NAME_LABELS: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];

pub(crate) struct Jobs;

impl Kind for Jobs {
    type Object = Job;
    const NAMESPACED: bool = true;
    const CATEGORIES: &'static [&'static str] = &["all"];
    const FIELD_SELECTORS: &'static [FieldLabel] =
        &[FieldLabel::new("status.successful").at("status.succeeded").or("0")];
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];

    fn default(&self, object: &mut Job) {
        let spec = object.spec.get_or_insert_default();
        default_spec(spec);
        if object
            .metadata
            .labels
            .as_ref()
            .is_none_or(std::collections::BTreeMap::is_empty)
        {
            let labels = spec
                .template
                .metadata
                .as_ref()
                .and_then(|metadata| metadata.labels.clone());
            if labels.is_some() {
                object.metadata.labels = labels;
            }
        }
        spec.completion_mode.get_or_insert_with(|| "NonIndexed".to_owned());
        spec.suspend.get_or_insert(false);
        let policy = if spec.pod_failure_policy.is_some() {
            "Failed"
        } else {
            "TerminatingOrFailed"
        };
        spec.pod_replacement_policy.get_or_insert_with(|| policy.to_owned());
        spec.manual_selector.get_or_insert(false);
        if spec.completions.is_none() && spec.parallelism.is_none() {
            spec.completions = Some(1);
        }
        spec.parallelism.get_or_insert(1);
        let limit = if spec.backoff_limit_per_index.is_some() {
            i32::MAX
        } else {
            6
        };
        spec.backoff_limit.get_or_insert(limit);
    }

    fn prepare_create(&self, object: &mut Job) {
        object.status = Some(JobStatus::default());
        select_own_pods(object);
    }

    fn prepare_update(&self, new: &mut Job, old: &Job) {
        new.status.clone_from(&old.status);
        // Whoever writes a job without the selector that was made for it does not mean to take it away.
        let made = |job: &Job| {
            let spec = job.spec.as_ref();
            spec.is_some_and(|spec| spec.manual_selector != Some(true))
        };
        if let (true, Some(new), Some(old)) = (made(new) && made(old), &mut new.spec, &old.spec)
            && new.selector.is_none()
        {
            new.selector.clone_from(&old.selector);
        }
    }

    fn prepare_status(&self, new: &mut Job, old: &Job) {
        new.spec.clone_from(&old.spec);
    }

    fn spec_changed(&self, new: &Job, old: &Job) -> Option<bool> {
        differs(&new.spec, &old.spec)
    }

    fn validate(&self, object: &Job, errors: &mut Errors) {
        validate::job(object, errors);
    }

    fn validate_update(&self, new: &Job, old: &Job, errors: &mut Errors) {
        validate::update(new, old, errors);
    }

    fn validate_status(&self, new: &Job, old: &Job, errors: &mut Errors) {
        status::update(new, old, errors);
    }

    fn warnings(&self, new: &Job, old: Option<&Job>) -> Vec<String> {
        let Some(spec) = &new.spec else { return Vec::new() };
        let mut warnings = Vec::new();
        match old {
            None => warnings.extend(template::warn_about_name(new.metadata.name.as_ref())),
            Some(old) if new.spec == old.spec => return warnings,
            Some(_) => {}
        }
        warnings.extend(warn_about_spec(spec, &Path::new("spec")));
        warnings
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            Column::NAME,
            Column::string("Status", "How far the job is."),
            Column::string("Completions", "Pods that succeeded, of all that have to."),
            Column::string("Duration", "How long it took, or has been taking."),
            Column::AGE,
            cells::CONTAINERS,
            cells::IMAGES,
            cells::SELECTOR,
        ];
        COLUMNS
    }

    fn row(&self, object: &Job, now: Timestamp) -> Vec<Value> {
        let (no_spec, no_status) = (JobSpec::default(), JobStatus::default());
        let spec = object.spec.as_ref().unwrap_or(&no_spec);
        let status = object.status.as_ref().unwrap_or(&no_status);
        let [names, images] = cells::names_and_images(cells::containers(Some(&spec.template)));
        let took = status.start_time.as_ref().map(|start| {
            let end = status.completion_time.as_ref().map_or(now, |end| end.0);
            table::age(start.0, end)
        });
        let selector = match &spec.selector {
            None => "<none>".to_owned(),
            Some(selector) => cells::selector(selector),
        };
        vec![
            name(&object.metadata),
            state(object, status).into(),
            completions(spec, status).into(),
            took.unwrap_or_default().into(),
            age(&object.metadata, now),
            names.into(),
            images.into(),
            selector.into(),
        ]
    }
}

/// What a job's spec means where it says nothing, be it a job's or a cron job's. Only the parts that both have.
pub(super) fn default_spec(spec: &mut JobSpec) {
    template::default(&mut spec.template);
    let rules = spec.pod_failure_policy.iter_mut().flat_map(|policy| &mut policy.rules);
    for pattern in rules.flat_map(|rule| rule.on_pod_conditions.iter_mut().flatten()) {
        crate::defaulting::text(&mut pattern.status, "True");
    }
}

/// Texts about a job's template, and about more indexes than can be tracked.
pub(super) fn warn_about_spec(spec: &JobSpec, path: &Path<'_>) -> Vec<String> {
    let mut warnings = Vec::new();
    let indexed = spec.completion_mode.as_deref() == Some("Indexed");
    if indexed && spec.completions.unwrap_or(0) > 100_000 && spec.parallelism.unwrap_or(0) > 10_000 {
        warnings.push(
            "In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, \
             Kubernetes might not be able to track completedIndexes when a big number of indexes fail"
                .to_owned(),
        );
    }
    warnings.extend(template::warn(&spec.template, &path.child("template")));
    warnings
}

fn select_own_pods(object: &mut Job) {
    let (uid, name) = (object.metadata.uid.clone(), object.metadata.name.clone());
    let Some(spec) = object.spec.as_mut().filter(|spec| spec.manual_selector != Some(true)) else {
        return;
    };
    let (uid, name) = (uid.unwrap_or_default(), name.unwrap_or_default());
    let metadata = spec.template.metadata.get_or_insert_default();
    let labels = metadata.labels.get_or_insert_default();
    for (keys, value) in [(NAME_LABELS, &name), (UID_LABELS, &uid)] {
        for key in keys {
            labels.entry(key.to_owned()).or_insert_with(|| value.clone());
        }
    }
    let selected = spec
        .selector
        .get_or_insert_default()
        .match_labels
        .get_or_insert_default();
    selected.entry(UID_LABELS[0].to_owned()).or_insert(uid);
}

fn has_condition(status: &JobStatus, kind: &str) -> bool {
    let mut conditions = status.conditions.iter().flatten();
    conditions.any(|condition| condition.type_ == kind && condition.status == "True")
}

fn state(object: &Job, status: &JobStatus) -> &'static str {
    if has_condition(status, "Complete") {
        "Complete"
    } else if has_condition(status, "Failed") {
        "Failed"
    } else if object.metadata.deletion_timestamp.is_some() {
        "Terminating"
    } else {
        let rest = ["Suspended", "FailureTarget", "SuccessCriteriaMet"];
        let found = rest.into_iter().find(|kind| has_condition(status, kind));
        found.unwrap_or("Running")
    }
}

fn completions(spec: &JobSpec, status: &JobStatus) -> String {
    let succeeded = status.succeeded.unwrap_or(0);
    match (spec.completions, spec.parallelism.unwrap_or(0)) {
        (Some(completions), _) => format!("{succeeded}/{completions}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    }
}
