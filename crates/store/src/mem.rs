//! The store without a disk: for tests and whole-control-plane simulations, and the model that durable backends are
//! checked against. Plain on purpose: the present in one map, the past as the list of events that led to it.

use crate::follow::{self, History, Stretch};
use crate::tail::Tail;
use crate::{Entry, Error, Event, Options, Page, Revision, Store, Watch};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

/// A store in memory; see the module.
pub struct Mem {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    tail: Arc<Tail>,
    max_revisions: usize,
    max_value_bytes: usize,
}

#[derive(Default)]
struct State {
    revision: Revision,
    compacted: Revision,
    current: BTreeMap<Arc<str>, Entry>,
    /// Events with the revisions `compacted + 1 ..= revision`.
    history: VecDeque<Event>,
}

impl Mem {
    /// An empty store. Of `options`, `keep_history` does not matter here: this module reads no clock.
    pub fn new(options: &Options) -> Mem {
        let shared = Shared {
            state: Mutex::default(),
            tail: Tail::new(0, options),
            max_revisions: usize::try_from(options.max_revisions).unwrap_or(usize::MAX),
            max_value_bytes: options.max_value_bytes,
        };
        Mem {
            shared: Arc::new(shared),
        }
    }

    /// One write: `decide` sees the present entry and the revision the write would take.
    fn write(
        &self,
        key: &str,
        decide: impl FnOnce(Option<&Entry>, Revision) -> Result<Event, Error>,
    ) -> Result<Event, Error> {
        let mut state = self.shared.state.lock();
        let event = decide(state.current.get(key), state.revision + 1)?;
        state.apply(event.clone());
        if state.history.len() > self.shared.max_revisions {
            state.forget_oldest();
        }
        // Under the lock, so that events are published in the order of their revisions.
        self.shared.tail.publish(vec![event.clone()]);
        Ok(event)
    }
}

impl Default for Mem {
    fn default() -> Self {
        Mem::new(&Options::default())
    }
}

impl Drop for Mem {
    fn drop(&mut self) {
        self.shared.tail.close();
    }
}

#[async_trait]
impl Store for Mem {
    async fn create(&self, key: &str, value: Bytes) -> Result<Entry, Error> {
        Error::check_length(key, value.len(), self.shared.max_value_bytes)?;
        let event = self.write(key, |present, revision| creation(present, key, value, revision))?;
        Ok(written(event))
    }

    async fn update(&self, key: &str, value: Bytes, expected: Revision) -> Result<Entry, Error> {
        Error::check_length(key, value.len(), self.shared.max_value_bytes)?;
        let event = self.write(key, |present, revision| {
            replacement(present, key, value, expected, revision)
        })?;
        Ok(written(event))
    }

    async fn delete(&self, key: &str, expected: Option<Revision>) -> Result<(Entry, Revision), Error> {
        let event = self.write(key, |present, revision| removal(present, key, expected, revision))?;
        let revision = event.revision();
        Ok((written(event), revision))
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        Ok(self.shared.state.lock().current.get(key).cloned())
    }

    async fn range(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        at: Option<Revision>,
    ) -> Result<Page, Error> {
        let state = self.shared.state.lock();
        let revision = at.unwrap_or(state.revision);
        state.check(revision)?;
        let below = state.at(prefix, revision);
        drop(state);
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = below.range::<str, _>((start, Bound::Unbounded)).map(|(_, entry)| entry);
        let limit = if limit == 0 { usize::MAX } else { limit };
        let entries: Vec<Entry> = rest.by_ref().take(limit).cloned().collect();
        let remaining = rest.count() as u64;
        Ok(Page {
            entries,
            revision,
            more: remaining > 0,
            remaining,
        })
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Watch, Error> {
        self.shared.state.lock().check(after)?;
        let history: Arc<dyn History> = Arc::<Shared>::clone(&self.shared);
        Ok(follow::follow(Arc::clone(&self.shared.tail), history, prefix, after))
    }

    async fn changes(&self, prefix: &str, after: Revision, until: Revision) -> Result<Stretch, Error> {
        self.shared.stretch(prefix, after, until).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        let mut state = self.shared.state.lock();
        if revision > state.revision {
            return Err(Error::Future {
                requested: revision,
                current: state.revision,
            });
        }
        while state.compacted < revision {
            state.forget_oldest();
        }
        Ok(())
    }

    async fn backup(&self, _to: &Path) -> Result<Revision, Error> {
        Err(Error::Unsupported {
            what: "a backup of a store in memory",
        })
    }

    fn revision(&self) -> Revision {
        self.shared.state.lock().revision
    }

    fn compacted(&self) -> Revision {
        self.shared.state.lock().compacted
    }
}

#[async_trait]
impl History for Shared {
    async fn stretch(&self, prefix: &str, after: Revision, until: Revision) -> Result<Stretch, Error> {
        let state = self.state.lock();
        state.check(after)?;
        let events = state
            .history
            .iter()
            .filter(|event| event.revision() > after && event.revision() <= until && event.key().starts_with(prefix));
        Ok(Stretch {
            events: events.cloned().collect(),
            reached: until,
        })
    }
}

impl State {
    fn apply(&mut self, event: Event) {
        self.revision = event.revision();
        match &event {
            Event::Put { entry, .. } => self.current.insert(Arc::clone(&entry.key), entry.clone()),
            Event::Delete { previous, .. } => self.current.remove(&previous.key),
        };
        self.history.push_back(event);
    }

