//! C1 and C2: `run` → exit → deleted of `/bin/true` from a bundle, in a network namespace that exists.
//!
//! All three runtimes are whole processes with runc's arguments and get the same bundle, runc's own default made
//! read-only; they take turns, so that noise hits them alike. They all run in one room, made once: a mount namespace in
//! which the second cgroup hierarchy of a hybrid layout is not mounted, because crun refuses to work beside it.

use crate::row::{Peer, Row, Samples, Target};
use anyhow::{Context, Result, anyhow, bail};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountPropagationFlags, UnmountFlags};
use rustix::thread::UnshareFlags;
use serde_json::json;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 50;
const WARM_UP: usize = 3;
/// Containers at once, for the growth rows.
const CROWD: usize = 10;
const CROWD_ROUNDS: usize = 5;
const UNIFIED: &str = "/sys/fs/cgroup/unified";

struct Runtime {
    name: &'static str,
    command: Vec<String>,
    alone: Samples,
    crowded: Samples,
    failure: Option<String>,
}

pub(crate) fn rows(cata: &Path) -> Result<Vec<Row>> {
    let network = in_thread(new_network)?;
    in_thread(|| {
        enter_room()?;
        measure(cata, &network)
    })
}

/// Namespaces belong to threads: what this one enters ends with it.
fn in_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(work);
        thread.join().map_err(|_| anyhow!("a thread died"))?
    })
}

#[allow(
    deprecated,
    reason = "unsafe only for file descriptor tables, which are not unshared here"
)]
fn unshare(flags: UnshareFlags) -> Result<()> {
    rustix::thread::unshare(flags).context("cannot make namespaces")
}

