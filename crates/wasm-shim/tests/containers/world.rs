//! A bundle, a cgroup, a runtime: what a pod shim has.

use catamaran_shim::cgroup::Cgroup;
use catamaran_shim::runtime::{ExecRequest, Runtime as _, SharedWith, StartError, StartRequest, Started, Stdio};
use catamaran_shim::spec::{Preopen, WasmSpec};
use catamaran_wasm_shim::{NativeCache, WasmRuntime};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use sha2::{Digest as _, Sha256};
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicU32, Ordering};

pub(crate) const GUESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/guests");
pub(crate) const PROBE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/guests/probe/probe.wasm");
pub(crate) const SERVICE_P3: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../examples/guests/service-p3/service-p3.wasm"
);
pub(crate) const HELLO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/hello/hello.wasm");

/// `__native <cache dir> <digest> <module>`: the node's part, in a process that may have threads.
pub(crate) fn native_role() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(2).collect();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut command = compile_command();
    command.extend(arguments[3..].iter().map(Into::into));
    let cache = NativeCache::open(arguments[0].clone().into(), command).expect("the cache opens");
    match runtime.block_on(cache.native(&arguments[1], Path::new(&arguments[2]))) {
        Ok(native) => {
            print!("{}", native.path.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            print!("{error}");
            ExitCode::FAILURE
        }
    }
}

pub(crate) fn compile_command() -> Vec<std::ffi::OsString> {
    vec![
        std::env::current_exe().expect("own path").into(),
        "__wasm-compile".into(),
    ]
}

/// Compiles a module file as the node would.
pub(crate) fn native(cache: &Path, module: &Path) -> Result<PathBuf, String> {
    native_within(cache, module, &[])
}

/// As [`native`], with limits of the compiler's.
pub(crate) fn native_within(cache: &Path, module: &Path, limits: &[&str]) -> Result<PathBuf, String> {
    let digest = Sha256::digest(fs::read(module).expect("the module exists"));
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let output = Command::new(std::env::current_exe().expect("own path"))
        .args([
            "__native".as_ref(),
            cache.as_os_str(),
            digest.as_ref(),
            module.as_os_str(),
        ])
        .args(limits)
        .output()
        .expect("the node's part runs");
    let text = String::from_utf8(output.stdout).expect("text");
    if output.status.success() {
        Ok(text.into())
    } else {
        Err(text)
    }
}

/// One container's surroundings. Removes everything when dropped.
pub(crate) struct World {
    pub dir: tempfile::TempDir,
    pub runtime: WasmRuntime,
    pub spec: WasmSpec,
    pub terminal: bool,
}

impl World {
    /// For a guest of `examples/guests`, by file name.
    pub(crate) fn of_guest(name: &str) -> World {
        let dir = scratch();
        let module = guest(dir.path(), name);
        World::new(dir, module)
    }

    pub(crate) fn of_text(text: &str) -> World {
        let dir = scratch();
        let module = dir.path().join("guest.wasm");
        fs::write(&module, wat::parse_str(text).expect("valid text")).expect("written");
        World::new(dir, module)
    }

    pub(crate) fn hello(port: u16) -> World {
        World::service(HELLO, port)
    }

    pub(crate) fn service(module: &str, port: u16) -> World {
        let mut world = World::new(scratch(), module.into());
        world.spec.http_port = port;
        world
    }

