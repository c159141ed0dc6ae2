//! Worlds in, decisions out: nodes and placed pods, then the pods to place, one after the other, each counted where it
//! went before the next is decided on.

use catamaran_scheduler::cluster::Cluster;
use catamaran_scheduler::cycle::{Decision, decide};
use catamaran_scheduler::node::NodeFacts;
use catamaran_scheduler::pod::PodView;
use expect_test::{Expect, expect};
use k8s_openapi::api::core::v1::{Node, Pod};
use serde::Deserialize;
use std::fmt::Write;

#[derive(Deserialize)]
struct World {
    #[serde(default)]
    nodes: Vec<Node>,
    #[serde(default)]
    placed: Vec<Pod>,
    pods: Vec<Pod>,
}

fn check(world: &str, expected: &Expect) {
    let world: World = serde_yaml::from_str(world).expect("a world");
    let mut cluster = Cluster::default();
    for node in &world.nodes {
        cluster.set_node(NodeFacts::new(node).expect("a node"));
    }
    for pod in &world.placed {
        cluster.set_pod(PodView::new(pod).expect("a pod"));
    }
    let mut text = String::new();
    for pod in &world.pods {
        let pod = PodView::new(pod).expect("a pod");
        let key = pod.key.clone();
        let decision = decide(&cluster.snapshot(), &pod, 0);
        cluster.set_pod(pod);
        match decision {
            Decision::Place { node } => {
                cluster.assume(&key, &node);
                writeln!(text, "{} → {node}", key.name).expect("write");
            }
            Decision::Unschedulable { message } => writeln!(text, "{}: {message}", key.name).expect("write"),
        }
    }
    expected.assert_eq(&text);
}

