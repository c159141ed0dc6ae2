//! DELETE of an object, and of all that a selector chooses.

use super::filter::Filter;
use super::{ATTEMPTS, Registry, Target, WriteOptions, codec_failed, metadata, store_failed};
use crate::admission;
use crate::kinds::Object;
use crate::watch_cache::Record;
use bytes::Bytes;
use catamaran_api::Status;
use catamaran_store::Error as StoreError;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as metav1;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use std::sync::Arc;

/// What the caller of a deletion asks for. (What becomes of dependents is the garbage collector's business.)
#[derive(Clone, Debug, Default)]
pub(crate) struct DeleteOptions {
    pub(crate) dry_run: bool,
    pub(crate) grace_period_seconds: Option<i64>,
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
}

/// How a deletion ended.
pub(crate) enum Deleted {
    /// The object is gone. As it was last.
    Gone(Arc<Record>),
    /// Deletion has begun: the object, marked, stays until its node or its finalizers are done.
    Begun(Bytes),
}

impl DeleteOptions {
    /// From a body, once `dryRun` and the rest of the query were merged into it.
    pub(crate) fn from_body(options: metav1::DeleteOptions) -> Result<Self, Status> {
        let preconditions = options.preconditions.unwrap_or_default();
        if let Some(policy) = &options.propagation_policy
            && !matches!(policy.as_str(), "Orphan" | "Background" | "Foreground")
        {
            return Err(Status::bad_request(format!(
                "invalid propagationPolicy {policy:?}: it must be one of Orphan, Background, Foreground"
            )));
        }
        Ok(DeleteOptions {
            dry_run: match options.dry_run.as_deref() {
                None | Some([]) => false,
                Some([only]) if only == "All" => true,
                Some(other) => {
                    return Err(Status::bad_request(format!(
                        "invalid dryRun {other:?}: the only value is All"
                    )));
                }
            },
            grace_period_seconds: options.grace_period_seconds,
            uid: preconditions.uid,
            resource_version: preconditions.resource_version,
        })
    }
}

/// What is to be done with an object that is to be deleted.
enum Plan {
    /// Take it out of the store.
    Remove,
    /// Write this instead: it is held, or its node has to end it first.
    Mark(Box<dyn Object>),
    /// It is on its way already.
    Nothing,
}

impl Registry {
    /// Deletes an object, or begins to.
    pub(crate) async fn delete(&self, target: &Target, options: &DeleteOptions) -> Result<Deleted, Status> {
        admission::admit_delete(target)?;
        for _ in 0..ATTEMPTS {
            let current = self.get(target).await?;
            let old = target
                .resource
                .kind
                .decode_slice(&current.json())
                .map_err(|error| codec_failed(&error))?;
            check_preconditions(target, old.as_ref(), &current, options)?;
            match plan(target, old.as_ref(), options) {
                Plan::Nothing => return Ok(Deleted::Begun(current.json())),
                Plan::Remove => {
                    if options.dry_run {
                        return Ok(Deleted::Gone(current));
                    }
                    match self.store.delete(&target.key(), Some(current.revision)).await {
                        Ok(_) => return Ok(Deleted::Gone(current)),
                        Err(StoreError::Conflict { .. }) => {}
                        Err(StoreError::NotFound { .. }) => return Err(target.not_found()),
                        Err(error) => return Err(store_failed(&error)),
                    }
                }
                Plan::Mark(mut marked) => {
                    let write = WriteOptions {
                        dry_run: options.dry_run,
                        ..WriteOptions::default()
                    };
                    if let Some(json) = self
                        .replace(target, marked.as_mut(), old.as_ref(), &current, &write)
                        .await?
                    {
                        return Ok(Deleted::Begun(json));
                    }
                }
            }
        }
        Err(target.modified())
    }

    /// Deletes what the filter chooses in the target's collection, and returns the chosen objects as they were.
    pub(crate) async fn delete_collection(
        &self,
        target: &Target,
        filter: &Filter,
        options: &DeleteOptions,
    ) -> Result<Vec<Arc<Record>>, Status> {
        self.caches.fresh().await?;
        let prefix = target.resource.prefix(target.namespace.as_deref());
        let chosen = self
            .cache(&target.resource)
            .select(&prefix, None, 0, |record| filter.matches(record))
            .records;
        let targets: Vec<Target> = chosen
            .iter()
            .map(|record| Target {
                namespace: record.namespace().map(ToOwned::to_owned),
                name: record.name().to_owned(),
                ..target.clone()
            })
            .collect();
        let deletions = targets.into_iter().map(|one| async move {
            match self.delete(&one, options).await {
                Err(status) if status.code() != 404 => Err(status),
                _ => Ok(()),
            }
        });
        // Together, so that the store commits them together.
        let mut running = futures::StreamExt::buffer_unordered(futures::stream::iter(deletions), 64);
        while let Some(result) = futures::StreamExt::next(&mut running).await {
            result?;
        }
        drop(running);
        Ok(chosen)
    }
}

/// Pure: what deleting means for this object, now.
fn plan(target: &Target, old: &dyn Object, options: &DeleteOptions) -> Plan {
    let kind = target.resource.kind;
    let held = old
        .meta()
        .finalizers
        .as_ref()
        .is_some_and(|finalizers| !finalizers.is_empty())
        || kind.holds_deletion(old);
    let grace = kind.deletion_grace(old, options.grace_period_seconds);
    let seconds = grace.unwrap_or(0);
    if seconds == 0 && !held {
        return Plan::Remove;
    }
    let meta = old.meta();
    if meta.deletion_timestamp.is_some() {
        // A second deletion may only hurry it up.
        let pending = meta.deletion_grace_period_seconds.unwrap_or(0);
        if grace.is_none() || seconds >= pending {
            return Plan::Nothing;
        }
    }
    let mut marked = old.boxed_clone();
    kind.mark_deleted(marked.as_mut());
    let meta = marked.meta_mut();
    let began = match (&meta.deletion_timestamp, meta.deletion_grace_period_seconds) {
        (Some(at), Some(pending)) => at.0 - SignedDuration::from_secs(pending),
        _ => metadata::now().0,
    };
    let at: Timestamp = began + SignedDuration::from_secs(seconds);
    meta.deletion_timestamp = Some(metav1::Time(at));
    meta.deletion_grace_period_seconds = Some(seconds);
    if let Some(generation) = &mut meta.generation {
        *generation += 1;
    }
    Plan::Mark(marked)
}

fn check_preconditions(
    target: &Target,
    old: &dyn Object,
    current: &Record,
    options: &DeleteOptions,
) -> Result<(), Status> {
    let conflict = |why: String| Err(Status::conflict(&target.resource.group_resource, &target.name, why));
    let own = old.meta().uid.as_deref().unwrap_or_default();
    if let Some(uid) = options.uid.as_deref().filter(|uid| *uid != own) {
        return conflict(format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {own}"
        ));
    }
    let own = current.revision.to_string();
    if let Some(version) = options.resource_version.as_deref().filter(|version| *version != own) {
        return conflict(format!(
            "Precondition failed: ResourceVersion in precondition: {version}, ResourceVersion in object meta: {own}"
        ));
    }
    Ok(())
}
