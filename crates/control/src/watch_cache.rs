//! The present state of every kind in memory, with a tail of its latest changes.
//!
//! ```text
//!   registry ── write ──▶ store ── watch of everything ──▶ feed (one task) ──▶ cache of the kind ──▶ watchers
//!      ▲                                                                          │
//!      └───────────────────────── get, list: shared bytes ────────────────────────┘
//! ```
//!
//! One task applies the store's changes in the order of their revisions, so at any moment the caches together show one
//! revision, [`Caches::applied`]. A read first waits until that is the store's last acknowledged revision, which it
//! nearly always is already: whoever was told that a write succeeded sees it. A watcher holds no queue: it reads the
//! shared tail from where it stands, so memory does not depend on how many
//! watchers there are or how slow they are. Such a watcher goes on with the store's history, as far as that reaches.

mod feed;
mod follow;
mod kinds;
mod past;
mod record;

pub(crate) use follow::{Follower, News, Position};
pub(crate) use record::Record;

use crate::registry::resource::{Change, Resource};
use catamaran_api::Status;
use catamaran_store::{Revision, Store};
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// At most this many changes of a kind are kept for watchers.
const TAIL_CHANGES: usize = 4096;
/// At most this many bytes of objects are kept by the tail of one kind (the newest change always is).
const TAIL_BYTES: usize = 8 << 20;
/// How long a read waits for the caches to catch up with the store before it gives up.
const FRESH_TIMEOUT: Duration = Duration::from_secs(10);

/// One change of one object.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) change: Change,
    /// The object before; `None` if it was created.
    pub(crate) old: Option<Arc<Record>>,
    /// The object after; a deleted one as it was, with the revision of its deletion.
    pub(crate) new: Arc<Record>,
}

impl Step {
    pub(crate) fn revision(&self) -> Revision {
        self.new.revision
    }
}

/// The tail does not reach back that far.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooOld;

/// The changes a watcher has not seen yet.
pub(crate) struct Tail {
    pub(crate) steps: Vec<Arc<Step>>,
    /// Everything up to here was seen once `steps` are dealt with.
    pub(crate) upto: Revision,
}

/// A consistent selection of objects.
pub(crate) struct Selection {
    pub(crate) records: Vec<Arc<Record>>,
    pub(crate) revision: Revision,
    /// More objects follow the last one.
    pub(crate) more: bool,
    /// How many objects follow, selected or not.
    pub(crate) remaining: u64,
}

/// The state of one kind.
pub(crate) struct KindCache {
    pub(crate) resource: Arc<Resource>,
    state: RwLock<State>,
    changed: watch::Sender<Revision>,
    applied: watch::Receiver<Revision>,
    /// How often an object could not be read.
    decode_errors: AtomicU64,
    /// Nothing follows: the kind is gone, or was defined anew and has another cache.
    closed: CancellationToken,
}

#[derive(Clone)]
struct State {
    objects: BTreeMap<Arc<str>, Arc<Record>>,
    /// What stands for objects that cannot be served.
    broken: BTreeMap<Arc<str>, Arc<Record>>,
    /// Revision of the last change.
    last: Revision,
    tail: VecDeque<Arc<Step>>,
    tail_bytes: usize,
    /// Every change after this revision is in the tail.
    floor: Revision,
}

impl State {
    fn new(mut objects: BTreeMap<Arc<str>, Arc<Record>>, revision: Revision) -> Self {
        let mut broken = BTreeMap::new();
        if objects.values().any(|record| record.failure().is_some()) {
            (broken, objects) = objects.into_iter().partition(|(_, record)| record.failure().is_some());
        }
        State {
            objects,
            broken,
            last: revision,
            tail: VecDeque::new(),
            tail_bytes: 0,
            floor: revision,
        }
    }
}

impl KindCache {
    fn new(resource: Arc<Resource>, applied: watch::Receiver<Revision>, state: State) -> Self {
        KindCache {
            resource,
            state: RwLock::new(state),
            changed: watch::Sender::new(0),
            applied,
            decode_errors: AtomicU64::new(0),
            closed: CancellationToken::new(),
        }
    }

    /// Resolves when nothing follows any more: watchers have to start anew, if they can.
    pub(crate) fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    pub(crate) fn get(&self, namespace: Option<&str>, name: &str) -> Option<Arc<Record>> {
        self.state
            .read()
            .objects
            .get(self.resource.key(namespace, name).as_str())
            .cloned()
    }

