use super::*;
use expect_test::{Expect, expect};
use serde_json::{Value, json};

fn range(limits: &Value) -> LimitRange {
    serde_json::from_value(json!({"spec": {"limits": limits}})).unwrap()
}

fn pod(containers: &Value) -> Pod {
    serde_json::from_value(json!({"spec": {"containers": containers}})).unwrap()
}

fn check(range: &LimitRange, pod: &Pod, expected: &Expect) {
    expected.assert_eq(&of_pod(pod, range).join("\n"));
}

#[test]
fn containers_get_what_they_do_not_ask_for() {
    let range = range(&json!([
        {"type": "Container", "default": {"cpu": "200m", "memory": "128Mi"}, "defaultRequest": {"cpu": "100m", "memory": "64Mi"}},
        {"type": "Pod", "default": {"cpu": "9"}},
    ]));
    let mut pod: Pod = serde_json::from_value(json!({"spec": {
        "containers": [{"name": "a"}, {"name": "b", "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "1", "memory": "1Gi"}}}],
        "initContainers": [{"name": "i", "resources": {"limits": {"cpu": "1"}}}],
    }}))
    .unwrap();
    fill_in(&mut pod, &range);
    expect!["LimitRanger plugin set: cpu, memory request for container a; cpu, memory limit for container a; memory request for container b; cpu, memory request for init container i; memory limit for init container i"]
        .assert_eq(&pod.metadata.annotations.as_ref().unwrap()[ANNOTATION]);
    let resources = serde_json::to_value(pod.spec.unwrap().containers).unwrap();
    assert_eq!(
        resources[1]["resources"],
        json!({"requests": {"cpu": "1", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}})
    );
}

#[test]
fn bounds_hold_for_each_container() {
    let range = range(
        &json!([{"type": "Container", "min": {"cpu": "100m"}, "max": {"cpu": "500m", "memory": "1Gi"},
        "maxLimitRequestRatio": {"cpu": "2"}}]),
    );
    check(
        &range,
        &pod(&json!([{"name": "a"}])),
        &expect![[r"
        minimum cpu usage per Container is 100m.  No request is specified
        maximum cpu usage per Container is 500m.  No limit is specified
        maximum memory usage per Container is 1Gi.  No limit is specified
        cpu max limit to request ratio per Container is 2, but no request is specified or request is 0"]],
    );
    check(
        &range,
        &pod(
            &json!([{"name": "a", "resources": {"requests": {"cpu": "50m"}, "limits": {"cpu": "1", "memory": "2Gi"}}}]),
        ),
        &expect![[r"
            minimum cpu usage per Container is 100m, but request is 50m
            maximum cpu usage per Container is 500m, but limit is 1
            maximum memory usage per Container is 1Gi, but limit is 2Gi
            cpu max limit to request ratio per Container is 2, but provided ratio is 20.000000"]],
    );
    check(
        &range,
        &pod(
            &json!([{"name": "a", "resources": {"requests": {"cpu": "200m"}, "limits": {"cpu": "400m", "memory": "1Gi"}}}]),
        ),
        &expect![""],
    );
}

#[test]
fn bounds_hold_for_the_pod_as_a_whole() {
    let range = range(&json!([{"type": "Pod", "max": {"cpu": "1"}}]));
    let half = json!({"requests": {"cpu": "600m"}, "limits": {"cpu": "600m"}});
    check(
        &range,
        &pod(&json!([{"name": "a", "resources": half}, {"name": "b", "resources": half}])),
        &expect!["maximum cpu usage per Pod is 1, but limit is 1200m"],
    );
    check(&range, &pod(&json!([{"name": "a", "resources": half}])), &expect![""]);
}

#[test]
fn claims_have_bounds_too() {
    let range =
        range(&json!([{"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}}]));
    let claim = |storage: &str| -> PersistentVolumeClaim {
        serde_json::from_value(json!({"spec": {"resources": {"requests": {"storage": storage}}}})).unwrap()
    };
    assert_eq!(
        of_claim(&claim("3Gi"), &range),
        ["maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"]
    );
    assert_eq!(
        of_claim(&claim("1Mi"), &range),
        ["minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 1Mi"]
    );
    assert!(of_claim(&claim("1Gi"), &range).is_empty());
}
