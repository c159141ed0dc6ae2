//! What is refused about jobs.

use super::{NAME_LABELS, UID_LABELS};
use crate::batch::indexes;
use crate::core::pods::template as pod_template;
use crate::rules;
use catamaran_api::field::quote;
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::batch::v1::{
    Job, JobSpec, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule,
    SuccessPolicyRule,
};
use k8s_openapi::api::core::v1::{Affinity, PodTemplateSpec};
use std::collections::BTreeMap;

const MAX_PARALLELISM: i32 = 100_000;
const MAX_FAILED_INDEXES: i32 = 100_000;
/// Above so many completions the other limits are lower.
const MANY_COMPLETIONS: i32 = 100_000;
const FEW: i32 = 10_000;
const MAX_RULES: usize = 20;

pub(super) fn job(job: &Job, errors: &mut Errors) {
    let no_spec = JobSpec::default();
    let spec = job.spec.as_ref().unwrap_or(&no_spec);
    own_selector(job, spec, errors);
    let path = Path::new("spec");
    self::spec(spec, &path, errors);
    let no_labels = None;
    let labels = spec
        .template
        .metadata
        .as_ref()
        .map_or(&no_labels, |metadata| &metadata.labels);
    match &spec.selector {
        None => errors.required(&path.child("selector"), ""),
        Some(selector) => rules::label_selector(selector, &path.child("selector"), errors),
    }
    let selects = spec
        .selector
        .as_ref()
        .map_or(Some(false), |selector| rules::selects(selector, labels.as_ref()));
    if selects == Some(false) {
        let at = path.child("template");
        let at = at.child("metadata");
        let shown = serde_json::to_value(labels).unwrap_or_default();
        errors.invalid(
            &at.child("labels"),
            shown,
            "`selector` does not match template `labels`",
        );
    }
    hostnames(job, spec, errors);
}

/// A pod of an indexed job is named after job and index.
fn hostnames(job: &Job, spec: &JobSpec, errors: &mut Errors) {
    let completions = spec.completions.unwrap_or(0);
    if spec.completion_mode.as_deref() != Some("Indexed") || completions <= 0 {
        return;
    }
    let name = job.metadata.name.as_deref().unwrap_or_default();
    let longest = format!("{name}-{}", completions - 1);
    if !names::dns1123_label(&longest).is_empty() {
        let path = Path::new("metadata");
        errors.invalid(
            &path.child("name"),
            name,
            format!("will not able to create pod with invalid DNS label: {longest}"),
        );
    }
}

/// A selector that was made for the job selects the job's own labels.
fn own_selector(job: &Job, spec: &JobSpec, errors: &mut Errors) {
    let Some(selector) = spec.selector.as_ref().filter(|_| spec.manual_selector != Some(true)) else {
        return;
    };
    let uid = job.metadata.uid.as_deref().unwrap_or_default();
    if uid.is_empty() {
        errors.required(&Path::new("metadata").child("uid"), "");
    }
    let name = job.metadata.name.as_deref().unwrap_or_default();
    let path = Path::new("spec");
    let path = path.child("template");
    let path = path.child("metadata");
    let path = path.child("labels");
    let none = BTreeMap::new();
    let metadata = spec.template.metadata.as_ref();
    let labels = metadata.and_then(|metadata| metadata.labels.as_ref()).unwrap_or(&none);
    let mut expected = BTreeMap::new();
    for (keys, value) in [(UID_LABELS, uid), (NAME_LABELS, name)] {
        for key in keys {
            expected.insert(key.to_owned(), value.to_owned());
            match labels.get(key) {
                None => errors.required(&path.key(key), format!("must be '{value}'")),
                Some(other) if other != value => {
                    let shown = serde_json::to_value(labels).unwrap_or_default();
                    errors.invalid(&path.key(key), shown, format!("must be '{value}'"));
                }
                Some(_) => {}
            }
        }
    }
    if rules::selects(selector, Some(&expected)) == Some(false) {
        let shown = serde_json::to_value(selector).unwrap_or_default();
        let path = Path::new("spec");
        errors.invalid(&path.child("selector"), shown, "`selector` not auto-generated");
    }
}

