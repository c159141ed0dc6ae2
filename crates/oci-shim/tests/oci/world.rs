//! One container's surroundings: a bundle, a state directory, a cgroup name; all gone when it is dropped, whatever the
//! test did.

use catamaran_shim::cgroup::Cgroup;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub(crate) struct World {
    dir: tempfile::TempDir,
    pub(crate) id: String,
    pub(crate) cgroup: String,
    pub(crate) spec: Value,
    /// The program that is the runner.
    pub(crate) runner: PathBuf,
}

pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    fn of(output: Output) -> Ended {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim_end().replace('\r', "");
        Ended {
            code: output.status.code().unwrap_or(-1),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }

    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.out, self.err);
        self.out
    }
}

impl World {
    /// A container with the defaults of Kubernetes' ones, in the host's network (nothing there concerns the tests).
    pub(crate) fn new() -> World {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let dir = tempfile::Builder::new()
            .prefix("oci-test-")
            .tempdir_in("/dev/shm")
            .expect("temporary directory");
        let id = format!("t{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let cgroup = format!("/catamaran-oci-test-{id}");
        let mut world = World {
            spec: Value::Null,
            dir,
            id,
            cgroup,
            runner: std::env::current_exe().expect("own path"),
        };
        world.spec = world.default_spec();
        world.make_rootfs();
        world
    }

    fn default_spec(&self) -> Value {
        let capabilities = catamaran_shim::privilege::DEFAULT_CAPABILITIES;
        let mount = |destination: &str, kind: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": kind, "options": options});
        json!({
            "ociVersion": "1.0.2",
            "root": {"path": "rootfs"},
            "hostname": "tested",
            "process": {
                "user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["true"],
                "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
                "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            },
            "mounts": [
                mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
                mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
                mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
                mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777"]),
                mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            ],
            "linux": {
                "cgroupsPath": self.cgroup,
                "namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}],
                "maskedPaths": catamaran_shim::privilege::MASKED_PATHS,
                "readonlyPaths": catamaran_shim::privilege::READONLY_PATHS,
            },
        })
    }

    /// The host's programs, and this one as `/probe`.
    fn make_rootfs(&mut self) {
        let rootfs = self.rootfs();
        for name in ["etc", "tmp", "proc", "sys", "dev"] {
            std::fs::create_dir_all(rootfs.join(name)).expect("directory");
        }
        for name in ["usr", "bin", "sbin", "lib", "lib64"] {
            let host = Path::new("/").join(name);
            if let Ok(target) = std::fs::read_link(&host) {
                std::os::unix::fs::symlink(target, rootfs.join(name)).expect("link");
            } else if host.is_dir() {
                self.add_mount(json!({"destination": host, "source": host, "options": ["rbind", "ro"]}));
            }
        }
        let own = std::env::current_exe().expect("own path");
        self.add_mount(json!({"destination": "/probe", "source": own, "options": ["bind", "ro"]}));
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.bundle().join("rootfs")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn bundle(&self) -> PathBuf {
        self.path("bundle")
    }

    pub(crate) fn add_mount(&mut self, mount: Value) {
        self.spec["mounts"].as_array_mut().expect("a list").push(mount);
    }

    pub(crate) fn args(&mut self, args: &[&str]) -> &mut World {
        self.spec["process"]["args"] = json!(args);
        self
    }

    pub(crate) fn write_spec(&self) {
        let text = serde_json::to_vec_pretty(&self.spec).expect("JSON");
        std::fs::write(self.bundle().join("config.json"), text).expect("written");
    }

    /// A runner command: global options are there, the verb and its arguments are given.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.runner);
        command.arg("__oci").arg("--root").arg(self.path("state")).args(args);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn oci(&self, args: &[&str]) -> Ended {
        Ended::of(self.command(args).output().expect("runs"))
    }

    /// `run` in the foreground with options before the id.
    pub(crate) fn run_with(&self, options: &[&str]) -> Ended {
        self.write_spec();
        let bundle = self.bundle();
        let mut args = vec!["run", "-b", bundle.to_str().expect("text")];
        args.extend(options);
        args.push(&self.id);
        self.oci(&args)
    }

    pub(crate) fn run(&self) -> Ended {
        self.run_with(&[])
    }

    /// Runs a shell script in the container.
    pub(crate) fn sh(&mut self, script: &str) -> Ended {
        self.args(&["sh", "-c", script]).run()
    }

    /// A container whose script says `ready` and goes on; returns its runner.
    pub(crate) fn sh_ready(&mut self, script: &str) -> Child {
        self.args(&["sh", "-c", script]);
        self.write_spec();
        let bundle = self.bundle();
        let mut child = self
            .command(&["run", "-b", bundle.to_str().expect("text"), &self.id])
            .spawn()
            .expect("runs");
        let mut line = String::new();
        let mut out = std::io::BufReader::new(child.stdout.take().expect("piped"));
        std::io::BufRead::read_line(&mut out, &mut line).expect("a line");
        if line.trim() != "ready" {
            panic!(
                "not ready: {line:?} {:?}",
                Ended::of(child.wait_with_output().expect("ends")).err
            );
        }
        child.stdout = Some(out.into_inner());
        child
    }

    pub(crate) fn ended(child: Child) -> Ended {
        Ended::of(child.wait_with_output().expect("ends"))
    }

    pub(crate) fn state(&self) -> Value {
        serde_json::from_str(&self.oci(&["state", &self.id]).ok()).expect("JSON")
    }

    pub(crate) fn status(&self) -> String {
        self.state()["status"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits for a state that has no event to wait for.
    pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !holds() {
            assert!(Instant::now() < deadline, "never: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Nothing of the container is left on the machine.
    #[track_caller]
    pub(crate) fn assert_nothing_left(&self) {
        assert!(!self.path("state").join(&self.id).exists(), "state directory");
        assert!(!Cgroup::open(&self.cgroup).expect("valid").exists(), "cgroup");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        assert!(!mounts.contains(self.dir.path().to_str().expect("text")), "mounts");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.oci(&["delete", "-f", &self.id]);
        if let Ok(cgroup) = Cgroup::open(&self.cgroup) {
            let _ = cgroup.kill_all();
            let _ = cgroup.remove();
        }
    }
}
