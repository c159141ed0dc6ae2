//! Configuration in the form that decisions need: made from all objects of a kind, and anew only when one of them changed.

use super::World;
use crate::watch_cache::Record;
use catamaran_store::Revision;
use parking_lot::Mutex;
use std::sync::Arc;

/// Something made from all objects of a kind.
pub(super) struct Derived<T> {
    api_version: &'static str,
    plural: &'static str,
    make: fn(&[Arc<Record>]) -> T,
    made: Mutex<Option<(Revision, Arc<T>)>>,
}

impl<T> Derived<T> {
    pub(super) const fn new(api_version: &'static str, plural: &'static str, make: fn(&[Arc<Record>]) -> T) -> Self {
        Derived {
            api_version,
            plural,
            make,
            made: Mutex::new(None),
        }
    }

    /// As the cache shows it now.
    pub(super) fn get(&self, world: &World<'_>) -> Arc<T> {
        let cache = world.registry.peek_cache(self.api_version, self.plural);
        // Read before the objects: a change in between makes it anew once more, and none is missed.
        let revision = cache.map_or(0, |cache| cache.last_changed());
        let mut made = self.made.lock();
        if let Some((of, made)) = &*made
            && *of == revision
        {
            return Arc::clone(made);
        }
        let fresh = Arc::new((self.make)(&world.list(self.api_version, self.plural, None)));
        *made = Some((revision, Arc::clone(&fresh)));
        fresh
    }
}
