//! One task per pod: observe, decide, do the steps, publish.
//!
//! ```text
//!   inbox (pod changed, gone, shutdown) ─┐
//!   pod shim events ─────────────────────┤                      ┌─▶ operations (JoinSet), each ends as an event
//!   finished operations ─────────────────┼─▶ world ─▶ decide ───┤
//!   the clock (wake_at) ─────────────────┘              │       └─▶ status ─▶ publish when settled
//!                                                       └── wake_at
//! ```
//!
//! Status is written when the pod has come to rest, not at every turn: on the way from bound to Ready there is exactly
//! one write. A pod that takes long shows its intermediate states after `COALESCE`.

mod containers;
mod publishing;
mod resizing;

use crate::decide::{Step, decide};
use crate::layout::PodKey;
use crate::machine::{
    Changed, Failure, Machine, Prepared, Reported, Reports, Retry, SandboxUp, Severity, StartFailure, StartRequest,
    StartedAttempt,
};
use crate::resize::{Resizes, Verdict};
use crate::status;
use crate::world::{Ended, Hold, Intent, Sandbox, Stage, StopReason, World};
use async_trait::async_trait;
use catamaran_shim::client::{Event as ShimEvent, Events};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use resizing::Progress;

/// How long a pod in motion may change before its status is written all the same.
const COALESCE: SignedDuration = SignedDuration::from_secs(1);
/// Pause before a report the API server did not take is sent again.
const REPORT_RETRY: SignedDuration = SignedDuration::from_secs(2);
/// Pause before a container is tried again whose configuration could not be resolved.
const CONFIG_RETRY: SignedDuration = SignedDuration::from_secs(10);
/// Grace of a pod whose object is gone already (`kubectl delete --force`).
const ORPHAN_GRACE: SignedDuration = SignedDuration::from_secs(2);
/// What the kubelet gives containers of a pod that is too big for its limits.
const EVICTION_GRACE: SignedDuration = SignedDuration::from_secs(1);
/// What a container has to end in whose image is another now.
const REPLACED_GRACE: SignedDuration = SignedDuration::from_secs(30);
/// Pause before a sandbox that could not be removed is tried again.
const REMOVE_RETRY: SignedDuration = SignedDuration::from_secs(1);
/// Longest pause between attempts to make a sandbox.
const SANDBOX_RETRY_MAX_SECS: i64 = 120;

/// What others tell a worker.
#[derive(Clone, Debug)]
pub enum Message {
    /// The object, as of now.
    Pod(Arc<Pod>),
    /// The object was deleted.
    Gone,
    /// Stop the pod within `max_grace`, leave the object alone, and run it again next time.
    Shutdown { max_grace: Duration },
    /// An object the pod refers to changed.
    ObjectsChanged,
    /// The pod took more than it may: end it for good.
    Evict { message: String },
}

/// The clock workers read and wait by; tests bring their own.
#[async_trait]
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> Timestamp;

    /// Returns at `at`, at once if that is past.
    async fn until(&self, at: Timestamp);
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn until(&self, at: Timestamp) {
        // The wall clock may be a hair behind the timer: a millisecond more keeps a worker from turning twice.
        let wait = Duration::try_from(at.duration_since(self.now())).unwrap_or_default();
        tokio::time::sleep(wait + Duration::from_millis(1)).await;
    }
}

enum Done {
    Sandbox(Result<SandboxUp, Failure>),
    Image(usize, Result<Prepared, Failure>),
    Started(usize, StartRequest, Result<StartedAttempt, StartFailure>),
    Ended(usize, String, Ended),
    Judged(Arc<Pod>, Verdict),
    /// Changed in place, to be started again, and how it went.
    Resized(Vec<(String, String)>, Vec<(String, String)>, Result<Changed, String>),
    Settled(Result<(), String>),
    SandboxRemoved(Result<(), String>),
    Published(Box<PodStatus>, Reported),
    Deleted(Reported),
    /// The last act of a shutdown.
    Unmounted,
    /// Signals, clean-ups: nothing to note.
    Nothing,
}

/// What a worker starts from: a new pod, or one found running.
pub struct Start {
    pub pod: Arc<Pod>,
    pub world: World,
    /// What it was granted, and what is in force of it.
    pub resizes: Resizes,
    pub sandbox: Option<SandboxUp>,
    pub start_time: Timestamp,
    /// The address a sandbox had that is not there any more.
    pub last_ip: Option<IpAddr>,
    /// Found by its state directory.
    pub adopted: bool,
}

