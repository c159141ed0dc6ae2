//! The pod status, as a value: from what the agent knows to what `kubectl get pod -o yaml` shows.
//!
//! Phases, reasons and messages are those of the kubelet ("Pod Lifecycle" in the Kubernetes documentation), because
//! scripts match on them. Conditions this agent does not own (`PodScheduled`, readiness gates, …) pass through.

use crate::resize::{Obstacle, PENDING, Resizes};
use crate::resources;
use crate::world::{Attempt, Ended, Intent, Outcome, Sandbox, Slot, StopReason, User, World};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    ContainerUser, HostIP, LinuxContainerUser, Pod, PodCondition, PodIP, PodSpec, PodStatus, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::net::IpAddr;

/// What the status says beside the world.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// The pod as the API server last showed it; its status holds the conditions of others.
    pub pod: &'a Pod,
    pub world: &'a World,
    pub resizes: &'a Resizes,
    /// The status computed before this one: transition times are continued from it.
    pub before: Option<&'a PodStatus>,
    pub node_ip: IpAddr,
    pub pod_ip: Option<IpAddr>,
    /// When the agent accepted the pod.
    pub start_time: Timestamp,
}

/// Like [`PENDING`], a condition that is there only while a resize is.
const IN_PROGRESS: &str = "PodResizeInProgress";
const OWNED_CONDITIONS: [&str; 4] = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady"];
/// The condition of a pod that is ended for the good of the node.
const DISRUPTION: &str = "DisruptionTarget";
pub(crate) const DEADLINE_MESSAGE: &str = "Pod was active on the node longer than the specified deadline";
const PREFIX: &str = "catamaran://";

/// Builds the whole status.
pub fn status(facts: &Facts<'_>) -> PodStatus {
    let spec = facts.pod.spec.clone().unwrap_or_default();
    let slots =
        |role: &dyn Fn(&Slot) -> bool| -> Vec<&Slot> { facts.world.slots.iter().filter(|slot| role(slot)).collect() };
    let (init, main) = (slots(&|slot| slot.init), slots(&|slot| !slot.init && !slot.ephemeral));
    let ephemeral = slots(&|slot| slot.ephemeral);
    let with_init = !init.is_empty();
    let statuses = |slots: &[&Slot], containers: &[Container]| -> Vec<ContainerStatus> {
        let find = |name: &str| containers.iter().find(|container| container.name == name);
        slots
            .iter()
            .filter_map(|slot| Some(container_status(facts, slot, find(&slot.name)?, with_init)))
            .collect()
    };
    let init_statuses = statuses(&init, spec.init_containers.as_deref().unwrap_or_default());
    let main_statuses = statuses(&main, &spec.containers);
    let debuggers: Vec<Container> = crate::ephemeral::containers(facts.pod).collect();
    let ephemeral_statuses = statuses(&ephemeral, &debuggers);
    let phase = phase(facts.world);
    let made_to_fail = made_to_fail(facts.world);
    let generation = facts.pod.metadata.generation;
    PodStatus {
        conditions: Some(conditions(facts, &spec, phase, &init_statuses, &main_statuses)),
        container_statuses: Some(main_statuses),
        ephemeral_container_statuses: (!ephemeral_statuses.is_empty()).then_some(ephemeral_statuses),
        host_ip: Some(facts.node_ip.to_string()),
        host_ips: Some(vec![HostIP {
            ip: facts.node_ip.to_string(),
        }]),
        init_container_statuses: with_init.then_some(init_statuses),
        message: made_to_fail.map(|(_, message)| message.to_owned()),
        observed_generation: generation,
        phase: Some(phase.to_owned()),
        pod_ip: facts.pod_ip.map(|ip| ip.to_string()),
        pod_ips: facts.pod_ip.map(|ip| vec![PodIP { ip: ip.to_string() }]),
        qos_class: Some(resources::qos_class(&spec).as_str().to_owned()),
        reason: made_to_fail.map(|(reason, _)| reason.to_owned()),
        start_time: Some(Time(facts.start_time)),
        ..PodStatus::default()
    }
}

/// Whether a status says that the pod is over.
pub fn is_terminal(status: &PodStatus) -> bool {
    matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"))
}

/// Whether `status.conditions` says `type_=True`.
pub fn condition_is_true(status: &PodStatus, type_: &str) -> bool {
    status
        .conditions
        .iter()
        .flatten()
        .any(|condition| condition.type_ == type_ && condition.status == "True")
}

