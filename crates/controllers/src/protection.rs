//! Claims and volumes that are in use stay until they are not: a finalizer holds them, and comes off here.
//! <https://kubernetes.io/docs/concepts/storage/persistent-volumes/#storage-object-in-use-protection>

use crate::framework::drive::{Change, Next, drive, source};
use crate::framework::requests::{is_conflict, is_not_found};
use crate::touched::{Concern, Key, Listener};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ListParams, PostParams};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, ResourceExt};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const CLAIM_FINALIZER: &str = "kubernetes.io/pvc-protection";
const VOLUME_FINALIZER: &str = "kubernetes.io/pv-protection";
/// Claims and volumes that are looked at at a time.
const WORKERS: usize = 8;
/// How long changes of pods are gathered before the claims they use are looked at again.
const GATHER: Duration = Duration::from_millis(20);

/// Keeps claims that pods use. A claim that is in use waits for a change of one of its pods, which `pods` tells.
pub(crate) async fn claims(client: Client, pods: Listener, shutdown: CancellationToken) {
    let claims = watcher(
        Api::<PartialObjectMeta<PersistentVolumeClaim>>::all(client.clone()),
        watcher::Config::default(),
    );
    let waiting = pods.clone();
    let sources = vec![
        source("claims", claims, move |change| {
            let object = change.object();
            let key = (object.namespace().unwrap_or_default(), object.name_any());
            match change {
                Change::Is(claim) if is_concerned(&claim.metadata, CLAIM_FINALIZER) => vec![key],
                _ => {
                    waiting.leave(&key);
                    Vec::new()
                }
            }
        }),
        pods.source(GATHER),
    ];
    drive("persistentvolumeclaim-protection", sources, WORKERS, shutdown, |key| {
        claim(client.clone(), pods.clone(), key)
    })
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

async fn claim(client: Client, waiting: Listener, key: Key) -> kube::Result<Next> {
    let (namespace, name) = &key;
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let claim = claims.get_opt(name).await?;
    let Some(claim) = claim.filter(|claim| is_concerned(&claim.metadata, CLAIM_FINALIZER)) else {
        waiting.leave(&key);
        return Ok(Next::Done);
    };
    if claim.metadata.deletion_timestamp.is_none() {
        return put_on(&claims, &claim.metadata, CLAIM_FINALIZER).await;
    }
    // Told before it is looked, so that nothing that happens in between is missed.
    waiting.follow(key.clone(), Concern::Any);
    let pods: Api<Pod> = Api::namespaced(client, namespace);
    let list = pods.list(&ListParams::default()).await?;
    let users = list.items.iter().filter(|pod| uses(pod, &claim));
    let users: BTreeSet<String> = users.map(ResourceExt::name_any).collect();
    if !users.is_empty() {
        waiting.follow(key.clone(), Concern::Named(users));
        // It may have gone while this ran: then nobody else would leave it.
        let now = claims.get_metadata_opt(name).await?;
        if !now.is_some_and(|now| is_concerned(&now.metadata, CLAIM_FINALIZER)) {
            waiting.leave(&key);
        }
        return Ok(Next::Done);
    }
    let done = take_off(&claims, &claim.metadata, CLAIM_FINALIZER).await?;
    waiting.leave(&key);
    Ok(done)
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
            && !is_shut_down(pod)
            && format!("{}-{}", pod.name_any(), volume.name) == name
            && claim
                .owner_references()
                .iter()
                .any(|owner| Some(&owner.uid) == pod.metadata.uid.as_ref());
        named || own
    })
}

