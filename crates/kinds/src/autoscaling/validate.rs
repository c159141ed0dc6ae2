//! What is refused about autoscalers.

use crate::core::amounts;
use crate::rules;
use catamaran_api::quantity::Quantity;
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscalerSpec,
    HorizontalPodAutoscalerStatus, MetricSpec, MetricTarget,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Amount;

/// An hour, in seconds.
const WINDOW_MAX: i32 = 3600;
/// Half an hour, in seconds.
const PERIOD_MAX: i32 = 1800;

pub(super) fn spec(spec: &HorizontalPodAutoscalerSpec, path: &Path<'_>, errors: &mut Errors) {
    let (min, max) = (spec.min_replicas, spec.max_replicas);
    let at_min = path.child("minReplicas");
    if let Some(min) = min.filter(|min| *min < 1) {
        errors.invalid(&at_min, min, "must be greater than or equal to 1");
    }
    let at_max = path.child("maxReplicas");
    if max < 1 {
        errors.invalid(&at_max, max, "must be greater than 0");
    }
    if min.is_some_and(|min| max < min) {
        errors.invalid(&at_max, max, "must be greater than or equal to `minReplicas`");
    }
    reference(&spec.scale_target_ref, true, &path.child("scaleTargetRef"), errors);
    let list = path.child("metrics");
    let metrics = spec.metrics.as_deref().unwrap_or_default();
    for (index, metric) in metrics.iter().enumerate() {
        self::metric(metric, &list.index(index), errors);
    }
    let outside = metrics
        .iter()
        .any(|metric| matches!(metric.type_.as_str(), "Object" | "External"));
    if min == Some(0) && !outside {
        let detail = "must specify at least one Object or External metric to support scaling to zero replicas";
        errors.forbidden(&list, detail);
    }
    if let Some(behavior) = &spec.behavior {
        let at = path.child("behavior");
        for (field, rules) in [("scaleUp", &behavior.scale_up), ("scaleDown", &behavior.scale_down)] {
            if let Some(rules) = rules {
                scaling(rules, &at.child(field), errors);
            }
        }
    }
}

pub(super) fn status(status: &HorizontalPodAutoscalerStatus, path: &Path<'_>, errors: &mut Errors) {
    rules::nonnegative_fields(
        [
            ("currentReplicas", status.current_replicas.map(i64::from)),
            ("desiredReplicas", Some(i64::from(status.desired_replicas))),
        ],
        path,
        errors,
    );
}

fn segment(value: &str, missing: &str, path: &Path<'_>, errors: &mut Errors) {
    if value.is_empty() {
        errors.required(path, missing);
    } else {
        errors.invalid_each(path, value, names::path_segment(value));
    }
}

/// Another object. What is scaled may be of the legacy group, as replication controllers are.
fn reference(reference: &CrossVersionObjectReference, legacy: bool, path: &Path<'_>, errors: &mut Errors) {
    segment(&reference.kind, "", &path.child("kind"), errors);
    segment(&reference.name, "", &path.child("name"), errors);
    let version = reference.api_version.as_deref().unwrap_or_default();
    let at = path.child("apiVersion");
    if version.matches('/').count() > 1 {
        errors.invalid(&at, version, format!("unexpected GroupVersion string: {version}"));
    } else if !legacy && !version.contains('/') {
        errors.invalid(&at, version, "apiVersion must specify API group");
    }
}

fn scaling(scaling: &HPAScalingRules, path: &Path<'_>, errors: &mut Errors) {
    if let Some(window) = scaling.stabilization_window_seconds {
        let at = path.child("stabilizationWindowSeconds");
        if window < 0 {
            errors.invalid(&at, window, "must be greater than or equal to zero");
        }
        if window > WINDOW_MAX {
            errors.invalid(&at, window, format!("must be less than or equal to {WINDOW_MAX}"));
        }
    }
    let select = scaling.select_policy.as_deref();
    rules::one_of(select, &["Disabled", "Max", "Min"], &path.child("selectPolicy"), errors);
    let list = path.child("policies");
    let policies = scaling.policies.as_deref().unwrap_or_default();
    if policies.is_empty() {
        errors.required(&list, "must specify at least one Policy");
    }
    for (index, policy) in policies.iter().enumerate() {
        self::policy(policy, &list.index(index), errors);
    }
    if let Some(tolerance) = &scaling.tolerance {
        rules::nonnegative_amount(tolerance, &path.child("tolerance"), errors);
    }
}

fn policy(policy: &HPAScalingPolicy, path: &Path<'_>, errors: &mut Errors) {
    rules::one_of(Some(&policy.type_), &["Percent", "Pods"], &path.child("type"), errors);
    for (field, value) in [("value", policy.value), ("periodSeconds", policy.period_seconds)] {
        if value <= 0 {
            errors.invalid(&path.child(field), value, rules::NOT_POSITIVE);
        }
    }
    if policy.period_seconds > PERIOD_MAX {
        let detail = format!("must be less than or equal to {PERIOD_MAX}");
        errors.invalid(&path.child("periodSeconds"), policy.period_seconds, detail);
    }
}

const METRIC_TYPES: &[&str] = &["ContainerResource", "External", "Object", "Pods", "Resource"];

