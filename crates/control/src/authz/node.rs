//! What nodes may: their own objects, and whatever the pods bound to them refer to.
//!
//! ```text
//!   secret, configmap, claim, service account ◀── pod ──▶ node that asks?      volume ──▶ claim      secret ◀── volume
//! ```
//!
//! The references of a pod are read once, when it is bound; they cannot change after, but for ephemeral containers and
//! generated resource claims.
//! <https://kubernetes.io/docs/reference/access-authn-authz/node/>

use super::rule::Rule;
use super::{Attempt, AttemptedResource, policy};
use crate::authn::Identity;
use crate::registry::Table;
use crate::registry::resource::Change;
use crate::watch_cache::{Caches, Record};
use crate::watch_cache::{Follower, News, Position};
use catamaran_api::selector::FieldSelector;
use parking_lot::RwLock;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;

/// The group of all nodes.
pub(crate) const NODES: &str = "system:nodes";
const USER_PREFIX: &str = "system:node:";
/// Of pods that a node itself made an image of, so that they must not open anything to it.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// What the node authorizer thinks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Opinion {
    Allowed,
    /// None, and why if it is about a node.
    None(String),
}

fn none(why: impl Into<String>) -> Opinion {
    Opinion::None(why.into())
}

/// The name of the node somebody is; `Some("")` for a node without a name.
pub(crate) fn name_of(identity: &Identity) -> Option<&str> {
    let name = identity.user.strip_prefix(USER_PREFIX)?;
    identity.is_in(NODES).then_some(name)
}

/// Asks the caches.
pub(crate) struct NodeAuthorizer {
    rules: Vec<Rule>,
    pods: Follower,
    volumes: Follower,
    attachments: Follower,
    slices: Follower,
    graph: RwLock<(Position, Graph)>,
    /// Where in a pod's facts its node's name is.
    node_name: Option<usize>,
}

/// Kinds that pods refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Claim,
    ConfigMap,
    Pod,
    ResourceClaim,
    Secret,
    ServiceAccount,
}

impl NodeAuthorizer {
    pub(crate) fn new(table: &Table, caches: &Caches) -> Self {
        let pods = table.find("v1", "pods");
        let follow = |api_version: &str, plural: &str| Follower::new(table, caches, api_version, plural);
        let node_name = pods.and_then(|pods| pods.field_paths.iter().position(|path| path == "spec.nodeName"));
        NodeAuthorizer {
            rules: policy::node_rules(),
            pods: follow("v1", "pods"),
            volumes: follow("v1", "persistentvolumes"),
            attachments: follow("storage.k8s.io/v1", "volumeattachments"),
            slices: follow("resource.k8s.io/v1", "resourceslices"),
            graph: RwLock::default(),
            node_name,
        }
    }

    pub(super) fn decide(&self, attempt: &Attempt<'_>) -> Opinion {
        let Some(node) = name_of(attempt.identity) else {
            return none("");
        };
        if node.is_empty() {
            return none(format!(
                "unknown node for user {}",
                catamaran_api::field::quote(&attempt.identity.user)
            ));
        }
        let Some(wanted) = &attempt.resource else {
            return self.by_rules(attempt);
        };
        let asked = Asked {
            authorizer: self,
            node,
            verb: attempt.verb,
            wanted,
        };
        match (wanted.group, wanted.plural) {
            ("", "secrets") => asked.read(Kind::Secret),
            ("", "configmaps") => asked.read(Kind::ConfigMap),
            ("", "persistentvolumeclaims") if wanted.subresource == "status" => asked.update_claim_status(),
            ("", "persistentvolumeclaims") => asked.get(Kind::Claim),
            ("", "persistentvolumes") => asked.get_other(|record| self.volume_is_of(node, record), &self.volumes),
            ("resource.k8s.io", "resourceclaims") => asked.get(Kind::ResourceClaim),
            ("storage.k8s.io", "volumeattachments") => asked.get_other(
                |record| spec_node_name(record).as_deref() == Some(node),
                &self.attachments,
            ),
            ("", "serviceaccounts") => asked.create_token(),
            ("coordination.k8s.io", "leases") => asked.lease(),
            ("storage.k8s.io", "csinodes") => asked.csi_node(),
            ("resource.k8s.io", "resourceslices") => asked.slice(),
            ("", "nodes") => asked.node(),
            ("", "pods") => asked.pod(),
            _ => self.by_rules(attempt),
        }
    }

