//! POST to a collection.

use super::managed::Tracking;
use super::services::{Claim, Failure, Write};
use super::{ATTEMPTS, Registry, Target, WriteOptions, Written, body, codec_failed, metadata, store_failed};
use crate::admission::{Attributes, Operation};
use crate::kinds::Object;
use bytes::Bytes;
use catamaran_api::Status;
use catamaran_api::body::Body;
use catamaran_store::{Error as StoreError, Revision};
use std::sync::Arc;
use tokio::sync::OwnedRwLockReadGuard;

impl Registry {
    /// Creates the object in `body`. The target names the namespace; its name, if any, must be that of the body.
    pub(crate) async fn create(&self, target: &Target, body: Body, options: &WriteOptions) -> Result<Written, Status> {
        let resource = &target.resource;
        let mut warnings = Vec::new();
        let object = body::decode(resource, body, options.validation, &mut warnings)?;
        if object
            .meta()
            .resource_version
            .as_deref()
            .is_some_and(|version| !version.is_empty())
        {
            return Err(Status::bad_request(
                "resourceVersion should not be set on objects to be created",
            ));
        }
        self.create_object(target, object, warnings, options).await
    }

    /// Creates a decoded object.
    pub(super) async fn create_object(
        &self,
        target: &Target,
        object: Box<dyn Object>,
        warnings: Vec<String>,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        self.create_tracked(target, object, warnings, options, Tracking::Due)
            .await
    }

    /// Creates a decoded object whose fields may have owners already.
    pub(super) async fn create_tracked(
        &self,
        target: &Target,
        mut object: Box<dyn Object>,
        mut warnings: Vec<String>,
        options: &WriteOptions,
        tracking: Tracking,
    ) -> Result<Written, Status> {
        let resource = &target.resource;
        let stated = object.meta().name.as_deref().unwrap_or_default();
        self.definitions.check_create(resource, stated)?;
        metadata::settle_namespace(object.meta_mut(), target.namespace.as_deref())?;
        let has_generation = resource.kind.spec_changed(object.as_ref(), object.as_ref()).is_some();
        metadata::birth(object.meta_mut(), has_generation);
        self.caches.fresh().await?;

        let template = generated(object.as_ref()).then(|| object.boxed_clone());
        for attempt in 1.. {
            if attempt > 1
                && let Some(template) = &template
            {
                object = template.boxed_clone();
            }
            let (noticed, claim) = self.prepare(target, &mut object, options, tracking).await?;
            if attempt == 1 {
                warnings.extend(noticed);
            }
            match self.insert(target, object.as_mut(), claim, options).await {
                Err(Insert::Exists(_)) if template.is_some() && attempt < ATTEMPTS => {}
                Err(Insert::Exists(name)) => return Err(self.exists(target, name).await),
                Err(Insert::Failed(status)) => return Err(status),
                Ok(json) => {
                    return Ok(Written {
                        json,
                        created: true,
                        warnings,
                    });
                }
            }
        }
        unreachable!("the last attempt returns")
    }

    /// Says that there is such an object, and whether it is about to go.
    async fn exists(&self, target: &Target, name: String) -> Status {
        let status = Status::already_exists(&target.resource.group_resource, &name);
        let target = Target { name, ..target.clone() };
        let present = self.get(&target).await.ok();
        let kind = &target.resource.kind;
        let object = present.and_then(|record| kind.decode_slice(&record.json()).ok());
        if object.is_some_and(|object| object.meta().deletion_timestamp.is_some()) {
            return status.being_deleted();
        }
        status
    }

