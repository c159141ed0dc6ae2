//! What a node writes is about itself and the pods bound to it: the part of the node authorizer's work for which the
//! content of the request has to be seen.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#noderestriction>

use super::service_account::{MIRROR, secrets};
use super::{Attributes, Operation, Plugin, World, decoded, typed};
use crate::authn::Identity;
use crate::authz::node::name_of;
use crate::kinds::Object;
use async_trait::async_trait;
use catamaran_api::field::quote;
use catamaran_api::{GroupResource, Status};
use k8s_openapi::api::authentication::v1::BoundObjectReference;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use std::collections::{BTreeMap, BTreeSet};

const LEASE_NAMESPACE: &str = "kube-node-lease";
/// Labels that say where pods may run apart from others; only administrators may set them.
const RESTRICTED: &str = "node-restriction.kubernetes.io";
/// Labels of the system that nodes may set on themselves.
const OWN_LABELS: &[&str] = &[
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];
const OWN_LABEL_SPACES: &[&str] = &["kubelet.kubernetes.io", "node.kubernetes.io"];

pub(super) struct NodeRestriction;

#[async_trait]
impl Plugin for NodeRestriction {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        name_of(&attributes.caller.identity).is_some()
    }

    async fn validate(
        &self,
        world: &World<'_>,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
    ) -> Result<(), Status> {
        let Some(node) = name_of(&attributes.caller.identity) else {
            return Ok(());
        };
        let refuse = |why: String| attributes.forbidden(object, why);
        if node.is_empty() {
            let user = quote(&attributes.caller.identity.user);
            return Err(refuse(format!("could not determine node from user {user}")));
        }
        let asked = Asked {
            node,
            world,
            attributes,
        };
        let info = &attributes.target.resource.info;
        let answer = match (&*info.group, &*info.plural) {
            ("", "pods") => asked.pod(object),
            ("", "nodes") => asked.node(object),
            ("", "persistentvolumeclaims") => asked.claim(object),
            ("coordination.k8s.io", "leases") => asked.lease(object),
            ("storage.k8s.io", "csinodes") => asked.csi_node(object),
            ("resource.k8s.io", "resourceslices") => asked.slice(object),
            _ => Ok(()),
        };
        answer.map_err(refuse)
    }
}

struct Asked<'a> {
    node: &'a str,
    world: &'a World<'a>,
    attributes: &'a Attributes<'a>,
}

