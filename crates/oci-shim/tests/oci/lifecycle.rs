//! Starting, signalling, ending; the verbs of the command line; hooks.

use crate::world::World;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;

pub(crate) const TESTS: &[crate::Test] = &[
    ("exit_codes_are_passed_on", exit_codes_are_passed_on),
    (
        "programs_that_cannot_run_are_reported_as_a_shell_does",
        programs_that_cannot_run,
    ),
    ("a_killed_container_ends_with_128_plus_the_signal", killed),
    ("signals_to_the_runner_reach_the_container", signals_are_proxied),
    ("create_start_state_kill_delete", lifecycle),
    ("ids_and_states_are_checked", checks),
    ("two_containers_cannot_share_a_cgroup", shared_cgroup),
    ("a_start_cut_short_can_be_deleted", cut_short),
    ("exec_joins_the_container", exec_joins),
    ("exec_with_a_terminal", exec_terminal),
    ("a_terminal_is_the_containers_own", terminal),
    ("a_console_socket_receives_the_terminal", console_socket),
    ("hooks_run_in_order_with_the_state", hooks),
    ("a_failing_hook_ends_the_start", failing_hook),
    ("errors_are_one_line_and_leave_nothing", clean_failure),
    ("logs_are_json_if_asked", json_log),
    ("state_shows_what_runc_shows", like_runc),
];

fn exit_codes_are_passed_on() {
    let mut world = World::new();
    for code in [0, 3, 255] {
        assert_eq!(world.sh(&format!("exit {code}")).code, code);
    }
    world.assert_nothing_left();
}

fn programs_that_cannot_run() {
    let mut world = World::new();
    let missing = world.args(&["no-such-program"]).run();
    assert_eq!(missing.code, 127);
    assert!(
        missing
            .err
            .contains("exec \"no-such-program\": executable file not found in $PATH"),
        "{}",
        missing.err
    );
    assert_eq!(world.args(&["/no/such/file"]).run().code, 127);
    let long = world.args(&[&"x".repeat(100_000)]).run();
    assert!(
        long.code == 127 && long.err.contains("exec \"xxx"),
        "{} {}",
        long.code,
        &long.err[..200.min(long.err.len())]
    );
    assert_eq!(world.args(&["/etc"]).run().code, 126);
    std::fs::write(world.rootfs().join("plain"), "text").expect("written");
    assert_eq!(world.args(&["/plain"]).run().code, 126);
    let plain = world.rootfs().join("plain");
    std::fs::set_permissions(&plain, std::fs::Permissions::from_mode(0o755)).expect("mode");
    let garbage = world.args(&["/plain"]).run();
    assert_eq!(garbage.code, 126, "{}", garbage.err);
    world.assert_nothing_left();
}

fn killed() {
    let mut world = World::new();
    let child = world.sh_ready("echo ready; exec sleep 1000");
    world.oci(&["kill", &world.id, "SIGKILL"]).ok();
    assert_eq!(World::ended(child).code, 137);
    world.assert_nothing_left();
}

fn signals_are_proxied() {
    let mut world = World::new();
    let child = world.sh_ready("trap 'exit 42' TERM; echo ready; while :; do sleep 0.05; done");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("signalled");
    assert_eq!(World::ended(child).code, 42);
    world.assert_nothing_left();
}

fn lifecycle() {
    let mut world = World::new();
    world
        .args(&["sh", "-c", "echo done > /tmp/done; exec sleep 1000"])
        .write_spec();
    let bundle = world.bundle();
    let pid_file = world.path("pid");
    let args = [
        "create",
        "-b",
        bundle.to_str().expect("text"),
        "--pid-file",
        pid_file.to_str().expect("text"),
        &world.id,
    ];
    let created = world
        .command(&args)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status();
    assert!(created.expect("runs").success());
    assert_eq!(world.status(), "created");
    assert!(!world.rootfs().join("tmp/done").exists(), "the program waits for start");
    let pid: i32 = std::fs::read_to_string(pid_file)
        .expect("pid file")
        .parse()
        .expect("a number");
    assert_eq!(world.state()["pid"], json!(pid));
    world.oci(&["start", &world.id]).ok();
    World::until("the program ran", || world.rootfs().join("tmp/done").exists());
    assert_eq!(world.status(), "running");
    assert_ne!(world.oci(&["delete", &world.id]).code, 0, "it runs");
    assert_ne!(world.oci(&["start", &world.id]).code, 0, "it runs already");
    assert!(world.oci(&["list", "-q"]).ok().contains(&world.id));
    world.oci(&["kill", &world.id, "9"]).ok();
    World::until("it stopped", || world.status() == "stopped");
    assert_ne!(world.oci(&["kill", &world.id, "9"]).code, 0, "it has stopped");
    world.oci(&["delete", &world.id]).ok();
    world.assert_nothing_left();
}

