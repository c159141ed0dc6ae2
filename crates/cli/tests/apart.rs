//! API server and node agent as processes of their own, each killed while the other runs.

mod common;

use common::{Running, cata, leftovers, root, stdout, text, until};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

struct Apart {
    directory: tempfile::TempDir,
}

impl Apart {
    fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn cata(&self, arguments: &[&str]) -> Command {
        let mut command = cata();
        command
            .arg("--data-dir")
            .arg(self.data_dir())
            .args(arguments)
            .env_remove("KUBECONFIG");
        command
    }

    fn server(&self, port: &str) -> Running {
        let mut server = Running::start(&mut self.cata(&["server", "--api-port", port]));
        server.line("API server at");
        server
    }

    fn agent(&self) -> Running {
        let mut agent = Running::start(&mut self.cata(&["agent", "--node-name", "node-1"]));
        agent.line("is up");
        agent
    }

    fn instance(&self) -> String {
        std::fs::read_to_string(self.data_dir().join("instance"))
            .unwrap_or_default()
            .trim()
            .to_owned()
    }

    fn pids(&self) -> BTreeSet<String> {
        let found = leftovers(&self.instance(), &self.data_dir());
        found.into_iter().filter(|entry| entry.starts_with("process")).collect()
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        let output = self.cata(&["cleanup"]).output().expect("cata");
        assert!(
            output.status.success() || std::thread::panicking(),
            "{}",
            text(&output.stderr)
        );
    }
}

const POD: &str = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {terminationGracePeriodSeconds: 1, containers: [{name: c, image: 'host/hello:v1'}]}}";

#[test]
fn each_outlives_the_other() {
    if !root() {
        return;
    }
    let apart = Apart {
        directory: tempfile::tempdir().expect("directory"),
    };
    let mut server = apart.server("0");
    let kubeconfig = std::fs::read_to_string(apart.data_dir().join("kubeconfig")).expect("kubeconfig");
    let port: String = kubeconfig
        .split("127.0.0.1:")
        .nth(1)
        .expect("port")
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    let mut agent = apart.agent();
    let hello = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/hello/hello.wasm");
    stdout(
        apart
            .cata(&["image", "pack", "--tag", "host/hello:v1", "--wasm"])
            .arg(hello),
    );
    let manifest = apart.directory.path().join("pod.yaml");
    std::fs::write(&manifest, POD).expect("write");
    stdout(apart.cata(&["apply", "-f"]).arg(&manifest));
    stdout(&mut apart.cata(&["wait", "pod/p", "--for=condition=Ready", "--timeout=60s"]));
    let before = apart.pids();
    assert!(before.len() >= 2, "{before:?}");

    // The server dies; the pod runs on; a deletion made right after its return reaches the agent.
    server.signal(Signal::KILL);
    server.wait();
    assert_eq!(apart.pids(), before);
    let mut server = apart.server(&port);
    assert!(stdout(&mut apart.cata(&["get", "pods"])).contains("Running"));

    // The agent is stopped, and leaves the pod alone; another one takes it over.
    agent.signal(Signal::TERM);
    assert!(agent.wait().0.success());
    assert_eq!(apart.pids(), before);
    let mut agent = apart.agent();
    assert_eq!(apart.pids(), before);

    // Deleted while the agent is dead: gone once it is back.
    agent.signal(Signal::KILL);
    agent.wait();
    stdout(&mut apart.cata(&["delete", "pod", "p", "--wait=false"]));
    let mut agent = apart.agent();
    until("the pod's processes to be gone", || {
        apart.pids().is_empty().then_some(())
    });
    until("the pod to be gone", || {
        stdout(&mut apart.cata(&["get", "pods", "-o", "name"]))
            .is_empty()
            .then_some(())
    });
    for daemon in [&mut agent, &mut server] {
        daemon.signal(Signal::TERM);
        assert!(daemon.wait().0.success());
    }
}
