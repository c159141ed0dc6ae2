//! uid → worker: the pods bound to this node, as the API server lists them, each given to a worker of its own.

use crate::adopt::{self, Found};
use crate::env::{References, references};
use crate::eviction;
use crate::layout::{Layout, PodKey};
use crate::local::LocalMachine;
use crate::machine::{Machine, Reports, Severity};
use crate::objects::{ObjectSource, Subscription};
use crate::reports::ApiReports;
use crate::resize::Granted;
use crate::worker::{Message, Start, SystemClock, Worker};
use crate::{tokens, volume};
use catamaran_shim::StateDir;
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// How often shims that did not answer at the start are tried again.
const RETRY_UNREACHABLE: Duration = Duration::from_secs(5);
/// When the tokens of a pod that was found running are looked at.
const ADOPTED_TOKENS: Duration = Duration::from_secs(2);

struct Handle {
    inbox: mpsc::UnboundedSender<Message>,
    _objects: Option<Subscription>,
    _limits: Option<AbortOnDropHandle<()>>,
    _refresh: Option<AbortOnDropHandle<()>>,
}

/// The pods known now, for the server.
pub(crate) type Known = Arc<Mutex<HashMap<String, Arc<Pod>>>>;

pub(crate) struct Pods {
    pub client: Client,
    pub node_name: String,
    pub node_ip: IpAddr,
    pub machine: Arc<LocalMachine>,
    pub reports: Arc<ApiReports>,
    pub objects: Arc<ObjectSource>,
    pub known: Known,
    workers: HashMap<String, Handle>,
    tasks: JoinSet<()>,
    ids: HashMap<Id, PodKey>,
    /// Objects that came while an older worker of the same uid was still ending.
    seen: HashSet<String>,
    unreachable: Vec<PodKey>,
    /// One volume is measured at a time.
    measuring: Arc<Semaphore>,
}

impl Pods {
    pub(crate) fn new(
        client: Client,
        node_name: String,
        node_ip: IpAddr,
        machine: Arc<LocalMachine>,
        known: Known,
    ) -> Self {
        let (reports, objects) = (machine.reports(), machine.objects());
        Self {
            client,
            node_name,
            node_ip,
            machine,
            reports,
            objects,
            known,
            workers: HashMap::new(),
            tasks: JoinSet::new(),
            ids: HashMap::new(),
            seen: HashSet::new(),
            unreachable: Vec::new(),
            measuring: Arc::new(Semaphore::new(1)),
        }
    }

    /// Takes over what runs, then follows the API server until told to end.
    pub(crate) async fn run(mut self, leave: CancellationToken, mut ending: mpsc::Receiver<Duration>) {
        self.machine.images.recover().await;
        let grants = self.machine.grants.clone();
        let _ = tokio::task::spawn_blocking(move || grants.recover()).await;
        self.adopt_all().await;
        let api: Api<Pod> = Api::all(self.client.clone());
        let config = watcher::Config::default().fields(&format!("spec.nodeName={}", self.node_name));
        let mut stream = std::pin::pin!(watcher(api, config).default_backoff());
        let mut retry = tokio::time::interval(RETRY_UNREACHABLE);
        loop {
            tokio::select! {
                event = stream.next() => match event {
                    Some(Ok(event)) => self.observe(event).await,
                    Some(Err(error)) => tracing::warn!(error = crate::chain(&error), "watching pods failed; pods keep running"),
                    None => return,
                },
                Some(ended) = self.tasks.join_next_with_id() => self.worker_ended(&ended),
                _ = retry.tick(), if !self.unreachable.is_empty() => self.retry_unreachable().await,
                () = leave.cancelled() => return,
                Some(max_grace) = ending.recv() => return self.terminate(max_grace).await,
            }
        }
    }

    /// Ends every pod, to be run again at the next start.
    async fn terminate(mut self, max_grace: Duration) {
        for (uid, handle) in &self.workers {
            let pod = self.known.lock().get(uid).cloned();
            if let Some(key) = pod.as_deref().and_then(PodKey::of) {
                self.machine.mark_rerun(&key).await;
            }
            let _ = handle.inbox.send(Message::Shutdown { max_grace });
        }
        while self.tasks.join_next().await.is_some() {}
    }