fn shared_cgroup() {
    let mut world = World::new();
    let child = world.sh_ready("echo ready; exec sleep 1000");
    let mut other = World::new();
    other.spec["linux"]["cgroupsPath"] = json!(world.cgroup);
    let refused = other.sh("true");
    assert!(refused.err.contains("is in use"), "{}", refused.err);
    other.assert_nothing_left();
    assert_eq!(world.status(), "running", "the first is none the worse for it");
    world.oci(&["kill", &world.id, "KILL"]).ok();
    assert_eq!(World::ended(child).code, 137);
}

fn cut_short() {
    let world = World::new();
    // What a runner leaves that is killed between its first and its last step.
    world.write_spec();
    let dir = world.path("state").join(&world.id);
    std::fs::create_dir_all(&dir).expect("made");
    std::fs::copy(world.bundle().join("config.json"), dir.join("config.json")).expect("copied");
    catamaran_shim::cgroup::Cgroup::create(&world.cgroup, &Default::default()).expect("made");
    assert_ne!(world.oci(&["delete", &world.id]).code, 0, "it may be starting");
    world.oci(&["delete", "--force", &world.id]).ok();
    world.assert_nothing_left();
}

fn checks() {
    let mut world = World::new();
    let child = world.sh_ready("echo ready; exec sleep 1000");
    let again = world.run();
    assert!(again.code == 1 && again.err.contains("already exists"), "{}", again.err);
    assert_eq!(world.status(), "running", "the second attempt did not harm the first");
    world.oci(&["delete", "--force", &world.id]).ok();
    assert_eq!(World::ended(child).code, 137);
    let absent = world.oci(&["state", "no-such-container"]);
    assert!(
        absent.code == 1 && absent.err.contains("does not exist"),
        "{}",
        absent.err
    );
    world.oci(&["delete", "--force", "no-such-container"]).ok();
    assert!(world.oci(&["state", "../etc"]).err.contains("must consist of"));
    assert!(
        world
            .oci(&["--systemd-cgroup", "state", "x"])
            .err
            .contains("--systemd-cgroup is not supported")
    );
    world.assert_nothing_left();
}

fn exec_joins() {
    let mut world = World::new();
    world.spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    let child = world.sh_ready("echo ready; exec sleep 1000");
    let exec = |args: &[&str]| world.oci(&[&["exec"], args].concat());
    let script = "for n in mnt pid net ipc uts cgroup; do \
                  [ $(readlink /proc/self/ns/$n) = $(readlink /proc/1/ns/$n) ] || echo $n differs; done; id -u; pwd; echo $X; \
                  cmp /proc/self/cgroup /proc/1/cgroup; grep CapEff /proc/self/status; hostname";
    let out = exec(&[
        "--cwd",
        "/tmp",
        "-e",
        "X=y",
        "-u",
        "1000:1000",
        &world.id,
        "sh",
        "-c",
        script,
    ])
    .ok();
    assert_eq!(out, "1000\n/tmp\ny\nCapEff:\t0000000000000000\ntested");
    assert_eq!(exec(&[&world.id, "sh", "-c", "exit 9"]).code, 9);
    assert_eq!(exec(&[&world.id, "sh", "-c", "kill -TERM $$"]).code, 143);
    assert_eq!(exec(&[&world.id, "no-such-program"]).code, 127);
    assert_eq!(exec(&["-u", "0", "--cwd", "/no/such/dir", &world.id, "true"]).code, 1);
    let process = world.path("process.json");
    let text = json!({"user": {"uid": 7, "gid": 7}, "cwd": "/", "args": ["id", "-u"], "env": ["PATH=/usr/bin:/bin"]});
    std::fs::write(&process, text.to_string()).expect("written");
    assert_eq!(exec(&["-p", process.to_str().expect("text"), &world.id]).ok(), "7");
    world.oci(&["kill", &world.id, "KILL"]).ok();
    World::ended(child);
    world.assert_nothing_left();
}