    fn forget_oldest(&mut self) {
        if let Some(event) = self.history.pop_front() {
            self.compacted = event.revision();
        }
    }

    fn check(&self, revision: Revision) -> Result<(), Error> {
        reachable(revision, self.compacted, self.revision)
    }

    /// The state below `prefix` as of `revision`: the present with the events since then undone, newest first.
    fn at(&self, prefix: &str, revision: Revision) -> BTreeMap<Arc<str>, Entry> {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let present = self
            .current
            .range::<str, _>(from)
            .take_while(|(key, _)| key.starts_with(prefix));
        let mut below: BTreeMap<_, _> = present.map(|(key, entry)| (Arc::clone(key), entry.clone())).collect();
        let since = self
            .history
            .iter()
            .rev()
            .take_while(|event| event.revision() > revision);
        for event in since.filter(|event| event.key().starts_with(prefix)) {
            let before = match event {
                Event::Put { previous, .. } => previous.clone(),
                Event::Delete { previous, .. } => Some(previous.clone()),
            };
            match before {
                Some(entry) => below.insert(Arc::clone(&entry.key), entry),
                None => below.remove(event.key()),
            };
        }
        below
    }
}

/// Whether the state at `revision` can be read.
pub(crate) fn reachable(revision: Revision, compacted: Revision, current: Revision) -> Result<(), Error> {
    if revision < compacted {
        return Err(Error::Compacted {
            requested: revision,
            oldest: compacted,
        });
    }
    if revision > current {
        return Err(Error::Future {
            requested: revision,
            current,
        });
    }
    Ok(())
}

/// The event of creating `key`, which must be absent.
pub(crate) fn creation(present: Option<&Entry>, key: &str, value: Bytes, revision: Revision) -> Result<Event, Error> {
    if present.is_some() {
        return Err(Error::Exists { key: key.to_owned() });
    }
    let entry = Entry {
        key: key.into(),
        value,
        created: revision,
        modified: revision,
    };
    Ok(Event::Put { entry, previous: None })
}

/// The event of replacing `key`, which must be at `expected`.
pub(crate) fn replacement(
    present: Option<&Entry>,
    key: &str,
    value: Bytes,
    expected: Revision,
    revision: Revision,
) -> Result<Event, Error> {
    let previous = at_expected(present, key, Some(expected))?;
    let entry = Entry {
        key: Arc::clone(&previous.key),
        value,
        created: previous.created,
        modified: revision,
    };
    Ok(Event::Put {
        entry,
        previous: Some(previous),
    })
}

/// The event of removing `key`, which must be there, and at `expected` if given.
pub(crate) fn removal(
    present: Option<&Entry>,
    key: &str,
    expected: Option<Revision>,
    revision: Revision,
) -> Result<Event, Error> {
    let previous = at_expected(present, key, expected)?;
    Ok(Event::Delete { previous, revision })
}

fn at_expected(present: Option<&Entry>, key: &str, expected: Option<Revision>) -> Result<Entry, Error> {
    let Some(entry) = present else {
        return Err(Error::NotFound { key: key.to_owned() });
    };
    match expected {
        Some(expected) if expected != entry.modified => Err(Error::Conflict {
            key: key.to_owned(),
            expected,
            current: entry.modified,
        }),
        _ => Ok(entry.clone()),
    }
}

/// What the caller of a write gets back: the new entry, or the one that was removed.
pub(crate) fn written(event: Event) -> Entry {
    match event {
        Event::Put { entry, .. } => entry,
        Event::Delete { previous, .. } => previous,
    }
}