#[test]
fn without_nodes() {
    check(
        "{pods: [{metadata: {name: p}, spec: {containers: []}}]}",
        &expect![[r#"
            p: no nodes available to schedule pods
        "#]],
    );
}

#[test]
fn pods_fill_a_node_until_something_is_short() {
    check(
        "
nodes:
- {metadata: {name: a}, status: {allocatable: {cpu: '1', memory: 1Gi, pods: '3', ephemeral-storage: 1Gi, example.com/gpu: '1'}}}
pods:
- {metadata: {name: cpu}, spec: {containers: [{name: c, resources: {requests: {cpu: 600m}}}]}}
- {metadata: {name: more-cpu}, spec: {containers: [{name: c, resources: {requests: {cpu: 600m, memory: 2Gi}}}]}}
- {metadata: {name: gpu}, spec: {containers: [{name: c, resources: {requests: {example.com/gpu: 1}}}]}}
- {metadata: {name: gpu-again}, spec: {containers: [{name: c, resources: {requests: {example.com/gpu: 1}}}]}}
- {metadata: {name: storage}, spec: {containers: [{name: c, resources: {requests: {ephemeral-storage: 2Gi}}}]}}
- {metadata: {name: small}, spec: {containers: [{name: c}]}}
- {metadata: {name: one-too-many}, spec: {containers: [{name: c}]}}
",
        &expect![[r#"
            cpu → a
            more-cpu: 0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory. no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.
            gpu → a
            gpu-again: 0/1 nodes are available: 1 Insufficient example.com/gpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.
            storage: 0/1 nodes are available: 1 Insufficient ephemeral-storage. no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.
            small → a
            one-too-many: 0/1 nodes are available: 1 Too many pods. no new claims to deallocate, preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.
        "#]],
    );
}

#[test]
fn every_node_says_why_not() {
    check(
        "
nodes:
- {metadata: {name: control}, spec: {taints: [{key: node-role.kubernetes.io/control-plane, effect: NoSchedule}]}, status: {allocatable: {cpu: '8', memory: 8Gi, pods: '110'}}}
- {metadata: {name: cordoned}, spec: {unschedulable: true}, status: {allocatable: {cpu: '8', memory: 8Gi, pods: '110'}}}
- {metadata: {name: full-1, labels: {disk: ssd}}, status: {allocatable: {cpu: '2', memory: 8Gi, pods: '110'}}}
- {metadata: {name: full-2, labels: {disk: ssd}}, status: {allocatable: {cpu: '2', memory: 8Gi, pods: '110'}}}
- {metadata: {name: other}, status: {allocatable: {cpu: '8', memory: 8Gi, pods: '110'}}}
placed:
- {metadata: {name: x}, spec: {nodeName: full-1, containers: [{name: c, resources: {requests: {cpu: '1'}}}]}}
- {metadata: {name: y}, spec: {nodeName: full-2, containers: [{name: c, resources: {requests: {cpu: '1'}}}]}}
pods:
- {metadata: {name: p}, spec: {nodeSelector: {disk: ssd}, containers: [{name: c, resources: {requests: {cpu: 1500m}}}]}}
- {metadata: {name: never-preempts}, spec: {preemptionPolicy: Never, nodeSelector: {disk: ssd}, containers: [{name: c, resources: {requests: {cpu: 1500m}}}]}}
- {metadata: {name: far-too-big}, spec: {containers: [{name: c, resources: {requests: {cpu: '64', memory: 100Gi}}}]}}
",
        &expect![[r#"
            p: 0/5 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable, 2 Insufficient cpu. no new claims to deallocate, preemption: 0/5 nodes are available: 2 No preemption victims found for incoming pod, 3 Preemption is not helpful for scheduling.
            never-preempts: 0/5 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable, 2 Insufficient cpu. no new claims to deallocate, preemption: not eligible due to preemptionPolicy=Never.
            far-too-big: 0/5 nodes are available: 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable, 3 Insufficient cpu, 3 Insufficient memory. no new claims to deallocate, preemption: 0/5 nodes are available: 5 Preemption is not helpful for scheduling.
        "#]],
    );
}

#[test]
fn affinity_operators() {
    check(
        "
nodes:
- {metadata: {name: a, labels: {zone: east, cores: '4'}}, status: {allocatable: {pods: '9'}}}
- {metadata: {name: b, labels: {zone: west, cores: '16'}}, status: {allocatable: {pods: '9'}}}
- {metadata: {name: c}, status: {allocatable: {pods: '9'}}}
pods:
- {metadata: {name: in}, spec: {containers: [], affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: zone, operator: In, values: [west, north]}]}]}}}}}
- {metadata: {name: not-in}, spec: {containers: [], affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: zone, operator: NotIn, values: [east, west]}]}]}}}}}
- {metadata: {name: exists}, spec: {containers: [], affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: zone, operator: Exists}, {key: cores, operator: Lt, values: ['5']}]}]}}}}}
- {metadata: {name: does-not-exist}, spec: {containers: [], affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: zone, operator: DoesNotExist}]}]}}}}}
- {metadata: {name: gt}, spec: {containers: [], affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: cores, operator: Gt, values: ['5']}]}]}}}}}
- {metadata: {name: gt-none}, spec: {containers: [], affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: cores, operator: Gt, values: ['16']}]}]}}}}}
- {metadata: {name: by-name}, spec: {containers: [], affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchFields: [{key: metadata.name, operator: In, values: [c]}]}]}}}}}
- {metadata: {name: by-missing-name}, spec: {containers: [], affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchFields: [{key: metadata.name, operator: In, values: [gone]}]}]}}}}}
- {metadata: {name: alternatives}, spec: {containers: [], affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: zone, operator: In, values: [moon]}]}, {matchFields: [{key: metadata.name, operator: NotIn, values: [a, c]}]}]}}}}}
- {metadata: {name: empty-term}, spec: {containers: [], affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{}]}}}}}
- {metadata: {name: selector-and-affinity}, spec: {containers: [], nodeSelector: {zone: east}, affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: cores, operator: Exists}]}]}}}}}
",
        &expect![[r#"
            in → b
            not-in → c
            exists → a
            does-not-exist → c
            gt → b
            gt-none: 0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector. no new claims to deallocate, preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.
            by-name → c
            by-missing-name: 0/3 nodes are available: 3 node(s) didn't satisfy plugin(s) [NodeAffinity]. no new claims to deallocate, preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.
            alternatives → b
            empty-term: 0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector. no new claims to deallocate, preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.
            selector-and-affinity → a
        "#]],
    );
}