fn exec_terminal() {
    let mut world = World::new();
    let child = world.sh_ready("echo ready; exec sleep 1000");
    let out = world.oci(&[
        "exec",
        "-t",
        &world.id,
        "sh",
        "-c",
        "tty; [ -t 0 ] && [ -t 1 ] && echo terminal; exit 4",
    ]);
    assert_eq!((out.code, out.out.as_str()), (4, "/dev/pts/0\nterminal"));
    world.oci(&["kill", &world.id, "KILL"]).ok();
    World::ended(child);
}

fn terminal() {
    let mut world = World::new();
    world.spec["process"]["terminal"] = json!(true);
    world.spec["process"]["consoleSize"] = json!({"height": 33, "width": 99});
    let out = world.sh("tty; stty size; [ /dev/console -ef /dev/pts/0 ] && echo same; ps -o tty= -p $$");
    assert_eq!(out.ok(), "/dev/pts/0\n33 99\nsame\npts/0");
    world.assert_nothing_left();
}

fn console_socket() {
    use std::io::Read as _;
    let mut world = World::new();
    world.spec["process"]["terminal"] = json!(true);
    world.args(&["sh", "-c", "echo hello; exec sleep 1000"]).write_spec();
    let path = world.path("console.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("bound");
    let bundle = world.bundle();
    let text = |path: &std::path::Path| path.to_str().expect("text").to_owned();
    let refused = world.oci(&["create", "-b", &text(&bundle), &world.id]);
    assert!(refused.err.contains("needs --console-socket"), "{}", refused.err);
    world
        .oci(&[
            "create",
            "-b",
            &text(&bundle),
            "--console-socket",
            &text(&path),
            &world.id,
        ])
        .ok();
    let (stream, _) = listener.accept().expect("connected");
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = rustix::net::RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; 64];
    let mut slices = [std::io::IoSliceMut::new(&mut bytes)];
    rustix::net::recvmsg(&stream, &mut slices, &mut control, rustix::net::RecvFlags::empty()).expect("a message");
    let fds = control.drain().find_map(|message| match message {
        rustix::net::RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    world.oci(&["start", &world.id]).ok();
    let mut said = [0; 5];
    std::fs::File::from(fds.expect("a descriptor"))
        .read_exact(&mut said)
        .expect("output");
    assert_eq!(&said, b"hello");
    world.oci(&["delete", "-f", &world.id]).ok();
    world.assert_nothing_left();
}

/// A hook that appends its name and the state it was told to a file.
fn recording(world: &World, name: &str) -> Value {
    let log = world.path("hooks.log");
    let script = format!("s=$(cat); echo \"{name} $X $s\" >> {}", log.display());
    json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["X=x", "PATH=/usr/bin:/bin"], "timeout": 10}])
}

fn hooks() {
    let mut world = World::new();
    let log = world.path("hooks.log");
    // startContainer runs inside: it reaches the file through a bind.
    std::fs::write(&log, "").expect("written");
    let dir = log.parent().expect("a parent").to_owned();
    std::fs::create_dir_all(world.path("bundle")).expect("bundle");
    world.add_mount(json!({"destination": dir, "source": dir, "options": ["rbind"]}));
    let kinds = [
        "prestart",
        "createRuntime",
        "createContainer",
        "startContainer",
        "poststart",
        "poststop",
    ];
    let hooks: serde_json::Map<String, Value> = kinds
        .iter()
        .map(|kind| ((*kind).to_owned(), recording(&world, kind)))
        .collect();
    world.spec["hooks"] = Value::Object(hooks);
    world.spec["annotations"] = json!({"a": "b"});
    world.args(&["true"]).run().ok();
    let text = std::fs::read_to_string(&log).expect("log");
    let mut seen: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ' ');
        let (name, x, state) = (
            parts.next().expect("name"),
            parts.next().expect("x"),
            parts.next().expect("state"),
        );
        let state: Value = serde_json::from_str(state).expect("JSON");
        assert_eq!(
            (x, &state["id"], &state["annotations"]["a"]),
            ("x", &json!(world.id), &json!("b"))
        );
        seen.push((name.to_owned(), state["status"].as_str().expect("text").to_owned()));
    }
    let expected = ["creating", "creating", "creating", "created", "running", "stopped"];
    assert_eq!(
        seen,
        kinds
            .iter()
            .zip(expected)
            .map(|(k, s)| ((*k).to_owned(), s.to_owned()))
            .collect::<Vec<_>>()
    );
    world.assert_nothing_left();
}

