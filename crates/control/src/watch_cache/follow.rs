//! Structures that follow a watch cache without a task of their own: whoever asks finds out for the price of a shared
//! lock whether anything happened, and applies it first.

use super::{Caches, KindCache, Record, Step};
use crate::registry::Table;
use catamaran_store::Revision;
use std::sync::Arc;
use tokio::sync::watch;

/// The changes of one kind.
pub(crate) struct Follower {
    cache: Option<Arc<KindCache>>,
}

/// Up to where changes were seen.
#[derive(Default)]
pub(crate) struct Position(Option<Revision>);

/// What happened since.
pub(crate) enum News {
    Steps(Vec<Arc<Step>>),
    /// Too much to tell step by step: this is how it is now.
    Anew(Vec<Arc<Record>>),
}

impl Follower {
    /// Of a built-in resource. One that is not served never changes.
    pub(crate) fn new(table: &Table, caches: &Caches, api_version: &str, plural: &str) -> Self {
        let cache = table.find(api_version, plural).and_then(|resource| caches.of(resource));
        Follower { cache }
    }

    /// Has something happened since `position`?
    pub(crate) fn is_behind(&self, position: &Position) -> bool {
        let Some(cache) = &self.cache else { return false };
        position.0.is_none_or(|seen| !cache.unchanged_since(seen))
    }

    /// What happened since `position`, which moves on.
    pub(crate) fn news(&self, position: &mut Position) -> News {
        let Some(cache) = &self.cache else {
            return News::Steps(Vec::new());
        };
        if let Some(seen) = position.0
            && let Ok(tail) = cache.tail(seen, usize::MAX)
        {
            position.0 = Some(tail.steps.last().map_or(seen, |step| step.revision()));
            return News::Steps(tail.steps);
        }
        let selection = cache.select(&cache.resource.prefix(None), None, 0, |_| true);
        position.0 = Some(selection.revision);
        News::Anew(selection.records)
    }

    /// Wakes up after every change; `None` if the resource is not served.
    pub(crate) fn subscribe(&self) -> Option<watch::Receiver<Revision>> {
        self.cache.as_ref().map(|cache| cache.subscribe())
    }

    /// All objects, as they are now.
    pub(crate) fn records(&self) -> Vec<Arc<Record>> {
        match &self.cache {
            Some(cache) => cache.select(&cache.resource.prefix(None), None, 0, |_| true).records,
            None => Vec::new(),
        }
    }

    pub(crate) fn get(&self, namespace: Option<&str>, name: &str) -> Option<Arc<Record>> {
        self.cache.as_ref()?.get(namespace, name)
    }
}
