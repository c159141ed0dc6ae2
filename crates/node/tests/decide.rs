//! Scripted worlds: YAML in, plan text out. A bug in a decision becomes ten lines here.

use catamaran_node::decide::{Step, decide};
use catamaran_node::world::{
    Attempt, Ended, Intent, Outcome, RestartPolicy, Sandbox, Slot, Stage, StopReason, Stopping, World,
};
use expect_test::{Expect, expect};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

fn check(yaml: &str, expected: &Expect) {
    let world: World = serde_yaml::from_str(&format!("now: 2026-01-01T00:00:00Z\n{yaml}")).expect("a world");
    expected.assert_eq(&decide(&world).to_string());
}

#[test]
fn a_new_pod_gets_its_sandbox_and_images_at_once() {
    check(
        "slots: [{name: a}, {name: b}]",
        &expect![[r#"
            create sandbox
            image 0
            image 1
        "#]],
    );
}

#[test]
fn containers_start_when_both_are_ready() {
    check(
        "sandbox: creating\nslots: [{name: a, image: ready}]",
        &expect![[r#"
        rest
    "#]],
    );
    check(
        "sandbox: ready\nslots: [{name: a, image: ready}, {name: b, image: working}]",
        &expect![[r#"
        start 0
    "#]],
    );
}

const RUNNING: &str = "{id: x, number: 0, startedAt: 2025-12-31T23:59:00Z}";

fn ended(code: i32) -> String {
    format!(
        "{{id: x, number: 0, startedAt: 2025-12-31T23:59:00Z, ended: {{code: {code}, reason: Error, finishedAt: 2025-12-31T23:59:59Z}}}}"
    )
}

#[test]
fn ephemeral_containers_start_once_whenever_there_is_a_sandbox() {
    let debugger = |rest: &str| format!("{{name: d, ephemeral: true{rest}}}");
    let initializing = format!("{{name: i, init: true, current: {RUNNING}}}, {{name: a}}");
    check(
        &format!(
            "sandbox: ready\nslots: [{initializing}, {}]",
            debugger(", image: ready")
        ),
        &expect![[r#"
            start 2
        "#]],
    );
    check(
        &format!("sandbox: creating\nslots: [{initializing}, {}]", debugger("")),
        &expect![[r#"
            rest
        "#]],
    );
    let running = format!("{{name: a, current: {RUNNING}}}");
    let failed = debugger(&format!(", current: {}", ended(1)));
    check(
        &format!("sandbox: ready\nslots: [{running}, {failed}]"),
        &expect![[r#"
            rest
        "#]],
    );
    // One that was found running may have ended before, which only the API server remembers.
    check(
        &format!(
            "sandbox: ready\nunintroduced: true\nslots: [{{name: a, current: {RUNNING}}}, {}]",
            debugger(", image: ready")
        ),
        &expect![[r#"
            rest
        "#]],
    );
}

#[test]
fn a_container_that_is_replaced_is_killed_when_its_time_is_up() {
    let stopping = |rest: &str| format!("{{name: a, rerun: true, current: {RUNNING}, stopping: {{deadline: {rest}}}}}");
    check(
        &format!("sandbox: ready\nslots: [{}]", stopping("2026-01-01T00:00:05Z")),
        &expect![[r#"
            wake 2026-01-01T00:00:05Z
        "#]],
    );
    check(
        &format!("sandbox: ready\nslots: [{}]", stopping("2026-01-01T00:00:00Z")),
        &expect![[r#"
            kill 0
        "#]],
    );
    check(
        &format!(
            "sandbox: ready\nslots: [{}]",
            stopping("2026-01-01T00:00:00Z, killed: true")
        ),
        &expect![[r#"
            rest
        "#]],
    );
}

#[test]
fn a_pod_that_is_over_does_not_wait_for_who_looks_on() {
    let (over, looking) = (ended(0), format!("{{name: d, ephemeral: true, current: {RUNNING}}}"));
    check(
        &format!(
            "restartPolicy: Never\nreported: true\nsandbox: ready\nslots: [{{name: a, current: {over}}}, {looking}]"
        ),
        &expect![[r#"
            stop 1 by 2026-01-01T00:00:30Z
        "#]],
    );
}

#[test]
fn init_containers_run_one_after_another() {
    check(
        "slots: [{name: i, init: true}, {name: j, init: true}, {name: a}]",
        &expect![[r#"
        create sandbox
        image 0
    "#]],
    );
    let done = ended(0);
    check(
        &format!(
            "sandbox: ready\nslots: [{{name: i, init: true, current: {done}}}, {{name: j, init: true, image: ready}}, {{name: a}}]"
        ),
        &expect![[r#"
            start 1
        "#]],
    );
    let all = format!("{{name: i, init: true, current: {done}}}, {{name: a}}");
    check(
        &format!("sandbox: ready\nslots: [{all}]"),
        &expect![[r#"
        image 1
    "#]],
    );
}

#[test]
fn a_failed_init_container_restarts_or_ends_the_pod() {
    let failed = ended(1);
    let slots = format!("slots: [{{name: i, init: true, current: {failed}}}, {{name: a}}]");
    check(
        &format!("sandbox: ready\nrestartPolicy: OnFailure\n{slots}"),
        &expect![[r#"
        image 0
    "#]],
    );
    check(
        &format!("sandbox: ready\nrestartPolicy: Never\nreported: true\n{slots}"),
        &expect![[r#"
        remove sandbox
    "#]],
    );
}

#[test]
fn a_crashed_container_waits_for_its_back_off() {
    let crashed = ended(1);
    check(
        &format!(
            "sandbox: ready\nslots: [{{name: a, current: {crashed}, crash: {{delaySecs: 10, raisedAt: 2025-12-31T23:59:00Z}}}}]"
        ),
        &expect![[r#"
            wake 2026-01-01T00:00:09Z
        "#]],
    );
    check(
        &format!("sandbox: ready\nslots: [{{name: a, current: {crashed}}}]"),
        &expect![[r#"
        image 0
    "#]],
    );
}

#[test]
fn a_finished_pod_gives_its_sandbox_back_once_that_is_known() {
    let done = ended(0);
    let slots = format!("restartPolicy: OnFailure\nsandbox: ready\nslots: [{{name: a, current: {done}}}]");
    check(
        &slots,
        &expect![[r#"
        rest
    "#]],
    );
    check(
        &format!("reported: true\n{slots}"),
        &expect![[r#"
        remove sandbox
    "#]],
    );
    check(
        "finished: true\nslots: [{name: a}]",
        &expect![[r#"
        rest
    "#]],
    );
}

#[test]
fn deletion_stops_then_kills_then_removes_then_finishes() {
    let intent = "intent: {kind: stop, deadline: 2026-01-01T00:00:30Z, why: deleted}\nsandbox: ready";
    check(
        &format!("{intent}\nslots: [{{name: a, current: {RUNNING}}}, {{name: b}}]"),
        &expect![[r#"
        stop 0 by 2026-01-01T00:00:30Z
    "#]],
    );
    let told = "stopping: {deadline: 2026-01-01T00:00:30Z}";
    check(
        &format!("{intent}\nslots: [{{name: a, current: {RUNNING}, {told}}}]"),
        &expect![[r#"
        wake 2026-01-01T00:00:30Z
    "#]],
    );
    let late = "stopping: {deadline: 2026-01-01T00:00:00Z}";
    check(
        &format!("{intent}\nslots: [{{name: a, current: {RUNNING}, {late}}}]"),
        &expect![[r#"
        kill 0
    "#]],
    );
    let killed = "stopping: {deadline: 2026-01-01T00:00:00Z, killed: true}";
    check(
        &format!("{intent}\nslots: [{{name: a, current: {RUNNING}, {killed}}}]"),
        &expect![[r#"
        rest
    "#]],
    );
    check(
        &format!("{intent}\nslots: [{{name: a, current: {}}}]", ended(143)),
        &expect![[r#"
        remove sandbox
    "#]],
    );
    let gone = "intent: {kind: stop, deadline: 2026-01-01T00:00:30Z, why: deleted}\nslots: [{name: a}]";
    check(
        gone,
        &expect![[r#"
        rest
    "#]],
    );
    check(
        &format!("reported: true\n{gone}"),
        &expect![[r#"
        finish Deleted
    "#]],
    );
}

#[test]
fn a_second_delete_shortens_the_grace() {
    let intent = "intent: {kind: stop, deadline: 2026-01-01T00:00:00Z, why: deleted}\nsandbox: ready";
    let told = "stopping: {deadline: 2026-01-01T00:00:30Z}";
    check(
        &format!("{intent}\nslots: [{{name: a, current: {RUNNING}, {told}}}]"),
        &expect![[r#"
        kill 0
    "#]],
    );
}

#[test]
fn a_start_in_flight_is_waited_for() {
    let intent = "intent: {kind: stop, deadline: 2026-01-01T00:00:30Z, why: orphaned}\nsandbox: ready";
    check(
        &format!("{intent}\nslots: [{{name: a, starting: true}}]"),
        &expect![[r#"
        rest
    "#]],
    );
}

#[test]
fn holds_keep_containers_and_the_sandbox_waiting() {
    let hold = "hold: {reason: ErrImagePull, message: m, since: 2025-12-31T23:59:59Z, until: 2026-01-01T00:00:09Z, settled: [ImagePullBackOff, b]}";
    check(
        &format!("sandbox: ready\nslots: [{{name: a, {hold}}}]"),
        &expect![[r#"
        wake 2026-01-01T00:00:01Z
    "#]],
    );
    let never = "hold: {reason: CreateContainerConfigError, message: m, since: 2025-12-31T23:59:59Z}";
    check(
        &format!("slots: [{{name: a, {never}}}]"),
        &expect![[r#"
        rest
    "#]],
    );
    check(
        "sandboxHold: {reason: FailedMount, message: m, since: 2025-12-31T23:59:59Z, until: 2026-01-01T00:00:02Z}\nslots: [{name: a, image: ready}]",
        &expect![[r#"
            wake 2026-01-01T00:00:02Z
        "#]],
    );
}

#[test]
fn a_lost_sandbox_is_removed_and_made_anew() {
    let stale = "{id: x, number: 0, startedAt: 2025-12-31T23:59:00Z, ended: {code: 137, reason: ContainerStatusUnknown, finishedAt: 2026-01-01T00:00:00Z}}";
    let slots = format!(
        "slots: [{{name: i, init: true, stale: true, rerun: true, current: {}}}, {{name: a, stale: true, current: {stale}}}]",
        ended(0)
    );
    check(
        &format!("sandbox: lost\n{slots}"),
        &expect![[r#"
        remove sandbox
    "#]],
    );
    check(
        &format!("sandbox: absent\n{slots}"),
        &expect![[r#"
        create sandbox
        image 0
    "#]],
    );
    check(
        &format!("restartPolicy: Never\nsandbox: absent\n{slots}"),
        &expect![[r#"
        rest
    "#]],
    );
}

/// A machine that does what plans ask for, in any order and with any results: the pod must never get stuck.
mod simulation {
    use super::*;

    #[derive(Clone, Debug)]
    pub(super) struct Script {
        pub(super) policy: RestartPolicy,
        pub(super) slots: Vec<bool>,
        pub(super) choices: Vec<u8>,
        pub(super) delete_at: usize,
    }

    pub(super) fn run(script: &Script) -> Result<(), TestCaseError> {
        let mut world = World {
            now: Timestamp::from_second(1_700_000_000).expect("in range"),
            restart_policy: script.policy,
            intent: Intent::Run,
            sandbox: Sandbox::Absent,
            sandbox_hold: None,
            slots: script.slots.iter().map(|init| Slot::new("c", *init)).collect(),
            reported: true,
            active_deadline: None,
            evicted: None,
            unintroduced: false,
            finished: false,
        };
        world.slots.sort_by_key(|slot| !slot.init);
        let mut choices = script.choices.iter().copied().cycle();
        for turn in 0..400 {
            if turn == script.delete_at {
                world.intent = Intent::Stop {
                    deadline: world.now + SignedDuration::from_secs(5),
                    why: StopReason::Deleted,
                };
            }
            let plan = decide(&world);
            if plan.steps == [Step::Finish(StopReason::Deleted)] {
                prop_assert!(world.slots.iter().all(|slot| !slot.busy()) && world.sandbox == Sandbox::Absent);
                return Ok(());
            }
            let quiet = plan.steps.is_empty();
            for step in plan.steps {
                apply(&mut world, &step)?;
            }
            let mut moved = false;
            for index in 0..world.slots.len() {
                moved |= happen(&mut world, index, choices.next().unwrap_or(0));
            }
            moved |= sandbox_happens(&mut world);
            if quiet && !moved {
                match plan.wake_at {
                    Some(at) => world.now = world.now.max(at),
                    None => prop_assert!(turn < script.delete_at, "stuck while stopping: {world:?}"),
                }
            }
        }
        prop_assert!(false, "did not end: {world:?}");
        Ok(())
    }

    fn apply(world: &mut World, step: &Step) -> Result<(), TestCaseError> {
        let stopping = matches!(world.intent, Intent::Stop { .. });
        match *step {
            Step::CreateSandbox => {
                prop_assert!(world.sandbox == Sandbox::Absent && !stopping);
                world.sandbox = Sandbox::Creating;
            }
            Step::Image(index) => {
                prop_assert!(world.slots[index].image == Stage::Absent && !stopping);
                world.slots[index].image = Stage::Working;
            }
            Step::Start(index) => {
                let before_init = world.init_slots().any(|(i, slot)| i < index && !slot.succeeded());
                prop_assert!(!stopping && world.sandbox == Sandbox::Ready && !world.slots[index].busy());
                prop_assert!(
                    !before_init || world.initialized(),
                    "started before its init containers"
                );
                world.slots[index].starting = true;
            }
            Step::Stop(index, deadline) => {
                prop_assert!(world.slots[index].stopping.is_none());
                world.slots[index].stopping = Some(Stopping {
                    deadline,
                    killed: false,
                });
            }
            Step::Kill(index) => {
                let stopping = world.slots[index]
                    .stopping
                    .as_mut()
                    .expect("stopped before it is killed");
                prop_assert!(!stopping.killed);
                stopping.killed = true;
            }
            Step::RemoveSandbox => {
                prop_assert!(
                    world.slots.iter().all(|slot| !slot.busy()),
                    "removed under a running container"
                );
                world.sandbox = Sandbox::Removing;
            }
            Step::Finish(_) => {}
        }
        Ok(())
    }

    fn happen(world: &mut World, index: usize, choice: u8) -> bool {
        let now = world.now;
        let slot = &mut world.slots[index];
        if slot.image == Stage::Working {
            slot.image = Stage::Ready;
            return true;
        }
        if slot.starting {
            let number = slot.next_number();
            slot.starting = false;
            slot.image = Stage::Absent;
            slot.stale = false;
            slot.rerun = false;
            if let Some(ended) = slot.ended().cloned() {
                slot.crash = slot.crash.raised(ended.finished_at, now);
            }
            let attempt = Attempt {
                id: "x".into(),
                number,
                image_id: String::new(),
                user: None,
                started_at: now,
                ended: None,
            };
            slot.previous = slot.current.replace(attempt);
            return true;
        }
        let killed = slot.stopping.as_ref().is_some_and(|stopping| stopping.killed);
        if slot.running() && (killed || choice.is_multiple_of(3)) {
            let code = i32::from(choice % 2);
            let attempt = slot.current.as_mut().expect("running");
            attempt.ended = Some(Ended {
                code,
                signal: None,
                reason: "Error".into(),
                message: String::new(),
                started_at: None,
                finished_at: now,
            });
            slot.stopping = None;
            return true;
        }
        if choice == 255 && world.sandbox == Sandbox::Ready {
            world.lose_sandbox();
            return true;
        }
        false
    }

    fn sandbox_happens(world: &mut World) -> bool {
        world.sandbox = match world.sandbox {
            Sandbox::Creating => Sandbox::Ready,
            Sandbox::Removing => Sandbox::Absent,
            _ => return false,
        };
        true
    }
}

proptest! {
    #[test]
    fn a_deleted_pod_always_ends_whatever_happens(
        policy in prop::sample::select(vec![RestartPolicy::Always, RestartPolicy::OnFailure, RestartPolicy::Never]),
        slots in prop::collection::vec(any::<bool>(), 0..4),
        choices in prop::collection::vec(any::<u8>(), 1..40),
        delete_at in 0usize..120,
    ) {
        let mut slots = slots;
        slots.push(false);
        simulation::run(&simulation::Script { policy, slots, choices, delete_at })?;
    }

    #[test]
    fn an_outcome_is_final_without_new_attempts(codes in prop::collection::vec(0i32..3, 1..4)) {
        let now = Timestamp::from_second(1_700_000_000).expect("in range");
        let slots = codes.iter().map(|code| {
            let ended = Ended { code: *code, signal: None, reason: String::new(), message: String::new(), started_at: None, finished_at: now };
            let attempt = Attempt { id: "x".into(), number: 0, image_id: String::new(), user: None, started_at: now, ended: Some(ended) };
            Slot { current: Some(attempt), ..Slot::new("c", false) }
        });
        let world = World {
            now, restart_policy: RestartPolicy::Never, intent: Intent::Run, sandbox: Sandbox::Ready, sandbox_hold: None,
            slots: slots.collect(), reported: false, active_deadline: None, evicted: None, unintroduced: false, finished: false,
        };
        let expected = if codes.iter().all(|code| *code == 0) { Outcome::Succeeded } else { Outcome::Failed };
        prop_assert_eq!(world.outcome(), expected);
        prop_assert!(decide(&world).steps.is_empty());
    }
}
