//! [`Machine`] on this machine: pod shims, the pod network, the image store, files.
//!
//! This file holds what is known per pod and the short operations; making a sandbox and starting a container have their
//! own files below.

mod container;
mod limits;
mod sandbox;

use crate::env::Downward;
use crate::grants::Grants;
use crate::image_gc::Wake;
use crate::images::{Images, Ready};
use crate::layout::{Layout, PodKey};
use crate::machine::{
    Changed, Failure, Machine, Prepared, Reports, SandboxUp, Severity, StartFailure, StartRequest, StartedAttempt,
};
use crate::objects::ObjectSource;
use crate::pods::Known;
use crate::record::{self, PodRecord};
use crate::reports::ApiReports;
use crate::resize::Verdict;
use crate::tokens::Tokens;
use crate::world::Ended;
use crate::{WasmCompiler, volume};
use async_trait::async_trait;
use catamaran_image::Credential;
use catamaran_net::PodNetwork;
use catamaran_shim::client::{Launcher, PodShim};
use catamaran_shim::spec::ContainerState;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Seek, SeekFrom};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

/// Sandboxes and containers being made at once. More would only fight over the kernel's locks.
const MAX_STARTS: usize = 16;
/// Kubernetes' bounds for termination messages.
const TERMINATION_MESSAGE_BYTES: u64 = 4096;
const TERMINATION_LOG_BYTES: u64 = 2048;
const TERMINATION_LOG_LINES: usize = 80;

/// A living sandbox.
#[derive(Clone, Debug)]
pub(crate) struct Sandboxed {
    pub shim: PodShim,
    pub ip: Ipv4Addr,
}

impl Sandboxed {
    /// Attempts of a container that the pod shim still has, oldest first.
    pub(crate) async fn attempts(&self, container: &str) -> Vec<ContainerState> {
        let (dir, name) = (self.shim.state_dir().clone(), container.to_owned());
        let read = move || {
            let states = dir.containers().unwrap_or_default().into_iter().filter_map(|id| {
                let mut state = dir
                    .state(&id)
                    .ok()
                    .flatten()
                    .filter(|state| state.config.name == name)?;
                state.exit = state.exit.or_else(|| dir.exit(&id).ok().flatten());
                Some(state)
            });
            let mut states: Vec<_> = states.collect();
            states.sort_by_key(|state| state.started_at);
            states
        };
        tokio::task::spawn_blocking(read).await.unwrap_or_default()
    }

    /// The attempt that runs, if one does.
    pub(crate) async fn running(&self, container: &str) -> Option<ContainerState> {
        let attempts = self.attempts(container).await;
        attempts.into_iter().rev().find(|state| state.exit.is_none())
    }
}

/// What the agent lends to its machine.
pub(crate) struct Parts {
    pub layout: Layout,
    pub launcher: Launcher,
    pub network: Arc<PodNetwork>,
    pub images: Arc<catamaran_image::Store>,
    pub compiler: Arc<dyn WasmCompiler>,
    pub objects: Arc<ObjectSource>,
    pub tokens: Tokens,
    /// Where pods reach the API server, if they do.
    pub api: Option<SocketAddr>,
    pub reports: Arc<ApiReports>,
    pub known: Known,
    pub node_name: String,
    pub node_ip: IpAddr,
    pub allocatable: BTreeMap<String, Quantity>,
    pub memory_bytes: u64,
    pub docker_config: Option<PathBuf>,
}

/// The living sandboxes by pod uid. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sandboxes(Arc<Mutex<HashMap<String, Sandboxed>>>);

impl Sandboxes {
    pub(crate) fn get(&self, uid: &str) -> Option<Sandboxed> {
        self.0.lock().get(uid).cloned()
    }

    pub(crate) fn all(&self) -> Vec<(String, Sandboxed)> {
        self.0
            .lock()
            .iter()
            .map(|(uid, sandboxed)| (uid.clone(), sandboxed.clone()))
            .collect()
    }

    fn insert(&self, uid: &str, sandboxed: Sandboxed) {
        self.0.lock().insert(uid.to_owned(), sandboxed);
    }

    fn remove(&self, uid: &str) {
        self.0.lock().remove(uid);
    }
}

pub(crate) struct LocalMachine {
    parts: Parts,
    pub(crate) images: Arc<Images>,
    pub(crate) collector: Arc<Wake>,
    pub(crate) sandboxes: Sandboxes,
    pub(crate) grants: Arc<Grants>,
    starts: Semaphore,
    /// Removal of files in the background; awaited when the agent stops.
    pub cleaning: TaskTracker,
}

