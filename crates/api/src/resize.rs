//! What of a container counts while its pod is being resized: the most of what it asks for, was granted, and has. A wish that its
//! node can never grant does not count.
//! <https://kubernetes.io/docs/tasks/configure-pod-container/resize-container-resources/>

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

type List = BTreeMap<String, Quantity>;

/// The lists of requests of which the larger amounts count, name by name.
pub fn requests<'a>(pod: &'a Pod, container: &'a Container) -> Vec<&'a List> {
    let asked = |resources: &'a ResourceRequirements| resources.requests.as_ref();
    let own = container.resources.as_ref().and_then(asked);
    match status(pod, container) {
        None => own.into_iter().collect(),
        Some(status) => {
            let own = own.filter(|_| !is_infeasible(pod));
            let actual = status.resources.as_ref().and_then(asked);
            let granted = status.allocated_resources.as_ref();
            [own, actual, granted].into_iter().flatten().collect()
        }
    }
}

/// The same of limits, which are not granted.
pub fn limits<'a>(pod: &'a Pod, container: &'a Container) -> Vec<&'a List> {
    let bounds = |resources: &'a ResourceRequirements| resources.limits.as_ref();
    let own = container.resources.as_ref().and_then(bounds);
    match status(pod, container) {
        None => own.into_iter().collect(),
        Some(status) => {
            let own = own.filter(|_| !is_infeasible(pod));
            let actual = status.resources.as_ref().and_then(bounds);
            [own, actual].into_iter().flatten().collect()
        }
    }
}

/// What the node says of the container, if it says what it has.
fn status<'a>(pod: &'a Pod, container: &Container) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let regular = status.container_statuses.iter().flatten();
    let init = status.init_container_statuses.iter().flatten();
    let own = regular.chain(init).find(|status| status.name == container.name);
    own.filter(|status| status.resources.is_some())
}

/// Has the node said that it will never grant what is asked for?
fn is_infeasible(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let pending = conditions
        .into_iter()
        .find(|condition| condition.type_ == "PodResizePending");
    pending.is_some_and(|condition| condition.reason.as_deref() == Some("Infeasible"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(reason: &str) -> Pod {
        let status = |name: &str| {
            json!({
                "name": name, "image": "", "imageID": "", "ready": true, "restartCount": 0,
                "allocatedResources": {"cpu": "1"}, "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "3"}},
            })
        };
        let container = |name: &str| {
            let resources = json!({"requests": {"cpu": "9"}, "limits": {"cpu": "9"}});
            json!({"name": name, "resources": resources})
        };
        let pod: Value = json!({
            "spec": {"containers": [container("a"), container("unknown")], "initContainers": [container("side")]},
            "status": {
                "conditions": [{"type": "PodResizePending", "status": "True", "reason": reason}],
                "containerStatuses": [status("a")], "initContainerStatuses": [status("side")],
            },
        });
        serde_json::from_value(pod).unwrap()
    }

    fn amounts(lists: Vec<&List>) -> Vec<&str> {
        lists
            .into_iter()
            .flat_map(|list| list.values())
            .map(|quantity| &*quantity.0)
            .collect()
    }

    #[test]
    fn a_wish_that_is_never_granted_does_not_count() {
        for (reason, asked, bounded) in [
            ("Deferred", &["9", "2", "1"][..], &["9", "3"][..]),
            ("Infeasible", &["2", "1"], &["3"]),
        ] {
            let pod = pod(reason);
            let spec = pod.spec.as_ref().unwrap();
            for container in [&spec.containers[0], &spec.init_containers.as_ref().unwrap()[0]] {
                assert_eq!(amounts(requests(&pod, container)), asked, "{reason}");
                assert_eq!(amounts(limits(&pod, container)), bounded, "{reason}");
            }
            let unknown = &spec.containers[1];
            assert_eq!(amounts(requests(&pod, unknown)), ["9"], "{reason}");
            assert_eq!(amounts(limits(&pod, unknown)), ["9"], "{reason}");
        }
    }
}