    fn by_rules(&self, attempt: &Attempt<'_>) -> Opinion {
        match self.rules.iter().any(|rule| rule.allows(attempt)) {
            true => Opinion::Allowed,
            false => none(""),
        }
    }

    /// Does a pod of the node refer to this object?
    fn refers(&self, node: &str, kind: Kind, namespace: &str, name: &str) -> bool {
        self.with_graph(|graph| graph.refers(node, kind, namespace, name))
            || (kind == Kind::Secret && self.volume_refers(node, namespace, name))
    }

    fn with_graph<T>(&self, read: impl FnOnce(&Graph) -> T) -> T {
        let state = self.graph.read();
        if !self.pods.is_behind(&state.0) {
            return read(&state.1);
        }
        drop(state);
        let mut state = self.graph.write();
        let (position, graph) = &mut *state;
        let news = self.pods.news(position);
        graph.apply(news, |record| {
            let fact = record.facts.fields.get(self.node_name?)?;
            (!fact.is_empty()).then(|| fact.to_string())
        });
        read(graph)
    }

    /// Is the volume claimed by a claim that a pod of the node refers to?
    fn volume_is_of(&self, node: &str, volume: &Record) -> bool {
        let Some(volume) = parse(volume) else { return false };
        let claim = &volume["spec"]["claimRef"];
        match (claim["namespace"].as_str(), claim["name"].as_str()) {
            (Some(namespace), Some(name)) => self.with_graph(|graph| graph.refers(node, Kind::Claim, namespace, name)),
            _ => false,
        }
    }

    /// Does such a volume refer to the secret?
    fn volume_refers(&self, node: &str, namespace: &str, name: &str) -> bool {
        self.volumes.records().iter().any(|record| {
            let Some(volume) = parse(record) else { return false };
            volume_secrets(&volume)
                .iter()
                .any(|own| own == &(namespace.to_owned(), name.to_owned()))
                && self.volume_is_of(node, record)
        })
    }
}

/// One request of one node.
struct Asked<'a> {
    authorizer: &'a NodeAuthorizer,
    node: &'a str,
    verb: &'a str,
    wanted: &'a AttemptedResource<'a>,
}

