//! Kinds that come and go while the server runs.

use super::{Caches, KindCache, Record, State};
use crate::registry::resource::{ROOT, Resource};
use catamaran_store::Error;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

impl Caches {
    /// Keeps objects of `storage` from now on. If there is a cache of the same kind already, its objects and its tail move over
    /// and its watchers are ended: they come back to the kind as it is now.
    pub(crate) async fn install(&self, storage: Arc<Resource>) -> Result<(), Error> {
        if self.of(&storage).is_some() {
            self.replace(&storage);
            return Ok(());
        }
        loop {
            let page = self.store.range(&storage.prefix(None), None, 0, None).await?;
            let objects: BTreeMap<_, _> = page
                .entries
                .iter()
                .filter_map(|entry| {
                    let record = super::feed::readable(Record::of_entry(&storage, entry))?;
                    Some((Arc::clone(&entry.key), Arc::new(record)))
                })
                .collect();
            self.wait(page.revision).await;
            let _feeding = self.feeding.lock();
            // A kind nobody served has no writers, so that its objects do not change while they are read. Should there be some
            // (left by a definition that was there before), they are taken over at a moment when nothing else is written.
            let applied = self.applied();
            if page.revision != applied && !objects.is_empty() {
                continue;
            }
            let state = State::new(objects, applied);
            self.insert(&storage, state);
            return Ok(());
        }
    }

    /// Forgets a kind. Its watchers are ended.
    pub(crate) fn uninstall(&self, resource: &Resource) {
        let _feeding = self.feeding.lock();
        let mut kinds = self.kinds.write();
        let mut changed = HashMap::clone(&kinds);
        if let Some(gone) = changed.remove(resource.segment()) {
            gone.closed.cancel();
        }
        *kinds = Arc::new(changed);
    }

    fn replace(&self, storage: &Arc<Resource>) {
        let _feeding = self.feeding.lock();
        let Some(old) = self.of(storage) else { return };
        let mut state = old.state.read().clone();
        if old.resource.field_paths != storage.field_paths {
            for record in state.objects.values_mut() {
                match record.reread(storage) {
                    Ok(reread) => *record = Arc::new(reread),
                    Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "an object is not JSON"),
                }
            }
            // What watchers would be told of the past was judged by the old selectors.
            state = State::new(state.objects, state.last);
        }
        self.insert(storage, state);
        old.closed.cancel();
    }

    fn insert(&self, storage: &Arc<Resource>, state: State) {
        debug_assert!(storage.prefix(None).starts_with(ROOT));
        let last = state.last;
        let cache = KindCache::new(Arc::clone(storage), self.applied.subscribe(), state);
        cache.changed.send_replace(last);
        let mut kinds = self.kinds.write();
        let mut changed = HashMap::clone(&kinds);
        changed.insert(storage.segment().to_owned(), Arc::new(cache));
        *kinds = Arc::new(changed);
    }
}