/// What [`Machine::image`] leaves for [`Machine::start`].
struct PreparedImage {
    ready: Ready,
    /// Module and native code of a wasm container.
    wasm: Option<(PathBuf, PathBuf)>,
}

impl LocalMachine {
    pub(crate) fn new(parts: Parts) -> Self {
        let collector = Arc::new(Wake::new(parts.layout.data_dir.clone()));
        let images = Arc::new(Images::new(parts.images.clone(), collector.clone()));
        let starts = Semaphore::new(MAX_STARTS);
        let grants = Arc::new(Grants::new(parts.layout.clone()));
        Self {
            parts,
            images,
            collector,
            sandboxes: Sandboxes::default(),
            grants,
            starts,
            cleaning: TaskTracker::new(),
        }
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.parts.layout
    }

    pub(crate) fn reports(&self) -> Arc<ApiReports> {
        self.parts.reports.clone()
    }

    pub(crate) fn objects(&self) -> Arc<ObjectSource> {
        self.parts.objects.clone()
    }

    /// The pod's living sandbox.
    pub(crate) fn sandbox(&self, uid: &str) -> Option<Sandboxed> {
        self.sandboxes.get(uid)
    }

    /// Takes over a sandbox that was found running.
    pub(crate) fn adopt(&self, uid: &str, sandboxed: Sandboxed) {
        self.sandboxes.insert(uid, sandboxed);
    }

    fn downward<'a>(&'a self, pod: &'a Pod, ip: Option<IpAddr>) -> Downward<'a> {
        Downward {
            pod,
            node_name: &self.parts.node_name,
            host_ip: self.parts.node_ip,
            pod_ip: ip,
            allocatable: &self.parts.allocatable,
        }
    }

    async fn credentials(&self, pod: &Arc<Pod>) -> Vec<Credential> {
        let mut found = Vec::new();
        let names = pod
            .spec
            .iter()
            .flat_map(|spec| spec.image_pull_secrets.iter().flatten());
        let references = crate::env::References {
            secrets: names.map(|reference| reference.name.clone()).collect(),
            ..crate::env::References::default()
        };
        if !references.is_empty() {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            let secrets = match self.parts.objects.fetch(namespace, &references).await {
                Ok(objects) => objects.secrets,
                Err(error) => {
                    tracing::warn!(error = crate::chain(&error), "cannot read image pull secrets");
                    BTreeMap::new()
                }
            };
            let missing: Vec<&str> = references
                .secrets
                .iter()
                .filter(|name| !secrets.contains_key(*name))
                .map(String::as_str)
                .collect();
            if !missing.is_empty() {
                self.tell_of_missing_pull_secrets(pod, &missing);
            }
            found.extend(secrets.values().flat_map(|secret| of_secret(secret)));
        }
        if let Some(path) = &self.parts.docker_config {
            match tokio::fs::read(path).await {
                Ok(bytes) => found.extend(docker_config(&bytes, &path.display().to_string())),
                Err(error) => tracing::warn!(path = %path.display(), %error, "cannot read the docker configuration"),
            }
        }
        found
    }

    /// The pull goes on: the registry may want no credentials at all.
    fn tell_of_missing_pull_secrets(&self, pod: &Arc<Pod>, missing: &[&str]) {
        let message = format!(
            "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
            missing.join(", ")
        );
        let reason = "FailedToRetrieveImagePullSecret";
        self.parts.reports.event(pod, None, Severity::Warning, reason, &message);
    }

    async fn note_rerun(&self, uid: &str, id: &str) {
        let (layout, uid, id) = (self.layout().clone(), uid.to_owned(), id.to_owned());
        let note = move || {
            if let Err(error) = layout.amend_container(&uid, &id, |record| record.rerun = true) {
                tracing::warn!(pod = uid, %error, "cannot note that a container has to be started again");
            }
        };
        let _ = tokio::task::spawn_blocking(note).await;
    }

    /// The record of a pod that was lost, as far as the API server remembers it.
    pub(crate) fn recollect(&self, uid: &str) -> Option<PodRecord> {
        let pod = self.parts.known.lock().get(uid).cloned()?;
        let status = pod.status.as_ref()?;
        let record = PodRecord {
            ip: status.pod_ip.as_ref()?.parse().ok()?,
            start_time: status.start_time.as_ref()?.0,
            pod: Pod::clone(&pod),
        };
        if let Err(error) = record::write(&self.layout().record(uid), &record) {
            tracing::warn!(pod = uid, %error, "cannot write the record of a pod again");
        }
        Some(record)
    }