impl Asked<'_> {
    fn operation(&self) -> &'static str {
        match self.attributes.operation {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        }
    }

    /// The object as it is, also for deletions, which come without it.
    fn present<T: serde::de::DeserializeOwned + Clone + 'static>(&self) -> Option<T> {
        if let Some(old) = self.attributes.old {
            return typed::<T>(old).cloned();
        }
        let target = self.attributes.target;
        let info = &target.resource.info;
        let (version, plural) = (&target.resource.api_version, &info.plural);
        let record = self
            .world
            .get(version, plural, target.namespace.as_deref(), &target.name)?;
        decoded(&record).ok()
    }

    fn pod(&self, object: Option<&dyn Object>) -> Result<(), String> {
        let node = quote(self.node);
        match (self.attributes.subresource, self.attributes.operation) {
            ("", Operation::Create) => match object.and_then(typed::<Pod>) {
                Some(pod) => self.mirror_pod(pod),
                None => Ok(()),
            },
            ("", Operation::Delete) => match self.is_own_pod() {
                false => Err(format!(
                    "node {node} can only delete pods with spec.nodeName set to itself"
                )),
                true => Ok(()),
            },
            ("status", Operation::Update) => self.pod_status(object),
            ("eviction", Operation::Create) => match self.is_own_pod() {
                false => Err(format!(
                    "node {} can only evict pods with spec.nodeName set to itself",
                    self.node
                )),
                true => Ok(()),
            },
            ("" | "status" | "eviction", _) => Err(format!(
                "unexpected operation {}, node {node} can only create and delete mirror pods",
                quote(self.operation())
            )),
            (other, _) => Err(format!(
                "unexpected pod subresource {}, only 'status' and 'eviction' are allowed",
                quote(other)
            )),
        }
    }

    /// A pod that is not there is for somebody else to complain about.
    fn is_own_pod(&self) -> bool {
        self.present::<Pod>().is_none_or(|pod| node_name(&pod) == self.node)
    }

    fn pod_status(&self, object: Option<&dyn Object>) -> Result<(), String> {
        let node = quote(self.node);
        let (Some(old), Some(new)) = (self.present::<Pod>(), object.and_then(typed::<Pod>)) else {
            return Ok(());
        };
        if node_name(&old) != self.node {
            return Err(format!(
                "node {node} can only update pod status for pods with spec.nodeName set to itself"
            ));
        }
        if old.metadata.labels.unwrap_or_default() != new.metadata.labels.clone().unwrap_or_default() {
            return Err(format!("node {node} cannot update labels through pod status"));
        }
        let claims = |pod: &Pod| {
            pod.status
                .as_ref()
                .and_then(|status| status.resource_claim_statuses.clone())
        };
        if old
            .status
            .as_ref()
            .and_then(|status| status.resource_claim_statuses.clone())
            != claims(new)
        {
            return Err(format!("node {node} cannot update resource claim statuses"));
        }
        Ok(())
    }

    fn mirror_pod(&self, pod: &Pod) -> Result<(), String> {
        let node = quote(self.node);
        if pod
            .metadata
            .annotations
            .as_ref()
            .is_none_or(|own| !own.contains_key(MIRROR))
        {
            return Err(format!(
                "pod does not have {} annotation, node {node} can only create mirror pods",
                quote(MIRROR)
            ));
        }
        if node_name(pod) != self.node {
            return Err(format!(
                "node {node} can only create pods with spec.nodeName set to itself"
            ));
        }
        self.owned_by_node(pod.metadata.owner_references.as_deref().unwrap_or_default())?;
        let Some(spec) = &pod.spec else { return Ok(()) };
        match refers_to(spec) {
            Some("service account") => Err(format!(
                "node {node} can not create pods that reference a service account"
            )),
            Some(what) => Err(format!("node {node} can not create pods that reference {what}")),
            None => Ok(()),
        }
    }

    fn owned_by_node(&self, owners: &[OwnerReference]) -> Result<(), String> {
        let node = quote(self.node);
        let owner = match owners {
            [] => {
                return Err(format!(
                    "node {node} can only create pods with an owner reference set to itself"
                ));
            }
            [owner] => owner,
            _ => {
                return Err(format!(
                    "node {node} can only create pods with a single owner reference set to itself"
                ));
            }
        };
        if owner.api_version != "v1" || owner.kind != "Node" || owner.name != self.node {
            return Err(format!(
                "node {node} can only create pods with an owner reference set to itself"
            ));
        }
        if owner.controller != Some(true) {
            return Err(format!(
                "node {node} can only create pods with a controller owner reference set to itself"
            ));
        }
        if owner.block_owner_deletion == Some(true) {
            return Err(format!(
                "node {node} must not set blockOwnerDeletion on an owner reference"
            ));
        }
        let own = self.world.get("v1", "nodes", None, self.node);
        let own = own
            .map(|record| crate::authn::service_account::uid(&record))
            .unwrap_or_default();
        if own != owner.uid {
            return Err(format!(
                "node {} UID mismatch: expected {} got {own}",
                self.node, owner.uid
            ));
        }
        Ok(())
    }

    fn node(&self, object: Option<&dyn Object>) -> Result<(), String> {
        let node = quote(self.node);
        let new = object.and_then(typed::<Node>);
        let labels = |node: &Node| node.metadata.labels.clone().unwrap_or_default();
        if self.attributes.operation == Operation::Create
            && let Some(new) = new
        {
            if new.spec.as_ref().is_some_and(|spec| spec.config_source.is_some()) {
                return Err(format!(
                    "node {node} is not allowed to create pods with a non-nil configSource"
                ));
            }
            let forbidden = forbidden_labels(&labels(new), &BTreeMap::new());
            if !forbidden.is_empty() {
                return Err(format!(
                    "node {node} is not allowed to set the following labels: {}",
                    forbidden.join(", ")
                ));
            }
        }
        if self.attributes.operation == Operation::Update
            && let (Some(new), Some(old)) = (new, self.present::<Node>())
        {
            let taints = |node: &Node| {
                let spec = node.spec.as_ref();
                spec.and_then(|spec| spec.taints.clone()).unwrap_or_default()
            };
            if taints(new) != taints(&old) {
                return Err(format!("node {node} is not allowed to modify taints"));
            }
            let forbidden = forbidden_labels(&labels(new), &labels(&old));
            if !forbidden.is_empty() {
                return Err(format!(
                    "node {node} is not allowed to modify labels: {}",
                    forbidden.join(", ")
                ));
            }
            if new.metadata.owner_references != old.metadata.owner_references {
                return Err(format!("node {node} is not allowed to modify ownerReferences"));
            }
        }
        let name = self.attributes.name(object);
        if name != self.node {
            return Err(format!("node {node} is not allowed to modify node {}", quote(name)));
        }
        Ok(())
    }

    fn claim(&self, object: Option<&dyn Object>) -> Result<(), String> {
        if self.attributes.subresource != "status" {
            return Err("may only update PVC status".to_owned());
        }
        let node = quote(self.node);
        let (Some(old), Some(new)) = (
            self.present::<PersistentVolumeClaim>(),
            object.and_then(typed::<PersistentVolumeClaim>),
        ) else {
            return Ok(());
        };
        let (mut old, mut new) = (old, new.clone());
        // What a node may report: how far the growth of the volume's file system is.
        (old.status, new.status) = (None, None);
        for claim in [&mut old, &mut new] {
            claim.metadata.resource_version = None;
            claim.metadata.managed_fields = None;
        }
        if old != new {
            return Err(format!(
                "node {node} is not allowed to update fields other than status.quantity and status.conditions"
            ));
        }
        Ok(())
    }

    fn lease(&self, object: Option<&dyn Object>) -> Result<(), String> {
        if self.attributes.target.namespace.as_deref() != Some(LEASE_NAMESPACE) {
            return Err(format!(
                "can only access leases in the {} system namespace",
                quote(LEASE_NAMESPACE)
            ));
        }
        let name = match object.and_then(typed::<Lease>) {
            Some(lease) => lease.metadata.name.clone().unwrap_or_default(),
            None => self.attributes.target.name.clone(),
        };
        if name != self.node {
            return Err("can only access node lease with the same name as the requesting node".to_owned());
        }
        Ok(())
    }

    fn csi_node(&self, object: Option<&dyn Object>) -> Result<(), String> {
        if self.attributes.name(object) != self.node {
            return Err("can only access CSINode with the same name as the requesting node".to_owned());
        }
        Ok(())
    }

    fn slice(&self, object: Option<&dyn Object>) -> Result<(), String> {
        use k8s_openapi::api::resource::v1::ResourceSlice;
        let belongs = |slice: &ResourceSlice| slice.spec.node_name.as_deref() == Some(self.node);
        let (slice, verb) = match self.attributes.operation {
            Operation::Create => (object.and_then(typed::<ResourceSlice>).cloned(), "create"),
            Operation::Delete => (self.present::<ResourceSlice>(), "delete"),
            Operation::Update | Operation::Connect => return Ok(()),
        };
        match slice {
            Some(slice) if !belongs(&slice) => Err(format!(
                "can only {verb} ResourceSlice with the same NodeName as the requesting node"
            )),
            _ => Ok(()),
        }
    }
}

