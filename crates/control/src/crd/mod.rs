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
mod object;
mod status;

use crate::registry::resource::{Definition, Resource};
use crate::registry::{Registry, Target};
use catamaran_api::Status;
use catamaran_store::Revision;
use convert::{NoConversion, WebhookConversion};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionNames, CustomResourceDefinitionStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use kind::DefinedKind;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
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
}

impl Default for Settled {
    fn default() -> Self {
        Settled {
            seen: watch::Sender::new(0),
            terminating: parking_lot::RwLock::default(),
        }
    }
}

impl Settled {
    /// Refuses new objects of a kind whose definition is going away.
    ///
    /// # Errors
    /// 405 `MethodNotAllowed`.
    pub(crate) fn check_create(&self, resource: &Resource) -> Result<(), Status> {
        let name = resource.group_resource.to_string();
        if !self.terminating.read().contains(&name) {
            return Ok(());
        }
        Err(Status::from(meta::Status {
            code: Some(405),
            reason: Some("MethodNotAllowed".to_owned()),
            message: Some("create not allowed while custom resource definition is terminating".to_owned()),
            status: Some("Failure".to_owned()),
            details: Some(meta::StatusDetails {
                group: Some(resource.group_resource.group.to_string()),
                kind: Some(resource.group_resource.resource.to_string()),
                ..meta::StatusDetails::default()
            }),
            ..meta::Status::default()
        }))
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
    shutdown: CancellationToken,
}

/// A definition as it was last seen.
struct Known {
    revision: Revision,
    uid: Option<String>,
    group: String,
    accepted: CustomResourceDefinitionNames,
    /// What is served because of it.
    installed: Option<Installed>,
    /// It should be served and is not.
    failed: bool,
    /// Its instances are being deleted, until this is dropped.
    cleanup: Option<DropGuard>,
}

struct Installed {
    storage: Arc<Resource>,
    /// Generation and stored versions of the definition it was made from.
    made_from: (Option<i64>, Vec<String>),
}

impl Definitions {
    pub(crate) fn new(registry: Arc<Registry>, shutdown: CancellationToken) -> Self {
        Definitions {
            registry,
            known: HashMap::new(),
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
            let failed = self.known.values().any(|known| known.failed);
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = changes.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(RETRY), if failed => {}
            }
        }
    }

    /// Looks at all definitions once.
    pub(crate) async fn settle(&mut self) {
        let Some(own) = self.registry.resource(API_VERSION, PLURAL) else {
            return;
        };
        let Some(cache) = self.registry.caches.of(&own) else {
            return;
        };
        let seen = cache.last_changed();
        let records = cache.select(&own.prefix(None), None, 0, |_| true).records;
        let present: HashSet<&str> = records.iter().map(|record| record.name()).collect();
        let gone: Vec<String> = self
            .known
            .keys()
            .filter(|name| !present.contains(name.as_str()))
            .cloned()
            .collect();
        for name in gone {
            self.forget(&name);
        }
        let mut changed = Vec::new();
        for record in &records {
            let is_new = self
                .known
                .get(record.name())
                .is_none_or(|known| known.revision != record.revision || known.failed);
            if !is_new {
                continue;
            }
            match serde_json::from_slice::<CustomResourceDefinition>(&record.json()) {
                Ok(definition) => changed.push((record.revision, definition)),
                Err(error) => tracing::error!(
                    definition = record.name(),
                    error = &error as &dyn std::error::Error,
                    "a definition cannot be read"
                ),
            }
        }
        // The older one keeps the name that two want.
        changed.sort_by(|(_, a), (_, b)| a.metadata.creation_timestamp.cmp(&b.metadata.creation_timestamp));
        for (_, definition) in &changed {
            let name = definition.metadata.name.as_deref().unwrap_or_default();
            // Deleted and written anew between two looks: another definition.
            if self
                .known
                .get(name)
                .is_some_and(|known| known.uid != definition.metadata.uid)
            {
                self.forget(name);
            }
        }
        for (revision, definition) in changed {
            self.one(&own, revision, definition).await;
        }
        self.registry.definitions.seen.send_replace(seen);
    }

    fn forget(&mut self, name: &str) {
        self.registry.definitions.terminating.write().remove(name);
        if let Some(installed) = self.known.remove(name).and_then(|known| known.installed) {
            self.registry.uninstall(&installed.storage);
        }
    }

