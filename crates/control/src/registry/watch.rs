//! GET of a collection with `watch`: changes as they happen, seen through a selector.

use super::convert::shown_steps;
use super::filter::Filter;
use super::list::{VersionMatch, invalid_options, revision};
use super::resource::{Change, Resource};
use super::{Registry, Target, unreadable};
use crate::watch_cache::{Caches, KindCache, Record, Step, TooOld};
use catamaran_api::{Errors, Path, Status};
use catamaran_store::Revision;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};

/// Changes taken from the tail at a time.
const BATCH: usize = 256;
/// How often a watcher that wants bookmarks gets one.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// A watch without a timeout of its own ends after this and something, so that clients spread over servers again.
const LONGEST: Duration = Duration::from_secs(30 * 60);
const FUTURE_PATIENCE: Duration = Duration::from_secs(3);

/// What a watch asks for.
#[derive(Debug)]
pub(crate) struct WatchOptions {
    pub(crate) filter: Filter,
    /// Empty or "0": begin with the present objects.
    pub(crate) resource_version: String,
    pub(crate) version_match: Option<VersionMatch>,
    pub(crate) bookmarks: bool,
    pub(crate) send_initial_events: Option<bool>,
    pub(crate) timeout: Option<Duration>,
}

/// One event for the client.
#[derive(Debug)]
pub(crate) enum Tick {
    /// An object changed, or is there at the start.
    Object(Change, Arc<Record>),
    /// An object left the selection: as it was, to be shown with the version of the change.
    Left(Arc<Record>, Revision),
    /// Everything up to this version was sent. The first after the initial objects is marked as such.
    Bookmark {
        revision: Revision,
        initial_events_end: bool,
    },
    /// The watch cannot go on; the last event.
    Error(Status),
}

/// A watch in progress.
///
/// Hundreds of them wake up for one change, so waiting costs little: one place in the queue of the kind's changes, through
/// which the end of the kind and of the server are told as well, and one timer that stays where it is from event to event.
pub(crate) struct Watching {
    resource: Arc<Resource>,
    cache: Arc<KindCache>,
    /// For what the cache has forgotten already.
    caches: Arc<Caches>,
    changed: watch::Receiver<Revision>,
    filter: Filter,
    prefix: String,
    /// Everything up to here was sent or is not of interest.
    seen: Revision,
    /// Why the watch is over before it begins. Like a version that is too old, this is an event and no answer of its own:
    /// only then do all clients list anew, some try the same version for ever otherwise.
    failure: Option<Status>,
    initial: VecDeque<Arc<Record>>,
    /// Send the bookmark that ends the initial objects.
    initial_end: bool,
    bookmarks: bool,
    next_bookmark: Instant,
    deadline: Instant,
    /// Goes off at whichever of the two is next.
    alarm: Pin<Box<Sleep>>,
    over: bool,
}

impl Registry {
    pub(crate) async fn watch(&self, target: &Target, options: WatchOptions) -> Result<Watching, Status> {
        check(&options)?;
        let cache = self.cache(&target.resource)?;
        let changed = cache.subscribe();
        let prefix = target.resource.prefix(target.namespace.as_deref());
        let version = match options.resource_version.as_str() {
            "" | "0" => None,
            version => Some(revision(version).map_err(Status::unknown)?),
        };
        let mut failure = None;
        if options.resource_version.is_empty() {
            self.caches.fresh().await?;
        }
        // A version that does not come is one of another history, such as that before a backup was restored.
        if let Some(revision) = version
            && self.caches.wait_for(revision, FUTURE_PATIENCE).await.is_err()
        {
            let applied = self.caches.applied();
            failure = Some(Status::expired(format!(
                "resource version {revision} was never reached, the present one is {applied}"
            )));
        }
        let from_start = options.send_initial_events.unwrap_or(version.is_none());
        let (initial, seen) = if from_start {
            let converts = target.resource.converter.is_some();
            let wanted = |record: &Record| converts || options.filter.matches(record);
            if let Some(broken) = cache.broken(&prefix) {
                return Err(unreadable(&broken));
            }
            let selection = cache.select(&prefix, None, 0, wanted);
            let mut records = self.shown(&target.resource, selection.records).await?;
            if converts {
                records.retain(|record| options.filter.matches(record));
            }
            (VecDeque::from(records), selection.revision)
        } else {
            (VecDeque::new(), version.unwrap_or_else(|| self.caches.applied()))
        };
        let now = Instant::now();
        let next_bookmark = now + BOOKMARK_EVERY;
        let deadline = now + options.timeout.unwrap_or_else(spread_timeout);
        Ok(Watching {
            resource: Arc::clone(&target.resource),
            cache,
            caches: Arc::clone(&self.caches),
            changed,
            filter: options.filter,
            prefix,
            seen,
            failure,
            initial,
            initial_end: options.send_initial_events == Some(true) && options.bookmarks,
            bookmarks: options.bookmarks,
            next_bookmark,
            deadline,
            alarm: Box::pin(tokio::time::sleep_until(next_alarm(
                options.bookmarks,
                next_bookmark,
                deadline,
            ))),
            over: false,
        })
    }
}

impl Watching {
    /// The resource that is watched.
    pub(crate) fn resource(&self) -> &Arc<Resource> {
        &self.resource
    }

