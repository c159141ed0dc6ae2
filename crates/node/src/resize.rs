//! CPU and memory of containers that run: what is asked for, what this node has granted, and what the kernel holds to. Pure.
//!
//! ```text
//!   spec ──fits?──▶ granted (recorded) ──▶ cgroups, or a restart ──▶ in force
//!      └─ Deferred: not now · Infeasible: never          └─ PodResizeInProgress
//! ```
//!
//! Containers are started with what was granted; `kubectl get -o yaml` shows it as `allocatedResources`, and what is in force as
//! `resources`.

use crate::resources::{milli, units};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The kubelet's reasons of a resize that is not granted.
pub const DEFERRED: &str = "Deferred";
pub const INFEASIBLE: &str = "Infeasible";

/// Whether a node can give what a pod asks for. The message is a condition's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Fits,
    /// Others have it now.
    Deferred(String),
    /// The node does not have as much.
    Infeasible(String),
}

/// Why a resize does not come about, or has not yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    pub reason: &'static str,
    pub message: String,
    /// Of the pod that asked.
    pub generation: Option<i64>,
}

/// What one container has.
#[derive(Clone, Debug, Default, PartialEq)]
struct Grant {
    granted: ResourceRequirements,
    /// `None`: nobody here has seen it set.
    in_force: Option<ResourceRequirements>,
}

/// The state of a pod's resizes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resizes {
    grants: BTreeMap<String, Grant>,
    /// Asked for and not granted.
    pub pending: Option<Obstacle>,
    /// Granted and not in force everywhere; with what stands in the way, if something does.
    pub in_progress: Option<Obstacle>,
}

impl Resizes {
    /// Everything a pod asks for is granted when it is accepted.
    pub fn of(pod: &Pod) -> Self {
        let mut resizes = Self::default();
        resizes.grant(pod);
        resizes
    }

    /// The pod's containers ask for something else than they were granted.
    pub fn differ(&self, pod: &Pod) -> bool {
        main(pod).any(|container| {
            let grant = self.grants.get(&container.name);
            grant.is_some_and(|grant| grant.granted != asked(container))
        })
    }

    pub fn grant(&mut self, pod: &Pod) {
        for container in main(pod) {
            self.grants.entry(container.name.clone()).or_default().granted = asked(container);
        }
    }

    /// The pod as it was granted: what containers are started with.
    pub fn granted(&self, pod: &Arc<Pod>) -> Arc<Pod> {
        if !self.differ(pod) {
            return pod.clone();
        }
        let mut pod = Pod::clone(pod);
        for container in pod.spec.iter_mut().flat_map(|spec| &mut spec.containers) {
            if let Some(grant) = self.grants.get(&container.name) {
                container.resources = Some(grant.granted.clone());
            }
        }
        Arc::new(pod)
    }

    /// The container is started, or was changed, to what is granted now.
    pub fn set_in_force(&mut self, container: &str) {
        if let Some(grant) = self.grants.get_mut(container) {
            grant.in_force = Some(grant.granted.clone());
        }
    }

    /// What is in force is what was granted.
    pub fn is_in_force(&self, container: &str) -> bool {
        let grant = self.grants.get(container);
        grant.is_none_or(|grant| grant.in_force.as_ref() == Some(&grant.granted))
    }

    /// Whether a container has to be started again for what it was granted, by its own wish.
    pub fn wants_restart(&self, container: &Container) -> bool {
        let Some(Grant {
            granted,
            in_force: Some(before),
        }) = self.grants.get(&container.name)
        else {
            return false;
        };
        let policies = container.resize_policy.iter().flatten();
        policies
            .filter(|policy| policy.restart_policy == "RestartContainer")
            .any(|policy| {
                let of = |resources: &ResourceRequirements| {
                    let pick =
                        |list: &Option<BTreeMap<String, Quantity>>| list.as_ref()?.get(&policy.resource_name).cloned();
                    (pick(&resources.requests), pick(&resources.limits))
                };
                of(granted) != of(before)
            })
    }