    /// Everything between decoding and writing. Returns warnings, and what was reserved for the object.
    async fn prepare(
        &self,
        target: &Target,
        object: &mut Box<dyn Object>,
        options: &WriteOptions,
        tracking: Tracking,
    ) -> Result<(Vec<String>, Option<Claim>), Status> {
        let resource = &target.resource;
        let world = self.world();
        let attributes = Attributes::new(target, Operation::Create, None, options);
        if generated(object.as_ref()) {
            let name = metadata::generate_name(object.meta().generate_name.as_deref().unwrap_or_default());
            object.meta_mut().name = Some(name);
        }
        resource.kind.default(object.as_mut());
        if tracking == Tracking::Due {
            self.own_new(target, object.as_mut(), options)?;
        }
        self.admission.mutate(&world, &attributes, object).await?;
        resource.kind.prepare_create(object.as_mut());
        let claim = self.allocate(target, None, object.as_mut(), options)?;
        let mut errors = metadata::validate(resource, object.as_ref());
        resource.kind.validate(object.as_ref(), &mut errors);
        resource.kind.validate_create(object.as_ref(), &mut errors);
        if !errors.is_empty() {
            let name = object.meta().name.as_deref().unwrap_or_default();
            return Err(Status::invalid(&resource.group_kind, name, &errors));
        }
        self.admission
            .validate(&world, &attributes, Some(object.as_ref()))
            .await?;
        let mut warnings = resource.kind.warnings(object.as_ref(), None);
        warnings.extend(attributes.take_warnings());
        Ok((warnings, claim))
    }

    async fn insert(
        &self,
        target: &Target,
        object: &mut dyn Object,
        claim: Option<Claim>,
        options: &WriteOptions,
    ) -> Result<Bytes, Insert> {
        let resource = &target.resource;
        let name = object.meta().name.clone().unwrap_or_default();
        let encoded = resource
            .encode(object)
            .map_err(|error| Insert::Failed(codec_failed(&error)))?;
        let stored = self.to_storage(resource, &encoded).await.map_err(Insert::Failed)?;
        let key = resource.key(target.namespace.as_deref(), &name);
        if options.dry_run {
            let cache = self.cache(resource).map_err(Insert::Failed)?;
            return match cache.get(target.namespace.as_deref(), &name) {
                Some(_) => Err(Insert::Exists(name)),
                None => Ok(encoded),
            };
        }
        let kept = self
            .definitions
            .creating(self, resource, &name)
            .await
            .map_err(Insert::Failed)?;
        let written = match (claim, kept) {
            (None, None) => {
                let created = self.store.create(&key, stored).await;
                created.map(|entry| entry.modified).map_err(Failure::Store)
            }
            (None, Some(kept)) => self.create_kept(key, stored, kept).await.map_err(Failure::Store),
            (Some(claim), _) => claim.write(Write::Create { key, value: stored }).await,
        };
        match written {
            Ok(revision) => resource
                .served(&encoded, revision)
                .map_err(|error| Insert::Failed(codec_failed(&error))),
            Err(Failure::Store(StoreError::Exists { .. })) => Err(Insert::Exists(name)),
            Err(Failure::Store(error)) => Err(Insert::Failed(store_failed(&error))),
            Err(Failure::AddressTaken) => Err(Insert::Failed(Status::internal(
                "failed to allocate a serviceIP: provided IP is already allocated",
            ))),
        }
    }
}

impl Registry {
    /// Writes an object of a defined kind, in a task that goes on to its end whoever stops waiting for it: a write that is under
    /// way is not undone, and until it has ended the definition must stay, or the object would outlive it.
    async fn create_kept(
        &self,
        key: String,
        value: Bytes,
        kept: OwnedRwLockReadGuard<()>,
    ) -> Result<Revision, StoreError> {
        let store = Arc::clone(&self.store);
        let write = tokio::spawn(async move {
            let created = store.create(&key, value).await;
            drop(kept);
            created.map(|entry| entry.modified)
        });
        write.await.unwrap_or_else(|error| {
            tracing::error!(%error, "the write of an object did not end");
            Err(StoreError::Closed)
        })
    }
}

enum Insert {
    /// An object of this name is there already.
    Exists(String),
    Failed(Status),
}

/// Is the name for us to choose?
fn generated(object: &dyn Object) -> bool {
    let meta = object.meta();
    meta.name.as_deref().unwrap_or_default().is_empty()
        && meta.generate_name.as_deref().is_some_and(|prefix| !prefix.is_empty())
}
