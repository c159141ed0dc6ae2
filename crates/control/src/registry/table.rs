//! Which resources are served at the moment.
//!
//! Built-in kinds are there from the start; kinds that are defined at run time come and go. Everybody looks at an immutable
//! snapshot, and its generation tells whether what was derived from it (discovery, OpenAPI) is still right.

use super::resource::Resource;
use super::{Registry, store_failed};
use catamaran_api::Status;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::watch;

/// A snapshot of all served resources.
pub(crate) struct Table {
    /// Grows with every change.
    pub(crate) generation: u64,
    /// Built-in ones first, then those defined at run time, by group and plural.
    resources: Vec<Arc<Resource>>,
    /// By API version (`apps/v1`), then by plural.
    paths: HashMap<String, HashMap<String, Arc<Resource>>>,
}

impl Table {
    pub(crate) fn new(generation: u64, resources: Vec<Arc<Resource>>) -> Self {
        let mut paths: HashMap<String, HashMap<String, Arc<Resource>>> = HashMap::new();
        for resource in &resources {
            let plurals = paths.entry(resource.api_version.clone()).or_default();
            plurals.insert(resource.info.plural.to_string(), Arc::clone(resource));
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
        self.paths
            .get(api_version)?
            .values()
            .find(|resource| resource.info.kind == kind)
    }

    /// The built-in resources of a group.
    pub(crate) fn builtin(&self, group: &str) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources
            .iter()
            .filter(move |resource| resource.info.group == group && is_builtin(resource))
    }

    /// All served versions of what is at `resource`, that one included.
    pub(crate) fn versions<'t>(&'t self, resource: &'t Resource) -> impl Iterator<Item = &'t Arc<Resource>> {
        self.resources
            .iter()
            .filter(|other| other.segment() == resource.segment())
    }
}

impl Registry {
    /// What is served now.
    pub(crate) fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table.read())
    }

    /// Wakes up with the generation after every change of the table.
    pub(crate) fn subscribe_table(&self) -> watch::Receiver<u64> {
        self.table_changed.subscribe()
    }

    /// The resource at a path; see [`Table::find`].
    pub(crate) fn resource(&self, api_version: &str, plural: &str) -> Option<Arc<Resource>> {
        self.table.read().find(api_version, plural).cloned()
    }

    /// Serves these versions of one kind, whose objects are kept in `storage`, instead of those that were served before.
    /// When this returns, requests for them work.
    ///
    /// # Errors
    /// If the objects cannot be read from the store, or the kind is a built-in one; then nothing changes.
    pub(crate) async fn install(&self, storage: Arc<Resource>, served: Vec<Arc<Resource>>) -> Result<(), Status> {
        let table = self.table();
        if table.versions(&storage).any(|own| is_builtin(own)) {
            let message = format!("{} is built in and cannot be defined", storage.group_resource);
            return Err(Status::internal(&message));
        }
        self.caches
            .install(Arc::clone(&storage))
            .await
            .map_err(|error| store_failed(&error))?;
        self.change_table(&storage, served);
        Ok(())
    }

    /// Serves nothing of this kind any more. Its objects stay in the store.
    pub(crate) fn uninstall(&self, storage: &Resource) {
        self.change_table(storage, Vec::new());
        self.caches.uninstall(storage);
    }

    fn change_table(&self, storage: &Resource, served: Vec<Arc<Resource>>) {
        let mut table = self.table.write();
        let others = table.resources.iter();
        let mut resources: Vec<_> = others
            .filter(|other| other.segment() != storage.segment())
            .cloned()
            .collect();
        resources.extend(served);
        // Stable: built-in kinds keep their order.
        resources.sort_by(|a, b| match (is_builtin(a), is_builtin(b)) {
            (true, true) => std::cmp::Ordering::Equal,
            (false, false) => (&a.info.group, &a.info.plural).cmp(&(&b.info.group, &b.info.plural)),
            (a, b) => b.cmp(&a),
        });
        let generation = table.generation + 1;
        *table = Arc::new(Table::new(generation, resources));
        drop(table);
        self.table_changed.send_replace(generation);
    }
}

fn is_builtin(resource: &Resource) -> bool {
    matches!(resource.kind, crate::kinds::KindRef::Builtin(_))
}
