//! In-place resize: CPU and memory of containers that run, by `kubectl patch --subresource resize`.

mod common;

use common::{Cluster, have, stdout, until};

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: grow}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: host/tools:v1
    command: [bash, -c, "trap 'exit 0' TERM; while :; do sleep 0.1; done"]
    resources: {requests: {cpu: 100m, memory: 32Mi}, limits: {cpu: 200m, memory: 64Mi}}
  - name: strict
    image: host/tools:v1
    command: [sleep, "1000"]
    resizePolicy: [{resourceName: memory, restartPolicy: RestartContainer}]
    resources: {requests: {cpu: 100m, memory: 32Mi}, limits: {cpu: 200m, memory: 64Mi}}
  - name: wasm
    image: host/hello:v1
    resources: {requests: {cpu: 100m, memory: 32Mi}, limits: {cpu: 200m, memory: 64Mi}}
"#;

fn patch(cluster: &Cluster, container: &str, resources: &str) -> String {
    let patch = format!(r#"{{"spec": {{"containers": [{{"name": "{container}", "resources": {resources}}}]}}}}"#);
    stdout(&mut cluster.kubectl(&["patch", "pod", "grow", "--subresource=resize", "-p", &patch]))
}

fn status(cluster: &Cluster, container: &str, field: &str) -> String {
    cluster.get(
        "pod/grow",
        &format!("{{.status.containerStatuses[?(@.name=={container:?})].{field}}}"),
    )
}

/// The limit the kernel holds to, from inside.
fn memory_limit(cluster: &Cluster, container: &str) -> String {
    let script =
        "head -n1 /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || head -n1 /sys/fs/cgroup/memory.max";
    stdout(&mut cluster.kubectl(&["exec", "grow", "-c", container, "--", "bash", "-c", script]))
        .trim()
        .to_owned()
}

const ALONE: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: grow}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: host/tools:v1
    command: [bash, -c, "trap 'exit 0' TERM; while :; do sleep 0.1; done"]
    resizePolicy: [{resourceName: memory, restartPolicy: RestartContainer}]
    resources: {requests: {cpu: 100m, memory: 32Mi}, limits: {cpu: 200m, memory: 64Mi}}
"#;

/// The first line of one of the files (v1's, v2's) of the pod's own group, as the kernel has it.
fn pod_limit(cluster: &Cluster, v1: &str, v2: &str) -> String {
    let uid = cluster.get("pod/grow", "{.metadata.uid}");
    let group = format!("/catamaran-{}/pod{uid}", cluster.instance());
    let group = catamaran_shim::cgroup::Cgroup::open(&group).expect("a path");
    let read = |dir: &std::path::Path| {
        let text = std::fs::read_to_string(dir.join(v1)).or_else(|_| std::fs::read_to_string(dir.join(v2)));
        text.ok()
    };
    let found = group.dirs().find_map(read).expect("a limit");
    found.split_whitespace().next().unwrap_or_default().to_owned()
}

