//! Pods that are yet to be made: the templates in workloads. They have the defaults and rules of pods, less what only a real
//! pod has.

use super::{defaults, validate, warnings};
use crate::rules;
use catamaran_api::{Errors, Path};
use k8s_openapi::api::core::v1::{PodSpec, PodTemplateSpec, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

/// Fills in what the template leaves out.
pub(crate) fn default(template: &mut PodTemplateSpec) {
    defaults::template(template);
}

/// What is wrong with a template, wherever it stands.
pub(crate) fn validate(template: &PodTemplateSpec, path: &Path<'_>, errors: &mut Errors) {
    validate_with_volumes(template, &[], path, errors);
}

/// As [`validate`], where the pods will have more volumes than the template says.
pub(crate) fn validate_with_volumes(
    template: &PodTemplateSpec,
    additional: &[Volume],
    path: &Path<'_>,
    errors: &mut Errors,
) {
    let (no_metadata, no_spec) = (ObjectMeta::default(), PodSpec::default());
    let metadata = template.metadata.as_ref().unwrap_or(&no_metadata);
    rules::labels(metadata.labels.as_ref(), &path.child("labels"), errors);
    rules::annotations(metadata.annotations.as_ref(), &path.child("annotations"), errors);
    let spec = template.spec.as_ref().unwrap_or(&no_spec);
    let at = path.child("spec");
    let name = metadata.name.as_deref().unwrap_or_default();
    if additional.is_empty() {
        validate::spec(spec, validate::Place::Template, name, &at, errors);
    } else {
        let mut spec = spec.clone();
        spec.volumes.get_or_insert_default().extend_from_slice(additional);
        validate::spec(&spec, validate::Place::Template, name, &at, errors);
    }
    if spec.ephemeral_containers.as_ref().is_some_and(|list| !list.is_empty()) {
        let detail = "ephemeral containers not allowed in pod template";
        errors.forbidden(&at.child("ephemeralContainers"), detail);
    }
}

/// As [`validate`], for what keeps pods running: they restart always and have no end.
pub(crate) fn validate_running(template: &PodTemplateSpec, kind: &str, path: &Path<'_>, errors: &mut Errors) {
    validate(template, path, errors);
    validate_endless(template, kind, path, errors);
}

/// The part of [`validate_running`] that is about time.
pub(crate) fn validate_endless(template: &PodTemplateSpec, kind: &str, path: &Path<'_>, errors: &mut Errors) {
    let Some(spec) = &template.spec else { return };
    let path = path.child("spec");
    let policy = spec.restart_policy.as_deref().unwrap_or_default();
    if policy != "Always" {
        errors.not_supported(&path.child("restartPolicy"), policy, &["Always"]);
    }
    if spec.active_deadline_seconds.is_some() {
        errors.forbidden(
            &path.child("activeDeadlineSeconds"),
            format!("activeDeadlineSeconds in {kind} is not Supported"),
        );
    }
}

/// The selector of a workload, which must select the pods it makes. `what` names the workload in the sentence about an empty
/// one; the path is that of the workload's spec.
pub(crate) fn validate_selector(
    selector: &LabelSelector,
    template: &PodTemplateSpec,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    let at = path.child("selector");
    let labels = template.metadata.as_ref().and_then(|metadata| metadata.labels.as_ref());
    let selects = if rules::is_empty_selector(selector) {
        errors.required(&at, "");
        Some(false)
    } else {
        rules::label_selector(selector, &at, errors);
        rules::selects(selector, labels)
    };
    match selects {
        None => {
            let shown = serde_json::to_value(selector).unwrap_or_default();
            errors.invalid(&at, shown, "invalid label selector");
        }
        Some(false) => {
            let path = path.child("template");
            let path = path.child("metadata");
            let shown = serde_json::to_value(labels).unwrap_or_default();
            errors.invalid(
                &path.child("labels"),
                shown,
                "`selector` does not match template `labels`",
            );
        }
        Some(true) => {}
    }
}

/// Texts for `Warning` headers about a template at `path`.
pub(crate) fn warn(template: &PodTemplateSpec, path: &Path<'_>) -> Vec<String> {
    warnings::template(template, path)
}

/// What a name that goes into the names of pods should look like.
pub(crate) fn warn_about_name(name: Option<&String>) -> Option<String> {
    let name = name.map(String::as_str).unwrap_or_default();
    let messages = catamaran_api::names::dns1123_label(name);
    if messages.is_empty() {
        return None;
    }
    Some(format!(
        "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is \
         recommended: [{}]",
        messages.join(" ")
    ))
}
