//! The one generic pipeline: what every verb does, whatever the kind.
//!
//! ```text
//!   create   decode → default → mutate → prepare → validate (kind) → validate (admission) → convert → store.create
//!   update   decode → default → mutate → prepare → validate (kind) → validate (admission) → convert → store.update
//!   patch    read → patch → (as update), again if somebody else wrote in between
//!   delete   read → graceful or held by finalizers? mark it : store.delete at the revision that was read
//!   get, list, watch                                          from the watch cache
//! ```
//!
//! A write is one durable commit. Reading before it costs nothing (the cache is memory), and the revision precondition
//! makes it exact: whoever loses a race reads again and decides again.
//!
//! *Architecture invariant:* only this directory and the watch cache (which follows it) call the store.

mod apply;
mod body;
mod census;
pub(crate) mod convert;
mod create;
mod delete;
pub(crate) mod facts;
pub(crate) mod filter;
mod list;
pub(crate) mod maintenance;
pub(crate) mod managed;
pub(crate) mod metadata;
mod patch;
mod reserve;
pub(crate) mod resource;
mod services;
mod subresources;
mod system;
mod table;
mod update;
mod watch;

pub(crate) use delete::{DeleteOptions, Deleted, answers_with_object, warnings as delete_warnings};
pub(crate) use list::{List, ListOptions, VersionMatch, revision};
pub(crate) use subresources::Admitted;
pub(crate) use table::Table;
pub(crate) use update::Part;
pub(crate) use watch::{Tick, WatchOptions, Watching};

use crate::admission;
use crate::authn::Identity;
use crate::authz::{self, Authorizer};
use crate::kinds;
use crate::service_network::ServiceNetwork;
use crate::watch_cache::{Caches, KindCache, Record};
use crate::webhook_client::{RegistryServices, WebhookClient};
use bytes::Bytes;
use catamaran_api::Status;
use catamaran_api::schema::FieldValidation;
use catamaran_store::{Error as StoreError, Store};
use resource::Resource;
use serde_json::Value;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// How often a write that found its object changed in between is decided anew before the conflict is reported.
const ATTEMPTS: usize = 8;

/// All resources and their state.
pub(crate) struct Registry {
    store: Arc<dyn Store>,
    pub(crate) caches: Arc<Caches>,
    served: table::Served,
    admission: admission::Chain,
    addresses: Arc<services::Addresses>,
    /// Calls servers of others: admission, conversions.
    pub(crate) webhooks: Arc<WebhookClient>,
    services: Arc<RegistryServices>,
    /// Who may do what, from what the caches hold.
    pub(crate) authorizer: Arc<authz::Standard>,
    /// How far what is served follows the definitions of custom kinds.
    pub(crate) definitions: crate::crd::Settled,
    /// Ends watches when the server stops.
    pub(crate) shutdown: CancellationToken,
}

/// Which object, or collection, a request is about.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) resource: Arc<Resource>,
    /// `None` for cluster-wide kinds, and for all namespaces.
    pub(crate) namespace: Option<String>,
    /// Empty for a collection.
    pub(crate) name: String,
}

/// Who a request is from.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) identity: Identity,
    /// As the client states it; empty if it does not.
    pub(crate) user_agent: String,
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Caller({})", self.identity.user)
    }
}

impl Default for Caller {
    /// The server itself.
    fn default() -> Self {
        Caller {
            identity: Identity::system(),
            user_agent: String::new(),
        }
    }
}

/// What writes have in common.
#[derive(Clone, Debug, Default)]
pub(crate) struct WriteOptions {
    pub(crate) dry_run: bool,
    pub(crate) validation: FieldValidation,
    /// `fieldManager` of the query; empty if it is not there.
    pub(crate) field_manager: String,
    /// `force` of the query, for apply patches.
    pub(crate) force: Option<bool>,
    /// The path below the object, if the write is to one.
    pub(crate) subresource: &'static str,
    pub(crate) caller: Arc<Caller>,
}

/// The result of a write.
pub(crate) struct Written {
    /// The object as it is now, served form.
    pub(crate) json: Bytes,
    pub(crate) created: bool,
    /// Texts for `Warning` headers.
    pub(crate) warnings: Vec<String>,
}

impl Registry {
    /// With the usual admission and networks of services.
    #[cfg(test)]
    pub(crate) async fn open(store: Arc<dyn Store>, shutdown: CancellationToken) -> Result<Registry, StoreError> {
        let admission = admission::Chain::new(&admission::Config::default()).expect("no configuration is a good one");
        Self::open_with(store, &ServiceNetwork::default(), admission, shutdown).await
    }

    /// Reads the store. Follow with [`Caches::follow`].
    pub(crate) async fn open_with(
        store: Arc<dyn Store>,
        network: &ServiceNetwork,
        admission: admission::Chain,
        shutdown: CancellationToken,
    ) -> Result<Registry, StoreError> {
        let builtin = |kind: &&'static dyn kinds::ErasedKind| Arc::new(Resource::builtin(*kind));
        let resources: Vec<Arc<Resource>> = kinds::ALL.iter().map(builtin).collect();
        let is_stored = |resource: &&Arc<Resource>| resource.storage().api_version == resource.api_version;
        let stored: Vec<Arc<Resource>> = resources.iter().filter(is_stored).cloned().collect();
        let caches = Arc::new(Caches::new(Arc::clone(&store), &stored));
        caches.load().await?;
        let services = Arc::new(RegistryServices::default());
        let table = Arc::new(Table::new(1, resources));
        let addresses = services::Addresses::new(&table, &caches, network);
        let authorizer = Arc::new(authz::Standard::new(&table, &caches));
        Ok(Registry {
            webhooks: Arc::new(WebhookClient::new(Arc::clone(&services) as _)),
            services,
            store,
            caches,
            served: table::Served::new(&table),
            definitions: crate::crd::Settled::default(),
            admission,
            addresses: Arc::new(addresses),
            authorizer,
            shutdown,
        })
    }