/// Reason and message of a pod that this agent ended and that counts as failed, whatever its containers did.
fn made_to_fail(world: &World) -> Option<(&'static str, &str)> {
    match (&world.evicted, &world.intent) {
        (Some(message), _) => Some(("Evicted", message)),
        (
            None,
            Intent::Stop {
                why: StopReason::DeadlineExceeded,
                ..
            },
        ) => Some(("DeadlineExceeded", DEADLINE_MESSAGE)),
        _ => None,
    }
}

fn phase(world: &World) -> &'static str {
    if made_to_fail(world).is_some() {
        return "Failed";
    }
    let over = !world.slots.iter().any(Slot::busy);
    match world.intent {
        Intent::Stop {
            why: StopReason::Deleted,
            ..
        } if over => return stopped_phase(world),
        _ => {}
    }
    match world.outcome() {
        Outcome::Succeeded => return "Succeeded",
        Outcome::Failed => return "Failed",
        Outcome::Open => {}
    }
    let initialized = world.initialized() || world.main_slots().any(|(_, slot)| slot.current.is_some());
    let all_started = world.main_slots().all(|(_, slot)| slot.current.is_some());
    if initialized && all_started {
        "Running"
    } else {
        "Pending"
    }
}

/// A deleted pod whose containers are gone is over, whatever its restart policy says.
fn stopped_phase(world: &World) -> &'static str {
    let clean = world.main_slots().all(|(_, slot)| slot.succeeded());
    if clean { "Succeeded" } else { "Failed" }
}

fn container_status(facts: &Facts<'_>, slot: &Slot, container: &Container, with_init: bool) -> ContainerStatus {
    let state = container_state(facts, slot, with_init);
    let shown_ended = state.terminated.is_some();
    let running = state.running.is_some();
    let current = slot.current.as_ref();
    let last = if shown_ended || running {
        slot.previous.as_ref()
    } else {
        current.or(slot.previous.as_ref())
    };
    // Whoever was started once has something of the node.
    let (granted, in_force) = facts.resizes.shown(container, running);
    ContainerStatus {
        allocated_resources: granted.filter(|_| current.is_some()),
        container_id: current.map(|attempt| format!("{PREFIX}{}", attempt.id)),
        image: container.image.clone().unwrap_or_default(),
        image_id: current.map(|attempt| attempt.image_id.clone()).unwrap_or_default(),
        last_state: Some(last.and_then(terminated).map(terminated_state).unwrap_or_default()),
        name: slot.name.clone(),
        ready: match (slot.ephemeral, slot.init) {
            (true, _) => false,
            (_, true) => shown_ended && slot.succeeded(),
            _ => running,
        },
        resources: current.map(|_| in_force),
        restart_count: i32::try_from(current.map_or(0, |attempt| attempt.number)).unwrap_or(i32::MAX),
        started: (!slot.ephemeral).then_some(running),
        state: Some(state),
        user: current.and_then(|attempt| attempt.user.as_ref()).map(container_user),
        volume_mounts: volume_mounts(container),
        ..ContainerStatus::default()
    }
}

fn container_user(user: &User) -> ContainerUser {
    ContainerUser {
        linux: Some(LinuxContainerUser {
            gid: user.gid.into(),
            supplemental_groups: Some(user.groups.iter().map(|gid| i64::from(*gid)).collect()),
            uid: user.uid.into(),
        }),
    }
}

fn container_state(facts: &Facts<'_>, slot: &Slot, with_init: bool) -> ContainerState {
    let world = facts.world;
    let stopping = matches!(world.intent, Intent::Stop { .. });
    if let Some(attempt) = slot.current.as_ref() {
        let Some(ended) = &attempt.ended else {
            let running = ContainerStateRunning {
                started_at: Some(Time(attempt.started_at)),
            };
            return ContainerState {
                running: Some(running),
                ..ContainerState::default()
            };
        };
        if stopping || !will_restart(world, slot, ended) {
            return terminated_state(ended_to_k8s(attempt, ended));
        }
        if slot.hold.is_none() {
            let delay = slot.crash.delay_after(ended.finished_at);
            if !slot.rerun && !slot.starting && slot.crash.ready_at(ended.finished_at) > world.now {
                return waiting("CrashLoopBackOff", Some(&crash_message(facts.pod, &slot.name, delay)));
            }
            if !slot.rerun {
                return terminated_state(ended_to_k8s(attempt, ended));
            }
        }
    }
    match &slot.hold {
        Some(hold) => {
            let (reason, message) = hold.shown(world.now);
            waiting(reason, Some(message))
        }
        None if with_init => waiting("PodInitializing", None),
        None => waiting("ContainerCreating", None),
    }
}