impl Asked<'_> {
    /// For objects that may be read and watched one by one.
    fn read(&self, kind: Kind) -> Opinion {
        if !matches!(self.verb, "get" | "list" | "watch") {
            return none("can only read resources of this type");
        }
        if !self.wanted.subresource.is_empty() {
            return none("cannot read subresource");
        }
        if self.wanted.namespace.is_empty() {
            return none("can only read namespaced object of this type");
        }
        self.related(kind)
    }

    fn get(&self, kind: Kind) -> Opinion {
        self.is_get().unwrap_or_else(|| self.related(kind))
    }

    /// For objects that say themselves which node they belong to.
    fn get_other(&self, belongs: impl Fn(&Record) -> bool, cache: &Follower) -> Opinion {
        self.is_get().unwrap_or_else(|| self.belongs(belongs, cache))
    }

    fn is_get(&self) -> Option<Opinion> {
        if self.verb != "get" {
            return Some(none("can only get individual resources of this type"));
        }
        (!self.wanted.subresource.is_empty()).then(|| none("cannot get subresource"))
    }

    fn belongs(&self, belongs: impl Fn(&Record) -> bool, cache: &Follower) -> Opinion {
        if self.wanted.name.is_empty() {
            return none("No Object name found");
        }
        match cache.get(None, self.wanted.name) {
            Some(record) if belongs(&record) => Opinion::Allowed,
            _ => self.unrelated(),
        }
    }

    fn related(&self, kind: Kind) -> Opinion {
        let AttemptedResource { namespace, name, .. } = self.wanted;
        if name.is_empty() {
            return none("No Object name found");
        }
        match self.authorizer.refers(self.node, kind, namespace, name) {
            true => Opinion::Allowed,
            false => self.unrelated(),
        }
    }

    fn unrelated(&self) -> Opinion {
        none(format!(
            "no relationship found between node '{}' and this object",
            self.node
        ))
    }

    fn update_claim_status(&self) -> Opinion {
        match self.verb {
            "update" | "patch" => self.related(Kind::Claim),
            _ => none("can only get/update/patch this type"),
        }
    }

    fn create_token(&self) -> Opinion {
        if self.verb != "create" || self.wanted.name.is_empty() {
            return none("can only create tokens for individual service accounts");
        }
        if self.wanted.subresource != "token" {
            return none("can only create token subresource of serviceaccount");
        }
        self.related(Kind::ServiceAccount)
    }

    fn lease(&self) -> Opinion {
        if !matches!(self.verb, "get" | "create" | "update" | "patch" | "delete") {
            return none("can only get, create, update, patch, or delete a node lease");
        }
        if self.wanted.namespace != "kube-node-lease" {
            return none("can only access leases in the \"kube-node-lease\" system namespace");
        }
        // The name of a new lease is in its body: admission looks at that.
        if self.verb != "create" && self.wanted.name != self.node {
            return none("can only access node lease with the same name as the requesting node");
        }
        Opinion::Allowed
    }

    fn csi_node(&self) -> Opinion {
        if !matches!(self.verb, "get" | "create" | "update" | "patch" | "delete") {
            return none("can only get, create, update, patch, or delete a CSINode");
        }
        if !self.wanted.subresource.is_empty() {
            return none("cannot authorize CSINode subresources");
        }
        if self.verb != "create" && self.wanted.name != self.node {
            return none("can only access CSINode with the same name as the requesting node");
        }
        Opinion::Allowed
    }

    fn slice(&self) -> Opinion {
        if !self.wanted.subresource.is_empty() {
            return none("cannot authorize ResourceSlice subresources");
        }
        let own = |record: &Record| spec_node_name(record).as_deref() == Some(self.node);
        match self.verb {
            "create" => Opinion::Allowed,
            "get" | "update" | "patch" | "delete" => self.belongs(own, &self.authorizer.slices),
            "watch" | "list" | "deletecollection" if self.selects("spec.nodeName") => Opinion::Allowed,
            "watch" | "list" | "deletecollection" => {
                none("can only list/watch/deletecollection resourceslices with nodeName field selector")
            }
            _ => none(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection",
            ),
        }
    }

    fn node(&self) -> Opinion {
        let (node, name) = (self.node, self.wanted.name);
        match (self.wanted.subresource, self.verb) {
            ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Opinion::Allowed,
            ("", "get" | "list" | "watch") if name == node => Opinion::Allowed,
            ("", "get" | "list" | "watch") if name.is_empty() => {
                none(format!("node '{node}' cannot read all nodes, only its own Node object"))
            }
            ("", "get" | "list" | "watch") => {
                none(format!("node '{node}' cannot read '{name}', only its own Node object"))
            }
            _ => none(""),
        }
    }

    fn pod(&self) -> Opinion {
        match (self.wanted.subresource, self.verb) {
            ("", "get") => self.related(Kind::Pod),
            ("", "list" | "watch") if self.selects("spec.nodeName") => Opinion::Allowed,
            ("", "list" | "watch") if !self.wanted.name.is_empty() => self.related(Kind::Pod),
            ("", "list" | "watch") => none("can only list/watch pods with spec.nodeName field selector"),
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => Opinion::Allowed,
            _ => none(""),
        }
    }

    /// Does the request restrict itself to objects of this node?
    fn selects(&self, field: &str) -> bool {
        FieldSelector::parse(self.wanted.field_selector).is_ok_and(|selector| selector.pinned(field) == Some(self.node))
    }
}

/// Who refers to what.
#[derive(Default)]
struct Graph {
    /// Object → nodes whose pods refer to it, one entry per pod.
    nodes: HashMap<String, Vec<Arc<str>>>,
    pods: HashMap<Arc<str>, PodEdges>,
}

struct PodEdges {
    node: Arc<str>,
    objects: Vec<String>,
}

fn vertex(kind: Kind, namespace: &str, name: &str) -> String {
    format!("{kind:?}/{namespace}/{name}")
}

