//! Helm: a release lives through install, upgrade, rollback and uninstall, with hooks that run pods and a kind of its own. It is not
//! asked to wait for the Deployment: nothing makes its pods yet.

use super::{Tier, here};
use crate::common::{refusal, stdout};
use serde_json::Value;

#[test]
fn a_release_lives() {
    let Some(tier) = Tier::start() else { return };
    tier.cluster.pack_images();
    let chart = here("chart");
    let chart = chart.to_str().expect("utf-8");
    let helm = |arguments: &[&str]| {
        let mut command = tier.command("bin/helm");
        command.args(arguments).args(["--namespace", "sea"]);
        command
    };
    let kubectl = |arguments: &[&str]| stdout(tier.kubectl(arguments).args(["--namespace", "sea"]));
    let motto = || kubectl(&["get", "configmap", "one-motto", "-o", "jsonpath={.data.motto}"]);

    let page = stdout(&mut helm(&[
        "install",
        "one",
        chart,
        "--create-namespace",
        "--timeout",
        "60s",
    ]));
    assert!(
        page.contains("STATUS: deployed") && page.contains("The fleet one is out."),
        "{page}"
    );
    assert_eq!(motto(), "calm sea");
    assert_eq!(kubectl(&["get", "boats", "one", "-o", "jsonpath={.spec.hulls}"]), "2");
    let names = kubectl(&["get", "deploy,svc,ing,sa", "-o", "name"]);
    for name in [
        "deployment.apps/one",
        "service/one",
        "ingress.networking.k8s.io/one",
        "serviceaccount/one",
    ] {
        assert!(names.lines().any(|line| line == name), "{name} is not in\n{names}");
    }
    assert!(refusal(&mut helm(&["install", "one", chart])).contains("name that is still in use"));

    stdout(&mut helm(&[
        "upgrade",
        "one",
        chart,
        "--set",
        "motto=rough sea,replicas=0",
        "--timeout",
        "60s",
    ]));
    assert_eq!(motto(), "rough sea");
    let history: Value =
        serde_json::from_str(&stdout(&mut helm(&["history", "one", "-o", "json"]))).expect("a history");
    let statuses: Vec<&str> = history
        .as_array()
        .expect("revisions")
        .iter()
        .filter_map(|revision| revision["status"].as_str())
        .collect();
    assert_eq!(statuses, ["superseded", "deployed"]);

    stdout(&mut helm(&["rollback", "one", "1", "--timeout", "60s"]));
    assert_eq!(motto(), "calm sea");
    assert!(stdout(&mut helm(&["list"])).contains("one"));
    assert!(stdout(&mut helm(&["get", "manifest", "one"])).contains("kind: Boat"));

    stdout(&mut helm(&["uninstall", "one", "--timeout", "60s"]));
    assert_eq!(
        kubectl(&[
            "get",
            "deploy,svc,ing,cm",
            "-l",
            "app.kubernetes.io/managed-by=Helm",
            "-o",
            "name"
        ]),
        ""
    );
    // Definitions stay, with what others may have made of them.
    assert_eq!(
        kubectl(&["get", "crd", "boats.fleet.example.com", "-o", "name"]),
        "customresourcedefinition.apiextensions.k8s.io/boats.fleet.example.com\n"
    );
}
