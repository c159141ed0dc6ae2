//! What holds in every world.

use catamaran_scheduler::cluster::{Change, Cluster};
use catamaran_scheduler::cycle::{Decision, decide, decide_by};
use catamaran_scheduler::node::{NodeFacts, NodeView};
use catamaran_scheduler::plugins::{self, Plugin};
use catamaran_scheduler::pod::{PodKey, PodView};
use k8s_openapi::api::core::v1::{Node, Pod};
use proptest::prelude::*;
use serde_json::json;

#[derive(Clone, Copy, Debug)]
struct Size {
    cpu: u32,
    memory: u32,
    slots: u32,
}

fn node(name: usize, size: Size, ssd: bool, tainted: bool, cordoned: bool) -> NodeFacts {
    let taints = if tainted {
        json!([{ "key": "t", "effect": "NoSchedule" }])
    } else {
        json!([])
    };
    let labels = if ssd { json!({ "disk": "ssd" }) } else { json!({}) };
    let Size { cpu, memory, slots } = size;
    let node: Node = serde_json::from_value(json!({
        "metadata": { "name": format!("n{name}"), "labels": labels },
        "spec": { "taints": taints, "unschedulable": cordoned },
        "status": { "allocatable": {
            "cpu": format!("{cpu}m"), "memory": memory.to_string(), "pods": slots.to_string(),
        }},
    }))
    .expect("a node");
    NodeFacts::new(&node).expect("named")
}

fn small(name: usize, cpu: u32) -> NodeFacts {
    let size = Size {
        cpu,
        memory: 100,
        slots: 1,
    };
    node(name, size, false, false, false)
}

fn pod(name: usize, cpu: u32, memory: u32, port: Option<u32>, ssd: bool, tolerates: bool) -> PodView {
    let ports = port.map_or(
        json!([]),
        |port| json!([{ "containerPort": 80, "hostPort": 8_000 + port }]),
    );
    let selector = if ssd { json!({ "disk": "ssd" }) } else { json!({}) };
    let tolerations = if tolerates {
        json!([{ "operator": "Exists" }])
    } else {
        json!([])
    };
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": format!("p{name}"), "namespace": "default", "uid": format!("uid-{name}") },
        "spec": {
            "nodeSelector": selector,
            "tolerations": tolerations,
            "containers": [{
                "name": "c", "ports": ports,
                "resources": { "requests": { "cpu": format!("{cpu}m"), "memory": memory.to_string() } },
            }],
        },
    }))
    .expect("a pod");
    PodView::new(&pod).expect("named")
}

fn nodes() -> impl Strategy<Value = Vec<NodeFacts>> {
    let size = (0..2_000_u32, 0..2_000_u32, 0..6_u32).prop_map(|(cpu, memory, slots)| Size { cpu, memory, slots });
    let facts = (size, any::<bool>(), any::<bool>(), prop::bool::weighted(0.2));
    prop::collection::vec(facts, 0..6).prop_map(|all| {
        let numbered = all.into_iter().enumerate();
        numbered
            .map(|(name, (size, ssd, tainted, cordoned))| node(name, size, ssd, tainted, cordoned))
            .collect()
    })
}

fn pods() -> impl Strategy<Value = Vec<PodView>> {
    let needs = (
        0..1_000_u32,
        0..1_000_u32,
        prop::option::weighted(0.3, 0..3_u32),
        prop::bool::weighted(0.3),
        any::<bool>(),
    );
    prop::collection::vec(needs, 0..30).prop_map(|all| {
        let numbered = all.into_iter().enumerate();
        numbered
            .map(|(name, (cpu, memory, port, ssd, tolerates))| pod(name, cpu, memory, port, ssd, tolerates))
            .collect()
    })
}

fn feasible(order: &[&dyn Plugin], cluster: &Cluster, pod: &PodView) -> Vec<String> {
    let snapshot = cluster.snapshot();
    let fits = |node: &&NodeView| order.iter().all(|plugin| plugin.filter(pod, node).is_ok());
    snapshot
        .nodes()
        .filter(fits)
        .map(|node| node.facts.name.clone())
        .collect()
}

/// Decides on all pods in turn and assumes each decision.
fn place_all(cluster: &mut Cluster, pods: &[PodView]) -> Vec<(PodKey, String)> {
    let mut placed = Vec::new();
    for (tie, pod) in pods.iter().enumerate() {
        cluster.set_pod(pod.clone());
        if let Decision::Place { node } = decide(&cluster.snapshot(), pod, tie) {
            cluster.assume(&pod.key, &node);
            placed.push((pod.key.clone(), node));
        }
    }
    placed
}