/// A pod's group bounds its containers': it grows with them, also for one that is started again, and shrinks after them.
#[test]
fn the_pod_as_a_whole_grows_and_shrinks_with_its_container() {
    if !have("kubectl") {
        return;
    }
    let Some(mut cluster) = Cluster::start(&[]) else { return };
    cluster.pack_images();
    cluster.apply(ALONE);
    cluster.wait_for("pod/grow", "condition=Ready");
    let limits = |cluster: &Cluster| {
        let memory = pod_limit(cluster, "memory.limit_in_bytes", "memory.max");
        let cpu = pod_limit(cluster, "cpu.cfs_quota_us", "cpu.max");
        format!("{memory} {cpu}")
    };
    assert_eq!(limits(&cluster), format!("{} 20000", 64 << 20));
    let settled = |cluster: &Cluster, memory: &str, restarts: &str| {
        until("the resize to be in force", || {
            let limit = status(cluster, "main", "resources.limits.memory");
            let conditions = cluster.get("pod/grow", "{.status.conditions[*].type}");
            let over = limit == memory && !conditions.contains("PodResize");
            (over && status(cluster, "main", "restartCount") == restarts).then_some(())
        });
    };
    patch(&cluster, "main", r#"{"limits": {"memory": "128Mi", "cpu": "400m"}}"#);
    settled(&cluster, "128Mi", "1");
    assert_eq!(limits(&cluster), format!("{} 40000", 128 << 20));
    assert_eq!(memory_limit(&cluster, "main"), (128 << 20).to_string());
    patch(&cluster, "main", r#"{"limits": {"memory": "48Mi", "cpu": "150m"}}"#);
    settled(&cluster, "48Mi", "2");
    assert_eq!(limits(&cluster), format!("{} 15000", 48 << 20));

    // What is too much stays too much for the next agent, which takes nothing for granted.
    patch(
        &cluster,
        "main",
        r#"{"limits": {"cpu": "5000"}, "requests": {"cpu": "5000"}}"#,
    );
    let pending = |cluster: &Cluster| {
        cluster.get(
            "pod/grow",
            "{range .status.conditions[?(@.type==\"PodResizePending\")]}{.reason}{end}",
        )
    };
    until("the refusal", || (pending(&cluster) == "Infeasible").then_some(()));
    // Stopped, the pod's processes end; started, it is run again.
    cluster.stop();
    cluster.boot(&[]);
    until("the pod to run again", || {
        (status(&cluster, "main", "restartCount") == "3" && pending(&cluster) == "Infeasible").then_some(())
    });
    assert_eq!(status(&cluster, "main", "allocatedResources.cpu"), "100m");
    assert_eq!(limits(&cluster), format!("{} 15000", 48 << 20));
    cluster.stop();
}

#[test]
fn limits_change_while_containers_run() {
    if !have("kubectl") {
        return;
    }
    let Some(mut cluster) = Cluster::start(&[]) else { return };
    cluster.pack_images();
    cluster.apply(POD);
    cluster.wait_for("pod/grow", "condition=Ready");
    let conditions =
        |cluster: &Cluster| cluster.get("pod/grow", "{range .status.conditions[*]}{.type}={.reason} {end}");
    let settled = |container: &str, memory: &str| {
        until("the resize to be in force", || {
            let limit = status(&cluster, container, "resources.limits.memory");
            (limit == memory && !conditions(&cluster).contains("PodResize")).then_some(())
        });
    };

    // Up, in place: the kernel holds to it, and nothing was started again.
    patch(
        &cluster,
        "main",
        r#"{"limits": {"memory": "128Mi", "cpu": "300m"}, "requests": {"memory": "64Mi"}}"#,
    );
    settled("main", "128Mi");
    assert_eq!(memory_limit(&cluster, "main"), (128 << 20).to_string());
    assert_eq!(status(&cluster, "main", "allocatedResources.memory"), "64Mi");
    assert_eq!(status(&cluster, "main", "restartCount"), "0");
    // And down again.
    patch(&cluster, "main", r#"{"limits": {"memory": "96Mi", "cpu": "150m"}}"#);
    settled("main", "96Mi");
    assert_eq!(memory_limit(&cluster, "main"), (96 << 20).to_string());
    assert_eq!(status(&cluster, "main", "restartCount"), "0");

    // By a restart: where the policy says so, and where a guest's limit is fixed.
    for container in ["strict", "wasm"] {
        patch(&cluster, container, r#"{"limits": {"memory": "80Mi"}}"#);
        settled(container, "80Mi");
        assert_eq!(status(&cluster, container, "restartCount"), "1", "{container}");
    }
    assert_eq!(memory_limit(&cluster, "strict"), (80 << 20).to_string());
    // All of them at once, down: the pod's own group has to wait for the one that is started again.
    let less =
        |name: &str| format!(r#"{{"name": "{name}", "resources": {{"limits": {{"memory": "72Mi", "cpu": "110m"}}}}}}"#);
    let all = ["main", "strict", "wasm"].map(less).join(", ");
    let all = format!(r#"{{"spec": {{"containers": [{all}]}}}}"#);
    stdout(&mut cluster.kubectl(&["patch", "pod", "grow", "--subresource=resize", "-p", &all]));
    for (container, restarts) in [("main", "0"), ("strict", "2"), ("wasm", "2")] {
        settled(container, "72Mi");
        assert_eq!(status(&cluster, container, "restartCount"), restarts, "{container}");
    }
    let (memory, cpu) = (3 * (72 << 20), 3 * 11_000);
    assert_eq!(
        pod_limit(&cluster, "memory.limit_in_bytes", "memory.max"),
        memory.to_string()
    );
    assert_eq!(pod_limit(&cluster, "cpu.cfs_quota_us", "cpu.max"), cpu.to_string());
    patch(&cluster, "main", r#"{"limits": {"memory": "96Mi", "cpu": "150m"}}"#);
    settled("main", "96Mi");

    // Too much for any node of this size: asked for, said, not done; and taken back.
    patch(
        &cluster,
        "main",
        r#"{"requests": {"cpu": "5000"}, "limits": {"cpu": "5000"}}"#,
    );
    until("the refusal", || {
        conditions(&cluster)
            .contains("PodResizePending=Infeasible")
            .then_some(())
    });
    let message = cluster.get(
        "pod/grow",
        "{.status.conditions[?(@.type==\"PodResizePending\")].message}",
    );
    assert!(
        message.starts_with("Node didn't have enough capacity: cpu, requested: 5000"),
        "{message}"
    );
    assert_eq!(status(&cluster, "main", "resources.limits.cpu"), "150m");
    patch(
        &cluster,
        "main",
        r#"{"requests": {"cpu": "100m"}, "limits": {"cpu": "150m"}}"#,
    );
    until("the end of it", || {
        (!conditions(&cluster).contains("PodResize")).then_some(())
    });

    // Less than is in use is not taken away.
    patch(
        &cluster,
        "main",
        r#"{"requests": {"memory": "4Ki"}, "limits": {"memory": "4Ki"}}"#,
    );
    until("the error", || {
        conditions(&cluster).contains("PodResizeInProgress=Error").then_some(())
    });
    patch(
        &cluster,
        "main",
        r#"{"requests": {"memory": "32Mi"}, "limits": {"memory": "96Mi"}}"#,
    );
    settled("main", "96Mi");
    assert_eq!(cluster.get("pod/grow", "{.status.qosClass}"), "Burstable");

    until("the events", || {
        let events = cluster.get("events", "{range .items[*]}{.reason} {end}");
        ["ResizeStarted", "ResizeCompleted", "ResizeInfeasible", "ResizeError"]
            .iter()
            .all(|reason| events.contains(reason))
            .then_some(())
    });
    cluster.stop();
}
