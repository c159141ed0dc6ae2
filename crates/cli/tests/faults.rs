//! `kill -9` of everything but the pods, and what must survive it.

mod common;

use common::{Cluster, stdout, until};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

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

/// How much of each kind of thing the instance has on this machine; names and pids change, numbers must not.
fn counts(cluster: &Cluster) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    let mut count = |kind: &str, number: usize| *counts.entry(kind.to_owned()).or_default() += number;
    for entry in cluster.leftovers() {
        count(entry.split(' ').next().unwrap_or_default(), 1);
    }
    count("pod in the run directory", entries(&run_dir(cluster).join("pods")));
    count(
        "pod in the data directory",
        entries(&cluster.data_dir().join("agent/pods")),
    );
    for hierarchy in std::iter::once(PathBuf::new()).chain(directories(Path::new("/sys/fs/cgroup"))) {
        let group = Path::new("/sys/fs/cgroup")
            .join(hierarchy)
            .join(format!("catamaran-{}", cluster.instance()));
        count("pod cgroup", directories(&group).count());
    }
    count("pod with logs", entries(&cluster.data_dir().join("logs/pods")));
    count("image lease", entries(&cluster.data_dir().join("images/leases")));
    counts
}

fn directories(of: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(of).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir())
}

fn entries(directory: &Path) -> usize {
    std::fs::read_dir(directory).map_or(0, Iterator::count)
}

fn run_dir(cluster: &Cluster) -> PathBuf {
    let name = format!("catamaran-{}", cluster.instance());
    let places = ["/run", "/dev/shm"].map(|base| Path::new(base).join(&name));
    places
        .into_iter()
        .find(|place| place.join("pods").is_dir())
        .expect("a run directory")
}

