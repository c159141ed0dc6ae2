//! In-place resize: asks whether it fits, grants it, and has it done, in place or by a restart.

use super::{Done, Worker};
use crate::machine::{Machine, Reports, Severity};
use crate::resize::{DEFERRED, INFEASIBLE, Obstacle, Verdict, summary};
use crate::world::Intent;
use jiff::{SignedDuration, Timestamp};

/// Pause before a resize is tried again that did not fit, or did not work.
const RETRY: SignedDuration = SignedDuration::from_secs(10);

impl<M: Machine, R: Reports> Worker<M, R> {
    /// Looks at what is asked for, granted and in force. Returns when to look again.
    pub(super) fn resize(&mut self) -> Option<Timestamp> {
        if self.world.intent != Intent::Run || self.world.finished {
            return None;
        }
        if self.resize_again_at.is_some_and(|at| at <= self.world.now) {
            self.resize_again_at = None;
        }
        self.ask();
        self.actuate();
        self.conclude();
        let troubled = self
            .resizes
            .in_progress
            .as_ref()
            .is_some_and(|obstacle| !obstacle.reason.is_empty());
        let deferred = self
            .resizes
            .pending
            .as_ref()
            .is_some_and(|obstacle| obstacle.reason == DEFERRED);
        (troubled || deferred).then(|| *self.resize_again_at.get_or_insert(self.world.now + RETRY))
    }

    fn ask(&mut self) {
        if !self.resizes.differ(&self.pod) {
            self.resizes.pending = None;
            return;
        }
        let generation = self.pod.metadata.generation;
        if self.resize_again_at.is_some()
            && self
                .resizes
                .pending
                .as_ref()
                .is_some_and(|obstacle| obstacle.generation == generation)
        {
            return;
        }
        self.resize_again_at = None;
        let (reason, message) = match self.machine.fits(&self.pod) {
            Verdict::Fits => return self.grant(),
            Verdict::Deferred(message) => (DEFERRED, message),
            Verdict::Infeasible(message) => (INFEASIBLE, message),
        };
        let obstacle = Obstacle {
            reason,
            message,
            generation,
        };
        if self.resizes.pending.as_ref() != Some(&obstacle) {
            let event = if reason == DEFERRED {
                "ResizeDeferred"
            } else {
                "ResizeInfeasible"
            };
            self.tell_resize(
                Severity::Warning,
                event,
                &format!("Pod resize {reason}"),
                Some(&obstacle.message),
            );
            self.resizes.pending = Some(obstacle);
        }
    }

    fn grant(&mut self) {
        self.resizes.grant(&self.pod);
        self.granted = self.pod.clone();
        self.resizes.pending = None;
        self.resizes.in_progress = Some(Obstacle {
            reason: "",
            message: String::new(),
            generation: self.pod.metadata.generation,
        });
        self.tell_resize(Severity::Normal, "ResizeStarted", "Pod resize started", None);
        let (machine, pod) = (self.machine.clone(), self.granted.clone());
        self.spawn(async move {
            machine.note_grant(&pod).await;
            Done::Nothing
        });
    }

    /// Restarts those that wish it, changes the others in place.
    fn actuate(&mut self) {
        if self.resizing || self.resize_again_at.is_some() {
            return;
        }
        let mut in_place = Vec::new();
        let mut restarts = Vec::new();
        for (index, slot) in self.world.main_slots() {
            let running = slot.running() && slot.stopping.is_none();
            if !running || self.resizes.is_in_force(&slot.name) {
                continue;
            }
            let container = crate::find_container(&self.granted, &slot.name);
            if container.is_some_and(|container| self.resizes.wants_restart(&container)) {
                restarts.push(index);
            } else if let Some(attempt) = &slot.current {
                in_place.push((slot.name.clone(), attempt.id.clone()));
            }
        }
        for index in restarts {
            self.restart_resized(index);
        }
        if !in_place.is_empty() {
            self.resizing = true;
            let (machine, pod) = (self.machine.clone(), self.granted.clone());
            self.spawn(async move {
                let result = machine.resize(&pod, &in_place).await;
                Done::Resized(pod, in_place, result)
            });
        }
    }

    fn restart_resized(&mut self, index: usize) {
        let name = self.world.slots[index].name.clone();
        let deadline = self.world.now + self.grace();
        self.world.slots[index].rerun = true;
        self.replace_later(index, deadline, &format!("Container {name} resize requires restart"));
    }

    /// What became of a change in place: those that cannot be changed are started again.
    pub(super) fn resized(
        &mut self,
        granted: &k8s_openapi::api::core::v1::Pod,
        containers: &[(String, String)],
        result: Result<Vec<String>, String>,
    ) {
        self.resizing = false;
        match result {
            Ok(restarts) => {
                self.resize_again_at = None;
                // Something else may have been granted meanwhile.
                let current = granted.spec == self.granted.spec;
                for (name, id) in containers {
                    let slot = self.world.slots.iter().position(|slot| {
                        slot.name == *name
                            && slot.current.as_ref().is_some_and(|attempt| attempt.id == *id)
                            && slot.running()
                    });
                    match slot {
                        Some(index) if restarts.contains(name) => self.restart_resized(index),
                        Some(_) if current => self.resizes.set_in_force(name),
                        _ => {}
                    }
                }
                if let Some(progress) = &mut self.resizes.in_progress {
                    (progress.reason, progress.message) = ("", String::new());
                }
            }
            Err(message) => {
                self.resize_again_at = Some(self.world.now + RETRY);
                let is_news = self
                    .resizes
                    .in_progress
                    .as_ref()
                    .is_none_or(|progress| progress.message != message);
                if is_news {
                    self.tell_resize(Severity::Warning, "ResizeError", "Pod resize error", Some(&message));
                }
                self.resizes.in_progress = Some(Obstacle {
                    reason: "Error",
                    message,
                    generation: self.granted.metadata.generation,
                });
            }
        }
    }

    /// Says when all of it is in force.
    fn conclude(&mut self) {
        let done = self.resizes.in_progress.is_some()
            && !self.resizing
            && self.world.main_slots().all(|(_, slot)| {
                let waits = slot.current.is_none() || (slot.ended().is_some() && !slot.starting);
                waits || (!slot.rerun && slot.stopping.is_none() && self.resizes.is_in_force(&slot.name))
            });
        if done {
            self.tell_resize(Severity::Normal, "ResizeCompleted", "Pod resize completed", None);
            self.resizes.in_progress = None;
        }
    }

    fn tell_resize(&self, severity: Severity, reason: &str, what: &str, error: Option<&str>) {
        if let Some(spec) = &self.pod.spec {
            let message = summary(what, spec, self.pod.metadata.generation, error);
            self.event(None, severity, reason, &message);
        }
    }
}
