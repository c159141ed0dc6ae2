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
            if let Some(record) = readable(Record::of_entry(&kind.resource, entry)) {
                let own = objects.entry(kind.resource.segment()).or_default();
                own.insert(Arc::clone(&entry.key), Arc::new(record));
            }
        }
        for (segment, kind) in kinds.iter() {
            let objects = objects.remove(segment.as_str()).unwrap_or_default();
            *kind.state.write() = State::new(objects, page.revision);
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
                if !touched.iter().any(|other| Arc::ptr_eq(other, kind)) {
                    touched.push(kind);
                }
            }
        }
        self.applied.send_replace(upto);
        for kind in touched {
            kind.notify();
        }
    }
}

/// What an event of the store means for its kind; `None` if the bytes cannot be read.
pub(super) fn step(kind: &KindCache, event: &Event) -> Option<Step> {
    match event {
        Event::Put { entry, .. } => {
            let old = kind.state.read().objects.get(&entry.key).cloned();
            let new = Arc::new(readable(Record::of_entry(&kind.resource, entry))?);
            let change = if old.is_some() { Change::Modified } else { Change::Added };
            Some(Step { change, old, new })
        }
        Event::Delete { previous, revision } => {
            let old = kind.state.read().objects.get(&previous.key).cloned()?;
            let new = Arc::new(readable(old.deleted(&kind.resource, &previous.value, *revision))?);
            Some(Step {
                change: Change::Deleted,
                old: Some(old),
                new,
            })
        }
    }
}

/// Bytes this program cannot read are left alone in the store and not served: one damaged object must not take the
/// server down, and whoever wrote it may still need it.
pub(super) fn readable<E: std::error::Error + 'static>(record: Result<Record, E>) -> Option<Record> {
    record
        .inspect_err(|error| tracing::error!(error = error as &dyn std::error::Error, "skipping an object"))
        .ok()
}
