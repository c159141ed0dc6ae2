//! Bad input gets one clear line with the next step, and loses nothing.

mod common;

use common::{Cluster, cata, refusal, stdout};
use std::path::Path;

#[track_caller]
fn one_line(error: &str, words: &[&str]) {
    assert_eq!(error.lines().count(), 1, "{error}");
    // Our own words, or the server's as kubectl has them.
    let beginnings = ["error: ", "Error from server (", "The Pod "];
    assert!(beginnings.iter().any(|words| error.starts_with(words)), "{error}");
    for word in words {
        assert!(error.contains(word), "{word:?} in {error}");
    }
}

#[test]
fn without_a_cluster() {
    let directory = tempfile::tempdir().expect("directory");
    let home = directory.path();
    let bare = |arguments: &[&str]| {
        let mut command = cata();
        command
            .args(arguments)
            .env("HOME", home)
            .env_remove("KUBECONFIG")
            .env("XDG_DATA_HOME", home);
        refusal(&mut command)
    };
    one_line(&bare(&["get", "pods", "--kubeconfig", "/none"]), &["/none"]);
    one_line(&bare(&["apply", "-f", "/none.yaml"]), &["/none.yaml"]);
    one_line(
        &bare(&["get", "pods", "-o", "xml", "--kubeconfig", "/none"]),
        &["output format", "yaml"],
    );
}

#[test]
fn manifests_that_cannot_be_applied() {
    let Some(mut cluster) = Cluster::start(&[]) else { return };
    let path = cluster.directory.path().join("bad.yaml");
    let refused = |manifest: &str| {
        std::fs::write(&path, manifest).expect("write");
        refusal(&mut cluster.cata(&["apply", "-f", path.to_str().expect("utf-8")]))
    };
    one_line(&refused("a: [\n"), &["bad.yaml", "document 1"]);
    one_line(&refused("kind: Pod\n"), &["apiVersion not set"]);
    one_line(
        &refused("{apiVersion: v1, kind: Boat, metadata: {name: x}}"),
        &["no matches for kind", "Boat"],
    );
    let unknown = "{apiVersion: v1, kind: Pod, metadata: {name: x}, spec: {containrs: []}}";
    one_line(&refused(unknown), &["unknown field \"spec.containrs\""]);
    let invalid = "{apiVersion: v1, kind: Pod, metadata: {name: X_x}, spec: {containers: [{name: c}]}}";
    one_line(
        &refused(invalid),
        &[
            "The Pod \"X_x\" is invalid",
            "metadata.name",
            "spec.containers[0].image: Required value",
        ],
    );
    let class = "{apiVersion: v1, kind: Pod, metadata: {name: x}, spec: {runtimeClassName: none, containers: [{name: c, image: x}]}}";
    one_line(&refused(class), &["RuntimeClass", "none"]);
    assert!(
        stdout(&mut cluster.cata(&["get", "namespaces"])).contains("kube-system"),
        "the server goes on"
    );
    cluster.stop();
}

#[test]
fn a_second_cluster_in_one_place() {
    let Some(mut cluster) = Cluster::start(&[]) else { return };
    let second = |arguments: &[&str]| refusal(cata().arg("dev").args(arguments));
    let data_dir = cluster.data_dir();
    one_line(
        &second(&["--api-port", "0", "--data-dir", data_dir.to_str().expect("utf-8")]),
        &["already runs", "--data-dir"],
    );
    let kubeconfig = std::fs::read_to_string(data_dir.join("kubeconfig")).expect("kubeconfig");
    let port = kubeconfig
        .split("127.0.0.1:")
        .nth(1)
        .expect("address")
        .split(|c: char| !c.is_ascii_digit())
        .next();
    let other = cluster.directory.path().join("other");
    let error = second(&[
        "--api-port",
        port.expect("port"),
        "--data-dir",
        other.to_str().expect("utf-8"),
    ]);
    one_line(&error, &["in use", "--api-port"]);
    assert!(Path::new(&data_dir).join("instance").exists());
    cluster.stop();
}

#[test]
fn a_node_that_cannot_start_leaves_nothing() {
    if !common::root() {
        return;
    }
    let directory = tempfile::tempdir().expect("directory");
    let data_dir = directory.path().join("data");
    let mut command = cata();
    command
        .arg("--data-dir")
        .arg(&data_dir)
        .args(["dev", "--api-port", "0", "--node-label", "nonsense"]);
    one_line(&refusal(&mut command), &["--node-label", "KEY=VALUE"]);
    let instance = std::fs::read_to_string(data_dir.join("instance")).expect("instance");
    assert_eq!(
        common::leftovers(instance.trim(), &data_dir),
        std::collections::BTreeSet::new()
    );
}