    async fn last_message(&self, pod: &Pod, container: &str, id: &str, attempt: u32, failed: bool) -> Option<String> {
        let key = PodKey::of(pod)?;
        let file = self.layout().container_dir(&key.uid, id).join("termination-log");
        let log = self.layout().log_file(&key, container, attempt);
        let policy = crate::find_container(pod, container)?
            .termination_message_policy
            .clone();
        let from_logs = failed && policy.as_deref() == Some("FallbackToLogsOnError");
        let read = move || {
            let message = read_tail(&file, TERMINATION_MESSAGE_BYTES).unwrap_or_default();
            if message.is_empty() && from_logs {
                log_tail(&log)
            } else {
                message
            }
        };
        tokio::task::spawn_blocking(read)
            .await
            .ok()
            .filter(|message| !message.is_empty())
    }
}

#[async_trait]
impl Machine for LocalMachine {
    async fn create_sandbox(&self, pod: &Arc<Pod>) -> Result<SandboxUp, Failure> {
        sandbox::create(self, pod).await
    }

    async fn image(&self, pod: &Arc<Pod>, container: &str) -> Result<Prepared, Failure> {
        container::image(self, pod, container).await
    }

    async fn start(
        &self,
        pod: &Arc<Pod>,
        request: &StartRequest,
        prepared: &Prepared,
    ) -> Result<StartedAttempt, StartFailure> {
        container::start(self, pod, request, prepared).await
    }

    async fn stop(&self, pod: &Arc<Pod>, id: &str, again: bool) {
        let Some(uid) = pod.metadata.uid.as_deref() else { return };
        if again {
            self.note_rerun(uid, id).await;
        }
        let signal = self
            .layout()
            .container_record(uid, id)
            .map_or(libc::SIGTERM, |record| record.stop_signal);
        if let Some(sandboxed) = self.sandbox(uid) {
            log_failure("stop", uid, sandboxed.shim.signal(id, signal, false).await);
        }
    }

    async fn kill(&self, pod: &PodKey, id: &str) {
        if let Some(sandboxed) = self.sandbox(&pod.uid) {
            log_failure("kill", &pod.uid, sandboxed.shim.signal(id, libc::SIGKILL, true).await);
        }
    }

    async fn grant(&self, pod: &Arc<Pod>, running: &[(String, String)]) -> Verdict {
        limits::grant(self, pod, running).await
    }

    async fn resize(
        &self,
        pod: &Arc<Pod>,
        room: &Arc<Pod>,
        containers: &[(String, String)],
    ) -> Result<Changed, String> {
        limits::change(self.layout(), pod, room, containers).await
    }

    async fn settle(&self, pod: &Arc<Pod>) -> Result<(), String> {
        limits::settle(self, pod).await
    }

    async fn last_words(&self, pod: &Arc<Pod>, container: &str, id: &str, attempt: u32, mut ended: Ended) -> Ended {
        if let Some(message) = self.last_message(pod, container, id, attempt, ended.code != 0).await {
            ended.message = message;
        }
        ended
    }

    async fn remove_container(&self, pod: &PodKey, container: &str, id: &str, keep_logs_from: u32) {
        if let Some(sandboxed) = self.sandbox(&pod.uid) {
            log_failure("remove", &pod.uid, sandboxed.shim.remove(id).await);
        }
        let directory = self.layout().container_dir(&pod.uid, id);
        let logs = self.layout().logs_dir(pod).join(container);
        self.cleaning.spawn_blocking(move || {
            remove_tree(&directory);
            for entry in std::fs::read_dir(logs).into_iter().flatten().flatten() {
                if crate::layout::attempt_of_log(&entry.path()).is_some_and(|attempt| attempt < keep_logs_from) {
                    let _ = std::fs::remove_file(entry.path());
                }
            }
        });
    }

    async fn remove_sandbox(&self, pod: &PodKey) -> Result<(), String> {
        sandbox::remove(self, pod).await
    }

    fn clean(&self, pod: &PodKey, logs: bool) {
        self.parts.tokens.forget(&pod.uid);
        self.grants.forget(&pod.uid);
        let directory = self.layout().pod_dir(&pod.uid);
        let logs = logs.then(|| self.layout().logs_dir(pod));
        let (images, uid) = (self.images.clone(), pod.uid.clone());
        self.cleaning.spawn(async move { images.release(&uid).await });
        self.cleaning.spawn_blocking(move || {
            volume::unmount_below(&directory);
            remove_tree(&directory);
            if let Some(logs) = logs {
                remove_tree(&logs);
            }
        });
    }

