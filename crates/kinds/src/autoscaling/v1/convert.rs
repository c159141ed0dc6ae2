//! Between the two versions, as JSON.
//!
//! | in version 2 | in version 1 |
//! |---|---|
//! | the metric CPU with a utilization | `targetCPUUtilizationPercentage` |
//! | other metrics | annotation `…/metrics`, in the form of version 1 |
//! | current metrics, conditions | annotations `…/current-metrics`, `…/conditions` |
//! | behavior | annotation `…/behavior`, with the field names of Go |

use super::super::horizontalpodautoscalers::cpu;
use serde_json::{Map, Value, json};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const ALL: [&str; 4] = [METRICS, CURRENT_METRICS, CONDITIONS, BEHAVIOR];

const DEFAULT_CPU_UTILIZATION: i32 = 80;

/// Takes the annotations of this version off an object.
fn take_annotations(object: &mut Value) -> Map<String, Value> {
    let mut taken = Map::new();
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
        return taken;
    };
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        for key in ALL {
            let value = annotations.remove(key);
            let parsed = value.as_ref().and_then(Value::as_str);
            if let Some(parsed) = parsed.and_then(|text| serde_json::from_str(text).ok()) {
                taken.insert(key.to_owned(), parsed);
            }
        }
        if annotations.is_empty() {
            metadata.remove("annotations");
        }
    }
    taken
}

fn annotate(object: &mut Value, key: &str, value: &Value) {
    let metadata = object["metadata"].as_object_mut();
    let annotations = metadata.map(|metadata| metadata.entry("annotations").or_insert_with(|| json!({})));
    if let Some(annotations) = annotations.and_then(Value::as_object_mut) {
        annotations.insert(key.to_owned(), Value::from(value.to_string()));
    }
}

fn list(value: Option<&Value>) -> Vec<Value> {
    value.and_then(Value::as_array).cloned().unwrap_or_default()
}

fn part(object: &mut Value, field: &str) -> Map<String, Value> {
    match object.get_mut(field).map(Value::take) {
        Some(Value::Object(part)) => part,
        _ => Map::new(),
    }
}

/// Sets a field, or leaves it out.
fn put(map: &mut Map<String, Value>, field: &str, value: Option<Value>) {
    if let Some(value) = value.filter(|value| !value.is_null()) {
        map.insert(field.to_owned(), value);
    }
}

pub(super) fn to_v2(mut object: Value) -> Value {
    let mut said = take_annotations(&mut object);
    object["apiVersion"] = "autoscaling/v2".into();
    let mut spec = part(&mut object, "spec");
    let mut metrics: Vec<Value> = list(said.get(METRICS)).iter().map(metric_to_v2).collect();
    if let Some(utilization) = spec
        .remove("targetCPUUtilizationPercentage")
        .and_then(|value| value.as_i64())
    {
        let metric = cpu(i32::try_from(utilization).unwrap_or(i32::MAX));
        metrics.push(serde_json::to_value(metric).unwrap_or_default());
    }
    if metrics.is_empty() {
        metrics.push(serde_json::to_value(cpu(DEFAULT_CPU_UTILIZATION)).unwrap_or_default());
    }
    spec.insert("metrics".to_owned(), metrics.into());
    put(&mut spec, "behavior", said.get(BEHAVIOR).map(with_json_names));
    object["spec"] = spec.into();
    if object.get("status").is_some() {
        let mut status = part(&mut object, "status");
        let utilization = status.remove("currentCPUUtilizationPercentage");
        let current = match (said.get(CURRENT_METRICS), utilization) {
            (Some(metrics), _) => Some(list(Some(metrics)).iter().map(status_to_v2).collect()),
            (None, Some(utilization)) => Some(json!([{"type": "Resource",
                "resource": {"name": "cpu", "current": {"averageUtilization": utilization}}}])),
            (None, None) => None,
        };
        put(&mut status, "currentMetrics", current);
        put(&mut status, "conditions", said.remove(CONDITIONS));
        object["status"] = status.into();
    }
    object
}

fn is_cpu_utilization(metric: &Value) -> bool {
    let resource = &metric["resource"];
    metric["type"] == "Resource" && resource["name"] == "cpu" && resource["target"]["averageUtilization"].is_i64()
}

