//! PUT to an object, and what every other change of an object (patch, status, binding, finalize) has in common with it.

use super::managed::Tracking;
use super::services::{Claim, Failure, Write};
use super::{ATTEMPTS, Registry, Target, WriteOptions, Written, body, codec_failed, metadata, store_failed};
use crate::admission::{Attributes, Operation};
use crate::kinds::Object;
use crate::watch_cache::Record;
use catamaran_api::body::Body;
use catamaran_api::field::quote;
use catamaran_api::{Errors, GroupKind, Path, Status};
use catamaran_store::{Error as StoreError, Revision};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::sync::Arc;

/// Which part of an object a request may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Everything that is the user's.
    Whole,
    /// Only `status`.
    Status,
    /// Only `spec.finalizers` of a namespace.
    Finalize,
    /// Only what this path below the object may change; the kind knows.
    Named(&'static str),
    /// The replicas. Admission has seen them as a scale.
    Scale,
    /// What the registry itself changes (bindings): already decided, not prepared again.
    System,
}

/// The new object, made from the one that is there. Called again if that changed in between.
pub(super) type Remake<'a> =
    dyn FnMut(&Record, &dyn Object, &mut Vec<String>) -> Result<Box<dyn Object>, Status> + Send + 'a;

impl Registry {
    /// Replaces the object, or its `part`, by `body`.
    pub(crate) async fn update(
        &self,
        target: &Target,
        part: Part,
        body: Body,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        let mut warnings = Vec::new();
        let new = body::decode(&target.resource, body, options.validation, &mut warnings)?;
        let info = &target.resource.info;
        check_place(target, new.meta())?;
        let stated = |text: &Option<String>| text.as_deref().is_some_and(|text| !matches!(text, "" | "0"));
        let states_version = stated(&new.meta().resource_version);
        let changed = self
            .change(target, part, options, &mut |_, old, _| {
                check_uid(target, new.meta(), old.meta())?;
                if states_version || info.unconditional_update {
                    Ok(new.boxed_clone())
                } else {
                    Err(version_required(target))
                }
            })
            .await;
        let mut written = match changed {
            Err(status)
                if status.code() == 404
                    && part == Part::Whole
                    && info.create_on_update
                    && !states_version
                    && !stated(&new.meta().uid) =>
            {
                self.may_create(target, options)?;
                return self.create_object(target, new, warnings, options).await;
            }
            other => other?,
        };
        written.warnings.splice(0..0, warnings);
        Ok(written)
    }

    /// Reads, remakes and writes an object at the revision that was read. If somebody else wrote in between, it is done
    /// anew, unless the new object says which version it was made from.
    pub(super) async fn change(
        &self,
        target: &Target,
        part: Part,
        options: &WriteOptions,
        remake: &mut Remake<'_>,
    ) -> Result<Written, Status> {
        self.change_tracked(target, part, options, Tracking::Due, remake).await
    }

    /// As [`change`](Self::change); the remade object's fields may have their owners already.
    pub(super) async fn change_tracked(
        &self,
        target: &Target,
        part: Part,
        options: &WriteOptions,
        tracking: Tracking,
        remake: &mut Remake<'_>,
    ) -> Result<Written, Status> {
        for _ in 0..ATTEMPTS {
            let current = self.get(target).await?;
            let old = target
                .resource
                .kind
                .decode_slice(&current.json())
                .map_err(|error| codec_failed(&error))?;
            let mut warnings = Vec::new();
            let mut new = remake(&current, old.as_ref(), &mut warnings)?;
            let bound = check_identity(target, new.as_ref(), old.as_ref(), &current)?;
            let (noticed, claim) = self
                .prepare_change(target, part, &mut new, old.as_ref(), options, tracking)
                .await?;
            warnings.extend(noticed);
            match self
                .replace(target, new.as_mut(), old.as_ref(), &current, claim, options)
                .await?
            {
                Some(json) => {
                    return Ok(Written {
                        json,
                        created: false,
                        warnings,
                    });
                }
                None if bound => return Err(target.modified()),
                None => {}
            }
        }
        Err(target.modified())
    }

