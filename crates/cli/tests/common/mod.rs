//! What end-to-end tests share: a cluster of their own, made of the real binary, that leaves nothing behind.

#![allow(dead_code, reason = "every test file uses its own part of this")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// A deadline that only a broken cluster meets; nothing here is timed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Without root nothing here can run: say so, and fail where a skip would hide it.
pub(crate) fn root() -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "these tests need root");
    eprintln!("skipped: needs root");
    false
}

/// A program of the real-client tier. Missing: skipped, unless the tier was asked for (`cargo xtask test --real`).
pub(crate) fn have(program: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|directory| directory.join(program).is_file()));
    if !found {
        assert!(
            std::env::var_os("CATA_TEST_REAL").is_none(),
            "the real-client tier needs {program}"
        );
        eprintln!("skipped: needs {program}");
    }
    found
}

pub(crate) fn cata() -> Command {
    Command::new(env!("CARGO_BIN_EXE_cata"))
}

/// Standard output of a command that has to succeed.
#[track_caller]
pub(crate) fn stdout(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("command starts");
    assert!(
        output.status.success(),
        "{command:?} failed: {}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// Standard error of a command that has to fail.
#[track_caller]
pub(crate) fn refusal(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("command starts");
    assert!(
        !output.status.success(),
        "{command:?} should have failed: {}",
        text(&output.stdout)
    );
    text(&output.stderr)
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Waits for something that no event announces to this process.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "still waiting for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A child whose output is read line by line, and which never outlives the test.
pub(crate) struct Running {
    pub(crate) child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("command starts");
        let (sender, lines) = channel();
        let streams: [Box<dyn std::io::Read + Send>; 2] = [
            Box::new(child.stdout.take().expect("stdout")),
            Box::new(child.stderr.take().expect("stderr")),
        ];
        for stream in streams {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        Self {
            child,
            lines,
            seen: Vec::new(),
        }
    }

    /// Reads on until a line contains `words`, and returns it.
    #[track_caller]
    pub(crate) fn line(&mut self, words: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(words) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("no line with {words:?} in:\n{}", self.seen.join("\n")),
                Err(RecvTimeoutError::Disconnected) => panic!("ended without {words:?}:\n{}", self.seen.join("\n")),
            }
        }
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("signal");
    }

    /// Waits for the end; returns everything that was printed.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> (std::process::ExitStatus, String) {
        let status = until("the process to end", || self.child.try_wait().expect("wait"));
        self.seen.extend(self.lines.iter());
        (status, self.seen.join("\n"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            self.seen.extend(self.lines.try_iter());
            eprintln!("--- output of {}:\n{}\n---", self.child.id(), self.seen.join("\n"));
        }
    }
}

/// `cata dev` on a data directory of its own.
pub(crate) struct Cluster {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) dev: Option<Running>,
}

impl Cluster {
    /// `None` (and the reason printed) where it cannot run.
    pub(crate) fn start(arguments: &[&str]) -> Option<Self> {
        if !root() {
            return None;
        }
        let mut cluster = Self {
            directory: tempfile::tempdir().expect("directory"),
            dev: None,
        };
        cluster.boot(arguments);
        Some(cluster)
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Starts `cata dev` (again) and returns once node and API are up.
    pub(crate) fn boot(&mut self, arguments: &[&str]) {
        let mut command = cata();
        command
            .arg("dev")
            .arg("--data-dir")
            .arg(self.data_dir())
            .args(["--api-port", "0", "--node-name", "node-1"]);
        let mut dev = Running::start(command.args(arguments));
        dev.line("is up");
        dev.line("data ");
        self.dev = Some(dev);
    }

    pub(crate) fn dev(&mut self) -> &mut Running {
        self.dev.as_mut().expect("running")
    }

    pub(crate) fn instance(&self) -> String {
        std::fs::read_to_string(self.data_dir().join("instance"))
            .expect("instance")
            .trim()
            .to_owned()
    }

    pub(crate) fn leftovers(&self) -> BTreeSet<String> {
        leftovers(&self.instance(), &self.data_dir())
    }

    /// `cata VERB` as a client of this cluster.
    pub(crate) fn cata(&self, arguments: &[&str]) -> Command {
        let mut command = cata();
        command
            .arg("--data-dir")
            .arg(self.data_dir())
            .args(arguments)
            .env_remove("KUBECONFIG");
        command
    }

    /// Real kubectl, with a cache of its own.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command
            .env("KUBECONFIG", self.data_dir().join("kubeconfig"))
            .env("KUBECACHEDIR", self.directory.path().join("cache"))
            .args(arguments);
        command
    }

    #[track_caller]
    pub(crate) fn apply(&self, manifest: &str) -> String {
        let path = self.directory.path().join("manifest.yaml");
        std::fs::write(&path, manifest).expect("write");
        stdout(&mut self.cata(&["apply", "-f", path.to_str().expect("utf-8")]))
    }

