use super::*;
use expect_test::{Expect, expect};
use serde_json::{Value, json};

fn pod(value: Value) -> Pod {
    serde_json::from_value(value).unwrap()
}

fn show(amounts: &Amounts) -> String {
    let each: Vec<String> = amounts
        .iter()
        .map(|(name, quantity)| format!("{name}={quantity}"))
        .collect();
    each.join(" ")
}

fn check_usage(counter: &Counter, subject: Subject<'_>, expected: &Expect) {
    let now = "2026-01-01T00:01:00Z".parse().unwrap();
    expected.assert_eq(&show(&counter.usage(subject, now)));
}

#[test]
fn pods_are_charged_for_what_they_ask_for_until_they_end() {
    let counter = Counter::of("", "pods");
    let mut value = json!({"spec": {
        "overhead": {"cpu": "10m", "memory": "1Mi"},
        "containers": [
            {"name": "a", "resources": {
                "requests": {"cpu": "100m", "memory": "1Gi", "example.com/gpu": "2", "hugepages-2Mi": "4Mi"},
                "limits": {"cpu": "1", "example.com/gpu": "2"}}},
            {"name": "b", "resources": {"requests": {"cpu": "0.5", "ephemeral-storage": "1G"}}},
        ],
        "initContainers": [
            {"name": "side", "restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}},
            {"name": "once", "resources": {"requests": {"cpu": "2", "memory": "1Gi"}}},
        ],
    }});
    check_usage(
        &counter,
        Subject::Pod(&pod(value.clone())),
        &expect![
            "count/pods=1 cpu=3010m ephemeral-storage=1G hugepages-2Mi=4Mi limits.cpu=1010m memory=1025Mi pods=1 requests.cpu=3010m requests.ephemeral-storage=1G requests.example.com/gpu=2 requests.hugepages-2Mi=4Mi requests.memory=1025Mi"
        ],
    );
    value["spec"]["resources"] = json!({"requests": {"cpu": "4", "example.com/gpu": "9"}});
    value["status"] = json!({"phase": "Running"});
    check_usage(
        &counter,
        Subject::Pod(&pod(value.clone())),
        &expect![
            "count/pods=1 cpu=4010m ephemeral-storage=1G hugepages-2Mi=4Mi limits.cpu=1010m memory=1025Mi pods=1 requests.cpu=4010m requests.ephemeral-storage=1G requests.example.com/gpu=2 requests.hugepages-2Mi=4Mi requests.memory=1025Mi"
        ],
    );
    value["status"] = json!({"phase": "Failed"});
    check_usage(&counter, Subject::Pod(&pod(value.clone())), &expect!["count/pods=1"]);
    value["status"] = json!({});
    value["metadata"] = json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 30});
    check_usage(&counter, Subject::Pod(&pod(value)), &expect!["count/pods=1"]);
}

#[test]
fn a_resize_is_charged_for_the_larger_of_wish_and_grant() {
    let counting = Counting {
        overhead: false,
        status: true,
    };
    let resized = pod(json!({
        "spec": {"containers": [{"name": "a", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}]},
        "status": {"containerStatuses": [{"name": "a", "image": "", "imageID": "", "ready": true, "restartCount": 0,
            "allocatedResources": {"cpu": "2"}, "resources": {"requests": {"memory": "2Gi"}}}]},
    }));
    assert_eq!(show(&pod_requests(&resized, counting)), "cpu=2 memory=2Gi");
    assert_eq!(show(&pod_requests(&resized, Counting::default())), "cpu=1 memory=1Gi");
}

#[test]
fn a_resize_that_is_never_granted_is_not_charged() {
    let counting = Counting {
        overhead: false,
        status: true,
    };
    let mut value = json!({
        "spec": {"containers": [{"name": "a", "resources": {"requests": {"cpu": "100"}, "limits": {"cpu": "200"}}}]},
        "status": {
            "conditions": [{"type": "PodResizePending", "status": "True", "reason": "Infeasible"}],
            "containerStatuses": [{"name": "a", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                "allocatedResources": {"cpu": "1"}, "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "3"}}}],
        },
    });
    let resized = pod(value.clone());
    assert_eq!(show(&pod_requests(&resized, counting)), "cpu=2");
    assert_eq!(show(&pod_limits(&resized, counting)), "cpu=3");
    value["status"]["conditions"][0]["reason"] = json!("Deferred");
    assert_eq!(show(&pod_requests(&pod(value), counting)), "cpu=100");
}

#[test]
fn bounded_cpu_and_memory_have_to_be_stated() {
    let counter = Counter::of("", "pods");
    let stating = pod(json!({"spec": {"containers": [
        {"name": "b", "resources": {"requests": {"cpu": "1"}}},
        {"name": "a", "resources": {"limits": {"memory": "1"}}},
    ]}}));
    let bounded = ["limits.memory", "pods", "requests.cpu", "requests.ephemeral-storage"];
    assert_eq!(
        counter.check_stated(bounded.into_iter(), Subject::Pod(&stating)),
        Err("must specify limits.memory for: b; requests.cpu for: a".to_owned())
    );
    assert_eq!(
        counter.check_stated(["pods"].into_iter(), Subject::Pod(&stating)),
        Ok(())
    );
}

#[test]
fn claims_are_charged_to_their_class_too() {
    let claim: PersistentVolumeClaim = serde_json::from_value(json!({
        "spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1Gi"}}},
        "status": {"allocatedResources": {"storage": "2Gi"}},
    }))
    .unwrap();
    let counter = Counter::of("", "persistentvolumeclaims");
    check_usage(
        &counter,
        Subject::Claim(&claim),
        &expect![
            "count/persistentvolumeclaims=1 gold.storageclass.storage.k8s.io/persistentvolumeclaims=1 gold.storageclass.storage.k8s.io/requests.storage=2Gi persistentvolumeclaims=1 requests.storage=2Gi"
        ],
    );
    assert!(counter.counts("x.storageclass.storage.k8s.io/requests.storage"));
    assert!(!counter.counts("x.storageclass.storage.k8s.io/limits.storage"));
}

