//! The loop. One task owns the cluster and the queue; everything that happens is turned into calls on them, and after
//! each turn whoever is active is decided on. Requests run beside it and come back as outcomes.

use crate::cluster::{Change, Cluster};
use crate::cycle::{self, Decision};
use crate::events::Events;
use crate::node::NodeFacts;
use crate::pod::{PodKey, PodView};
use crate::queue::Queue;
use crate::write::{self, Failure, chain};
use crate::{Config, Error};
use futures::{FutureExt, Stream, StreamExt};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Requests under way at once. The store commits what comes together in one go, so many are cheaper than few.
const IN_FLIGHT: usize = 256;
/// Watch events taken in one turn before decisions are made on them.
const TURN: usize = 512;
/// How long waiting events are still written at the end.
const GOODBYE: Duration = Duration::from_secs(1);

pub(crate) async fn run(config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    let client = config.client;
    // Pods that have ended take nothing and never come back.
    let running = watcher::Config::default().fields("status.phase!=Succeeded,status.phase!=Failed");
    let pods = watch(Api::<Pod>::all(client.clone()), running).default_backoff();
    let nodes = watch(Api::<Node>::all(client.clone()), watcher::Config::default()).default_backoff();
    let mut driver = Driver {
        events: Events::start(client.clone(), config.name.clone()),
        client,
        name: config.name,
        cluster: Cluster::default(),
        queue: Queue::default(),
        work: JoinSet::new(),
        reporting: HashMap::new(),
        pods_seen: Seen::default(),
        nodes_seen: Seen::default(),
        decisions: 0,
    };
    let ended = driver.run(std::pin::pin!(pods), std::pin::pin!(nodes), &shutdown).await;
    driver.work.shutdown().await;
    driver.events.finish(GOODBYE).await;
    ended
}

struct Driver {
    client: Client,
    name: String,
    cluster: Cluster,
    queue: Queue,
    work: JoinSet<Outcome>,
    events: Events,
    /// Pods whose condition is being written. They are not bound meanwhile: the late `PodScheduled=False` would replace
    /// the `True` of the binding. True: to be tried again afterwards.
    reporting: HashMap<PodKey, bool>,
    pods_seen: Seen<PodKey>,
    nodes_seen: Seen<String>,
    decisions: usize,
}

/// What a list that is under way has shown, to tell afterwards what is gone.
struct Seen<K> {
    listed: HashSet<K>,
    complete: bool,
}

impl<K> Default for Seen<K> {
    fn default() -> Self {
        Seen {
            listed: HashSet::new(),
            complete: false,
        }
    }
}

enum Outcome {
    Bound {
        pod: Arc<PodView>,
        node: String,
        result: Result<(), Failure>,
    },
    Reported {
        key: PodKey,
        result: Result<(), Failure>,
    },
}

type Watched<K> = Option<Result<Event<K>, watcher::Error>>;

