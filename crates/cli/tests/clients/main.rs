//! Client libraries and tools that never heard of this server, unmodified: Python's and Node's clients, an operator framework,
//! Helm, and kube-rs. Each works as its users work with it; what they assert about the answers is in their own scripts.
//!
//! `install.sh` brings them into `$CATA_REAL_CACHE/clients` (default: `target/real/clients`).

#[path = "../common/mod.rs"]
mod common;
mod helm;
mod kubectl;
mod operators;

use common::{Cluster, root, text};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A cluster, and the clients that were installed for it.
struct Tier {
    cluster: Cluster,
    installed: PathBuf,
}

impl Tier {
    /// `None` (and the reason printed) where they are not installed, which the tier does not accept when it was asked for.
    fn start() -> Option<Self> {
        if !root() {
            return None;
        }
        let cache = std::env::var_os("CATA_REAL_CACHE").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/real"),
            PathBuf::from,
        );
        let installed = cache.join("clients");
        if !installed.join("node/.complete").exists() {
            let hint = format!("no clients in {}: see tests/clients/install.sh", installed.display());
            assert!(
                std::env::var_os("CATA_TEST_REAL").is_none(),
                "the real-client tier needs them: {hint}"
            );
            eprintln!("skipped: {hint}");
            return None;
        }
        let cluster = Cluster::start(&[])?;
        Some(Tier { cluster, installed })
    }

    /// A program of a client, pointed at the cluster.
    fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(self.installed.join(program));
        let directory = self.cluster.directory.path();
        command
            .env("KUBECONFIG", self.cluster.data_dir().join("kubeconfig"))
            .env("KUBECACHEDIR", directory.join("cache"))
            .env("HELM_CACHE_HOME", directory.join("helm/cache"))
            .env("HELM_CONFIG_HOME", directory.join("helm/config"))
            .env("HELM_DATA_HOME", directory.join("helm/data"))
            .env("HOME", directory);
        command
    }

    /// kubectl of the version whose API this is.
    fn kubectl(&self, arguments: &[&str]) -> Command {
        let mut command = self.command("bin/kubectl");
        command.args(arguments);
        command
    }

    fn namespace(&self, name: &str) {
        common::stdout(&mut self.kubectl(&["create", "namespace", name]));
    }

    /// Runs a script to its end, which has to be `ok`.
    #[track_caller]
    fn script(&self, interpreter: &str, script: &Path, namespace: &str) {
        self.namespace(namespace);
        let output = self
            .command(interpreter)
            .arg(script)
            .arg(namespace)
            .output()
            .expect("the interpreter starts");
        assert!(
            output.status.success() && text(&output.stdout).ends_with("ok\n"),
            "{} failed:\n{}{}",
            script.display(),
            text(&output.stdout),
            text(&output.stderr)
        );
    }
}

/// A file beside this one.
fn here(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}

#[test]
fn python_kubernetes() {
    let Some(tier) = Tier::start() else { return };
    tier.script("python/bin/python", &here("kubernetes_client.py"), "python");
}

#[test]
fn python_port_forward() {
    let Some(tier) = Tier::start() else { return };
    tier.cluster.pack_images();
    tier.script("python/bin/python", &here("portforward_client.py"), "forward");
}

#[test]
fn python_kr8s() {
    let Some(tier) = Tier::start() else { return };
    tier.script("python/bin/python", &here("kr8s_client.py"), "kr8s");
}

#[test]
fn python_lightkube() {
    let Some(tier) = Tier::start() else { return };
    tier.script("python/bin/python", &here("lightkube_client.py"), "lightkube");
}

#[test]
fn node_informer() {
    let Some(tier) = Tier::start() else { return };
    // Modules are found from where the script is.
    let script = tier
        .installed
        .join("node")
        .join(format!("informer-{}.mjs", std::process::id()));
    std::fs::copy(here("informer.mjs"), &script).expect("copy");
    tier.namespace("node");
    let output = Command::new("node")
        .arg(&script)
        .arg("node")
        .env("KUBECONFIG", tier.cluster.data_dir().join("kubeconfig"))
        .output();
    std::fs::remove_file(&script).expect("remove");
    let output = output.expect("node starts");
    assert!(
        output.status.success() && text(&output.stdout).ends_with("ok\n"),
        "{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
}
