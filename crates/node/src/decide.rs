//! The one place that says what happens next to a pod. Pure: the worker observes, asks here, does the steps, publishes.
//!
//! ```text
//!            Run                                                   Stop
//!  sandbox + first images ──▶ init 0 ──▶ init 1 ──▶ all main       signal all ──deadline──▶ kill ──▶ remove sandbox
//!                              │ fails: restart or Failed           (nothing started any more)        ──▶ Finish
//!                                                                 (ephemeral ones too, whenever a sandbox is there)
//!  everything ended and none restarts ──▶ status reported ──▶ remove sandbox (the object stays)
//! ```
//!
//! Steps are requests; the worker marks them in the world before it asks again, so a step is never asked for twice.

use crate::world::{Intent, Outcome, RestartPolicy, Sandbox, Slot, Stage, StopReason, World};
use jiff::{SignedDuration, Timestamp};
use std::fmt;

/// What is left of a pod that has come to its end has this long; Kubernetes' default.
const EPHEMERAL_GRACE: SignedDuration = SignedDuration::from_secs(30);

/// One thing to do. Numbers index [`World::slots`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Network, pod shim, volumes.
    CreateSandbox,
    /// Have the container's image here, unpacked.
    Image(usize),
    /// Start the next attempt of the container.
    Start(usize),
    /// Send the stop signal, kill at the deadline.
    Stop(usize, Timestamp),
    /// The deadline passed.
    Kill(usize),
    /// Kill what is left, give the network back.
    RemoveSandbox,
    /// Nothing of the pod is left on the node.
    Finish(StopReason),
}

/// What to do now, and when to look again if nothing else happens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub steps: Vec<Step>,
    pub wake_at: Option<Timestamp>,
}

impl Plan {
    fn step(&mut self, step: Step) {
        self.steps.push(step);
    }

    fn wake(&mut self, at: Option<Timestamp>) {
        self.wake_at = [self.wake_at, at].into_iter().flatten().min();
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            match step {
                Step::CreateSandbox => writeln!(f, "create sandbox")?,
                Step::Image(slot) => writeln!(f, "image {slot}")?,
                Step::Start(slot) => writeln!(f, "start {slot}")?,
                Step::Stop(slot, deadline) => writeln!(f, "stop {slot} by {deadline}")?,
                Step::Kill(slot) => writeln!(f, "kill {slot}")?,
                Step::RemoveSandbox => writeln!(f, "remove sandbox")?,
                Step::Finish(why) => writeln!(f, "finish {why:?}")?,
            }
        }
        match self.wake_at {
            Some(at) => writeln!(f, "wake {at}"),
            None if self.steps.is_empty() => writeln!(f, "rest"),
            None => Ok(()),
        }
    }
}

/// What to do next in this world.
pub fn decide(world: &World) -> Plan {
    let mut plan = Plan::default();
    match world.intent {
        Intent::Stop { deadline, why } => stop(world, deadline, why, &mut plan),
        Intent::Run => run(world, &mut plan),
    }
    plan
}

fn stop(world: &World, deadline: Timestamp, why: StopReason, plan: &mut Plan) {
    stop_containers(world, deadline, plan);
    if world.slots.iter().any(Slot::busy) {
        return;
    }
    match world.sandbox {
        Sandbox::Creating | Sandbox::Removing => {}
        Sandbox::Ready | Sandbox::Lost => plan.step(Step::RemoveSandbox),
        // A pod that was made to fail stays as an object: it is over when its status is known.
        Sandbox::Absent if why.fails_pod() => {}
        // Watchers see how the pod ended before they see it go.
        Sandbox::Absent if why == StopReason::Deleted && !world.reported => {}
        Sandbox::Absent => plan.step(Step::Finish(why)),
    }
}

fn stop_containers(world: &World, deadline: Timestamp, plan: &mut Plan) {
    for (index, slot) in world.slots.iter().enumerate().filter(|(_, slot)| slot.running()) {
        match &slot.stopping {
            None => plan.step(Step::Stop(index, deadline)),
            Some(stopping) if stopping.killed => {}
            // A second delete can only shorten the first one's grace.
            Some(stopping) if world.now >= stopping.deadline.min(deadline) => plan.step(Step::Kill(index)),
            Some(stopping) => plan.wake(Some(stopping.deadline.min(deadline))),
        }
    }
}

/// Containers that are replaced have no longer than those that are stopped for good.
fn kill_overdue(world: &World, plan: &mut Plan) {
    for (index, slot) in world.slots.iter().enumerate().filter(|(_, slot)| slot.running()) {
        match &slot.stopping {
            Some(stopping) if stopping.killed => {}
            Some(stopping) if world.now >= stopping.deadline => plan.step(Step::Kill(index)),
            Some(stopping) => plan.wake(Some(stopping.deadline)),
            None => {}
        }
    }
}

fn run(world: &World, plan: &mut Plan) {
    if world.finished || world.outcome() != Outcome::Open {
        // Who only looked on is left.
        stop_containers(world, world.now + EPHEMERAL_GRACE, plan);
        let idle = !world.slots.iter().any(Slot::busy);
        if idle && world.reported && matches!(world.sandbox, Sandbox::Ready | Sandbox::Lost) {
            plan.step(Step::RemoveSandbox);
        }
        return;
    }
    plan.wake(world.active_deadline);
    kill_overdue(world, plan);
    match world.sandbox {
        Sandbox::Lost => return plan.step(Step::RemoveSandbox),
        Sandbox::Removing => return,
        Sandbox::Absent | Sandbox::Creating | Sandbox::Ready => {}
    }
    let mut wanted = false;
    if world.initialized() {
        for (index, slot) in world.main_slots() {
            let restarts = slot
                .ended()
                .is_none_or(|ended| world.restart_policy.restarts(ended.code));
            wanted |= restarts && advance(world, index, slot, plan);
        }
    } else if let Some((index, slot)) = world.init_slots().find(|(_, slot)| !slot.succeeded()) {
        let restarts = slot.ended().is_none() || world.restart_policy != RestartPolicy::Never;
        wanted |= restarts && advance(world, index, slot, plan);
    }
    for (index, slot) in world.ephemeral_slots() {
        // One that ended under an earlier agent may only be known to the API server: it must not start twice.
        if slot.current.is_none() && world.sandbox == Sandbox::Ready && !world.unintroduced {
            advance(world, index, slot, plan);
        }
    }
    if wanted && world.sandbox == Sandbox::Absent {
        match &world.sandbox_hold {
            Some(hold) if hold.until.is_none_or(|until| until > world.now) => {
                plan.wake(hold.changes_at(world.now));
            }
            _ => plan.steps.insert(0, Step::CreateSandbox),
        }
    }
}

/// Brings one container that should run a step further. True when it needs the sandbox.
fn advance(world: &World, index: usize, slot: &Slot, plan: &mut Plan) -> bool {
    if slot.busy() {
        return false;
    }
    if let Some(hold) = &slot.hold {
        let due = hold.until.is_some_and(|until| until <= world.now);
        if !due {
            plan.wake(hold.changes_at(world.now));
            return false;
        }
    }
    if let Some(ended) = slot.ended() {
        let ready_at = slot.crash.ready_at(ended.finished_at);
        if ready_at > world.now {
            plan.wake(Some(ready_at));
            return false;
        }
    }
    match (slot.image, world.sandbox) {
        (Stage::Absent, _) => plan.step(Step::Image(index)),
        (Stage::Ready, Sandbox::Ready) => plan.step(Step::Start(index)),
        (Stage::Working | Stage::Ready, _) => {}
    }
    true
}
