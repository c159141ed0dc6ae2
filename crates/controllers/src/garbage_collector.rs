//! Objects whose owners are gone go, too.
//!
//! ```text
//!   metadata watches of every resource ──▶ graph ──▶ queue ──▶ attempt: look, judge, delete or patch
//!        ▲ discovery says which              ▲                      │
//!        │                                   └──── vanished ────────┘
//! ```
//!
//! The graph only says who may be concerned; every decision is made on what the server says at that moment, and every write
//! names the uid and the version it was decided on. So a stale graph costs a request, never an object.
//! <https://kubernetes.io/docs/concepts/architecture/garbage-collection/>

mod attempt;
mod decide;
mod graph;
mod requests;

use crate::framework::discovery::{Discovery, Resource};
use crate::framework::queue::Queue;
use crate::framework::requests::{chain, metadata};
use crate::touched::Touched;
use attempt::{Failure, Outcome};
use futures::stream::{BoxStream, SelectAll};
use futures::{FutureExt as _, StreamExt as _};
use graph::{Graph, Identity, Seen, Uid, Work};
use kube::Client;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use requests::Requests;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

#[cfg(test)]
mod tests;

/// Objects worked on at a time.
const WORKERS: usize = 20;
/// Changes taken in one turn before work is begun.
const TURN: usize = 512;
/// How long work waits at the start for watches that do not get through. What needs to know all dependents of an object then
/// asks itself, so that a resource that cannot be listed holds up nothing but that.
const PATIENCE: Duration = Duration::from_secs(30);
/// Resources whose objects own nothing and belong to nobody.
const IGNORED: [(&str, &str); 2] = [("", "events"), ("events.k8s.io", "events")];

/// A change of one object, or of what is known of a whole type.
enum Change {
    Is(Seen),
    Was(Identity),
    /// A list begins …
    Begin,
    /// … and this object is in it …
    Listed(Seen),
    /// … and it is complete.
    Complete,
}

/// A watched resource.
struct Monitor {
    resource: Arc<Resource>,
    stop: futures::stream::AbortHandle,
    /// What the list that is under way has shown.
    listed: Option<HashSet<Uid>>,
}

type MonitorId = u64;

pub(crate) async fn run(client: Client, mut discovery: Discovery, touched: Touched, shutdown: CancellationToken) {
    let mut collector = Collector::new(client, touched);
    loop {
        collector.follow(&discovery);
        collector.begin_work(&discovery);
        let due = collector.patience.or(collector.queue.next_due());
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = discovery.changed() => {}
            Some((id, change)) = collector.streams.next() => {
                collector.changed(id, change);
                for _ in 0..TURN {
                    let Some(Some((id, change))) = collector.streams.next().now_or_never() else { break };
                    collector.changed(id, change);
                }
            }
            Some(done) = collector.work.join_next_with_id() => collector.done(done, &discovery),
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now).into()),
                if due.is_some() && collector.work.len() < WORKERS => {}
        }
    }
}

type Done = (tokio::task::Id, Result<Outcome, Failure>);

struct Collector {
    client: Client,
    /// Told of every change, for whoever counts objects.
    touched: Touched,
    graph: Graph,
    queue: Queue<Work>,
    monitors: HashMap<MonitorId, Monitor>,
    streams: SelectAll<BoxStream<'static, (MonitorId, Change)>>,
    /// Watches that have not shown yet what there is.
    unsynced: HashSet<MonitorId>,
    /// Until then work waits for all of them, since most owners are simply still to come; `None` once it has begun.
    patience: Option<Instant>,
    work: JoinSet<Result<Outcome, Failure>>,
    /// What each task is about, to be known also of one that panicked.
    running: HashMap<tokio::task::Id, Work>,
    next_monitor: MonitorId,
}

impl Collector {
    fn new(client: Client, touched: Touched) -> Self {
        Collector {
            client,
            touched,
            graph: Graph::default(),
            queue: Queue::default(),
            monitors: HashMap::new(),
            streams: SelectAll::new(),
            unsynced: HashSet::new(),
            patience: Some(Instant::now() + PATIENCE),
            work: JoinSet::new(),
            running: HashMap::new(),
            next_monitor: 0,
        }
    }

