//! DELETE of an object, and of all that a selector chooses.

mod options;
mod plan;

pub(crate) use options::DeleteOptions;

use super::list::{List, ListOptions};
use super::resource::Resource;
use super::{ATTEMPTS, Registry, Target, WriteOptions, codec_failed, metadata, store_failed};
use crate::admission::{Attributes, Operation};
use crate::kinds::Object;
use crate::watch_cache::Record;
use bytes::Bytes;
use catamaran_api::{GroupResource, Status};
use catamaran_store::Error as StoreError;
use plan::{Default as DefaultPropagation, Plan, plan};
use std::sync::Arc;

/// Deletions of a collection under way at a time, so that the store commits them together.
const TOGETHER: usize = 64;

/// How a deletion ended.
pub(crate) enum Deleted {
    /// The object is gone. As it was last.
    Gone(Arc<Record>),
    /// Deletion has begun: the object, marked, stays until its node or its finalizers are done.
    Begun(Bytes),
    /// It had begun before, and this request changed nothing about it.
    Going(Arc<Record>),
}

/// Kinds whose deletion is answered with the object; the others say who is gone.
pub(crate) fn answers_with_object(resource: &Resource) -> bool {
    matches!(
        (resource.info.group.as_ref(), resource.info.plural.as_ref()),
        (
            "",
            "persistentvolumeclaims"
                | "persistentvolumes"
                | "pods"
                | "podtemplates"
                | "resourcequotas"
                | "serviceaccounts"
                | "services"
        ) | (
            "storage.k8s.io",
            "csidrivers" | "csinodes" | "storageclasses" | "volumeattachments" | "volumeattributesclasses"
        ) | (
            "resource.k8s.io",
            "deviceclasses" | "resourceclaims" | "resourceclaimtemplates" | "resourceslices"
        )
    )
}

/// Texts for `Warning` headers about what a deletion leaves behind, and what admission had to say about it.
pub(crate) fn warnings(resource: &Resource, options: &DeleteOptions) -> Vec<String> {
    let mut warnings = std::mem::take(&mut *options.notices.lock());
    let says_nothing = options.propagation.is_none() && options.orphan_dependents.is_none();
    if says_nothing && resource.info.group == "batch" && DefaultPropagation::of(resource) == DefaultPropagation::Orphan
    {
        warnings.push(
            "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or \
             set propagationPolicy=Orphan to suppress this warning"
                .to_owned(),
        );
    }
    warnings
}

impl Registry {
    /// Deletes an object, or begins to.
    pub(crate) async fn delete(&self, target: &Target, options: &DeleteOptions) -> Result<Deleted, Status> {
        let resource = &target.resource;
        for _ in 0..ATTEMPTS {
            let current = self.get(target).await?;
            let old = resource
                .kind
                .decode_slice(&current.json())
                .map_err(|error| codec_failed(&error))?;
            check_preconditions(target, old.as_ref(), &current, options)?;
            let write = WriteOptions {
                dry_run: options.dry_run,
                caller: Arc::clone(&options.caller),
                ..WriteOptions::default()
            };
            let mut attributes = Attributes::new(target, Operation::Delete, Some(old.as_ref()), &write);
            attributes.delete_options = Some(options.tree());
            let admitted = self.admission.validate(&self.world(), &attributes, None).await;
            options.notices.lock().extend(attributes.take_warnings());
            admitted?;
            match plan(resource, old.as_ref(), options, metadata::now().0) {
                Plan::Nothing => return Ok(Deleted::Going(current)),
                Plan::Remove => {
                    if options.dry_run {
                        return Ok(Deleted::Gone(current));
                    }
                    match self.remove(target.key(), old.as_ref(), current.revision).await {
                        Ok(_) => return Ok(Deleted::Gone(current)),
                        Err(StoreError::Conflict { .. }) => {}
                        Err(StoreError::NotFound { .. }) => return Err(target.not_found()),
                        Err(error) => return Err(store_failed(&error)),
                    }
                }
                Plan::Mark(mut marked) => {
                    if let Some(json) = self
                        .replace(target, marked.as_mut(), old.as_ref(), &current, None, &write)
                        .await?
                    {
                        return Ok(Deleted::Begun(json));
                    }
                }
            }
        }
        Err(target.modified())
    }

    /// Deletes what the list chooses in the target's collection, a page of it if it is limited, and returns the chosen objects
    /// as they were.
    pub(crate) async fn delete_collection(
        &self,
        target: &Target,
        list: &ListOptions,
        options: &DeleteOptions,
    ) -> Result<List, Status> {
        let chosen = self.list(target, list).await?;
        let deletions = chosen.records.iter().map(|record| {
            let one = Target {
                namespace: record.namespace().map(ToOwned::to_owned),
                name: record.name().to_owned(),
                ..target.clone()
            };
            async move {
                match self.delete(&one, options).await {
                    Err(status) if status.code() != 404 => Err(status),
                    _ => Ok(()),
                }
            }
        });
        let deletions: Vec<_> = deletions.collect();
        let mut running = futures::StreamExt::buffer_unordered(futures::stream::iter(deletions), TOGETHER);
        while let Some(result) = futures::StreamExt::next(&mut running).await {
            result?;
        }
        drop(running);
        Ok(chosen)
    }
}

fn check_preconditions(
    target: &Target,
    old: &dyn Object,
    current: &Record,
    options: &DeleteOptions,
) -> Result<(), Status> {
    let info = &target.resource.info;
    // These messages name the kind where all others name the resource.
    let kind = GroupResource {
        group: info.group.clone(),
        resource: info.kind.clone(),
    };
    let conflict = |why: String| Err(Status::conflict(&kind, &target.name, why));
    // … and those of a namespace are worded as those of an update.
    if target.resource.kind.holds_deletion(old) {
        return check_namespace(target, old, current, options);
    }
    let own = old.meta().uid.as_deref().unwrap_or_default();
    if let Some(uid) = options.uid.as_deref().filter(|uid| *uid != own) {
        return conflict(format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({own}). The object might have been \
             deleted and then recreated"
        ));
    }
    let own = current.revision.to_string();
    if let Some(version) = options.resource_version.as_deref().filter(|version| *version != own) {
        return conflict(format!(
            "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record ({own}). The \
             object might have been modified"
        ));
    }
    Ok(())
}

fn check_namespace(target: &Target, old: &dyn Object, current: &Record, options: &DeleteOptions) -> Result<(), Status> {
    let version = current.revision.to_string();
    let checks = [
        ("UID", &options.uid, old.meta().uid.as_deref().unwrap_or_default()),
        ("ResourceVersion", &options.resource_version, version.as_str()),
    ];
    for (what, wanted, own) in checks {
        if let Some(wanted) = wanted.as_deref().filter(|wanted| *wanted != own) {
            let why = format!("Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {own}");
            return Err(Status::conflict(&target.resource.group_resource, &target.name, why));
        }
    }
    Ok(())
}
