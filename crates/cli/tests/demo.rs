//! The first thing a new user sees.

mod common;

use common::{Cluster, http_get, stdout};

#[test]
fn the_demo_runs_is_cleaned_up_and_runs_again() {
    let Some(mut cluster) = Cluster::start(&["--demo"]) else {
        return;
    };
    let dev = cluster.dev();
    dev.line("pod/hello created");
    dev.line("Running 2/2");
    let url = dev.line("answers at");
    let answer = dev.line("[hello/caller] caller: HTTP/1.0 200 OK");
    assert!(
        answer.contains("Ahoy"),
        "the wasm side answers with its environment's greeting: {answer}"
    );
    dev.line("[hello/web]");

    let address = url
        .split("http://")
        .nth(1)
        .and_then(|rest| rest.split(':').next())
        .expect("an address");
    assert!(
        http_get(address, 8080, "/from-the-host")
            .expect("answer")
            .starts_with("HTTP/1.1 200")
    );
    let table = stdout(&mut cluster.cata(&["get", "pods", "-o", "wide"]));
    assert!(
        table
            .lines()
            .nth(1)
            .is_some_and(|row| row.contains("2/2") && row.contains(address)),
        "{table}"
    );

    cluster.stop();
    cluster.boot(&[]);
    cluster.wait_for("pod/hello", "condition=Ready");
    assert!(!cluster.leftovers().is_empty(), "the pod of the first life runs again");
    cluster.stop();
}

#[test]
fn a_demo_of_another_version_is_replaced_but_nobody_elses_pod() {
    let Some(mut cluster) = Cluster::start(&[]) else { return };
    let hello = |image: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: hello}}, spec: {{containers: [{{name: web, image: '{image}', imagePullPolicy: Never}}]}}}}"
        )
    };
    let again = |cluster: &mut Cluster| {
        cluster.dev().signal(rustix::process::Signal::KILL);
        cluster.dev().wait();
        cluster.boot(&["--demo"]);
    };
    cluster.apply(&hello("host/mine:v1"));
    again(&mut cluster);
    let (status, output) = cluster.dev().wait();
    assert!(
        !status.success() && output.contains("hello") && output.contains("invalid"),
        "{output}"
    );

    cluster.boot(&[]);
    stdout(&mut cluster.cata(&["delete", "pod", "hello"]));
    cluster.apply(&hello("catamaran.dev/demo/hello:v0"));
    again(&mut cluster);
    cluster.dev().line("replacing it");
    cluster.dev().line("Running 2/2");
    cluster.stop();
}

#[test]
fn two_clusters_on_one_machine_do_not_touch_each_other() {
    let Some(mut first) = Cluster::start(&[]) else { return };
    let Some(mut second) = Cluster::start(&[]) else { return };
    for cluster in [&first, &second] {
        cluster.pack_images();
        cluster.apply(
            "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: c, image: 'host/hello:v1'}]}}",
        );
        cluster.wait_for("pod/p", "condition=Ready");
    }
    first.stop();
    assert_eq!(second.get("pod/p", "{.status.phase}"), "Running");
    let ip = second.get("pod/p", "{.status.podIP}");
    assert!(http_get(&ip, 8080, "/").expect("answer").starts_with("HTTP/1.1 200"));
    second.stop();
}