    async fn adopt_all(&mut self) {
        let run_dir = self.machine.layout().run_dir.clone();
        let listed = tokio::task::spawn_blocking(move || StateDir::list(&run_dir)).await;
        let dirs = match listed {
            Ok(Ok(dirs)) => dirs,
            Ok(Err(error)) => {
                tracing::error!(error = crate::chain(&error), "cannot look for running pods");
                return;
            }
            Err(_) => return,
        };
        let machine = self.machine.clone();
        let inspections = dirs.into_iter().map(|dir| {
            let machine = machine.clone();
            async move { adopt::inspect(&machine, &dir, Timestamp::now()).await }
        });
        let found: Vec<_> = futures::stream::iter(inspections).buffer_unordered(16).collect().await;
        for found in found {
            self.found(found).await;
        }
    }

    async fn found(&mut self, found: Found) {
        match found {
            Found::Pod(pod) => {
                let (key, start) = *pod;
                self.forget_unstarted_bundles(&key, &start).await;
                self.spawn(key, start);
            }
            Found::Leftover(key) => {
                if let Err(message) = self.machine.remove_sandbox(&key).await {
                    tracing::warn!(pod = key.uid, message, "cannot remove what an earlier agent left");
                }
            }
            Found::Unreachable(key) => self.unreachable.push(key),
        }
    }

    async fn retry_unreachable(&mut self) {
        for key in std::mem::take(&mut self.unreachable) {
            let dir = StateDir::of_pod(&self.machine.layout().run_dir, &key.uid);
            let found = adopt::inspect(&self.machine, &dir, Timestamp::now()).await;
            self.found(found).await;
        }
    }

    /// Bundles whose start was never asked for: the agent died before.
    async fn forget_unstarted_bundles(&self, key: &PodKey, start: &Start) {
        let attempts = start
            .world
            .slots
            .iter()
            .flat_map(|slot| slot.current.iter().chain(&slot.previous));
        let known: HashSet<String> = attempts.map(|attempt| attempt.id.clone()).collect();
        let (layout, uid) = (self.machine.layout().clone(), key.uid.clone());
        let forget = move || {
            let dir = StateDir::new(layout.state_dir(&uid));
            let strange = |id: &String| !known.contains(id) && dir.state(id).ok().flatten().is_none();
            for id in dir.containers().unwrap_or_default().into_iter().filter(strange) {
                let _ = std::fs::remove_dir_all(layout.bundle(&uid, &id));
                let _ = std::fs::remove_dir_all(layout.container_dir(&uid, &id));
            }
        };
        let _ = tokio::task::spawn_blocking(forget).await;
    }

    async fn observe(&mut self, event: watcher::Event<Pod>) {
        match event {
            watcher::Event::Init => self.seen.clear(),
            watcher::Event::InitApply(pod) => {
                if let Some(uid) = &pod.metadata.uid {
                    self.seen.insert(uid.clone());
                }
                self.apply(pod).await;
            }
            watcher::Event::InitDone => self.listed().await,
            watcher::Event::Apply(pod) => self.apply(pod).await,
            watcher::Event::Delete(pod) => {
                if let Some(handle) = pod.metadata.uid.as_ref().and_then(|uid| self.workers.get(uid)) {
                    let _ = handle.inbox.send(Message::Gone);
                }
            }
        }
    }

    async fn apply(&mut self, pod: Pod) {
        let Some(key) = PodKey::of(&pod) else { return };
        let pod = Arc::new(pod);
        self.known.lock().insert(key.uid.clone(), pod.clone());
        if self.unreachable.iter().any(|unreachable| unreachable.uid == key.uid) {
            return;
        }
        if let Some(handle) = self.workers.get(&key.uid) {
            let _ = handle.inbox.send(Message::Pod(pod));
            return;
        }
        let (layout, of) = (self.machine.layout().clone(), key.clone());
        let first_time = pod.status.as_ref().is_none_or(|status| status.start_time.is_none());
        // Only a pod with a past has files to look at.
        let granted = self.machine.grants.get(&key.uid);
        let fresh = move || adopt::fresh(&layout, &of, pod, granted, Timestamp::now());
        let start = match first_time {
            true => fresh(),
            false => match tokio::task::spawn_blocking(fresh).await {
                Ok(start) => start,
                Err(_) => return,
            },
        };
        for slot in &start.world.slots {
            if let Some(hold) = &slot.hold {
                let message = format!("Error: {}", hold.message);
                self.reports
                    .event(&start.pod, Some(&slot.name), Severity::Warning, "Failed", &message);
            }
        }
        self.spawn(key, start);
    }