proptest! {
    #[test]
    fn nodes_are_never_overcommitted(nodes in nodes(), pods in pods()) {
        let mut cluster = Cluster::default();
        for facts in nodes {
            cluster.set_node(facts);
        }
        place_all(&mut cluster, &pods);
        for node in cluster.snapshot().nodes() {
            let (used, there) = (&node.requested, &node.facts.allocatable);
            prop_assert!(used.milli_cpu <= there.milli_cpu && used.memory <= there.memory);
            prop_assert!(node.pods <= node.facts.pod_slots);
            let mut ports: Vec<i32> = node.host_ports.iter().map(|port| port.port).collect();
            ports.sort_unstable();
            let all = ports.len();
            ports.dedup();
            prop_assert_eq!(ports.len(), all, "a port was given twice");
        }
    }

    #[test]
    fn filters_do_not_depend_on_their_order(
        nodes in nodes(),
        pods in pods(),
        shuffled in Just((0..plugins::ALL.len()).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let order: Vec<&dyn Plugin> = shuffled.into_iter().map(|index| plugins::ALL[index]).collect();
        let mut cluster = Cluster::default();
        for facts in nodes {
            cluster.set_node(facts);
        }
        for pod in &pods {
            prop_assert_eq!(feasible(&order, &cluster, pod), feasible(plugins::ALL, &cluster, pod));
            prop_assert_eq!(
                matches!(decide_by(&order, &cluster.snapshot(), pod, 0), Decision::Place { .. }),
                matches!(decide(&cluster.snapshot(), pod, 0), Decision::Place { .. })
            );
            place_all(&mut cluster, std::slice::from_ref(pod));
        }
    }

    /// A decision is always for a node that every filter accepts, whatever the scores say.
    #[test]
    fn decisions_are_feasible_and_found_when_there_are_any(nodes in nodes(), pods in pods(), tie in any::<usize>()) {
        let mut cluster = Cluster::default();
        for facts in nodes {
            cluster.set_node(facts);
        }
        for pod in &pods {
            let candidates = feasible(plugins::ALL, &cluster, pod);
            match decide(&cluster.snapshot(), pod, tie) {
                Decision::Place { node } => prop_assert!(candidates.contains(&node)),
                Decision::Unschedulable { .. } => prop_assert!(candidates.is_empty()),
            }
            place_all(&mut cluster, std::slice::from_ref(pod));
        }
    }

    /// Whatever order nodes come in, and whoever leaves again, the books balance.
    #[test]
    fn removing_pods_leaves_the_nodes_as_they_were(nodes in nodes(), pods in pods(), late in any::<bool>()) {
        let mut cluster = Cluster::default();
        for facts in &nodes {
            cluster.set_node(facts.clone());
        }
        let empty: Vec<NodeView> = cluster.snapshot().nodes().cloned().collect();
        let placed = place_all(&mut cluster, &pods);
        if late {
            let before: Vec<NodeView> = cluster.snapshot().nodes().cloned().collect();
            for facts in &nodes {
                cluster.remove_node(&facts.name);
                cluster.set_node(facts.clone());
            }
            for (before, after) in before.iter().zip(cluster.snapshot().nodes()) {
                prop_assert_eq!((&before.requested, before.pods), (&after.requested, after.pods), "a node that comes back finds its pods");
            }
        }
        for (index, (key, _)) in placed.iter().enumerate() {
            if index % 2 == 0 {
                prop_assert_eq!(cluster.forget(key, &format!("uid-{}", &key.name[1..])), Change::Hope);
            }
            cluster.remove_pod(key);
        }
        let after: Vec<NodeView> = cluster.snapshot().nodes().cloned().collect();
        prop_assert_eq!(after, empty);
    }
}

#[test]
fn a_heartbeat_gives_no_hope() {
    let mut cluster = Cluster::default();
    assert_eq!(cluster.set_node(small(1, 100)), Change::Hope);
    assert_eq!(cluster.set_node(small(1, 100)), Change::None);
    assert_eq!(cluster.set_node(small(1, 200)), Change::Hope);
}

#[test]
fn the_watch_corrects_an_assumption() {
    let mut cluster = Cluster::default();
    cluster.set_node(small(1, 100));
    cluster.set_node(small(2, 100));
    let waiting = pod(1, 50, 50, None, false, false);
    cluster.set_pod(waiting.clone());
    cluster.assume(&waiting.key, "n1");
    let used = |cluster: &Cluster| cluster.snapshot().nodes().map(|node| node.pods).collect::<Vec<_>>();
    cluster.set_pod(waiting.clone());
    assert_eq!(used(&cluster), [1, 0], "an old view of the pod does not undo it");
    let placed = PodView {
        node_name: Some("n2".to_owned()),
        ..waiting.clone()
    };
    assert_eq!(cluster.set_pod(placed), Change::Hope);
    assert_eq!(used(&cluster), [0, 1]);
    assert_eq!(
        cluster.forget(&waiting.key, &waiting.uid),
        Change::None,
        "what the watch showed stays"
    );
    assert_eq!(used(&cluster), [0, 1]);
}
