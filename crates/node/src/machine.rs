//! The seam between deciding and doing: what a worker may ask of this machine and of the API server.
//!
//! [`crate::local::LocalMachine`] and [`crate::reports::ApiReports`] are the real ones; tests script their own.

use crate::layout::PodKey;
use crate::resize::Verdict;
use crate::world::{Ended, User};
use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use std::net::IpAddr;
use std::sync::Arc;

/// A pod shim that runs, wired to the network, with the pod's volumes in place.
#[derive(Debug)]
pub struct SandboxUp {
    pub ip: IpAddr,
    pub events: catamaran_shim::client::Events,
}

/// Something a container waits for, in Kubernetes' words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Waiting reason: `ErrImagePull`, `CreateContainerConfigError`, …
    pub reason: String,
    pub message: String,
    pub retry: Retry,
}

/// What may help against a [`Failure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Try again soon.
    Soon,
    /// Try again with the image-pull back-off; shown as `ImagePullBackOff` meanwhile.
    PullBackoff,
    /// Nothing but a changed pod helps.
    Never,
}

/// Why a container did not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartFailure {
    /// It counts as not created: it waits with this reason.
    Waiting(Failure),
    /// It counts as an attempt that ended.
    Ended { ended: Ended, image_id: String },
}

/// An image that is here and unpacked, ready for [`Machine::start`].
pub type Prepared = Arc<dyn std::any::Any + Send + Sync>;

/// What [`Machine::start`] needs to know of an attempt.
#[derive(Clone, Debug)]
pub struct StartRequest {
    pub container: String,
    pub id: String,
    pub attempt: u32,
    pub ip: IpAddr,
}

/// A started container.
#[derive(Clone, Debug)]
pub struct StartedAttempt {
    pub started_at: Timestamp,
    pub image_id: String,
    pub user: Option<User>,
    /// It ended before anyone could look.
    pub ended: Option<Ended>,
}

/// What became of changing the limits of running containers, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    pub changed: Vec<String>,
    /// They have to be started again for it.
    pub restarts: Vec<String>,
    /// Why the others were not changed, or only in part.
    pub error: Option<String>,
}

/// This machine, as a worker sees it. Every operation is idempotent enough to be repeated after a failure.
#[async_trait]
pub trait Machine: Send + Sync + 'static {
    async fn create_sandbox(&self, pod: &Arc<Pod>) -> Result<SandboxUp, Failure>;

    /// Pulls and unpacks according to the pull policy.
    async fn image(&self, pod: &Arc<Pod>, container: &str) -> Result<Prepared, Failure>;

    async fn start(
        &self,
        pod: &Arc<Pod>,
        request: &StartRequest,
        prepared: &Prepared,
    ) -> Result<StartedAttempt, StartFailure>;

    /// Sends the container its stop signal. `again`: so that it can be started again, which is noted first, for an agent that comes
    /// in between.
    async fn stop(&self, pod: &Arc<Pod>, id: &str, again: bool);

    /// Kills every process of the container.
    async fn kill(&self, pod: &PodKey, id: &str);

    /// Whether this node can give the pod what it asks for, beside what others have. If it fits it is granted: counted, and kept for
    /// the next agent. `running`: its containers by name and id.
    async fn grant(&self, pod: &Arc<Pod>, running: &[(String, String)]) -> Verdict;

    /// Gives the pod as a whole the limits of `room`, then changes those of running containers, by name and id, to what they are in
    /// `pod`.
    ///
    /// # Errors
    /// There is no room; then no container was changed.
    async fn resize(&self, pod: &Arc<Pod>, room: &Arc<Pod>, containers: &[(String, String)])
    -> Result<Changed, String>;

    /// Every container is in force: the pod as a whole gets the limits of `pod`, and a resize is no longer in progress.
    async fn settle(&self, pod: &Arc<Pod>) -> Result<(), String>;

    /// Completes an end with the container's last words (`terminationMessagePath`).
    async fn last_words(&self, pod: &Arc<Pod>, container: &str, id: &str, attempt: u32, ended: Ended) -> Ended;

    /// Forgets a stopped container: its bundle, writable layer and logs older than `keep_logs_from`.
    async fn remove_container(&self, pod: &PodKey, container: &str, id: &str, keep_logs_from: u32);

    /// Kills what is left of the pod, gives its address back, removes its state directory. Logs stay.
    async fn remove_sandbox(&self, pod: &PodKey) -> Result<(), String>;

    /// Removes files of a pod that is gone. `logs`: its logs too. Returns at once; runs in the background.
    fn clean(&self, pod: &PodKey, logs: bool);

    /// Notes that the pod has to be run again at the next start.
    async fn mark_rerun(&self, pod: &PodKey);

    /// Takes the pod's mounts off the host; files stay.
    async fn unmount(&self, pod: &PodKey);

    /// Brings the pod's volumes up to date with the objects they show.
    async fn refresh_volumes(&self, pod: &Arc<Pod>);
}

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reported {
    Done,
    /// The pod is not there any more (or another one has its name).
    Gone,
    /// The API server could not take it; try again.
    Failed,
}

/// Kubernetes' two kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    Normal,
    Warning,
}

/// The API server, as a worker sees it.
#[async_trait]
pub trait Reports: Send + Sync + 'static {
    async fn status(&self, pod: &PodKey, status: &PodStatus) -> Reported;

    /// Deletes the object for good (grace 0, uid precondition).
    async fn delete(&self, pod: &PodKey) -> Reported;

    /// Never blocks; events are aggregated and written later.
    fn event(&self, pod: &Arc<Pod>, container: Option<&str>, severity: Severity, reason: &str, message: &str);
}