fn node_name(pod: &Pod) -> &str {
    let spec = pod.spec.as_ref();
    spec.and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

fn refers_to(spec: &PodSpec) -> Option<&'static str> {
    if spec.service_account_name.as_ref().is_some_and(|name| !name.is_empty()) {
        return Some("service account");
    }
    if !secrets(spec).is_empty() {
        return Some("secrets");
    }
    let containers = || spec.init_containers.iter().flatten().chain(&spec.containers);
    let sources = || {
        let volumes = spec.volumes.iter().flatten();
        volumes.flat_map(|volume| {
            volume
                .projected
                .iter()
                .flat_map(|projected| projected.sources.iter().flatten())
        })
    };
    let in_environment = containers().any(|container| {
        let by_key = container.env.iter().flatten();
        let mut by_key = by_key.filter_map(|variable| variable.value_from.as_ref());
        by_key.any(|source| source.config_map_key_ref.is_some())
            || container
                .env_from
                .iter()
                .flatten()
                .any(|source| source.config_map_ref.is_some())
    });
    let mut volumes = spec.volumes.iter().flatten();
    if in_environment
        || volumes.any(|volume| volume.config_map.is_some())
        || sources().any(|source| source.config_map.is_some())
    {
        return Some("configmaps");
    }
    if sources().any(|source| source.service_account_token.is_some()) {
        return Some("service account");
    }
    let mut volumes = spec.volumes.iter().flatten();
    if volumes.any(|volume| volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some()) {
        return Some("persistentvolumeclaims");
    }
    spec.resource_claims
        .as_ref()
        .is_some_and(|claims| !claims.is_empty())
        .then_some("resourceclaims")
}

/// Of the labels that differ, those that are not a node's to set; sorted.
fn forbidden_labels(new: &BTreeMap<String, String>, old: &BTreeMap<String, String>) -> Vec<String> {
    let keys: BTreeSet<&String> = new.keys().chain(old.keys()).collect();
    let changed = keys.into_iter().filter(|key| new.get(*key) != old.get(*key));
    changed.filter(|key| !may_label(key)).cloned().collect()
}

