//! Who owns which field: what every write does to `metadata.managedFields`.
//!
//! It happens between defaults and admission, as in Kubernetes: what the writer sent, defaults included, is the writer's; what
//! admission adds is nobody's. Users may edit the list themselves (`kubectl` does, to take over from its client-side apply); what
//! they send counts if it can be read, and an empty list forgets all owners.
//! <https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management>

use super::resource::Resource;
use super::{Registry, Target, WriteOptions, codec_failed};
use crate::kinds::Object;
use catamaran_api::Status;
use catamaran_api::patch::apply::{self, Managers, Set, Versions, Write};
use catamaran_api::schema::Node;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde_json::{Map, Value};
use std::sync::{Arc, LazyLock};

/// A manager's name may not be longer, in bytes.
pub(crate) const LONGEST_MANAGER: usize = 128;

/// Who has dealt with the owners of an object's fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tracking {
    /// Nobody yet.
    Due,
    /// They are in the object: an apply.
    Done,
}

impl WriteOptions {
    /// The name under which this write owns what it changes: `fieldManager`, or the start of the `User-Agent`.
    pub(crate) fn manager(&self) -> String {
        if !self.field_manager.is_empty() {
            return self.field_manager.clone();
        }
        let agent = self.caller.user_agent.split('/').next().unwrap_or_default();
        let mut name = String::new();
        for c in agent.chars().filter(|c| !c.is_control()) {
            if name.len() + c.len_utf8() > LONGEST_MANAGER {
                break;
            }
            name.push(c);
        }
        if name.is_empty() {
            name.push_str(component(&self.caller.identity.user));
        }
        name
    }
}

/// What Kubernetes' components call themselves, for those of ours that do not introduce themselves.
fn component(user: &str) -> &'static str {
    match user {
        "system:kube-scheduler" => "kube-scheduler",
        "system:kube-controller-manager" => "kube-controller-manager",
        "system:apiserver" => "kube-apiserver",
        _ if user.starts_with("system:node:") => "kubelet",
        _ if user.starts_with("system:serviceaccount:kube-system:") => "kube-controller-manager",
        _ => "unknown",
    }
}

impl Registry {
    /// Enters the owners of a new object's fields.
    pub(super) fn own_new(
        &self,
        target: &Target,
        object: &mut dyn Object,
        options: &WriteOptions,
    ) -> Result<(), Status> {
        let managers = decode(object.meta().managed_fields.as_deref()).unwrap_or_default();
        object.meta_mut().managed_fields = None;
        let new = object.to_value().map_err(|error| codec_failed(&error))?;
        let empty = Value::Object(Map::new());
        object.meta_mut().managed_fields = self.update_owners(target, &empty, &new, managers, options);
        Ok(())
    }

    /// Enters the owners of a changed object's fields.
    pub(super) fn own_changed(
        &self,
        target: &Target,
        new: &mut dyn Object,
        old: &dyn Object,
        options: &WriteOptions,
    ) -> Result<(), Status> {
        let sent = new.meta_mut().managed_fields.take();
        let present = old.meta().managed_fields.as_deref();
        let managers = if !options.subresource.is_empty() {
            decode(present)
        } else if apply::is_reset(sent.as_deref()) {
            None
        } else {
            decode(sent.as_deref())
                .filter(|sent| !sent.0.is_empty())
                .or_else(|| decode(present))
        };
        let managers = managers.unwrap_or_default();
        if managers.0.is_empty() {
            return Ok(());
        }
        let live = bare(old)?;
        let value = new.to_value().map_err(|error| codec_failed(&error))?;
        new.meta_mut().managed_fields = self.update_owners(target, &live, &value, managers, options);
        Ok(())
    }

    fn update_owners(
        &self,
        target: &Target,
        live: &Value,
        new: &Value,
        managers: Managers,
        options: &WriteOptions,
    ) -> Option<Vec<ManagedFieldsEntry>> {
        let served = self.served(target);
        let manager = options.manager();
        let write = served.write(&target.resource, &manager, options.subresource);
        apply::update(&write, live, new, managers).encode()
    }

