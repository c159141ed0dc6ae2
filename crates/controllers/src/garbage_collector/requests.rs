//! The cluster, through its API.

use super::attempt::{Cluster, Failure, Finalizer, Live, References};
use super::decide::Propagation;
use super::graph::{Identity, Owner, Seen};
use crate::framework::discovery::{Catalog, Resource};
use crate::framework::requests::{is_conflict, is_not_found, objects};
use catamaran_api::meta::{FINALIZER_FOREGROUND, FINALIZER_ORPHAN};
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy};
use kube::core::{DynamicObject, PartialObjectMeta};
use kube::{Api, Client};
use serde_json::{Value, json};
use std::sync::Arc;

/// Objects listed at a time.
const PAGE: u32 = 500;
/// The name under which it writes.
const NAME: &str = "garbage-collector-controller";

pub(crate) struct Requests {
    pub(crate) client: Client,
    pub(crate) catalog: Arc<Catalog>,
    /// Resources whose watches have not shown anything yet.
    pub(crate) unseen: Arc<[Arc<Resource>]>,
}

impl Requests {
    fn resource(&self, api_version: &Arc<str>, kind: &Arc<str>) -> Result<&Arc<Resource>, Failure> {
        self.catalog
            .find(api_version, kind)
            .ok_or_else(|| Failure::UnknownType {
                api_version: Arc::clone(api_version),
                kind: Arc::clone(kind),
            })
    }

    fn api(&self, identity: &Identity) -> Result<Api<DynamicObject>, Failure> {
        let resource = self.resource(&identity.api_version, &identity.kind)?;
        let namespace = resource.namespaced.then_some(identity.namespace.as_ref());
        Ok(objects(&self.client, &resource.api, namespace))
    }

    /// The metadata of the object of this uid.
    async fn metadata(&self, identity: &Identity) -> Result<ObjectMeta, Failure> {
        let found = self.api(identity)?.get_metadata_opt(&identity.name).await?;
        found
            .map(|object| object.metadata)
            .filter(|metadata| metadata.uid.as_deref() == Some(&identity.uid))
            .ok_or(Failure::Gone)
    }

    /// Changes metadata of an object, if it is still of the version that was read.
    async fn patch(&self, identity: &Identity, read: &ObjectMeta, change: Value) -> Result<(), Failure> {
        let mut metadata = change;
        metadata["uid"] = json!(identity.uid);
        metadata["resourceVersion"] = json!(read.resource_version);
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        let parameters = PatchParams::default();
        self.api(identity)?
            .patch_metadata(&identity.name, &parameters, &patch)
            .await
            .map(drop)
            .map_err(explain)
    }
}

fn explain(error: kube::Error) -> Failure {
    if is_not_found(&error) {
        Failure::Gone
    } else if is_conflict(&error) {
        Failure::Conflict
    } else {
        Failure::Request(error)
    }
}

#[async_trait::async_trait]
impl Cluster for Requests {
    fn is_namespaced(&self, api_version: &Arc<str>, kind: &Arc<str>) -> Result<bool, Failure> {
        Ok(self.resource(api_version, kind)?.namespaced)
    }

    async fn look(&self, identity: &Identity) -> Result<Option<Live>, Failure> {
        let found = self.api(identity)?.get_metadata_opt(&identity.name).await?;
        Ok(found.map(|object| live(object.metadata)))
    }

    async fn change_references(&self, identity: &Identity, change: References) -> Result<(), Failure> {
        let read = self.metadata(identity).await?;
        let before = read.owner_references.clone().unwrap_or_default();
        let after: Vec<OwnerReference> = match &change {
            References::Drop(uids) => before
                .iter()
                .filter(|owner| uids.iter().all(|uid| **uid != *owner.uid))
                .cloned()
                .collect(),
            References::Unblock => before
                .iter()
                .cloned()
                .map(|mut owner| {
                    owner.block_owner_deletion = owner.block_owner_deletion.map(|_| false);
                    owner
                })
                .collect(),
        };
        if after == before {
            return Ok(());
        }
        let owners = (!after.is_empty()).then_some(after);
        self.patch(identity, &read, json!({ "ownerReferences": owners })).await
    }

    async fn delete(&self, identity: &Identity, version: &str, propagation: Propagation) -> Result<(), Failure> {
        let parameters = DeleteParams {
            propagation_policy: Some(match propagation {
                Propagation::Orphan => PropagationPolicy::Orphan,
                Propagation::Foreground => PropagationPolicy::Foreground,
                Propagation::Background => PropagationPolicy::Background,
            }),
            preconditions: Some(Preconditions {
                uid: Some(identity.uid.to_string()),
                resource_version: Some(version.to_owned()),
            }),
            ..DeleteParams::default()
        };
        let deleted = self.api(identity)?.delete(&identity.name, &parameters).await;
        deleted.map(drop).map_err(explain)
    }

    async fn remove_finalizer(&self, identity: &Identity, finalizer: Finalizer) -> Result<(), Failure> {
        let name = match finalizer {
            Finalizer::Orphan => FINALIZER_ORPHAN,
            Finalizer::Foreground => FINALIZER_FOREGROUND,
        };
        let read = self.metadata(identity).await?;
        let before = read.finalizers.clone().unwrap_or_default();
        let after: Vec<&String> = before.iter().filter(|own| *own != name).collect();
        if after.len() == before.len() {
            return Ok(());
        }
        let finalizers = (!after.is_empty()).then_some(after);
        self.patch(identity, &read, json!({ "finalizers": finalizers })).await
    }