    /// `allocatedResources` and `resources` of a container's status.
    pub fn shown(&self, container: &Container) -> (Option<BTreeMap<String, Quantity>>, ResourceRequirements) {
        match self.grants.get(&container.name) {
            Some(grant) => {
                let in_force = grant.in_force.as_ref().unwrap_or(&grant.granted);
                (grant.granted.requests.clone(), in_force.clone())
            }
            None => {
                let asked = asked(container);
                (asked.requests.clone(), asked)
            }
        }
    }
}

fn main(pod: &Pod) -> impl Iterator<Item = &Container> {
    pod.spec.iter().flat_map(|spec| &spec.containers)
}

fn asked(container: &Container) -> ResourceRequirements {
    container.resources.clone().unwrap_or_default()
}

/// Whether a node with `allocatable` can give `pod` what it asks for, beside what `others` were granted.
pub(crate) fn fits<'a>(
    pod: &Pod,
    others: impl Iterator<Item = &'a Pod>,
    allocatable: &BTreeMap<String, Quantity>,
) -> Verdict {
    type Read = fn(&Quantity) -> Option<i64>;
    let resources: [(&str, Read); 2] = [("memory", units), ("cpu", milli)];
    let others: Vec<&Pod> = others.collect();
    for (name, read) in resources {
        let requested = requests(pod, name, read, false);
        let capacity = allocatable.get(name).and_then(read).unwrap_or(0);
        if requested > capacity {
            return Verdict::Infeasible(format!(
                "Node didn't have enough capacity: {name}, requested: {requested}, capacity: {capacity}"
            ));
        }
    }
    for (name, read) in resources.into_iter().rev() {
        let requested = requests(pod, name, read, false);
        let capacity = allocatable.get(name).and_then(read).unwrap_or(0);
        let used = others
            .iter()
            .map(|other| requests(other, name, read, true))
            .fold(0, i64::saturating_add);
        if requested > 0 && used.saturating_add(requested) > capacity {
            return Verdict::Deferred(format!(
                "Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}"
            ));
        }
    }
    Verdict::Fits
}

/// What a pod asks for; where it was granted something else, that.
fn requests(pod: &Pod, name: &str, read: fn(&Quantity) -> Option<i64>, granted: bool) -> i64 {
    let Some(spec) = &pod.spec else { return 0 };
    let statuses = pod
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten());
    let statuses: Vec<_> = statuses.filter(|_| granted).collect();
    let of = |container: &Container| -> i64 {
        let status = statuses.iter().find(|status| status.name == container.name);
        let list = status.and_then(|status| status.allocated_resources.as_ref());
        let asked = container
            .resources
            .as_ref()
            .and_then(|resources| resources.requests.as_ref());
        list.or(asked)
            .and_then(|list| list.get(name))
            .and_then(read)
            .unwrap_or(0)
    };
    let main = spec.containers.iter().map(of).fold(0, i64::saturating_add);
    let init = spec.init_containers.iter().flatten().map(of).max().unwrap_or(0);
    main.max(init)
}

/// The text of the kubelet's events about resizes: `what`, and the resources in question.
pub(crate) fn summary(what: &str, spec: &PodSpec, generation: Option<i64>, error: Option<&str>) -> String {
    let list = |containers: &[Container]| -> Vec<Asked> {
        let one = |container: &Container| Asked {
            name: container.name.clone(),
            resources: asked(container),
        };
        containers.iter().map(one).collect()
    };
    let summary = Summary {
        init_containers: list(spec.init_containers.as_deref().unwrap_or_default()),
        containers: list(&spec.containers),
        generation: generation.unwrap_or_default(),
        error,
    };
    let json = serde_json::to_string(&summary).unwrap_or_default();
    format!("{what}: {json}")
}