    /// What stands for an object below `prefix` that cannot be served, if there is one: who asks for all of them has to know.
    pub(crate) fn broken(&self, prefix: &str) -> Option<Arc<Record>> {
        let state = self.state.read();
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let (key, record) = state.broken.range::<str, _>(from).next()?;
        key.starts_with(prefix).then(|| Arc::clone(record))
    }

    /// How often an object could not be read since the start.
    pub(crate) fn decode_errors(&self) -> u64 {
        self.decode_errors.load(Ordering::Relaxed)
    }

    fn count_broken(&self, count: usize) {
        self.decode_errors.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// An object is deleted, readable or not.
    fn forget_broken(&self, key: &str, revision: Revision) {
        let mut state = self.state.write();
        state.broken.remove(key);
        state.last = state.last.max(revision);
    }

    /// Objects below `prefix` that sort after `after`, at most `limit` of those that `wanted` accepts (0: all).
    pub(crate) fn select(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        wanted: impl Fn(&Record) -> bool,
    ) -> Selection {
        let state = self.state.read();
        let revision = state.last.max(*self.applied.borrow());
        let end = end_of(prefix);
        let to = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let range = match after {
            // Nothing follows, and a range must not end before it begins.
            Some(after) if end.as_deref().is_some_and(|end| after >= end) => {
                (Bound::Included(prefix), Bound::Excluded(prefix))
            }
            Some(after) if after >= prefix => (Bound::Excluded(after), to),
            _ => (Bound::Included(prefix), to),
        };
        // Bounds instead of a look at each key: those that are only counted are not read from memory at all.
        let mut rest = state.objects.range::<str, _>(range).map(|(_, record)| record);
        let mut records = Vec::new();
        for record in rest.by_ref() {
            if wanted(record) {
                records.push(Arc::clone(record));
                if records.len() == limit {
                    break;
                }
            }
        }
        let remaining = if limit == 0 { 0 } else { rest.count() as u64 };
        Selection {
            records,
            revision,
            more: remaining > 0,
            remaining,
        }
    }

    /// Did nothing below this kind change after `revision`, so that the present state is that of `revision`?
    pub(crate) fn unchanged_since(&self, revision: Revision) -> bool {
        self.state.read().last <= revision
    }

    /// The revision of the last change. What was made from this cache before is stale if it grew since.
    pub(crate) fn last_changed(&self) -> Revision {
        self.state.read().last
    }

    /// Number of objects.
    pub(crate) fn len(&self) -> usize {
        self.state.read().objects.len()
    }

    /// The next changes after `seen`, at most `max`.
    pub(crate) fn tail(&self, seen: Revision, max: usize) -> Result<Tail, TooOld> {
        let state = self.state.read();
        if seen < state.floor {
            return Err(TooOld);
        }
        let applied = *self.applied.borrow();
        let first = state.tail.partition_point(|step| step.revision() <= seen);
        let steps: Vec<Arc<Step>> = state.tail.range(first..).take(max).cloned().collect();
        let complete = first + steps.len() == state.tail.len();
        let upto = match steps.last() {
            Some(last) if complete => last.revision().max(applied),
            Some(last) => last.revision(),
            None => seen.max(applied),
        };
        Ok(Tail { steps, upto })
    }

    /// Nothing follows. Watchers are woken up to see that.
    fn close(&self) {
        self.closed.cancel();
        self.notify();
    }

    /// Wakes up after every change of this kind, and at its end and that of all.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Revision> {
        self.changed.subscribe()
    }

    fn apply(&self, step: Step) {
        let mut state = self.state.write();
        let state = &mut *state;
        state.last = step.revision();
        match step.change {
            Change::Deleted => {
                state.objects.remove(&step.new.key);
                if step.new.failure().is_some() {
                    state.broken.insert(Arc::clone(&step.new.key), Arc::clone(&step.new));
                    self.count_broken(1);
                }
            }
            Change::Added | Change::Modified => {
                if !state.broken.is_empty() {
                    state.broken.remove(&step.new.key);
                }
                state.objects.insert(Arc::clone(&step.new.key), Arc::clone(&step.new));
            }
        }
        state.tail_bytes += step.new.len();
        state.tail.push_back(Arc::new(step));
        while state.tail.len() > TAIL_CHANGES || (state.tail_bytes > TAIL_BYTES && state.tail.len() > 1) {
            let Some(forgotten) = state.tail.pop_front() else { break };
            state.tail_bytes -= forgotten.new.len();
            state.floor = forgotten.revision();
        }
    }