/// A cron job's template of jobs.
pub(in crate::batch) fn template(spec: &JobSpec, path: &Path<'_>, errors: &mut Errors) {
    self::spec(spec, path, errors);
    if let Some(selector) = &spec.selector {
        let shown = serde_json::to_value(selector).unwrap_or_default();
        errors.invalid(&path.child("selector"), shown, "`selector` will be auto-generated");
    }
    if spec.manual_selector == Some(true) {
        errors.not_supported(&path.child("manualSelector"), true, &["nil", "false"]);
    }
}

fn spec(spec: &JobSpec, path: &Path<'_>, errors: &mut Errors) {
    rules::nonnegative_fields(
        [
            ("parallelism", spec.parallelism.map(i64::from)),
            ("completions", spec.completions.map(i64::from)),
            ("activeDeadlineSeconds", spec.active_deadline_seconds),
            ("backoffLimit", spec.backoff_limit.map(i64::from)),
            (
                "ttlSecondsAfterFinished",
                spec.ttl_seconds_after_finished.map(i64::from),
            ),
            ("backoffLimitPerIndex", spec.backoff_limit_per_index.map(i64::from)),
            ("maxFailedIndexes", spec.max_failed_indexes.map(i64::from)),
        ],
        path,
        errors,
    );
    if spec.max_failed_indexes.is_some() && spec.backoff_limit_per_index.is_none() {
        errors.required(
            &path.child("backoffLimitPerIndex"),
            "when maxFailedIndexes is specified",
        );
    }
    if let Some(manager) = &spec.managed_by {
        rules::domain_prefixed_path(manager, &path.child("managedBy"), errors);
        if manager.len() > 63 {
            errors.too_long(&path.child("managedBy"), 63);
        }
    }
    let mode = spec.completion_mode.as_deref();
    rules::one_of(mode, &["NonIndexed", "Indexed"], &path.child("completionMode"), errors);
    if mode == Some("Indexed") {
        indexed(spec, path, errors);
    } else if mode.is_none_or(|mode| mode == "NonIndexed") {
        for (field, value) in [
            ("backoffLimitPerIndex", spec.backoff_limit_per_index),
            ("maxFailedIndexes", spec.max_failed_indexes),
        ] {
            if let Some(value) = value {
                errors.invalid(&path.child(field), value, "requires indexed completion mode");
            }
        }
    }
    policies(spec, path, errors);
    let at = path.child("template");
    pod_template::validate(&spec.template, &at, errors);
    restart_policy(spec, &at, errors);
}

fn indexed(spec: &JobSpec, path: &Path<'_>, errors: &mut Errors) {
    if spec.completions.is_none() {
        errors.required(&path.child("completions"), "when completion mode is Indexed");
    }
    let (parallelism, failed) = (spec.parallelism.unwrap_or(0), spec.max_failed_indexes.unwrap_or(0));
    let at_parallelism = path.child("parallelism");
    let at_failed = path.child("maxFailedIndexes");
    if parallelism > MAX_PARALLELISM {
        let detail = format!("must be less than or equal to {MAX_PARALLELISM} when completion mode is Indexed");
        errors.invalid(&at_parallelism, parallelism, detail);
    }
    let completions = spec.completions.unwrap_or(i32::MAX);
    if failed > completions {
        errors.invalid(&at_failed, failed, "must be less than or equal to completions");
    }
    if failed > MAX_FAILED_INDEXES {
        errors.invalid(
            &at_failed,
            failed,
            format!("must be less than or equal to {MAX_FAILED_INDEXES}"),
        );
    }
    if spec.completions.unwrap_or(0) > MANY_COMPLETIONS && spec.backoff_limit_per_index.is_some() {
        let detail = format!(
            "must be less than or equal to {FEW} when completions are above {MANY_COMPLETIONS} and used with backoff limit per index"
        );
        if spec.max_failed_indexes.is_none() {
            let detail = format!("must be specified when completions is above {MANY_COMPLETIONS}");
            errors.required(&at_failed, detail);
        }
        if parallelism > FEW {
            errors.invalid(&at_parallelism, parallelism, detail.clone());
        }
        if failed > FEW {
            errors.invalid(&at_failed, failed, detail);
        }
    }
}

