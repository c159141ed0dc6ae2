//! Kinds that users define: a definition that is written is served before its write is answered.
//!
//! ```text
//! definitions (watch cache) ──▶ Definitions::settle ──▶ status (names, conditions)      status.rs, pure
//!                                     │
//!                                     ├──▶ Registry::install  DefinedKind per version   kind.rs, object.rs, columns.rs, convert.rs
//!                                     └──▶ cleanup            instances of what is deleted
//! ```
//!
//! One task follows the definitions and brings everything else in line with them, whatever happened: after a restart, after a
//! write here, after a write by another server. Who writes a definition waits until that task has seen it.

mod cleanup;
mod columns;
mod convert;
mod kind;
mod names;
mod object;
mod status;

use crate::kinds::KindRef;
use crate::registry::resource::{Change, Definition, Resource};
use crate::registry::{Registry, Target};
use crate::watch_cache::{KindCache, Record, Step};
use catamaran_api::Status;
use catamaran_store::Revision;
use convert::{NoConversion, WebhookConversion};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionNames, CustomResourceDefinitionStatus,
    CustomResourceDefinitionVersion,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kind::DefinedKind;
use names::Names;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedRwLockReadGuard, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

const API_VERSION: &str = "apiextensions.k8s.io/v1";
const PLURAL: &str = "customresourcedefinitions";
/// How long the writer of a definition waits for it to be served.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long to wait before what could not be served is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Is this the resource of definitions?
pub(crate) fn defines(resource: &Resource) -> bool {
    resource.info.plural == PLURAL && resource.info.group == "apiextensions.k8s.io"
}

/// How far the task that follows the definitions has come.
pub(crate) struct Settled {
    seen: watch::Sender<Revision>,
    /// Names of the definitions that are going away.
    terminating: parking_lot::RwLock<HashSet<String>>,
    /// Held shared while a new object of a defined kind is written.
    creating: Arc<tokio::sync::RwLock<()>>,
    /// How often a definition was looked at, for those who watch over the work that is done.
    looks: AtomicU64,
}

impl Default for Settled {
    fn default() -> Self {
        Settled {
            seen: watch::Sender::new(0),
            terminating: parking_lot::RwLock::default(),
            creating: Arc::default(),
            looks: AtomicU64::new(0),
        }
    }
}

impl Settled {
    /// Refuses new objects of a kind whose definition is going away.
    ///
    /// # Errors
    /// 403 `Forbidden`.
    pub(crate) fn check_create(&self, resource: &Resource, name: &str) -> Result<(), Status> {
        if matches!(resource.kind, KindRef::Builtin(_)) {
            return Ok(());
        }
        let definition = resource.group_resource.to_string();
        if !self.terminating.read().contains(&definition) {
            return Ok(());
        }
        let why = "create not allowed while custom resource definition is terminating";
        Err(Status::forbidden(&resource.group_resource, name, why))
    }

    /// The same once more, directly before a new object is written: webhooks may have taken their time. The definition stays
    /// until the guard is dropped, which must not be before the write has ended. `None` for kinds that are built in.
    ///
    /// # Errors
    /// 403 `Forbidden`, or 404 if the kind is gone.
    pub(crate) async fn creating(
        &self,
        registry: &Registry,
        resource: &Resource,
        name: &str,
    ) -> Result<Option<OwnedRwLockReadGuard<()>>, Status> {
        if matches!(resource.kind, KindRef::Builtin(_)) {
            return Ok(None);
        }
        let guard = Arc::clone(&self.creating).read_owned().await;
        self.check_create(resource, name)?;
        match registry.caches.of(resource) {
            Some(_) => Ok(Some(guard)),
            None => Err(Status::unknown_path()),
        }
    }

    /// Waits until what was allowed to be created is there.
    async fn created(&self) {
        drop(self.creating.write().await);
    }

    /// Waits until everything written to definitions so far has its effect.
    pub(crate) async fn wait(&self, registry: &Registry) {
        if registry.caches.fresh().await.is_err() {
            return;
        }
        let Some(cache) = registry
            .resource(API_VERSION, PLURAL)
            .and_then(|own| registry.caches.of(&own))
        else {
            return;
        };
        let wanted = cache.last_changed();
        let mut settled = self.seen.subscribe();
        let reached = settled.wait_for(|revision| *revision >= wanted);
        if tokio::time::timeout(PATIENCE, reached).await.is_err() {
            tracing::warn!(revision = wanted, "a definition takes long to be served");
        }
    }
}