fn will_restart(world: &World, slot: &Slot, ended: &Ended) -> bool {
    if world.finished || world.outcome() != Outcome::Open {
        return false;
    }
    slot.rerun || slot.restarts(world.restart_policy, ended.code)
}

fn waiting(reason: &str, message: Option<&str>) -> ContainerState {
    let waiting = ContainerStateWaiting {
        reason: Some(reason.to_owned()),
        message: message.map(str::to_owned),
    };
    ContainerState {
        waiting: Some(waiting),
        ..ContainerState::default()
    }
}

fn terminated(attempt: &Attempt) -> Option<ContainerStateTerminated> {
    attempt.ended.as_ref().map(|ended| ended_to_k8s(attempt, ended))
}

fn ended_to_k8s(attempt: &Attempt, ended: &Ended) -> ContainerStateTerminated {
    ContainerStateTerminated {
        container_id: Some(format!("{PREFIX}{}", attempt.id)),
        exit_code: ended.code,
        finished_at: Some(Time(ended.finished_at)),
        message: (!ended.message.is_empty()).then(|| ended.message.clone()),
        reason: Some(ended.reason.clone()),
        signal: ended.signal,
        started_at: Some(Time(ended.started_at.unwrap_or(attempt.started_at))),
    }
}

fn terminated_state(terminated: ContainerStateTerminated) -> ContainerState {
    ContainerState {
        terminated: Some(terminated),
        ..ContainerState::default()
    }
}

/// The kubelet's sentence for a container in back-off; also the event's.
pub fn crash_message(pod: &Pod, container: &str, delay_secs: i64) -> String {
    let delay = match (delay_secs / 60, delay_secs % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    };
    format!(
        "back-off {delay} restarting failed container={container} pod={}",
        crate::pod_ref(pod)
    )
}

fn volume_mounts(container: &Container) -> Option<Vec<VolumeMountStatus>> {
    let mounts = container.volume_mounts.as_ref()?;
    let shown = mounts.iter().map(|mount| VolumeMountStatus {
        mount_path: mount.mount_path.clone(),
        name: mount.name.clone(),
        read_only: mount.read_only,
        recursive_read_only: mount.read_only.unwrap_or(false).then(|| "Disabled".to_owned()),
    });
    Some(shown.collect())
}