    /// Everything between the new object as it was asked for and the write. Returns warnings, and what was reserved for the
    /// object.
    #[expect(clippy::too_many_arguments, reason = "a change is all of this")]
    async fn prepare_change(
        &self,
        target: &Target,
        part: Part,
        new: &mut Box<dyn Object>,
        old: &dyn Object,
        options: &WriteOptions,
        tracking: Tracking,
    ) -> Result<(Vec<String>, Option<Claim>), Status> {
        let resource = &target.resource;
        let kind = &resource.kind;
        if part == Part::System {
            return Ok((Vec::new(), None));
        }
        let mut claim = None;
        let world = self.world();
        let attributes = Attributes::new(target, Operation::Update, Some(old), options);
        kind.default(new.as_mut());
        metadata::inherit(new.meta_mut(), old.meta());
        if let Part::Named(name) = part {
            kind.prepare_part(name, new.as_mut(), old);
            super::subresources::stamp_conditions(new.as_mut());
            metadata::inherit(new.meta_mut(), old.meta());
        }
        if tracking == Tracking::Due {
            self.own_changed(target, new.as_mut(), old, options)?;
        }
        if !matches!(part, Part::Finalize | Part::Scale) {
            self.admission.mutate(&world, &attributes, new).await?;
        }
        let owners = new.meta_mut().managed_fields.take();
        match part {
            Part::Whole | Part::Scale => {
                kind.prepare_update(new.as_mut(), old);
                claim = self.allocate(target, Some(old), new.as_mut(), options)?;
            }
            Part::Status => {
                kind.prepare_status(new.as_mut(), old);
                super::subresources::stamp_conditions(new.as_mut());
            }
            // Again, since admission may have changed more than it may.
            Part::Named(name) => kind.prepare_part(name, new.as_mut(), old),
            Part::Finalize => *new.meta_mut() = old.meta().clone(),
            Part::System => {}
        }
        metadata::inherit(new.meta_mut(), old.meta());
        // Counted is what users want; the scheduler's choice of a node and the system's marks are not.
        let counts = matches!(part, Part::Whole | Part::Scale | Part::Named(_));
        if counts && kind.spec_changed(new.as_ref(), old) == Some(true) {
            new.meta_mut().generation = Some(old.meta().generation.unwrap_or(0) + 1);
        }
        new.meta_mut().managed_fields = owners;
        let new = new.as_ref();
        // The generic part of an update checks the metadata, and so does every kind: what is wrong there is a cause twice.
        let mut errors = metadata::validate_update(new, old);
        errors.extend(errors.clone());
        match part {
            Part::Whole | Part::Scale => {
                errors.extend(metadata::validate(resource, new));
                kind.validate(new, &mut errors);
                kind.validate_update(new, old, &mut errors);
            }
            Part::Status => {
                errors.extend(metadata::validate(resource, new));
                kind.validate_status(new, old, &mut errors);
            }
            Part::Named(name) => kind.validate_part(name, new, old, &mut errors),
            Part::Finalize | Part::System => {}
        }
        if !errors.is_empty() {
            return Err(Status::invalid(&resource.group_kind, &target.name, &errors));
        }
        if matches!(part, Part::Finalize | Part::Scale) {
            return Ok((Vec::new(), claim));
        }
        self.admission.validate(&world, &attributes, Some(new)).await?;
        let mut warnings = Vec::new();
        if part == Part::Whole {
            warnings.extend(kind.warnings(new, Some(old)));
        }
        warnings.extend(attributes.take_warnings());
        Ok((warnings, claim))
    }

    /// Writes a prepared object, with what was reserved for it. `None`: the one it replaces is not the present one any more.
    #[expect(clippy::too_many_arguments, reason = "a write is all of this")]
    pub(super) async fn replace(
        &self,
        target: &Target,
        new: &mut dyn Object,
        old: &dyn Object,
        current: &Arc<Record>,
        claim: Option<Claim>,
        options: &WriteOptions,
    ) -> Result<Option<bytes::Bytes>, Status> {
        let resource = &target.resource;
        let encoded = resource.encode(new).map_err(|error| codec_failed(&error))?;
        let served = |revision| {
            resource
                .served(&encoded, revision)
                .map_err(|error| codec_failed(&error))
        };
        // An update that changes nothing writes nothing and has no new version, unless what is stored is not in today's form.
        let unchanged = served(current.revision)?;
        if (unchanged == current.json() && !current.outdated) || options.dry_run {
            return Ok(Some(unchanged));
        }
        let key = target.key();
        let stored = self.to_storage(resource, &encoded).await?;
        if self.is_over(target, new, old) {
            return match self.remove(key, old, current.revision).await {
                Ok(revision) => served(revision).map(Some),
                Err(StoreError::Conflict { .. } | StoreError::NotFound { .. }) => Ok(None),
                Err(error) => Err(store_failed(&error)),
            };
        }
        let expected = current.revision;
        let written = match claim {
            None => {
                let updated = self.store.update(&key, stored, expected).await;
                updated.map(|entry| entry.modified).map_err(Failure::Store)
            }
            Some(claim) => {
                let value = stored;
                claim.write(Write::Update { key, value, expected }).await
            }
        };
        match written {
            Ok(revision) => served(revision).map(Some),
            Err(Failure::Store(StoreError::Conflict { .. } | StoreError::NotFound { .. }) | Failure::AddressTaken) => {
                Ok(None)
            }
            Err(Failure::Store(error)) => Err(store_failed(&error)),
        }
    }