    #[track_caller]
    pub(crate) fn get(&self, what: &str, jsonpath: &str) -> String {
        stdout(&mut self.cata(&["get", what, "-o", &format!("jsonpath={jsonpath}")]))
    }

    #[track_caller]
    pub(crate) fn wait_for(&self, what: &str, condition: &str) {
        let mut command = self.cata(&["wait", what, &format!("--for={condition}"), "--timeout=60s"]);
        let output = command.output().expect("cata");
        if !output.status.success() {
            let page = self.cata(&["describe", what]).output().expect("cata");
            panic!(
                "{what} never reached {condition}: {}\n{}",
                text(&output.stderr),
                text(&page.stdout)
            );
        }
    }

    /// The host's bash and a few tools as the image `host/tools:v1`, and hello as `host/hello:v1`.
    pub(crate) fn pack_images(&self) {
        let tools = [
            "bash", "cat", "ls", "sleep", "id", "stat", "touch", "hostname", "head", "true", "dd", "stty",
        ];
        let tools: Vec<PathBuf> = tools
            .iter()
            .filter_map(|tool| {
                ["/bin", "/usr/bin"]
                    .iter()
                    .map(|directory| Path::new(directory).join(tool))
                    .find(|path| path.exists())
            })
            .collect();
        let mut command = self.cata(&["image", "pack", "--tag", "host/tools:v1", "--from-host"]);
        stdout(command.args(tools));
        let hello = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/hello/hello.wasm");
        stdout(
            self.cata(&["image", "pack", "--tag", "host/hello:v1", "--wasm"])
                .arg(hello),
        );
    }

    /// Ctrl-C, and the proof that nothing of the instance is left on the machine.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        let mut dev = self.dev.take().expect("running");
        dev.signal(rustix::process::Signal::INT);
        let (status, output) = dev.wait();
        assert!(status.success(), "dev ended with {status}:\n{output}");
        assert_eq!(self.leftovers(), BTreeSet::new());
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(mut dev) = self.dev.take() {
            let _ = dev.child.kill();
            let _ = dev.child.wait();
            if std::thread::panicking() {
                drop(dev);
            }
        }
        let cleanup = cata().arg("cleanup").arg("--data-dir").arg(self.data_dir()).output();
        if let Ok(Output { status, stderr, .. }) = cleanup
            && !status.success()
            && !std::thread::panicking()
        {
            panic!("cleanup failed: {}", text(&stderr));
        }
    }
}

/// Everything on the machine that carries an instance's name: processes in its cgroups, cgroups, links, mounts,
/// directories on tmpfs, nf_tables tables; and mounts below its data directory.
pub(crate) fn leftovers(instance: &str, data_dir: &Path) -> BTreeSet<String> {
    let data_dir = data_dir.display().to_string();
    let mut found = BTreeSet::new();
    let name = format!("catamaran-{instance}");
    for link in entries("/sys/class/net") {
        if link.contains(instance) {
            found.insert(format!("link {link}"));
        }
    }
    for base in ["/run", "/dev/shm"] {
        found.extend(
            entries(base)
                .into_iter()
                .filter(|entry| *entry == name)
                .map(|entry| format!("directory {base}/{entry}")),
        );
    }
    for hierarchy in std::iter::once(String::new()).chain(entries("/sys/fs/cgroup")) {
        let path = Path::new("/sys/fs/cgroup").join(&hierarchy).join(&name);
        if path.is_dir() {
            found.insert(format!("cgroup {}", path.display()));
        }
    }
    for process in entries("/proc")
        .into_iter()
        .filter(|entry| entry.bytes().all(|byte| byte.is_ascii_digit()))
    {
        let cgroups = std::fs::read_to_string(format!("/proc/{process}/cgroup")).unwrap_or_default();
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        // A zombie is nothing but an entry that init has not read yet.
        if cgroups.contains(&name) && !status.contains("State:\tZ") {
            let command = std::fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
            found.insert(format!("process {process} {}", command.trim()));
        }
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    found.extend(
        mounts
            .lines()
            .filter(|line| line.contains(&name) || line.contains(&data_dir))
            .map(|line| format!("mount {line}")),
    );
    if let Ok(output) = Command::new("nft").args(["list", "tables"]).output() {
        found.extend(
            text(&output.stdout)
                .lines()
                .filter(|line| line.contains(&name))
                .map(|line| format!("nft {line}")),
        );
    }
    found
}

fn entries(directory: &str) -> Vec<String> {
    std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect()
}

/// One HTTP/1.0 GET; the whole answer.
pub(crate) fn http_get(host: &str, port: u16, path: &str) -> std::io::Result<String> {
    let address = format!("{host}:{port}").parse().expect("address");
    let mut stream = std::net::TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer)?;
    Ok(answer)
}