fn may_label(key: &str) -> bool {
    let space = key.split_once('/').map_or("", |(space, _)| space);
    let below = |root: &str| space == root || space.strip_suffix(root).is_some_and(|rest| rest.ends_with('.'));
    if below(RESTRICTED) {
        return false;
    }
    let system = below("kubernetes.io") || below("k8s.io");
    !system || OWN_LABELS.contains(&key) || OWN_LABEL_SPACES.iter().any(|own| below(own))
}

/// May somebody, if it is a node, have this token of a service account? Tokens are for pods that run on the node, and for whom
/// those pods say.
pub(crate) fn admit_token(
    identity: &Identity,
    bound: Option<&BoundObjectReference>,
    audiences: &[String],
    pod: Option<&Pod>,
    account: &str,
) -> Result<(), Status> {
    let Some(node) = name_of(identity) else { return Ok(()) };
    let resource = GroupResource::from_static("", "serviceaccounts");
    judge_token(node, bound, audiences, pod).map_err(|why| Status::forbidden(&resource, account, why))
}

fn judge_token(
    node: &str,
    bound: Option<&BoundObjectReference>,
    audiences: &[String],
    pod: Option<&Pod>,
) -> Result<(), String> {
    let text = |text: Option<&String>| text.map(String::as_str).unwrap_or_default().to_owned();
    let to_pod = bound.filter(|bound| text(bound.api_version.as_ref()) == "v1" && text(bound.kind.as_ref()) == "Pod");
    let Some(bound) = to_pod.filter(|bound| !text(bound.name.as_ref()).is_empty()) else {
        return Err("node requested token not bound to a pod".to_owned());
    };
    if text(bound.uid.as_ref()).is_empty() {
        return Err("node requested token with a pod binding without a uid".to_owned());
    }
    let Some(pod) = pod else { return Ok(()) };
    if node_name(pod) != node {
        return Err("node requested token bound to a pod scheduled on a different node".to_owned());
    }
    let wanted = match audiences {
        [] => "",
        [one] => one,
        _ => return Err("node may only request 0 or 1 audiences".to_owned()),
    };
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let mut projections = volumes
        .flat_map(|volume| {
            volume
                .projected
                .iter()
                .flat_map(|projected| projected.sources.iter().flatten())
        })
        .filter_map(|source| source.service_account_token.as_ref());
    if !projections.any(|projection| projection.audience.as_deref().unwrap_or_default() == wanted) {
        return Err(format!("audience {} not found in pod spec volume", quote(wanted)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn labels_of_nodes() {
        for (key, expected) in [
            ("example.com/x", true),
            ("plain", true),
            ("kubernetes.io/hostname", true),
            ("node.kubernetes.io/x", true),
            ("sub.kubelet.kubernetes.io/x", true),
            ("kubernetes.io/x", false),
            ("foo.k8s.io/x", false),
            ("node-role.kubernetes.io/master", false),
            ("node-restriction.kubernetes.io/x", false),
            ("a.node-restriction.kubernetes.io/x", false),
            ("xkubernetes.io/x", true),
        ] {
            assert_eq!(may_label(key), expected, "{key}");
        }
    }

    #[test]
    fn tokens_are_for_pods_of_the_node() {
        let pod: Pod = serde_json::from_value(json!({ "spec": { "nodeName": "n1", "containers": [], "volumes": [
            { "name": "v", "projected": { "sources": [{ "serviceAccountToken": { "path": "t", "audience": "vault" } }] } },
        ] } }))
        .unwrap();
        let bound = |uid: &str| -> BoundObjectReference {
            serde_json::from_value(json!({ "apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid })).unwrap()
        };
        let vault = ["vault".to_owned()];
        let judge = |node: &str, bound: Option<&BoundObjectReference>, audiences: &[String]| {
            judge_token(node, bound, audiences, Some(&pod))
                .err()
                .unwrap_or_default()
        };
        assert_eq!(judge("n1", Some(&bound("u")), &vault), "");
        assert_eq!(judge("n1", None, &vault), "node requested token not bound to a pod");
        assert_eq!(
            judge("n1", Some(&bound("")), &vault),
            "node requested token with a pod binding without a uid"
        );
        assert_eq!(
            judge("n2", Some(&bound("u")), &vault),
            "node requested token bound to a pod scheduled on a different node"
        );
        assert_eq!(
            judge("n1", Some(&bound("u")), &[]),
            "audience \"\" not found in pod spec volume"
        );
    }
}
