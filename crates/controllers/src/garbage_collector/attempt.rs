//! Working on one object: look at it and its owners as they are now, decide, do. Whatever it needs of the cluster is a trait, so
//! that the whole collector can run against a model.

use super::decide::{Facts, Footing, Propagation, Verdict, judge};
use super::graph::{Identity, Item, Owner, Seen, Uid, Work};
use std::sync::Arc;

/// An object as it is now.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    pub(crate) uid: Uid,
    pub(crate) version: String,
    pub(crate) owners: Vec<Owner>,
    pub(crate) being_deleted: bool,
    pub(crate) orphan: bool,
    pub(crate) foreground: bool,
}

/// What a change of owner references is.
#[derive(Clone, Debug)]
pub(crate) enum References {
    /// Without those to these uids.
    Drop(Vec<Uid>),
    /// All of them not blocking.
    Unblock,
}

/// Why a request did not do what it was to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// There is no such object (any more).
    #[error("it is gone")]
    Gone,
    #[error("the type {kind} in {api_version} is not known")]
    UnknownType { api_version: Arc<str>, kind: Arc<str> },
    #[error(transparent)]
    Request(#[from] kube::Error),
    /// Somebody else changed it in between.
    #[error("it changed meanwhile")]
    Conflict,
}

/// The finalizers of the collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finalizer {
    Orphan,
    Foreground,
}

/// What the collector needs of a cluster. Every request is about the object of exactly that uid.
#[async_trait::async_trait]
pub(crate) trait Cluster: Sync {
    /// Do objects of this type live in namespaces?
    fn is_namespaced(&self, api_version: &Arc<str>, kind: &Arc<str>) -> Result<bool, Failure>;
    /// Whatever has this name now, of whichever uid.
    async fn look(&self, identity: &Identity) -> Result<Option<Live>, Failure>;
    async fn change_references(&self, identity: &Identity, change: References) -> Result<(), Failure>;
    /// Only if the object is still of this version.
    async fn delete(&self, identity: &Identity, version: &str, propagation: Propagation) -> Result<(), Failure>;
    async fn remove_finalizer(&self, identity: &Identity, finalizer: Finalizer) -> Result<(), Failure>;
    /// Dependents of an object that the graph cannot know of, since the watch of their resource has not come through yet. Fails
    /// if there may be some and nobody can tell.
    async fn unseen_dependents(&self, identity: &Identity) -> Result<Vec<Seen>, Failure>;
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// This object turned out not to exist.
    pub(crate) vanished: Option<Identity>,
    /// Owners that turned out not to exist.
    pub(crate) absent: Vec<Identity>,
    /// To be worked on next.
    pub(crate) work: Vec<Work>,
    /// To be looked at again, since no watch has shown it yet, or not all that depends on it.
    pub(crate) again: bool,
    /// Found without a watch.
    pub(crate) seen: Vec<Seen>,
}

/// Dependents that the graph does not know; it is to know them before anything is done that needs all of them.
async fn unknown(cluster: &dyn Cluster, item: &Item) -> Result<Option<Outcome>, Failure> {
    let mut seen = cluster.unseen_dependents(&item.identity).await?;
    seen.retain(|seen| {
        let known = |dependent: &super::graph::Dependent| dependent.identity.uid == seen.identity.uid;
        !item.dependents.iter().any(known)
    });
    Ok((!seen.is_empty()).then(|| Outcome {
        seen,
        again: true,
        ..Outcome::default()
    }))
}

