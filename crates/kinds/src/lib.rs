//! What is special about each kind, and nothing else.
//!
//! The registry runs one pipeline for every resource (decode → default → prepare → validate → write). A kind says only
//! where it differs, in one file: `<group>/<plural>.rs` implements [`Kind`] on the typed object, every method has
//! a default, and one line in [`ALL`] registers it. The pipeline itself works on [`ErasedKind`] and [`Object`], so that
//! kinds which are known only at run time can join later behind the same traits.
//!
//! *Architecture invariant:* kinds are pure. They read no clock, do no IO and see no store; that they are a crate of their own
//! lets cargo prove it.
#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(clippy::needless_pass_by_value, reason = "tests write their JSON where they use it")
)]

mod addresses;
mod admissionregistration;
mod apiextensions;
mod apiregistration;
mod apps;
mod autoscaling;
mod batch;
mod cells;
mod certificates;
mod changes;
mod checks;
mod coordination;
mod core;
mod data;
mod defaulting;
mod discovery;
mod erased;
mod events;
mod flowcontrol;
mod networking;
mod node;
mod policy;
pub mod quota;
mod rbac;
mod resource;
mod rules;
mod scheduling;
mod storage;

pub use erased::{ErasedKind, FieldSelector, Info, KindRef, Object, ScalePaths, SelectorPath};

/// Changes of pods by subresources of their own.
pub mod pods {
    pub use crate::core::pods::{
        prepare_ephemeral_containers, prepare_resize, validate_ephemeral_containers, validate_resize,
    };
}

/// Requests for certificates, read in one way by whoever judges and signs them.
pub mod signing {
    pub use crate::certificates::request::{Subject, decode, parse, text};
}

/// What the system chooses for services.
pub mod services {
    pub use crate::core::services::{Block, Choice, Occupied, Pools, Refusal, Taken, addresses, allocate};
}

use catamaran_api::Errors;
use catamaran_api::table::Column;
use k8s_openapi::Metadata as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Every built-in kind, in the order of group and plural.
pub static ALL: &[&dyn ErasedKind] = &[
    // core/v1
    &core::componentstatuses::ComponentStatuses,
    &core::configmaps::ConfigMaps,
    &core::endpoints::Endpoints,
    &core::events::Events,
    &core::limitranges::LimitRanges,
    &core::namespaces::Namespaces,
    &core::nodes::Nodes,
    &core::persistentvolumeclaims::PersistentVolumeClaims,
    &core::persistentvolumes::PersistentVolumes,
    &core::pods::Pods,
    &core::podtemplates::PodTemplates,
    &core::replicationcontrollers::ReplicationControllers,
    &core::resourcequotas::ResourceQuotas,
    &core::secrets::Secrets,
    &core::serviceaccounts::ServiceAccounts,
    &core::services::Services,
    // admissionregistration.k8s.io/v1
    &admissionregistration::mutatingwebhookconfigurations::MutatingWebhookConfigurations,
    &admissionregistration::validatingadmissionpolicies::ValidatingAdmissionPolicies,
    &admissionregistration::validatingadmissionpolicybindings::ValidatingAdmissionPolicyBindings,
    &admissionregistration::validatingwebhookconfigurations::ValidatingWebhookConfigurations,
    // apiextensions.k8s.io/v1
    &apiextensions::customresourcedefinitions::CustomResourceDefinitions,
    // apiregistration.k8s.io/v1
    &apiregistration::apiservices::ApiServices,
    // apps/v1
    &apps::controllerrevisions::ControllerRevisions,
    &apps::daemonsets::DaemonSets,
    &apps::deployments::Deployments,
    &apps::replicasets::ReplicaSets,
    &apps::statefulsets::StatefulSets,
    // autoscaling/v1
    &autoscaling::v1::HorizontalPodAutoscalers,
    // autoscaling/v2
    &autoscaling::horizontalpodautoscalers::HorizontalPodAutoscalers,
    // batch/v1
    &batch::cronjobs::CronJobs,
    &batch::jobs::Jobs,
    // certificates.k8s.io/v1
    &certificates::certificatesigningrequests::CertificateSigningRequests,
    // coordination.k8s.io/v1
    &coordination::leases::Leases,
    // discovery.k8s.io/v1
    &discovery::endpointslices::EndpointSlices,
    // events.k8s.io/v1
    &events::events::Events,
    // flowcontrol.apiserver.k8s.io/v1
    &flowcontrol::flowschemas::FlowSchemas,
    &flowcontrol::prioritylevelconfigurations::PriorityLevelConfigurations,
    // networking.k8s.io/v1
    &networking::ingressclasses::IngressClasses,
    &networking::ingresses::Ingresses,
    &networking::ipaddresses::IpAddresses,
    &networking::networkpolicies::NetworkPolicies,
    &networking::servicecidrs::ServiceCidrs,
    // node.k8s.io/v1
    &node::runtimeclasses::RuntimeClasses,
    // policy/v1
    &policy::poddisruptionbudgets::PodDisruptionBudgets,
    // rbac.authorization.k8s.io/v1
    &rbac::clusterrolebindings::ClusterRoleBindings,
    &rbac::clusterroles::ClusterRoles,
    &rbac::rolebindings::RoleBindings,
    &rbac::roles::Roles,
    // resource.k8s.io/v1
    &resource::deviceclasses::DeviceClasses,
    &resource::resourceclaims::ResourceClaims,
    &resource::resourceclaimtemplates::ResourceClaimTemplates,
    &resource::resourceslices::ResourceSlices,
    // scheduling.k8s.io/v1
    &scheduling::priorityclasses::PriorityClasses,
    // storage.k8s.io/v1
    &storage::csidrivers::CsiDrivers,
    &storage::csinodes::CsiNodes,
    &storage::csistoragecapacities::CsiStorageCapacities,
    &storage::storageclasses::StorageClasses,
    &storage::volumeattachments::VolumeAttachments,
    &storage::volumeattributesclasses::VolumeAttributesClasses,
];