fn failing_hook() {
    let mut world = World::new();
    world.spec["hooks"] =
        json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "echo broken >&2; exit 1"]}]});
    let ended = world.sh("touch /tmp/ran");
    assert_eq!(ended.code, 1);
    assert!(
        ended.err.contains("createRuntime hook /bin/sh failed") && ended.err.contains("broken"),
        "{}",
        ended.err
    );
    // More than a pipe holds: the hook must not wait for a reader.
    let script = "head -c 200000 /dev/zero | tr '\\0' x >&2; exit 1";
    world.spec["hooks"] = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script], "timeout": 60}]});
    let ended = world.sh("true");
    assert!(ended.err.contains("failed with"), "{}", ended.err);
    world.spec["hooks"] = json!({"createContainer": [{"path": "/bin/sleep", "args": ["sleep", "100"], "timeout": 1}]});
    let ended = world.sh("touch /tmp/ran");
    assert!(ended.err.contains("took longer than 1 s"), "{}", ended.err);
    assert!(!world.rootfs().join("tmp/ran").exists());
    world.assert_nothing_left();
}

fn clean_failure() {
    let mut world = World::new();
    world.add_mount(json!({"destination": "/x", "source": "/no/such/source", "options": ["bind"]}));
    let ended = world.run();
    assert_eq!(ended.code, 1);
    assert_eq!(
        ended.err,
        "cata oci: mount /no/such/source at /x: No such file or directory (os error 2)"
    );
    world.spec["process"]["cwd"] = json!("relative");
    assert_eq!(
        world.run().err,
        "cata oci: config.json: process.cwd: \"relative\" is not an absolute path"
    );
    std::fs::write(world.bundle().join("config.json"), "{").expect("written");
    let bundle = world.bundle();
    let broken = world.oci(&["run", "-b", bundle.to_str().expect("text"), &world.id]);
    assert!(
        broken.err.starts_with("cata oci: parse ") && broken.err.lines().count() == 1,
        "{}",
        broken.err
    );
    world.assert_nothing_left();
}

fn json_log() {
    let world = World::new();
    let log = world.path("log.json");
    let ended = world.oci(&[
        "--log",
        log.to_str().expect("text"),
        "--log-format",
        "json",
        "state",
        "absent",
    ]);
    assert_eq!(ended.code, 1);
    let entry: Value = serde_json::from_str(&std::fs::read_to_string(log).expect("a log")).expect("JSON");
    assert_eq!(entry["level"], "error");
    assert!(entry["msg"].as_str().expect("text").contains("does not exist"));
}

fn like_runc() {
    let Ok(runc) = which("runc") else {
        println!("skipped: runc is not installed");
        return;
    };
    let mut world = World::new();
    world.args(&["sleep", "1000"]).write_spec();
    let (bundle, root) = (world.bundle(), world.path("runc"));
    let output = |args: &[&str]| {
        let mut command = std::process::Command::new(&runc);
        command
            .arg("--root")
            .arg(&root)
            .args(args)
            .stdin(std::process::Stdio::null());
        command
    };
    let quiet = std::process::Stdio::null;
    let id = format!("{}-runc", world.id);
    let args = ["create", "-b", bundle.to_str().expect("text"), &id];
    let created = output(&args).stdout(quiet()).stderr(quiet()).status().expect("runs");
    if !created.success() {
        println!("skipped: runc cannot create containers here");
        return;
    }
    let theirs = output(&["state", &id]).output().expect("runs").stdout;
    output(&["delete", "-f", &id]).status().expect("runs");
    let theirs: Value = serde_json::from_slice(&theirs).expect("JSON");
    let args = ["create", "-b", bundle.to_str().expect("text"), &world.id];
    world
        .command(&args)
        .stdout(quiet())
        .stderr(quiet())
        .status()
        .expect("runs");
    let ours = world.state();
    let keys = |value: &Value| {
        value
            .as_object()
            .expect("an object")
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(keys(&ours), keys(&theirs));
    for key in ["status", "bundle", "rootfs", "owner"] {
        assert_eq!(ours[key], theirs[key], "{key}");
    }
}

fn which(name: &str) -> Result<std::path::PathBuf, ()> {
    ["/usr/bin", "/usr/sbin", "/usr/local/bin"]
        .iter()
        .map(|dir| std::path::Path::new(dir).join(name))
        .find(|p| p.exists())
        .ok_or(())
}
