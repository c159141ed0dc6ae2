//! Goldens of autoscalers, and the way between their versions.

use super::{check_created, check_row, decode};
use crate::{ALL, ErasedKind};
use catamaran_api::Errors;
use expect_test::expect;
use serde_json::{Value, json};

fn of_version(version: &str) -> &'static dyn ErasedKind {
    let found = ALL.iter().find(|kind| {
        let info = kind.info();
        info.kind == "HorizontalPodAutoscaler" && info.version == version
    });
    *found.expect("a version")
}

fn autoscaler(spec: Value) -> Value {
    let mut object = json!({"metadata": {"name": "web", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}, "maxReplicas": 5}});
    let fields = object["spec"].as_object_mut().expect("a spec");
    fields.extend(spec.as_object().expect("fields").clone());
    object
}

fn errors(version: &str, object: Value) -> String {
    let kind = of_version(version);
    let mut errors = Errors::new();
    kind.validate(&*decode(kind, object), &mut errors);
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn both_versions_have_the_same_rules() {
    let bad = autoscaler(json!({"minReplicas": 0, "maxReplicas": 0, "scaleTargetRef": {"kind": "", "name": "a/b"}}));
    let expected = errors("v2", bad.clone());
    expect![[r#"
        spec.minReplicas: Invalid value: 0: must be greater than or equal to 1
        spec.maxReplicas: Invalid value: 0: must be greater than 0
        spec.scaleTargetRef.kind: Required value
        spec.scaleTargetRef.name: Invalid value: "a/b": may not contain '/'
        spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero replicas"#]].assert_eq(&expected);
    assert_eq!(errors("v1", bad), expected);
}

#[test]
fn refusals() {
    let bad = autoscaler(
        json!({"metrics": [{"type": ""}, {"type": "Pods", "resource": {"name": "", "target": {"type": "X"}}},
            {"type": "External", "external": {"metric": {"name": "q"}, "target": {"type": "Value", "value": "1", "averageValue": "0"}}},
            {"type": "ContainerResource", "containerResource": {"name": "gpu", "container": "A", "target": {"type": "Utilization", "averageUtilization": 0}}}],
        "behavior": {"scaleUp": {"stabilizationWindowSeconds": 4000, "selectPolicy": "Any", "tolerance": "-1",
            "policies": [{"type": "Cows", "value": 0, "periodSeconds": 2000}]}}}),
    );
    expect![[r#"
        spec.metrics[0].type: Required value: must specify a metric source type
        spec.metrics[0].type: Unsupported value: "": supported values: "ContainerResource", "External", "Object", "Pods", "Resource"
        spec.metrics[0].type: Unsupported value: "": supported values: "ContainerResource", "External", "Object", "Pods", "Resource"
        spec.metrics[1].resource.name: Required value: must specify a resource name
        spec.metrics[1].resource.target.type: Invalid value: "X": must be either Utilization, Value, or AverageValue
        spec.metrics[1].resource.target.averageUtilization: Required value: must set either a target raw value or a target utilization
        spec.metrics[1].pods: Required value: must populate information for the given metric source
        spec.metrics[2].external.target.averageValue: Invalid value: "0": must be positive
        spec.metrics[2].external.target.value: Forbidden: may not set both a target value for metric and a per-pod target
        spec.metrics[3].containerResource.name: Invalid value: "gpu": must be a standard resource type or fully qualified
        spec.metrics[3].containerResource.name: Invalid value: "gpu": must be a standard resource for containers
        spec.metrics[3].containerResource.container: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
        spec.metrics[3].containerResource.target.averageUtilization: Invalid value: 0: must be greater than 0
        spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: 4000: must be less than or equal to 3600
        spec.behavior.scaleUp.selectPolicy: Unsupported value: "Any": supported values: "Disabled", "Max", "Min"
        spec.behavior.scaleUp.policies[0].type: Unsupported value: "Cows": supported values: "Percent", "Pods"
        spec.behavior.scaleUp.policies[0].value: Invalid value: 0: must be greater than zero
        spec.behavior.scaleUp.policies[0].periodSeconds: Invalid value: 2000: must be less than or equal to 1800
        spec.behavior.scaleUp.tolerance: Invalid value: "-1": must be greater than or equal to 0"#]].assert_eq(&errors("v2", bad));
}

#[test]
fn defaults_and_rows() {
    let object = autoscaler(
        json!({"behavior": {"scaleDown": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}}}),
    );
    let kind = of_version("v2");
    let mut decoded = decode(kind, object);
    kind.prepare_create(&mut *decoded);
    let json = decoded.to_value().unwrap();
    expect![[r#"
        {
          "apiVersion": "autoscaling/v2",
          "kind": "HorizontalPodAutoscaler",
          "metadata": {
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "name": "web"
          },
          "spec": {
            "behavior": {
              "scaleDown": {
                "policies": [
                  {
                    "periodSeconds": 60,
                    "type": "Pods",
                    "value": 1
                  }
                ],
                "selectPolicy": "Max"
              },
              "scaleUp": {
                "policies": [
                  {
                    "periodSeconds": 15,
                    "type": "Pods",
                    "value": 4
                  },
                  {
                    "periodSeconds": 15,
                    "type": "Percent",
                    "value": 100
                  }
                ],
                "selectPolicy": "Max",
                "stabilizationWindowSeconds": 0
              }
            },
            "maxReplicas": 5,
            "metrics": [
              {
                "resource": {
                  "name": "cpu",
                  "target": {
                    "averageUtilization": 80,
                    "type": "Utilization"
                  }
                },
                "type": "Resource"
              }
            ],
            "minReplicas": 1,
            "scaleTargetRef": {
              "apiVersion": "apps/v1",
              "kind": "Deployment",
              "name": "web"
            }
          },
          "status": {
            "currentReplicas": 0,
            "desiredReplicas": 0
          }
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&json).unwrap());
    let mut running = json;
    running["status"] = json!({"currentReplicas": 2, "desiredReplicas": 2, "currentMetrics":
        [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 40, "averageValue": "40m"}}}]});
    running["spec"]["metrics"].as_array_mut().unwrap().extend([
        json!({"type": "Pods", "pods": {"metric": {"name": "q"}, "target": {"type": "AverageValue", "averageValue": "10"}}}),
        json!({"type": "Pods", "pods": {"metric": {"name": "r"}, "target": {"type": "AverageValue", "averageValue": "1"}}}),
    ]);
    let now = "2026-01-02T00:00:00Z".parse().unwrap();
    let cells = kind.row(&*decode(kind, running.clone()), now);
    expect![[r#"["web","Deployment/web","cpu: 40%/80%, <unknown>/10 + 1 more...","1",5,2,"24h"]"#]]
        .assert_eq(&Value::from(cells.clone()).to_string());
    let older = (of_version("v1").hub().unwrap().from)(running);
    let kind = of_version("v1");
    // Utilization of CPU is a field of its own there, and comes last when it is read back.
    let older = kind.row(&*decode(kind, older), now);
    assert_eq!(older[2], "<unknown>/10, <unknown>/1 + 1 more...");
    assert_eq!((&older[..2], &older[3..]), (&cells[..2], &cells[3..]));
}

#[test]
fn nothing_is_lost_in_the_older_version() {
    let hub = of_version("v1").hub().unwrap();
    let object = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web", "annotations": {"a": "b"}},
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "web"}, "minReplicas": 1, "maxReplicas": 5, "metrics": [
            {"type": "Object", "object": {"describedObject": {"kind": "Service", "name": "s"}, "metric": {"name": "m", "selector": {"matchLabels": {"a": "b"}}},
                "target": {"type": "Value", "value": "3"}}},
            {"type": "Pods", "pods": {"metric": {"name": "q"}, "target": {"type": "AverageValue", "averageValue": "10"}}},
            {"type": "ContainerResource", "containerResource": {"name": "memory", "container": "c", "target": {"type": "AverageValue", "averageValue": "1Gi"}}},
            {"type": "External", "external": {"metric": {"name": "e"}, "target": {"type": "AverageValue", "averageValue": "2"}}},
            {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}}],
            "behavior": {"scaleUp": {"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}]}}},
        "status": {"currentReplicas": 1, "desiredReplicas": 2, "conditions": [{"type": "AbleToScale", "status": "True"}],
            "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 40, "averageValue": "40m"}}}]}});
    let older = (hub.from)(object.clone());
    expect![[r#"
        {
          "apiVersion": "autoscaling/v1",
          "kind": "HorizontalPodAutoscaler",
          "metadata": {
            "annotations": {
              "a": "b",
              "autoscaling.alpha.kubernetes.io/behavior": "{\"ScaleUp\":{\"Policies\":[{\"PeriodSeconds\":15,\"Type\":\"Pods\",\"Value\":4}],\"SelectPolicy\":\"Max\",\"StabilizationWindowSeconds\":0}}",
              "autoscaling.alpha.kubernetes.io/conditions": "[{\"status\":\"True\",\"type\":\"AbleToScale\"}]",
              "autoscaling.alpha.kubernetes.io/current-metrics": "[{\"resource\":{\"currentAverageUtilization\":40,\"currentAverageValue\":\"40m\",\"name\":\"cpu\"},\"type\":\"Resource\"}]",
              "autoscaling.alpha.kubernetes.io/metrics": "[{\"object\":{\"metricName\":\"m\",\"selector\":{\"matchLabels\":{\"a\":\"b\"}},\"target\":{\"kind\":\"Service\",\"name\":\"s\"},\"targetValue\":\"3\"},\"type\":\"Object\"},{\"pods\":{\"metricName\":\"q\",\"targetAverageValue\":\"10\"},\"type\":\"Pods\"},{\"containerResource\":{\"container\":\"c\",\"name\":\"memory\",\"targetAverageValue\":\"1Gi\"},\"type\":\"ContainerResource\"},{\"external\":{\"metricName\":\"e\",\"targetAverageValue\":\"2\"},\"type\":\"External\"}]"
            },
            "name": "web"
          },
          "spec": {
            "maxReplicas": 5,
            "minReplicas": 1,
            "scaleTargetRef": {
              "kind": "Deployment",
              "name": "web"
            },
            "targetCPUUtilizationPercentage": 60
          },
          "status": {
            "currentCPUUtilizationPercentage": 40,
            "currentReplicas": 1,
            "desiredReplicas": 2
          }
        }"#]].assert_eq(&serde_json::to_string_pretty(&older).unwrap());
    assert_eq!((hub.to)(older), object);
    let plain = json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web"},
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "web"}, "minReplicas": 1, "maxReplicas": 5, "targetCPUUtilizationPercentage": 50}});
    assert_eq!((hub.from)((hub.to)(plain.clone())), plain);
}

#[test]
fn budgets() {
    check_created(
        "PodDisruptionBudget",
        json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1}}),
        &expect![[r#"
        {
          "metadata": {
            "name": "b"
          },
          "spec": {
            "minAvailable": 1
          },
          "status": {
            "currentHealthy": 0,
            "desiredHealthy": 0,
            "disruptionsAllowed": 0,
            "expectedPods": 0
          }
        }"#]],
    );
    super::check(
        "PodDisruptionBudget",
        &[
            json!({"spec": {"minAvailable": "101%", "maxUnavailable": -1, "unhealthyPodEvictionPolicy": "Never",
            "selector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}}),
        ],
        &expect![[r#"
            spec: Invalid value: {"maxUnavailable":-1,"minAvailable":"101%","selector":{"matchExpressions":[{"key":"a","operator":"In"}]},"unhealthyPodEvictionPolicy":"Never"}: minAvailable and maxUnavailable cannot be both set
            spec.minAvailable: Invalid value: "101%": must not be greater than 100%
            spec.maxUnavailable: Invalid value: -1: must be greater than or equal to 0
            spec.selector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'
            spec.unhealthyPodEvictionPolicy: Unsupported value: "Never": supported values: "AlwaysAllow", "IfHealthyBudget""#]],
    );
    super::check_status(
        "PodDisruptionBudget",
        json!({}),
        json!({"status": {"currentHealthy": -1, "desiredHealthy": 0, "disruptionsAllowed": -2, "expectedPods": 0}}),
        &expect![[r#"
            status.disruptionsAllowed: Invalid value: -2: must be greater than or equal to 0
            status.currentHealthy: Invalid value: -1: must be greater than or equal to 0"#]],
    );
    check_row(
        "PodDisruptionBudget",
        json!({"metadata": {"name": "b"}, "spec": {"maxUnavailable": "25%"}, "status": {"currentHealthy": 1, "desiredHealthy": 0, "disruptionsAllowed": 2, "expectedPods": 0}}),
        &expect![[r#"
            Name: "b"
            Min Available: "N/A"
            Max Unavailable: "25%"
            Allowed Disruptions: 2
            Age: "<unknown>""#]],
    );
}
