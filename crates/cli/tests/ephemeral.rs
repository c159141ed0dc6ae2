//! `kubectl debug`: containers that are added to pods that run.

mod common;

use common::{Cluster, PATIENCE, have, refusal, stdout, text, until};
use std::process::Stdio;

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: talk}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: host/tools:v1, command: [bash, -c, "trap 'exit 0' USR1; while :; do sleep 0.1; done"]}
  - {name: hello, image: host/hello:v1}
"#;

fn debug(cluster: &Cluster, name: &str, words: &[&str]) -> std::process::Command {
    let mut command = cluster.kubectl(&["debug", "talk", "-c", name, "--profile=general"]);
    command.args(words);
    command
}

#[test]
fn debuggers_join_a_running_pod() {
    if !have("kubectl") {
        return;
    }
    let Some(mut cluster) = Cluster::start(&[]) else { return };
    cluster.pack_images();
    cluster.apply(POD);
    cluster.wait_for("pod/talk", "condition=Ready");
    let state = |name: &str| {
        cluster.get(
            "pod/talk",
            &format!("{{.status.ephemeralContainerStatuses[?(@.name=={name:?})].state}}"),
        )
    };

    // Attached, with the network, the host name and the processes of its target; and its exit is nobody's.
    let script = "read -r word; echo $word $(hostname); head -c 4 /proc/1/cmdline; echo; exec 3<>/dev/tcp/127.0.0.1/8080 && echo reached; exit 3";
    let image = "--image=host/tools:v1";
    let mut shell = debug(
        &cluster,
        "first",
        &["-i", image, "--target=main", "--", "bash", "-c", script],
    )
    .stdin(Stdio::piped())
    .stdout(Stdio::piped())
    .stderr(Stdio::piped())
    .spawn()
    .expect("kubectl");
    let mut input = shell.stdin.take().expect("stdin");
    std::io::Write::write_all(&mut input, b"ahoy\n").expect("write");
    drop(input);
    let output = shell.wait_with_output().expect("output");
    let said = text(&output.stdout);
    assert!(
        said.contains("ahoy talk\nbash\nreached\n"),
        "{said}{}",
        text(&output.stderr)
    );
    until("the end of the first", || {
        state("first").contains("\"exitCode\":3").then_some(())
    });
    assert_eq!(
        stdout(&mut cluster.kubectl(&["logs", "talk", "-c", "first"])),
        "ahoy talk\nbash\nreached\n"
    );
    let ready =
        "{.status.phase} {.status.containerStatuses[*].restartCount} {.status.conditions[?(@.type==\"Ready\")].status}";
    assert_eq!(cluster.get("pod/talk", ready), "Running 0 0 True");

    // One that stays: exec finds it. Its own processes, for it names no target.
    stdout(&mut debug(&cluster, "second", &[image, "--", "sleep", "1000"]));
    until("the second to run", || {
        state("second").contains("running").then_some(())
    });
    let mut exec = cluster.kubectl(&[
        "exec",
        "talk",
        "-c",
        "second",
        "--",
        "head",
        "-c",
        "5",
        "/proc/1/cmdline",
    ]);
    assert_eq!(stdout(&mut exec), "sleep");

    // WebAssembly looks on as well, and what cannot run says why.
    stdout(&mut debug(
        &cluster,
        "third",
        &["--image=host/hello:v1", "--env=PORT=8081"],
    ));
    until("the third to run", || {
        (state("third").contains("running") || state("third").contains("terminated")).then_some(())
    });
    stdout(&mut debug(
        &cluster,
        "fourth",
        &["--image=host/nothing:v1", "--image-pull-policy=Never"],
    ));
    until("the fourth to wait", || {
        state("fourth").contains("ErrImageNeverPull").then_some(())
    });
    let lost = refusal(&mut debug(&cluster, "fifth", &[image, "--target=nobody", "--", "true"]));
    assert!(lost.contains("targetContainerName"), "{lost}");

    // The pod goes its way, and takes along who looked on.
    stdout(&mut cluster.kubectl(&["exec", "talk", "-c", "main", "--", "bash", "-c", "kill -USR1 1"]));
    until("the end of main", || {
        cluster
            .get("pod/talk", "{.status.containerStatuses[?(@.name==\"main\")].state}")
            .contains("\"exitCode\":0")
            .then_some(())
    });
    stdout(&mut cluster.kubectl(&["delete", "pod", "talk", &format!("--timeout={}s", PATIENCE.as_secs())]));
    cluster.stop();
}

/// With one container in the pod there is no mount on the host that others could have too.
#[test]
fn a_debugger_has_the_shared_memory_of_a_container_that_is_alone() {
    if !have("kubectl") {
        return;
    }
    let Some(mut cluster) = Cluster::start(&[]) else { return };
    cluster.pack_images();
    let script = "echo from main > /dev/shm/word; while [ ! -e /dev/shm/answer ]; do sleep 0.1; done; cat /dev/shm/answer; sleep 1000";
    let spec = format!(
        r#"{{"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [{{"name": "main", "image": "host/tools:v1", "command": ["bash", "-c", "{script}"]}}]}}"#
    );
    cluster.apply(&format!(
        r#"{{"apiVersion": "v1", "kind": "Pod", "metadata": {{"name": "talk"}}, "spec": {spec}}}"#
    ));
    cluster.wait_for("pod/talk", "condition=Ready");
    let logs = |name: &str, words: &str| {
        until("the output", || {
            let said = cluster
                .kubectl(&["logs", "talk", "-c", name])
                .output()
                .expect("kubectl");
            text(&said.stdout).contains(words).then_some(())
        });
    };
    let look = "cat /dev/shm/word; head -c 4 /proc/1/cmdline; echo; echo heard > /dev/shm/answer; ls /";
    let words = ["--image=host/tools:v1", "--target=main", "--", "bash", "-c", look];
    stdout(&mut debug(&cluster, "look", &words));
    logs("look", "from main\nbash\n");
    logs("main", "heard");
    cluster.stop();
}

#[test]
fn a_new_agent_does_not_start_them_again() {
    if !have("kubectl") {
        return;
    }
    let Some(mut cluster) = Cluster::start(&[]) else { return };
    cluster.pack_images();
    cluster.apply(POD);
    cluster.wait_for("pod/talk", "condition=Ready");
    for (name, word) in [("ended", "true"), ("staying", "sleep 1000")] {
        let words = [
            &["--image=host/tools:v1", "--"][..],
            &word.split(' ').collect::<Vec<_>>(),
        ]
        .concat();
        stdout(&mut debug(&cluster, name, &words));
    }
    let states = "{.status.ephemeralContainerStatuses[*].state}";
    let ids = "{.status.ephemeralContainerStatuses[*].containerID}";
    until("both states", || {
        let states = cluster.get("pod/talk", states);
        (states.contains("terminated") && states.contains("running")).then_some(())
    });
    let before = cluster.get("pod/talk", ids);
    let mut dev = cluster.dev.take().expect("running");
    dev.child.kill().expect("kill");
    dev.child.wait().expect("wait");
    drop(dev);
    cluster.boot(&[]);
    cluster.wait_for("pod/talk", "condition=Ready");
    stdout(&mut cluster.kubectl(&["label", "pod", "talk", "seen=yes"]));
    let generation = cluster.get("pod/talk", "{.metadata.generation}");
    until("the agent to have seen it", || {
        (cluster.get("pod/talk", "{.status.observedGeneration}") == generation).then_some(())
    });
    assert_eq!(cluster.get("pod/talk", ids), before);
    cluster.stop();
}
