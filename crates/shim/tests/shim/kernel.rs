//! Cgroups and overlays.

use crate::Test;
use crate::world::{World, eventually};
use catamaran_shim::cgroup::{Cgroup, Layout, Version};
use catamaran_shim::overlay::{Writable, mount_overlay};
use oci_spec::runtime::LinuxResources;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

pub(crate) const TESTS: &[Test] = &[
    ("kernel::limits_stand_in_the_kernel", limits_stand_in_the_kernel),
    (
        "kernel::groups_are_killed_and_removed_whole",
        groups_are_killed_and_removed_whole,
    ),
    ("kernel::device_rules_hold_on_v1", device_rules_hold_on_v1),
    ("kernel::device_rules_hold_on_v2", device_rules_hold_on_v2),
    ("kernel::overlays_of_many_odd_layers", overlays_of_many_odd_layers),
];

fn resources(json: &str) -> LinuxResources {
    serde_json::from_str(json).unwrap()
}

/// Runs a command inside a group.
fn spawn_in(cgroup: &Cgroup, script: &str) -> Child {
    let entry = cgroup.entry().unwrap();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]);
    // SAFETY: joining only writes to open files.
    unsafe { command.pre_exec(move || entry.join_self()) };
    command.spawn().unwrap()
}

fn limits_stand_in_the_kernel() {
    let world = World::new();
    let path = format!("/catamaran-{}/podp/c", world.instance);
    let limits = resources(
        r#"{"memory": {"limit": 67108864}, "cpu": {"shares": 512, "quota": 50000, "period": 100000, "cpus": "0"},
            "pids": {"limit": 50}}"#,
    );
    let cgroup = Cgroup::create(&path, &limits).unwrap();
    let read = |file: &str| cgroup.dirs().find_map(|dir| fs::read_to_string(dir.join(file)).ok());
    let value = |v1: &str, v2: &str| read(v1).or_else(|| read(v2)).unwrap().trim().to_owned();
    assert_eq!(value("memory.limit_in_bytes", "memory.max"), "67108864");
    assert_eq!(value("pids.max", "pids.max"), "50");
    assert_eq!(value("cpuset.cpus", "cpuset.cpus"), "0");
    let mut child = spawn_in(&cgroup, "x=0; while [ $x -lt 2000 ]; do x=$((x+1)); done; sleep 1000");
    eventually("usage is counted", || {
        let stats = cgroup.stats();
        stats.cpu_usage_nanos > 0 && stats.memory_usage > 0 && stats.pids > 0
    });
    assert!(cgroup.stats().memory_working_set <= cgroup.stats().memory_usage);
    // Changing limits of a group in use, and finding it again.
    Cgroup::create(&path, &resources(r#"{"pids": {"limit": 60}}"#)).unwrap();
    assert_eq!(value("pids.max", "pids.max"), "60");
    Cgroup::open(&path).unwrap().kill_all().unwrap();
    child.wait().unwrap();
    cgroup.remove().unwrap();
    assert!(!cgroup.exists() && !Cgroup::open(&path).unwrap().exists());
    cgroup.remove().unwrap();
    // Who is gone has no limits: neither one that was seen before, nor one that never was.
    cgroup.apply(&limits).unwrap();
    Cgroup::open(&path).unwrap().apply(&limits).unwrap();
    let error = Cgroup::create(
        &path,
        &resources(r#"{"memory": {"limit": 1}, "pids": {"limit": 5}, "cpu": {"cpus": "4000"}}"#),
    );
    assert!(error.unwrap_err().to_string().contains("cpuset.cpus"));
    assert!(Cgroup::create("/../x", &LinuxResources::default()).is_err());
}

fn groups_are_killed_and_removed_whole() {
    let world = World::new();
    let parent = Cgroup::create(
        &format!("/catamaran-{}/podk", world.instance),
        &LinuxResources::default(),
    )
    .unwrap();
    let child = Cgroup::create(&format!("{}/c", parent.path()), &LinuxResources::default()).unwrap();
    // A bomb: it forks as fast as it can, and nobody may slip away.
    let mut bomb = spawn_in(&child, "while :; do sh -c 'sleep 1000 & sleep 1000' & done");
    eventually("many processes", || child.pids().len() > 60);
    assert!(parent.pids().len() > 60, "a group's processes are its parent's too");
    parent.kill_all().unwrap();
    bomb.wait().unwrap();
    assert!(parent.pids().is_empty());
    parent.remove().unwrap();
    assert!(!child.exists());
    // The way of machines without a unified tree.
    let v1_only = Layout {
        hierarchies: Layout::of_machine()
            .hierarchies
            .iter()
            .filter(|found| found.version == Version::V1)
            .cloned()
            .collect(),
    };
    if !v1_only.hierarchies.is_empty() {
        let cgroup = Cgroup::create_in(&v1_only, child.path(), &LinuxResources::default()).unwrap();
        let mut bomb = spawn_in(&cgroup, "while :; do sleep 1000 & done");
        eventually("many processes", || cgroup.pids().len() > 60);
        cgroup.kill_all().unwrap();
        bomb.wait().unwrap();
        cgroup.remove().unwrap();
        assert!(!cgroup.exists());
    }
}

const NULL_ONLY: &str = r#"{"devices": [
    {"allow": false, "access": "rwm"},
    {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rw"}]}"#;

fn devices_are_limited(cgroup: &Cgroup) {
    let run = |script: &str| spawn_in(cgroup, script).wait().unwrap().success();
    assert!(run("exec 2>/dev/null; echo x > /dev/null"));
    assert!(!run("exec 2>/dev/null; head -c 1 < /dev/zero"));
    assert!(!run("exec 2>/dev/null; mknod /tmp/never-made c 1 3"));
    assert!(!Path::new("/tmp/never-made").exists());
}

fn device_rules_hold_on_v1() {
    if !Layout::of_machine()
        .hierarchies
        .iter()
        .any(|found| found.version == Version::V1 && found.has("devices"))
    {
        println!("skipped: no v1 device controller on this machine");
        return;
    }
    let world = World::new();
    let cgroup = Cgroup::create(&format!("/catamaran-{}/podd/c", world.instance), &resources(NULL_ONLY)).unwrap();
    devices_are_limited(&cgroup);
    cgroup.remove().unwrap();
}

fn device_rules_hold_on_v2() {
    let Some(unified) = Layout::of_machine().unified() else {
        println!("skipped: no unified hierarchy on this machine");
        return;
    };
    let world = World::new();
    let layout = Layout {
        hierarchies: vec![unified.clone()],
    };
    let path = format!("/catamaran-{}/podd/c", world.instance);
    let cgroup = Cgroup::create_in(&layout, &path, &resources(NULL_ONLY)).unwrap();
    devices_are_limited(&cgroup);
    cgroup.remove().unwrap();
}

/// In a mount namespace of its own, which ends with the thread.
fn overlays_of_many_odd_layers() {
    let dir = tempfile::Builder::new().prefix("lay:er, s").tempdir_in("/run").unwrap();
    let base = dir.path().to_owned();
    let check = move || {
        // SAFETY: a namespace changes no memory.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNS) }, 0);
        let layer = |name: &str| -> PathBuf {
            let path = base.join(name);
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("who"), name).unwrap();
            fs::write(
                path.join(format!("only-{}", fs::read_dir(&base).unwrap().count())),
                name,
            )
            .unwrap();
            path
        };
        let lower: Vec<PathBuf> = (0..100)
            .map(|number| layer(&format!("{number}:a,b c\\{}", "z".repeat(60))))
            .collect();
        let (target, upper, work) = (base.join("target"), base.join("up per,:"), base.join("work"));
        for path in [&target, &upper, &work] {
            fs::create_dir(path).unwrap();
        }
        mount_overlay(&lower, None, &target).unwrap();
        assert!(fs::read_to_string(target.join("who")).unwrap().starts_with("0:a"));
        assert!(fs::read_dir(&target).unwrap().count() > 100);
        assert_eq!(
            fs::write(target.join("new"), "x").unwrap_err().raw_os_error(),
            Some(libc::EROFS)
        );
        mount_overlay(&lower[..1], None, &target).unwrap();
        assert_eq!(
            fs::write(target.join("new"), "x").unwrap_err().raw_os_error(),
            Some(libc::EROFS)
        );
        mount_overlay(
            &lower[1..],
            Some(Writable {
                upper: &upper,
                work: &work,
            }),
            &target,
        )
        .unwrap();
        assert!(fs::read_to_string(target.join("who")).unwrap().starts_with("1:a"));
        fs::write(target.join("new"), "x").unwrap();
        assert_eq!(fs::read_to_string(upper.join("new")).unwrap(), "x");
    };
    std::thread::spawn(check).join().unwrap();
}
