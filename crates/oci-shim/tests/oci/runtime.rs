//! The runner as the pod shim uses it: in a single-threaded process that keeps the children.

use crate::world::World;
use catamaran_oci_shim::OciRuntime;
use catamaran_shim::runtime::{ExecRequest, Runtime, SharedWith, StartRequest, Stdio};
use serde_json::json;
use std::ffi::OsString;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;

pub(crate) const TESTS: &[crate::Test] = &[("the_runtime_starts_executes_and_cleans_up", works)];

fn works() {
    let mut world = World::new();
    world.args(&["sh", "-c", "echo started; exec sleep 1000"]).write_spec();
    let bundle = world.bundle();
    let output = std::process::Command::new(std::env::current_exe().expect("own path"))
        .args(["__runtime", &world.id, bundle.to_str().expect("text")])
        .output()
        .expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "started\nexecuted\nRunContainerError 127 exec \"absent\": executable file not found in $PATH\n"
    );
    world.assert_nothing_left();
    world.spec["process"]["args"] = json!([]);
}

/// Plays the pod shim.
pub(crate) fn main(args: &[OsString]) -> ExitCode {
    let (id, bundle) = (args[0].to_str().expect("text"), Path::new(&args[1]));
    let mut runtime = OciRuntime::new();
    let (read, write) = std::io::pipe().expect("a pipe");
    let stdio = |out: &std::io::PipeWriter| Stdio {
        stdout: Some(OwnedFd::from(out.try_clone().expect("a copy"))),
        ..Stdio::default()
    };
    let started = runtime
        .start(StartRequest {
            id,
            bundle,
            stdio: stdio(&write),
            terminal: false,
            shared: SharedWith::default(),
        })
        .expect("starts");
    let mut reader = std::io::BufReader::new(read);
    let mut line = String::new();
    std::io::BufRead::read_line(&mut reader, &mut line).expect("output");
    print!("{line}");
    let process = serde_json::from_value(
        json!({"user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["sh", "-c", "echo executed"], "env": ["PATH=/usr/bin:/bin"]}),
    );
    let process = process.expect("a process");
    let request = ExecRequest {
        container_id: id,
        bundle,
        container_pid: started.pid,
        process: &process,
        stdio: stdio(&write),
    };
    let executed = runtime.exec(request).expect("executes");
    assert_eq!(wait(executed.pid), 0);
    drop(write);
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(started.pid).expect("a pid"),
        rustix::process::Signal::KILL,
    )
    .expect("killed");
    assert_eq!(wait(started.pid), 9);
    runtime.cleanup(id, bundle);
    runtime.cleanup(id, bundle);
    let mut rest = String::new();
    reader.read_to_string(&mut rest).expect("output");
    print!("{rest}");
    let config = std::fs::read_to_string(bundle.join("config.json")).expect("a spec");
    std::fs::write(bundle.join("config.json"), config.replace("\"sh\"", "\"absent\"")).expect("written");
    let error = runtime
        .start(StartRequest {
            id,
            bundle,
            stdio: Stdio::default(),
            terminal: false,
            shared: SharedWith::default(),
        })
        .expect_err("absent");
    println!("{} {} {}", error.reason, error.exit_code, error.message);
    ExitCode::SUCCESS
}

/// The raw wait status.
fn wait(pid: i32) -> i32 {
    let mut status = 0;
    // SAFETY: the status outlives the call.
    unsafe { libc::waitpid(pid, &raw mut status, 0) };
    status
}
