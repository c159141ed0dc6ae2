//! How many objects there are, and what all of them are: for those parts of the server that follow a few kinds in memory.

use super::Registry;
use catamaran_store::Revision;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

impl Registry {
    /// How many objects of a kind there are; 0 if it is not served.
    pub(crate) fn count(&self, api_version: &str, plural: &str) -> u64 {
        self.resource(api_version, plural)
            .and_then(|resource| self.caches.of(&resource))
            .map_or(0, |cache| cache.len() as u64)
    }

    /// Group, plural and number of the objects of every stored kind.
    pub(crate) fn counts(&self) -> Vec<(String, String, u64)> {
        let table = self.table();
        let stored = table
            .resources()
            .iter()
            .filter(|resource| resource.storage().api_version == resource.api_version);
        stored
            .filter_map(|resource| {
                let count = self.caches.of(resource)?.len() as u64;
                Some((resource.info.group.to_string(), resource.info.plural.to_string(), count))
            })
            .collect()
    }

    /// Group, plural and how often an object could not be read, of kinds with which that happened.
    pub(crate) fn decode_errors(&self) -> Vec<(String, String, u64)> {
        let table = self.table();
        let all = table.resources().iter().filter_map(|resource| {
            let count = self.caches.of(resource)?.decode_errors();
            let is_stored = resource.storage().api_version == resource.api_version;
            (count > 0 && is_stored).then(|| (resource.info.group.to_string(), resource.info.plural.to_string(), count))
        });
        all.collect()
    }

    /// Wakes up after every change of a kind; `None` if it is not served.
    pub(crate) fn changes_of(&self, api_version: &str, plural: &str) -> Option<watch::Receiver<Revision>> {
        let resource = self.resource(api_version, plural)?;
        Some(self.caches.of(&resource)?.subscribe())
    }

    /// All objects of a kind as they are in the cache. Those that cannot be read as a `K` are left out.
    pub(crate) fn read_all<K: DeserializeOwned>(&self, api_version: &str, plural: &str) -> Vec<K> {
        let records = self.peek_all(api_version, plural, None);
        records
            .iter()
            .filter_map(|record| {
                serde_json::from_slice(&record.json())
                    .inspect_err(|error| tracing::warn!(%error, key = &*record.key, "an object cannot be read"))
                    .ok()
            })
            .collect()
    }
}