    /// Makes known to admission and to calls of webhooks what they look things up in. Once, before the first request.
    pub(crate) fn connect(self: &Arc<Self>) {
        self.services.attach(Arc::downgrade(self));
    }

    /// What admission did so far.
    pub(crate) fn admission_metrics(&self) -> &crate::metrics::Admission {
        self.admission.metrics()
    }

    /// Who decides what users may do.
    pub(crate) fn authorizer(&self) -> Option<Arc<dyn Authorizer>> {
        Some(Arc::clone(&self.authorizer) as _)
    }

    /// The cache of a resource.
    ///
    /// # Errors
    /// If the kind is not there any more.
    fn cache(&self, resource: &Resource) -> Result<Arc<KindCache>, Status> {
        self.caches.of(resource).ok_or_else(Status::unknown_path)
    }

    /// One object, no older than any acknowledged write.
    pub(crate) async fn get(&self, target: &Target) -> Result<Arc<Record>, Status> {
        self.caches.fresh().await?;
        let cache = self.cache(&target.resource)?;
        let Some(record) = cache.get(target.namespace.as_deref(), &target.name) else {
            let broken = cache
                .broken(&target.key())
                .filter(|broken| *broken.key == *target.key());
            return Err(broken.map_or_else(|| target.not_found(), |broken| unreadable(&broken)));
        };
        self.shown_one(&target.resource, record).await
    }

    fn world(&self) -> admission::World<'_> {
        admission::World { registry: self }
    }

    /// An object as it is in the cache: in the version in which it is stored, and perhaps a moment old.
    pub(crate) fn peek(
        &self,
        api_version: &str,
        plural: &str,
        namespace: Option<&str>,
        name: &str,
    ) -> Option<Arc<Record>> {
        let resource = self.resource(api_version, plural)?;
        self.caches.of(&resource)?.get(namespace, name)
    }

    /// For admission: the cache of a resource, if there is such a resource.
    pub(crate) fn peek_cache(&self, api_version: &str, plural: &str) -> Option<Arc<KindCache>> {
        self.caches.of(&*self.resource(api_version, plural)?)
    }

    /// For admission: all objects of a resource, or those of one namespace, as they are in the cache.
    pub(crate) fn peek_all(&self, api_version: &str, plural: &str, namespace: Option<&str>) -> Vec<Arc<Record>> {
        let Some(resource) = self.resource(api_version, plural) else {
            return Vec::new();
        };
        match self.caches.of(&resource) {
            Some(cache) => cache.select(&resource.prefix(namespace), None, 0, |_| true).records,
            None => Vec::new(),
        }
    }

    /// For admission: the objects of a namespace with this label, as they are in the cache.
    pub(crate) fn peek_labelled(
        &self,
        api_version: &str,
        plural: &str,
        namespace: &str,
        (key, value): (&str, &str),
    ) -> Vec<Arc<Record>> {
        let Some(resource) = self.resource(api_version, plural) else {
            return Vec::new();
        };
        let wanted = |record: &Record| record.facts.label(key) == Some(value);
        let prefix = resource.prefix(Some(namespace));
        match self.caches.of(&resource) {
            Some(cache) => cache.select(&prefix, None, 0, wanted).records,
            None => Vec::new(),
        }
    }

    /// Do the caches show every acknowledged write?
    pub(crate) fn caught_up(&self) -> bool {
        self.caches.applied() >= self.store.revision()
    }

    /// Are the store and the caches alive? For `/readyz`.
    pub(crate) fn healthy(&self) -> bool {
        !self.shutdown.is_cancelled()
    }
}

impl Target {
    fn key(&self) -> String {
        self.resource.key(self.namespace.as_deref(), &self.name)
    }

    fn modified(&self) -> Status {
        Status::modified(&self.resource.group_resource, &self.name)
    }

    fn not_found(&self) -> Status {
        Status::not_found(&self.resource.group_resource, &self.name)
    }
}

/// A failure of the store that no verb expects.
fn store_failed(error: &StoreError) -> Status {
    if let StoreError::TooLarge { .. } = error {
        return Status::request_too_large("etcdserver: request is too large");
    }
    tracing::error!(error = error as &dyn std::error::Error, "the store failed");
    match error {
        StoreError::Closed => Status::service_unavailable("the server is shutting down"),
        other => Status::internal(other),
    }
}

/// A stored object cannot be served, so that what was asked for cannot be either.
fn unreadable(record: &Record) -> Status {
    Status::internal(record.failure().unwrap_or_default())
}

/// An object of ours could not be turned into JSON or back.
fn codec_failed(error: &(dyn std::error::Error + 'static)) -> Status {
    tracing::error!(error, "an object could not be encoded or decoded");
    Status::internal(error)
}

/// The served form of a record as a tree.
pub(crate) fn tree(record: &Record) -> Result<Value, Status> {
    serde_json::from_slice(&record.json()).map_err(|error| codec_failed(&error))
}

#[cfg(test)]
mod tests;
