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
use bytes::Bytes;
use parking_lot::Mutex;
use policy::Policy;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

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
    /// What runs for it ends with [`finish`](Self::finish), or when the last that could tell anything is gone. `shutdown` is when
    /// a server that does not take events is no longer waited for.
    ///
    /// # Errors
    /// If the policy cannot be read or makes no sense, or the log cannot be opened.
    pub(crate) async fn open(
        config: &Config,
        metrics: &Arc<Metrics>,
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
                Some(webhook) => Some(webhook::Webhook::open(webhook, metrics, shutdown).await?),
                None => None,
            },
            metrics: Arc::clone(metrics),
        })
    }

    /// Everything that was told is written and posted when this returns, or a few seconds after it was called. To be called when
    /// no request is served any more: what is told later is lost.
    pub(crate) async fn finish(&self) {
        let log = async {
            if let Some(log) = &self.log {
                log.flush().await;
            }
        };
        let webhook = async {
            if let Some(webhook) = &self.webhook {
                webhook.finish().await;
            }
        };
        futures::join!(log, webhook);
    }

    /// How much is told about a request; `None` if nothing is.
    pub(crate) fn plan(&self, subject: &Subject<'_>) -> Option<policy::Plan> {
        self.policy.plan(subject)
    }

    /// Tells about one stage, if the plan has it. Waits for a place in the queue if that is how the log is configured. If that
    /// wait is given up, it is told all the same, as by [`tell_now`](Self::tell_now).
    pub(crate) async fn tell(&self, draft: &Draft, stage: Stage) {
        if let Some(event) = self.event(draft, stage) {
            event.tell().await;
        }
    }

    /// The same where nobody can wait: what finds no place is lost, and counted.
    pub(crate) fn tell_now(&self, draft: &Draft, stage: Stage) {
        drop(self.event(draft, stage));
    }

    fn event(&self, draft: &Draft, stage: Stage) -> Option<Untold<'_>> {
        let line = draft.line(stage)?;
        self.metrics.audit_event();
        Some(Untold {
            audit: self,
            line,
            log: self.log.as_ref(),
            webhook: self.webhook.as_ref(),
        })
    }
}

/// An event on its way. Whoever has not been handed it yet is when it is dropped: a client that hangs up while an event waits
/// must not be able to keep it out of the log.
struct Untold<'a> {
    audit: &'a Audit,
    line: Vec<u8>,
    log: Option<&'a log::Log>,
    webhook: Option<&'a webhook::Webhook>,
}

impl Untold<'_> {
    /// The file comes first: it does not wait for a server.
    async fn tell(mut self) {
        if let Some(log) = self.log {
            let room = log.room().await;
            self.log = None;
            match room {
                Some(room) => room.write(self.line.clone()),
                None => self.lost("log"),
            }
        }
        if let Some(webhook) = self.webhook {
            let room = webhook.room().await;
            self.webhook = None;
            match room {
                Some(room) => room.post(std::mem::take(&mut self.line)).await,
                None => self.lost("buffered"),
            }
        }
    }

    fn lost(&self, plugin: &str) {
        self.audit.metrics.audit_error(plugin, 1);
    }
}

impl Drop for Untold<'_> {
    fn drop(&mut self) {
        if let Some(log) = self.log {
            match log.room_now() {
                Some(room) => room.write(self.line.clone()),
                None => self.lost("log"),
            }
        }
        if let Some(webhook) = self.webhook {
            match webhook.room_now() {
                Some(room) => drop(room.post(std::mem::take(&mut self.line))),
                None => self.lost("buffered"),
            }
        }
    }
}

/// What was noted about the request that is being served.
#[derive(Default)]
pub(crate) struct Noted {
    annotations: Mutex<BTreeMap<String, Value>>,
    /// Is the body of the request to be told?
    wants_body: bool,
    body: Mutex<Option<Received>>,
}

/// A body, and in which language it says it is.
pub(crate) struct Received {
    pub(crate) media_type: String,
    pub(crate) bytes: Bytes,
}

pub(crate) type Notes = Arc<Noted>;

impl Noted {
    fn new(wants_body: bool) -> Notes {
        Arc::new(Noted {
            wants_body,
            ..Noted::default()
        })
    }

    /// The body, once.
    pub(crate) fn take_body(&self) -> Option<Received> {
        self.body.lock().take()
    }
}

tokio::task_local! {
    static NOTES: Notes;
}

/// Serves a request about which is kept in `notes` what is noted.
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
        notes.annotations.lock().entry(key).or_insert(Value::String(value));
    });
}

/// Keeps the body of the request that is being served, if it is to be told. Whoever may not make the request gets to here as
/// little as to what it asks for, so that nobody's body is held but for the time it takes to serve it.
pub(crate) fn note_body(media_type: &str, bytes: &Bytes) {
    let _ = NOTES.try_with(|notes| {
        if notes.wants_body && !bytes.is_empty() {
            *notes.body.lock() = Some(Received {
                media_type: media_type.to_owned(),
                bytes: bytes.clone(),
            });
        }
    });
}