    fn notify(&self) {
        let last = self.state.read().last;
        self.changed.send_replace(last);
    }
}

/// The `<group>/<plural>` segment of a key.
fn segment_of(key: &str) -> Option<&str> {
    let rest = key.strip_prefix(crate::registry::resource::ROOT)?;
    let group_end = rest.find('/')?;
    let end = group_end + 1 + rest[group_end + 1..].find('/')?;
    Some(&rest[..end])
}

/// The first key behind all that start with `prefix`; `None` if there is none such.
fn end_of(prefix: &str) -> Option<String> {
    let mut end = prefix.to_owned();
    // Behind its last character is that with the next number.
    while let Some(last) = end.pop() {
        let next = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32);
        if let Some(next) = next {
            end.push(next);
            return Some(end);
        }
    }
    None
}

/// The state of all kinds.
pub(crate) struct Caches {
    kinds: RwLock<Kinds>,
    /// Held while changes are applied, and while kinds come and go.
    feeding: Mutex<kinds::Captures>,
    applied: watch::Sender<Revision>,
    /// Nothing is applied any more.
    ended: AtomicBool,
    store: Arc<dyn Store>,
}

/// Caches by the `<group>/<plural>` segment of their keys.
type Kinds = HashMap<String, Arc<KindCache>>;

impl Caches {
    /// Caches for these resources, empty. [`load`](Self::load) fills them.
    pub(crate) fn new(store: Arc<dyn Store>, resources: &[Arc<Resource>]) -> Self {
        let (applied, receiver) = watch::channel(0);
        let kinds = resources
            .iter()
            .map(|resource| {
                let cache = KindCache::new(Arc::clone(resource), receiver.clone(), State::new(BTreeMap::new(), 0));
                (resource.segment().to_owned(), Arc::new(cache))
            })
            .collect();
        Caches {
            kinds: RwLock::new(kinds),
            feeding: Mutex::default(),
            applied,
            ended: AtomicBool::new(false),
            store,
        }
    }

    /// The cache in which the objects of a resource are, whatever their version. `None` once the kind is gone.
    pub(crate) fn of(&self, resource: &Resource) -> Option<Arc<KindCache>> {
        self.kinds.read().get(resource.segment()).cloned()
    }

    /// The revision all caches show.
    pub(crate) fn applied(&self) -> Revision {
        *self.applied.borrow()
    }

    /// Does nothing follow any more, as the server stops?
    pub(crate) fn ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Waits until every acknowledged write is visible here.
    pub(crate) async fn fresh(&self) -> Result<(), Status> {
        self.wait_for(self.store.revision(), FRESH_TIMEOUT).await
    }

    /// Waits until the caches show `revision` or nothing any more, however long it takes: only for revisions that were
    /// acknowledged.
    async fn wait(&self, revision: Revision) {
        let mut applied = self.applied.subscribe();
        // The sender is ours, so it cannot be gone.
        drop(applied.wait_for(|applied| *applied >= revision || self.ended()).await);
    }

    /// Waits until the caches show `revision`, or answers that it is too large; at once, when nothing is applied any more.
    pub(crate) async fn wait_for(&self, revision: Revision, patience: Duration) -> Result<(), Status> {
        if self.applied() >= revision {
            return Ok(());
        }
        let mut applied = self.applied.subscribe();
        // Looked at below: it may be over for more than one reason.
        drop(
            tokio::time::timeout(
                patience,
                applied.wait_for(|applied| *applied >= revision || self.ended()),
            )
            .await,
        );
        match self.applied() {
            applied if applied >= revision => Ok(()),
            applied => Err(Status::too_large_resource_version(revision, applied)),
        }
    }

    /// Which kind a key belongs to.
    fn find<'k>(kinds: &'k Kinds, key: &str) -> Option<&'k Arc<KindCache>> {
        kinds.get(segment_of(key)?)
    }
}

#[cfg(test)]
mod tests {
    use super::end_of;

    #[test]
    fn everything_with_a_prefix_is_before_its_end_and_nothing_else_is() {
        assert_eq!(
            end_of("/registry/core/pods/a/").as_deref(),
            Some("/registry/core/pods/a0")
        );
        assert_eq!(end_of("a\u{d7ff}").as_deref(), Some("a\u{e000}"));
        assert_eq!(end_of("a\u{10ffff}").as_deref(), Some("b"));
        assert_eq!(end_of("\u{10ffff}"), None);
        assert_eq!(end_of(""), None);
    }
}