/// Brings what is served in line with the definitions.
pub(crate) struct Definitions {
    registry: Arc<Registry>,
    known: HashMap<String, Known>,
    names: Names,
    /// Those that should be served and are not, or whose status could not be written.
    failing: BTreeSet<String>,
    /// Everything up to here was looked at; `None` before the first look.
    seen: Option<Revision>,
    shutdown: CancellationToken,
}

/// A definition as it was last seen.
struct Known {
    revision: Revision,
    uid: Option<String>,
    group: String,
    accepted: CustomResourceDefinitionNames,
    /// It waits for names that another one has.
    waits: bool,
    /// What is served because of it.
    installed: Option<Installed>,
    /// Its instances are being deleted, until this is dropped.
    cleanup: Option<DropGuard>,
}

struct Installed {
    storage: Arc<Resource>,
    made_from: MadeFrom,
}

/// What of a definition says how it is served.
#[derive(PartialEq)]
struct MadeFrom {
    generation: Option<i64>,
    stored_versions: Vec<String>,
    accepted: CustomResourceDefinitionNames,
}

/// Why a defined kind is not served.
#[derive(Debug, thiserror::Error)]
enum Unserved {
    /// Validation lets no such definition in, so it came in by another way.
    #[error("the definition cannot be used: no version {version:?} can be made of it")]
    Unusable { version: String },
    #[error("{0}")]
    Refused(String),
}

/// What happened to definitions since the last look.
#[derive(Default)]
struct News {
    gone: Vec<String>,
    changed: Vec<Arc<Record>>,
}

/// A definition that is to be looked at, and its revision.
type Read = (Revision, CustomResourceDefinition);

impl Definitions {
    pub(crate) fn new(registry: Arc<Registry>, shutdown: CancellationToken) -> Self {
        let mut names = Names::default();
        for resource in registry.builtin() {
            let own = CustomResourceDefinitionNames {
                plural: resource.info.plural.to_string(),
                singular: Some(resource.info.singular.clone()),
                kind: resource.info.kind.to_string(),
                list_kind: Some(resource.info.list_kind.to_string()),
                ..CustomResourceDefinitionNames::default()
            };
            // As if each were defined by something that no definition can be called.
            let definition = format!("{} (built in)", resource.info.plural);
            names.set(&resource.info.group, &definition, &own);
        }
        Definitions {
            registry,
            known: HashMap::new(),
            names,
            failing: BTreeSet::new(),
            seen: None,
            shutdown,
        }
    }