    async fn one(&mut self, own: &Arc<Resource>, revision: Revision, mut definition: CustomResourceDefinition) {
        let name = definition.metadata.name.clone().unwrap_or_default();
        let table = self.registry.table();
        let builtin: Vec<_> = table
            .builtin(&definition.spec.group)
            .map(|resource| CustomResourceDefinitionNames {
                plural: resource.info.plural.to_string(),
                singular: Some(resource.info.singular.clone()),
                kind: resource.info.kind.to_string(),
                list_kind: Some(resource.info.list_kind.to_string()),
                ..CustomResourceDefinitionNames::default()
            })
            .collect();
        let others = status::Taken::of(
            self.known
                .iter()
                .filter(|(other, _)| **other != name)
                .filter_map(|(_, known)| (known.group == definition.spec.group).then_some(&known.accepted))
                .chain(&builtin),
        );
        let before = definition.status.clone();
        let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(k8s_openapi::jiff::Timestamp::now());
        let wanted = status::of(&definition, &others, &now);
        definition.status = Some(wanted);
        let accepted = definition
            .status
            .as_ref()
            .and_then(|status| status.accepted_names.clone())
            .unwrap_or_default();
        let mut known = self.known.remove(&name).unwrap_or_else(|| Known {
            revision,
            uid: definition.metadata.uid.clone(),
            group: definition.spec.group.clone(),
            accepted: accepted.clone(),
            installed: None,
            failed: false,
            cleanup: None,
        });
        known.revision = revision;
        known.accepted = accepted;
        known.failed = status::is_established(&definition) && !self.install(&mut known, &definition).await;
        if definition.status != before {
            self.write_status(own, &name, &definition).await;
        }
        if definition.metadata.deletion_timestamp.is_some() && known.cleanup.is_none() && !known.failed {
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

    /// False if it has to be tried again.
    async fn install(&self, known: &mut Known, definition: &CustomResourceDefinition) -> bool {
        let stored = status::stored_versions(definition);
        let made_from = (definition.metadata.generation, stored.clone());
        if known
            .installed
            .as_ref()
            .is_some_and(|installed| installed.made_from == made_from)
        {
            return true;
        }
        let Some((storage, served)) = self.resources(definition, &stored) else {
            return true;
        };
        match self.registry.install(Arc::clone(&storage), served).await {
            Ok(()) => {
                known.installed = Some(Installed { storage, made_from });
                true
            }
            Err(status) => {
                tracing::error!(
                    definition = definition.metadata.name.as_deref().unwrap_or_default(),
                    reason = %status,
                    "a defined kind cannot be served"
                );
                false
            }
        }
    }

    /// The version that is stored, and those that are served.
    fn resources(
        &self,
        definition: &CustomResourceDefinition,
        stored: &[String],
    ) -> Option<(Arc<Resource>, Vec<Arc<Resource>>)> {
        let spec = &definition.spec;
        let storage = spec.versions.iter().find(|version| version.storage)?;
        let qualified = |version: &String| format!("{}/{version}", spec.group);
        let stored_versions: Vec<String> = stored.iter().map(qualified).collect();
        let several = spec.versions.len() > 1 || stored.iter().any(|version| *version != storage.name);
        let converter = several.then(|| match WebhookConversion::of(definition, &self.registry.webhooks) {
            Some(webhook) => Arc::new(webhook) as Arc<dyn crate::registry::convert::Converter>,
            None => Arc::new(NoConversion),
        });
        let make = |version, storage: Option<Arc<Resource>>| {
            let kind = Arc::new(DefinedKind::new(definition, version)?);
            Some(Arc::new(Resource::defined(Definition {
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
        Some((kept, served))
    }

    async fn write_status(&self, own: &Arc<Resource>, name: &str, wanted: &CustomResourceDefinition) {
        let Some(status) = &wanted.status else { return };
        let written = self
            .registry
            .rewrite(&target(own, name), &mut |value| {
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
        if let Err(status) = written
            && status.code() != 404
        {
            tracing::error!(definition = name, reason = %status, "the status of a definition cannot be written");
        }
    }
}

fn target(own: &Arc<Resource>, name: &str) -> Target {
    Target {
        resource: Arc::clone(own),
        namespace: None,
        name: name.to_owned(),
    }
}
