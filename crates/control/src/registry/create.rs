//! POST to a collection.

use super::{ATTEMPTS, Registry, Target, WriteOptions, Written, body, codec_failed, metadata, store_failed};
use crate::admission::{self, Operation};
use crate::kinds::Object;
use catamaran_api::Status;
use catamaran_api::body::Body;
use catamaran_store::Error as StoreError;

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
        mut object: Box<dyn Object>,
        mut warnings: Vec<String>,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        let resource = &target.resource;
        let object = object.as_mut();
        metadata::settle_namespace(object.meta_mut(), target.namespace.as_deref())?;
        let has_generation = resource.kind.spec_changed(object, object).is_some();
        metadata::birth(object.meta_mut(), has_generation);
        self.caches.fresh().await?;

        let template = generated(object).then(|| object.boxed_clone());
        for attempt in 1.. {
            let mut copy = template.as_ref().map(|template| template.boxed_clone());
            let object = copy.as_deref_mut().unwrap_or(&mut *object);
            self.prepare(target, object, &mut warnings, attempt == 1)?;
            match self.insert(target, object, options).await {
                Err(Insert::Exists(_)) if template.is_some() && attempt < ATTEMPTS => {}
                Err(Insert::Exists(name)) => return Err(Status::already_exists(&resource.group_resource, &name)),
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

    /// Everything between decoding and writing.
    fn prepare(
        &self,
        target: &Target,
        object: &mut dyn Object,
        warnings: &mut Vec<String>,
        first: bool,
    ) -> Result<(), Status> {
        let resource = &target.resource;
        if generated(object) {
            let name = metadata::generate_name(object.meta().generate_name.as_deref().unwrap_or_default());
            object.meta_mut().name = Some(name);
        }
        resource.kind.default(object);
        let request = admission::Request {
            target,
            operation: Operation::Create,
        };
        admission::admit(&self.world(), &request, object)?;
        resource.kind.prepare_create(object);
        let mut errors = metadata::validate(resource, object);
        resource.kind.validate(object, &mut errors);
        if !errors.is_empty() {
            let name = object.meta().name.as_deref().unwrap_or_default();
            return Err(Status::invalid(&resource.group_kind, name, &errors));
        }
        if first {
            warnings.extend(resource.kind.warnings(object, None));
        }
        Ok(())
    }

    async fn insert(
        &self,
        target: &Target,
        object: &mut dyn Object,
        options: &WriteOptions,
    ) -> Result<bytes::Bytes, Insert> {
        let resource = &target.resource;
        let name = object.meta().name.clone().unwrap_or_default();
        let stored = resource
            .encode(object)
            .map_err(|error| Insert::Failed(codec_failed(&error)))?;
        let key = resource.key(target.namespace.as_deref(), &name);
        if options.dry_run {
            return match self.cache(resource).get(target.namespace.as_deref(), &name) {
                Some(_) => Err(Insert::Exists(name)),
                None => Ok(stored),
            };
        }
        match self.store.create(&key, stored.clone()).await {
            Ok(entry) => resource
                .served(&stored, entry.modified)
                .map_err(|error| Insert::Failed(codec_failed(&error))),
            Err(StoreError::Exists { .. }) => Err(Insert::Exists(name)),
            Err(error) => Err(Insert::Failed(store_failed(&error))),
        }
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