struct Verdict {
    ok: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Verdict {
    fn yes() -> Self {
        Self {
            ok: true,
            reason: None,
            message: None,
        }
    }

    fn no(reason: &'static str, message: Option<String>) -> Self {
        Self {
            ok: false,
            reason: Some(reason),
            message,
        }
    }
}

fn conditions(
    facts: &Facts<'_>,
    spec: &PodSpec,
    phase: &str,
    init: &[ContainerStatus],
    main: &[ContainerStatus],
) -> Vec<PodCondition> {
    let containers_ready = containers_ready(phase, main);
    let ready = if containers_ready.ok {
        gates_ready(facts.pod, spec)
    } else {
        clone_verdict(&containers_ready)
    };
    let sandbox = match facts.world.sandbox == Sandbox::Ready && !winding_down(facts.world) {
        true => Verdict::yes(),
        false => Verdict {
            ok: false,
            reason: None,
            message: None,
        },
    };
    let verdicts = [sandbox, initialized(facts.world, phase, init), ready, containers_ready];
    let mut all: Vec<_> = OWNED_CONDITIONS
        .iter()
        .zip(verdicts)
        .map(|(type_, verdict)| condition(facts, type_, verdict))
        .collect();
    all.extend(resize_conditions(facts));
    let evicted = facts.world.evicted.as_ref();
    all.extend(evicted.map(|message| {
        let verdict = Verdict {
            ok: true,
            reason: Some("TerminationByKubelet"),
            message: Some(message.clone()),
        };
        condition(facts, DISRUPTION, verdict)
    }));
    let foreign = facts
        .pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    all.extend(
        foreign
            .filter(|condition| !is_owned(&condition.type_))
            .filter(|condition| evicted.is_none() || condition.type_ != DISRUPTION)
            .cloned(),
    );
    all
}

/// Nothing will be started any more and nothing runs: the sandbox is as good as gone. Saying so at once saves the API
/// server a second write for every pod that ends.
fn winding_down(world: &World) -> bool {
    let ending = matches!(world.intent, Intent::Stop { .. }) || world.outcome() != Outcome::Open;
    ending && !world.slots.iter().any(Slot::busy)
}

fn clone_verdict(verdict: &Verdict) -> Verdict {
    Verdict {
        ok: verdict.ok,
        reason: verdict.reason,
        message: verdict.message.clone(),
    }
}

fn initialized(world: &World, phase: &str, init: &[ContainerStatus]) -> Verdict {
    if phase == "Succeeded" {
        return Verdict {
            ok: true,
            reason: Some("PodCompleted"),
            message: None,
        };
    }
    if world.initialized() {
        return Verdict::yes();
    }
    let incomplete = names(init.iter().filter(|status| !status.ready));
    Verdict::no(
        "ContainersNotInitialized",
        Some(format!("containers with incomplete status: [{incomplete}]")),
    )
}

fn containers_ready(phase: &str, main: &[ContainerStatus]) -> Verdict {
    match phase {
        "Succeeded" => return Verdict::no("PodCompleted", None),
        "Failed" => return Verdict::no("PodFailed", None),
        _ => {}
    }
    let unready = names(main.iter().filter(|status| !status.ready));
    match unready.is_empty() {
        true => Verdict::yes(),
        false => Verdict::no(
            "ContainersNotReady",
            Some(format!("containers with unready status: [{unready}]")),
        ),
    }
}

fn gates_ready(pod: &Pod, spec: &PodSpec) -> Verdict {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    let complaints: Vec<_> = spec
        .readiness_gates
        .iter()
        .flatten()
        .filter_map(|gate| {
            let name = &gate.condition_type;
            match conditions.iter().find(|condition| condition.type_ == *name) {
                None => Some(format!(
                    "corresponding condition of pod readiness gate \"{name}\" does not exist."
                )),
                Some(condition) if condition.status != "True" => Some(format!(
                    "the status of pod readiness gate \"{name}\" is not \"True\", but {}",
                    condition.status
                )),
                Some(_) => None,
            }
        })
        .collect();
    if complaints.is_empty() {
        Verdict::yes()
    } else {
        Verdict::no("ReadinessGatesNotReady", Some(complaints.join(", ")))
    }
}

fn names<'a>(statuses: impl Iterator<Item = &'a ContainerStatus>) -> String {
    statuses
        .map(|status| status.name.as_str())
        .collect::<Vec<_>>()
        .join(" ")
}

fn condition(facts: &Facts<'_>, type_: &str, verdict: Verdict) -> PodCondition {
    let status = if verdict.ok { "True" } else { "False" };
    let known = facts.before.or(facts.pod.status.as_ref());
    let before = known
        .into_iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .find(|old| old.type_ == type_);
    let since = before
        .filter(|old| old.status == status)
        .and_then(|old| old.last_transition_time.clone());
    PodCondition {
        last_probe_time: None,
        last_transition_time: Some(since.unwrap_or(Time(facts.world.now))),
        message: verdict.message,
        observed_generation: facts.pod.metadata.generation,
        reason: verdict.reason.map(str::to_owned),
        status: status.to_owned(),
        type_: type_.to_owned(),
    }
}

/// Replaces in `status` the conditions of others by those of `pod`.
pub fn adopt_foreign_conditions(status: &mut PodStatus, pod: &Pod) {
    let Some(conditions) = &mut status.conditions else {
        return;
    };
    conditions.retain(|condition| is_owned(&condition.type_));
    let foreign = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.extend(foreign.filter(|condition| !is_owned(&condition.type_)).cloned());
}

fn is_owned(type_: &str) -> bool {
    OWNED_CONDITIONS.contains(&type_) || [PENDING, IN_PROGRESS].contains(&type_)
}

/// The conditions of a resize that is not in force.
fn resize_conditions(facts: &Facts<'_>) -> impl Iterator<Item = PodCondition> {
    let both = [
        (PENDING, &facts.resizes.pending),
        (IN_PROGRESS, &facts.resizes.in_progress),
    ];
    both.into_iter().filter_map(|(type_, obstacle)| {
        let Obstacle {
            reason,
            message,
            generation,
        } = obstacle.as_ref()?;
        let verdict = Verdict {
            ok: true,
            reason: (!reason.is_empty()).then_some(reason),
            message: (!message.is_empty()).then(|| message.clone()),
        };
        let mut condition = condition(facts, type_, verdict);
        condition.observed_generation = *generation;
        Some(condition)
    })
}
