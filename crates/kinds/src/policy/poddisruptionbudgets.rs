//! PodDisruptionBudget: how many pods of an application may be evicted at a time.

use crate::{Kind, STATUS, Subresource, age, differs, name, rules};
use catamaran_api::table::Column;
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

pub(crate) struct PodDisruptionBudgets;

impl Kind for PodDisruptionBudgets {
    type Object = PodDisruptionBudget;
    const NAMESPACED: bool = true;
    const SHORT_NAMES: &'static [&'static str] = &["pdb"];
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];
    const UNCONDITIONAL_UPDATE: bool = false;

    fn default(&self, object: &mut PodDisruptionBudget) {
        object.spec.get_or_insert_default();
    }

    fn prepare_create(&self, object: &mut PodDisruptionBudget) {
        object.status = Some(PodDisruptionBudgetStatus::default());
    }

    fn prepare_update(&self, new: &mut PodDisruptionBudget, old: &PodDisruptionBudget) {
        new.status.clone_from(&old.status);
    }

    fn prepare_status(&self, new: &mut PodDisruptionBudget, old: &PodDisruptionBudget) {
        new.spec.clone_from(&old.spec);
    }

    fn spec_changed(&self, new: &PodDisruptionBudget, old: &PodDisruptionBudget) -> Option<bool> {
        differs(&new.spec, &old.spec)
    }

    fn validate(&self, object: &PodDisruptionBudget, errors: &mut Errors) {
        let no_spec = PodDisruptionBudgetSpec::default();
        spec(object.spec.as_ref().unwrap_or(&no_spec), &Path::new("spec"), errors);
    }

    fn validate_status(&self, new: &PodDisruptionBudget, _old: &PodDisruptionBudget, errors: &mut Errors) {
        let none = PodDisruptionBudgetStatus::default();
        let status = new.status.as_ref().unwrap_or(&none);
        let path = Path::new("status");
        rules::nonnegative_fields(
            [
                ("disruptionsAllowed", Some(i64::from(status.disruptions_allowed))),
                ("currentHealthy", Some(i64::from(status.current_healthy))),
                ("desiredHealthy", Some(i64::from(status.desired_healthy))),
                ("expectedPods", Some(i64::from(status.expected_pods))),
            ],
            &path,
            errors,
        );
        let conditions = status.conditions.as_deref().unwrap_or_default();
        validate_conditions(conditions, &path.child("conditions"), errors);
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            Column::NAME,
            Column::string("Min Available", "Pods that must stay."),
            Column::string("Max Unavailable", "Pods that may be missing."),
            Column::integer("Allowed Disruptions", "Pods that may be evicted now."),
            Column::AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &PodDisruptionBudget, now: Timestamp) -> Vec<Value> {
        let no_spec = PodDisruptionBudgetSpec::default();
        let spec = object.spec.as_ref().unwrap_or(&no_spec);
        let text = |value: &Option<IntOrString>| match value {
            None => "N/A".to_owned(),
            Some(IntOrString::Int(number)) => number.to_string(),
            Some(IntOrString::String(text)) => text.clone(),
        };
        let allowed = object.status.as_ref().map_or(0, |status| status.disruptions_allowed);
        vec![
            name(&object.metadata),
            text(&spec.min_available).into(),
            text(&spec.max_unavailable).into(),
            allowed.into(),
            age(&object.metadata, now),
        ]
    }
}

fn spec(spec: &PodDisruptionBudgetSpec, path: &Path<'_>, errors: &mut Errors) {
    if spec.min_available.is_some() && spec.max_unavailable.is_some() {
        let shown = serde_json::to_value(spec).unwrap_or_default();
        errors.invalid(path, shown, "minAvailable and maxUnavailable cannot be both set");
    }
    for (field, value) in [
        ("minAvailable", &spec.min_available),
        ("maxUnavailable", &spec.max_unavailable),
    ] {
        if let Some(value) = value {
            rules::int_or_percent(value, &path.child(field), errors);
            rules::at_most_100_percent(value, &path.child(field), errors);
        }
    }
    if let Some(selector) = &spec.selector {
        rules::label_selector(selector, &path.child("selector"), errors);
    }
    rules::one_of(
        spec.unhealthy_pod_eviction_policy.as_deref(),
        &["AlwaysAllow", "IfHealthyBudget"],
        &path.child("unhealthyPodEvictionPolicy"),
        errors,
    );
}

/// Conditions of the form that all newer kinds share.
fn validate_conditions(conditions: &[Condition], path: &Path<'_>, errors: &mut Errors) {
    for (index, condition) in conditions.iter().enumerate() {
        let at = path.index(index);
        if conditions[..index].iter().any(|other| other.type_ == condition.type_) {
            errors.duplicate(&at.child("type"), condition.type_.as_str());
        }
        errors.invalid_each(
            &at.child("type"),
            &condition.type_,
            names::qualified_name(&condition.type_),
        );
        let statuses = ["False", "True", "Unknown"];
        rules::one_of(Some(&condition.status), &statuses, &at.child("status"), errors);
        if let Some(generation) = condition.observed_generation {
            rules::nonnegative(generation, &at.child("observedGeneration"), errors);
        }
        if condition.reason.is_empty() {
            errors.required(&at.child("reason"), "");
        }
    }
}