impl Driver {
    async fn run<P, N>(&mut self, mut pods: P, mut nodes: N, shutdown: &CancellationToken) -> Result<(), Error>
    where
        P: Stream<Item = Result<Event<Pod>, watcher::Error>> + Unpin,
        N: Stream<Item = Result<Event<Node>, watcher::Error>> + Unpin,
    {
        loop {
            let due = self.queue.next_due();
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                event = pods.next() => self.pod_watched(event)?,
                event = nodes.next() => self.node_watched(event)?,
                Some(outcome) = self.work.join_next() => self.finished(outcome),
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => {}
            }
            // What is there already is taken together: deciding once on the newest state is better than often.
            for _ in 0..TURN {
                let Some(event) = nodes.next().now_or_never() else {
                    break;
                };
                self.node_watched(event)?;
            }
            for _ in 0..TURN {
                let Some(event) = pods.next().now_or_never() else {
                    break;
                };
                self.pod_watched(event)?;
            }
            while let Some(outcome) = self.work.try_join_next() {
                self.finished(outcome);
            }
            self.queue.due(Instant::now());
            if self.pods_seen.complete && self.nodes_seen.complete {
                self.decide_all();
            }
        }
    }

    fn pod_watched(&mut self, event: Watched<Pod>) -> Result<(), Error> {
        match event.ok_or(Error::WatchEnded { what: "pods" })? {
            Ok(Event::Apply(pod)) => self.set_pod(&pod),
            Ok(Event::Delete(pod)) => {
                if let Some(pod) = PodView::new(&pod) {
                    self.remove_pod(&pod.key);
                }
            }
            Ok(Event::Init) => self.pods_seen.listed.clear(),
            Ok(Event::InitApply(pod)) => {
                if let Some(view) = PodView::new(&pod) {
                    self.pods_seen.listed.insert(view.key);
                }
                self.set_pod(&pod);
            }
            Ok(Event::InitDone) => {
                let listed = std::mem::take(&mut self.pods_seen.listed);
                self.pods_seen.complete = true;
                let gone: Vec<PodKey> = self
                    .cluster
                    .pod_keys()
                    .filter(|key| !listed.contains(key))
                    .cloned()
                    .collect();
                gone.iter().for_each(|key| self.remove_pod(key));
            }
            Err(error) => tracing::warn!(error = chain(&error), "watching pods failed; trying again"),
        }
        Ok(())
    }

    fn node_watched(&mut self, event: Watched<Node>) -> Result<(), Error> {
        let change = match event.ok_or(Error::WatchEnded { what: "nodes" })? {
            Ok(Event::Apply(node)) => self.set_node(&node),
            Ok(Event::Delete(node)) => self
                .cluster
                .remove_node(node.metadata.name.as_deref().unwrap_or_default()),
            Ok(Event::Init) => {
                self.nodes_seen.listed.clear();
                Change::None
            }
            Ok(Event::InitApply(node)) => {
                self.nodes_seen.listed.extend(node.metadata.name.clone());
                self.set_node(&node)
            }
            Ok(Event::InitDone) => {
                let listed = std::mem::take(&mut self.nodes_seen.listed);
                self.nodes_seen.complete = true;
                let known: Vec<String> = self.cluster.node_names().map(str::to_owned).collect();
                let gone = known.iter().filter(|name| !listed.contains(*name));
                gone.fold(Change::None, |change, name| change.or(self.cluster.remove_node(name)))
            }
            Err(error) => {
                tracing::warn!(error = chain(&error), "watching nodes failed; trying again");
                Change::None
            }
        };
        self.changed(change);
        Ok(())
    }

    fn set_node(&mut self, node: &Node) -> Change {
        NodeFacts::new(node).map_or(Change::None, |facts| self.cluster.set_node(facts))
    }

    fn set_pod(&mut self, pod: &Pod) {
        let Some(view) = PodView::new(pod) else {
            return;
        };
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if matches!(phase, Some("Succeeded" | "Failed")) {
            return self.remove_pod(&view.key);
        }
        let (key, priority, waits) = (view.key.clone(), view.priority, view.waits_for(&self.name));
        let before = self.cluster.pod(&key);
        let replaced = before.is_some_and(|before| before.uid != view.uid);
        let differs = before.is_none_or(|before| before.differs_in_needs(&view));
        let change = self.cluster.set_pod(view);
        if replaced || !waits {
            self.queue.remove(&key);
        }
        // The condition this scheduler writes comes back as a change of the pod: that alone is no reason to try again.
        if waits && !self.cluster.is_assumed(&key) && (differs || !self.queue.contains(&key)) {
            self.queue.add(&key, priority);
        }
        self.changed(change);
    }

    fn remove_pod(&mut self, key: &PodKey) {
        self.queue.remove(key);
        let change = self.cluster.remove_pod(key);
        self.changed(change);
    }

    fn changed(&mut self, change: Change) {
        if change == Change::Hope {
            self.queue.hope();
        }
    }

    fn decide_all(&mut self) {
        while self.work.len() < IN_FLIGHT
            && let Some(key) = self.queue.take()
        {
            self.decide(&key);
        }
    }

    fn decide(&mut self, key: &PodKey) {
        let Some(pod) = self.cluster.pod(key).cloned() else {
            return self.queue.remove(key);
        };
        if let Some(again) = self.reporting.get_mut(key) {
            *again = true;
            return self.queue.wait(key);
        }
        self.decisions = self.decisions.wrapping_add(1);
        // Not in the match below: the snapshot would live to its end, and assuming would have to copy the node.
        let decision = cycle::decide(&self.cluster.snapshot(), &pod, self.decisions);
        match decision {
            Decision::Place { node } => {
                self.cluster.assume(key, &node);
                let client = self.client.clone();
                self.work.spawn(async move {
                    let result = write::bind(client, &pod, &node).await;
                    Outcome::Bound { pod, node, result }
                });
            }
            Decision::Unschedulable { message } => {
                self.queue.wait(key);
                self.events.failed_scheduling(&pod, &message);
                self.report(pod, message);
            }
        }
    }

    fn report(&mut self, pod: Arc<PodView>, message: String) {
        let is_known = pod.condition.as_ref().is_some_and(|condition| {
            condition.status == "False" && condition.reason == "Unschedulable" && condition.message == message
        });
        if is_known {
            return;
        }
        self.reporting.insert(pod.key.clone(), false);
        let client = self.client.clone();
        self.work.spawn(async move {
            let result = write::unschedulable(client, &pod, &message).await;
            let key = pod.key.clone();
            Outcome::Reported { key, result }
        });
    }

    fn finished(&mut self, outcome: Result<Outcome, tokio::task::JoinError>) {
        match outcome {
            Ok(Outcome::Bound { pod, node, result }) => self.bound(&pod, &node, result),
            Ok(Outcome::Reported { key, result }) => self.reported(&key, result),
            Err(error) => tracing::error!(error = chain(&error), "a request of the scheduler panicked"),
        }
    }

    fn bound(&mut self, pod: &PodView, node: &str, result: Result<(), Failure>) {
        let is_same = self.cluster.pod(&pod.key).is_some_and(|known| known.uid == pod.uid);
        let failure = match result {
            Ok(()) => {
                tracing::debug!(pod = %pod.key, node, "bound");
                if is_same {
                    self.queue.remove(&pod.key);
                }
                return self.events.scheduled(pod, node);
            }
            Err(failure) => failure,
        };
        let change = self.cluster.forget(&pod.key, &pod.uid);
        self.changed(change);
        if !is_same {
            return;
        }
        match failure {
            Failure::Gone => self.queue.remove(&pod.key),
            // The watch is about to show what it is now; should it not, another try costs little.
            Failure::Stale => self.queue.back_off(&pod.key, Instant::now()),
            Failure::Other(error) => {
                tracing::warn!(pod = %pod.key, node, error, "binding failed; trying again");
                self.events
                    .failed_scheduling(pod, &format!("binding rejected: {error}"));
                self.queue.back_off(&pod.key, Instant::now());
            }
        }
    }

    fn reported(&mut self, key: &PodKey, result: Result<(), Failure>) {
        if let Err(Failure::Other(error)) = result {
            tracing::warn!(pod = %key, error, "writing the PodScheduled condition failed");
        }
        if self.reporting.remove(key) == Some(true)
            && self.queue.contains(key)
            && let Some(pod) = self.cluster.pod(key)
        {
            self.queue.add(key, pod.priority);
        }
    }
}