    /// Watches what there is to watch, and nothing else.
    fn follow(&mut self, discovery: &Discovery) {
        let catalog = discovery.catalog();
        let wanted: Vec<&Arc<Resource>> = catalog
            .preferred
            .iter()
            .filter(|resource| is_collected(resource))
            .collect();
        let gone: Vec<MonitorId> = self
            .monitors
            .iter()
            .filter(|(_, monitor)| {
                let failed = catalog.failed.iter().any(|(group, _)| *group == monitor.resource.group);
                !failed && !wanted.contains(&&monitor.resource)
            })
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            self.unsynced.remove(&id);
            if let Some(monitor) = self.monitors.remove(&id) {
                monitor.stop.abort();
                let api = &monitor.resource.api;
                let work = self.graph.forget_type(&api.api_version, &api.kind);
                self.enqueue(work);
            }
        }
        let present: Vec<Arc<Resource>> = self
            .monitors
            .values()
            .map(|monitor| Arc::clone(&monitor.resource))
            .collect();
        for resource in wanted.into_iter().filter(|resource| !present.contains(resource)) {
            self.watch(Arc::clone(resource));
        }
    }

    fn watch(&mut self, resource: Arc<Resource>) {
        let id = self.next_monitor;
        self.next_monitor += 1;
        let api_version: Arc<str> = resource.api.api_version.as_str().into();
        let kind: Arc<str> = resource.api.kind.as_str().into();
        let stream = watcher(metadata(&self.client, &resource.api), watcher::Config::default())
            .default_backoff()
            .filter_map(move |event| {
                let change = match event {
                    Ok(Event::Apply(object)) => Some(Change::Is(requests::seen(&api_version, &kind, object))),
                    Ok(Event::Delete(object)) => {
                        let identity = requests::identity(&api_version, &kind, &object.metadata);
                        Some(Change::Was(identity))
                    }
                    Ok(Event::Init) => Some(Change::Begin),
                    Ok(Event::InitApply(object)) => Some(Change::Listed(requests::seen(&api_version, &kind, object))),
                    Ok(Event::InitDone) => Some(Change::Complete),
                    Err(error) => {
                        tracing::debug!(error = chain(&error), kind = &*kind, "a watch failed; trying again");
                        None
                    }
                };
                std::future::ready(change.map(|change| (id, change)))
            });
        let (stream, stop) = futures::stream::abortable(stream);
        self.streams.push(stream.boxed());
        self.unsynced.insert(id);
        let monitor = Monitor {
            resource,
            stop,
            listed: None,
        };
        self.monitors.insert(id, monitor);
    }

    fn changed(&mut self, id: MonitorId, change: Change) {
        let Some(monitor) = self.monitors.get_mut(&id) else {
            return;
        };
        let work = match change {
            Change::Begin => {
                monitor.listed = Some(HashSet::new());
                Vec::new()
            }
            Change::Listed(seen) => {
                if let Some(listed) = &mut monitor.listed {
                    listed.insert(Arc::clone(&seen.identity.uid));
                }
                self.graph.observe(&seen)
            }
            Change::Is(seen) => {
                let identity = &seen.identity;
                self.touched
                    .touch(&monitor.resource, &identity.namespace, &identity.name);
                self.graph.observe(&seen)
            }
            // Whoever counts objects is to know, also of one that the graph has forgotten already.
            Change::Was(identity) => {
                self.touched
                    .touch(&monitor.resource, &identity.namespace, &identity.name);
                self.graph.remove(&identity.uid)
            }
            Change::Complete => {
                self.unsynced.remove(&id);
                self.touched.touch_all(&monitor.resource);
                let listed = monitor.listed.take().unwrap_or_default();
                let api = &monitor.resource.api;
                let gone: Vec<Uid> = self
                    .graph
                    .observed(&api.api_version, &api.kind)
                    .filter(|uid| !listed.contains(*uid))
                    .cloned()
                    .collect();
                gone.iter().flat_map(|uid| self.graph.remove(uid)).collect()
            }
        };
        self.enqueue(work);
    }

    fn enqueue(&mut self, work: Vec<Work>) {
        work.into_iter().for_each(|work| self.queue.add(work));
    }

    fn begin_work(&mut self, discovery: &Discovery) {
        let now = Instant::now();
        if let Some(until) = self.patience
            && (self.monitors.is_empty() || !self.unsynced.is_empty())
            && now < until
        {
            return;
        }
        self.patience = None;
        let unseen = self.unseen();
        while self.work.len() < WORKERS
            && let Some(work) = self.queue.take(now)
        {
            let requests = Requests {
                client: self.client.clone(),
                catalog: discovery.catalog(),
                unseen: Arc::clone(&unseen),
            };
            let task = match &work {
                Work::Report(report) => {
                    let (dependent, owner) = (**report).clone();
                    let client = self.client.clone();
                    self.work.spawn(async move {
                        requests::report(client, dependent, owner).await;
                        Ok(Outcome::default())
                    })
                }
                Work::Attempt(uid) => {
                    let Some(item) = self.graph.item(uid) else {
                        self.queue.succeeded(&work);
                        continue;
                    };
                    self.work.spawn(async move { attempt::attempt(&requests, &item).await })
                }
                Work::Orphan(uid) => {
                    let Some(item) = self.graph.item(uid) else {
                        self.queue.succeeded(&work);
                        continue;
                    };
                    self.work.spawn(async move { attempt::orphan(&requests, &item).await })
                }
            };
            self.running.insert(task.id(), work);
        }
    }

    /// Tells that an object is not there any more, which its watch may show much later.
    fn touch(&self, identity: &Identity) {
        let monitors = self.monitors.values().map(|monitor| &monitor.resource);
        for resource in monitors {
            if *resource.api.api_version == *identity.api_version && *resource.api.kind == *identity.kind {
                self.touched.touch(resource, &identity.namespace, &identity.name);
            }
        }
    }

    /// The resources of whose objects the graph may know nothing.
    fn unseen(&self) -> Arc<[Arc<Resource>]> {
        let monitors = self.unsynced.iter().filter_map(|id| self.monitors.get(id));
        monitors.map(|monitor| Arc::clone(&monitor.resource)).collect()
    }

    fn done(&mut self, done: Result<Done, JoinError>, discovery: &Discovery) {
        let id = done.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let Some(work) = self.running.remove(&id) else { return };
        let result = match done {
            Ok((_, result)) => result,
            Err(error) => {
                tracing::error!(?work, error = chain(&error), "a task of the garbage collector panicked");
                return self.queue.failed(&work, Instant::now());
            }
        };
        match result {
            Ok(outcome) => {
                for seen in &outcome.seen {
                    let work = self.graph.observe(seen);
                    self.enqueue(work);
                }
                outcome
                    .absent
                    .into_iter()
                    .for_each(|owner| self.graph.note_absent(owner));
                if outcome.again {
                    self.queue.failed(&work, Instant::now());
                } else {
                    self.queue.succeeded(&work);
                }
                self.enqueue(outcome.work);
                if let Some(vanished) = outcome.vanished {
                    self.touch(&vanished);
                    let work = self.graph.vanish(&vanished);
                    self.enqueue(work);
                }
            }
            Err(failure) => {
                if matches!(failure, Failure::UnknownType { .. }) {
                    discovery.ask();
                }
                tracing::debug!(
                    ?work,
                    error = chain(&failure),
                    objects = self.graph.len(),
                    "not collected; trying again"
                );
                self.queue.failed(&work, Instant::now());
            }
        }
    }
}

fn is_collected(resource: &Resource) -> bool {
    !IGNORED.contains(&(resource.group.as_str(), resource.api.plural.as_str()))
        && ["delete", "list", "watch"].iter().all(|verb| resource.can(verb))
}