#[test]
fn taints_and_tolerations() {
    check(
        "
nodes:
- {metadata: {name: tainted}, spec: {taints: [{key: team, value: red, effect: NoSchedule}, {key: old, effect: NoExecute}]}, status: {allocatable: {pods: '9'}}}
- {metadata: {name: cordoned}, spec: {unschedulable: true, taints: [{key: node.kubernetes.io/unschedulable, effect: NoSchedule}]}, status: {allocatable: {pods: '9'}}}
pods:
- {metadata: {name: none}, spec: {containers: []}}
- {metadata: {name: one-of-two}, spec: {containers: [], tolerations: [{key: team, value: red}]}}
- {metadata: {name: other-value}, spec: {containers: [], tolerations: [{key: team, operator: Equal, value: blue}, {key: old, operator: Exists}]}}
- {metadata: {name: other-effect}, spec: {containers: [], tolerations: [{key: team, operator: Exists, effect: NoExecute}, {key: old, operator: Exists}]}}
- {metadata: {name: both}, spec: {containers: [], tolerations: [{key: team, value: red, effect: NoSchedule}, {key: old, operator: Exists}]}}
- {metadata: {name: cordon}, spec: {containers: [], tolerations: [{key: node.kubernetes.io/unschedulable, operator: Exists, effect: NoSchedule}]}}
- {metadata: {name: everything}, spec: {containers: [], tolerations: [{operator: Exists}]}}
",
        &expect![[r#"
            none: 0/2 nodes are available: 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable. no new claims to deallocate, preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.
            one-of-two: 0/2 nodes are available: 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable. no new claims to deallocate, preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.
            other-value: 0/2 nodes are available: 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable. no new claims to deallocate, preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.
            other-effect: 0/2 nodes are available: 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable. no new claims to deallocate, preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.
            both → tainted
            cordon → cordoned
            everything → cordoned
        "#]],
    );
}

#[test]
fn host_ports_are_had_once_per_node() {
    check(
        "
nodes:
- {metadata: {name: a}, status: {allocatable: {pods: '9'}}}
pods:
- {metadata: {name: first}, spec: {containers: [{name: c, ports: [{containerPort: 80, hostPort: 80}]}]}}
- {metadata: {name: second}, spec: {containers: [{name: c, ports: [{containerPort: 80, hostPort: 80, hostIP: 10.0.0.1}]}]}}
- {metadata: {name: udp}, spec: {containers: [{name: c, ports: [{containerPort: 80, hostPort: 80, protocol: UDP}]}]}}
- {metadata: {name: two-addresses-1}, spec: {containers: [{name: c, ports: [{containerPort: 81, hostPort: 81, hostIP: 10.0.0.1}]}]}}
- {metadata: {name: two-addresses-2}, spec: {containers: [{name: c, ports: [{containerPort: 81, hostPort: 81, hostIP: 10.0.0.2}]}]}}
",
        &expect![[r#"
            first → a
            second: 0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports. no new claims to deallocate, preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.
            udp → a
            two-addresses-1 → a
            two-addresses-2 → a
        "#]],
    );
}

#[test]
fn scores_spread_balance_and_prefer() {
    check(
        "
nodes:
- {metadata: {name: a, labels: {disk: ssd}}, status: {allocatable: {cpu: '4', memory: 8Gi, pods: '9'}}}
- {metadata: {name: b}, status: {allocatable: {cpu: '4', memory: 8Gi, pods: '9'}}}
- {metadata: {name: shunned}, spec: {taints: [{key: slow, effect: PreferNoSchedule}]}, status: {allocatable: {cpu: '64', memory: 64Gi, pods: '9'}}}
pods:
- {metadata: {name: spread-1}, spec: {containers: [{name: c, resources: {requests: {cpu: '1', memory: 1Gi}}}]}}
- {metadata: {name: spread-2}, spec: {containers: [{name: c, resources: {requests: {cpu: '1', memory: 1Gi}}}]}}
- {metadata: {name: cpu-heavy}, spec: {containers: [{name: c, resources: {requests: {cpu: '2'}}}]}}
- {metadata: {name: memory-heavy}, spec: {containers: [{name: c, resources: {requests: {cpu: 10m, memory: 2Gi}}}]}}
- {metadata: {name: prefers-ssd}, spec: {containers: [], affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 10, preference: {matchExpressions: [{key: disk, operator: In, values: [ssd]}]}}]}}}}
- {metadata: {name: does-not-mind}, spec: {containers: [], tolerations: [{key: slow, operator: Exists}]}}
",
        &expect![[r#"
            spread-1 → a
            spread-2 → b
            cpu-heavy → a
            memory-heavy → b
            prefers-ssd → a
            does-not-mind → shunned
        "#]],
    );
}

#[test]
fn unasked_resources_spread_too() {
    check(
        "
nodes:
- {metadata: {name: a}, status: {allocatable: {cpu: '4', memory: 8Gi, pods: '9'}}}
- {metadata: {name: b}, status: {allocatable: {cpu: '4', memory: 8Gi, pods: '9'}}}
- {metadata: {name: c}, status: {allocatable: {cpu: '4', memory: 8Gi, pods: '9'}}}
pods:
- {metadata: {name: p1}, spec: {containers: [{name: c}]}}
- {metadata: {name: p2}, spec: {containers: [{name: c}]}}
- {metadata: {name: p3}, spec: {containers: [{name: c}]}}
- {metadata: {name: p4}, spec: {containers: [{name: c}]}}
",
        &expect![[r#"
            p1 → a
            p2 → b
            p3 → c
            p4 → a
        "#]],
    );
}
