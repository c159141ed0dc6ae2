//! A pod names a runtime class that exists, and gets what that class adds: overhead and a place to run.

use super::{Attributes, Plugin, World, as_pod, forbidden};
use crate::kinds::Object;
use async_trait::async_trait;
use catamaran_api::Status;
use k8s_openapi::api::node::v1::RuntimeClass;

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
        let class_name = as_pod(object.as_mut())
            .and_then(|pod| pod.spec.as_ref()?.runtime_class_name.clone())
            .filter(|name| !name.is_empty());
        let Some(class_name) = class_name else { return Ok(()) };
        let Some(record) = world.get("node.k8s.io/v1", "runtimeclasses", None, &class_name) else {
            let why = format!(
                "pod rejected: RuntimeClass \"{class_name}\" not found (kubectl get runtimeclass shows those there are)"
            );
            return Err(forbidden(attributes, object.as_ref(), &why));
        };
        let class: RuntimeClass = serde_json::from_slice(&record.json()).map_err(Status::internal)?;
        let Some(spec) = as_pod(object.as_mut()).and_then(|pod| pod.spec.as_mut()) else {
            return Ok(());
        };
        if let Some(overhead) = class.overhead.and_then(|overhead| overhead.pod_fixed) {
            spec.overhead = Some(overhead);
        }
        let Some(scheduling) = class.scheduling else {
            return Ok(());
        };
        for (key, value) in scheduling.node_selector.unwrap_or_default() {
            let own = spec
                .node_selector
                .get_or_insert_default()
                .entry(key.clone())
                .or_insert_with(|| value.clone());
            if *own != value {
                let why = format!(
                    "pod rejected: conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; pod.spec.nodeSelector[{key}] = {own}"
                );
                return Err(forbidden(attributes, object.as_ref(), &why));
            }
        }
        let tolerations = spec.tolerations.get_or_insert_default();
        for toleration in scheduling.tolerations.unwrap_or_default() {
            if !tolerations.contains(&toleration) {
                tolerations.push(toleration);
            }
        }
        Ok(())
    }
}
