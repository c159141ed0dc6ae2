//! Namespaces, cgroups, devices.

use crate::world::World;
use catamaran_shim::cgroup::Cgroup;
use serde_json::json;

pub(crate) const TESTS: &[crate::Test] = &[
    ("namespaces_are_new_or_inherited", namespaces),
    ("a_network_namespace_is_joined_by_path", joined_network),
    ("a_pid_namespace_is_joined_by_path", joined_pid),
    ("host_names_and_sysctls_are_set", names),
    ("memory_is_limited", memory),
    ("limits_are_in_the_cgroup", limits),
    ("cgroups_are_visible_inside", cgroup_mount),
    ("processes_left_behind_die_with_the_container", orphans),
    ("devices_are_denied_unless_listed", devices),
];

const ALL: &str = "for n in cgroup ipc mnt net pid uts user; do readlink /proc/self/ns/$n; done";

fn namespaces() {
    let mut world = World::new();
    let all = json!([{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "cgroup"}, {"type": "network"}]);
    world.spec["linux"]["namespaces"] = all;
    let host = |kind: &str| {
        std::fs::read_link(format!("/proc/self/ns/{kind}"))
            .expect("a link")
            .display()
            .to_string()
    };
    let inside = world.sh(ALL).ok();
    for kind in ["cgroup", "ipc", "mnt", "net", "pid", "uts"] {
        assert!(!inside.contains(&host(kind)), "{kind} is shared");
    }
    assert!(inside.contains(&host("user")));
    world.spec["linux"]["namespaces"] = json!([{"type": "mount"}]);
    world.spec["hostname"] = json!(null);
    let inside = world.sh(ALL).ok();
    for kind in ["cgroup", "ipc", "net", "pid", "uts", "user"] {
        assert!(inside.contains(&host(kind)), "{kind} is not inherited");
    }
}

fn joined_network() {
    let mut world = World::new();
    world.spec["linux"]["namespaces"] =
        json!([{"type": "mount"}, {"type": "pid"}, {"type": "uts"}, {"type": "network"}]);
    let child = world.sh_ready("echo ready; exec sleep 1000");
    let pid = world.state()["pid"].as_i64().expect("a number");
    let network = std::fs::read_link(format!("/proc/{pid}/ns/net"))
        .expect("a link")
        .display()
        .to_string();
    let mut second = World::new();
    second.spec["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "pid"}, {"type": "uts"},
                                                {"type": "network", "path": format!("/proc/{pid}/ns/net")}]);
    assert_eq!(
        second
            .sh("readlink /proc/self/ns/net; cat /sys/class/net/lo/ifindex")
            .ok(),
        format!("{network}\n1")
    );
    world.oci(&["kill", &world.id, "KILL"]).ok();
    World::ended(child);
}

fn joined_pid() {
    let mut world = World::new();
    let child = world.sh_ready("echo ready; exec sleep 1000");
    let pid = world.state()["pid"].as_i64().expect("a number");
    let mut second = World::new();
    second.spec["linux"]["namespaces"] =
        json!([{"type": "mount"}, {"type": "uts"}, {"type": "pid", "path": format!("/proc/{pid}/ns/pid")}]);
    assert_eq!(
        second.sh("cat /proc/1/comm; [ $$ -gt 1 ] && echo second").ok(),
        "sleep\nsecond"
    );
    world.oci(&["kill", &world.id, "KILL"]).ok();
    World::ended(child);
}

fn names() {
    let mut world = World::new();
    world.spec["linux"]["namespaces"] =
        json!([{"type": "mount"}, {"type": "pid"}, {"type": "uts"}, {"type": "network"}, {"type": "ipc"}]);
    world.spec["domainname"] = json!("example");
    world.spec["linux"]["sysctl"] = json!({"net.ipv4.ip_unprivileged_port_start": "0", "kernel.shm_rmid_forced": "1"});
    let out = world.sh("hostname; cat /proc/sys/kernel/domainname /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced");
    assert_eq!(out.ok(), "tested\nexample\n0\n1");
}

fn memory() {
    let mut world = World::new();
    world.spec["linux"]["resources"] = json!({"memory": {"limit": 48 << 20, "swap": 48 << 20}});
    let out = world.args(&["/probe", "__probe", "eat-memory"]).run_with(&["--keep"]);
    assert_eq!(out.code, 137, "{} {}", out.out, out.err);
    assert!(Cgroup::open(&world.cgroup).expect("valid").oom_kills() > 0);
    world.oci(&["delete", &world.id]).ok();
    world.assert_nothing_left();
}

fn limits() {
    let mut world = World::new();
    world.spec["linux"]["resources"] =
        json!({"pids": {"limit": 17}, "cpu": {"shares": 512, "quota": 50000, "period": 100_000}});
    let child = world.sh_ready("echo ready; exec sleep 1000");
    let group = Cgroup::open(&world.cgroup).expect("valid");
    let read = |name: &str| {
        group
            .dirs()
            .find_map(|dir| std::fs::read_to_string(dir.join(name)).ok())
    };
    assert_eq!(read("pids.max").as_deref(), Some("17\n"));
    let quota = read("cpu.cfs_quota_us")
        .or_else(|| read("cpu.max"))
        .expect("a cpu controller");
    assert!(quota.starts_with("50000"), "{quota}");
    let pid = i32::try_from(world.state()["pid"].as_i64().expect("a number")).expect("a pid");
    assert!(group.pids().contains(&pid));
    world.oci(&["kill", &world.id, "KILL"]).ok();
    World::ended(child);
    world.assert_nothing_left();
}

fn cgroup_mount() {
    let mut world = World::new();
    world.add_mount(
        json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro", "nosuid"]}),
    );
    let out = world
        .sh("cat /sys/fs/cgroup/memory/cgroup.procs 2>/dev/null || cat /sys/fs/cgroup/cgroup.procs")
        .ok();
    assert_eq!(out.lines().next(), Some("1"));
    assert!(world.sh("mkdir /sys/fs/cgroup/x").code != 0);
    world.assert_nothing_left();
}

fn orphans() {
    let mut world = World::new();
    world.spec["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "uts"}]);
    world.sh("setsid sleep 1000 & exit 0").ok();
    world.assert_nothing_left();
}

fn devices() {
    let mut world = World::new();
    let script = "echo x > /dev/null; head -c 3 /dev/zero | wc -c; echo x > /dev/full || echo full; \
                  mknod /tmp/disk b 254 0 && head -c 1 /tmp/disk; readlink /dev/fd /dev/ptmx";
    let out = world.sh(script);
    assert_eq!(out.out, "3\nfull\n/proc/self/fd\npts/ptmx");
    assert!(out.err.contains("Operation not permitted"), "{}", out.err);
    world.spec["linux"]["devices"] = json!([{"path": "/dev/extra/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 0o640, "uid": 3, "gid": 4}]);
    assert_eq!(world.sh("stat -c '%a %u %g %t:%T' /dev/extra/kmsg").ok(), "640 3 4 1:b");
}