pub(super) fn from_v2(mut object: Value) -> Value {
    take_annotations(&mut object);
    object["apiVersion"] = "autoscaling/v1".into();
    let mut spec = part(&mut object, "spec");
    let metrics = list(spec.remove("metrics").as_ref());
    let utilization = metrics.iter().find(|metric| is_cpu_utilization(metric));
    let utilization = utilization.map(|metric| metric["resource"]["target"]["averageUtilization"].clone());
    put(&mut spec, "targetCPUUtilizationPercentage", utilization);
    let behavior = spec.remove("behavior");
    object["spec"] = spec.into();
    let others = metrics.iter().filter(|metric| !is_cpu_utilization(metric));
    let others: Vec<Value> = others.map(metric_to_v1).collect();
    if !others.is_empty() {
        annotate(&mut object, METRICS, &others.into());
    }
    if let Some(behavior) = &behavior {
        annotate(&mut object, BEHAVIOR, &with_go_names(behavior));
    }
    if object.get("status").is_some() {
        let mut status = part(&mut object, "status");
        let current = list(status.remove("currentMetrics").as_ref());
        let of_cpu = current.iter().rfind(|metric| {
            metric["type"] == "Resource"
                && metric["resource"]["name"] == "cpu"
                && metric["resource"]["current"]["averageUtilization"].is_i64()
        });
        let utilization = of_cpu.map(|metric| metric["resource"]["current"]["averageUtilization"].clone());
        put(&mut status, "currentCPUUtilizationPercentage", utilization);
        let conditions = list(status.remove("conditions").as_ref());
        status.entry("currentReplicas").or_insert_with(|| 0.into());
        object["status"] = status.into();
        if !current.is_empty() {
            let current: Vec<Value> = current.iter().map(status_to_v1).collect();
            annotate(&mut object, CURRENT_METRICS, &current.into());
        }
        if !conditions.is_empty() {
            annotate(&mut object, CONDITIONS, &conditions.into());
        }
    }
    object
}

/// Fields of a source that are flat in version 1: (version 1, path in version 2).
type Names = &'static [(&'static str, &'static [&'static str])];

/// The sources, each with its field, of wanted values.
const SOURCES: &[(&str, Names)] = &[
    (
        "object",
        &[
            ("target", &["describedObject"]),
            ("metricName", &["metric", "name"]),
            ("selector", &["metric", "selector"]),
            ("targetValue", &["target", "value"]),
            ("averageValue", &["target", "averageValue"]),
        ],
    ),
    (
        "pods",
        &[
            ("metricName", &["metric", "name"]),
            ("selector", &["metric", "selector"]),
            ("targetAverageValue", &["target", "averageValue"]),
        ],
    ),
    (
        "resource",
        &[
            ("name", &["name"]),
            ("targetAverageUtilization", &["target", "averageUtilization"]),
            ("targetAverageValue", &["target", "averageValue"]),
        ],
    ),
    (
        "containerResource",
        &[
            ("name", &["name"]),
            ("container", &["container"]),
            ("targetAverageUtilization", &["target", "averageUtilization"]),
            ("targetAverageValue", &["target", "averageValue"]),
        ],
    ),
    (
        "external",
        &[
            ("metricName", &["metric", "name"]),
            ("metricSelector", &["metric", "selector"]),
            ("targetValue", &["target", "value"]),
            ("targetAverageValue", &["target", "averageValue"]),
        ],
    ),
];

/// The same of present values.
const STATUSES: &[(&str, Names)] = &[
    (
        "object",
        &[
            ("target", &["describedObject"]),
            ("metricName", &["metric", "name"]),
            ("selector", &["metric", "selector"]),
            ("currentValue", &["current", "value"]),
            ("averageValue", &["current", "averageValue"]),
        ],
    ),
    (
        "pods",
        &[
            ("metricName", &["metric", "name"]),
            ("selector", &["metric", "selector"]),
            ("currentAverageValue", &["current", "averageValue"]),
        ],
    ),
    (
        "resource",
        &[
            ("name", &["name"]),
            ("currentAverageUtilization", &["current", "averageUtilization"]),
            ("currentAverageValue", &["current", "averageValue"]),
        ],
    ),
    (
        "containerResource",
        &[
            ("name", &["name"]),
            ("container", &["container"]),
            ("currentAverageUtilization", &["current", "averageUtilization"]),
            ("currentAverageValue", &["current", "averageValue"]),
        ],
    ),
    (
        "external",
        &[
            ("metricName", &["metric", "name"]),
            ("metricSelector", &["metric", "selector"]),
            ("currentValue", &["current", "value"]),
            ("currentAverageValue", &["current", "averageValue"]),
        ],
    ),
];