    /// Follows the definitions until the server stops.
    pub(crate) async fn follow(mut self) {
        let own = self.registry.resource(API_VERSION, PLURAL);
        let Some(cache) = own.and_then(|own| self.registry.caches.of(&own)) else {
            return;
        };
        let mut changes = cache.subscribe();
        let shutdown = self.shutdown.clone();
        loop {
            // First a look, as something may have been written since the one before this task.
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.settle() => {}
            }
            let failed = !self.failing.is_empty();
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = changes.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(RETRY), if failed => {}
            }
        }
    }

    /// Looks at what changed since the last look.
    pub(crate) async fn settle(&mut self) {
        let Some(own) = self.registry.resource(API_VERSION, PLURAL) else {
            return;
        };
        let Some(cache) = self.registry.caches.of(&own) else {
            return;
        };
        let (news, seen) = self.news(&cache);
        for name in &news.gone {
            self.forget(name);
        }
        let mut changed: Vec<Read> = news.changed.iter().filter_map(|record| self.read(record)).collect();
        for (revision, definition) in &changed {
            self.enter(*revision, definition);
        }
        by_age(&mut changed);
        for (revision, definition) in changed {
            self.one(&own, revision, definition).await;
        }
        while let Some(group) = self.names.take_freed() {
            for (revision, definition) in self.waiting(&cache, &group) {
                self.one(&own, revision, definition).await;
            }
        }
        self.seen = Some(seen);
        self.registry.definitions.seen.send_replace(seen);
    }

    /// What happened since the last look, as far as it still matters; and up to where this reaches.
    fn news(&self, cache: &KindCache) -> (News, Revision) {
        let mut news = News::default();
        let mut latest: BTreeMap<&str, &Step> = BTreeMap::new();
        let tail = self.seen.and_then(|seen| cache.tail(seen, usize::MAX).ok());
        let Some(tail) = &tail else {
            let selection = cache.select(&cache.resource.prefix(None), None, 0, |_| true);
            let present: HashSet<&str> = selection.records.iter().map(|record| record.name()).collect();
            let known = self.known.keys();
            news.gone = known.filter(|name| !present.contains(name.as_str())).cloned().collect();
            news.changed = selection.records;
            return (news, selection.revision);
        };
        for step in &tail.steps {
            latest.insert(step.new.name(), step);
        }
        for (name, step) in latest {
            match step.change {
                // Damaged is not deleted: it goes on as it was.
                Change::Deleted if step.new.failure().is_some() => {}
                Change::Deleted => news.gone.push(name.to_owned()),
                Change::Added | Change::Modified => news.changed.push(Arc::clone(&step.new)),
            }
        }
        for record in self.failing.iter().filter_map(|name| cache.get(None, name)) {
            if !news.changed.iter().any(|other| other.key == record.key) {
                news.changed.push(record);
            }
        }
        (news, tail.upto)
    }

    /// `None` if there is nothing new about it.
    fn read(&self, record: &Record) -> Option<Read> {
        let settled = &self.registry.definitions;
        settled.looks.fetch_add(1, Ordering::Relaxed);
        let known = self.known.get(record.name());
        if known.is_some_and(|known| known.revision == record.revision) && !self.failing.contains(record.name()) {
            return None;
        }
        serde_json::from_slice(record.bytes())
            .inspect_err(|error| {
                tracing::error!(
                    definition = record.name(),
                    error = error as &dyn std::error::Error,
                    "a definition cannot be read"
                );
            })
            .ok()
            .map(|definition| (record.revision, definition))
    }

    /// What a definition has already keeps it, whoever is looked at first.
    fn enter(&mut self, revision: Revision, definition: &CustomResourceDefinition) {
        let name = definition.metadata.name.clone().unwrap_or_default();
        // Deleted and written anew between two looks: another definition.
        if self
            .known
            .get(&name)
            .is_some_and(|known| known.uid != definition.metadata.uid)
        {
            self.forget(&name);
        }
        if self.known.contains_key(&name) {
            return;
        }
        let status = definition.status.as_ref();
        let accepted = status
            .and_then(|status| status.accepted_names.clone())
            .unwrap_or_default();
        self.names.set(&definition.spec.group, &name, &accepted);
        let known = Known {
            revision,
            uid: definition.metadata.uid.clone(),
            group: definition.spec.group.clone(),
            accepted,
            waits: false,
            installed: None,
            cleanup: None,
        };
        self.known.insert(name, known);
    }

    /// The definitions of a group that wait for names, the oldest first.
    fn waiting(&self, cache: &KindCache, group: &str) -> Vec<Read> {
        let waiting = self
            .known
            .iter()
            .filter(|(_, known)| known.waits && known.group == group);
        let records = waiting.filter_map(|(name, _)| cache.get(None, name));
        let read = |record: Arc<Record>| Some((record.revision, serde_json::from_slice(record.bytes()).ok()?));
        let mut waiting: Vec<Read> = records.filter_map(read).collect();
        by_age(&mut waiting);
        waiting
    }

    fn forget(&mut self, name: &str) {
        self.registry.definitions.terminating.write().remove(name);
        self.failing.remove(name);
        let Some(known) = self.known.remove(name) else { return };
        self.names.remove(&known.group, name);
        if let Some(installed) = known.installed {
            self.registry.uninstall(&installed.storage);
        }
    }

    async fn one(&mut self, own: &Arc<Resource>, revision: Revision, mut definition: CustomResourceDefinition) {
        let name = definition.metadata.name.clone().unwrap_or_default();
        let Some(mut known) = self.known.remove(&name) else {
            return;
        };
        let before = definition.status.clone();
        // What was read may be older than what was decided.
        let status = definition.status.get_or_insert_default();
        status.accepted_names = Some(known.accepted.clone());
        let now = Time(k8s_openapi::jiff::Timestamp::now());
        let wanted = status::of(&definition, &self.names.taken(&known.group, &name), &now);
        known.accepted = wanted.accepted_names.clone().unwrap_or_default();
        self.names.set(&known.group, &name, &known.accepted);
        definition.status = Some(wanted);
        known.revision = revision;
        known.waits = status::lacks_names(&definition);
        let served = match status::is_established(&definition) {
            true => self.install(&mut known, &definition).await,
            false => Ok(()),
        };
        if let Err(why) = &served
            && !self.failing.contains(&name)
        {
            let error = why as &dyn std::error::Error;
            tracing::error!(
                definition = name,
                error,
                "a defined kind cannot be served; trying again"
            );
        }
        let said = definition.status == before || self.write_status(own, &name, &definition).await;
        if served.is_ok() && said {
            self.failing.remove(&name);
        } else {
            self.failing.insert(name.clone());
        }
        // What can never be served has no instances that could be read, and is not to stay for that.
        let may_end = matches!(served, Ok(()) | Err(Unserved::Unusable { .. }));
        if definition.metadata.deletion_timestamp.is_some() && known.cleanup.is_none() && may_end {
            self.registry.definitions.terminating.write().insert(name.clone());
            let ended = self.shutdown.child_token();
            known.cleanup = Some(ended.clone().drop_guard());
            let storage = known.installed.as_ref().map(|installed| Arc::clone(&installed.storage));
            let registry = Arc::clone(&self.registry);
            let target = target(own, &name);
            tokio::spawn(async move {
                tokio::select! {
                    () = ended.cancelled() => {}
                    () = cleanup::run(&registry, &target, storage) => {}
                }
            });
        }
        self.known.insert(name, known);
    }

    async fn install(&self, known: &mut Known, definition: &CustomResourceDefinition) -> Result<(), Unserved> {
        let stored = status::stored_versions(definition);
        let made_from = MadeFrom {
            generation: definition.metadata.generation,
            stored_versions: stored.clone(),
            accepted: known.accepted.clone(),
        };
        if known
            .installed
            .as_ref()
            .is_some_and(|installed| installed.made_from == made_from)
        {
            return Ok(());
        }
        let (storage, served) = self.resources(definition, &stored)?;
        let installed = self.registry.install(Arc::clone(&storage), served).await;
        installed.map_err(|status| Unserved::Refused(status.message().to_owned()))?;
        known.installed = Some(Installed { storage, made_from });
        Ok(())
    }

    /// The version that is stored, and those that are served.
    fn resources(
        &self,
        definition: &CustomResourceDefinition,
        stored: &[String],
    ) -> Result<(Arc<Resource>, Vec<Arc<Resource>>), Unserved> {
        let spec = &definition.spec;
        let unusable = |version: &str| Unserved::Unusable {
            version: version.to_owned(),
        };
        let storage = spec.versions.iter().find(|version| version.storage);
        let storage = storage.ok_or_else(|| unusable(""))?;
        let qualified = |version: &String| format!("{}/{version}", spec.group);
        let stored_versions: Vec<String> = stored.iter().map(qualified).collect();
        let several = spec.versions.len() > 1 || stored.iter().any(|version| *version != storage.name);
        let converter = several.then(|| match WebhookConversion::of(definition, &self.registry.webhooks) {
            Some(webhook) => Arc::new(webhook) as Arc<dyn crate::registry::convert::Converter>,
            None => Arc::new(NoConversion),
        });
        let make = |version: &CustomResourceDefinitionVersion, storage: Option<Arc<Resource>>| {
            let kind = DefinedKind::new(definition, version);
            let kind = Arc::new(kind.ok_or_else(|| unusable(&version.name))?);
            Ok(Arc::new(Resource::defined(Definition {
                schemas: kind.schemas(),
                kind,
                storage,
                converter: converter.clone(),
                stored_versions: stored_versions.clone(),
            })))
        };
        let kept = make(storage, None)?;
        let mut served = Vec::new();
        for version in spec.versions.iter().filter(|version| version.served) {
            if version.name == storage.name {
                served.push(Arc::clone(&kept));
            } else {
                served.push(make(version, Some(Arc::clone(&kept)))?);
            }
        }
        Ok((kept, served))
    }

    /// False if it has to be tried again.
    async fn write_status(&self, own: &Arc<Resource>, name: &str, wanted: &CustomResourceDefinition) -> bool {
        let Some(status) = &wanted.status else { return true };
        let written = self
            .registry
            .rewrite_status(&target(own, name), &mut |value| {
                // Only its own part: whoever migrates objects writes the stored versions, and a deletion its condition.
                let present = value["status"].clone();
                if value["metadata"]["uid"].as_str() != wanted.metadata.uid.as_deref() {
                    return false;
                }
                let mut merged: CustomResourceDefinitionStatus =
                    serde_json::from_value(present.clone()).unwrap_or_default();
                status::merge(&mut merged, status);
                value["status"] = serde_json::to_value(merged).unwrap_or_default();
                value["status"] != present
            })
            .await;
        match written {
            Err(status) if status.code() != 404 => {
                tracing::error!(definition = name, reason = %status, "the status of a definition cannot be written");
                false
            }
            _ => true,
        }
    }
}

/// The older one comes first to the name that two want.
fn by_age(definitions: &mut [Read]) {
    definitions.sort_by(|(_, a), (_, b)| {
        let age = |one: &CustomResourceDefinition| one.metadata.creation_timestamp.clone();
        age(a).cmp(&age(b)).then_with(|| a.metadata.name.cmp(&b.metadata.name))
    });
}

fn target(own: &Arc<Resource>, name: &str) -> Target {
    Target {
        resource: Arc::clone(own),
        namespace: None,
        name: name.to_owned(),
    }
}

#[cfg(test)]
mod tests;
