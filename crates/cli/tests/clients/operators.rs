//! Operators with kinds of their own: one on kopf, one on kube-rs (`examples/operator`).

use super::{Tier, here};
use crate::common::{Cluster, Running, have, stdout, until};
use std::path::Path;
use std::process::Command;

#[test]
fn an_operator_on_kopf() {
    let Some(tier) = Tier::start() else { return };
    tier.namespace("coast");
    let definition = here("harbours.yaml");
    let kubectl = |arguments: &[&str]| stdout(tier.kubectl(arguments).args(["--namespace", "coast"]));
    kubectl(&["apply", "-f", definition.to_str().expect("utf-8")]);
    let mut run = tier.command("python/bin/kopf");
    run.args(["run", "--standalone", "--namespace", "coast", "--verbose"])
        .arg(here("kopf_operator.py"));
    let mut operator = Running::start(&mut run);
    operator.line("Initial authentication has finished");

    let manifest = tier.cluster.directory.path().join("harbour.yaml");
    std::fs::write(
        &manifest,
        "{apiVersion: example.com/v1, kind: Harbour, metadata: {name: old}, spec: {berths: 7}}",
    )
    .expect("write");
    kubectl(&["apply", "-f", manifest.to_str().expect("utf-8")]);
    kubectl(&[
        "wait",
        "harbour/old",
        "--for=jsonpath={.status.phase}=Open",
        "--timeout=60s",
    ]);
    assert_eq!(
        kubectl(&["get", "cm", "old-berths", "-o", "jsonpath={.data.berths}"]),
        "7"
    );
    let table = kubectl(&["get", "hb"]);
    assert!(
        table.starts_with("NAME   BERTHS   PHASE\nold    7        Open"),
        "{table}"
    );

    kubectl(&[
        "patch",
        "harbour",
        "old",
        "--type=merge",
        "-p",
        r#"{"spec": {"berths": 9}}"#,
    ]);
    kubectl(&[
        "wait",
        "cm/old-berths",
        "--for=jsonpath={.data.berths}=9",
        "--timeout=60s",
    ]);

    // The finalizer keeps it until the operator has said goodbye; what it owned goes with it.
    kubectl(&["delete", "harbour", "old", "--timeout=60s"]);
    kubectl(&["get", "cm", "old-closed", "-o", "name"]);
    kubectl(&["wait", "cm/old-berths", "--for=delete", "--timeout=60s"]);
    operator.signal(rustix::process::Signal::INT);
    operator.wait();
}

#[test]
fn an_operator_on_kube_rs() {
    let Some(cluster) = Cluster::start(&[]).filter(|_| have("kubectl")) else {
        return;
    };
    let program = Path::new(env!("CARGO_BIN_EXE_cata"))
        .with_file_name("examples")
        .join("operator");
    let mut run = Command::new(program);
    run.arg("default")
        .env("KUBECONFIG", cluster.data_dir().join("kubeconfig"));
    let mut operator = Running::start(&mut run);
    operator.line("watching buoys");
    let kubectl = |arguments: &[&str]| stdout(&mut cluster.kubectl(arguments));
    let buoy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/operator/buoy.yaml");
    kubectl(&["apply", "-f", buoy.to_str().expect("utf-8")]);
    kubectl(&[
        "wait",
        "buoy/north",
        "--for=jsonpath={.status.lit}=true",
        "--timeout=60s",
    ]);
    assert_eq!(
        kubectl(&[
            "get",
            "cm",
            "north-light",
            "-o",
            "jsonpath={.data.colour} {.data.period}"
        ]),
        "green 5"
    );
    // What somebody else breaks is mended.
    kubectl(&["delete", "cm", "north-light"]);
    until("the light to be back", || {
        let output = cluster
            .kubectl(&["get", "cm", "north-light"])
            .output()
            .expect("kubectl");
        output.status.success().then_some(())
    });
    kubectl(&["delete", "buoy", "north", "--timeout=60s"]);
    kubectl(&["wait", "cm/north-light", "--for=delete", "--timeout=60s"]);
    operator.signal(rustix::process::Signal::INT);
    let (status, output) = operator.wait();
    assert!(status.success(), "{output}");
}
