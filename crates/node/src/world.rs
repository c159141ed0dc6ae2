//! What the agent knows of one pod at one instant, as plain values.
//!
//! [`World`] is the whole input of [`crate::decide::decide`] and most of the input of [`crate::status::status`]. It is
//! serializable so that a bug seen in the field becomes a few lines of YAML in a test.

use crate::backoff::Backoff;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// `spec.restartPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartPolicy {
    #[default]
    Always,
    OnFailure,
    Never,
}

impl RestartPolicy {
    /// Reads `spec.restartPolicy`; the API server has defaulted and validated it.
    pub fn parse(value: Option<&str>) -> Self {
        match value {
            Some("OnFailure") => Self::OnFailure,
            Some("Never") => Self::Never,
            _ => Self::Always,
        }
    }

    /// Whether a main container that ended with `code` is started again.
    pub fn restarts(self, code: i32) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => code != 0,
            Self::Never => false,
        }
    }
}

/// What is wanted of the pod as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Intent {
    /// Run it as the spec says.
    #[default]
    Run,
    /// Stop every container: each has until `deadline` after its stop signal.
    #[serde(rename_all = "camelCase")]
    Stop { deadline: Timestamp, why: StopReason },
}

/// Why a pod is stopped; it decides what happens to the object afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StopReason {
    /// `metadata.deletionTimestamp` is set: delete the object once everything is gone.
    Deleted,
    /// The object is gone already.
    Orphaned,
    /// `spec.activeDeadlineSeconds` has passed: the pod becomes Failed and stays.
    DeadlineExceeded,
    /// The pod took more of the node than it may: it becomes Failed and stays.
    Evicted,
    /// The node agent is shutting down for good; the object stays untouched.
    Shutdown,
}

impl StopReason {
    /// The pod becomes Failed, whatever its containers did, and its object stays.
    pub fn fails_pod(self) -> bool {
        matches!(self, Self::DeadlineExceeded | Self::Evicted)
    }
}

/// The pod shim with its network, and the pod's volumes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Sandbox {
    #[default]
    Absent,
    Creating,
    Ready,
    /// The pod shim died; what is left of it has to be removed.
    Lost,
    Removing,
}

/// How far the image of a container is for its next start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    #[default]
    Absent,
    Working,
    Ready,
}

/// Why a container is not being started although it should run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hold {
    /// Kubernetes' waiting reason.
    pub reason: String,
    pub message: String,
    pub since: Timestamp,
    /// When to try again; `None`: only a change of the pod or of an object it refers to can help.
    pub until: Option<Timestamp>,
    /// The reason and message shown from `HOLD_SETTLES_AFTER` on (`ErrImagePull` becomes `ImagePullBackOff`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled: Option<(String, String)>,
}

/// How long the first reason of a [`Hold`] is shown before the settled one.
pub const HOLD_SETTLES_AFTER: jiff::SignedDuration = jiff::SignedDuration::from_secs(2);

impl Hold {
    /// Reason and message to show at `now`.
    pub fn shown(&self, now: Timestamp) -> (&str, &str) {
        match &self.settled {
            Some((reason, message)) if now >= self.since + HOLD_SETTLES_AFTER => (reason, message),
            _ => (&self.reason, &self.message),
        }
    }

    /// The next instant at which this hold changes by itself.
    pub fn changes_at(&self, now: Timestamp) -> Option<Timestamp> {
        let settles = self
            .settled
            .is_some()
            .then(|| self.since + HOLD_SETTLES_AFTER)
            .filter(|at| *at > now);
        [settles, self.until].into_iter().flatten().min()
    }
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    pub code: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// `Completed`, `Error`, `OOMKilled`, `StartError`, `ContainerCannotRun`, `ContainerStatusUnknown`.
    pub reason: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    pub finished_at: Timestamp,
}

impl Ended {
    /// What a pod shim reported, with Kubernetes' reason.
    pub fn from_exit(exit: catamaran_shim::spec::Exit) -> Self {
        let reason = match (exit.oom_killed, exit.code) {
            (true, _) => "OOMKilled",
            (false, 0) => "Completed",
            (false, _) => "Error",
        };
        Self {
            code: exit.code,
            signal: exit.signal,
            reason: reason.to_owned(),
            message: exit.message,
            started_at: Some(exit.started_at),
            finished_at: exit.finished_at,
        }
    }

    /// The end of a container nobody saw end.
    pub fn unknown(started_at: Timestamp, now: Timestamp) -> Self {
        Self {
            code: 137,
            signal: None,
            reason: "ContainerStatusUnknown".to_owned(),
            message: "The container could not be located when the pod was terminated".to_owned(),
            started_at: Some(started_at),
            finished_at: now,
        }
    }
}

/// Who the first process of a container runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups, the primary one among them.
    pub groups: Vec<u32>,
}

/// One attempt at running a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// 64 hex digits, unique on the node.
    pub id: String,
    /// Counts from 0; also the name of the log file and the restart count shown.
    pub number: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image_id: String,
    /// `None` for one that never ran, or is known from the API server only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    pub started_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
}

/// A container that was told to stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stopping {
    pub deadline: Timestamp,
    #[serde(default)]
    pub killed: bool,
}

/// Which list of the spec a container is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Init,
    Main,
    Ephemeral,
}

