//! What users see: a world in YAML in, the telling parts of the status out.

use catamaran_node::resize::Resizes;
use catamaran_node::status::{Facts, status};
use catamaran_node::world::World;
use expect_test::{Expect, expect};
use k8s_openapi::api::core::v1::{ContainerState, Pod, PodStatus};
use std::fmt::Write;

const POD: &str = r#"{"metadata": {"name": "p", "namespace": "ns", "uid": "u", "generation": 3}, "spec": {
    "initContainers": [{"name": "i", "image": "img"}], "containers": [{"name": "a", "image": "img"}]},
    "status": {"conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "own.example/gate", "status": "False"}]}}"#;

fn check(yaml: &str, expected: &Expect) {
    check_pod(POD, yaml, expected);
}

fn check_pod(pod: &str, yaml: &str, expected: &Expect) {
    let pod: Pod = serde_json::from_str(pod).expect("a pod");
    let world: World = serde_yaml::from_str(&format!("now: 2026-01-01T00:00:00Z\n{yaml}")).expect("a world");
    let resizes = Resizes::of(&pod);
    let facts = Facts {
        pod: &pod,
        world: &world,
        resizes: &resizes,
        before: None,
        node_ip: [10, 0, 0, 1].into(),
        pod_ip: Some([10, 0, 0, 2].into()),
        start_time: world.now,
    };
    expected.assert_eq(&text(&status(&facts)));
}

fn text(status: &PodStatus) -> String {
    let mut text = status.phase.clone().unwrap_or_default();
    if let Some(reason) = &status.reason {
        write!(text, " ({reason})").expect("written");
    }
    text.push('\n');
    for condition in status.conditions.iter().flatten() {
        let reason = condition.reason.as_deref().unwrap_or("-");
        let message = condition.message.as_deref().unwrap_or_default();
        writeln!(text, "{}={} {reason} {message}", condition.type_, condition.status).expect("written");
    }
    let statuses = status
        .init_container_statuses
        .iter()
        .chain(&status.container_statuses)
        .chain(&status.ephemeral_container_statuses)
        .flatten();
    for container in statuses {
        let last = container.last_state.as_ref().map(state).unwrap_or_default();
        let now = container.state.as_ref().map(state).unwrap_or_default();
        let (name, ready, count) = (&container.name, container.ready, container.restart_count);
        writeln!(text, "{name}: {now} ready={ready} restarts={count} last={last}").expect("written");
    }
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n") + "\n"
}

fn state(state: &ContainerState) -> String {
    let waiting = state.waiting.as_ref().map(|waiting| {
        let message = waiting.message.as_deref().unwrap_or_default();
        format!("waiting {} {message}", waiting.reason.as_deref().unwrap_or_default())
            .trim_end()
            .to_owned()
    });
    let running = state.running.as_ref().map(|_| "running".to_owned());
    let ended = state
        .terminated
        .as_ref()
        .map(|end| format!("{}({})", end.reason.clone().unwrap_or_default(), end.exit_code));
    waiting.or(running).or(ended).unwrap_or_else(|| "-".to_owned())
}

const DONE: &str = "{name: i, init: true, current: {id: x, number: 0, startedAt: 2025-12-31T23:59:00Z, ended: {code: 0, reason: Completed, finishedAt: 2025-12-31T23:59:30Z}}}";

fn ended(code: i32, reason: &str) -> String {
    format!(
        "{{id: y, number: 2, startedAt: 2025-12-31T23:59:40Z, ended: {{code: {code}, reason: {reason}, finishedAt: 2025-12-31T23:59:59Z}}}}"
    )
}

#[test]
fn a_new_pod_is_pending() {
    check(
        "slots: [{name: i, init: true}, {name: a}]",
        &expect![[r#"
        Pending
        PodReadyToStartContainers=False -
        Initialized=False ContainersNotInitialized containers with incomplete status: [i]
        Ready=False ContainersNotReady containers with unready status: [a]
        ContainersReady=False ContainersNotReady containers with unready status: [a]
        PodScheduled=True -
        own.example/gate=False -
        i: waiting PodInitializing ready=false restarts=0 last=-
        a: waiting PodInitializing ready=false restarts=0 last=-
    "#]],
    );
}

#[test]
fn a_running_pod_is_ready() {
    let running = "{name: a, current: {id: y, number: 0, startedAt: 2025-12-31T23:59:40Z}}";
    check(
        &format!("sandbox: ready\nslots: [{DONE}, {running}]"),
        &expect![[r#"
        Running
        PodReadyToStartContainers=True -
        Initialized=True -
        Ready=True -
        ContainersReady=True -
        PodScheduled=True -
        own.example/gate=False -
        i: Completed(0) ready=true restarts=0 last=-
        a: running ready=true restarts=0 last=-
    "#]],
    );
}

#[test]
fn a_crashing_container_backs_off() {
    let crashed = ended(1, "Error");
    let slot = format!("{{name: a, current: {crashed}, crash: {{delaySecs: 80, raisedAt: 2025-12-31T23:59:40Z}}}}");
    check(
        &format!("sandbox: ready\nslots: [{DONE}, {slot}]"),
        &expect![[r#"
        Running
        PodReadyToStartContainers=True -
        Initialized=True -
        Ready=False ContainersNotReady containers with unready status: [a]
        ContainersReady=False ContainersNotReady containers with unready status: [a]
        PodScheduled=True -
        own.example/gate=False -
        i: Completed(0) ready=true restarts=0 last=-
        a: waiting CrashLoopBackOff back-off 1m20s restarting failed container=a pod=p_ns(u) ready=false restarts=2 last=Error(1)
    "#]],
    );
}

#[test]
fn finished_pods_say_how_they_ended() {
    let (fine, bad) = (ended(0, "Completed"), ended(137, "OOMKilled"));
    let policy = "restartPolicy: Never\nsandbox: ready";
    check(
        &format!("{policy}\nslots: [{DONE}, {{name: a, current: {fine}}}]"),
        &expect![[r#"
            Succeeded
            PodReadyToStartContainers=False -
            Initialized=True PodCompleted
            Ready=False PodCompleted
            ContainersReady=False PodCompleted
            PodScheduled=True -
            own.example/gate=False -
            i: Completed(0) ready=true restarts=0 last=-
            a: Completed(0) ready=false restarts=2 last=-
        "#]],
    );
    check(
        &format!("{policy}\nslots: [{DONE}, {{name: a, current: {bad}}}]"),
        &expect![[r#"
            Failed
            PodReadyToStartContainers=False -
            Initialized=True -
            Ready=False PodFailed
            ContainersReady=False PodFailed
            PodScheduled=True -
            own.example/gate=False -
            i: Completed(0) ready=true restarts=0 last=-
            a: OOMKilled(137) ready=false restarts=2 last=-
        "#]],
    );
}

#[test]
fn a_missed_deadline_fails_the_pod() {
    let intent = "intent: {kind: stop, deadline: 2026-01-01T00:00:30Z, why: deadlineExceeded}";
    let killed = ended(143, "Error");
    check(
        &format!("{intent}\nslots: [{DONE}, {{name: a, current: {killed}}}]"),
        &expect![[r#"
            Failed (DeadlineExceeded)
            PodReadyToStartContainers=False -
            Initialized=True -
            Ready=False PodFailed
            ContainersReady=False PodFailed
            PodScheduled=True -
            own.example/gate=False -
            i: Completed(0) ready=true restarts=0 last=-
            a: Error(143) ready=false restarts=2 last=-
        "#]],
    );
}

#[test]
fn a_hold_shows_its_second_reason_after_a_while() {
    let hold = |since: &str| {
        format!(
            "{{name: a, hold: {{reason: ErrImagePull, message: m, since: {since}, until: 2026-01-01T00:00:09Z, settled: [ImagePullBackOff, b]}}}}"
        )
    };
    check(
        &format!("sandbox: ready\nslots: [{DONE}, {}]", hold("2025-12-31T23:59:59Z")),
        &expect![[r#"
            Pending
            PodReadyToStartContainers=True -
            Initialized=True -
            Ready=False ContainersNotReady containers with unready status: [a]
            ContainersReady=False ContainersNotReady containers with unready status: [a]
            PodScheduled=True -
            own.example/gate=False -
            i: Completed(0) ready=true restarts=0 last=-
            a: waiting ErrImagePull m ready=false restarts=0 last=-
        "#]],
    );
    check(
        &format!("sandbox: ready\nslots: [{DONE}, {}]", hold("2025-12-31T23:59:50Z")),
        &expect![[r#"
            Pending
            PodReadyToStartContainers=True -
            Initialized=True -
            Ready=False ContainersNotReady containers with unready status: [a]
            ContainersReady=False ContainersNotReady containers with unready status: [a]
            PodScheduled=True -
            own.example/gate=False -
            i: Completed(0) ready=true restarts=0 last=-
            a: waiting ImagePullBackOff b ready=false restarts=0 last=-
        "#]],
    );
}

#[test]
fn an_evicted_pod_has_failed_and_says_why_even_while_it_is_deleted() {
    for why in ["evicted", "deleted"] {
        check(
            &format!(
                "sandbox: absent\nintent: {{kind: stop, deadline: 2026-01-01T00:00:00Z, why: {why}}}\nevicted: too big\nslots: [{DONE}, {{name: a, current: {}}}]",
                ended(0, "Completed")
            ),
            &expect![[r#"
                Failed (Evicted)
                PodReadyToStartContainers=False -
                Initialized=True -
                Ready=False PodFailed
                ContainersReady=False PodFailed
                DisruptionTarget=True TerminationByKubelet too big
                PodScheduled=True -
                own.example/gate=False -
                i: Completed(0) ready=true restarts=0 last=-
                a: Completed(0) ready=false restarts=2 last=-
            "#]],
        );
    }
}

#[test]
fn the_user_of_a_container_is_shown() {
    let pod: Pod = serde_json::from_str(POD).expect("a pod");
    let user = "{uid: 7, gid: 8, groups: [8, 9]}";
    let slot = format!("{{name: a, current: {{id: y, number: 0, startedAt: 2025-12-31T23:59:40Z, user: {user}}}}}");
    let world: World =
        serde_yaml::from_str(&format!("now: 2026-01-01T00:00:00Z\nslots: [{DONE}, {slot}]")).expect("a world");
    let resizes = Resizes::of(&pod);
    let facts = Facts {
        pod: &pod,
        world: &world,
        resizes: &resizes,
        before: None,
        node_ip: [10, 0, 0, 1].into(),
        pod_ip: None,
        start_time: world.now,
    };
    let statuses = status(&facts).container_statuses.expect("statuses");
    let user = serde_json::to_value(&statuses[0].user).expect("serializable");
    assert_eq!(
        user,
        serde_json::json!({"linux": {"uid": 7, "gid": 8, "supplementalGroups": [8, 9]}})
    );
}

#[test]
fn ephemeral_containers_have_a_status_and_no_say() {
    let pod = POD.replace(
        r#""containers":"#,
        r#""ephemeralContainers": [{"name": "d", "image": "dbg"}, {"name": "e"}], "containers":"#,
    );
    let running = "{name: a, current: {id: y, number: 0, startedAt: 2025-12-31T23:59:40Z}}";
    let failed = format!("{{name: d, ephemeral: true, current: {}}}", ended(3, "Error"));
    check_pod(
        &pod,
        &format!("sandbox: ready\nslots: [{DONE}, {running}, {failed}, {{name: e, ephemeral: true}}]"),
        &expect![[r#"
            Running
            PodReadyToStartContainers=True -
            Initialized=True -
            Ready=True -
            ContainersReady=True -
            PodScheduled=True -
            own.example/gate=False -
            i: Completed(0) ready=true restarts=0 last=-
            a: running ready=true restarts=0 last=-
            d: Error(3) ready=false restarts=2 last=-
            e: waiting PodInitializing ready=false restarts=0 last=-
        "#]],
    );
    // Over is over, whoever still looks on.
    let (over, looking) = (
        ended(0, "Completed"),
        "{name: d, ephemeral: true, current: {id: z, number: 0, startedAt: 2025-12-31T23:59:40Z}}",
    );
    check_pod(
        &pod,
        &format!("restartPolicy: Never\nsandbox: ready\nslots: [{DONE}, {{name: a, current: {over}}}, {looking}]"),
        &expect![[r#"
            Succeeded
            PodReadyToStartContainers=True -
            Initialized=True PodCompleted
            Ready=False PodCompleted
            ContainersReady=False PodCompleted
            PodScheduled=True -
            own.example/gate=False -
            i: Completed(0) ready=true restarts=0 last=-
            a: Completed(0) ready=false restarts=2 last=-
            d: running ready=false restarts=0 last=-
        "#]],
    );
}

#[test]
fn what_was_granted_is_shown_of_whoever_was_started() {
    let resources = |cpu: &str| format!(r#""resources": {{"requests": {{"cpu": "{cpu}"}}}}"#);
    let pod = |cpu: &str| -> Pod {
        let named = |name: &str| format!(r#"{{"name": "{name}", "image": "img", {}}}"#, resources(cpu));
        let text = format!(
            r#"{{"spec": {{"containers": [{}, {}, {}]}}}}"#,
            named("a"),
            named("b"),
            named("c")
        );
        serde_json::from_str(&text).expect("a pod")
    };
    let running = "{id: y, number: 0, startedAt: 2025-12-31T23:59:40Z}";
    let slots = format!(
        "{{name: a, current: {running}}}, {{name: b, current: {}}}, {{name: c}}",
        ended(1, "Error")
    );
    let world: World = serde_yaml::from_str(&format!("now: 2026-01-01T00:00:00Z\nslots: [{slots}]")).expect("a world");
    let mut resizes = Resizes::of(&pod("1"));
    for name in ["a", "b"] {
        resizes.set_in_force(name);
    }
    resizes.grant(&pod("2"));
    // And something else is asked for.
    let asking = pod("3");
    let facts = Facts {
        pod: &asking,
        world: &world,
        resizes: &resizes,
        before: None,
        node_ip: [10, 0, 0, 1].into(),
        pod_ip: None,
        start_time: world.now,
    };
    let statuses = status(&facts).container_statuses.expect("statuses");
    let shown: Vec<_> = statuses
        .iter()
        .map(|status| {
            let allocated = status.allocated_resources.as_ref().map_or("-", |list| &list["cpu"].0);
            let requests = status
                .resources
                .as_ref()
                .and_then(|resources| resources.requests.as_ref());
            format!(
                "{} {allocated} {}",
                status.name,
                requests.map_or("-", |list| &list["cpu"].0)
            )
        })
        .collect();
    assert_eq!(shown, ["a 2 1", "b 2 2", "c - -"]);
}