    /// When it ends, if nothing else ends it.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The next events, at least one; `None` at the end of the watch. Nothing is lost if it is dropped and called again.
    pub(crate) async fn next(&mut self) -> Option<Vec<Tick>> {
        if self.over {
            return None;
        }
        if let Some(status) = self.failure.take() {
            self.over = true;
            return Some(vec![Tick::Error(status)]);
        }
        loop {
            if !self.initial.is_empty() {
                let count = self.initial.len().min(BATCH);
                return Some(
                    self.initial
                        .drain(..count)
                        .map(|record| Tick::Object(Change::Added, record))
                        .collect(),
                );
            }
            if std::mem::take(&mut self.initial_end) {
                return Some(vec![Tick::Bookmark {
                    revision: self.seen,
                    initial_events_end: true,
                }]);
            }
            // What comes after this mark wakes it up again. All else that may end the wait is looked at in between, also for a
            // watcher that always finds something, and so never gets to wait.
            self.changed.mark_unchanged();
            if self.caches.ended() {
                return self.end();
            }
            let closed = self.cache.closed().is_cancelled();
            let now = Instant::now();
            if now >= self.deadline {
                return self.last().await;
            }
            let ticks = self.drain().await;
            if !ticks.is_empty() {
                return Some(ticks);
            }
            // What happened before the end is told by now, such as the deletion of the last objects.
            if closed {
                return self.end();
            }
            if self.bookmarks && now >= self.next_bookmark {
                return Some(self.bookmark());
            }
            tokio::select! {
                biased;
                result = self.changed.changed() => if result.is_err() { return self.end() },
                () = self.alarm.as_mut() => {}
            }
        }
    }

    /// Tells how far this watch got, and when that is to be told next.
    fn bookmark(&mut self) -> Vec<Tick> {
        self.next_bookmark += BOOKMARK_EVERY;
        let next = next_alarm(self.bookmarks, self.next_bookmark, self.deadline);
        self.alarm.as_mut().reset(next);
        vec![Tick::Bookmark {
            revision: self.seen,
            initial_events_end: false,
        }]
    }

    /// Before a watch ends as planned, its client learns how far it got.
    async fn last(&mut self) -> Option<Vec<Tick>> {
        if !self.bookmarks {
            return self.end();
        }
        let mut ticks = self.drain().await;
        if !self.over {
            ticks.push(Tick::Bookmark {
                revision: self.seen,
                initial_events_end: false,
            });
            self.over = true;
        }
        Some(ticks)
    }

    fn end(&mut self) -> Option<Vec<Tick>> {
        self.over = true;
        None
    }

    /// What there is for this watcher now.
    async fn drain(&mut self) -> Vec<Tick> {
        loop {
            let (steps, more) = match self.next_steps().await {
                Ok(next) => next,
                Err(status) => {
                    self.over = true;
                    return vec![Tick::Error(status)];
                }
            };
            let mut ticks = Vec::with_capacity(steps.len());
            for step in &steps {
                ticks.extend(self.seen_through_filter(step));
                // What follows cannot be told without it.
                if matches!(ticks.last(), Some(Tick::Error(_))) {
                    self.over = true;
                    return ticks;
                }
            }
            if !more || !ticks.is_empty() {
                return ticks;
            }
        }
    }

    /// The next steps, from the tail in memory, or from the store's history for a watcher that fell behind it: one that was
    /// slow, or was away while the server was started anew. Also, whether there may be more at once.
    async fn next_steps(&mut self) -> Result<(Vec<Arc<Step>>, bool), Status> {
        let (steps, reached, more) = match self.cache.tail(self.seen, BATCH) {
            Ok(tail) => {
                let more = tail.steps.len() == BATCH;
                (tail.steps, tail.upto, more)
            }
            Err(TooOld) => {
                let (steps, reached) = self.caches.past(&self.cache, &self.prefix, self.seen).await?;
                (steps, reached, true)
            }
        };
        let steps = shown_steps(&self.resource, steps).await?;
        // Not before: whoever gives up waiting for a conversion has not seen them.
        self.seen = reached;
        Ok((steps, more))
    }

    fn seen_through_filter(&self, step: &Step) -> Option<Tick> {
        if !step.new.key.starts_with(&self.prefix) {
            return None;
        }
        if step.new.failure().is_some() {
            let named = self.filter.name.as_deref();
            let concerns = named.is_none_or(|name| name == step.new.name());
            return concerns.then(|| Tick::Error(unreadable(&step.new)));
        }
        let before = step.old.as_ref().is_some_and(|old| self.filter.matches(old));
        if step.change == Change::Deleted {
            return before.then(|| Tick::Object(Change::Deleted, Arc::clone(&step.new)));
        }
        match (before, self.filter.matches(&step.new)) {
            (false, true) => Some(Tick::Object(Change::Added, Arc::clone(&step.new))),
            (true, true) => Some(Tick::Object(Change::Modified, Arc::clone(&step.new))),
            (true, false) => Some(Tick::Left(Arc::clone(step.old.as_ref()?), step.revision())),
            (false, false) => None,
        }
    }
}

fn next_alarm(bookmarks: bool, next_bookmark: Instant, deadline: Instant) -> Instant {
    if bookmarks {
        deadline.min(next_bookmark)
    } else {
        deadline
    }
}

/// Half an hour to an hour, so that not all watches end at once.
fn spread_timeout() -> Duration {
    let random = u64::from(uuid::Uuid::new_v4().as_bytes()[0]);
    LONGEST + LONGEST * u32::try_from(random).unwrap_or(0) / 256
}

fn check(options: &WatchOptions) -> Result<(), Status> {
    let mut errors = Errors::new();
    let version_match = Path::new("resourceVersionMatch");
    let sends = options.send_initial_events.is_some();
    if sends && options.version_match != Some(VersionMatch::NotOlderThan) {
        let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        errors.forbidden(&version_match, why);
    }
    if options.version_match.is_some() && !sends {
        let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
        errors.forbidden(&version_match, why);
    }
    if options.version_match == Some(VersionMatch::Exact) {
        errors.not_supported(&version_match, "Exact", &["NotOlderThan"]);
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(invalid_options(&errors))
    }
}
