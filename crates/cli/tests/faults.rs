//! `kill -9` of everything but the pods, and what must survive it.

mod common;

use common::{Cluster, stdout, until};
use std::collections::BTreeSet;

fn manifest(name: &str, image: &str, command: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{terminationGracePeriodSeconds: 1, containers: [{{name: c, image: '{image}'{command}}}]}}}}\n---\n"
    )
}

/// Pids of everything in the instance's cgroups.
fn pids(cluster: &Cluster) -> BTreeSet<String> {
    cluster
        .leftovers()
        .into_iter()
        .filter(|entry| entry.starts_with("process"))
        .collect()
}

#[test]
fn pods_outlive_the_agent_with_their_pids_and_logs() {
    let Some(mut cluster) = Cluster::start(&[]) else { return };
    cluster.pack_images();
    let count = "command: [bash, -c, 'n=0; exec 9<> <(:); while true; do echo $((n++)); read -rt 0.05 -u 9; done']";
    cluster
        .apply(&(manifest("counter", "host/tools:v1", &format!(", {count}")) + &manifest("web", "host/hello:v1", "")));
    cluster.wait_for("pod/counter", "condition=Ready");
    cluster.wait_for("pod/web", "condition=Ready");
    let uid = cluster.get("pod/counter", "{.metadata.uid}");
    let before = pids(&cluster);
    assert!(before.len() >= 4, "two shims, two containers: {before:?}");

    for _ in 0..3 {
        cluster.dev().signal(rustix::process::Signal::KILL);
        cluster.dev().wait();
        cluster.boot(&[]);
        let lines = stdout(&mut cluster.cata(&["logs", "counter"])).lines().count();
        until("the counter to go on", || {
            (stdout(&mut cluster.cata(&["logs", "counter"])).lines().count() > lines + 5).then_some(())
        });
        assert_eq!(pids(&cluster), before, "the same processes run on");
    }
    assert_eq!(cluster.get("pod/counter", "{.metadata.uid}"), uid);
    assert_eq!(
        cluster.get("pod/counter", "{.status.containerStatuses[0].restartCount}"),
        "0"
    );
    let log = stdout(&mut cluster.cata(&["logs", "counter"]));
    let numbers: Vec<usize> = log.lines().map(|line| line.parse().expect("a whole line")).collect();
    assert_eq!(
        numbers,
        (0..numbers.len()).collect::<Vec<_>>(),
        "no line is lost, doubled or torn"
    );
    cluster.stop();
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_leaks_while_pods_come_and_go() {
    let Some(mut cluster) = Cluster::start(&[]) else { return };
    cluster.pack_images();
    let mut expected = BTreeSet::new();
    for round in 0..4 {
        let names: Vec<String> = (0..10).map(|number| format!("p{round}-{number}")).collect();
        let manifests: String = names
            .iter()
            .enumerate()
            .map(|(number, name)| match number % 2 {
                0 => manifest(name, "host/hello:v1", ""),
                _ => manifest(name, "host/tools:v1", ", command: [sleep, '1000']"),
            })
            .collect();
        cluster.apply(&manifests);
        expected.extend(names.iter().cloned());
        // Some of the earlier pods go at the same moment; the answer to --wait=false is the acknowledgement.
        for name in (0..5)
            .filter(|_| round > 0)
            .map(|number| format!("p{}-{number}", round - 1))
        {
            stdout(&mut cluster.cata(&["delete", "pod", &name, "--wait=false"]));
            expected.remove(&name);
        }
        cluster.dev().signal(rustix::process::Signal::KILL);
        cluster.dev().wait();
        cluster.boot(&[]);
    }
    let present = until("deleted pods to be gone", || {
        let names = cluster.get("pods", "{.items[*].metadata.name}");
        let names: BTreeSet<String> = names.split_whitespace().map(str::to_owned).collect();
        (names.len() <= expected.len()).then_some(names)
    });
    assert_eq!(present, expected);
    for name in &expected {
        cluster.wait_for(&format!("pod/{name}"), "condition=Ready");
    }
    stdout(&mut cluster.cata(&["delete", "pods", "--all"]));
    until("every process of every pod to be gone", || {
        pids(&cluster).is_empty().then_some(())
    });
    let pods: Vec<String> = cluster
        .leftovers()
        .into_iter()
        .filter(|entry| entry.contains("/pod"))
        .collect();
    assert_eq!(pods, Vec::<String>::new());
    cluster.stop();
}

#[test]
fn cleanup_removes_what_a_killed_agent_left() {
    let Some(mut cluster) = Cluster::start(&[]) else { return };
    cluster.pack_images();
    cluster.apply(&manifest("left", "host/tools:v1", ", command: [sleep, '1000']"));
    cluster.wait_for("pod/left", "condition=Ready");
    cluster.dev().signal(rustix::process::Signal::KILL);
    cluster.dev().wait();
    assert!(!cluster.leftovers().is_empty());
    stdout(&mut cluster.cata(&["cleanup"]));
    assert_eq!(cluster.leftovers(), BTreeSet::new());
}
