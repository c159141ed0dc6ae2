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