fn new_network() -> Result<OwnedFd> {
    unshare(UnshareFlags::NEWNET)?;
    Ok(rustix::fs::open(
        "/proc/thread-self/ns/net",
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

fn enter_room() -> Result<()> {
    unshare(UnshareFlags::NEWNS)?;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let v1_beside_it = Path::new("/sys/fs/cgroup/memory").is_dir();
    if v1_beside_it && Path::new(UNIFIED).is_dir() {
        rustix::mount::unmount(UNIFIED, UnmountFlags::DETACH).context("cannot hide the unified cgroup hierarchy")?;
    }
    Ok(())
}

fn measure(cata: &Path, network: &OwnedFd) -> Result<Vec<Row>> {
    let directory = tempfile::tempdir()?;
    let network = format!("/proc/{}/fd/{}", std::process::id(), network.as_raw_fd());
    let bundle = make_bundle(directory.path(), &network)?;
    let mut runtimes = runtimes(cata)?;
    for round in 0..ROUNDS + WARM_UP {
        for runtime in &mut runtimes {
            let took = runtime.run(&bundle, &format!("bench-{}-{round}", runtime.name));
            match took {
                Ok(took) if round >= WARM_UP => runtime.alone.add(took),
                Ok(_) => {}
                Err(failure) => runtime.failure = Some(failure),
            }
        }
    }
    for round in 0..CROWD_ROUNDS {
        for runtime in &mut runtimes {
            runtime.crowd(&bundle, round);
        }
    }
    if let Some(failure) = &runtimes[0].failure {
        bail!("cata oci run failed: {failure}");
    }
    let mut rows = Vec::new();
    for (index, row, factor) in [(1, "C1", 0.6), (2, "C2", 0.2)] {
        for percent in [50, 99] {
            let ours = runtimes[0].alone.percentile(percent);
            let what = format!("run → exit → delete, p{percent} of {ROUNDS}");
            let peer = runtimes[index].peer(|runtime| &mut runtime.alone, percent);
            rows.push(
                Row::new(format!("{row}.p{percent}"), what, ours, "ms")
                    .peer(peer)
                    .target(Target::AtMostTimesPeer(factor)),
            );
        }
        let ours = runtimes[0].crowded.percentile(50);
        let peer = runtimes[index].peer(|runtime| &mut runtime.crowded, 50);
        rows.push(
            Row::new(
                format!("{row}.crowd"),
                format!("the same, {CROWD} at once until all are gone"),
                ours,
                "ms",
            )
            .peer(peer),
        );
    }
    Ok(rows)
}

fn runtimes(cata: &Path) -> Result<Vec<Runtime>> {
    // State on tmpfs, where it is by default.
    let state = tempfile::tempdir_in(if Path::new("/dev/shm").is_dir() {
        "/dev/shm"
    } else {
        "/run"
    })?
    .keep();
    let root = |name: &str| state.join(name).display().to_string();
    let ours = [cata.display().to_string(), "oci".into(), "--root".into(), root("cata")];
    let mut runtimes = vec![Runtime::new("cata", ours.to_vec(), None)];
    for name in ["crun", "runc"] {
        let program = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"]
            .iter()
            .map(|dir| format!("{dir}/{name}"))
            .find(|path| Path::new(path).exists());
        let missing = program.is_none().then(|| format!("{name} is not installed"));
        let command = vec![program.unwrap_or_else(|| name.to_owned()), "--root".into(), root(name)];
        runtimes.push(Runtime::new(name, command, missing));
    }
    Ok(runtimes)
}

impl Runtime {
    fn new(name: &'static str, command: Vec<String>, failure: Option<String>) -> Self {
        Self {
            name,
            command,
            alone: Samples::default(),
            crowded: Samples::default(),
            failure,
        }
    }

    fn run(&self, bundle: &Path, id: &str) -> Result<Duration, String> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let mut command = Command::new(&self.command[0]);
        command
            .args(&self.command[1..])
            .args(["run", "--bundle"])
            .arg(bundle)
            .arg(id)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let start = Instant::now();
        let output = command.output().map_err(|error| error.to_string())?;
        let elapsed = start.elapsed();
        if output.status.success() {
            Ok(elapsed)
        } else {
            Err(String::from_utf8_lossy(&output.stderr).trim().replace('\n', " "))
        }
    }

    fn crowd(&mut self, bundle: &Path, round: usize) {
        if self.failure.is_some() {
            return;
        }
        let start = Instant::now();
        let failure = std::thread::scope(|scope| {
            let this = &*self;
            let started: Vec<_> = (0..CROWD)
                .map(|number| scope.spawn(move || this.run(bundle, &format!("crowd-{}-{round}-{number}", this.name))))
                .collect();
            started
                .into_iter()
                .filter_map(|thread| thread.join().unwrap_or_else(|_| Err("a thread died".to_owned())).err())
                .next()
        });
        self.crowded.extend([start.elapsed()]);
        self.failure = failure;
    }

    fn peer(&mut self, samples: impl FnOnce(&mut Self) -> &mut Samples, percent: usize) -> Peer {
        match &self.failure {
            Some(failure) => Peer::Missing(failure.clone()),
            None => Peer::Measured(self.name, samples(self).percentile(percent)),
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // The state root of this runtime, and the directory above it once it is empty.
        if let Some(root) = self.command.last().map(Path::new) {
            let _ = std::fs::remove_dir_all(root);
            let _ = root.parent().map(std::fs::remove_dir);
        }
    }
}

/// runc's default bundle with a read-only root: the host's `true` and what its loader needs.
fn make_bundle(directory: &Path, network: &str) -> Result<PathBuf> {
    let bundle = directory.join("bundle");
    let rootfs = bundle.join("rootfs");
    for path in ["bin", "proc", "dev", "sys", "tmp"] {
        std::fs::create_dir_all(rootfs.join(path))?;
    }
    let ldd = Command::new("ldd")
        .arg("/bin/true")
        .output()
        .context("cannot run ldd")?;
    let libraries = String::from_utf8_lossy(&ldd.stdout).into_owned();
    let libraries = libraries
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from);
    for file in std::iter::once(PathBuf::from("/bin/true")).chain(libraries) {
        let target = rootfs.join(file.strip_prefix("/")?);
        std::fs::create_dir_all(target.parent().context("a parent")?)?;
        std::fs::copy(&file, &target).with_context(|| format!("cannot copy {}", file.display()))?;
    }
    std::fs::write(bundle.join("config.json"), serde_json::to_vec_pretty(&spec(network))?)?;
    Ok(bundle)
}

fn spec(network: &str) -> serde_json::Value {
    let mount = |destination: &str, kind: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": kind, "options": options});
    let capabilities = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/true"],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "bench",
        "mounts": [
            mount("/proc", "proc", &[]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        ],
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [
                {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "network", "path": network},
            ],
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}
