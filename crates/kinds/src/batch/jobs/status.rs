//! The status of a job: its conditions exclude each other, and what has ended stays ended.

use super::has_condition;
use super::validate::without_value;
use crate::batch::indexes;
use crate::rules;
use catamaran_api::{Errors, Path};
use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus, UncountedTerminatedPods};
use serde_json::Value;

pub(super) fn update(new: &Job, old: &Job, errors: &mut Errors) {
    let (no_spec, no_status) = (JobSpec::default(), JobStatus::default());
    let spec = new.spec.as_ref().unwrap_or(&no_spec);
    let status = new.status.as_ref().unwrap_or(&no_status);
    let was = old.status.as_ref().unwrap_or(&no_status);
    let path = Path::new("status");
    counts(status, &path, errors);
    conditions(spec, status, &path, errors);
    times(status, &path, errors);
    index_sets(spec, status, &path, errors);
    changes(spec, status, was, &path, errors);
}

fn counts(status: &JobStatus, path: &Path<'_>, errors: &mut Errors) {
    rules::nonnegative_fields(
        [
            ("active", status.active.map(i64::from)),
            ("succeeded", status.succeeded.map(i64::from)),
            ("failed", status.failed.map(i64::from)),
            ("ready", status.ready.map(i64::from)),
            ("terminating", status.terminating.map(i64::from)),
        ],
        path,
        errors,
    );
    if let Some(uncounted) = &status.uncounted_terminated_pods {
        uncounted_pods(uncounted, &path.child("uncountedTerminatedPods"), errors);
    }
    if let Some(ready) = status.ready.filter(|ready| *ready > status.active.unwrap_or(0)) {
        errors.invalid(&path.child("ready"), ready, "cannot set more ready pods than active");
    }
}

fn uncounted_pods(pods: &UncountedTerminatedPods, path: &Path<'_>, errors: &mut Errors) {
    let mut seen = Vec::new();
    for (field, uids) in [("succeeded", &pods.succeeded), ("failed", &pods.failed)] {
        let list = path.child(field);
        for (index, uid) in uids.iter().flatten().enumerate() {
            if uid.is_empty() {
                errors.invalid(&list.index(index), "", "must not be empty");
            } else if seen.contains(&uid) {
                errors.duplicate(&list.index(index), uid.as_str());
            }
            seen.push(uid);
        }
    }
}

fn conditions(spec: &JobSpec, status: &JobStatus, path: &Path<'_>, errors: &mut Errors) {
    let at = path.child("conditions");
    let has = |kind: &str| has_condition(status, kind);
    let (complete, failed) = (has("Complete"), has("Failed"));
    let (failing, succeeding) = (has("FailureTarget"), has("SuccessCriteriaMet"));
    let rules = [
        (
            complete && failed,
            "cannot set Complete=True and Failed=true conditions",
        ),
        (
            complete && failing,
            "cannot set Complete=True and FailureTarget=true conditions",
        ),
        (
            failed && !failing,
            "cannot set Failed=True condition without the FailureTarget=true condition",
        ),
        (
            complete && !succeeding,
            "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
        ),
        (
            succeeding && failed,
            "cannot set SuccessCriteriaMet=True and Failed=true conditions",
        ),
        (
            succeeding && failing,
            "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
        ),
        (
            spec.success_policy.is_some() && !succeeding && complete,
            "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True",
        ),
    ];
    for (_, detail) in rules.into_iter().filter(|(broken, _)| *broken) {
        without_value(&at, detail, errors);
    }
    if !complete && !failed {
        return;
    }
    if let Some(active) = status.active.filter(|active| *active > 0) {
        errors.invalid(&path.child("active"), active, "active>0 is invalid for finished job");
    }
    if status.start_time.is_none() {
        errors.required(&path.child("startTime"), "startTime is required for finished job");
    }
    let uncounted = status.uncounted_terminated_pods.as_ref();
    let left = |uids: &Option<Vec<String>>| uids.as_ref().is_some_and(|uids| !uids.is_empty());
    if let Some(uncounted) = uncounted.filter(|pods| left(&pods.failed) || left(&pods.succeeded)) {
        let shown = serde_json::to_value(uncounted).unwrap_or_default();
        let detail = "uncountedTerminatedPods needs to be empty for finished job";
        errors.invalid(&path.child("uncountedTerminatedPods"), shown, detail);
    }
    if let Some(terminating) = status.terminating.filter(|terminating| *terminating > 0) {
        let detail = "terminating>0 is invalid for finished job";
        errors.invalid(&path.child("terminating"), terminating, detail);
    }
}

