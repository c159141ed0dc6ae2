//! When a pod's status is written, and what becomes of the write.
//!
//! At rest at once, in motion only after `COALESCE`; one write at a time; a failed one again after `REPORT_RETRY`.

use super::{COALESCE, Done, REPORT_RETRY, Worker};
use crate::machine::{Machine, Reported, Reports};
use crate::status::{self, Facts};
use crate::world::{Intent, Sandbox, Stage, StopReason};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodStatus;

impl<M: Machine, R: Reports> Worker<M, R> {
    pub(super) fn compute_status(&mut self) {
        let facts = Facts {
            pod: &self.pod,
            world: &self.world,
            resizes: &self.resizes,
            before: Some(&self.status).filter(|status| status.conditions.is_some()),
            node_ip: self.node_ip,
            pod_ip: self.ip,
            start_time: self.start_time,
        };
        self.status = status::status(&facts);
    }

    /// Sends the status if it is new and the pod is at rest (or has been in motion for long). Returns when to look again.
    pub(super) fn publish(&mut self) -> Option<Timestamp> {
        let now = self.world.now;
        // Of a pod that was found running the API server may know more; whoever can be told will say so first.
        if self.world.finished
            || self.world.unintroduced
            || matches!(
                self.world.intent,
                Intent::Stop {
                    why: StopReason::Shutdown | StopReason::Orphaned,
                    ..
                }
            )
        {
            return None;
        }
        self.compute_status();
        if self.acknowledged.as_ref() == Some(&self.status) {
            self.dirty_since = None;
            return None;
        }
        let since = *self.dirty_since.get_or_insert(now);
        if self.publishing {
            return None;
        }
        if let Some(at) = self.retry_report_at.filter(|at| *at > now) {
            return Some(at);
        }
        if self.in_motion() && now < since + COALESCE {
            return Some(since + COALESCE);
        }
        self.publishing = true;
        self.dirty_since = None;
        self.retry_report_at = None;
        let (reports, key, status) = (self.reports.clone(), self.key.clone(), Box::new(self.status.clone()));
        self.spawn(async move {
            let reported = reports.status(&key, &status).await;
            Done::Published(status, reported)
        });
        None
    }

    /// Something is under way that is expected to change the status again at once.
    pub(super) fn in_motion(&self) -> bool {
        let initializing = !self.world.initialized();
        self.world.sandbox == Sandbox::Creating
            || self.world.slots.iter().any(|slot| {
                slot.starting
                    || (slot.image == Stage::Working && slot.hold.is_none())
                    || (initializing && slot.running())
            })
    }

    pub(super) fn published(&mut self, status: PodStatus, reported: Reported) {
        self.publishing = false;
        match reported {
            Reported::Done => self.acknowledged = Some(status),
            // The watch will say so too; until then nobody wants this status.
            Reported::Gone => self.acknowledged = Some(self.status.clone()),
            Reported::Failed => self.retry_report_at = Some(self.world.now + REPORT_RETRY),
        }
    }
}