pub struct Worker<M, R> {
    machine: Arc<M>,
    reports: Arc<R>,
    clock: Arc<dyn Clock>,
    node_ip: IpAddr,
    key: PodKey,
    pod: Arc<Pod>,
    /// The same with what it was granted of CPU and memory: what containers are started with.
    granted: Arc<Pod>,
    resizes: Resizes,
    progress: Progress,
    world: World,
    start_time: Timestamp,
    ip: Option<IpAddr>,
    shim_events: Option<Events>,
    prepared: HashMap<usize, Prepared>,
    /// Ends that were seen before the start that belongs to them.
    early_ends: HashMap<String, Ended>,
    operations: JoinSet<Done>,
    sandbox_failures: u32,
    /// The status last computed, the one the API server has, and what keeps the first from becoming the second.
    status: PodStatus,
    acknowledged: Option<PodStatus>,
    publishing: bool,
    dirty_since: Option<Timestamp>,
    retry_report_at: Option<Timestamp>,
    deleting: bool,
}

impl<M: Machine, R: Reports> Worker<M, R> {
    pub fn new(
        key: PodKey,
        start: Start,
        machine: Arc<M>,
        reports: Arc<R>,
        clock: Arc<dyn Clock>,
        node_ip: IpAddr,
    ) -> Self {
        let acknowledged = start.pod.status.clone();
        let mut worker = Self {
            machine,
            reports,
            clock,
            node_ip,
            key,
            status: acknowledged.clone().unwrap_or_default(),
            acknowledged,
            granted: start.resizes.granted(&start.pod),
            resizes: start.resizes,
            progress: Progress::default(),
            pod: start.pod,
            world: start.world,
            start_time: start.start_time,
            ip: start.last_ip,
            shim_events: None,
            prepared: HashMap::new(),
            early_ends: HashMap::new(),
            operations: JoinSet::new(),
            sandbox_failures: 0,
            publishing: false,
            dirty_since: None,
            retry_report_at: None,
            deleting: false,
        };
        if let Some(up) = start.sandbox {
            worker.sandbox_up(up);
        }
        worker
    }