    fn new(dir: tempfile::TempDir, module: PathBuf) -> World {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let native = native(&dir.path().join("cache"), &module).expect("the guest compiles");
        fs::create_dir(dir.path().join("bundle")).expect("made");
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let spec = WasmSpec {
            module,
            native,
            args: vec!["guest".to_owned()],
            env: Vec::new(),
            lower_dirs: Vec::new(),
            writable_layer: None,
            preopens: Vec::new(),
            cgroup: format!("/catamaran-test-{}-{number}/container", std::process::id()),
            resources: serde_json::from_str(r#"{"memory":{"limit":268435456}}"#).expect("valid"),
            memory_limit: None,
            uid: 65_532,
            gid: 65_532,
            supplemental_gids: vec![2000],
            http_port: 8080,
            seccomp: true,
            container_name: "web".to_owned(),
        };
        World {
            dir,
            runtime: WasmRuntime::new(),
            spec,
            terminal: false,
        }
    }

    pub(crate) fn bundle(&self) -> PathBuf {
        self.dir.path().join("bundle")
    }

    /// A directory on the host, as a volume.
    pub(crate) fn volume(&mut self, guest_path: &str, read_only: bool) -> PathBuf {
        let host_path = self.dir.path().join(format!("volume-{}", self.spec.preopens.len()));
        fs::create_dir(&host_path).expect("made");
        std::os::unix::fs::chown(&host_path, Some(self.spec.uid), Some(self.spec.gid)).expect("given away");
        let preopen = Preopen {
            host_path: host_path.clone(),
            guest_path: guest_path.to_owned(),
            read_only,
        };
        self.spec.preopens.push(preopen);
        host_path
    }

    pub(crate) fn start(&mut self) -> Result<Running, StartError> {
        self.start_with_input(None)
    }

    pub(crate) fn start_with_input(&mut self, stdin: Option<OwnedFd>) -> Result<Running, StartError> {
        let bundle = self.bundle();
        fs::write(
            bundle.join("wasm.json"),
            serde_json::to_vec(&self.spec).expect("a spec"),
        )
        .expect("written");
        let (stdio, output) = if self.terminal {
            (Stdio::default(), None)
        } else {
            pipes(stdin)
        };
        let request = StartRequest {
            id: "c",
            bundle: &bundle,
            stdio,
            terminal: self.terminal,
            shared: SharedWith::default(),
        };
        let started = self.runtime.start(request)?;
        Ok(Running::new(started, output))
    }

    pub(crate) fn exec(&mut self, container: &Running, args: &[&str]) -> Result<Running, StartError> {
        let process = serde_json::json!({"cwd": "/data", "args": args, "env": ["PATH=/data", "WHO=exec"],
            "user": {"uid": self.spec.uid, "gid": self.spec.gid}});
        let process = serde_json::from_value(process).expect("a process");
        let bundle = self.bundle();
        let (stdio, output) = pipes(None);
        let request = ExecRequest {
            container_id: "c",
            bundle: &bundle,
            container_pid: container.pid(),
            process: &process,
            stdio,
        };
        Ok(Running::new(self.runtime.exec(request)?, output))
    }

    /// Starts it, waits for its end.
    pub(crate) fn run(&mut self) -> Finished {
        self.start().expect("the container starts").finish()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let bundle = self.bundle();
        self.runtime.cleanup("c", &bundle);
        let cgroup = Cgroup::open(&self.spec.cgroup).expect("a path");
        let left = cgroup.exists();
        let parent = Path::new(&self.spec.cgroup)
            .parent()
            .expect("a parent")
            .display()
            .to_string();
        let _ = Cgroup::open(&parent).expect("a path").remove();
        assert!(!left || std::thread::panicking(), "cleanup leaves no cgroup");
    }
}

pub(crate) fn scratch() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    // As the run directory's parents: containers' users may pass.
    fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("opened");
    dir
}

/// Makes `<dir>/<name>.wasm` of a guest's text.
pub(crate) fn guest(dir: &Path, name: &str) -> PathBuf {
    let wasm = wat::parse_file(format!("{GUESTS}/{name}.wat")).expect("the guest is valid");
    let module = dir.join(format!("{name}.wasm"));
    fs::write(&module, wasm).expect("written");
    module
}

type Output = (File, File);

fn pipes(stdin: Option<OwnedFd>) -> (Stdio, Option<Output>) {
    let (stdout, out) = std::io::pipe().expect("a pipe");
    let (stderr, err) = std::io::pipe().expect("a pipe");
    let stdio = Stdio {
        stdin,
        stdout: Some(out.into()),
        stderr: Some(err.into()),
    };
    (
        stdio,
        Some((OwnedFd::from(stdout).into(), OwnedFd::from(stderr).into())),
    )
}

/// A started process. Killed when dropped.
pub(crate) struct Running {
    started: Started,
    output: Option<Output>,
    reaped: bool,
}

#[derive(Debug)]
pub(crate) struct Finished {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Running {
    fn new(started: Started, output: Option<Output>) -> Running {
        Running {
            started,
            output,
            reaped: false,
        }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.started.pid
    }

    pub(crate) fn console(&self) -> Option<File> {
        self.started
            .console
            .as_ref()
            .map(|fd| fd.try_clone().expect("copied").into())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        rustix::process::pidfd_send_signal(&self.started.pidfd, signal).expect("it runs");
    }

    /// A line of `/proc/<pid>/status`.
    pub(crate) fn status(&self, field: &str) -> String {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {field} in {text}"))
            .split_ascii_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// The next line of standard output.
    pub(crate) fn line(&mut self) -> String {
        let (stdout, _) = self.output.as_mut().expect("not a terminal");
        let mut line = Vec::new();
        let mut byte = [0];
        while stdout.read(&mut byte).expect("readable") == 1 && byte[0] != b'\n' {
            line.push(byte[0]);
        }
        String::from_utf8(line).expect("text")
    }

    pub(crate) fn finish(mut self) -> Finished {
        let (mut stdout, mut stderr) = (String::new(), String::new());
        if let Some((out, err)) = &mut self.output {
            out.read_to_string(&mut stdout).expect("text");
            err.read_to_string(&mut stderr).expect("text");
        }
        let status = self.wait();
        Finished {
            code: status.exit_status(),
            signal: status.terminating_signal(),
            stdout,
            stderr,
        }
    }

    fn wait(&mut self) -> WaitStatus {
        let pid = Pid::from_raw(self.pid()).expect("a pid");
        self.reaped = true;
        rustix::process::waitpid(Some(pid), WaitOptions::empty())
            .expect("ours")
            .expect("ended")
            .1
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.reaped {
            let _ = rustix::process::pidfd_send_signal(&self.started.pidfd, Signal::KILL);
            self.wait();
        }
    }
}

/// A pipe that holds `text` and then ends.
pub(crate) fn input(text: &str) -> OwnedFd {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    writer.write_all(text.as_bytes()).expect("it fits");
    reader.into()
}