/// See [`Work::Attempt`].
pub(crate) async fn attempt(cluster: &dyn Cluster, item: &Item) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    if item.being_deleted && !item.waits {
        // It is on its way; what follows from it follows when it is gone.
        return Ok(outcome);
    }
    let identity = &item.identity;
    let is_namespaced = cluster.is_namespaced(&identity.api_version, &identity.kind)?;
    if identity.namespace.is_empty() && is_namespaced {
        // Only a reference from an object without a namespace names it so. Nothing can be found there, which proves nothing.
        return Ok(outcome);
    }
    // Before a watch showed it, it is thought to be where those are that refer to it; its own owners are not there for that.
    let namespace: Arc<str> = if is_namespaced {
        Arc::clone(&identity.namespace)
    } else {
        "".into()
    };
    let live = cluster.look(identity).await?;
    let Some(live) = live.filter(|live| live.uid == item.identity.uid) else {
        outcome.vanished = Some(item.identity.clone());
        return Ok(outcome);
    };
    if item.waits {
        return finish(cluster, item, outcome).await;
    }
    outcome.again = !item.observed;
    if live.being_deleted && live.orphan {
        // On its way as well, and no watch has shown it yet. Whoever asked for that wants its dependents to stay.
        return Ok(outcome);
    }
    let mut references = Vec::with_capacity(live.owners.len());
    for owner in &live.owners {
        match footing(cluster, item, &namespace, owner, &mut outcome).await? {
            Some(footing) => references.push((Arc::clone(&owner.uid), footing)),
            // A reference that can never be right is no reason to do anything.
            None => return Ok(outcome),
        }
    }
    let waiting = references.iter().any(|(_, footing)| *footing == Footing::Waiting);
    if waiting
        && item.dependents.is_empty()
        && let Some(outcome) = unknown(cluster, item).await?
    {
        return Ok(outcome);
    }
    let facts = Facts {
        has_dependents: !item.dependents.is_empty(),
        has_waiting_dependent: item.dependents.iter().any(|dependent| dependent.waits),
        orphan: live.orphan,
        foreground: live.foreground,
    };
    let done = match judge(&references, facts) {
        Verdict::Keep => Ok(()),
        Verdict::DropReferences(uids) => cluster.change_references(&item.identity, References::Drop(uids)).await,
        Verdict::Delete {
            propagation,
            unblock: false,
        } => cluster.delete(&item.identity, &live.version, propagation).await,
        Verdict::Delete {
            propagation,
            unblock: true,
        } => {
            cluster.change_references(&item.identity, References::Unblock).await?;
            let version = match cluster.look(&item.identity).await? {
                Some(now) if now.uid == live.uid => now.version,
                _ => return Err(Failure::Conflict),
            };
            cluster.delete(&item.identity, &version, propagation).await
        }
    };
    match done {
        Err(Failure::Gone) => {
            outcome.vanished = Some(item.identity.clone());
            outcome.again = false;
            Ok(outcome)
        }
        Err(failure) => Err(failure),
        Ok(()) => Ok(outcome),
    }
}

/// Lets an object go that waits for its dependents, if no dependent holds it.
async fn finish(cluster: &dyn Cluster, item: &Item, mut outcome: Outcome) -> Result<Outcome, Failure> {
    if !item.dependents.iter().any(|dependent| dependent.blocks) {
        if let Some(outcome) = unknown(cluster, item).await? {
            return Ok(outcome);
        }
        return match cluster.remove_finalizer(&item.identity, Finalizer::Foreground).await {
            Ok(()) | Err(Failure::Gone) => Ok(outcome),
            Err(failure) => Err(failure),
        };
    }
    let idle = item
        .dependents
        .iter()
        .filter(|dependent| dependent.blocks && !dependent.waits);
    outcome.work = idle
        .map(|dependent| Work::Attempt(Arc::clone(&dependent.identity.uid)))
        .collect();
    Ok(outcome)
}

/// Where a reference of an object in this namespace leads. `None`: nowhere, ever, since what lives in no namespace has no owner in one.
async fn footing(
    cluster: &dyn Cluster,
    item: &Item,
    namespace: &Arc<str>,
    owner: &Owner,
    outcome: &mut Outcome,
) -> Result<Option<Footing>, Failure> {
    let nowhere: Arc<str> = "".into();
    let here = owner.identity(namespace);
    // In a namespace the answer holds, even if the type itself is gone by now.
    if !namespace.is_empty() && item.absent.contains(&here) {
        return Ok(Some(Footing::Dangling));
    }
    let namespaced = cluster.is_namespaced(&owner.api_version, &owner.kind)?;
    if namespaced && namespace.is_empty() {
        return Ok(None);
    }
    let identity = if namespaced { here } else { owner.identity(&nowhere) };
    if item.absent.contains(&identity) {
        return Ok(Some(Footing::Dangling));
    }
    match cluster.look(&identity).await? {
        Some(live) if live.uid == owner.uid => Ok(Some(if live.being_deleted && live.foreground {
            Footing::Waiting
        } else {
            Footing::Solid
        })),
        _ => {
            outcome.absent.push(identity);
            Ok(Some(Footing::Dangling))
        }
    }
}

/// See [`Work::Orphan`].
pub(crate) async fn orphan(cluster: &dyn Cluster, item: &Item) -> Result<Outcome, Failure> {
    if let Some(outcome) = unknown(cluster, item).await? {
        return Ok(outcome);
    }
    let drops = item.dependents.iter().map(|dependent| async {
        let change = References::Drop(vec![Arc::clone(&item.identity.uid)]);
        match cluster.change_references(&dependent.identity, change).await {
            Ok(()) | Err(Failure::Gone) => Ok(()),
            Err(failure) => Err(failure),
        }
    });
    futures::future::try_join_all(drops).await?;
    match cluster.remove_finalizer(&item.identity, Finalizer::Orphan).await {
        Ok(()) | Err(Failure::Gone) => Ok(Outcome::default()),
        Err(failure) => Err(failure),
    }
}