    /// After a complete list: pods it does not have are gone; directories of such pods are removed.
    async fn listed(&mut self) {
        for (uid, handle) in &self.workers {
            if !self.seen.contains(uid) {
                let _ = handle.inbox.send(Message::Gone);
            }
        }
        let (layout, seen) = (self.machine.layout().clone(), self.seen.clone());
        let workers: HashSet<_> = self.workers.keys().cloned().collect();
        let kept: HashSet<String> = seen.union(&workers).cloned().collect();
        self.machine.images.release_except(&kept).await;
        self.machine.grants.retain(|uid| kept.contains(uid));
        let _ = tokio::task::spawn_blocking(move || sweep(&layout, |uid| kept.contains(uid))).await;
    }

    fn spawn(&mut self, key: PodKey, start: Start) {
        let (inbox, receiver) = mpsc::unbounded_channel();
        let references = all_references(&start.pod);
        let subscription = (!references.is_empty() && !start.world.finished)
            .then(|| self.objects.subscribe(&key.namespace, &references, &inbox));
        let refresh = tokens::refresh_after(&start.pod).filter(|_| !start.world.finished);
        let refresh = refresh
            .map(|after| AbortOnDropHandle::new(tokio::spawn(refresh_tokens(after, start.adopted, inbox.clone()))));
        self.known
            .lock()
            .entry(key.uid.clone())
            .or_insert_with(|| start.pod.clone());
        match start.world.finished {
            true => self.machine.grants.forget(&key.uid),
            false => {
                let granted = Granted::of(&start.resizes.granted(&start.pod));
                self.machine.grants.accept(&key.uid, &granted);
            }
        }
        let limited = match start.world.finished {
            true => Vec::new(),
            false => eviction::limited_volumes(self.machine.layout(), &start.pod),
        };
        let limits = (!limited.is_empty()).then(|| {
            let watch = eviction::watch(limited, self.measuring.clone(), inbox.clone());
            AbortOnDropHandle::new(tokio::spawn(watch))
        });
        let clock = Arc::new(SystemClock);
        let worker = Worker::new(
            key.clone(),
            start,
            self.machine.clone(),
            self.reports.clone(),
            clock,
            self.node_ip,
        );
        let task = self.tasks.spawn(worker.run(receiver));
        self.ids.insert(task.id(), key.clone());
        self.workers.insert(
            key.uid,
            Handle {
                inbox,
                _objects: subscription,
                _limits: limits,
                _refresh: refresh,
            },
        );
    }

    fn worker_ended(&mut self, ended: &Result<(Id, ()), tokio::task::JoinError>) {
        let id = match ended {
            Ok((id, ())) => *id,
            Err(error) => {
                tracing::error!(%error, "a pod's worker died");
                error.id()
            }
        };
        if let Some(key) = self.ids.remove(&id) {
            // One that died comes again with its pod, which still has what it was granted.
            if ended.is_ok() {
                self.machine.grants.forget(&key.uid);
            }
            self.workers.remove(&key.uid);
            self.known.lock().remove(&key.uid);
        }
    }
}

fn all_references(pod: &Pod) -> References {
    let mut all = volume::references(pod);
    for (container, _) in crate::containers(pod) {
        all.extend(references(&container));
    }
    all
}

/// Removes files of pods that are not `kept`. Blocking.
fn sweep(layout: &Layout, kept: impl Fn(&str) -> bool) {
    for entry in std::fs::read_dir(layout.pods_dir()).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(|uid| !kept(uid)) {
            volume::unmount_below(&entry.path());
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    for entry in std::fs::read_dir(layout.logs_root()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let uid = name.to_str().and_then(|name| name.rsplit('_').next());
        if uid.is_some_and(|uid| !kept(uid)) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Has the worker look at the pod's volumes whenever a token of theirs is due. Whether those of a pod found running still hold is
/// not known, so they are looked at soon.
async fn refresh_tokens(after: Duration, adopted: bool, inbox: mpsc::UnboundedSender<Message>) {
    let mut wait = if adopted { ADOPTED_TOKENS } else { after };
    loop {
        tokio::time::sleep(wait).await;
        if inbox.send(Message::ObjectsChanged).is_err() {
            return;
        }
        wait = after;
    }
}