/// In the order of the kubelet's.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    init_containers: Vec<Asked>,
    containers: Vec<Asked>,
    generation: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

#[derive(Serialize)]
struct Asked {
    name: String,
    resources: ResourceRequirements,
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    fn pod(containers: &serde_json::Value) -> Arc<Pod> {
        Arc::new(serde_json::from_value(json!({"spec": {"containers": containers}})).expect("a pod"))
    }

    fn one(cpu: &str, memory: &str) -> Arc<Pod> {
        let policy = json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
        pod(&json!([{"name": "a", "resizePolicy": policy, "resources": {"requests": {"cpu": cpu, "memory": memory}}}]))
    }

    #[test]
    fn what_was_granted_counts_until_something_else_is() {
        let mut resizes = Resizes::of(&one("1", "1Gi"));
        resizes.set_in_force("a");
        let asked = one("2", "1Gi");
        assert!(resizes.differ(&asked));
        assert_eq!(resizes.granted(&asked), one("1", "1Gi"));
        let container = &asked.spec.as_ref().expect("a spec").containers[0];
        resizes.grant(&asked);
        assert!(!resizes.differ(&asked) && !resizes.is_in_force("a"));
        let (allocated, in_force) = resizes.shown(container);
        assert_eq!(allocated.expect("requests")["cpu"].0, "2");
        assert_eq!(in_force.requests.expect("requests")["cpu"].0, "1");
        assert!(!resizes.wants_restart(container), "only memory does");
        let more = one("2", "2Gi");
        resizes.grant(&more);
        assert!(resizes.wants_restart(container));
        resizes.set_in_force("a");
        assert!(resizes.is_in_force("a") && !resizes.wants_restart(container));
    }

    #[test]
    fn what_does_not_fit_is_said_as_the_kubelet_says_it() {
        let allocatable = [("cpu", "4"), ("memory", "4Gi")];
        let allocatable = allocatable
            .map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned())))
            .into();
        let judge = |asked: &Pod, other: &Pod| match fits(asked, [other].into_iter(), &allocatable) {
            Verdict::Fits => "fits".to_owned(),
            Verdict::Deferred(message) | Verdict::Infeasible(message) => message,
        };
        let other = one("1500m", "1Gi");
        assert_eq!(judge(&one("2500m", "3Gi"), &other), "fits");
        expect!["Node didn't have enough resource: cpu, requested: 2501, used: 1500, capacity: 4000"]
            .assert_eq(&judge(&one("2501m", "4Gi"), &other));
        expect![
            "Node didn't have enough resource: memory, requested: 4294967296, used: 1073741824, capacity: 4294967296"
        ]
        .assert_eq(&judge(&one("1", "4Gi"), &other));
        expect!["Node didn't have enough capacity: cpu, requested: 5000, capacity: 4000"]
            .assert_eq(&judge(&one("5", "1Gi"), &other));
        // The other asks for more than it has.
        let mut asking = Pod::clone(&other);
        asking.status = serde_json::from_value(json!({"containerStatuses": [
            {"name": "a", "image": "", "imageID": "", "ready": true, "restartCount": 0, "allocatedResources": {"cpu": "1"}}]}))
        .expect("a status");
        assert_eq!(judge(&one("3", "1Gi"), &asking), "fits");
    }

    #[test]
    fn events_tell_what_is_asked_for() {
        let pod = pod(&json!([{"name": "a", "resources": {"limits": {"cpu": "1"}}}, {"name": "b"}]));
        let spec = pod.spec.as_ref().expect("a spec");
        expect![[r#"Pod resize started: {"containers":[{"name":"a","resources":{"limits":{"cpu":"1"}}},{"name":"b","resources":{}}],"generation":2}"#]]
            .assert_eq(&summary("Pod resize started", spec, Some(2), None));
        assert!(summary("Pod resize error", spec, Some(2), Some("no")).ends_with(r#""generation":2,"error":"no"}"#));
    }
}
