//! Kinds that come and go while the server runs.
//!
//! A kind is installed over whatever the store has of it: nothing, objects of a definition that was there before and left
//! them, or objects that are served and written to right now. They are read from the store, and what is written while they are
//! read is caught on its way through the feed, as it is stored; with both, the new cache starts without a gap, however busy the
//! rest of the store is.

use super::feed::step;
use super::{Caches, KindCache, Record, State, TAIL_BYTES, TAIL_CHANGES};
use crate::registry::resource::{ROOT, Resource};
use catamaran_store::{Error, Event, Page};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// What happens to kinds that are being installed, by the segment of their keys.
#[derive(Default)]
pub(super) struct Captures(HashMap<String, Capture>);

/// The changes of one kind since its objects began to be read.
#[derive(Default)]
struct Capture {
    events: Vec<Event>,
    bytes: usize,
    /// Some changes are missing: the objects have to be read anew.
    broken: bool,
}

impl Captures {
    /// Notes a change, if anybody wants to know. At most as much as the tail of a kind holds.
    pub(super) fn note(&mut self, segment: &str, event: &Event) {
        let Some(capture) = self.0.get_mut(segment) else {
            return;
        };
        capture.bytes += match event {
            Event::Put { entry, .. } => entry.value.len(),
            Event::Delete { previous, .. } => previous.value.len(),
        };
        if capture.events.len() >= TAIL_CHANGES || capture.bytes > TAIL_BYTES {
            capture.broken = true;
            capture.events.clear();
        }
        if !capture.broken {
            capture.events.push(event.clone());
        }
    }

    /// Changes were missed by the feed itself.
    pub(super) fn miss(&mut self) {
        for capture in self.0.values_mut() {
            capture.broken = true;
            capture.events.clear();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Ends the capture of a kind, whatever becomes of its installation.
struct Capturing<'c> {
    caches: &'c Caches,
    segment: &'c str,
}

impl Drop for Capturing<'_> {
    fn drop(&mut self) {
        self.caches.feeding.lock().0.remove(self.segment);
    }
}

impl Caches {
    /// Keeps objects of `storage` from now on. If there is a cache of the same kind already, its objects are read with the eyes
    /// of the new one (other defaults, other selectors), and its watchers are ended: they come back to the kind as it is now.
    /// One installation of a kind at a time.
    pub(crate) async fn install(&self, storage: Arc<Resource>) -> Result<(), Error> {
        loop {
            let capturing = self.capture(&storage);
            let page = self.store.range(&storage.prefix(None), None, 0, None).await?;
            let revision = page.revision;
            let objects = read(&storage, &page);
            drop(page);
            // What is in the page has passed the feed then, and what comes after is caught.
            self.wait(revision).await;
            if self.publish(&storage, State::new(objects, revision)) {
                return Ok(());
            }
            drop(capturing);
        }
    }

    fn capture<'c>(&'c self, storage: &'c Resource) -> Capturing<'c> {
        let segment = storage.segment();
        self.feeding.lock().0.insert(segment.to_owned(), Capture::default());
        Capturing { caches: self, segment }
    }

    /// Brings a state that was read up to date and makes it the kind's. False if that cannot be done.
    fn publish(&self, storage: &Arc<Resource>, state: State) -> bool {
        debug_assert!(storage.prefix(None).starts_with(ROOT));
        let mut feeding = self.feeding.lock();
        let Some(capture) = feeding.0.remove(storage.segment()).filter(|capture| !capture.broken) else {
            return false;
        };
        let read = state.last;
        let cache = KindCache::new(Arc::clone(storage), self.applied.subscribe(), state);
        for event in capture.events.iter().filter(|event| event.revision() > read) {
            if let Some(step) = step(&cache, event) {
                cache.apply(step);
            }
            if let Event::Delete { previous, revision } = event {
                cache.forget_broken(&previous.key, *revision);
            }
        }
        cache.notify();
        let before = self.kinds.write().insert(storage.segment().to_owned(), Arc::new(cache));
        if let Some(before) = before {
            before.close();
        }
        true
    }

    /// Forgets a kind. Its watchers are ended.
    pub(crate) fn uninstall(&self, resource: &Resource) {
        let _feeding = self.feeding.lock();
        if let Some(gone) = self.kinds.write().remove(resource.segment()) {
            gone.close();
        }
    }
}

fn read(storage: &Resource, page: &Page) -> BTreeMap<Arc<str>, Arc<Record>> {
    let record = |entry| Arc::new(Record::read(storage, entry));
    let entries = page.entries.iter();
    entries.map(|entry| (Arc::clone(&entry.key), record(entry))).collect()
}

#[cfg(test)]
mod tests;