/// A typed Kubernetes object: what `k8s-openapi` generates for every top-level type.
pub trait Typed:
    k8s_openapi::Resource
    + k8s_openapi::Metadata<Ty = ObjectMeta>
    + Serialize
    + DeserializeOwned
    + Clone
    + PartialEq
    + Send
    + Sync
    + 'static
{
}

impl<T> Typed for T where
    T: k8s_openapi::Resource
        + k8s_openapi::Metadata<Ty = ObjectMeta>
        + Serialize
        + DeserializeOwned
        + Clone
        + PartialEq
        + Send
        + Sync
        + 'static
{
}

/// Says what is wrong with a name: one sentence per problem, none for a good one.
pub type NameRule = fn(&str) -> Vec<String>;

/// A path below an object that has its own verbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subresource {
    /// Segment of the URL, `status`.
    pub name: &'static str,
    /// Kind of the body in discovery; empty means the kind of the resource itself.
    pub kind: &'static str,
    /// Group and version of that kind (`autoscaling/v1`); empty means those of the resource itself.
    pub api_version: &'static str,
    /// Verbs in discovery, sorted.
    pub verbs: &'static [&'static str],
}

/// A field selector of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldLabel {
    /// The name in the selector: `spec.nodeName`.
    pub label: &'static str,
    /// Where the value is, as a dotted path into the object.
    pub path: &'static str,
    /// The value of an object that does not have the field.
    pub absent: &'static str,
}

impl FieldLabel {
    /// A label that is the path.
    pub const fn new(path: &'static str) -> Self {
        FieldLabel {
            label: path,
            path,
            absent: "",
        }
    }

    /// A label for another path.
    pub const fn at(self, path: &'static str) -> Self {
        FieldLabel { path, ..self }
    }

    /// What to compare with where the field is missing.
    pub const fn or(self, absent: &'static str) -> Self {
        FieldLabel { absent, ..self }
    }
}

/// The `status` subresource as most kinds have it.
pub const STATUS: Subresource = Subresource {
    name: "status",
    kind: "",
    api_version: "",
    verbs: &["get", "patch", "update"],
};

/// The `scale` subresource of what has replicas.
pub const SCALE: Subresource = Subresource {
    name: "scale",
    kind: "Scale",
    api_version: "autoscaling/v1",
    verbs: &["get", "patch", "update"],
};

/// Another version of the same kind, under which objects are kept. Conversions are between the JSON of whole objects, lossless,
/// and set `apiVersion` and `kind`.
#[derive(Clone, Copy)]
pub struct Hub {
    pub kind: &'static dyn ErasedKind,
    pub to: fn(Value) -> Value,
    pub from: fn(Value) -> Value,
}