    async fn mark_rerun(&self, pod: &PodKey) {
        let marker = self.layout().rerun_marker(&pod.uid);
        match tokio::fs::write(&marker, b"").await {
            // A pod without files has come to its end or never began: nothing to run again.
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(path = %marker.display(), %error, "cannot note that a pod has to be run again");
            }
            _ => {}
        }
    }

    async fn unmount(&self, pod: &PodKey) {
        let directory = self.layout().pod_dir(&pod.uid);
        self.cleaning.spawn_blocking(move || volume::unmount_below(&directory));
    }

    async fn refresh_volumes(&self, pod: &Arc<Pod>) {
        let Some(uid) = pod.metadata.uid.as_deref() else { return };
        let ip = self.sandbox(uid).map(|sandboxed| IpAddr::from(sandboxed.ip));
        if let Err(failure) = sandbox::volumes(self, pod, ip).await {
            let severity = crate::machine::Severity::Warning;
            self.parts
                .reports
                .event(pod, None, severity, &failure.reason, &failure.message);
        }
    }
}

/// What a pull secret (`kubernetes.io/dockerconfigjson` or `kubernetes.io/dockercfg`) says; nothing when it is neither.
fn of_secret(secret: &Secret) -> Vec<Credential> {
    let keys = [".dockerconfigjson", ".dockercfg"];
    let data = secret.data.as_ref();
    match keys.iter().find_map(|key| data?.get(*key)) {
        Some(bytes) => {
            let name = secret.metadata.name.as_deref().unwrap_or_default();
            docker_config(&bytes.0, &format!("image pull secret {name}"))
        }
        None => Vec::new(),
    }
}

/// A source that cannot be read must not keep a public image from being pulled.
fn docker_config(bytes: &[u8], what: &str) -> Vec<Credential> {
    Credential::parse_docker_config(bytes, what).unwrap_or_else(|error| {
        tracing::warn!(error = crate::chain(&error), "ignoring registry credentials");
        Vec::new()
    })
}

fn log_failure(what: &str, uid: &str, result: Result<(), catamaran_shim::client::Error>) {
    if let Err(error) = result {
        tracing::debug!(pod = uid, error = crate::chain(&error), "cannot {what} a container");
    }
}

fn remove_tree(path: &Path) {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "cannot remove a directory");
        }
        _ => {}
    }
}

fn read_tail(path: &Path, limit: u64) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(limit)))?;
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The last lines of a CRI log, without their headers.
fn log_tail(path: &Path) -> String {
    let text = read_tail(path, TERMINATION_LOG_BYTES * 2).unwrap_or_default();
    let lines: Vec<_> = text.lines().filter_map(|line| line.splitn(4, ' ').nth(3)).collect();
    let first = lines.len().saturating_sub(TERMINATION_LOG_LINES);
    let mut tail = lines[first..].join("\n");
    if let Ok(limit) = usize::try_from(TERMINATION_LOG_BYTES) {
        while tail.len() > limit {
            tail = tail
                .split_once('\n')
                .map_or_else(String::new, |(_, rest)| rest.to_owned());
        }
    }
    tail
}

/// The instant an attempt that never ran began and ended.
fn failed_start(message: String, exit_code: i32, reason: &str) -> Ended {
    let now = Timestamp::now();
    Ended {
        code: exit_code,
        signal: None,
        reason: reason.to_owned(),
        message,
        started_at: Some(now),
        finished_at: now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pull_secrets_of_both_types_are_read() {
        let users = |key: &str, text: &str| -> Vec<String> {
            let data = BTreeMap::from([(key.to_owned(), k8s_openapi::ByteString(text.as_bytes().to_vec()))]);
            let secret = Secret {
                data: Some(data),
                ..Secret::default()
            };
            of_secret(&secret).into_iter().map(|found| found.username).collect()
        };
        let new = r#"{"auths": {"*.example.com/team": {"auth": "dXNlcjpwYTpzcw=="}}}"#;
        assert_eq!(users(".dockerconfigjson", new), ["user"]);
        let old = r#"{"r.example.com": {"username": "old", "password": "p"}}"#;
        assert_eq!(users(".dockercfg", old), ["old"]);
        assert!(users(".dockerconfigjson", "not json").is_empty());
        assert!(users("other", new).is_empty());
    }
}
