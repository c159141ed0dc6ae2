//! Claims and volumes that are in use stay until they are not: a finalizer holds them, and comes off here.
//! <https://kubernetes.io/docs/concepts/storage/persistent-volumes/#storage-object-in-use-protection>

use crate::framework::drive::{Change, Next, drive, source};
use crate::framework::requests::{is_conflict, is_not_found};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ListParams, PostParams, WatchEvent, WatchParams};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, ResourceExt};
use tokio_util::sync::CancellationToken;

const CLAIM_FINALIZER: &str = "kubernetes.io/pvc-protection";
const VOLUME_FINALIZER: &str = "kubernetes.io/pv-protection";
/// Claims that are waited for at a time.
const WORKERS: usize = 256;
/// Seconds after which the watch for the end of pods looks anew.
const WATCH_SECONDS: u32 = 290;

/// Keeps claims that pods use.
pub(crate) async fn claims(client: Client, shutdown: CancellationToken) {
    let claims = watcher(
        Api::<PartialObjectMeta<PersistentVolumeClaim>>::all(client.clone()),
        watcher::Config::default(),
    );
    let sources = vec![source("claims", claims, |change| match change {
        Change::Is(claim) if is_concerned(&claim.metadata, CLAIM_FINALIZER) => {
            vec![(claim.namespace().unwrap_or_default(), claim.name_any())]
        }
        _ => Vec::new(),
    })];
    drive(
        "persistentvolumeclaim-protection",
        sources,
        WORKERS,
        shutdown,
        |(namespace, name)| claim(client.clone(), namespace, name),
    )
    .await;
}

/// Keeps volumes that are bound to a claim.
pub(crate) async fn volumes(client: Client, shutdown: CancellationToken) {
    let volumes = watcher(Api::<PersistentVolume>::all(client.clone()), watcher::Config::default());
    let sources = vec![source("volumes", volumes, |change| match change {
        Change::Is(volume) if is_concerned(&volume.metadata, VOLUME_FINALIZER) => vec![volume.name_any()],
        _ => Vec::new(),
    })];
    drive("persistentvolume-protection", sources, WORKERS, shutdown, |name| {
        volume(client.clone(), name)
    })
    .await;
}

/// Is the finalizer to come off soon, or missing?
fn is_concerned(metadata: &ObjectMeta, finalizer: &str) -> bool {
    metadata.deletion_timestamp.is_some() == has(metadata, finalizer)
}

fn has(metadata: &ObjectMeta, finalizer: &str) -> bool {
    metadata.finalizers.iter().flatten().any(|own| own == finalizer)
}

async fn claim(client: Client, namespace: String, name: String) -> kube::Result<Next> {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &namespace);
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    loop {
        let Some(claim) = claims.get_opt(&name).await? else {
            return Ok(Next::Done);
        };
        if claim.metadata.deletion_timestamp.is_none() {
            return put_on(&claims, &claim.metadata, CLAIM_FINALIZER).await;
        }
        let list = pods.list(&ListParams::default()).await?;
        let users: Vec<String> = list
            .items
            .iter()
            .filter(|pod| uses(pod, &claim))
            .map(ResourceExt::name_any)
            .collect();
        if users.is_empty() {
            return take_off(&claims, &claim.metadata, CLAIM_FINALIZER).await;
        }
        let version = list.metadata.resource_version.unwrap_or_default();
        until_one_is_gone(&pods, &users, &version).await?;
    }
}

/// Resolves when one of these pods is gone or has ended, or it is time to look anew.
async fn until_one_is_gone(pods: &Api<Pod>, users: &[String], version: &str) -> kube::Result<()> {
    let parameters = WatchParams::default().timeout(WATCH_SECONDS);
    let mut events = pods.watch(&parameters, version).await?.boxed();
    while let Some(event) = events.try_next().await? {
        match event {
            WatchEvent::Deleted(pod) if users.contains(&pod.name_any()) => return Ok(()),
            WatchEvent::Modified(pod) if users.contains(&pod.name_any()) && is_over(&pod) => return Ok(()),
            WatchEvent::Error(_) => return Ok(()),
            _ => {}
        }
    }
    Ok(())
}

/// Pure: does this pod use the claim? One that has no node yet will not get one, since the claim is being deleted.
fn uses(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    let Some(spec) = &pod.spec else { return false };
    if spec.node_name.as_deref().unwrap_or_default().is_empty() {
        return false;
    }
    let name = claim.name_any();
    spec.volumes.iter().flatten().any(|volume| {
        let named = volume
            .persistent_volume_claim
            .as_ref()
            .is_some_and(|source| source.claim_name == name);
        let own = volume.ephemeral.is_some()
            && !is_over(pod)
            && format!("{}-{}", pod.name_any(), volume.name) == name
            && claim
                .owner_references()
                .iter()
                .any(|owner| Some(&owner.uid) == pod.metadata.uid.as_ref());
        named || own
    })
}

/// Has it come to its end, for good?
fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

async fn volume(client: Client, name: String) -> kube::Result<Next> {
    let volumes: Api<PersistentVolume> = Api::all(client);
    let Some(volume) = volumes.get_opt(&name).await? else {
        return Ok(Next::Done);
    };
    if volume.metadata.deletion_timestamp.is_none() {
        return put_on(&volumes, &volume.metadata, VOLUME_FINALIZER).await;
    }
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
    if phase == Some("Bound") {
        return Ok(Next::Done);
    }
    take_off(&volumes, &volume.metadata, VOLUME_FINALIZER).await
}

async fn put_on<K>(api: &Api<K>, read: &ObjectMeta, finalizer: &str) -> kube::Result<Next>
where
    K: kube::Resource + Clone + serde::de::DeserializeOwned + serde::Serialize + std::fmt::Debug,
{
    if has(read, finalizer) {
        return Ok(Next::Done);
    }
    let mut finalizers = read.finalizers.clone().unwrap_or_default();
    finalizers.push(finalizer.to_owned());
    write(api, read, finalizers).await
}

async fn take_off<K>(api: &Api<K>, read: &ObjectMeta, finalizer: &str) -> kube::Result<Next>
where
    K: kube::Resource + Clone + serde::de::DeserializeOwned + serde::Serialize + std::fmt::Debug,
{
    if !has(read, finalizer) {
        return Ok(Next::Done);
    }
    let finalizers = read.finalizers.clone().unwrap_or_default().into_iter();
    write(api, read, finalizers.filter(|own| own != finalizer).collect()).await
}

/// Writes finalizers, if the object is still the one that was read. As a whole: the role of these controllers is to update.
async fn write<K>(api: &Api<K>, read: &ObjectMeta, finalizers: Vec<String>) -> kube::Result<Next>
where
    K: kube::Resource + Clone + serde::de::DeserializeOwned + serde::Serialize + std::fmt::Debug,
{
    let result = async {
        let mut object = api.get(read.name.as_deref().unwrap_or_default()).await?;
        let meta = object.meta_mut();
        // Otherwise the watch shows what it is now.
        if meta.uid == read.uid && meta.resource_version == read.resource_version {
            meta.finalizers = (!finalizers.is_empty()).then_some(finalizers);
            let name = meta.name.clone().unwrap_or_default();
            api.replace(&name, &PostParams::default(), &object).await?;
        }
        Ok(())
    };
    match result.await {
        Err(error) if is_not_found(&error) || is_conflict(&error) => Ok(Next::Done),
        other => other.map(|()| Next::Done),
    }
}
