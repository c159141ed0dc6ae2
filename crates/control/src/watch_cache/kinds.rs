//! Kinds that come and go while the server runs.

use super::{Caches, KindCache, Record, State};
use crate::registry::resource::{ROOT, Resource};
use catamaran_store::Error;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// How often the objects of a kind are read anew because some were written meanwhile.
const ATTEMPTS: u32 = 8;

impl Caches {
    /// Keeps objects of `storage` from now on. If there is a cache of the same kind already, its objects are read with the eyes
    /// of the new one (other defaults, other selectors), and its watchers are ended: they come back to the kind as it is now.
    pub(crate) async fn install(&self, storage: Arc<Resource>) -> Result<(), Error> {
        for attempt in 0.. {
            let page = self.store.range(&storage.prefix(None), None, 0, None).await?;
            let mut objects: BTreeMap<_, _> = page
                .entries
                .iter()
                .filter_map(|entry| {
                    let record = super::feed::readable(Record::of_entry(&storage, entry))?;
                    Some((Arc::clone(&entry.key), Arc::new(record)))
                })
                .collect();
            self.wait(page.revision).await;
            let _feeding = self.feeding.lock();
            let Some(old) = self.of(&storage) else {
                // A kind nobody served has no writers, so that its objects do not change while they are read. Should there be
                // some (left by a definition that was there before), they are taken over at a moment when nothing else is
                // written.
                let applied = self.applied();
                if page.revision != applied && !objects.is_empty() {
                    continue;
                }
                self.insert(&storage, State::new(objects, applied));
                return Ok(());
            };
            let state = old.state.read().clone();
            // Objects that were written since are as the kind was; under a storm of writes some stay so until they are written
            // again.
            let missed = Self::take_newer(&mut objects, &state);
            if missed && attempt < ATTEMPTS {
                continue;
            }
            self.insert(&storage, State::new(objects, state.last));
            old.closed.cancel();
            return Ok(());
        }
        Ok(())
    }

    /// Brings objects that were read from the store to the state of a cache that went on since. True if that was needed.
    fn take_newer(objects: &mut BTreeMap<Arc<str>, Arc<Record>>, state: &State) -> bool {
        let before = objects.len();
        objects.retain(|key, _| state.objects.contains_key(key));
        let mut missed = objects.len() != before;
        for (key, record) in &state.objects {
            let current = objects.get(key).is_some_and(|read| read.revision == record.revision);
            if !current {
                objects.insert(Arc::clone(key), Arc::clone(record));
                missed = true;
            }
        }
        missed
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
