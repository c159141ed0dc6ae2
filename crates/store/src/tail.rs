//! The newest events, shared by all live watchers.
//!
//! A queue per watcher would multiply a burst by the number of watchers, and the slowest one would decide how much
//! memory the store needs. So there is one tail with one bound: a watcher only remembers the first revision it has not
//! read, events nobody waits for are dropped at once, and when the bound pushes out an event somebody still needed,
//! that watcher (and no other) is cut off.
//!
//! ```text
//!   publish ──► [ 41 42 43 44 45 ]        pending of watcher a = 43: the tail must keep 43..
//!                     ▲       ▲           pending of watcher b = 45
//!                     a       b           pending of watcher c = none: read everything, sleeps
//! ```

use crate::{Error, Event, Options, Revision};
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// How many events one read hands over, so that a watcher far behind does not hold the lock for long.
const READ_EVENTS: usize = 1_024;

pub(crate) struct Tail {
    state: Mutex<State>,
    max_events: usize,
    max_bytes: usize,
}

struct State {
    published: Revision,
    closed: bool,
    /// Consecutive revisions, the last of which is `published`. May be empty.
    events: VecDeque<Event>,
    bytes: usize,
    watchers: BTreeMap<u64, Watcher>,
    next_watcher: u64,
}

struct Watcher {
    prefix: Arc<str>,
    /// Revisions up to here are not for this watcher: it read them elsewhere.
    floor: Revision,
    /// The first revision that matches and was not read.
    pending: Option<Revision>,
    waker: Option<Waker>,
}

impl Tail {
    pub(crate) fn new(published: Revision, options: &Options) -> Arc<Tail> {
        Arc::new(Tail {
            state: Mutex::new(State {
                published,
                closed: false,
                events: VecDeque::new(),
                bytes: 0,
                watchers: BTreeMap::new(),
                next_watcher: 0,
            }),
            max_events: options.tail_events.max(1),
            max_bytes: options.tail_bytes,
        })
    }

    /// The revision of the last published event.
    pub(crate) fn published(&self) -> Revision {
        self.state.lock().published
    }

    /// Appends events, whose revisions follow `published` without a gap, and wakes whom they concern.
    pub(crate) fn publish(&self, events: Vec<Event>) {
        let Some(last) = events.last().map(Event::revision) else {
            return;
        };
        let mut state = self.state.lock();
        debug_assert_eq!(
            events[0].revision(),
            state.published + 1,
            "revisions are published in order"
        );
        let wakers = state.note_pending(&events);
        state.published = last;
        state.bytes += events.iter().map(Event::weight).sum::<usize>();
        state.events.extend(events);
        state.drop_read();
        while state.events.len() > self.max_events || state.bytes > self.max_bytes {
            if !state.pop_front() {
                break;
            }
        }
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Ends all watches with `Error::Closed`.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let wakers: Vec<_> = state
            .watchers
            .values_mut()
            .filter_map(|watcher| watcher.waker.take())
            .collect();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Takes part from now on. Returns the revision up to which the caller must read history itself; everything after
    /// the greater of that and `after` will come through the registration.
    pub(crate) fn register(self: &Arc<Self>, prefix: Arc<str>, after: Revision) -> (Registration, Revision) {
        let mut state = self.state.lock();
        let id = state.next_watcher;
        state.next_watcher += 1;
        let published = state.published;
        let floor = published.max(after);
        state.watchers.insert(
            id,
            Watcher {
                prefix,
                floor,
                pending: None,
                waker: None,
            },
        );
        let registration = Registration {
            tail: Arc::clone(self),
            id,
        };
        (registration, published)
    }
}

impl State {
    fn note_pending(&mut self, events: &[Event]) -> Vec<Waker> {
        let mut wakers = Vec::new();
        for watcher in self.watchers.values_mut().filter(|watcher| watcher.pending.is_none()) {
            watcher.pending = events.iter().find(|event| watcher.wants(event)).map(Event::revision);
            if watcher.pending.is_some() {
                wakers.extend(watcher.waker.take());
            }
        }
        wakers
    }

    /// Forgets what no watcher has to read any more.
    fn drop_read(&mut self) {
        let needed = self.watchers.values().filter_map(|watcher| watcher.pending).min();
        while self
            .first()
            .is_some_and(|first| needed.is_none_or(|needed| first < needed))
        {
            self.pop_front();
        }
        if self.events.is_empty() && self.events.capacity() > READ_EVENTS {
            self.events.shrink_to(READ_EVENTS);
        }
    }

    fn first(&self) -> Option<Revision> {
        self.events.front().map(Event::revision)
    }

    fn pop_front(&mut self) -> bool {
        match self.events.pop_front() {
            Some(event) => {
                self.bytes -= event.weight();
                true
            }
            None => false,
        }
    }

    /// What watcher `id` has not read, at most [`READ_EVENTS`]; `None` when there is nothing.
    fn read(&mut self, id: u64) -> Option<Result<Vec<Event>, Error>> {
        let watcher = self.watchers.get_mut(&id)?;
        let pending = watcher.pending?;
        let first = match self.events.front() {
            Some(event) if event.revision() <= pending => event.revision(),
            _ => return Some(Err(Error::Lagged { at: pending - 1 })),
        };
        let skip = usize::try_from(pending - first).unwrap_or(usize::MAX);
        let mut unread = self.events.iter().skip(skip).filter(|event| watcher.wants(event));
        let read: Vec<Event> = unread.by_ref().take(READ_EVENTS).cloned().collect();
        watcher.pending = unread.next().map(Event::revision);
        Some(Ok(read))
    }
}

impl Watcher {
    fn wants(&self, event: &Event) -> bool {
        event.revision() > self.floor && event.key().starts_with(&*self.prefix)
    }
}

/// A live watcher's place in the tail; given up when dropped.
pub(crate) struct Registration {
    tail: Arc<Tail>,
    id: u64,
}

impl Registration {
    pub(crate) fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<Vec<Event>, Error>> {
        let mut state = self.tail.state.lock();
        if let Some(read) = state.read(self.id) {
            return Poll::Ready(read);
        }
        if state.closed {
            return Poll::Ready(Err(Error::Closed));
        }
        if let Some(watcher) = state.watchers.get_mut(&self.id) {
            watcher.waker = Some(context.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.tail.state.lock().watchers.remove(&self.id);
    }
}
