//! A pod's surroundings, and the proof that nothing of them is left.

use crate::runtime::{MARKER, SPEC, Spec};
use catamaran_shim::cgroup::{self, Cgroup};
use catamaran_shim::client::{Event, Events, Launcher, PodShim};
use catamaran_shim::launcher::LauncherHandle;
use catamaran_shim::runtime::Stdio;
use catamaran_shim::spec::{ContainerConfig, Exit, PodConfig, RuntimeKind, Shared};
use catamaran_shim::state_dir::{StateDir, start_time_ticks};
use catamaran_shim::{leftovers, run_base};
use oci_spec::runtime::LinuxResources;
use std::fs;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long anything may take before it counts as never.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn require_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: needs root");
    }
    root
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        tokio::time::timeout(3 * PATIENCE, future)
            .await
            .expect("the test hangs")
    })
}

/// Polls a condition for which there is no event.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A run directory, a cgroup tree and a marker that nothing else on the machine has.
pub(crate) struct World {
    pub(crate) instance: String,
    pub(crate) run_dir: PathBuf,
}

impl World {
    pub(crate) fn new() -> World {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let instance = format!("test{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let world = World {
            run_dir: run_base().join(format!("catamaran-{instance}")),
            instance,
        };
        fs::create_dir_all(&world.run_dir).unwrap();
        world
    }

    /// The world of another process.
    pub(crate) fn named(instance: &str) -> World {
        World {
            run_dir: run_base().join(format!("catamaran-{instance}")),
            instance: instance.to_owned(),
        }
    }

    pub(crate) fn state_dir(&self) -> StateDir {
        StateDir::of_pod(&self.run_dir, "u1")
    }

    pub(crate) fn pod_config(&self) -> PodConfig {
        PodConfig {
            uid: "u1".into(),
            namespace: "default".into(),
            name: "web".into(),
            state_dir: self.state_dir().path().to_owned(),
            hostname: "web-host".into(),
            cgroup: format!("/catamaran-{}/podu1", self.instance),
            share_process_namespace: false,
            sysctls: [("kernel.shm_rmid_forced".to_owned(), "1".to_owned())].into(),
        }
    }

    /// What the agent makes before it asks for a shim.
    pub(crate) fn prepare(&self, config: &PodConfig) {
        fs::create_dir_all(&config.state_dir).unwrap();
        Cgroup::create(&config.cgroup, &LinuxResources::default()).unwrap();
    }

    pub(crate) async fn pod(&self) -> Pod {
        self.pod_with(self.pod_config()).await
    }

    pub(crate) async fn pod_with(&self, config: PodConfig) -> Pod {
        self.prepare(&config);
        let launcher = Launcher::new(LauncherHandle::spawn().unwrap()).unwrap();
        let (shim, events) = launcher.create_pod(&config, netns()).await.unwrap();
        Pod {
            launcher,
            shim,
            events,
            instance: self.instance.clone(),
            run_dir: self.run_dir.clone(),
        }
    }

    /// Every process that carries this world's marker, or is one of its shims.
    pub(crate) fn processes(&self) -> Vec<String> {
        let marker = format!("{MARKER}={}", self.instance);
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
                continue;
            };
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            let ours = environment
                .split(|byte| *byte == 0)
                .any(|pair| pair == marker.as_bytes());
            let cgroups = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
            if (ours || cgroups.contains(&format!("catamaran-{}/", self.instance))) && start_time_ticks(pid).is_some() {
                found.push(format!(
                    "{pid} {}",
                    fs::read_to_string(entry.path().join("comm")).unwrap_or_default()
                ));
            }
        }
        found
    }

    /// Nothing of the pods may be left, without any help.
    pub(crate) fn assert_no_pods(&self) {
        eventually("all processes of the world gone", || self.processes().is_empty());
        for pod in StateDir::list(&self.run_dir).unwrap() {
            let left: Vec<_> = fs::read_dir(pod.path())
                .unwrap()
                .flatten()
                .map(|entry| entry.path())
                .collect();
            assert!(left.is_empty(), "{left:?}");
        }
        for path in cgroup::top_level(&format!("catamaran-{}", self.instance)) {
            for dir in Cgroup::open(&path).unwrap().dirs() {
                let pods = fs::read_dir(dir)
                    .unwrap()
                    .flatten()
                    .filter(|entry| entry.path().is_dir());
                assert_eq!(pods.count(), 0, "{}", dir.display());
            }
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let report = leftovers::remove_instance(&self.run_dir, &self.instance);
        let _ = fs::remove_dir_all(&self.run_dir);
        if !std::thread::panicking() {
            assert!(report.failures.is_empty(), "{report:?}");
            assert!(cgroup::top_level(&format!("catamaran-{}", self.instance)).is_empty());
            eventually("leftovers gone", || self.processes().is_empty());
        }
    }
}