    /// Runs until nothing of the pod is left on this node and in the API. Cancel-safe: dropping the future leaves the
    /// containers running.
    pub async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Message>) {
        let clock = self.clock.clone();
        self.resume_replacing();
        loop {
            self.observe();
            let resize_at = self.resize();
            let plan = decide(&self.world);
            for step in plan.steps {
                if self.execute(&step) {
                    return;
                }
            }
            let wake_at = [plan.wake_at, self.publish(), self.retry_report_at, resize_at]
                .into_iter()
                .flatten()
                .min();
            tokio::select! {
                message = inbox.recv() => match message {
                    Some(message) => self.hear(message),
                    None => return,
                },
                Some(event) = next_event(&mut self.shim_events) => self.shim_event(event),
                Some(done) = self.operations.join_next() => match done {
                    Ok(done) => {
                        if self.done(done) {
                            return;
                        }
                    }
                    Err(error) => tracing::error!(pod = self.key.uid, %error, "an operation of the pod's worker failed"),
                },
                () = wait(&*clock, wake_at) => {}
            }
        }
    }

    fn observe(&mut self) {
        self.world.now = self.clock.now();
        self.observe_intent();
        if !self.world.finished {
            self.compute_status();
        }
        self.world.reported = self.world.finished || self.acknowledged.as_ref() == Some(&self.status);
    }

    fn observe_intent(&mut self) {
        let now = self.world.now;
        let meta = &self.pod.metadata;
        let stopped = match self.world.intent {
            Intent::Stop { why, .. } => Some(why),
            Intent::Run => None,
        };
        if meta.deletion_timestamp.is_some() && stopped.is_none_or(StopReason::fails_pod) {
            let grace = SignedDuration::from_secs(meta.deletion_grace_period_seconds.unwrap_or(30).max(0));
            self.stop_by(now + grace, StopReason::Deleted);
        } else if stopped.is_none() && self.world.active_deadline.is_some_and(|deadline| now >= deadline) {
            let over = self.world.outcome() != crate::world::Outcome::Open || self.world.finished;
            if !over {
                self.event(None, Severity::Normal, "DeadlineExceeded", status::DEADLINE_MESSAGE);
                self.stop_by(now + self.grace(), StopReason::DeadlineExceeded);
            }
            self.world.active_deadline = None;
        }
    }

    fn grace(&self) -> SignedDuration {
        let seconds = self
            .pod
            .spec
            .as_ref()
            .and_then(|spec| spec.termination_grace_period_seconds)
            .unwrap_or(30);
        SignedDuration::from_secs(seconds.clamp(0, 1 << 31))
    }

    fn stop_by(&mut self, deadline: Timestamp, why: StopReason) {
        let deadline = match self.world.intent {
            Intent::Stop { deadline: earlier, .. } => earlier.min(deadline),
            Intent::Run => deadline,
        };
        self.world.intent = Intent::Stop { deadline, why };
    }

    fn hear(&mut self, message: Message) {
        let now = self.clock.now();
        match message {
            Message::Pod(pod) => self.pod_changed(pod),
            Message::Gone => self.stop_by(now + ORPHAN_GRACE, StopReason::Orphaned),
            Message::Shutdown { max_grace } => {
                let max = SignedDuration::try_from(max_grace).unwrap_or(SignedDuration::MAX);
                let grace = self.grace().min(max);
                let why = match self.world.intent {
                    Intent::Stop {
                        why: why @ (StopReason::Deleted | StopReason::Orphaned),
                        ..
                    } => why,
                    _ => StopReason::Shutdown,
                };
                // A pod being deleted keeps its reason; if the API is gone before its report, the next start ends it.
                let why = if why == StopReason::Deleted {
                    StopReason::Shutdown
                } else {
                    why
                };
                self.stop_by(now + grace, why);
            }
            Message::Evict { message } => {
                let open = self.world.outcome() == crate::world::Outcome::Open && !self.world.finished;
                if open && self.world.intent == Intent::Run {
                    self.event(None, Severity::Warning, "Evicted", &message);
                    self.evict(message);
                }
            }
            Message::ObjectsChanged => {
                for slot in &mut self.world.slots {
                    if let Some(hold) = slot
                        .hold
                        .as_mut()
                        .filter(|hold| hold.reason == "CreateContainerConfigError")
                    {
                        hold.until = hold.until.map(|until| until.min(now));
                    }
                }
                if let Some(hold) = &mut self.world.sandbox_hold {
                    hold.until = Some(now);
                }
                if self.world.sandbox == Sandbox::Ready {
                    let (machine, pod) = (self.machine.clone(), self.pod.clone());
                    self.spawn(async move {
                        machine.refresh_volumes(&pod).await;
                        Done::Nothing
                    });
                }
            }
        }
    }

    fn evict(&mut self, message: String) {
        self.world.evicted = Some(message);
        self.stop_by(self.clock.now() + EVICTION_GRACE, StopReason::Evicted);
    }

    fn pod_changed(&mut self, pod: Arc<Pod>) {
        crate::adopt::add_ephemeral(&mut self.world, &pod);
        if std::mem::take(&mut self.world.unintroduced) {
            self.resizes.recall(&pod);
            self.acknowledged = pod.status.clone();
            // What has not changed goes on from there.
            self.status = self.acknowledged.clone().unwrap_or_default();
            crate::adopt::introduce(&mut self.world, &pod);
            let said = pod
                .status
                .as_ref()
                .filter(|status| status.reason.as_deref() == Some("Evicted"));
            if let Some(status) = said {
                self.evict(status.message.clone().unwrap_or_default());
            }
        }
        if let Some(acknowledged) = &mut self.acknowledged {
            status::adopt_foreign_conditions(acknowledged, &pod);
        }
        let images = |pod: &Pod| -> HashMap<String, Option<String>> {
            crate::containers(pod)
                .map(|(container, _)| (container.name.clone(), container.image.clone()))
                .collect()
        };
        // A new image restarts the container: the one change of a running pod's spec that Kubernetes allows and acts on.
        let (before, after) = (images(&self.pod), images(&pod));
        self.granted = self.resizes.granted(&pod);
        self.pod = pod;
        let mut replaced = Vec::new();
        for (index, slot) in self.world.slots.iter_mut().enumerate() {
            if slot.ephemeral || before.get(&slot.name) == after.get(&slot.name) {
                continue;
            }
            slot.hold = None;
            slot.image = Stage::Absent;
            if slot.running() && !slot.init && slot.stopping.is_none() {
                slot.rerun = true;
                replaced.push(index);
            }
        }
        crate::adopt::hold_unsupported(&mut self.world, &self.pod);
        self.replace_changed(&replaced);
    }

    fn replace_changed(&mut self, slots: &[usize]) {
        let deadline = self.world.now + REPLACED_GRACE;
        for &index in slots {
            let name = &self.world.slots[index].name;
            let message = format!("Container {name} definition changed, will be restarted");
            self.stop(index, deadline, &message);
        }
    }

    /// Containers that an earlier agent told to end, or was about to, so that they can be started again.
    fn resume_replacing(&mut self) {
        let slots = self.world.slots.iter().enumerate();
        let replaced = slots.filter(|(_, slot)| slot.running() && slot.rerun);
        let replaced: Vec<_> = replaced.map(|(index, _)| index).collect();
        self.replace_changed(&replaced);
    }

    fn shim_event(&mut self, event: ShimEvent) {
        match event {
            ShimEvent::Exited { id, exit } => {
                let ended = Ended::from_exit(exit);
                let slot = self.world.slots.iter().position(|slot| {
                    slot.current
                        .as_ref()
                        .is_some_and(|attempt| attempt.id == id && attempt.ended.is_none())
                });
                match slot {
                    Some(index) => self.complete_end(index, id, ended),
                    None => {
                        self.early_ends.insert(id, ended);
                    }
                }
            }
            // Execs are their sessions' business.
            ShimEvent::ExecExited { .. } => {}
            ShimEvent::Gone => self.sandbox_lost(),
        }
    }

    fn sandbox_lost(&mut self) {
        self.shim_events = None;
        if self.world.sandbox == Sandbox::Ready {
            tracing::warn!(pod = self.key.uid, "the pod shim is gone");
            self.event(
                None,
                Severity::Normal,
                "SandboxChanged",
                "Pod sandbox changed, it will be killed and re-created.",
            );
            self.world.lose_sandbox();
        }
    }

    /// Does one step. True when the worker's life is over.
    fn execute(&mut self, step: &Step) -> bool {
        let (machine, pod, key) = (self.machine.clone(), self.granted.clone(), self.key.clone());
        match *step {
            Step::CreateSandbox => {
                self.world.sandbox = Sandbox::Creating;
                self.spawn(async move { Done::Sandbox(machine.create_sandbox(&pod).await) });
            }
            Step::Image(index) => {
                self.world.slots[index].image = Stage::Working;
                let name = self.world.slots[index].name.clone();
                self.spawn(async move { Done::Image(index, machine.image(&pod, &name).await) });
            }
            Step::Start(index) => self.start(index),
            Step::Stop(index, deadline) => {
                let why = format!("Stopping container {}", self.world.slots[index].name);
                self.stop(index, deadline, &why);
            }
            Step::Kill(index) => {
                let slot = &mut self.world.slots[index];
                if let Some(stopping) = &mut slot.stopping {
                    stopping.killed = true;
                }
                let Some(id) = slot.current.as_ref().map(|attempt| attempt.id.clone()) else {
                    return false;
                };
                self.spawn(async move {
                    machine.kill(&key, &id).await;
                    Done::Nothing
                });
            }
            Step::RemoveSandbox => {
                self.world.sandbox = Sandbox::Removing;
                self.shim_events = None;
                let clock = self.clock.clone();
                self.spawn(async move {
                    let result = machine.remove_sandbox(&key).await;
                    if result.is_err() {
                        clock.until(clock.now() + REMOVE_RETRY).await;
                    }
                    Done::SandboxRemoved(result)
                });
            }
            Step::Finish(why) => return self.finish(why),
        }
        false
    }

    fn finish(&mut self, why: StopReason) -> bool {
        match why {
            StopReason::Orphaned => {
                self.machine.clean(&self.key, true);
                true
            }
            StopReason::Shutdown => {
                let (machine, key) = (self.machine.clone(), self.key.clone());
                self.spawn(async move {
                    machine.unmount(&key).await;
                    Done::Unmounted
                });
                false
            }
            StopReason::Deleted => {
                let waits = self.retry_report_at.is_some_and(|at| at > self.world.now);
                if !self.deleting && !waits {
                    self.deleting = true;
                    let (reports, key) = (self.reports.clone(), self.key.clone());
                    self.spawn(async move { Done::Deleted(reports.delete(&key).await) });
                }
                false
            }
            StopReason::DeadlineExceeded | StopReason::Evicted => false,
        }
    }

    fn start(&mut self, index: usize) {
        let Some(prepared) = self.prepared.get(&index).cloned() else {
            self.world.slots[index].image = Stage::Absent;
            return;
        };
        let Some(ip) = self.ip else { return };
        // It may have more than the pod has yet; asked for again when there is room.
        if self.progress.making_room() {
            return;
        }
        let slot = &mut self.world.slots[index];
        slot.starting = true;
        let request = StartRequest {
            container: slot.name.clone(),
            id: format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple()),
            attempt: slot.next_number(),
            ip,
        };
        self.resizes.set_in_force(&request.container);
        let (machine, pod) = (self.machine.clone(), self.granted.clone());
        self.spawn(async move {
            let result = machine.start(&pod, &request, &prepared).await;
            Done::Started(index, request, result)
        });
    }

    /// Takes in the result of an operation. True when the worker's life is over.
    fn done(&mut self, done: Done) -> bool {
        self.world.now = self.clock.now();
        match done {
            Done::Sandbox(Ok(up)) => self.sandbox_up(up),
            Done::Sandbox(Err(failure)) => self.sandbox_failed(failure),
            Done::Image(index, Ok(prepared)) => {
                self.prepared.insert(index, prepared);
                let slot = &mut self.world.slots[index];
                slot.image = Stage::Ready;
                slot.hold = None;
                slot.pull = crate::backoff::Backoff::default();
            }
            Done::Image(index, Err(failure)) => self.hold(index, failure),
            Done::Started(index, request, result) => self.started(index, &request, result),
            Done::Ended(index, id, ended) => self.ended(index, &id, ended),
            Done::Judged(pod, verdict) => self.judged(&pod, verdict),
            Done::Resized(in_place, restarts, result) => self.resized(&in_place, restarts, result),
            Done::Settled(result) => self.settled(result),
            Done::SandboxRemoved(Ok(())) => {
                self.world.sandbox = Sandbox::Absent;
                let over = self.world.intent == Intent::Run && self.world.outcome() != crate::world::Outcome::Open;
                if over || matches!(self.world.intent, Intent::Stop { why, .. } if why.fails_pod()) {
                    self.machine.clean(&self.key, false);
                }
            }
            Done::SandboxRemoved(Err(message)) => {
                tracing::warn!(
                    pod = self.key.uid,
                    message,
                    "the pod's sandbox could not be removed; trying again"
                );
                self.world.sandbox = Sandbox::Lost;
            }
            Done::Published(status, reported) => self.published(*status, reported),
            Done::Deleted(Reported::Failed) => {
                self.deleting = false;
                self.retry_report_at = Some(self.world.now + REPORT_RETRY);
            }
            Done::Deleted(Reported::Done | Reported::Gone) => {
                self.machine.clean(&self.key, true);
                return true;
            }
            Done::Unmounted => return true,
            Done::Nothing => {}
        }
        false
    }

    fn sandbox_up(&mut self, up: SandboxUp) {
        self.world.sandbox = Sandbox::Ready;
        self.world.sandbox_hold = None;
        self.sandbox_failures = 0;
        self.ip = Some(up.ip);
        self.shim_events = Some(up.events);
    }

    fn sandbox_failed(&mut self, failure: Failure) {
        self.event(None, Severity::Warning, &failure.reason, &failure.message);
        self.world.sandbox = Sandbox::Absent;
        let delay = (1_i64 << self.sandbox_failures.min(7)).min(SANDBOX_RETRY_MAX_SECS);
        self.sandbox_failures += 1;
        let until = (failure.retry != Retry::Never).then(|| self.world.now + SignedDuration::from_secs(delay));
        let (reason, message) = (failure.reason, failure.message);
        self.world.sandbox_hold = Some(Hold {
            reason,
            message,
            since: self.world.now,
            until,
            settled: None,
        });
    }

    fn event(&self, container: Option<&str>, severity: Severity, reason: &str, message: &str) {
        self.reports.event(&self.pod, container, severity, reason, message);
    }

    fn spawn(&mut self, operation: impl Future<Output = Done> + Send + 'static) {
        self.operations.spawn(operation);
    }
}

async fn next_event(events: &mut Option<Events>) -> Option<ShimEvent> {
    match events {
        // A closed channel means the connection to the shim ended: it is gone.
        Some(receiver) => Some(receiver.recv().await.unwrap_or(ShimEvent::Gone)),
        None => None,
    }
}

async fn wait(clock: &dyn Clock, until: Option<Timestamp>) {
    match until {
        Some(at) => clock.until(at).await,
        None => std::future::pending().await,
    }
}
