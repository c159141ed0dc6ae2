//! In-place resize: asks whether it fits, and has what was granted done, in place or by a restart.
//!
//! ```text
//!   ask ──granted, on disk──▶ room in the pod's group ──▶ containers, in place ──▶ restarts ──▶ no more room than needed: settled
//!    └─ Deferred: again in a while · Infeasible: when something else is asked for
//! ```
//!
//! One operation at a time, so that nothing changes while it is being noted, and the last word is the last deed.

use super::{Done, Worker};
use crate::machine::{Changed, Machine, Reports, Severity};
use crate::resize::{DEFERRED, INFEASIBLE, Obstacle, Room, Verdict, summary};
use crate::world::{Intent, Sandbox, Slot};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use std::sync::Arc;

/// Pause before a resize is tried again that did not fit, or did not work.
const RETRY: SignedDuration = SignedDuration::from_secs(10);

/// How far a worker is with its pod's resizes, beside [`crate::resize::Resizes`].
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// An operation is under way.
    busy: bool,
    /// It makes room: until there is some, nothing is started.
    making_room: bool,
    ask_again_at: Option<Timestamp>,
    change_again_at: Option<Timestamp>,
    /// Generation of the pod that was last refused.
    refused: Option<Option<i64>>,
}

impl Progress {
    pub(super) fn making_room(&self) -> bool {
        self.making_room
    }

    fn expire(&mut self, now: Timestamp) {
        for at in [&mut self.ask_again_at, &mut self.change_again_at] {
            at.take_if(|at| *at <= now);
        }
    }
}

impl<M: Machine, R: Reports> Worker<M, R> {
    /// Looks at what is asked for, granted and in force. Returns when to look again.
    pub(super) fn resize(&mut self) -> Option<Timestamp> {
        if self.world.intent != Intent::Run || self.world.finished {
            return None;
        }
        self.progress.expire(self.world.now);
        if !self.progress.busy {
            self.actuate();
        }
        if !self.progress.busy {
            self.ask();
        }
        let again = [self.progress.ask_again_at, self.progress.change_again_at];
        again.into_iter().flatten().min()
    }

    fn ask(&mut self) {
        // What the pod asks for is not known yet, only what it once was.
        if self.world.unintroduced {
            return;
        }
        if !self.resizes.differ(&self.pod) {
            self.resizes.pending = None;
            self.progress.ask_again_at = None;
            return;
        }
        if self.progress.refused == Some(self.pod.metadata.generation) {
            let reason = self.resizes.pending.as_ref().map(|pending| pending.reason);
            if reason == Some(INFEASIBLE) || self.progress.ask_again_at.is_some() {
                return;
            }
        }
        self.progress.busy = true;
        let (machine, pod, running) = (self.machine.clone(), self.pod.clone(), self.running_main());
        self.spawn(async move {
            let verdict = machine.grant(&pod, &running).await;
            Done::Judged(pod, verdict)
        });
    }

    fn running_main(&self) -> Vec<(String, String)> {
        let running = self.world.main_slots().filter(|(_, slot)| slot.running());
        running
            .filter_map(|(_, slot)| Some((slot.name.clone(), slot.current.as_ref()?.id.clone())))
            .collect()
    }

    /// Takes in the answer to what `pod` asked for.
    pub(super) fn judged(&mut self, pod: &Arc<Pod>, verdict: Verdict) {
        self.progress.busy = false;
        let generation = pod.metadata.generation;
        let (reason, event, message) = match verdict {
            Verdict::Fits => return self.grant(pod),
            Verdict::Deferred(message) => (DEFERRED, "ResizeDeferred", message),
            Verdict::Infeasible(message) => (INFEASIBLE, "ResizeInfeasible", message),
        };
        self.progress.refused = Some(generation);
        self.progress.ask_again_at = (reason == DEFERRED).then(|| self.world.now + RETRY);
        let obstacle = Obstacle {
            reason,
            message,
            generation,
        };
        if self.resizes.pending.as_ref() != Some(&obstacle) {
            self.tell_resize(
                Severity::Warning,
                event,
                &format!("Pod resize {reason}"),
                Some(&obstacle.message),
            );
            self.resizes.pending = Some(obstacle);
        }
    }

    fn grant(&mut self, pod: &Arc<Pod>) {
        self.resizes.grant(pod);
        // Something else may be asked for by now.
        self.granted = self.resizes.granted(&self.pod);
        self.progress.refused = None;
        self.progress.ask_again_at = None;
        self.progress.change_again_at = None;
        self.tell_resize(Severity::Normal, "ResizeStarted", "Pod resize started", None);
    }

