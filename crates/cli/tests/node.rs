//! What the node does for pods beside running them: images they hold, limits on their volumes, what they see of the host.

mod common;

use common::{Cluster, http_get, stdout, until};

fn cluster() -> Option<Cluster> {
    let cluster = Cluster::start(&[])?;
    cluster.pack_images();
    Some(cluster)
}

#[test]
fn an_image_in_use_can_be_removed_by_name_only() {
    let Some(mut cluster) = cluster() else { return };
    cluster.apply(
        r#"
{apiVersion: v1, kind: Pod, metadata: {name: linux}, spec: {terminationGracePeriodSeconds: 1, containers: [{name: c,
  image: 'host/tools:v1', command: [bash, -c, 'while [[ ! -e /stop ]]; do read -rt 0.1 <> <(:); done']}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: wasm}, spec: {containers: [{name: c, image: 'host/hello:v1'}]}}
"#,
    );
    for (pod, image) in [("pod/linux", "host/tools:v1"), ("pod/wasm", "host/hello:v1")] {
        cluster.wait_for(pod, "condition=Ready");
        stdout(&mut cluster.cata(&["image", "rm", image]));
    }
    assert!(!stdout(&mut cluster.cata(&["image", "ls"])).contains("host/"));
    // What keeps them must not be the agent's memory.
    cluster.dev().signal(rustix::process::Signal::KILL);
    cluster.dev().wait();
    cluster.boot(&[]);
    let ip = cluster.get("pod/wasm", "{.status.podIP}");
    assert!(http_get(&ip, 8080, "/").expect("answer").starts_with("HTTP/1.1 200"));
    stdout(&mut cluster.cata(&["exec", "linux", "--", "touch", "/stop"]));
    cluster.wait_for("pod/linux", "jsonpath={.status.containerStatuses[0].restartCount}=1");
    cluster.wait_for("pod/linux", "condition=Ready");
    stdout(&mut cluster.cata(&["delete", "pods", "--all"]));
    cluster.stop();
    let leases = cluster.data_dir().join("images/leases");
    assert_eq!(std::fs::read_dir(leases).expect("readable").count(), 0);
}

#[test]
fn a_pod_whose_record_is_lost_runs_on() {
    let Some(mut cluster) = cluster() else { return };
    cluster.apply(
        r#"
{apiVersion: v1, kind: Pod, metadata: {name: c}, spec: {terminationGracePeriodSeconds: 1, containers: [{name: c,
  image: 'host/tools:v1', command: [sleep, '1000']}]}}
"#,
    );
    cluster.wait_for("pod/c", "condition=Ready");
    let id = "{.status.containerStatuses[*].containerID}";
    let (before, uid) = (cluster.get("pod/c", id), cluster.get("pod/c", "{.metadata.uid}"));
    cluster.dev().signal(rustix::process::Signal::KILL);
    cluster.dev().wait();
    let run_dir = catamaran_shim::run_base().join(format!("catamaran-{}", cluster.instance()));
    let record = run_dir.join("pods").join(uid).join("node.json");
    let whole = std::fs::metadata(&record).expect("a record").len();
    std::fs::write(&record, "{").expect("cut off");
    cluster.boot(&[]);
    // The API server remembers what the record said.
    until("the record to be written again", || {
        let length = std::fs::metadata(&record).map_or(0, |record| record.len());
        (length >= whole / 2).then_some(())
    });
    stdout(&mut cluster.cata(&["exec", "c", "--", "true"]));
    assert_eq!(cluster.get("pod/c", id), before);
    stdout(&mut cluster.cata(&["delete", "pods", "--all"]));
    cluster.stop();
}

#[test]
fn a_volume_beyond_its_limit_evicts_the_pod() {
    let Some(mut cluster) = cluster() else { return };
    cluster.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: greedy}
spec:
  volumes: [{name: scratch, emptyDir: {sizeLimit: 1Mi}}]
  containers:
  - name: c
    image: host/tools:v1
    volumeMounts: [{name: scratch, mountPath: /scratch}]
    command: [bash, -c, 'dd if=/dev/zero of=/scratch/x bs=1M count=3; exec sleep 1000']
"#,
    );
    cluster.wait_for("pod/greedy", "jsonpath={.status.reason}=Evicted");
    assert_eq!(
        cluster.get("pod/greedy", "{.status.phase}|{.status.message}"),
        "Failed|Usage of EmptyDir volume \"scratch\" exceeds the limit \"1Mi\". "
    );
    until("the event", || {
        stdout(&mut cluster.cata(&["get", "events"]))
            .contains("Evicted")
            .then_some(())
    });
    cluster.stop();
}

#[test]
fn containers_see_their_cgroup_and_their_user_is_shown() {
    let Some(mut cluster) = cluster() else { return };
    cluster.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: looks}
spec:
  restartPolicy: Never
  securityContext: {runAsUser: 7, runAsGroup: 8, supplementalGroups: [9]}
  containers:
  - name: c
    image: host/tools:v1
    resources: {limits: {memory: 64Mi}}
    command:
    - bash
    - -c
    - |
      cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null
      while read -r _ _ _ _ target options _; do [[ $target == /sys/fs/cgroup ]] && echo "${options%%,*}"; done < /proc/self/mountinfo
      touch /sys/fs/cgroup/x 2>/dev/null && echo writable
      exit 0
"#,
    );
    cluster.wait_for("pod/looks", "jsonpath={.status.phase}=Succeeded");
    assert_eq!(stdout(&mut cluster.cata(&["logs", "looks"])), "67108864\nro\n");
    assert_eq!(
        cluster.get("pod/looks", "{.status.containerStatuses[0].user.linux}"),
        r#"{"gid":8,"supplementalGroups":[8,9],"uid":7}"#
    );
    cluster.stop();
}

/// `(module (import "nope" "missing" (func)) (func (export "_start")))`
const IMPORTS: &[u8] = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x02\x10\x01\x04nope\x07missing\0\0\x03\x02\x01\0\x07\x0a\x01\x06_start\0\x01\x0a\x04\x01\x02\0\x0b";

#[test]
fn a_module_that_imports_what_is_not_offered_names_it() {
    let Some(mut cluster) = Cluster::start(&[]) else { return };
    let module = cluster.directory.path().join("imports.wasm");
    std::fs::write(&module, IMPORTS).expect("written");
    stdout(
        cluster
            .cata(&["image", "pack", "--tag", "host/imports:v1", "--wasm"])
            .arg(&module),
    );
    cluster.apply(
        "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: c, image: 'host/imports:v1'}]}}",
    );
    let why = until("the pod to say why it does not run", || {
        let status = cluster.get("pod/p", "{.status.containerStatuses[0]}");
        Some(status).filter(|text| text.contains("nope::missing"))
    });
    assert!(why.contains("StartError") && why.contains("WASI"), "{why}");
    let events = until("the event", || {
        Some(stdout(&mut cluster.cata(&["get", "events"]))).filter(|events| events.contains("nope"))
    });
    assert!(events.contains("Failed"), "{events}");
    cluster.stop();
}