fn restart_policy(spec: &JobSpec, path: &Path<'_>, errors: &mut Errors) {
    let pod = spec.template.spec.as_ref();
    let policy = pod.and_then(|pod| pod.restart_policy.as_deref()).unwrap_or_default();
    let path = path.child("spec");
    let at = path.child("restartPolicy");
    match policy {
        "" | "Always" => errors.required(&at, r#"valid values: "OnFailure", "Never""#),
        "Never" => {}
        "OnFailure" if spec.pod_failure_policy.is_some() => errors.invalid(
            &at,
            policy,
            r#"only "Never" is supported when podFailurePolicy is specified"#,
        ),
        "OnFailure" => {}
        other => errors.not_supported(&at, other, &["OnFailure", "Never"]),
    }
}

fn policies(spec: &JobSpec, path: &Path<'_>, errors: &mut Errors) {
    if let Some(policy) = &spec.pod_failure_policy {
        let at = path.child("podFailurePolicy");
        let list = at.child("rules");
        if policy.rules.len() > MAX_RULES {
            errors.too_many(&list, policy.rules.len(), MAX_RULES);
        }
        for (index, rule) in policy.rules.iter().enumerate() {
            failure_rule(spec, rule, &list.index(index), errors);
        }
    }
    if let Some(policy) = &spec.success_policy {
        let at = path.child("successPolicy");
        let list = at.child("rules");
        if spec.completion_mode.as_deref() != Some("Indexed") {
            let shown = serde_json::to_value(policy).unwrap_or_default();
            errors.invalid(&at, shown, "requires indexed completion mode");
        } else {
            if policy.rules.is_empty() {
                errors.required(
                    &list,
                    "at least one rules must be specified when the successPolicy is specified",
                );
            }
            if policy.rules.len() > MAX_RULES {
                errors.too_many(&list, policy.rules.len(), MAX_RULES);
            }
            for (index, rule) in policy.rules.iter().enumerate() {
                success_rule(spec, rule, &list.index(index), errors);
            }
        }
    }
    let supported: &[&str] = if spec.pod_failure_policy.is_some() {
        &["Failed"]
    } else {
        &["Failed", "TerminatingOrFailed"]
    };
    let policy = spec.pod_replacement_policy.as_deref();
    rules::one_of(policy, supported, &path.child("podReplacementPolicy"), errors);
}

/// One of a list, with the list in the sentence where nothing is given.
fn listed(value: &str, supported: &[&str], path: &Path<'_>, errors: &mut Errors) {
    if value.is_empty() {
        let quoted: Vec<String> = supported.iter().map(|value| quote(value)).collect();
        errors.required(path, format!("valid values: [{}]", quoted.join(" ")));
    } else {
        rules::one_of(Some(value), supported, path, errors);
    }
}

fn failure_rule(spec: &JobSpec, rule: &PodFailurePolicyRule, path: &Path<'_>, errors: &mut Errors) {
    let at = path.child("action");
    if rule.action == "FailIndex" {
        if spec.backoff_limit_per_index.is_none() {
            errors.invalid(&at, rule.action.as_str(), "requires the backoffLimitPerIndex to be set");
        }
    } else {
        listed(&rule.action, &["Count", "FailIndex", "FailJob", "Ignore"], &at, errors);
    }
    if let Some(codes) = &rule.on_exit_codes {
        exit_codes(spec, codes, &path.child("onExitCodes"), errors);
    }
    let patterns = rule.on_pod_conditions.as_deref().unwrap_or_default();
    if !patterns.is_empty() {
        conditions(patterns, &path.child("onPodConditions"), errors);
    }
    match (&rule.on_exit_codes, patterns) {
        (Some(_), [_, ..]) => without_value(
            path,
            "specifying both OnExitCodes and OnPodConditions is not supported",
            errors,
        ),
        (None, []) => without_value(
            path,
            "specifying one of OnExitCodes and OnPodConditions is required",
            errors,
        ),
        _ => {}
    }
}

/// An error about something too large to be shown.
pub(super) fn without_value(path: &Path<'_>, detail: impl Into<String>, errors: &mut Errors) {
    errors.push(catamaran_api::field::FieldError::new(
        catamaran_api::field::Reason::Invalid,
        path,
        None,
        detail,
    ));
}

fn conditions(patterns: &[PodFailurePolicyOnPodConditionsPattern], path: &Path<'_>, errors: &mut Errors) {
    if patterns.len() > MAX_RULES {
        errors.too_many(path, patterns.len(), MAX_RULES);
    }
    for (index, pattern) in patterns.iter().enumerate() {
        let at = path.index(index);
        errors.invalid_each(&at.child("type"), &pattern.type_, names::qualified_name(&pattern.type_));
        let status = pattern.status.as_deref().unwrap_or_default();
        listed(status, &["False", "True", "Unknown"], &at.child("status"), errors);
    }
}

fn exit_codes(spec: &JobSpec, codes: &PodFailurePolicyOnExitCodesRequirement, path: &Path<'_>, errors: &mut Errors) {
    listed(&codes.operator, &["In", "NotIn"], &path.child("operator"), errors);
    if let Some(name) = &codes.container_name {
        let pod = spec.template.spec.as_ref();
        let containers = pod
            .iter()
            .flat_map(|pod| pod.init_containers.iter().flatten().chain(&pod.containers));
        if !containers.into_iter().any(|container| container.name == *name) {
            let detail = "must be one of the container or initContainer names in the pod template";
            errors.invalid(&path.child("containerName"), name.as_str(), detail);
        }
    }
    let at = path.child("values");
    if codes.values.is_empty() {
        errors.invalid(&at, codes.values.clone(), "at least one value is required");
    } else if codes.values.len() > 255 {
        errors.too_many(&at, codes.values.len(), 255);
    }
    for (index, code) in codes.values.iter().enumerate() {
        if codes.operator == "In" && *code == 0 {
            errors.invalid(&at.index(index), *code, "must not be 0 for the In operator");
        }
        if codes.values[..index].contains(code) {
            errors.duplicate(&at.index(index), *code);
        }
    }
    if !codes.values.is_sorted() {
        errors.invalid(&at, codes.values.clone(), "must be ordered");
    }
}

fn success_rule(spec: &JobSpec, rule: &SuccessPolicyRule, path: &Path<'_>, errors: &mut Errors) {
    if rule.succeeded_count.is_none() && rule.succeeded_indexes.is_none() {
        errors.required(
            path,
            "at least one of succeededCount or succeededIndexes must be specified",
        );
    }
    let completions = spec.completions.unwrap_or(0);
    let mut total = None;
    if let Some(text) = &rule.succeeded_indexes {
        let at = path.child("succeededIndexes");
        if text.len() > 64 * 1024 {
            errors.too_long(&at, 64 * 1024);
        }
        match indexes::count(text, completions) {
            Ok(count) => total = Some(count),
            Err(error) => {
                total = Some(0);
                errors.invalid(&at, text.as_str(), format!("error parsing succeededIndexes: {error}"));
            }
        }
    }
    if let Some(count) = rule.succeeded_count {
        let at = path.child("succeededCount");
        rules::nonnegative(count, &at, errors);
        if count > completions {
            let detail = format!("must be less than or equal to {completions} (the number of specified completions)");
            errors.invalid(&at, count, detail);
        }
        if let Some(total) = total.filter(|total| count > *total) {
            let detail = format!(
                "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
            );
            errors.invalid(&at, count, detail);
        }
    }
}

pub(super) fn update(new: &Job, old: &Job, errors: &mut Errors) {
    let (Some(new_spec), Some(old_spec)) = (&new.spec, &old.spec) else {
        return;
    };
    let path = Path::new("spec");
    completions(new_spec, old_spec, &path, errors);
    rules::immutable(&new_spec.selector, &old_spec.selector, &path.child("selector"), errors);
    let template = if may_move(new, old) {
        with_allowed_changes(&new_spec.template, &old_spec.template)
    } else {
        old_spec.template.clone()
    };
    if template != new_spec.template {
        let shown = serde_json::to_value(&new_spec.template).unwrap_or_default();
        errors.invalid(&path.child("template"), shown, rules::IMMUTABLE);
    }
    rules::immutable(
        &new_spec.completion_mode,
        &old_spec.completion_mode,
        &path.child("completionMode"),
        errors,
    );
    let at = path.child("podFailurePolicy");
    rules::immutable(&new_spec.pod_failure_policy, &old_spec.pod_failure_policy, &at, errors);
    let at = path.child("backoffLimitPerIndex");
    rules::immutable(
        &new_spec.backoff_limit_per_index,
        &old_spec.backoff_limit_per_index,
        &at,
        errors,
    );
    rules::immutable(
        &new_spec.managed_by,
        &old_spec.managed_by,
        &path.child("managedBy"),
        errors,
    );
    rules::immutable(
        &new_spec.success_policy,
        &old_spec.success_policy,
        &path.child("successPolicy"),
        errors,
    );
}

/// A job that is suspended and never ran can still be told where its pods go.
fn may_move(new: &Job, old: &Job) -> bool {
    let suspended = |job: &Job| job.spec.as_ref().and_then(|spec| spec.suspend) == Some(true);
    let started = old.status.as_ref().is_some_and(|status| status.start_time.is_some());
    suspended(old) && suspended(new) && !started
        || suspended(old) && !started && new.spec.as_ref().and_then(|spec| spec.suspend) == Some(false)
}

/// The old template with what the new one says about placement, labels and annotations.
fn with_allowed_changes(new: &PodTemplateSpec, old: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = old.clone();
    if let (Some(kept), Some(new)) = (&mut template.spec, &new.spec) {
        kept.node_selector.clone_from(&new.node_selector);
        kept.tolerations.clone_from(&new.tolerations);
        kept.scheduling_gates.clone_from(&new.scheduling_gates);
        let node = new
            .affinity
            .as_ref()
            .and_then(|affinity| affinity.node_affinity.clone());
        match (&mut kept.affinity, &new.affinity) {
            (affinity @ Some(_), None) => {
                if let Some(affinity) = affinity {
                    affinity.node_affinity = None;
                }
                if *affinity == Some(Affinity::default()) {
                    *affinity = None;
                }
            }
            (None, Some(_)) => {
                kept.affinity = Some(Affinity {
                    node_affinity: node,
                    ..Default::default()
                });
            }
            (Some(affinity), Some(_)) => affinity.node_affinity = node,
            (None, None) => {}
        }
    }
    if let (Some(kept), Some(new)) = (&mut template.metadata, &new.metadata) {
        kept.annotations.clone_from(&new.annotations);
        kept.labels.clone_from(&new.labels);
    }
    template
}

/// How many have to succeed is fixed, but for indexed jobs that grow or shrink as a whole.
fn completions(new: &JobSpec, old: &JobSpec, path: &Path<'_>, errors: &mut Errors) {
    let at = path.child("completions");
    if new.completion_mode.as_deref() != Some("Indexed") {
        return rules::immutable(&new.completions, &old.completions, &at, errors);
    }
    if let Some(completions) = new.completions
        && new.completions != old.completions
        && new.completions != new.parallelism
    {
        let detail = "can only be modified in tandem with spec.parallelism";
        errors.invalid(&at, completions, detail);
    }
}