/// One container of the pod, with its history as far as it matters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Slot {
    pub name: String,
    /// An init container.
    pub init: bool,
    /// One that was added to the running pod: it is started once, and the pod does not depend on it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ephemeral: bool,
    pub image: Stage,
    /// A start is under way.
    pub starting: bool,
    /// The latest attempt, running or ended.
    pub current: Option<Attempt>,
    /// The attempt before it, always ended (`lastState`, `logs --previous`).
    pub previous: Option<Attempt>,
    pub stopping: Option<Stopping>,
    pub hold: Option<Hold>,
    pub crash: Backoff,
    pub pull: Backoff,
    /// `current` belongs to a sandbox that is gone.
    pub stale: bool,
    /// `current` has to be run again, however it ended.
    pub rerun: bool,
    /// Lower bound for the number of the next attempt.
    pub next_attempt: u32,
}

impl Slot {
    pub fn new(name: &str, init: bool) -> Self {
        Self {
            name: name.to_owned(),
            init,
            ..Self::default()
        }
    }

    pub fn of(name: &str, role: Role) -> Self {
        Self {
            ephemeral: role == Role::Ephemeral,
            ..Self::new(name, role == Role::Init)
        }
    }

    pub fn running(&self) -> bool {
        self.current.as_ref().is_some_and(|attempt| attempt.ended.is_none())
    }

    /// How the latest attempt ended, unless it is running or has to be run again anyway.
    pub fn ended(&self) -> Option<&Ended> {
        self.current.as_ref().filter(|_| !self.rerun)?.ended.as_ref()
    }

    pub fn succeeded(&self) -> bool {
        self.ended().is_some_and(|ended| ended.code == 0)
    }

    /// Whether the container is started again after it ended with `code`.
    pub fn restarts(&self, policy: RestartPolicy, code: i32) -> bool {
        match (self.ephemeral, self.init) {
            (true, _) => false,
            (_, true) => code != 0 && policy != RestartPolicy::Never,
            _ => policy.restarts(code),
        }
    }

    /// The number the next attempt gets.
    pub fn next_number(&self) -> u32 {
        self.current
            .as_ref()
            .map_or(0, |attempt| attempt.number + 1)
            .max(self.next_attempt)
    }

    /// Whether work for this slot is in flight that cannot be abandoned.
    pub fn busy(&self) -> bool {
        self.starting || self.running()
    }
}

/// Everything `decide` looks at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct World {
    pub now: Timestamp,
    #[serde(default)]
    pub restart_policy: RestartPolicy,
    #[serde(default)]
    pub intent: Intent,
    #[serde(default)]
    pub sandbox: Sandbox,
    /// Why the sandbox cannot be made just now.
    #[serde(default)]
    pub sandbox_hold: Option<Hold>,
    /// Init containers in order, then the others in order, then ephemeral ones.
    pub slots: Vec<Slot>,
    /// The API server has acknowledged the status this world leads to.
    #[serde(default)]
    pub reported: bool,
    /// `spec.activeDeadlineSeconds` as an instant.
    #[serde(default)]
    pub active_deadline: Option<Timestamp>,
    /// Why the pod was evicted, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evicted: Option<String>,
    /// Found running, and what the API server remembers of its containers is not known yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unintroduced: bool,
    /// Status phase was Succeeded or Failed when the agent first saw the pod: nothing is to be run.
    #[serde(default)]
    pub finished: bool,
}

/// How a pod's containers stand together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Something runs, or will.
    Open,
    /// Every container ended with 0 and none is restarted.
    Succeeded,
    /// No container will run again and one failed.
    Failed,
}

impl World {
    pub fn init_slots(&self) -> impl Iterator<Item = (usize, &Slot)> {
        self.slots.iter().enumerate().filter(|(_, slot)| slot.init)
    }

    pub fn main_slots(&self) -> impl Iterator<Item = (usize, &Slot)> {
        self.slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| !slot.init && !slot.ephemeral)
    }

    pub fn ephemeral_slots(&self) -> impl Iterator<Item = (usize, &Slot)> {
        self.slots.iter().enumerate().filter(|(_, slot)| slot.ephemeral)
    }

    /// Init containers are done when each succeeded in this sandbox, or when a main container already ran in it.
    pub fn initialized(&self) -> bool {
        self.main_slots().any(|(_, slot)| slot.current.is_some() && !slot.stale)
            || self.init_slots().all(|(_, slot)| slot.succeeded())
    }

    /// The pod shim is gone and took every container with it. Who restarts is the restart policy's business; init
    /// containers run again in the next sandbox.
    pub fn lose_sandbox(&mut self) {
        let now = self.now;
        for slot in &mut self.slots {
            if let Some(attempt) = slot.current.as_mut() {
                attempt
                    .ended
                    .get_or_insert_with(|| Ended::unknown(attempt.started_at, now));
                slot.stale = true;
                slot.rerun |= slot.init;
            }
            slot.stopping = None;
            slot.starting = false;
        }
        self.sandbox = Sandbox::Lost;
    }

    /// Whether the pod has come to its end by itself.
    pub fn outcome(&self) -> Outcome {
        let init_failed = !self.initialized()
            && self.restart_policy == RestartPolicy::Never
            && self
                .init_slots()
                .any(|(_, slot)| slot.ended().is_some_and(|ended| ended.code != 0));
        if init_failed {
            return Outcome::Failed;
        }
        let mut failed = false;
        for (_, slot) in self.main_slots() {
            match slot.ended() {
                Some(ended) if !self.restart_policy.restarts(ended.code) && !slot.starting => failed |= ended.code != 0,
                _ => return Outcome::Open,
            }
        }
        if failed { Outcome::Failed } else { Outcome::Succeeded }
    }
}
