//! The loop most controllers are: watches say which keys are touched, and each key is brought in order by one task at a time.

use super::queue::Queue;
use super::requests::chain;
use futures::stream::{BoxStream, SelectAll};
use futures::{Stream, StreamExt as _};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use std::collections::HashMap;
use std::fmt::Debug;
use std::future::Future;
use std::hash::Hash;
use std::time::{Duration, Instant};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// What a source says.
#[derive(Debug)]
pub(crate) enum Signal<K> {
    /// This key may have to be brought in order.
    Touched(K),
    /// All that is there was said once.
    Synced,
}

/// Where keys come from.
pub(crate) type Source<K> = BoxStream<'static, Signal<K>>;

/// What is to be done after a key was brought in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing, until a watch says so.
    Done,
    /// Look again then, whatever happens.
    After(Duration),
    /// Look again as after a failure: after longer and longer pauses.
    Again,
}

/// A change of an object.
#[derive(Debug)]
pub(crate) enum Change<T> {
    /// It is there, and looks like this.
    Is(T),
    /// It was there, and looked like this.
    Was(T),
}

impl<T> Change<T> {
    pub(crate) fn object(&self) -> &T {
        match self {
            Change::Is(object) | Change::Was(object) => object,
        }
    }
}

/// Turns a watch into a source: `keys` says who is touched by a change. Failures are tried again by the watch itself.
pub(crate) fn source<T, K, S>(
    what: &'static str,
    stream: S,
    mut keys: impl FnMut(Change<T>) -> Vec<K> + Send + 'static,
) -> Source<K>
where
    T: Send + 'static,
    K: Send + 'static,
    S: Stream<Item = Result<Event<T>, watcher::Error>> + Send + 'static,
{
    stream
        .default_backoff()
        .flat_map(move |event| {
            let touched = |keys: Vec<K>| keys.into_iter().map(Signal::Touched).collect();
            let signals: Vec<Signal<K>> = match event {
                Ok(Event::Init) => Vec::new(),
                Ok(Event::InitApply(object) | Event::Apply(object)) => touched(keys(Change::Is(object))),
                Ok(Event::Delete(object)) => touched(keys(Change::Was(object))),
                Ok(Event::InitDone) => vec![Signal::Synced],
                Err(error) => {
                    tracing::debug!(error = chain(&error), "watching {what} failed; trying again");
                    Vec::new()
                }
            };
            futures::stream::iter(signals)
        })
        .boxed()
}

/// Works on the keys of `sources` until `shutdown`, at most `workers` at a time, not before all sources have said what there
/// is. Whatever fails is tried again later.
pub(crate) async fn drive<K, F>(
    name: &'static str,
    sources: Vec<Source<K>>,
    workers: usize,
    shutdown: CancellationToken,
    bring_in_order: impl Fn(K) -> F,
) where
    K: Clone + Debug + Eq + Hash + Ord + Send + 'static,
    F: Future<Output = kube::Result<Next>> + Send + 'static,
{
    let mut unsynced = sources.len();
    let mut sources: SelectAll<Source<K>> = futures::stream::select_all(sources);
    let mut queue: Queue<K> = Queue::default();
    let mut work: JoinSet<kube::Result<Next>> = JoinSet::new();
    let mut running: HashMap<tokio::task::Id, K> = HashMap::new();
    loop {
        while unsynced == 0
            && work.len() < workers
            && let Some(key) = queue.take(Instant::now())
        {
            let task = work.spawn(bring_in_order(key.clone()));
            running.insert(task.id(), key);
        }
        let due = queue.next_due();
        tokio::select! {
            () = shutdown.cancelled() => return,
            Some(signal) = sources.next() => match signal {
                Signal::Touched(key) => queue.add(key),
                Signal::Synced => unsynced = unsynced.saturating_sub(1),
            },
            Some(done) = work.join_next_with_id() => {
                let id = done.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
                let Some(key) = running.remove(&id) else { continue };
                match done.map(|(_, result)| result) {
                Ok(Ok(Next::Again)) => queue.failed(&key, Instant::now()),
                Ok(Ok(next)) => {
                    queue.succeeded(&key);
                    if let Next::After(pause) = next {
                        queue.add_at(key, Instant::now() + pause);
                    }
                }
                Ok(Err(error)) => {
                    tracing::debug!(controller = name, ?key, error = chain(&error), "not in order yet; trying again");
                    queue.failed(&key, Instant::now());
                }
                Err(error) => {
                    tracing::error!(controller = name, ?key, error = chain(&error), "a task panicked");
                    queue.failed(&key, Instant::now());
                }
                }
            }
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() && work.len() < workers => {}
        }
    }
}
