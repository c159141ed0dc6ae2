//! Who the program is, and what it may do.

use crate::world::World;
use serde_json::json;

pub(crate) const TESTS: &[crate::Test] = &[
    ("default_capabilities", default_capabilities),
    ("no_capabilities_unless_named", no_capabilities),
    ("ambient_capabilities_reach_another_user", ambient),
    ("users_groups_umask_and_home", users),
    ("no_new_privs_is_set_when_asked", no_new_privs),
    ("runtime_default_filters_system_calls", runtime_default),
    ("threads_work_under_the_filter", threads),
    ("a_profile_of_the_spec_is_obeyed", localhost_profile),
    ("a_tiny_profile_does_not_need_to_allow_the_runner", tiny_profile),
    ("limits_are_set", rlimits),
    ("signals_and_descriptors_are_clean", clean_process),
    ("promised_descriptors_are_kept", preserved_fds),
    ("the_runner_cannot_be_overwritten", shielded),
    ("a_refused_oom_score_does_not_prevent_the_start", oom_score),
    ("a_user_namespace_maps_ids", user_namespace),
    ("labels_without_a_security_module_are_refused", labels),
];

const SETS: &str = "grep -E '^Cap' /proc/self/status | cut -f2 | tr '\\n' ' '";

fn default_capabilities() {
    assert_eq!(
        World::new().sh(SETS).ok(),
        "0000000000000000 00000000a80425fb 00000000a80425fb 00000000a80425fb 0000000000000000"
    );
}

fn no_capabilities() {
    let mut world = World::new();
    world.spec["process"]["capabilities"] = json!(null);
    assert_eq!(world.sh(SETS).ok(), ["0000000000000000"; 5].join(" "));
}

fn ambient() {
    let mut world = World::new();
    let bind = ["CAP_NET_BIND_SERVICE"];
    world.spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    world.spec["process"]["capabilities"] =
        json!({"bounding": bind, "effective": bind, "permitted": bind, "inheritable": bind, "ambient": bind});
    assert_eq!(world.sh(SETS).ok(), ["0000000000000400"; 5].join(" "));
}

fn users() {
    let mut world = World::new();
    std::fs::write(world.rootfs().join("etc/passwd"), "me:x:1000:1000::/home/me:/bin/sh\n").expect("written");
    world.spec["process"]["user"] = json!({"uid": 1000, "gid": 1001, "additionalGids": [5, 2000], "umask": 0o077});
    world.spec["process"]["cwd"] = json!("/made/for/it");
    let script = "id -u; id -g; grep Groups /proc/self/status | cut -f2; umask; echo $HOME; pwd";
    assert_eq!(
        world.sh(script).ok(),
        "1000\n1001\n5 2000 \n0077\n/home/me\n/made/for/it"
    );
    world.spec["process"]["user"] = json!({"uid": 0, "gid": 0});
    assert_eq!(world.sh("umask").ok(), "0022");
}

fn no_new_privs() {
    let mut world = World::new();
    assert!(world.sh("grep NoNewPrivs /proc/self/status").ok().ends_with('0'));
    world.spec["process"]["noNewPrivileges"] = json!(true);
    assert!(world.sh("grep NoNewPrivs /proc/self/status").ok().ends_with('1'));
}

const EXPECTED: &str = "clone3 38\nkeyctl 1\nfuture 38\nunshare 1\nvsock 1\ngetpid 0\nmkdir 0";

fn runtime_default() {
    for (no_new_privs, uid) in [(false, 0), (true, 0), (false, 1000)] {
        let mut world = World::new();
        world.spec["annotations"] = json!({(catamaran_shim::seccomp::ANNOTATION): "RuntimeDefault"});
        world.spec["process"]["noNewPrivileges"] = json!(no_new_privs);
        world.spec["process"]["user"] = json!({"uid": uid, "gid": 0});
        world.add_mount(json!({"destination": "/tmp", "type": "tmpfs", "options": ["mode=1777"]}));
        assert_eq!(
            world.args(&["/probe", "__probe", "syscalls"]).run().ok(),
            EXPECTED,
            "{no_new_privs} {uid}"
        );
    }
}

fn threads() {
    let mut world = World::new();
    world.spec["annotations"] = json!({(catamaran_shim::seccomp::ANNOTATION): "RuntimeDefault"});
    assert_eq!(world.args(&["/probe", "__probe", "threads"]).run().ok(), "42");
}

fn localhost_profile() {
    let mut world = World::new();
    world.spec["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            {"names": ["mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13},
            {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95,
             "args": [{"index": 0, "value": 40, "op": "SCMP_CMP_EQ"}]},
        ],
    });
    let out = world.args(&["/probe", "__probe", "syscalls"]).run().ok();
    assert!(
        out.contains("mkdir 13") && out.contains("vsock 95") && out.contains("getpid 0"),
        "{out}"
    );
    // exec runs under the container's filter too.
    let child = world.sh_ready("echo ready; exec sleep 1000");
    assert!(
        world
            .oci(&["exec", &world.id, "/probe", "__probe", "syscalls"])
            .ok()
            .contains("mkdir 13")
    );
    world.oci(&["kill", &world.id, "KILL"]).ok();
    World::ended(child);
    world.spec["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_NOTIFY"});
    assert!(
        world
            .run()
            .err
            .contains("linux.seccomp.defaultAction: SCMP_ACT_NOTIFY is not supported")
    );
}