impl Graph {
    fn refers(&self, node: &str, kind: Kind, namespace: &str, name: &str) -> bool {
        let nodes = self.nodes.get(&vertex(kind, namespace, name));
        nodes.is_some_and(|nodes| nodes.iter().any(|own| **own == *node))
    }

    fn apply(&mut self, news: News, node_of: impl Fn(&Record) -> Option<String>) {
        match news {
            News::Steps(steps) => {
                for step in steps {
                    match step.change {
                        Change::Deleted => self.remove(&step.new.key),
                        Change::Added | Change::Modified => self.set(&step.new, &node_of),
                    }
                }
            }
            News::Anew(records) => {
                *self = Graph::default();
                records.iter().for_each(|record| self.set(record, &node_of));
            }
        }
    }

    fn set(&mut self, record: &Record, node_of: &impl Fn(&Record) -> Option<String>) {
        let Some(node) = node_of(record) else {
            self.remove(&record.key);
            return;
        };
        let known = self.pods.get(&record.key);
        if known.is_some_and(|known| *known.node == *node) && !may_grow(&record.json()) {
            return;
        }
        self.remove(&record.key);
        let Some(pod) = parse(record) else { return };
        let namespace = record.namespace().unwrap_or_default();
        let mut objects = vec![vertex(Kind::Pod, namespace, record.name())];
        references(&pod, record.name(), |kind, name| {
            objects.push(vertex(kind, namespace, name));
        });
        objects.sort();
        objects.dedup();
        let node: Arc<str> = node.into();
        for object in &objects {
            self.nodes.entry(object.clone()).or_default().push(Arc::clone(&node));
        }
        self.pods.insert(Arc::clone(&record.key), PodEdges { node, objects });
    }

    fn remove(&mut self, key: &Arc<str>) {
        let Some(edges) = self.pods.remove(key) else { return };
        for object in edges.objects {
            let Some(nodes) = self.nodes.get_mut(&object) else {
                continue;
            };
            if let Some(index) = nodes.iter().position(|node| *node == edges.node) {
                nodes.swap_remove(index);
            }
            if nodes.is_empty() {
                self.nodes.remove(&object);
            }
        }
    }
}

/// Has the pod a part by which the references of a bound pod may change?
fn may_grow(json: &[u8]) -> bool {
    let has = |needle: &[u8]| json.windows(needle.len()).any(|window| window == needle);
    has(b"\"ephemeralContainers\"") || has(b"\"resourceClaimStatuses\"")
}

/// Calls `found` with whatever the pod refers to, some of it more than once.
fn references(pod: &Value, pod_name: &str, mut found: impl FnMut(Kind, &str)) {
    if pod["metadata"]["annotations"].get(MIRROR).is_some() {
        return;
    }
    let spec = &pod["spec"];
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut say = |kind: Kind, name: &Value| {
        if let Some(name) = name.as_str().filter(|name| !name.is_empty()) {
            found(kind, name);
        }
    };
    say(Kind::ServiceAccount, &spec["serviceAccountName"]);
    for secret in list(&spec["imagePullSecrets"]) {
        say(Kind::Secret, &secret["name"]);
    }
    for containers in ["initContainers", "containers", "ephemeralContainers"] {
        for container in list(&spec[containers]) {
            for source in list(&container["envFrom"]) {
                say(Kind::ConfigMap, &source["configMapRef"]["name"]);
                say(Kind::Secret, &source["secretRef"]["name"]);
            }
            for variable in list(&container["env"]) {
                say(Kind::ConfigMap, &variable["valueFrom"]["configMapKeyRef"]["name"]);
                say(Kind::Secret, &variable["valueFrom"]["secretKeyRef"]["name"]);
            }
        }
    }
    for volume in list(&spec["volumes"]) {
        say(Kind::ConfigMap, &volume["configMap"]["name"]);
        say(Kind::Claim, &volume["persistentVolumeClaim"]["claimName"]);
        if volume["ephemeral"].is_object() {
            let name = format!("{pod_name}-{}", volume["name"].as_str().unwrap_or_default());
            say(Kind::Claim, &Value::from(name));
        }
        for source in list(&volume["projected"]["sources"]) {
            say(Kind::ConfigMap, &source["configMap"]["name"]);
            say(Kind::Secret, &source["secret"]["name"]);
        }
        // What a source of any type calls its secrets.
        for source in volume.as_object().into_iter().flat_map(serde_json::Map::values) {
            say(Kind::Secret, &source["secretName"]);
            say(Kind::Secret, &source["secretRef"]["name"]);
            say(Kind::Secret, &source["nodePublishSecretRef"]["name"]);
        }
    }
    for claim in list(&spec["resourceClaims"]) {
        say(Kind::ResourceClaim, &claim["resourceClaimName"]);
    }
    for status in list(&pod["status"]["resourceClaimStatuses"]) {
        say(Kind::ResourceClaim, &status["resourceClaimName"]);
    }
}

