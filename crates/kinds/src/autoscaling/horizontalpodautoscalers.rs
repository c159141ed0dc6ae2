//! HorizontalPodAutoscaler: as many replicas as the load asks for.

use super::validate;
use crate::{Kind, STATUS, Subresource, age, name};
use catamaran_api::table::Column;
use catamaran_api::{Errors, Path};
use k8s_openapi::api::autoscaling::v2::{
    HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec,
    HorizontalPodAutoscalerStatus, MetricSpec, MetricStatus, MetricTarget, MetricValueStatus, ResourceMetricSource,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

/// Percentage of the requested CPU that is aimed at if nobody says.
const DEFAULT_CPU_UTILIZATION: i32 = 80;
/// Metrics shown in the table.
const SHOWN: usize = 2;

pub(crate) struct HorizontalPodAutoscalers;

impl Kind for HorizontalPodAutoscalers {
    type Object = HorizontalPodAutoscaler;
    const NAMESPACED: bool = true;
    const SHORT_NAMES: &'static [&'static str] = &["hpa"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];

    fn default(&self, object: &mut HorizontalPodAutoscaler) {
        let spec = object.spec.get_or_insert_default();
        spec.min_replicas.get_or_insert(1);
        if spec.metrics.as_ref().is_none_or(Vec::is_empty) {
            spec.metrics = Some(vec![cpu(DEFAULT_CPU_UTILIZATION)]);
        }
        if let Some(behavior) = &mut spec.behavior {
            let up = behavior.scale_up.take();
            behavior.scale_up = Some(filled(up, Some(0), &[("Pods", 4), ("Percent", 100)]));
            let down = behavior.scale_down.take();
            behavior.scale_down = Some(filled(down, None, &[("Percent", 100)]));
        }
    }

    fn prepare_create(&self, object: &mut HorizontalPodAutoscaler) {
        object.status = Some(HorizontalPodAutoscalerStatus {
            current_replicas: Some(0),
            ..Default::default()
        });
    }

    fn prepare_update(&self, new: &mut HorizontalPodAutoscaler, old: &HorizontalPodAutoscaler) {
        new.status.clone_from(&old.status);
    }

    fn prepare_status(&self, new: &mut HorizontalPodAutoscaler, old: &HorizontalPodAutoscaler) {
        new.spec.clone_from(&old.spec);
    }

    fn validate(&self, object: &HorizontalPodAutoscaler, errors: &mut Errors) {
        let no_spec = HorizontalPodAutoscalerSpec::default();
        validate::spec(object.spec.as_ref().unwrap_or(&no_spec), &Path::new("spec"), errors);
    }

    fn validate_status(&self, new: &HorizontalPodAutoscaler, _old: &HorizontalPodAutoscaler, errors: &mut Errors) {
        if let Some(status) = &new.status {
            validate::status(status, &Path::new("status"), errors);
        }
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &HorizontalPodAutoscaler, now: Timestamp) -> Vec<Value> {
        let (no_spec, no_status) = (Default::default(), Default::default());
        let spec: &HorizontalPodAutoscalerSpec = object.spec.as_ref().unwrap_or(&no_spec);
        let status: &HorizontalPodAutoscalerStatus = object.status.as_ref().unwrap_or(&no_status);
        let target = &spec.scale_target_ref;
        let metrics = spec.metrics.as_deref().unwrap_or_default();
        let current = status.current_metrics.as_deref().unwrap_or_default();
        vec![
            name(&object.metadata),
            format!("{}/{}", target.kind, target.name).into(),
            self::metrics(metrics, current).into(),
            spec.min_replicas
                .map_or_else(|| "<unset>".to_owned(), |min| min.to_string())
                .into(),
            spec.max_replicas.into(),
            status.current_replicas.unwrap_or(0).into(),
            age(&object.metadata, now),
        ]
    }
}

pub(super) const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::string("Reference", "What is scaled."),
    Column::string("Targets", "Present and wanted value of each metric."),
    Column::string("MinPods", "The fewest replicas."),
    Column::string("MaxPods", "The most replicas."),
    Column::string("Replicas", "How many there are."),
    Column::AGE,
];

