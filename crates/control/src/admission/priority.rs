//! How important pods are: from the name of a class to a number.
//!
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/>

use super::derived::Derived;
use super::{Attributes, Operation, Plugin, World, decoded, typed, typed_mut};
use crate::kinds::Object;
use crate::watch_cache::Record;
use async_trait::async_trait;
use catamaran_api::Status;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use std::sync::Arc;

const API_VERSION: &str = "scheduling.k8s.io/v1";
const CLASSES: &str = "priorityclasses";
const PREEMPT: &str = "PreemptLowerPriority";

pub(super) struct Priority {
    /// The class of pods that name none. Of several (there may be, after a race) the least important.
    global: Derived<Option<PriorityClass>>,
}

impl Default for Priority {
    fn default() -> Self {
        Priority {
            global: Derived::new(API_VERSION, CLASSES, global_default),
        }
    }
}

fn global_default(records: &[Arc<Record>]) -> Option<PriorityClass> {
    let classes = records
        .iter()
        .filter_map(|record| decoded::<PriorityClass>(record).ok());
    classes
        .filter(|class| class.global_default == Some(true))
        .min_by_key(|class| class.value)
}

#[async_trait]
impl Plugin for Priority {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.is_write_of("v1", "pods") || attributes.is_write_of(API_VERSION, CLASSES)
    }

    async fn mutate(
        &self,
        world: &World<'_>,
        attributes: &Attributes<'_>,
        object: &mut Box<dyn Object>,
    ) -> Result<(), Status> {
        let name = attributes.name(Some(object.as_ref())).to_owned();
        let refuse = |why: String| Status::forbidden(&attributes.target.resource.group_resource, &name, why);
        let Some(spec) = typed_mut::<Pod>(object.as_mut()).and_then(|pod| pod.spec.as_mut()) else {
            return Ok(());
        };
        if attributes.operation == Operation::Update {
            keep(spec, attributes.old);
            return Ok(());
        }
        let class = match spec.priority_class_name.as_deref().filter(|name| !name.is_empty()) {
            None => (*self.global.get(world)).clone(),
            Some(class) => match world.get(API_VERSION, CLASSES, None, class) {
                Some(record) => Some(decoded(&record)?),
                None => return Err(refuse(format!("no PriorityClass with name {class} was found"))),
            },
        };
        resolve(spec, class.as_ref()).map_err(refuse)
    }

    async fn validate(
        &self,
        world: &World<'_>,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
    ) -> Result<(), Status> {
        let Some(class) = object.and_then(typed::<PriorityClass>) else {
            return Ok(());
        };
        if class.global_default != Some(true) {
            return Ok(());
        }
        let global = self.global.get(world);
        let own = class.metadata.name.as_deref();
        if let Some(other) = global
            .as_ref()
            .as_ref()
            .and_then(|global| global.metadata.name.as_deref())
            && (attributes.operation == Operation::Create || Some(other) != own)
        {
            let why = format!("PriorityClass {other} is already marked as default. Only one default can exist");
            return Err(attributes.forbidden(object, why));
        }
        Ok(())
    }
}

/// What creation has resolved stays, if an update leaves it out.
fn keep(spec: &mut PodSpec, old: Option<&dyn Object>) {
    let Some(old) = old.and_then(typed::<Pod>).and_then(|pod| pod.spec.as_ref()) else {
        return;
    };
    if spec.priority.is_none() {
        spec.priority = old.priority;
    }
    if spec.preemption_policy.is_none() {
        spec.preemption_policy.clone_from(&old.preemption_policy);
    }
}

fn resolve(spec: &mut PodSpec, class: Option<&PriorityClass>) -> Result<(), String> {
    if let Some(class) = class {
        spec.priority_class_name.clone_from(&class.metadata.name);
    }
    let priority = class.map_or(0, |class| class.value);
    if let Some(own) = spec.priority.filter(|own| *own != priority) {
        return Err(format!(
            "the integer value of priority ({own}) must not be provided in pod spec; priority admission controller computed \
             {priority} from the given PriorityClass name"
        ));
    }
    spec.priority = Some(priority);
    let policy = match class {
        Some(class) => class.preemption_policy.as_deref(),
        None => Some(PREEMPT),
    };
    let Some(policy) = policy else { return Ok(()) };
    if let Some(own) = spec.preemption_policy.as_deref().filter(|own| *own != policy) {
        return Err(format!(
            "the string value of PreemptionPolicy ({own}) must not be provided in pod spec; priority admission controller \
             computed {policy} from the given PriorityClass name"
        ));
    }
    spec.preemption_policy = Some(policy.to_owned());
    Ok(())
}