    fn actuate(&mut self) {
        if self.progress.change_again_at.is_some()
            || matches!(self.world.sandbox, Sandbox::Creating | Sandbox::Removing)
        {
            return;
        }
        let mut in_place = Vec::new();
        let mut restarts = Vec::new();
        for (_, slot) in self.world.main_slots() {
            let running = slot.running() && slot.stopping.is_none();
            let Some(attempt) = slot
                .current
                .as_ref()
                .filter(|_| running && !self.resizes.is_in_force(&slot.name))
            else {
                continue;
            };
            let own = (slot.name.clone(), attempt.id.clone());
            let container = crate::find_container(&self.granted, &slot.name);
            match container.is_some_and(|container| self.resizes.wants_restart(&container)) {
                true => restarts.push(own),
                false => in_place.push(own),
            }
        }
        let outstanding = !in_place.is_empty() || !restarts.is_empty();
        let settles = self.world.main_slots().all(|(_, slot)| self.at_rest(slot));
        if outstanding || (self.resizes.room == Room::Wanted && !settles) {
            self.change(in_place, restarts);
        } else if self.resizes.room != Room::Settled && settles {
            self.settle();
        }
    }

    /// The container has what was granted, or is not there and will be started with it.
    fn at_rest(&self, slot: &Slot) -> bool {
        let waits = slot.current.is_none() || slot.ended().is_some();
        let in_force = || !slot.rerun && slot.stopping.is_none() && self.resizes.is_in_force(&slot.name);
        !slot.starting && (waits || in_force())
    }

    fn change(&mut self, in_place: Vec<(String, String)>, restarts: Vec<(String, String)>) {
        self.progress.busy = true;
        self.progress.making_room = true;
        let (machine, pod) = (self.machine.clone(), self.granted.clone());
        let room = self.resizes.room_for(&pod);
        self.spawn(async move {
            let result = machine.resize(&pod, &room, &in_place).await;
            Done::Resized(in_place, restarts, result)
        });
    }

    fn settle(&mut self) {
        self.progress.busy = true;
        let (machine, pod) = (self.machine.clone(), self.granted.clone());
        self.spawn(async move { Done::Settled(machine.settle(&pod).await) });
    }

    /// What became of a change: those that cannot be changed, or do not want to be, are started again.
    pub(super) fn resized(
        &mut self,
        in_place: &[(String, String)],
        restarts: Vec<(String, String)>,
        result: Result<Changed, String>,
    ) {
        self.progress.busy = false;
        self.progress.making_room = false;
        let changed = match result {
            Ok(changed) => changed,
            Err(message) => return self.trouble(message),
        };
        self.resizes.room = Room::Made;
        let mut again = restarts;
        for own in in_place {
            let name = &own.0;
            if changed.restarts.contains(name) {
                again.push(own.clone());
            } else if self.slot_of(own).is_none() {
                // It has ended meanwhile.
            } else if changed.changed.contains(name) {
                self.resizes.set_in_force(name);
            } else {
                self.resizes.doubt(name);
            }
        }
        for own in &again {
            if let Some(index) = self.slot_of(own) {
                self.restart_resized(index);
            }
        }
        match (changed.error, &mut self.resizes.in_progress) {
            (Some(message), _) => self.trouble(message),
            (None, Some(progress)) => (progress.reason, progress.message) = ("", String::new()),
            (None, None) => {}
        }
    }

    /// The container's place, while that attempt runs and is not told to end.
    fn slot_of(&self, (name, id): &(String, String)) -> Option<usize> {
        self.world.slots.iter().position(|slot| {
            let current = slot
                .current
                .as_ref()
                .filter(|_| slot.running() && slot.stopping.is_none());
            slot.name == *name && current.is_some_and(|attempt| attempt.id == *id)
        })
    }

    fn restart_resized(&mut self, index: usize) {
        let name = self.world.slots[index].name.clone();
        let deadline = self.world.now + self.grace();
        self.world.slots[index].rerun = true;
        self.stop(index, deadline, &format!("Container {name} resize requires restart"));
    }

    /// What became of the end of a resize. Says so when all of it is in force.
    pub(super) fn settled(&mut self, result: Result<(), String>) {
        self.progress.busy = false;
        if let Err(message) = result {
            return self.trouble(message);
        }
        self.resizes.room = Room::Settled;
        if self.resizes.in_progress.is_some() {
            self.tell_resize(Severity::Normal, "ResizeCompleted", "Pod resize completed", None);
            self.resizes.in_progress = None;
        }
    }

    fn trouble(&mut self, message: String) {
        self.progress.change_again_at = Some(self.world.now + RETRY);
        let before = self.resizes.in_progress.as_ref();
        if before.is_none_or(|progress| progress.message != message) {
            self.tell_resize(Severity::Warning, "ResizeError", "Pod resize error", Some(&message));
        }
        let generation = before.map_or(self.pod.metadata.generation, |progress| progress.generation);
        self.resizes.in_progress = Some(Obstacle {
            reason: "Error",
            message,
            generation,
        });
    }

    fn tell_resize(&self, severity: Severity, reason: &str, what: &str, error: Option<&str>) {
        if let Some(spec) = &self.pod.spec {
            let message = summary(what, spec, self.pod.metadata.generation, error);
            self.event(None, severity, reason, &message);
        }
    }
}
