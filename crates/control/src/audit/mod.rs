//! Who did what, when, and with what outcome: Kubernetes' audit log.
//! <https://kubernetes.io/docs/tasks/debug/debug-cluster/audit/>
//!
//! A policy says how much is told about which request; what is told are JSON lines in a file, lists posted to a server, or both.
//! The file is written by a thread of its own, the server called by a task, each behind a bounded queue, so that a slow disk or
//! network holds up requests no longer than the operator wants.
//!
//! | file | its one concern |
//! |---|---|
//! | `policy.rs` | pure: how much is told about a request |
//! | `event.rs` | pure: what is told |
//! | `log.rs` | the file, its thread, and its rotation |
//! | `webhook.rs` | the server that is told, in batches |
//!
//! What happens inside of a request is added by whoever knows it with [`annotate`], wherever in the code that is.

mod event;
mod log;
mod policy;
mod webhook;

pub use log::{LogConfig, Mode};
pub use webhook::WebhookConfig;

pub(crate) use event::{Draft, Stage, user};
pub(crate) use policy::{Level, Subject};

use crate::files::{FileError, reading};
use crate::metrics::Metrics;
use parking_lot::Mutex;
use policy::Policy;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What is to be told, and where.
#[derive(Clone, Debug)]
pub struct Config {
    /// A `Policy` of audit.k8s.io/v1.
    pub policy_file: PathBuf,
    pub log: Option<LogConfig>,
    pub webhook: Option<WebhookConfig>,
}

/// Why there is no audit log.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{} is no audit policy: {reason}", path.display())]
    Policy { path: PathBuf, reason: String },
    #[error("{} does not say how to reach a server", path.display())]
    Webhook {
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The audit log of a server.
pub(crate) struct Audit {
    policy: Policy,
    log: Option<log::Log>,
    webhook: Option<webhook::Webhook>,
    metrics: Arc<Metrics>,
}

impl Audit {
    /// Whatever has to run for it is counted by `tasks` and ends, with everything told, once `shutdown` is.
    ///
    /// # Errors
    /// If the policy cannot be read or makes no sense, or the log cannot be opened.
    pub(crate) async fn open(
        config: &Config,
        metrics: &Arc<Metrics>,
        tasks: &TaskTracker,
        shutdown: &CancellationToken,
    ) -> Result<Audit, Error> {
        let path = &config.policy_file;
        let text = std::fs::read_to_string(path).map_err(reading(path))?;
        let policy = Policy::parse(&text).map_err(|reason| Error::Policy {
            path: path.clone(),
            reason,
        })?;
        Ok(Audit {
            policy,
            log: config.log.as_ref().map(log::Log::open).transpose()?,
            webhook: match &config.webhook {
                Some(webhook) => Some(webhook::Webhook::open(webhook, metrics, tasks, shutdown).await?),
                None => None,
            },
            metrics: Arc::clone(metrics),
        })
    }

    /// How much is told about a request; `None` if nothing is.
    pub(crate) fn plan(&self, subject: &Subject<'_>) -> Option<policy::Plan> {
        self.policy.plan(subject)
    }

    /// Tells about one stage, if the plan has it. Waits for a place in the queue if that is how the log is configured.
    pub(crate) async fn tell(&self, draft: &Draft, stage: Stage) {
        let Some(line) = draft.line(stage) else { return };
        self.metrics.audit_event();
        if let Some(webhook) = &self.webhook {
            webhook.send(line.clone()).await;
        }
        if let Some(log) = &self.log {
            self.check(log.write(line).await);
        }
    }

    /// The same where nobody can wait.
    pub(crate) fn tell_now(&self, draft: &Draft, stage: Stage) {
        let Some(line) = draft.line(stage) else { return };
        self.metrics.audit_event();
        if let Some(webhook) = &self.webhook {
            webhook.send_now(line.clone());
        }
        if let Some(log) = &self.log {
            self.check(log.write_now(line));
        }
    }

    fn check(&self, written: bool) {
        if !written {
            self.metrics.audit_error("log", 1);
        }
    }
}

/// What was noted about the request that is being served.
pub(crate) type Notes = Arc<Mutex<BTreeMap<String, Value>>>;

tokio::task_local! {
    static NOTES: Notes;
}

/// Serves a request whose annotations are kept in `notes`.
pub(crate) async fn noting<T>(notes: Notes, work: impl Future<Output = T>) -> T {
    NOTES.scope(notes, work).await
}

/// Are annotations of the request that is being served kept?
pub(crate) fn is_noting() -> bool {
    NOTES.try_with(|_| ()).is_ok()
}

/// Adds an annotation to the audit event of the request that is being served; does nothing if none is kept. The first one of
/// a name stays.
pub(crate) fn annotate(key: impl Into<String>, value: impl Into<String>) {
    let (key, value) = (key.into(), value.into());
    // Outside of a request, or without a log, there is nobody to tell.
    let _ = NOTES.try_with(|notes| {
        notes.lock().entry(key).or_insert(Value::String(value));
    });
}