fn flattened(metric: &Value, table: &[(&str, Names)]) -> Value {
    let mut flat = Map::new();
    flat.insert("type".to_owned(), metric["type"].clone());
    for (field, names) in table {
        let Some(source) = metric.get(field) else { continue };
        let mut out = Map::new();
        for (name, path) in *names {
            let value = path.iter().try_fold(source, |value, step| value.get(step));
            put(&mut out, name, value.cloned());
        }
        flat.insert((*field).to_owned(), out.into());
    }
    flat.into()
}

fn unflattened(metric: &Value, table: &[(&str, Names)]) -> Value {
    let mut out = Map::new();
    out.insert("type".to_owned(), metric["type"].clone());
    for (field, names) in table {
        let Some(flat) = metric.get(field) else { continue };
        let mut source = json!({});
        for (name, path) in *names {
            let Some(value) = flat.get(name).filter(|value| !value.is_null()) else {
                continue;
            };
            match path {
                [one] => source[*one] = value.clone(),
                [outer, inner] => source[*outer][*inner] = value.clone(),
                _ => {}
            }
        }
        out.insert((*field).to_owned(), source);
    }
    out.into()
}

fn metric_to_v1(metric: &Value) -> Value {
    let mut flat = flattened(metric, SOURCES);
    // Not optional in version 1.
    if let Some(object) = flat.get_mut("object").and_then(Value::as_object_mut) {
        object.entry("targetValue").or_insert_with(|| "0".into());
    }
    flat
}

/// The kind of target is not said in version 1: it follows from which value is there.
fn metric_to_v2(metric: &Value) -> Value {
    let mut metric = unflattened(metric, SOURCES);
    for field in ["object", "pods", "resource", "containerResource", "external"] {
        let Some(target) = metric.get_mut(field).and_then(|source| source.get_mut("target")) else {
            continue;
        };
        if target["averageValue"].is_string() && target["value"] == "0" {
            target.as_object_mut().map(|target| target.remove("value"));
        }
        let has = |name: &str| target.get(name).is_some();
        let kind = match field {
            "resource" | "containerResource" if has("averageUtilization") => "Utilization",
            "object" | "external" if has("value") && !has("averageValue") => "Value",
            _ => "AverageValue",
        };
        target["type"] = kind.into();
    }
    metric
}

fn status_to_v1(metric: &Value) -> Value {
    let mut flat = flattened(metric, STATUSES);
    for field in ["resource", "containerResource"] {
        if let Some(source) = flat.get_mut(field).and_then(Value::as_object_mut) {
            source.entry("currentAverageValue").or_insert_with(|| "0".into());
        }
    }
    flat
}

fn status_to_v2(metric: &Value) -> Value {
    unflattened(metric, STATUSES)
}

/// `ScaleUp` for `scaleUp`: this annotation has always been the JSON of a type without names of its own.
fn with_go_names(value: &Value) -> Value {
    renamed(value, char::to_ascii_uppercase)
}

fn with_json_names(value: &Value) -> Value {
    renamed(value, char::to_ascii_lowercase)
}

fn renamed(value: &Value, first: fn(&char) -> char) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().filter(|(_, value)| !value.is_null());
            let rename = |name: &str| {
                let mut rest = name.chars();
                let head = rest.next().map(|c| first(&c));
                head.into_iter().chain(rest).collect::<String>()
            };
            fields
                .map(|(name, value)| (rename(name), renamed(value, first)))
                .collect()
        }
        Value::Array(items) => items.iter().map(|item| renamed(item, first)).collect(),
        other => other.clone(),
    }
}
