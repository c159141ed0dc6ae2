//! Which resources are served at the moment.
//!
//! Built-in kinds are there from the start; kinds that are defined at run time come and go. Requests look up one resource, and
//! a kind that comes or goes touches its own places only: however many kinds there are, defining one costs the same. Whoever
//! needs all of them (discovery, OpenAPI) looks at an immutable snapshot, which is made when somebody asks for it and not when
//! kinds change; its generation tells whether what was derived from it is still right.

use super::resource::Resource;
use super::{Registry, store_failed};
use catamaran_api::Status;
use parking_lot::RwLock;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;

/// By API version (`apps/v1`), then by plural.
type Paths = HashMap<String, HashMap<String, Arc<Resource>>>;

/// A snapshot of all served resources.
pub(crate) struct Table {
    /// Grows with every change.
    pub(crate) generation: u64,
    /// Built-in ones first, then those defined at run time, by group and plural.
    resources: Vec<Arc<Resource>>,
    paths: Paths,
}

impl Table {
    pub(crate) fn new(generation: u64, resources: Vec<Arc<Resource>>) -> Self {
        let mut paths = Paths::new();
        for resource in &resources {
            enter(&mut paths, resource);
        }
        Table {
            generation,
            resources,
            paths,
        }
    }

    pub(crate) fn resources(&self) -> &[Arc<Resource>] {
        &self.resources
    }

    /// The resource at `/api/v1/pods` (`v1`, `pods`) or `/apis/apps/v1/deployments` (`apps/v1`, `deployments`).
    pub(crate) fn find(&self, api_version: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.paths.get(api_version)?.get(plural)
    }

    /// The resource whose objects state this version and kind.
    pub(crate) fn of_kind(&self, api_version: &str, kind: &str) -> Option<&Arc<Resource>> {
        of_kind(&self.paths, api_version, kind)
    }
}

/// What is served, as it changes.
pub(super) struct Served {
    current: RwLock<Current>,
    changed: watch::Sender<u64>,
    /// How many snapshots were made, for those who watch over the work that is done.
    snapshots: AtomicU64,
}

struct Current {
    generation: u64,
    builtin: Vec<Arc<Resource>>,
    /// All served versions of a defined kind, by group and plural.
    defined: BTreeMap<(String, String), Vec<Arc<Resource>>>,
    paths: Paths,
    /// All served versions of what is kept in one place, by that place.
    segments: HashMap<String, Vec<Arc<Resource>>>,
    /// Of this generation, if somebody asked for it.
    snapshot: Option<Arc<Table>>,
}

impl Served {
    /// What is built in.
    pub(super) fn new(table: &Arc<Table>) -> Self {
        let mut paths = Paths::new();
        let mut segments: HashMap<String, Vec<Arc<Resource>>> = HashMap::new();
        for resource in table.resources() {
            enter(&mut paths, resource);
            let own = segments.entry(resource.segment().to_owned()).or_default();
            own.push(Arc::clone(resource));
        }
        Served {
            current: RwLock::new(Current {
                generation: table.generation,
                builtin: table.resources().to_vec(),
                defined: BTreeMap::new(),
                paths,
                segments,
                snapshot: Some(Arc::clone(table)),
            }),
            changed: watch::Sender::new(table.generation),
            snapshots: AtomicU64::new(0),
        }
    }

    fn snapshot(&self) -> Arc<Table> {
        if let Some(table) = &self.current.read().snapshot {
            return Arc::clone(table);
        }
        let mut current = self.current.write();
        let current = &mut *current;
        let made = current.snapshot.get_or_insert_with(|| {
            self.snapshots.fetch_add(1, Ordering::Relaxed);
            let all = current.builtin.iter().chain(current.defined.values().flatten());
            Arc::new(Table::new(current.generation, all.cloned().collect()))
        });
        Arc::clone(made)
    }