fn metric(metric: &MetricSpec, path: &Path<'_>, errors: &mut Errors) {
    let at = path.child("type");
    if metric.type_.is_empty() {
        errors.required(&at, "must specify a metric source type");
    }
    let known = METRIC_TYPES.contains(&metric.type_.as_str());
    rules::one_of(Some(&metric.type_), METRIC_TYPES, &at, errors);
    let present = [
        ("Object", "object", metric.object.is_some()),
        ("External", "external", metric.external.is_some()),
        ("Pods", "pods", metric.pods.is_some()),
        ("Resource", "resource", metric.resource.is_some()),
        (
            "ContainerResource",
            "containerResource",
            metric.container_resource.is_some(),
        ),
    ];
    let set: Vec<&str> = present
        .iter()
        .filter(|(_, _, set)| *set)
        .map(|(_, field, _)| *field)
        .collect();
    if let Some(first) = set.first() {
        source(metric, first, &path.child(first), errors);
    }
    let expected = present.iter().find(|(kind, _, _)| *kind == metric.type_);
    if let Some((_, field, false)) = expected {
        errors.required(
            &path.child(field),
            "must populate information for the given metric source",
        );
    }
    if !known {
        errors.not_supported(&at, metric.type_.as_str(), METRIC_TYPES);
    }
    if set.len() != 1 {
        let expected = expected.map(|(_, field, _)| *field);
        for field in set.iter().filter(|field| Some(**field) != expected) {
            errors.forbidden(&path.child(field), "must populate the given metric source only");
        }
    }
}

fn source(metric: &MetricSpec, field: &str, path: &Path<'_>, errors: &mut Errors) {
    let at_target = path.child("target");
    let identifier = |name: &str, errors: &mut Errors| {
        let at = path.child("metric");
        segment(name, "must specify a metric name", &at.child("name"), errors);
    };
    match field {
        "object" => {
            let Some(source) = &metric.object else { return };
            reference(&source.described_object, true, &path.child("describedObject"), errors);
            identifier(&source.metric.name, errors);
            target(&source.target, &at_target, errors);
            if source.target.value.is_none() && source.target.average_value.is_none() {
                let detail = "must set either a target value or averageValue";
                errors.required(&at_target.child("averageValue"), detail);
            }
        }
        "external" => {
            let Some(source) = &metric.external else { return };
            identifier(&source.metric.name, errors);
            target(&source.target, &at_target, errors);
            match (&source.target.value, &source.target.average_value) {
                (None, None) => errors.required(
                    &at_target.child("averageValue"),
                    "must set either a target value for metric or a per-pod target",
                ),
                (Some(_), Some(_)) => errors.forbidden(
                    &at_target.child("value"),
                    "may not set both a target value for metric and a per-pod target",
                ),
                _ => {}
            }
        }
        "pods" => {
            let Some(source) = &metric.pods else { return };
            identifier(&source.metric.name, errors);
            target(&source.target, &at_target, errors);
            if source.target.average_value.is_none() {
                let detail = "must specify a positive target averageValue";
                errors.required(&at_target.child("averageValue"), detail);
            }
        }
        "resource" => {
            let Some(source) = &metric.resource else { return };
            if source.name.is_empty() {
                errors.required(&path.child("name"), "must specify a resource name");
            }
            resource_target(&source.target, &at_target, errors);
        }
        _ => {
            let Some(source) = &metric.container_resource else {
                return;
            };
            if source.name.is_empty() {
                errors.required(&path.child("name"), "must specify a resource name");
            } else {
                amounts::container_resource(&source.name, &path.child("name"), errors);
            }
            let at = path.child("container");
            if source.container.is_empty() {
                errors.required(&at, "must specify a container");
            } else {
                errors.invalid_each(&at, &source.container, names::dns1123_label(&source.container));
            }
            resource_target(&source.target, &at_target, errors);
        }
    }
}

fn resource_target(target: &MetricTarget, path: &Path<'_>, errors: &mut Errors) {
    self::target(target, path, errors);
    match (target.average_utilization, &target.average_value) {
        (None, None) => errors.required(
            &path.child("averageUtilization"),
            "must set either a target raw value or a target utilization",
        ),
        (Some(_), Some(_)) => errors.forbidden(
            &path.child("averageValue"),
            "may not set both a target raw value and a target utilization",
        ),
        _ => {}
    }
}

fn target(target: &MetricTarget, path: &Path<'_>, errors: &mut Errors) {
    let at = path.child("type");
    if target.type_.is_empty() {
        errors.required(&at, "must specify a metric target type");
    }
    if !["Utilization", "Value", "AverageValue"].contains(&target.type_.as_str()) {
        let detail = "must be either Utilization, Value, or AverageValue";
        errors.invalid(&at, target.type_.as_str(), detail);
    }
    let positive = |amount: &Amount| {
        let quantity = Quantity::try_from(amount).unwrap_or_default();
        !quantity.is_zero() && !quantity.is_negative()
    };
    for (field, amount) in [("value", &target.value), ("averageValue", &target.average_value)] {
        if let Some(amount) = amount.as_ref().filter(|amount| !positive(amount)) {
            errors.invalid(&path.child(field), amount.0.as_str(), "must be positive");
        }
    }
    if let Some(utilization) = target.average_utilization.filter(|utilization| *utilization < 1) {
        errors.invalid(&path.child("averageUtilization"), utilization, "must be greater than 0");
    }
}
