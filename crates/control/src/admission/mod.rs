//! It must be so: what the cluster as a whole demands of an object, beyond what its kind demands.
//!
//! Plugins run in order on every create and update of a whole object, before it is validated. They may change it, see
//! other objects through [`World`], and never write anything, so a dry run needs no special case.

mod namespace_lifecycle;
mod pod_defaults;
mod runtime_class;

use crate::kinds::Object;
use crate::registry::{Registry, Target};
use crate::watch_cache::Record;
use catamaran_api::Status;
use k8s_openapi::api::core::v1::Pod;
use std::any::Any;
use std::sync::Arc;

/// All plugins, in the order they run.
static ALL: &[&dyn Plugin] = &[
    &namespace_lifecycle::NamespaceLifecycle,
    &pod_defaults::PodDefaults,
    &runtime_class::RuntimeClasses,
];

/// What is being done to the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Update,
}

/// The request an object came with.
pub(crate) struct Request<'a> {
    pub(crate) target: &'a Target,
    pub(crate) operation: Operation,
}

impl Request<'_> {
    fn is_create_of(&self, api_version: &str, plural: &str) -> bool {
        let resource = &self.target.resource;
        self.operation == Operation::Create && resource.api_version == api_version && resource.info.plural == plural
    }
}

/// Other objects, as the caches show them.
pub(crate) struct World<'a> {
    pub(crate) registry: &'a Registry,
}

impl World<'_> {
    fn get(&self, api_version: &str, plural: &str, namespace: Option<&str>, name: &str) -> Option<Arc<Record>> {
        self.registry.peek(api_version, plural, namespace, name)
    }
}

trait Plugin: Sync {
    fn admit(&self, world: &World<'_>, request: &Request<'_>, object: &mut dyn Object) -> Result<(), Status>;
}

/// Runs all plugins.
pub(crate) fn admit(world: &World<'_>, request: &Request<'_>, object: &mut dyn Object) -> Result<(), Status> {
    ALL.iter().try_for_each(|plugin| plugin.admit(world, request, object))
}

/// Runs what there is to say about deletions.
pub(crate) fn admit_delete(target: &Target) -> Result<(), Status> {
    namespace_lifecycle::may_delete(target)
}

fn as_pod(object: &mut dyn Object) -> Option<&mut Pod> {
    let any: &mut dyn Any = object;
    any.downcast_mut()
}

/// A refusal, in Kubernetes' words.
fn forbidden(request: &Request<'_>, object: &dyn Object, why: &str) -> Status {
    let name = object.meta().name.as_deref().unwrap_or_default();
    Status::forbidden(&request.target.resource.group_resource, name, why)
}