/// Has its node done with it, or was it deleted by force? Only finalizers can hold it then, and one of them may wait for the claim.
fn is_shut_down(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some() && pod.metadata.deletion_grace_period_seconds == Some(0)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framework::discovery::Resource;
    use crate::framework::fake::Fake;
    use crate::touched::Touched;
    use serde_json::json;

    const CLAIMS: &str = "/api/v1/persistentvolumeclaims";
    const PODS: &str = "/api/v1/pods";

    fn claim(fake: &Fake, name: &str) {
        let metadata = json!({
            "name": name, "namespace": "a", "finalizers": [CLAIM_FINALIZER],
            "deletionTimestamp": "2026-01-01T00:00:00Z",
        });
        fake.put(CLAIMS, json!({ "metadata": metadata, "spec": {} }));
    }

    fn pod(fake: &Fake, name: &str, claim: &str) {
        let volumes = json!([{ "name": "v", "persistentVolumeClaim": { "claimName": claim } }]);
        let spec = json!({ "nodeName": "n", "containers": [], "volumes": volumes });
        fake.put(
            PODS,
            json!({ "metadata": { "name": name, "namespace": "a" }, "spec": spec }),
        );
    }

    /// The finalizer is off.
    async fn until_free(fake: &Fake, claim: &str) {
        fake.until(|fake| {
            let claim = fake.get(CLAIMS, "a", claim)?;
            claim["metadata"]["finalizers"].is_null().then_some(())
        })
        .await;
    }

    /// However many claims are in use, the next one that is not is let go, and so is one of them when its pod is gone.
    #[tokio::test]
    async fn a_claim_in_use_keeps_nobody_waiting() {
        let fake = Fake::default();
        let in_use: Vec<String> = (0..300).map(|number| format!("used-{number}")).collect();
        for name in &in_use {
            claim(&fake, name);
            pod(&fake, &format!("by-{name}"), name);
        }
        // Looked at last.
        claim(&fake, "z-free");
        let touched = Touched::default();
        let pods = Resource::of_test("pods");
        let stop = CancellationToken::new();
        let listener = touched.listen(|_| true);
        let running = tokio::spawn(claims(fake.client(), listener, stop.clone()));
        until_free(&fake, "z-free").await;
        fake.remove(PODS, "a", "by-used-7");
        touched.touch(&pods, "a", "by-used-7");
        until_free(&fake, "used-7").await;
        for name in in_use.iter().filter(|name| *name != "used-7") {
            let claim = fake.get(CLAIMS, "a", name).expect("claim");
            assert_eq!(claim["metadata"]["finalizers"], json!([CLAIM_FINALIZER]), "{name}");
        }
        stop.cancel();
        running.await.expect("the controller ends");
    }

    /// As long as a pod is there, its node may hold what it mounted, whatever phase it is in.
    #[test]
    fn a_pod_uses_a_claim_until_its_node_has_done_with_it() {
        let owner = json!({ "apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u" });
        let claim = |name: &str| -> PersistentVolumeClaim {
            let metadata = json!({ "name": name, "namespace": "a", "ownerReferences": [owner] });
            serde_json::from_value(json!({ "metadata": metadata, "spec": {} })).expect("a claim")
        };
        let pod = |phase: &str, deletion: serde_json::Value| -> Pod {
            let mut metadata = json!({ "name": "p", "namespace": "a", "uid": "u" });
            if let Some(grace) = deletion.as_i64() {
                metadata["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
                metadata["deletionGracePeriodSeconds"] = json!(grace);
            }
            let volumes = json!([
                { "name": "named", "persistentVolumeClaim": { "claimName": "c" } },
                { "name": "own", "ephemeral": { "volumeClaimTemplate": { "spec": {} } } },
            ]);
            let spec = json!({ "nodeName": "n", "containers": [], "volumes": volumes });
            serde_json::from_value(json!({ "metadata": metadata, "spec": spec, "status": { "phase": phase } }))
                .expect("a pod")
        };
        for (phase, deletion, own_is_used) in [
            ("Running", json!(null), true),
            ("Succeeded", json!(null), true),
            ("Failed", json!(30), true),
            ("Running", json!(0), false),
        ] {
            let pod = pod(phase, deletion.clone());
            assert!(uses(&pod, &claim("c")), "{phase} {deletion}");
            assert_eq!(uses(&pod, &claim("p-own")), own_is_used, "{phase} {deletion}");
        }
    }

    #[tokio::test]
    async fn a_claim_that_goes_meanwhile_is_not_followed() {
        let fake = Fake::default();
        claim(&fake, "c");
        pod(&fake, "p", "c");
        let client = fake.client_after(|fake, parts| {
            if parts.uri.path().ends_with("/pods") {
                fake.remove(CLAIMS, "a", "c");
            }
            None
        });
        let listener = Touched::default().listen(|_| true);
        let key = ("a".to_owned(), "c".to_owned());
        super::claim(client, listener.clone(), key.clone())
            .await
            .expect("looked at");
        assert!(!listener.follows(&key));
    }
}
