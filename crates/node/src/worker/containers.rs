//! What a worker notes of its containers: starts, ends, reasons to wait; and the events that go with them.

use super::{CONFIG_RETRY, Done, Worker};
use crate::machine::{Failure, Machine, Reports, Retry, Severity, StartFailure, StartRequest, StartedAttempt};
use crate::status::crash_message;
use crate::world::{Attempt, Ended, Hold, Intent, Stage, Stopping};
use jiff::Timestamp;

impl<M: Machine, R: Reports> Worker<M, R> {
    /// Tells a container to end, and says why.
    pub(super) fn stop(&mut self, index: usize, deadline: Timestamp, why: &str) {
        let slot = &mut self.world.slots[index];
        slot.stopping = Some(Stopping {
            deadline,
            killed: false,
        });
        let Some(id) = slot.current.as_ref().map(|attempt| attempt.id.clone()) else {
            return;
        };
        let (name, again) = (slot.name.clone(), slot.rerun);
        self.event(Some(&name), Severity::Normal, "Killing", why);
        let (machine, pod) = (self.machine.clone(), self.granted.clone());
        self.spawn(async move {
            machine.stop(&pod, &id, again).await;
            Done::Nothing
        });
    }

    /// Adds the container's last words to its end, off this task.
    pub(super) fn complete_end(&mut self, index: usize, id: String, ended: Ended) {
        let (machine, pod) = (self.machine.clone(), self.pod.clone());
        let slot = &self.world.slots[index];
        let (container, number) = (
            slot.name.clone(),
            slot.current.as_ref().map_or(0, |attempt| attempt.number),
        );
        self.spawn(async move {
            let ended = machine.last_words(&pod, &container, &id, number, ended).await;
            Done::Ended(index, id, ended)
        });
    }

    pub(super) fn hold(&mut self, index: usize, failure: Failure) {
        let now = self.world.now;
        let Failure { reason, message, retry } = failure;
        let image = crate::find_container(&self.pod, &self.world.slots[index].name)
            .and_then(|container| container.image.clone())
            .unwrap_or_default();
        let slot = &mut self.world.slots[index];
        slot.image = Stage::Absent;
        slot.starting = false;
        let (until, settled) = match retry {
            Retry::Never => (None, None),
            Retry::Soon => (Some(now + CONFIG_RETRY), None),
            Retry::PullBackoff => {
                slot.pull = slot.pull.raised(now, now);
                let text = format!("Back-off pulling image \"{image}\": {reason}: {message}");
                (
                    Some(slot.pull.ready_at(now)),
                    Some(("ImagePullBackOff".to_owned(), text)),
                )
            }
        };
        let name = slot.name.clone();
        slot.hold = Some(Hold {
            reason: reason.clone(),
            message: message.clone(),
            since: now,
            until,
            settled,
        });
        if retry == Retry::PullBackoff {
            self.event(
                Some(&name),
                Severity::Warning,
                "Failed",
                &format!("Failed to pull image \"{image}\": {message}"),
            );
            self.event(
                Some(&name),
                Severity::Normal,
                "BackOff",
                &format!("Back-off pulling image \"{image}\""),
            );
            self.event(Some(&name), Severity::Warning, "Failed", &format!("Error: {reason}"));
        } else {
            let severity_reason = if reason == "InvalidImageName" {
                "InspectFailed"
            } else {
                "Failed"
            };
            self.event(
                Some(&name),
                Severity::Warning,
                severity_reason,
                &format!("Error: {message}"),
            );
        }
    }

    pub(super) fn started(
        &mut self,
        index: usize,
        request: &StartRequest,
        result: Result<StartedAttempt, StartFailure>,
    ) {
        let now = self.world.now;
        self.prepared.remove(&index);
        let name = request.container.clone();
        let slot = &mut self.world.slots[index];
        slot.starting = false;
        slot.image = Stage::Absent;
        slot.stopping = None;
        let mut attempt = Attempt {
            id: request.id.clone(),
            number: request.attempt,
            image_id: String::new(),
            user: None,
            started_at: now,
            ended: None,
        };
        match result {
            Err(StartFailure::Waiting(failure)) => return self.hold(index, failure),
            Err(StartFailure::Ended { ended, image_id }) => {
                let message = format!("Error: {}", ended.message);
                attempt.image_id = image_id;
                attempt.ended = Some(ended);
                self.event(Some(&name), Severity::Warning, "Failed", &message);
            }
            Ok(started) => {
                attempt.image_id = started.image_id;
                attempt.user = started.user;
                attempt.started_at = started.started_at;
                attempt.ended = started.ended;
                self.event(
                    Some(&name),
                    Severity::Normal,
                    "Created",
                    &format!("Created container: {name}"),
                );
                self.event(
                    Some(&name),
                    Severity::Normal,
                    "Started",
                    &format!("Started container {name}"),
                );
            }
        }
        let slot = &mut self.world.slots[index];
        slot.hold = None;
        if let Some(ended) = slot
            .current
            .as_ref()
            .filter(|_| !slot.stale)
            .and_then(|before| before.ended.as_ref())
        {
            slot.crash = slot.crash.raised(ended.finished_at, now);
        }
        slot.stale = false;
        slot.rerun = false;
        let forgotten = slot.previous.take();
        slot.previous = slot.current.take();
        slot.current = Some(attempt);
        if let Some(old) = forgotten {
            let keep = slot.previous.as_ref().map_or(0, |previous| previous.number);
            let (machine, key, name) = (self.machine.clone(), self.key.clone(), name);
            self.spawn(async move {
                machine.remove_container(&key, &name, &old.id, keep).await;
                Done::Nothing
            });
        }
        if let Some(ended) = self.early_ends.remove(&request.id) {
            self.complete_end(index, request.id.clone(), ended);
        } else {
            self.tell_back_off(index);
        }
    }

    pub(super) fn ended(&mut self, index: usize, id: &str, ended: Ended) {
        let slot = &mut self.world.slots[index];
        if let Some(attempt) = slot.current.as_mut().filter(|attempt| attempt.id == id) {
            attempt.ended.get_or_insert(ended);
            slot.stopping = None;
            self.tell_back_off(index);
        }
    }

    /// The event that goes with `CrashLoopBackOff`.
    pub(super) fn tell_back_off(&self, index: usize) {
        let slot = &self.world.slots[index];
        let Some(ended) = slot.ended() else { return };
        let restarts = slot.restarts(self.world.restart_policy, ended.code);
        let waits = slot.crash.ready_at(ended.finished_at) > self.world.now;
        if restarts && waits && self.world.intent == Intent::Run {
            let message = format!(
                "Back-off restarting failed container {} in pod {}",
                slot.name,
                crate::pod_ref(&self.pod)
            );
            self.event(Some(&slot.name), Severity::Warning, "BackOff", &message);
            tracing::debug!(
                pod = self.key.uid,
                "{}",
                crash_message(&self.pod, &slot.name, slot.crash.delay_after(ended.finished_at))
            );
        }
    }
}
