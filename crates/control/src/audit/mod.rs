//! Who did what, when, and with what outcome: Kubernetes' audit log.
//! <https://kubernetes.io/docs/tasks/debug/debug-cluster/audit/>
//!
//! A policy says how much is told about which request; what is told are JSON lines in a file. The file is written by a thread
//! of its own behind a bounded queue, so that a slow disk holds up requests no longer than the operator wants.
//!
//! | file | its one concern |
//! |---|---|
//! | `policy.rs` | pure: how much is told about a request |
//! | `event.rs` | pure: what is told |
//! | `log.rs` | the file, its thread, and its rotation |
//!
//! What happens inside of a request is added by whoever knows it with [`annotate`], wherever in the code that is.

mod event;
mod log;
mod policy;

pub use log::{LogConfig, Mode};

pub(crate) use event::{Draft, Stage, user};
pub(crate) use policy::{Level, Subject};

use crate::metrics::Metrics;
use parking_lot::Mutex;
use policy::Policy;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// What is to be told, and where.
#[derive(Clone, Debug)]
pub struct Config {
    /// A `Policy` of audit.k8s.io/v1.
    pub policy_file: PathBuf,
    pub log: LogConfig,
}

/// Why there is no audit log.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} is no audit policy: {reason}", path.display())]
    Policy { path: PathBuf, reason: String },
    #[error("cannot write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// The audit log of a server.
pub(crate) struct Audit {
    policy: Policy,
    log: log::Log,
    metrics: Arc<Metrics>,
}

impl Audit {
    /// # Errors
    /// If the policy cannot be read or makes no sense, or the log cannot be opened.
    pub(crate) fn open(config: &Config, metrics: &Arc<Metrics>) -> Result<Audit, Error> {
        let path = &config.policy_file;
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read {
            path: path.clone(),
            source,
        })?;
        let policy = Policy::parse(&text).map_err(|reason| Error::Policy {
            path: path.clone(),
            reason,
        })?;
        Ok(Audit {
            policy,
            log: log::Log::open(&config.log)?,
            metrics: Arc::clone(metrics),
        })
    }

    /// How much is told about a request; `None` if nothing is.
    pub(crate) fn plan(&self, subject: &Subject<'_>) -> Option<policy::Plan> {
        self.policy.plan(subject)
    }

    /// Tells about one stage, if the plan has it. Waits for a place in the queue if that is how the log is configured.
    pub(crate) async fn tell(&self, draft: &Draft, stage: Stage) {
        if let Some(line) = draft.line(stage) {
            self.count(self.log.write(line).await);
        }
    }

    /// The same where nobody can wait.
    pub(crate) fn tell_now(&self, draft: &Draft, stage: Stage) {
        if let Some(line) = draft.line(stage) {
            self.count(self.log.write_now(line));
        }
    }

    fn count(&self, written: bool) {
        match written {
            true => self.metrics.audit_event(),
            false => self.metrics.audit_lost(),
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

/// Adds an annotation to the audit event of the request that is being served; does nothing if none is kept. The first one of
/// a name stays.
pub(crate) fn annotate(key: impl Into<String>, value: impl Into<String>) {
    let (key, value) = (key.into(), value.into());
    // Outside of a request, or without a log, there is nobody to tell.
    let _ = NOTES.try_with(|notes| {
        notes.lock().entry(key).or_insert(Value::String(value));
    });
}