fn times(status: &JobStatus, path: &Path<'_>, errors: &mut Errors) {
    let at = path.child("completionTime");
    let complete = has_condition(status, "Complete");
    let Some(end) = &status.completion_time else {
        if complete {
            errors.required(&at, "completionTime is required for Complete jobs");
        }
        return;
    };
    let shown = || serde_json::to_value(end).unwrap_or_default();
    if !complete {
        let detail = "cannot set completionTime when there is no Complete=True condition";
        errors.invalid(&at, shown(), detail);
    }
    if status.start_time.as_ref().is_some_and(|start| end.0 < start.0) {
        errors.invalid(&at, shown(), "completionTime cannot be set before startTime");
    }
}

fn index_sets(spec: &JobSpec, status: &JobStatus, path: &Path<'_>, errors: &mut Errors) {
    let completed = status.completed_indexes.as_deref().unwrap_or_default();
    let failed = status.failed_indexes.as_deref();
    let at_completed = path.child("completedIndexes");
    let at_failed = path.child("failedIndexes");
    if let Some(completions) = spec.completions {
        if let Err(error) = indexes::count(completed, completions) {
            errors.invalid(
                &at_completed,
                completed,
                format!("error parsing completedIndexes: {error}"),
            );
        }
        if let Some(failed) = failed {
            if spec.backoff_limit_per_index.is_some()
                && let Err(error) = indexes::count(failed, completions)
            {
                errors.invalid(&at_failed, failed, format!("error parsing failedIndexes: {error}"));
            }
            if let Some(index) = indexes::overlap(completed, failed, completions) {
                let detail = format!("failedIndexes and completedIndexes overlap at index: {index}");
                errors.invalid(&at_failed, failed, detail);
            }
        }
    }
    if !completed.is_empty() && spec.completion_mode.as_deref() != Some("Indexed") {
        let detail = "cannot set non-empty completedIndexes when non-indexed completion mode";
        errors.invalid(&at_completed, completed, detail);
    }
    if let Some(failed) = failed.filter(|_| spec.backoff_limit_per_index.is_none()) {
        let detail = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
        errors.invalid(&at_failed, failed, detail);
    }
}

fn changes(spec: &JobSpec, status: &JobStatus, was: &JobStatus, path: &Path<'_>, errors: &mut Errors) {
    let at = path.child("conditions");
    for kind in ["Failed", "Complete", "FailureTarget"] {
        if has_condition(was, kind) && !has_condition(status, kind) {
            without_value(
                &at,
                format!("cannot disable the terminal {kind}=True condition"),
                errors,
            );
        }
    }
    for (field, new, old) in [
        ("failed", status.failed, was.failed),
        ("succeeded", status.succeeded, was.succeeded),
    ] {
        let (new, old) = (new.unwrap_or(0), old.unwrap_or(0));
        if new < old {
            errors.invalid(&path.child(field), new, format!("cannot decrease the {field} counter"));
        }
    }
    if let (Some(new), Some(old)) = (&status.completion_time, &was.completion_time)
        && new != old
    {
        let shown: Value = serde_json::to_value(new).unwrap_or_default();
        errors.invalid(&path.child("completionTime"), shown, "completionTime cannot be mutated");
    }
    if was.start_time.is_some() && was.start_time != status.start_time && spec.suspend != Some(true) {
        errors.required(
            &path.child("startTime"),
            "startTime cannot be removed for unsuspended job",
        );
    }
    let met = |status: &JobStatus| has_condition(status, "SuccessCriteriaMet");
    if met(was) && !met(status) {
        without_value(&at, "cannot disable the SuccessCriteriaMet=True condition", errors);
    }
    if has_condition(was, "Complete") && !met(was) && met(status) {
        let detail = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
        without_value(&at, detail, errors);
    }
}