    /// The versions in which the objects of a resource can be had.
    pub(super) fn served(&self, target: &Target) -> Served {
        let own = &target.resource;
        let mut versions = vec![Arc::clone(own)];
        let others = self.versions(own).into_iter();
        versions.extend(others.filter(|other| other.api_version != own.api_version));
        Served { versions }
    }
}

/// An object as JSON, without the owners of its fields.
pub(super) fn bare(object: &dyn Object) -> Result<Value, Status> {
    let mut value = object.to_value().map_err(|error| codec_failed(&error))?;
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    Ok(value)
}

/// `None` if the list cannot be read: then it does not count.
pub(super) fn decode(entries: Option<&[ManagedFieldsEntry]>) -> Option<Managers> {
    Managers::decode(entries.unwrap_or_default()).ok()
}

/// The versions of a resource; the first is that of the request.
pub(super) struct Served {
    versions: Vec<Arc<Resource>>,
}

impl Served {
    fn find(&self, api_version: &str) -> Option<&Resource> {
        let found = self
            .versions
            .iter()
            .find(|resource| resource.api_version == api_version);
        found.map(AsRef::as_ref)
    }

    /// A write that starts now.
    pub(super) fn write<'a>(&'a self, resource: &'a Resource, manager: &'a str, subresource: &'a str) -> Write<'a> {
        let now = Timestamp::now();
        Write {
            versions: self,
            api_version: &resource.api_version,
            subresource,
            manager,
            ignored: reset_fields(resource, subresource),
            now: Timestamp::from_second(now.as_second()).unwrap_or(now),
        }
    }
}

impl Versions for Served {
    fn node(&self, api_version: &str) -> Option<Node<'_>> {
        match self.find(api_version)?.schema() {
            Some(node) => Some(node),
            None => Some(Node::any()),
        }
    }

    /// Conversion by webhook cannot be waited for here: between such versions paths are taken to be the same, as they are for
    /// most fields of most kinds.
    fn convert(&self, object: &Value, api_version: &str) -> Option<Value> {
        let from = object.get("apiVersion").and_then(Value::as_str);
        let (from, to) = (from.and_then(|from| self.find(from)), self.find(api_version)?);
        let mut object = object.clone();
        if let Some(hub) = from.and_then(|from| from.kind.hub()) {
            object = (hub.to)(object);
        }
        if let Some(hub) = to.kind.hub() {
            object = (hub.from)(object);
        }
        if let Some(fields) = object.as_object_mut() {
            fields.insert("apiVersion".to_owned(), api_version.into());
        }
        Some(object)
    }
}

/// Fields that a write to this path never changes, whatever it says: they are not the writer's.
fn reset_fields(resource: &Resource, subresource: &str) -> &'static Set {
    static NONE: LazyLock<Set> = LazyLock::new(Set::default);
    static STATUS: LazyLock<Set> = LazyLock::new(|| Set::of_fields(&[&["status"]]));
    static SPEC: LazyLock<Set> = LazyLock::new(|| Set::of_fields(&[&["spec"]]));
    static SPEC_AND_METADATA: LazyLock<Set> = LazyLock::new(|| Set::of_fields(&[&["spec"], &["metadata"]]));
    static DEPLOYMENT: LazyLock<Set> = LazyLock::new(|| Set::of_fields(&[&["spec"], &["metadata", "labels"]]));
    static POD: LazyLock<Set> = LazyLock::new(|| {
        let metadata = |field| ["metadata", field];
        Set::of_fields(&[&["spec"], &metadata("deletionTimestamp"), &metadata("ownerReferences")])
    });
    if resource.info.subresource("status").is_none() {
        return &NONE;
    }
    if subresource != "status" {
        return &STATUS;
    }
    match (&*resource.info.group, &*resource.info.kind) {
        ("", "Pod") => &POD,
        ("apps", "Deployment") => &DEPLOYMENT,
        ("flowcontrol.apiserver.k8s.io" | "apiextensions.k8s.io" | "apiregistration.k8s.io", _) => &SPEC_AND_METADATA,
        _ => &SPEC,
    }
}