#[test]
fn services_are_charged_for_ports_on_nodes() {
    let counter = Counter::of("", "services");
    let service = |spec: Value| -> Service { serde_json::from_value(json!({ "spec": spec })).unwrap() };
    let plain = service(json!({"ports": [{"port": 1}]}));
    check_usage(
        &counter,
        Subject::Service(&plain),
        &expect!["count/services=1 services=1 services.loadbalancers=0 services.nodeports=0"],
    );
    let balanced = service(json!({"type": "LoadBalancer", "ports": [{"port": 1}, {"port": 2}]}));
    check_usage(
        &counter,
        Subject::Service(&balanced),
        &expect!["count/services=1 services=1 services.loadbalancers=1 services.nodeports=2"],
    );
    let frugal = service(json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false,
        "ports": [{"port": 1}, {"port": 2, "nodePort": 30000}]}));
    check_usage(
        &counter,
        Subject::Service(&frugal),
        &expect!["count/services=1 services=1 services.loadbalancers=1 services.nodeports=1"],
    );
}

#[test]
fn everything_else_is_counted() {
    check_usage(
        &Counter::of("apps", "deployments"),
        Subject::Other,
        &expect!["count/deployments.apps=1"],
    );
    check_usage(
        &Counter::of("", "secrets"),
        Subject::Other,
        &expect!["count/secrets=1 secrets=1"],
    );
    assert!(Counter::of("", "secrets").counts("secrets"));
    assert!(!Counter::of("apps", "deployments").counts("deployments.apps"));
}

#[test]
fn names_find_their_counter() {
    let pods = Counter::of("", "pods");
    for name in [
        "pods",
        "count/pods",
        "cpu",
        "limits.memory",
        "requests.example.com/gpu",
        "hugepages-2Mi",
        "requests.hugepages-1Gi",
    ] {
        assert!(pods.counts(name), "{name}");
    }
    for name in [
        "requests.storage",
        "services",
        "limits.example.com/gpu",
        "example.com/gpu",
    ] {
        assert!(!pods.counts(name), "{name}");
    }
}

#[test]
fn scopes_choose_pods() {
    let counter = Counter::of("", "pods");
    let scope = |name: &str, operator: &str, values: &[&str]| Scope {
        name: name.to_owned(),
        operator: operator.to_owned(),
        values: values.iter().map(ToString::to_string).collect(),
    };
    let plain = pod(json!({"spec": {"containers": [{"name": "a"}]}}));
    let rich = pod(
        json!({"spec": {"containers": [{"name": "a", "resources": {"requests": {"cpu": "1"}}}],
        "activeDeadlineSeconds": 5, "priorityClassName": "high",
        "affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "x", "namespaceSelector": {}}]}}}}),
    );
    for (scope, of_plain, of_rich) in [
        (scope("Terminating", "Exists", &[]), false, true),
        (scope("NotTerminating", "Exists", &[]), true, false),
        (scope("BestEffort", "Exists", &[]), true, false),
        (scope("NotBestEffort", "Exists", &[]), false, true),
        (scope("PriorityClass", "Exists", &[]), false, true),
        (scope("PriorityClass", "DoesNotExist", &[]), true, false),
        (scope("PriorityClass", "In", &["high", "low"]), false, true),
        (scope("PriorityClass", "NotIn", &["high"]), true, false),
        (scope("CrossNamespacePodAffinity", "Exists", &[]), false, true),
    ] {
        let scopes = [scope];
        assert_eq!(counter.in_scopes(&scopes, Subject::Pod(&plain)), of_plain, "{scopes:?}");
        assert_eq!(counter.in_scopes(&scopes, Subject::Pod(&rich)), of_rich, "{scopes:?}");
    }
    assert!(!Counter::of("", "secrets").in_scopes(&[scope("BestEffort", "Exists", &[])], Subject::Other));
}