/// The metric that is meant where none is given.
pub(super) fn cpu(utilization: i32) -> MetricSpec {
    MetricSpec {
        type_: "Resource".to_owned(),
        resource: Some(ResourceMetricSource {
            name: "cpu".to_owned(),
            target: MetricTarget {
                type_: "Utilization".to_owned(),
                average_utilization: Some(utilization),
                ..Default::default()
            },
        }),
        ..Default::default()
    }
}

fn filled(rules: Option<HPAScalingRules>, window: Option<i32>, policies: &[(&str, i32)]) -> HPAScalingRules {
    const PERIOD_SECONDS: i32 = 15;
    let mut rules = rules.unwrap_or_default();
    rules.select_policy.get_or_insert_with(|| "Max".to_owned());
    rules.stabilization_window_seconds = rules.stabilization_window_seconds.or(window);
    rules.policies.get_or_insert_with(|| {
        let policy = |(kind, value): &(&str, i32)| HPAScalingPolicy {
            type_: (*kind).to_owned(),
            value: *value,
            period_seconds: PERIOD_SECONDS,
        };
        policies.iter().map(policy).collect()
    });
    rules
}

fn metrics(specs: &[MetricSpec], statuses: &[MetricStatus]) -> String {
    if specs.is_empty() {
        return "<none>".to_owned();
    }
    let all: Vec<String> = specs
        .iter()
        .enumerate()
        .map(|(index, spec)| metric(spec, statuses.get(index)))
        .collect();
    let shown = all.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if all.len() > SHOWN {
        format!("{shown} + {} more...", all.len() - SHOWN)
    } else {
        shown
    }
}

fn shown(amount: Option<&Quantity>) -> &str {
    amount.map_or("<unknown>", |amount| amount.0.as_str())
}

fn metric(spec: &MetricSpec, status: Option<&MetricStatus>) -> String {
    let of_value = |target: &MetricTarget, current: Option<&MetricValueStatus>| match &target.average_value {
        Some(average) => {
            let current = current.and_then(|current| current.average_value.as_ref());
            format!("{}/{} (avg)", shown(current), average.0)
        }
        None => {
            let current = current.and_then(|current| current.value.as_ref());
            format!("{}/{}", shown(current), shown(target.value.as_ref()))
        }
    };
    let of_resource = |name: &str, target: &MetricTarget, current: Option<&MetricValueStatus>| {
        if let Some(average) = &target.average_value {
            let current = current.and_then(|current| current.average_value.as_ref());
            return format!("{name}: {}/{}", shown(current), average.0);
        }
        let percent =
            |value: Option<i32>, absent: &str| value.map_or_else(|| absent.to_owned(), |value| format!("{value}%"));
        let current = current.and_then(|current| current.average_utilization);
        format!(
            "{name}: {}/{}",
            percent(current, "<unknown>"),
            percent(target.average_utilization, "<auto>")
        )
    };
    match spec.type_.as_str() {
        "External" => spec.external.as_ref().map(|source| {
            let status = status.and_then(|status| status.external.as_ref());
            of_value(&source.target, status.map(|status| &status.current))
        }),
        "Object" => spec.object.as_ref().map(|source| {
            let status = status.and_then(|status| status.object.as_ref());
            of_value(&source.target, status.map(|status| &status.current))
        }),
        "Pods" => spec.pods.as_ref().map(|source| {
            let status = status.and_then(|status| status.pods.as_ref());
            let current = status.and_then(|status| status.current.average_value.as_ref());
            format!("{}/{}", shown(current), shown(source.target.average_value.as_ref()))
        }),
        "Resource" => spec.resource.as_ref().map(|source| {
            let status = status.and_then(|status| status.resource.as_ref());
            of_resource(&source.name, &source.target, status.map(|status| &status.current))
        }),
        "ContainerResource" => spec.container_resource.as_ref().map(|source| {
            let status = status.and_then(|status| status.container_resource.as_ref());
            of_resource(&source.name, &source.target, status.map(|status| &status.current))
        }),
        _ => None,
    }
    .unwrap_or_else(|| "<unknown type>".to_owned())
}