    /// Puts these versions of a defined kind in the place of those that were served before.
    fn set(&self, storage: &Resource, served: Vec<Arc<Resource>>) {
        let mut current = self.current.write();
        let before = current.segments.remove(storage.segment()).unwrap_or_default();
        for old in &before {
            current.leave(old);
        }
        for new in &served {
            enter(&mut current.paths, new);
        }
        let key = (storage.info.group.to_string(), storage.info.plural.to_string());
        if served.is_empty() {
            current.defined.remove(&key);
        } else {
            current.segments.insert(storage.segment().to_owned(), served.clone());
            current.defined.insert(key, served);
        }
        current.generation += 1;
        current.snapshot = None;
        let generation = current.generation;
        drop(current);
        self.changed.send_replace(generation);
    }
}

impl Current {
    fn leave(&mut self, resource: &Arc<Resource>) {
        let Some(plurals) = self.paths.get_mut(&resource.api_version) else {
            return;
        };
        plurals.remove(&*resource.info.plural);
        if plurals.is_empty() {
            self.paths.remove(&resource.api_version);
        }
    }
}

fn enter(paths: &mut Paths, resource: &Arc<Resource>) {
    let plurals = paths.entry(resource.api_version.clone()).or_default();
    plurals.insert(resource.info.plural.to_string(), Arc::clone(resource));
}

fn of_kind<'p>(paths: &'p Paths, api_version: &str, kind: &str) -> Option<&'p Arc<Resource>> {
    paths
        .get(api_version)?
        .values()
        .find(|resource| resource.info.kind == kind)
}

impl Registry {
    /// All that is served now. Not for every request: after a change of the kinds it has to be made anew.
    pub(crate) fn table(&self) -> Arc<Table> {
        self.served.snapshot()
    }

    /// Wakes up with the generation after every change of what is served.
    pub(crate) fn subscribe_table(&self) -> watch::Receiver<u64> {
        self.served.changed.subscribe()
    }

    /// How often [`table`](Self::table) had to make a snapshot.
    #[cfg(test)]
    pub(crate) fn table_snapshots(&self) -> u64 {
        self.served.snapshots.load(Ordering::Relaxed)
    }

    /// The resource at a path; see [`Table::find`].
    pub(crate) fn resource(&self, api_version: &str, plural: &str) -> Option<Arc<Resource>> {
        let current = self.served.current.read();
        current.paths.get(api_version)?.get(plural).cloned()
    }

    /// The resource of a kind; see [`Table::of_kind`].
    pub(crate) fn resource_of_kind(&self, api_version: &str, kind: &str) -> Option<Arc<Resource>> {
        of_kind(&self.served.current.read().paths, api_version, kind).cloned()
    }

    /// All served versions of what is at `resource`, that one included.
    pub(crate) fn versions(&self, resource: &Resource) -> Vec<Arc<Resource>> {
        let current = self.served.current.read();
        current.segments.get(resource.segment()).cloned().unwrap_or_default()
    }

    /// The built-in resources, in all versions.
    pub(crate) fn builtin(&self) -> Vec<Arc<Resource>> {
        self.served.current.read().builtin.clone()
    }

    /// Serves these versions of one kind, whose objects are kept in `storage`, instead of those that were served before.
    /// When this returns, requests for them work.
    ///
    /// # Errors
    /// If the objects cannot be read from the store, or the kind is a built-in one; then nothing changes.
    pub(crate) async fn install(&self, storage: Arc<Resource>, served: Vec<Arc<Resource>>) -> Result<(), Status> {
        if self.versions(&storage).iter().any(|own| is_builtin(own)) {
            let message = format!("{} is built in and cannot be defined", storage.group_resource);
            return Err(Status::internal(&message));
        }
        self.caches
            .install(Arc::clone(&storage))
            .await
            .map_err(|error| store_failed(&error))?;
        self.served.set(&storage, served);
        Ok(())
    }

    /// Serves nothing of this kind any more. Its objects stay in the store.
    pub(crate) fn uninstall(&self, storage: &Resource) {
        self.served.set(storage, Vec::new());
        self.caches.uninstall(storage);
    }
}

fn is_builtin(resource: &Resource) -> bool {
    matches!(resource.kind, crate::kinds::KindRef::Builtin(_))
}
