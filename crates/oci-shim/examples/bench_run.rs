//! Container start, measured: run → exit → delete of `/bin/true` from a bundle, network namespace joined, ours beside
//! crun and runc in turns. Prints one JSON line per runtime.
//!
//! `cargo run --release -p catamaran-oci-shim --example bench_run -- [N]`; needs root. Peers that are not installed are left
//! out. crun refuses the hybrid cgroup layout; it is run in a mount namespace without the unified tree. In-process is what
//! a pod shim does: no program to load, the spec still read from the bundle.

use catamaran_oci_shim::OciRuntime;
use catamaran_shim::runtime::{Runtime, SharedWith, StartRequest, Stdio};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    if args.first().is_some_and(|first| first == "__oci") {
        return catamaran_oci_shim::cli(args[1..].to_vec());
    }
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root");
        return ExitCode::FAILURE;
    }
    let rounds = args.first().and_then(|text| text.to_str()?.parse().ok()).unwrap_or(50);
    let dir = tempfile::tempdir_in("/dev/shm").expect("temporary directory");
    let network = Network::new();
    let bundle = make_bundle(dir.path(), &network.path());
    let mut peers = peers(dir.path());
    for round in 0..rounds + 3 {
        for peer in &mut peers {
            let took = peer.run(&bundle, round);
            if round >= 3 {
                peer.times.push(took);
            }
        }
    }
    for peer in &mut peers {
        peer.times.sort();
        let at = |percent: usize| peer.times[(peer.times.len() - 1) * percent / 100].as_secs_f64() * 1e3;
        let line = json!({"bench": "C1", "runtime": peer.name, "n": rounds, "p50_ms": at(50), "p99_ms": at(99),
                          "debug": cfg!(debug_assertions)});
        println!("{line}");
    }
    ExitCode::SUCCESS
}

/// A network namespace to join, held by a process.
struct Network(std::process::Child);

impl Network {
    fn new() -> Network {
        let holder = Command::new("unshare")
            .args(["-n", "sleep", "infinity"])
            .spawn()
            .expect("unshare");
        let network = Network(holder);
        let own = std::fs::read_link("/proc/self/ns/net").expect("a link");
        while std::fs::read_link(network.path()).is_ok_and(|link| link == own) {
            std::thread::yield_now();
        }
        network
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        // The peers leave the parent of their cgroup, also in hierarchies that ours does not use.
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let _ = std::fs::remove_dir(hierarchy.path().join("catamaran-bench"));
        }
    }
}

struct Peer {
    name: &'static str,
    how: How,
    times: Vec<Duration>,
}

enum How {
    InProcess(OciRuntime),
    Program(Vec<PathBuf>),
    /// A shell command in a mount namespace of its own, whose start must not count: it measures itself.
    WithoutUnified(PathBuf, PathBuf),
}

fn peers(dir: &Path) -> Vec<Peer> {
    let own = std::env::current_exe().expect("own path");
    let peer = |name, how| Peer {
        name,
        how,
        times: Vec::new(),
    };
    let state = |name: &str| dir.join(name);
    let mut peers = vec![
        peer("ours (pod shim)", How::InProcess(OciRuntime::new())),
        peer(
            "ours (command)",
            How::Program(vec![own, "__oci".into(), "--root".into(), state("ours")]),
        ),
    ];
    let runc = PathBuf::from("/usr/sbin/runc");
    if runc.exists() {
        peers.push(peer("runc", How::Program(vec![runc, "--root".into(), state("runc")])));
    }
    let crun = PathBuf::from("/usr/bin/crun");
    if crun.exists() {
        let how = if Path::new("/sys/fs/cgroup/unified/cgroup.procs").exists() {
            How::WithoutUnified(crun, state("crun"))
        } else {
            How::Program(vec![crun, "--root".into(), state("crun")])
        };
        peers.push(peer("crun", how));
    }
    peers
}

impl Peer {
    fn run(&mut self, bundle: &Path, round: usize) -> Duration {
        let id = format!("bench-{}-{round}", std::process::id());
        match &mut self.how {
            How::InProcess(runtime) => in_process(runtime, bundle, &id),
            How::Program(words) => {
                let begin = Instant::now();
                let status = Command::new(&words[0])
                    .args(&words[1..])
                    .arg("run")
                    .arg("-b")
                    .arg(bundle)
                    .arg(&id)
                    .status();
                let took = begin.elapsed();
                assert!(status.expect("starts").success(), "{}", self.name);
                took
            }
            How::WithoutUnified(program, state) => without_unified(program, state, bundle, &id),
        }
    }
}

fn in_process(runtime: &mut OciRuntime, bundle: &Path, id: &str) -> Duration {
    let begin = Instant::now();
    let request = StartRequest {
        id,
        bundle,
        stdio: Stdio::default(),
        terminal: false,
        shared: SharedWith::default(),
    };
    let started = runtime.start(request).expect("starts");
    let status = rustix::process::waitpid(
        rustix::process::Pid::from_raw(started.pid),
        rustix::process::WaitOptions::empty(),
    );
    runtime.cleanup(id, bundle);
    let took = begin.elapsed();
    let status = status.expect("waited for").expect("ended").1;
    assert_eq!(status.exit_status(), Some(0));
    took
}

/// Unmounts the unified tree aside, then takes the time of the peer alone, with the shell's clock.
fn without_unified(program: &Path, state: &Path, bundle: &Path, id: &str) -> Duration {
    let script = format!(
        "umount /sys/fs/cgroup/unified || exit 1; a=$EPOCHREALTIME; {} --root {} run -b {} {id} || exit 1; b=$EPOCHREALTIME; \
         echo $(( (${{b/./}} - ${{a/./}}) ))",
        program.display(),
        state.display(),
        bundle.display()
    );
    let output = Command::new("unshare")
        .args(["-m", "bash", "-c", &script])
        .output()
        .expect("unshare and bash");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Duration::from_micros(
        String::from_utf8_lossy(&output.stdout)
            .trim()
            .parse()
            .expect("microseconds"),
    )
}

fn make_bundle(dir: &Path, network: &str) -> PathBuf {
    let bundle = dir.join("bundle");
    let rootfs = bundle.join("rootfs");
    for name in ["etc", "tmp", "proc", "sys", "dev", "usr", "lib", "lib64", "bin"] {
        std::fs::create_dir_all(rootfs.join(name)).expect("made");
    }
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": source, "options": options});
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount(
            "/dev/shm",
            "tmpfs",
            "shm",
            &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
        ),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    ];
    for name in ["/usr", "/bin", "/lib", "/lib64"] {
        if Path::new(name).exists() {
            mounts.push(mount(name, "bind", name, &["rbind", "ro"]));
        }
    }
    let capabilities = catamaran_shim::privilege::DEFAULT_CAPABILITIES;
    let spec = json!({
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs"},
        "hostname": "bench",
        "process": {
            "user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["/bin/true"], "env": ["PATH=/usr/bin:/bin"],
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            "noNewPrivileges": true,
        },
        "mounts": mounts,
        "linux": {
            "cgroupsPath": "/catamaran-bench/container",
            "namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
                           {"type": "network", "path": network}],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            "seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
                        "syscalls": [{"names": ["keyctl", "add_key", "bpf", "mount"], "action": "SCMP_ACT_ERRNO"}]},
        },
    });
    std::fs::write(bundle.join("config.json"), spec.to_string()).expect("written");
    bundle
}
