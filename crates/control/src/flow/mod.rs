//! Who is served when there is more to do than can be done at once.
//!
//! Kubernetes' API Priority and Fairness (<https://kubernetes.io/docs/concepts/cluster-administration/flow-control/>):
//! `FlowSchema` objects say which requests belong together and how important they are, `PriorityLevelConfiguration` objects
//! how much of the server each level may have. Within a level, flows (mostly: users) take turns.
//!
//! ```text
//!   request ─▶ rules: which schema, which flow ─▶ dispatch: seats free? ─▶ served, seats given back
//!                                                    │ no        ▲ fair turn
//!                                                    ▼           │
//!                                         one of the flow's hand of queues ─▶ full, or waited too long: 429
//! ```
//!
//! | file | its one concern |
//! |---|---|
//! | `rules.rs` | pure: from a request to schema, level and flow |
//! | `dispatch.rs` | pure: seats, queues, turns |
//! | `suggested.rs` | the objects every cluster begins with |
//! | `follow.rs` | from objects to rules, and back to the objects' conditions |
//!
//! A request that meets a server with room costs one walk over the schemas and one lock.

mod dispatch;
mod follow;
mod rules;
mod suggested;

pub(crate) use dispatch::{LevelStats, Refusal};
pub(crate) use follow::{Following, keep};
pub(crate) use rules::{Digest, DigestResource, Schema};
pub(crate) use suggested::ensure;

use dispatch::{Arrival, Dispatcher, Key, Ticket};
use parking_lot::{Mutex, RwLock};
use rules::Rules;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Seats of the whole server: Kubernetes' 400 for readers and 200 for writers.
const SEATS: u32 = 600;
/// How long a request waits for its turn.
const PATIENCE: Duration = Duration::from_secs(15);

/// Requests by their place in line, and how they are called.
type Waiting = HashMap<Ticket, oneshot::Sender<()>>;

/// The one dispatcher of a server.
pub(crate) struct Flow {
    rules: RwLock<Arc<Rules>>,
    line: Mutex<Line>,
    patience: Duration,
}

struct Line {
    dispatcher: Dispatcher,
    waiting: Waiting,
}

/// What a request was found to be.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) schema: Arc<rules::Schema>,
    level: Key,
    flow: u64,
}

/// Seats in use; given back when dropped.
pub(crate) struct Turn {
    flow: Arc<Flow>,
    place: dispatch::Place,
    since: Instant,
}

impl Flow {
    /// With the suggested configuration, until the objects are read.
    pub(crate) fn new() -> Arc<Flow> {
        Self::with_patience(PATIENCE)
    }

    fn with_patience(patience: Duration) -> Arc<Flow> {
        let (schemas, levels) = suggested::objects();
        let flow = Flow {
            rules: RwLock::default(),
            line: Mutex::new(Line {
                dispatcher: Dispatcher::new(SEATS),
                waiting: Waiting::new(),
            }),
            patience,
        };
        flow.configure(&schemas, &levels);
        Arc::new(flow)
    }

    /// From now on these rules hold; who is being served or waits already stays where they are.
    pub(crate) fn configure(&self, schemas: &[rules::FlowSchema], levels: &[rules::PriorityLevelConfiguration]) {
        let called = {
            let mut line = self.line.lock();
            let specs = rules::level_specs(levels);
            let called = line.dispatcher.configure(&specs);
            *self.rules.write() = Arc::new(Rules::new(schemas, levels, |name| line.dispatcher.key(name)));
            line.take(&called)
        };
        call(called);
    }

    /// Which flow a request belongs to.
    pub(crate) fn classify(&self, digest: &Digest<'_>) -> Found {
        let rules = Arc::clone(&self.rules.read());
        let (schema, level) = rules.classify(digest);
        Found {
            flow: rules::flow_hash(&schema.name, schema.distinguisher(digest)),
            schema: Arc::clone(schema),
            level,
        }
    }

    /// How many seats a list of so many objects takes at the level it was found to be at.
    pub(crate) fn seats_of_list(&self, found: &Found, objects: u64) -> u32 {
        let most = self.line.lock().dispatcher.most_seats(found.level);
        u32::try_from(objects.div_ceil(100)).unwrap_or(u32::MAX).clamp(1, most)
    }

    /// Waits for the turn of a request. `None` in the result: it takes nobody's place.
    ///
    /// # Errors
    /// If there is no room to wait in, or the wait was too long.
    pub(crate) async fn turn(self: &Arc<Self>, found: &Found, seats: u32) -> Result<Option<Turn>, Refusal> {
        let receiver = {
            let mut line = self.line.lock();
            match line.dispatcher.arrive(found.level, found.flow, seats) {
                Arrival::Exempt => return Ok(None),
                Arrival::Refused(refusal) => return Err(refusal),
                Arrival::Served(place) => return Ok(Some(self.begin(place))),
                Arrival::Waits(ticket) => {
                    let (sender, receiver) = oneshot::channel();
                    line.waiting.insert(ticket, sender);
                    Waiter {
                        flow: Arc::clone(self),
                        ticket,
                        receiver,
                        settled: false,
                    }
                }
            }
        };
        receiver.called().await.map(Some)
    }

    fn begin(self: &Arc<Self>, place: dispatch::Place) -> Turn {
        Turn {
            flow: Arc::clone(self),
            place,
            since: Instant::now(),
        }
    }

    /// What levels are doing, for metrics.
    pub(crate) fn stats(&self) -> Vec<LevelStats> {
        self.line.lock().dispatcher.stats()
    }
}

impl Line {
    fn take(&mut self, called: &[Ticket]) -> Vec<oneshot::Sender<()>> {
        called.iter().filter_map(|ticket| self.waiting.remove(ticket)).collect()
    }
}

/// Outside of the lock. One whose future is gone gives its seats back by itself: see [`Waiter`].
fn call(called: Vec<oneshot::Sender<()>>) {
    for sender in called {
        let _ = sender.send(());
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let called = {
            let mut line = self.flow.line.lock();
            let called = line.dispatcher.finish(&self.place, self.since.elapsed());
            line.take(&called)
        };
        call(called);
    }
}

/// A request in line. Dropping it (the client went away) takes it out of the line, or gives back the seats it was just given.
struct Waiter {
    flow: Arc<Flow>,
    ticket: Ticket,
    receiver: oneshot::Receiver<()>,
    settled: bool,
}

impl Waiter {
    async fn called(mut self) -> Result<Turn, Refusal> {
        let called = tokio::time::timeout(self.flow.patience, &mut self.receiver).await;
        let mut line = self.flow.line.lock();
        match (called, line.dispatcher.served(self.ticket)) {
            // Served at the last moment is served.
            (_, Some(place)) => {
                drop(line);
                self.settled = true;
                Ok(self.flow.begin(place))
            }
            (_, None) => {
                line.dispatcher.leave(self.ticket);
                line.waiting.remove(&self.ticket);
                drop(line);
                self.settled = true;
                Err(Refusal::TimeOut)
            }
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let called = {
            let mut line = self.flow.line.lock();
            line.waiting.remove(&self.ticket);
            let called = match line.dispatcher.served(self.ticket) {
                Some(place) => line.dispatcher.finish(&place, Duration::ZERO),
                None => {
                    line.dispatcher.leave(self.ticket);
                    Vec::new()
                }
            };
            line.take(&called)
        };
        call(called);
    }
}

#[cfg(test)]
mod tests;