/// A pod shim and what a test needs around it.
pub(crate) struct Pod {
    pub(crate) launcher: Launcher,
    pub(crate) shim: PodShim,
    pub(crate) events: Events,
    instance: String,
    run_dir: PathBuf,
}

impl Pod {
    pub(crate) fn bundle(&self, id: &str, args: &[&str]) -> ContainerConfig {
        bundle(&self.run_dir, &self.instance, id, args, LinuxResources::default())
    }

    /// Starts `/bin/sh -c script` as container `id`.
    pub(crate) async fn sh(&self, id: &str, script: &str) -> ContainerConfig {
        let config = self.bundle(id, &["/bin/sh", "-c", script]);
        self.shim.start(&config).await.unwrap();
        config
    }

    pub(crate) async fn exit(&mut self, id: &str) -> Exit {
        exit_of(&mut self.events, id).await
    }

    /// Starts, waits, and gives the exit and the log's content without times.
    pub(crate) async fn run(&mut self, id: &str, script: &str) -> (Exit, String) {
        let config = self.sh(id, script).await;
        let exit = self.exit(id).await;
        (exit, log_without_times(config.log_path.as_deref().unwrap()))
    }

    pub(crate) async fn stop(self) {
        self.shim.shutdown().await.unwrap();
    }
}

/// A bundle directory with a script, and how to start it.
pub(crate) fn bundle(
    run: &Path,
    instance: &str,
    id: &str,
    args: &[&str],
    resources: LinuxResources,
) -> ContainerConfig {
    let dir = StateDir::of_pod(run, "u1").container(id);
    fs::create_dir_all(&dir).unwrap();
    let spec = Spec {
        args: args.iter().map(ToString::to_string).collect(),
        cgroup: format!("/catamaran-{instance}/podu1/{id}"),
        resources,
        marker: instance.to_owned(),
    };
    fs::write(dir.join(SPEC), serde_json::to_vec(&spec).unwrap()).unwrap();
    ContainerConfig {
        id: id.to_owned(),
        name: id.to_owned(),
        runtime: RuntimeKind::Linux,
        log_path: Some(run.join(format!("{id}.log"))),
        terminal: false,
        stdin: false,
        stdin_once: false,
        shared: Shared::default(),
    }
}

pub(crate) async fn exit_of(events: &mut Events, wanted: &str) -> Exit {
    loop {
        match events.recv().await {
            Some(Event::Exited { id, exit }) if id == wanted => return exit,
            Some(Event::Gone) | None => panic!("the shim is gone"),
            Some(_) => {}
        }
    }
}

pub(crate) fn log_without_times(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let strip = |line: &str| line.split_once(' ').expect("a time and a space").1.to_owned() + "\n";
    text.lines().map(strip).collect()
}

/// A new, empty network namespace.
pub(crate) fn netns() -> OwnedFd {
    std::thread::spawn(|| {
        // SAFETY: a namespace changes no memory; the thread ends here.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0);
        fs::File::open("/proc/thread-self/ns/net").unwrap().into()
    })
    .join()
    .unwrap()
}

/// A pipe: what the test keeps to read from, and what it gives away.
pub(crate) fn pipe() -> (tokio::net::unix::pipe::Receiver, OwnedFd) {
    let (sender, receiver) = tokio::net::unix::pipe::pipe().unwrap();
    (receiver, sender.into_blocking_fd().unwrap())
}

/// The other way round.
pub(crate) fn pipe_in() -> (tokio::net::unix::pipe::Sender, OwnedFd) {
    let (sender, receiver) = tokio::net::unix::pipe::pipe().unwrap();
    (sender, receiver.into_blocking_fd().unwrap())
}

pub(crate) fn stdout_only(fd: OwnedFd) -> Stdio {
    Stdio {
        stdout: Some(fd),
        ..Stdio::default()
    }
}