/// A kind. Everything but the constants that name it has a default.
///
/// The order in which the registry calls: [`default`](Kind::default) → [`prepare_create`](Kind::prepare_create) or
/// [`prepare_update`](Kind::prepare_update) or [`prepare_status`](Kind::prepare_status) → metadata validation (generic)
/// → [`validate`](Kind::validate) / [`validate_update`](Kind::validate_update) / [`validate_status`](Kind::validate_status).
pub trait Kind: Send + Sync + 'static {
    /// The object as it is on the wire.
    type Object: Typed;

    /// Do objects live in a namespace?
    const NAMESPACED: bool;
    /// Names `kubectl` accepts beside the plural: `po`.
    const SHORT_NAMES: &'static [&'static str] = &[];
    /// Groups of resources a name stands for: `all`.
    const CATEGORIES: &'static [&'static str] = &[];
    /// Paths below an object.
    const SUBRESOURCES: &'static [Subresource] = &[];
    /// Field selectors beside `metadata.name` and `metadata.namespace`.
    const FIELD_SELECTORS: &'static [FieldLabel] = &[];
    /// The version of this kind that is kept, and how to get there and back. `None`: this one.
    const HUB: Option<Hub> = None;
    /// May a PUT leave out which version it replaces?
    const UNCONDITIONAL_UPDATE: bool = true;
    /// Does a PUT of what is not there create it?
    const CREATE_ON_UPDATE: bool = false;
    /// The `Warning` that every answer about this kind carries: the version is on its way out.
    const DEPRECATION: Option<&'static str> = None;
    /// What a name may look like.
    const NAME_RULE: NameRule = catamaran_api::names::dns1123_subdomain;

    /// Fills in what the user left out and Kubernetes defines a default for.
    fn default(&self, _object: &mut Self::Object) {}

    /// Makes a new object ready to be written: drops what only the system may set (status).
    fn prepare_create(&self, _object: &mut Self::Object) {}

    /// Makes a replacement ready: puts back what this endpoint may not change (status).
    fn prepare_update(&self, _new: &mut Self::Object, _old: &Self::Object) {}

    /// Makes a write to `status` ready: takes the rest from `old`. Metadata that users may change (labels, annotations,
    /// finalizers) may change here too, unless the kind puts it back; the other metadata is dealt with generically.
    fn prepare_status(&self, _new: &mut Self::Object, _old: &Self::Object) {}

    /// Did the desired state change, so that `metadata.generation` has to grow? `None`: the kind has no generation.
    fn spec_changed(&self, _new: &Self::Object, _old: &Self::Object) -> Option<bool> {
        None
    }

    /// Errors of an object on its own, beyond its metadata.
    fn validate(&self, _object: &Self::Object, _errors: &mut Errors) {}

    /// Errors that only a new object can have, beyond those of any object ([`validate`](Kind::validate) is called as well).
    fn validate_create(&self, _object: &Self::Object, _errors: &mut Errors) {}

    /// Makes a write to a path below the object ready that is not `status`: keeps of the new object what that path may change,
    /// and takes the rest from the old one. Only called for paths in [`SUBRESOURCES`](Kind::SUBRESOURCES).
    fn prepare_part(&self, _part: &str, new: &mut Self::Object, old: &Self::Object) {
        new.clone_from(old);
    }

    /// Errors of a write to such a path.
    fn validate_part(&self, _part: &str, _new: &Self::Object, _old: &Self::Object, _errors: &mut Errors) {}

    /// Errors of a change, beyond those of the new object on its own ([`validate`](Kind::validate) is called as well).
    fn validate_update(&self, _new: &Self::Object, _old: &Self::Object, _errors: &mut Errors) {}

    /// Errors of a new status.
    fn validate_status(&self, _new: &Self::Object, _old: &Self::Object, _errors: &mut Errors) {}

    /// Texts for `Warning` headers: what is accepted but will not do what it says, or is on its way out.
    fn warnings(&self, _new: &Self::Object, _old: Option<&Self::Object>) -> Vec<String> {
        Vec::new()
    }

    /// How long deletion waits for the node, in seconds, given what the request asked for. `None`: no graceful phase.
    fn deletion_grace(&self, _object: &Self::Object, _requested: Option<i64>) -> Option<i64> {
        None
    }

    /// Must the object stay although no finalizer in its metadata holds it?
    fn holds_deletion(&self, _object: &Self::Object) -> bool {
        false
    }

    /// Shows in the object that its deletion has begun, beyond `metadata.deletionTimestamp`.
    fn mark_deleted(&self, _object: &mut Self::Object) {}

    /// Columns of the server-side table after `Name` and before `Age`… all of them, `Name` and `Age` included.
    fn columns(&self) -> &'static [Column] {
        NAME_AND_AGE
    }

    /// One cell per column, in the same order.
    fn row(&self, object: &Self::Object, now: Timestamp) -> Vec<Value> {
        let metadata = object.metadata();
        vec![
            Value::from(metadata.name.clone().unwrap_or_default()),
            age(metadata, now),
        ]
    }
}

/// The table of a kind that has nothing to say.
pub static NAME_AND_AGE: &[Column] = &[Column::NAME, Column::AGE];

/// The `Name` cell.
pub fn name(metadata: &ObjectMeta) -> Value {
    Value::from(metadata.name.clone().unwrap_or_default())
}

/// The `Age` cell, in `kubectl`'s notation (`5d3h`), or `<unknown>`.
pub fn age(metadata: &ObjectMeta, now: Timestamp) -> Value {
    match &metadata.creation_timestamp {
        Some(created) => Value::from(catamaran_api::table::age(created.0, now)),
        None => Value::from("<unknown>"),
    }
}

/// Does the first of two values differ from the second? For [`Kind::spec_changed`].
pub(crate) fn differs<T: PartialEq>(new: &T, old: &T) -> Option<bool> {
    Some(new != old)
}

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;