    async fn unseen_dependents(&self, identity: &Identity) -> Result<Vec<Seen>, Failure> {
        let mut dependents = Vec::new();
        for resource in self.unseen.iter() {
            let namespace = match (resource.namespaced, identity.namespace.is_empty()) {
                // What lives in no namespace has no owner in one.
                (false, false) => continue,
                (true, false) => Some(identity.namespace.as_ref()),
                (_, true) => None,
            };
            let api_version: Arc<str> = resource.api.api_version.as_str().into();
            let kind: Arc<str> = resource.api.kind.as_str().into();
            let objects = objects(&self.client, &resource.api, namespace);
            let mut parameters = ListParams::default().limit(PAGE);
            loop {
                let page = objects.list_metadata(&parameters).await?;
                let owned = page.items.into_iter().filter(|object| {
                    let mut owners = object.metadata.owner_references.iter().flatten();
                    owners.any(|owner| *owner.uid == *identity.uid)
                });
                dependents.extend(owned.map(|object| seen(&api_version, &kind, object)));
                match page.metadata.continue_.filter(|token| !token.is_empty()) {
                    Some(token) => parameters = parameters.continue_token(&token),
                    None => break,
                }
            }
        }
        Ok(dependents)
    }
}

/// Tells that a reference names an owner that is not in the dependent's namespace. It is only told: losing it costs nothing.
pub(crate) async fn report(client: Client, dependent: Identity, owner: Owner) {
    let namespace = if dependent.namespace.is_empty() {
        "default"
    } else {
        &dependent.namespace
    };
    let now = jiff::Timestamp::now();
    let name = format!("{}.{:x}", dependent.name, now.as_nanosecond());
    let now = Time(now);
    let message = format!(
        "ownerRef [{}/{}, namespace: {}, name: {}, uid: {}] does not exist in namespace \"{}\"",
        owner.api_version, owner.kind, dependent.namespace, owner.name, owner.uid, dependent.namespace
    );
    let event = Event {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some(dependent.api_version.to_string()),
            kind: Some(dependent.kind.to_string()),
            namespace: Some(dependent.namespace.to_string()).filter(|namespace| !namespace.is_empty()),
            name: Some(dependent.name.to_string()),
            uid: Some(dependent.uid.to_string()),
            ..ObjectReference::default()
        },
        type_: Some("Warning".to_owned()),
        reason: Some("OwnerRefInvalidNamespace".to_owned()),
        message: Some(message),
        count: Some(1),
        first_timestamp: Some(now.clone()),
        last_timestamp: Some(now),
        source: Some(EventSource {
            component: Some(NAME.to_owned()),
            host: None,
        }),
        reporting_component: Some(NAME.to_owned()),
        ..Event::default()
    };
    let events = Api::<Event>::namespaced(client, namespace);
    if let Err(error) = events.create(&PostParams::default(), &event).await {
        tracing::debug!(error = &error as &dyn std::error::Error, "an event was not recorded");
    }
}

fn live(metadata: ObjectMeta) -> Live {
    let has = |name: &str| has_finalizer(&metadata, name);
    Live {
        uid: metadata.uid.as_deref().unwrap_or_default().into(),
        being_deleted: metadata.deletion_timestamp.is_some(),
        orphan: has(FINALIZER_ORPHAN),
        foreground: has(FINALIZER_FOREGROUND),
        version: metadata.resource_version.unwrap_or_default(),
        owners: owners(metadata.owner_references),
    }
}

fn has_finalizer(metadata: &ObjectMeta, name: &str) -> bool {
    metadata
        .finalizers
        .as_ref()
        .is_some_and(|finalizers| finalizers.iter().any(|own| own == name))
}

fn owners(references: Option<Vec<OwnerReference>>) -> Vec<Owner> {
    let references = references.unwrap_or_default().into_iter();
    references
        .map(|reference| Owner {
            api_version: reference.api_version.into(),
            kind: reference.kind.into(),
            name: reference.name.into(),
            uid: reference.uid.into(),
            blocks: reference.block_owner_deletion == Some(true),
        })
        .collect()
}

/// What the collector keeps of an object.
pub(crate) fn seen(api_version: &Arc<str>, kind: &Arc<str>, object: PartialObjectMeta<DynamicObject>) -> Seen {
    let metadata = object.metadata;
    Seen {
        being_deleted: metadata.deletion_timestamp.is_some(),
        orphan: has_finalizer(&metadata, FINALIZER_ORPHAN),
        foreground: has_finalizer(&metadata, FINALIZER_FOREGROUND),
        identity: identity(api_version, kind, &metadata),
        owners: owners(metadata.owner_references),
    }
}

/// Only which object it is, for a deletion.
pub(crate) fn identity(api_version: &Arc<str>, kind: &Arc<str>, metadata: &ObjectMeta) -> Identity {
    Identity {
        kind: Arc::clone(kind),
        api_version: Arc::clone(api_version),
        namespace: metadata.namespace.as_deref().unwrap_or_default().into(),
        name: metadata.name.as_deref().unwrap_or_default().into(),
        uid: metadata.uid.as_deref().unwrap_or_default().into(),
    }
}
