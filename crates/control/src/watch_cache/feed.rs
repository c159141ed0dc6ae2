//! The one writer of the caches: follows the store.

use super::{Caches, KindCache, Record, State, Step, segment_of};
use crate::registry::resource::{Change, ROOT};
use catamaran_store::{Error, Event};
use futures::StreamExt as _;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long to wait before the store is asked again after it failed.
const RETRY: Duration = Duration::from_millis(500);

impl Caches {
    /// Takes over the present state of the store: at start, before anything is served, and after a gap in its watch.
    /// Watchers that have not seen all of it have to start anew, as intermediate changes are not known.
    pub(crate) async fn load(&self) -> Result<(), Error> {
        let page = self.store.range(ROOT, None, 0, None).await?;
        let mut feeding = self.feeding.lock();
        feeding.miss();
        let kinds = self.kinds.read();
        let mut objects: HashMap<&str, BTreeMap<Arc<str>, Arc<Record>>> = HashMap::new();
        for entry in &page.entries {
            let Some(kind) = Self::find(&kinds, &entry.key) else {
                continue;
            };
            let own = objects.entry(kind.resource.segment()).or_default();
            own.insert(Arc::clone(&entry.key), Arc::new(Record::read(&kind.resource, entry)));
        }
        for (segment, kind) in kinds.iter() {
            let objects = objects.remove(segment.as_str()).unwrap_or_default();
            let state = State::new(objects, page.revision);
            kind.count_broken(state.broken.len());
            *kind.state.write() = state;
        }
        self.applied.send_replace(page.revision);
        for kind in kinds.values() {
            kind.notify();
        }
        Ok(())
    }

    /// Follows the store until `shutdown`. Then nothing follows, and watches end.
    pub(crate) async fn follow(self: Arc<Self>, shutdown: CancellationToken) {
        self.follow_until(&shutdown).await;
        self.ended.store(true, Ordering::Release);
        // Whoever waits for what is not applied any more need not.
        self.applied.send_modify(|_| {});
        self.kinds.read().values().for_each(|kind| kind.notify());
    }

    async fn follow_until(&self, shutdown: &CancellationToken) {
        loop {
            let error = tokio::select! {
                () = shutdown.cancelled() => return,
                error = self.follow_once() => error,
            };
            if matches!(error, Error::Closed) {
                return;
            }
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the watch of the store ended; reading it anew"
            );
            if let Err(error) = self.load().await {
                tracing::error!(error = &error as &dyn std::error::Error, "the store cannot be read");
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep(RETRY) => {}
                }
            }
        }
    }

    async fn follow_once(&self) -> Error {
        let mut watch = match self.store.watch(ROOT, self.applied()).await {
            Ok(watch) => watch,
            Err(error) => return error,
        };
        while let Some(batch) = watch.next().await {
            match batch {
                Ok(events) => self.apply_all(events),
                Err(error) => return error,
            }
        }
        Error::Closed
    }

    fn apply_all(&self, events: Vec<Event>) {
        let mut feeding = self.feeding.lock();
        let kinds = self.kinds.read();
        let mut touched: Vec<&Arc<KindCache>> = Vec::new();
        let mut upto = self.applied();
        for event in events {
            let (key, revision) = match &event {
                Event::Put { entry, .. } => (&entry.key, entry.modified),
                Event::Delete { previous, revision } => (&previous.key, *revision),
            };
            upto = upto.max(revision);
            if !feeding.is_empty()
                && let Some(segment) = segment_of(key)
            {
                feeding.note(segment, &event);
            }
            let Some(kind) = Self::find(&kinds, key) else {
                continue;
            };
            if let Some(step) = step(kind, &event) {
                kind.apply(step);
            }
            if matches!(event, Event::Delete { .. }) {
                kind.forget_broken(key, revision);
            }
            if !touched.iter().any(|other| Arc::ptr_eq(other, kind)) {
                touched.push(kind);
            }
        }
        self.applied.send_replace(upto);
        for kind in touched {
            kind.notify();
        }
    }
}

/// What an event of the store means for its kind. An object that became unreadable is gone, and what stands for it says so;
/// `None`: one that was so before is gone for good.
pub(super) fn step(kind: &KindCache, event: &Event) -> Option<Step> {
    let resource = &kind.resource;
    let old = kind.state.read().objects.get(event.key()).cloned();
    let (change, new) = match event {
        Event::Put { entry, .. } => {
            let new = Record::read(resource, entry);
            let change = match (&old, new.failure()) {
                (_, Some(_)) => Change::Deleted,
                (Some(_), None) => Change::Modified,
                (None, None) => Change::Added,
            };
            (change, new)
        }
        Event::Delete { previous, revision } => {
            let deleted = old.as_ref()?.deleted(resource, &previous.value, *revision);
            let new = deleted.unwrap_or_else(|error| Record::broken(resource, &previous.key, *revision, &error));
            (Change::Deleted, new)
        }
    };
    Some(Step {
        change,
        old,
        new: Arc::new(new),
    })
}
