//! A pod names a runtime class that exists, and gets what that class adds: overhead and a place to run.

use super::{Attributes, Plugin, World, decoded, typed, typed_mut};
use crate::kinds::Object;
use crate::kinds::quota::of_wire;
use async_trait::async_trait;
use catamaran_api::Status;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::api::node::v1::{RuntimeClass, Scheduling};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

pub(super) struct RuntimeClasses;

#[async_trait]
impl Plugin for RuntimeClasses {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.is_create_of("v1", "pods")
    }

    async fn mutate(
        &self,
        world: &World<'_>,
        attributes: &Attributes<'_>,
        object: &mut Box<dyn Object>,
    ) -> Result<(), Status> {
        let Some(class) = class_of(world, attributes, object.as_ref())? else {
            return Ok(());
        };
        let name = attributes.name(Some(object.as_ref())).to_owned();
        let Some(spec) = typed_mut::<Pod>(object.as_mut()).and_then(|pod| pod.spec.as_mut()) else {
            return Ok(());
        };
        apply(spec, class).map_err(|why| Status::forbidden(&attributes.target.resource.group_resource, &name, why))
    }

    /// Nobody else adds overhead.
    async fn validate(
        &self,
        world: &World<'_>,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
    ) -> Result<(), Status> {
        let Some(object) = object else { return Ok(()) };
        let class = class_of(world, attributes, object)?;
        let overhead = class.and_then(|class| class.overhead);
        let own = typed::<Pod>(object).and_then(|pod| pod.spec.as_ref()?.overhead.as_ref());
        let why = match (overhead, own) {
            (Some(overhead), own) if !same(overhead.pod_fixed.as_ref(), own) => {
                "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"
            }
            (None, Some(_)) => "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
            _ => return Ok(()),
        };
        Err(attributes.forbidden(Some(object), why))
    }
}

fn class_of(
    world: &World<'_>,
    attributes: &Attributes<'_>,
    object: &dyn Object,
) -> Result<Option<RuntimeClass>, Status> {
    let spec = typed::<Pod>(object).and_then(|pod| pod.spec.as_ref());
    let name = spec.and_then(|spec| spec.runtime_class_name.as_deref());
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    match world.get("node.k8s.io/v1", "runtimeclasses", None, name) {
        Some(record) => Ok(Some(decoded(&record)?)),
        None => {
            let why = format!("pod rejected: RuntimeClass {name:?} not found");
            Err(attributes.forbidden(Some(object), why))
        }
    }
}

fn apply(spec: &mut PodSpec, class: RuntimeClass) -> Result<(), String> {
    if let Some(overhead) = class.overhead {
        if spec.overhead.is_some() && !same(overhead.pod_fixed.as_ref(), spec.overhead.as_ref()) {
            return Err("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead".to_owned());
        }
        spec.overhead = overhead.pod_fixed;
    }
    match class.scheduling {
        Some(scheduling) => place(spec, scheduling),
        None => Ok(()),
    }
}

fn place(spec: &mut PodSpec, scheduling: Scheduling) -> Result<(), String> {
    for (key, value) in scheduling.node_selector.unwrap_or_default() {
        let selector = spec.node_selector.get_or_insert_default();
        let own = selector.entry(key.clone()).or_insert_with(|| value.clone());
        if *own != value {
            return Err(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; pod.spec.nodeSelector[{key}] = {own}"
            ));
        }
    }
    for toleration in scheduling.tolerations.unwrap_or_default() {
        let tolerations = spec.tolerations.get_or_insert_default();
        if !tolerations.contains(&toleration) {
            tolerations.push(toleration);
        }
    }
    Ok(())
}

type Amounts = BTreeMap<String, Quantity>;

/// The same amounts, however written.
fn same(a: Option<&Amounts>, b: Option<&Amounts>) -> bool {
    of_wire(a) == of_wire(b)
}