/// Some milliseconds below `limit`, different every time: when to strike.
fn any_moment(limit: u64) -> Duration {
    use std::hash::{BuildHasher, RandomState};
    Duration::from_millis(RandomState::new().hash_one(0) % limit)
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_leaks_while_pods_come_and_go() {
    const ROUNDS: usize = 4;
    const PODS: usize = 25;
    let Some(mut cluster) = Cluster::start(&[]) else { return };
    cluster.pack_images();
    // What is made with the first pod and stays with the instance counts as there.
    cluster.apply(&manifest("first", "host/tools:v1", ", command: [sleep, '1000']"));
    cluster.wait_for("pod/first", "condition=Ready");
    assert!(counts(&cluster)["pod cgroup"] > 0);
    stdout(&mut cluster.cata(&["delete", "pod", "first"]));
    let full_pool = |cluster: &Cluster| {
        let counts = counts(cluster);
        let clean = counts["pod cgroup"] + counts["pod with logs"] + counts["image lease"] == 0;
        // Sixteen in the pool and the anchor; more while the kernel still takes down the link of the pod before.
        (clean && counts.get("link") == Some(&17)).then_some(counts)
    };
    let before = until("the pool of addresses to fill", || full_pool(&cluster));
    let mut expected = BTreeSet::new();
    for round in 0..ROUNDS {
        let names: Vec<String> = (0..PODS).map(|number| format!("p{round}-{number}")).collect();
        let manifests: String = names
            .iter()
            .enumerate()
            .map(|(number, name)| match (round + number) % 2 {
                0 => manifest(name, "host/hello:v1", ""),
                _ => manifest(name, "host/tools:v1", ", command: [sleep, '1000']"),
            })
            .collect();
        cluster.apply(&manifests);
        expected.extend(names);
        // Most of the earlier pods go at the same moment; the answer to --wait=false is the acknowledgement.
        if round > 0 {
            let gone: Vec<String> = (0..PODS - 5).map(|number| format!("p{}-{number}", round - 1)).collect();
            let mut command = cluster.cata(&["delete", "pod", "--wait=false"]);
            stdout(command.args(&gone));
            for name in gone {
                expected.remove(&name);
            }
        }
        std::thread::sleep(any_moment(1500));
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
    let restarts = cluster.get("pods", "{.items[*].status.containerStatuses[0].restartCount}");
    assert!(
        restarts.split_whitespace().all(|count| count == "0"),
        "nothing ran twice: {restarts}"
    );
    stdout(&mut cluster.cata(&["delete", "pods", "--all"]));
    let mut last = BTreeMap::new();
    let deadline = Instant::now() + common::PATIENCE;
    while last != before {
        last = counts(&cluster);
        assert!(
            Instant::now() < deadline,
            "before: {before:#?}, after: {last:#?}, {:#?}",
            cluster.leftovers()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    cluster.stop();
}

/// The pid of a pod's shim.
fn shim_of(cluster: &Cluster, pod: &str) -> i32 {
    let uid = cluster.get(&format!("pod/{pod}"), "{.metadata.uid}");
    let path = run_dir(cluster).join("pods").join(uid).join("sandbox.json");
    let state = std::fs::read_to_string(&path).expect("a state file");
    let pid = state.split("\"pid\":").nth(1).expect("a pid");
    let digits: String = pid.trim_start().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a number")
}

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
}

#[test]
fn a_killed_pod_shim_takes_its_containers_along_and_the_restart_policy_decides() {
    let Some(mut cluster) = Cluster::start(&[]) else { return };
    cluster.pack_images();
    let sleeps = |name: &str| manifest(name, "host/tools:v1", ", command: [sleep, '1000']");
    let once = sleeps("once").replace("containers:", "restartPolicy: Never, containers:");
    cluster.apply(&(sleeps("again") + &once + &manifest("web", "host/hello:v1", "")));
    for pod in ["again", "once", "web"] {
        cluster.wait_for(&format!("pod/{pod}"), "condition=Ready");
    }
    let before = pids(&cluster);
    for pod in ["again", "once", "web"] {
        kill(shim_of(&cluster, pod));
    }
    cluster.wait_for("pod/once", "jsonpath={.status.phase}=Failed");
    for pod in ["again", "web"] {
        let pod = format!("pod/{pod}");
        cluster.wait_for(&pod, "jsonpath={.status.containerStatuses[0].restartCount}=1");
        cluster.wait_for(&pod, "condition=Ready");
        let last = cluster.get(&pod, "{.status.containerStatuses[0].lastState.terminated.exitCode}");
        assert_eq!(last, "137");
    }
    let after = until("two pods' processes", || {
        Some(pids(&cluster)).filter(|pids| pids.len() == 4)
    });
    assert!(after.is_disjoint(&before), "{before:?} {after:?}");
    until("the event", || {
        stdout(&mut cluster.cata(&["get", "events"]))
            .contains("SandboxChanged")
            .then_some(())
    });
    cluster.stop();
}

#[test]
fn a_killed_launcher_is_replaced() {
    let Some(mut cluster) = Cluster::start(&[]) else { return };
    cluster.pack_images();
    cluster.apply(&manifest("first", "host/tools:v1", ", command: [sleep, '1000']"));
    cluster.wait_for("pod/first", "condition=Ready");
    for round in 0..2 {
        kill(launcher_of(&cluster.dev().child));
        let (linux, wasm) = (format!("linux-{round}"), format!("wasm-{round}"));
        cluster.apply(
            &(manifest(&linux, "host/tools:v1", ", command: [sleep, '1000']") + &manifest(&wasm, "host/hello:v1", "")),
        );
        cluster.wait_for(&format!("pod/{linux}"), "condition=Ready");
        cluster.wait_for(&format!("pod/{wasm}"), "condition=Ready");
    }
    assert_eq!(
        cluster.get("pod/first", "{.status.containerStatuses[0].restartCount}"),
        "0"
    );
    cluster.stop();
}

fn launcher_of(dev: &std::process::Child) -> i32 {
    let parent = format!("PPid:\t{}\n", dev.id());
    let processes = std::fs::read_dir("/proc").expect("readable").flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.into_iter()
        .find(|pid| {
            let read = |file| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
            read("status").contains(&parent) && read("cmdline").contains("launcher")
        })
        .expect("a launcher")
}

/// A small disk; taken off the machine whatever becomes of the test.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Self {
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("small", at, "tmpfs", flags, c"size=96m").expect("mounted");
        Self(at.to_owned())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn a_full_disk_is_named_and_room_is_all_it_takes() {
    if !common::root() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let _disk = SmallDisk::mount(directory.path());
    let mut cluster = Cluster { directory, dev: None };
    cluster.boot(&[]);
    cluster.pack_images();
    cluster.apply(&manifest("before", "host/hello:v1", ""));
    cluster.wait_for("pod/before", "condition=Ready");

    let filler = cluster.directory.path().join("filler");
    let mut file = std::fs::File::create(&filler).expect("made");
    while std::io::Write::write_all(&mut file, &[1; 1 << 16]).is_ok() {}
    // The log of the state has some room of its own left.
    let config = |number: usize| {
        let text = "x".repeat(600_000);
        format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: big-{number}}}, data: {{text: {text}}}}}")
    };
    let manifest_path = std::path::PathBuf::from("/dev/shm").join(format!("{}.yaml", cluster.instance()));
    let refused = (0..64).find_map(|number| {
        std::fs::write(&manifest_path, config(number)).expect("written");
        let mut command = cluster.cata(&["create", "-f"]);
        let output = command.arg(&manifest_path).output().expect("cata");
        (!output.status.success()).then(|| common::text(&output.stderr))
    });
    let _ = std::fs::remove_file(&manifest_path);
    let refused = refused.expect("no more room");
    assert!(refused.contains("state database"), "{refused}");
    cluster.dev().line("disk is full");
    assert_eq!(
        cluster.get("pod/before", "{.status.phase}"),
        "Running",
        "what is there can be read"
    );

    drop(file);
    std::fs::remove_file(&filler).expect("removed");
    cluster.apply(&manifest("after", "host/tools:v1", ", command: [sleep, '1000']"));
    cluster.wait_for("pod/after", "condition=Ready");
    assert_eq!(
        cluster.get("pod/before", "{.status.containerStatuses[0].restartCount}"),
        "0"
    );
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