/// Namespace and name of the secrets a volume refers to.
fn volume_secrets(volume: &Value) -> Vec<(String, String)> {
    let spec = &volume["spec"];
    let claimed = spec["claimRef"]["namespace"].as_str().unwrap_or_default();
    let mut secrets = Vec::new();
    let mut say = |namespace: &Value, name: &Value| {
        if let Some(name) = name.as_str().filter(|name| !name.is_empty()) {
            secrets.push((namespace.as_str().unwrap_or(claimed).to_owned(), name.to_owned()));
        }
    };
    for source in spec.as_object().into_iter().flat_map(|spec| spec.values()) {
        say(&source["secretNamespace"], &source["secretName"]);
        for reference in [
            "secretRef",
            "nodePublishSecretRef",
            "nodeStageSecretRef",
            "nodeExpandSecretRef",
        ] {
            say(&source[reference]["namespace"], &source[reference]["name"]);
        }
    }
    secrets
}

fn spec_node_name(record: &Record) -> Option<String> {
    Some(parse(record)?["spec"]["nodeName"].as_str()?.to_owned())
}

fn parse(record: &Record) -> Option<Value> {
    serde_json::from_slice(&record.json()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    #[test]
    fn references_of_a_pod() {
        let pod = json!({ "metadata": {}, "spec": {
            "serviceAccountName": "sa",
            "imagePullSecrets": [{ "name": "pull" }],
            "initContainers": [{ "envFrom": [{ "configMapRef": { "name": "init" } }, { "secretRef": { "name": "from" } }] }],
            "containers": [{ "env": [
                { "name": "A", "valueFrom": { "secretKeyRef": { "name": "key", "key": "k" } } },
                { "name": "B", "valueFrom": { "configMapKeyRef": { "name": "map", "key": "k" } } },
            ] }],
            "volumes": [
                { "name": "a", "secret": { "secretName": "vol" } },
                { "name": "b", "configMap": { "name": "cm" } },
                { "name": "c", "projected": { "sources": [{ "secret": { "name": "ps" } }, { "configMap": { "name": "pc" } }] } },
                { "name": "d", "persistentVolumeClaim": { "claimName": "claim" } },
                { "name": "e", "ephemeral": {} },
                { "name": "f", "csi": { "nodePublishSecretRef": { "name": "csi" } } },
            ],
        } });
        let mut found = Vec::new();
        references(&pod, "p", |kind, name| found.push(format!("{kind:?} {name}")));
        expect![[r#"
            ServiceAccount sa
            Secret pull
            ConfigMap init
            Secret from
            Secret key
            ConfigMap map
            Secret vol
            ConfigMap cm
            Secret ps
            ConfigMap pc
            Claim claim
            Claim p-e
            Secret csi"#]]
        .assert_eq(&found.join("\n"));
        let mut mirror = pod;
        mirror["metadata"]["annotations"] = json!({ MIRROR: "x" });
        references(&mirror, "p", |kind, name| panic!("{kind:?} {name}"));
    }

    #[test]
    fn secrets_of_a_volume() {
        let volume = json!({ "spec": {
            "claimRef": { "namespace": "ns", "name": "c" },
            "csi": { "driver": "d", "nodeStageSecretRef": { "namespace": "kube-system", "name": "stage" } },
            "azureFile": { "secretName": "azure" },
        } });
        let mut secrets = volume_secrets(&volume);
        secrets.sort();
        assert_eq!(
            secrets,
            [("kube-system".into(), "stage".into()), ("ns".into(), "azure".into())] as [(String, String); 2]
        );
    }
}