fn tiny_profile() {
    let mut world = World::new();
    world.spec["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["chdir", "setgroups", "setresuid", "setresgid", "faccessat2", "getcwd", "rt_sigaction"],
                      "action": "SCMP_ACT_KILL_PROCESS"}],
    });
    world.spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    world.args(&["true"]).run().ok();
}

fn rlimits() {
    let mut world = World::new();
    world.spec["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
                                              {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]);
    assert_eq!(world.sh("ulimit -Sn; ulimit -Hn; ulimit -c").ok(), "100\n200\n0");
}

fn clean_process() {
    let mut world = World::new();
    let out = world
        .sh("grep -E '^Sig(Blk|Ign)' /proc/self/status | cut -f2; cut -d' ' -f6 /proc/$$/stat")
        .ok();
    assert_eq!(
        out, "0000000000000000\n0000000000000000\n1",
        "signals, and a session of its own"
    );
    assert_eq!(
        world.args(&["/probe", "__probe", "descriptors"]).run().ok(),
        "[0, 1, 2]"
    );
}

fn preserved_fds() {
    use std::os::fd::AsRawFd;
    use std::os::unix::process::CommandExt;
    let mut world = World::new();
    world.args(&["/probe", "__probe", "descriptors"]).write_spec();
    let path = world.path("given");
    std::fs::write(&path, "given ").expect("written");
    let file = std::fs::File::open(&path).expect("opens");
    let bundle = world.bundle();
    let mut command = world.command(&[
        "run",
        "-b",
        bundle.to_str().expect("text"),
        "--preserve-fds",
        "1",
        &world.id,
    ]);
    // SAFETY: dup2 and fcntl are async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            libc::dup2(file.as_raw_fd(), 3);
            if libc::fcntl(3, libc::F_SETFD, 0) == 0 {
                Ok(())
            } else {
                Err(std::io::Error::last_os_error())
            }
        });
    }
    let output = command.output().expect("runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "[0, 1, 2, 3]\ngiven \n");
    let refused = world.run_with(&["--preserve-fds", "40"]);
    assert!(
        refused.err.contains("--preserve-fds 40: descriptor "),
        "{}",
        refused.err
    );
}

fn shielded() {
    let mut world = World::new();
    // A copy, which nobody else executes: a running program cannot be written anyway.
    let copy = world.path("runner");
    std::fs::copy(std::env::current_exe().expect("own path"), &copy).expect("copied");
    world.runner = copy.clone();
    let child = world.sh_ready("echo ready; exec sleep 1000");
    let kept = rustix::fs::open(
        format!("/proc/{}/exe", child.id()),
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .expect("the link can be followed");
    world.oci(&["kill", &world.id, "KILL"]).ok();
    World::ended(child);
    let again = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&kept));
    let write = |path: &std::path::Path| std::fs::OpenOptions::new().write(true).open(path);
    let error = write(again.as_ref()).expect_err("cannot be written");
    assert_eq!(error.raw_os_error(), Some(libc::EROFS), "{error}");
    write(&copy).expect("the file as such can");
    // The attack itself: the entry point is the runner, which then runs inside and cannot write to itself.
    let out = world.args(&["/proc/self/exe", "__probe", "threads"]).run();
    assert_ne!(out.code, 128, "{}", out.err);
}

fn oom_score() {
    let mut world = World::new();
    world.spec["process"]["oomScoreAdj"] = json!(-999);
    let score: i32 = world.sh("cat /proc/self/oom_score_adj").ok().parse().expect("a number");
    assert!(score == -999 || score >= 0, "set, or refused and left alone: {score}");
    world.spec["process"]["oomScoreAdj"] = json!(500);
    assert_eq!(world.sh("cat /proc/self/oom_score_adj").ok(), "500");
}

fn user_namespace() {
    let mut world = World::new();
    let namespaces = ["pid", "ipc", "uts", "mount", "network", "user"];
    world.spec["linux"]["namespaces"] = namespaces.iter().map(|kind| json!({"type": kind})).collect();
    for kind in ["uidMappings", "gidMappings"] {
        world.spec["linux"][kind] = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    }
    // Its owner's home may be closed to others.
    world.spec["mounts"]
        .as_array_mut()
        .expect("a list")
        .retain(|mount| mount["destination"] != "/probe");
    for dir in [
        world.path(""),
        world.bundle(),
        world.rootfs(),
        world.rootfs().join("tmp"),
    ] {
        std::os::unix::fs::chown(&dir, Some(100_000), Some(100_000)).expect("owner");
    }
    let out = world
        .sh("id -u; cat /proc/self/uid_map | tr -s ' '; touch /tmp/mine; cat /dev/null && echo readable")
        .ok();
    assert_eq!(out, "0\n 0 100000 65536\nreadable");
    let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(world.rootfs().join("tmp/mine")).expect("made"));
    assert_eq!(owner, 100_000);
    world.assert_nothing_left();
}

fn labels() {
    if std::path::Path::new("/sys/kernel/security/apparmor").exists() {
        println!("skipped: this kernel has AppArmor");
        return;
    }
    let mut world = World::new();
    world.spec["process"]["apparmorProfile"] = json!("some-profile");
    assert!(world.run().err.contains("process.apparmorProfile"));
    world.spec["process"]["apparmorProfile"] = json!("unconfined");
    world.run().ok();
}