    /// Removes an object, and gives back what it has.
    pub(super) async fn remove(
        &self,
        key: String,
        old: &dyn Object,
        expected: Revision,
    ) -> Result<Revision, StoreError> {
        let claim = self.relinquish(old).ok().flatten();
        match claim {
            None => {
                let deleted = self.store.delete(&key, Some(expected)).await;
                deleted.map(|(_, revision)| revision)
            }
            Some(claim) => match claim.write(Write::Delete { key, expected }).await {
                Ok(revision) => Ok(revision),
                Err(Failure::Store(error)) => Err(error),
                Err(Failure::AddressTaken) => unreachable!("a deletion takes no address"),
            },
        }
    }

    /// Did this update take away the last thing that held an object whose deletion has begun?
    fn is_over(&self, target: &Target, new: &dyn Object, old: &dyn Object) -> bool {
        let meta = new.meta();
        let held = |object: &dyn Object| {
            object
                .meta()
                .finalizers
                .as_ref()
                .is_some_and(|finalizers| !finalizers.is_empty())
                || target.resource.kind.holds_deletion(object)
        };
        meta.deletion_timestamp.is_some()
            && meta.deletion_grace_period_seconds.unwrap_or(0) == 0
            && held(old)
            && !held(new)
    }
}

/// Name, namespace, uid and version of the new object must be those of the present one where it states them. True if
/// it states its version.
fn check_identity(target: &Target, new: &dyn Object, old: &dyn Object, current: &Record) -> Result<bool, Status> {
    let (new, old) = (new.meta(), old.meta());
    check_name(target, new.name.as_deref().unwrap_or_default())?;
    check_namespace(target, new)?;
    let uid = new.uid.as_deref().unwrap_or_default();
    if !uid.is_empty() && uid != old.uid.as_deref().unwrap_or_default() {
        let mut errors = Errors::new();
        errors.invalid(&Path::new("metadata.uid"), uid, "field is immutable");
        errors.extend(errors.clone());
        return Err(Status::invalid(&target.resource.group_kind, &target.name, &errors));
    }
    match new.resource_version.as_deref().unwrap_or_default() {
        "" | "0" => Ok(false),
        version if version == current.revision.to_string() => Ok(true),
        version if version.parse::<u64>().is_err() => Err(Status::unknown(format!(
            "strconv.ParseUint: parsing {}: invalid syntax",
            quote(version)
        ))),
        _ => Err(target.modified()),
    }
}

/// What is put has to say which object it is.
fn check_place(target: &Target, new: &ObjectMeta) -> Result<(), Status> {
    check_namespace(target, new)?;
    match new.name.as_deref().unwrap_or_default() {
        "" => Err(Status::bad_request(format!(
            "the name of the object ({} based on URL) was undeterminable: name must be provided",
            target.name
        ))),
        name => check_name(target, name),
    }
}

fn check_namespace(target: &Target, new: &ObjectMeta) -> Result<(), Status> {
    let namespace = new.namespace.as_deref().unwrap_or_default();
    if namespace.is_empty() || target.namespace.as_deref().is_none_or(|own| own == namespace) {
        return Ok(());
    }
    Err(Status::bad_request(
        "the namespace of the provided object does not match the namespace sent on the request",
    ))
}

/// A uid in what is put is a condition.
fn check_uid(target: &Target, new: &ObjectMeta, old: &ObjectMeta) -> Result<(), Status> {
    let uid = new.uid.as_deref().unwrap_or_default();
    let old_uid = old.uid.as_deref().unwrap_or_default();
    if uid.is_empty() || uid == old_uid {
        return Ok(());
    }
    let why = format!(
        "StorageError: invalid object, Code: 4, Key: {}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in \
         precondition: {uid}, UID in object meta: {old_uid}",
        target.key()
    );
    Err(Status::conflict(&target.resource.group_resource, &target.name, why))
}

fn check_name(target: &Target, name: &str) -> Result<(), Status> {
    if name.is_empty() || name == target.name {
        return Ok(());
    }
    Err(Status::bad_request(format!(
        "the name of the object ({name}) does not match the name on the URL ({})",
        target.name
    )))
}

fn version_required(target: &Target) -> Status {
    let mut errors = Errors::new();
    errors.invalid(
        &Path::new("metadata.resourceVersion"),
        0,
        "must be specified for an update",
    );
    // Kubernetes names the resource here, not the kind.
    let resource = &target.resource.group_resource;
    let kind = GroupKind {
        group: resource.group.clone(),
        kind: resource.resource.clone(),
    };
    Status::invalid(&kind, &target.name, &errors)
}
