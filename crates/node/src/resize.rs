//! CPU and memory of containers that run: what is asked for, what this node has granted, and what the kernel holds to. Pure.
//!
//! ```text
//!   spec ──fits?──▶ granted (recorded) ──▶ cgroups, or a restart ──▶ in force
//!      └─ Deferred: not now · Infeasible: never          └─ PodResizeInProgress
//! ```
//!
//! Containers are started with what was granted; `kubectl get -o yaml` shows it as `allocatedResources`, and what is in force as
//! `resources`. What all pods were granted stands in the table of [`crate::grants`].

use crate::resources::{milli, units};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The kubelet's reasons of a resize that is not granted.
pub const DEFERRED: &str = "Deferred";
pub const INFEASIBLE: &str = "Infeasible";
/// The condition of a pod that asks for something it was not granted.
pub(crate) const PENDING: &str = "PodResizePending";

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

/// What a pod was granted, as it is kept for the next agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Granted {
    /// By container.
    pub containers: BTreeMap<String, ResourceRequirements>,
    /// What the pod takes of the node.
    pub requests: Requests,
    /// It was granted by a resize that is not in force everywhere.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub in_progress: bool,
    /// The pod's when it asked for the last resize that was granted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
}

impl Granted {
    /// Everything that `pod` asks for.
    pub fn of(pod: &Pod) -> Self {
        Self {
            containers: main(pod)
                .map(|container| (container.name.clone(), asked(container)))
                .collect(),
            requests: Requests::of(pod),
            in_progress: false,
            generation: None,
        }
    }

    /// Everything that `pod` asks for, by a resize.
    pub fn resized(pod: &Pod) -> Self {
        Self {
            in_progress: true,
            generation: pod.metadata.generation,
            ..Self::of(pod)
        }
    }

    /// Neither requests nor limits.
    pub fn is_empty(&self) -> bool {
        let none = |list: &Option<Quantities>| list.as_ref().is_none_or(BTreeMap::is_empty);
        let empty = |resources: &ResourceRequirements| none(&resources.requests) && none(&resources.limits);
        self.containers.values().all(empty)
    }
}

type Quantities = BTreeMap<String, Quantity>;

/// What one container has.
#[derive(Clone, Debug, Default, PartialEq)]
struct Grant {
    granted: ResourceRequirements,
    /// What the kernel holds to: one thing, or after a change that failed halfway one of several, the oldest first. Empty: nobody
    /// here has seen it set.
    held: Vec<ResourceRequirements>,
}

/// How the limits of the pod as a whole stand to those of its containers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Room {
    /// They are what was granted, no more.
    #[default]
    Settled,
    /// They may be too small for what was granted.
    Wanted,
    /// They are enough for what is in force and for what was granted.
    Made,
}

/// The state of a pod's resizes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resizes {
    grants: BTreeMap<String, Grant>,
    pub room: Room,
    /// Asked for and not granted.
    pub pending: Option<Obstacle>,
    /// Granted and not in force everywhere; with what stands in the way, if something does.
    pub in_progress: Option<Obstacle>,
}

impl Resizes {
    /// Everything a pod asks for is granted when it is accepted.
    pub fn of(pod: &Pod) -> Self {
        Self::recovered(Granted::of(pod))
    }

    /// What an earlier agent granted.
    pub fn recovered(granted: Granted) -> Self {
        let grant = |(name, granted)| {
            let held = Vec::new();
            (name, Grant { granted, held })
        };
        let in_progress = granted.in_progress.then(|| Obstacle {
            reason: "",
            message: String::new(),
            generation: granted.generation,
        });
        Self {
            grants: granted.containers.into_iter().map(grant).collect(),
            room: if granted.in_progress {
                Room::Wanted
            } else {
                Room::Settled
            },
            pending: None,
            in_progress,
        }
    }

    /// What the pod's status says of a resize that was not granted, until somebody asks again.
    pub fn recall(&mut self, pod: &Pod) {
        if self.pending.is_some() || !self.differ(pod) {
            return;
        }
        let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let Some(condition) = conditions.find(|condition| condition.type_ == PENDING) else {
            return;
        };
        let reason = [DEFERRED, INFEASIBLE]
            .into_iter()
            .find(|reason| condition.reason.as_deref() == Some(reason));
        self.pending = reason.map(|reason| Obstacle {
            reason,
            message: condition.message.clone().unwrap_or_default(),
            generation: condition.observed_generation,
        });
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
        self.room = Room::Wanted;
        self.pending = None;
        self.in_progress = Some(Obstacle {
            reason: "",
            message: String::new(),
            generation: pod.metadata.generation,
        });
    }

    /// The pod as it was granted: what containers are started with.
    pub fn granted(&self, pod: &Arc<Pod>) -> Arc<Pod> {
        if !self.differ(pod) {
            return pod.clone();
        }
        self.with_resources(pod, |grant| grant.granted.clone())
    }

    /// The pod with limits that leave room for everything that was granted and everything that may be in force.
    pub fn room_for(&self, pod: &Pod) -> Arc<Pod> {
        self.with_resources(pod, |grant| {
            let mut room = grant.granted.clone();
            for held in &grant.held {
                room.limits = larger(room.limits.take(), held.limits.as_ref());
            }
            room
        })
    }

    fn with_resources(&self, pod: &Pod, resources: impl Fn(&Grant) -> ResourceRequirements) -> Arc<Pod> {
        let mut pod = pod.clone();
        for container in pod.spec.iter_mut().flat_map(|spec| &mut spec.containers) {
            if let Some(grant) = self.grants.get(&container.name) {
                container.resources = Some(resources(grant));
            }
        }
        Arc::new(pod)
    }

    /// The container is started, or was changed, to what is granted now.
    pub fn set_in_force(&mut self, container: &str) {
        if let Some(grant) = self.grants.get_mut(container) {
            grant.held = vec![grant.granted.clone()];
        }
    }

    /// A change to what is granted now failed, and nobody knows how far it went.
    pub fn doubt(&mut self, container: &str) {
        if let Some(grant) = self.grants.get_mut(container)
            && grant.held.last() != Some(&grant.granted)
        {
            grant.held.push(grant.granted.clone());
        }
    }

    /// What an earlier agent noted of the container.
    pub fn set_held(&mut self, container: &str, held: Vec<ResourceRequirements>) {
        if let Some(grant) = self.grants.get_mut(container) {
            grant.held = held;
        }
    }

    /// What is in force is what was granted.
    pub fn is_in_force(&self, container: &str) -> bool {
        let grant = self.grants.get(container);
        grant.is_none_or(|grant| grant.held.as_slice() == std::slice::from_ref(&grant.granted))
    }

    /// Whether a container has to be started again for what it was granted, by its own wish.
    pub fn wants_restart(&self, container: &Container) -> bool {
        let Some(Grant { granted, held }) = self.grants.get(&container.name) else {
            return false;
        };
        let Some(before) = held.first() else { return false };
        let policies = container.resize_policy.iter().flatten();
        policies
            .filter(|policy| policy.restart_policy == "RestartContainer")
            .any(|policy| {
                let of = |resources: &ResourceRequirements| {
                    let pick = |list: &Option<Quantities>| list.as_ref()?.get(&policy.resource_name).cloned();
                    (pick(&resources.requests), pick(&resources.limits))
                };
                of(granted) != of(before)
            })
    }

    /// `allocatedResources` and `resources` of a container's status, where it runs and where it does not.
    pub fn shown(&self, container: &Container, runs: bool) -> (Option<Quantities>, ResourceRequirements) {
        match self.grants.get(&container.name) {
            Some(grant) => {
                let in_force = grant.held.first().filter(|_| runs).unwrap_or(&grant.granted);
                (grant.granted.requests.clone(), in_force.clone())
            }
            None => {
                let asked = asked(container);
                (asked.requests.clone(), asked)
            }
        }
    }
}

/// The larger limit of each; without a limit there is nothing larger.
fn larger(one: Option<Quantities>, other: Option<&Quantities>) -> Option<Quantities> {
    let (one, other) = (one?, other?);
    let both = one.into_iter().filter_map(|(name, amount)| {
        let more = other.get(&name)?;
        let amount = if milli(more) > milli(&amount) {
            more.clone()
        } else {
            amount
        };
        Some((name, amount))
    });
    Some(both.collect())
}

fn main(pod: &Pod) -> impl Iterator<Item = &Container> {
    pod.spec.iter().flat_map(|spec| &spec.containers)
}

fn asked(container: &Container) -> ResourceRequirements {
    container.resources.clone().unwrap_or_default()
}

/// What pods take of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    /// Thousandths of a CPU.
    pub cpu: i64,
    /// Bytes.
    pub memory: i64,
}

impl Requests {
    /// What a pod asks for: its containers together, or the one initialising it that asks for most.
    pub fn of(pod: &Pod) -> Self {
        let init = || pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
        let sum = |name: &str, read: fn(&Quantity) -> Option<i64>| {
            let of = |container: &Container| {
                let requests = container.resources.as_ref()?.requests.as_ref()?;
                requests.get(name).and_then(read)
            };
            let together = main(pod).filter_map(of).fold(0, i64::saturating_add);
            together.max(init().filter_map(of).max().unwrap_or(0))
        };
        Self {
            cpu: sum("cpu", milli),
            memory: sum("memory", units),
        }
    }

    pub fn max(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.max(other.cpu),
            memory: self.memory.max(other.memory),
        }
    }
}

impl std::iter::Sum for Requests {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            cpu: sum.cpu.saturating_add(one.cpu),
            memory: sum.memory.saturating_add(one.memory),
        })
    }
}

/// Whether a node with `allocatable` of which others have `used` can give a pod what it asks for.
pub(crate) fn fits(asked: Requests, used: Requests, allocatable: &Quantities) -> Verdict {
    let capacity = |name: &str, read: fn(&Quantity) -> Option<i64>| allocatable.get(name).and_then(read).unwrap_or(0);
    let cpu = ("cpu", asked.cpu, used.cpu, capacity("cpu", milli));
    let memory = ("memory", asked.memory, used.memory, capacity("memory", units));
    for (name, requested, _, capacity) in [memory, cpu] {
        if requested > capacity {
            return Verdict::Infeasible(format!(
                "Node didn't have enough capacity: {name}, requested: {requested}, capacity: {capacity}"
            ));
        }
    }
    for (name, requested, used, capacity) in [cpu, memory] {
        if requested > 0 && used.saturating_add(requested) > capacity {
            return Verdict::Deferred(format!(
                "Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}"
            ));
        }
    }
    Verdict::Fits
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
        let (allocated, in_force) = resizes.shown(container, true);
        assert_eq!(allocated.expect("requests")["cpu"].0, "2");
        assert_eq!(in_force.requests.expect("requests")["cpu"].0, "1");
        let (_, ended) = resizes.shown(container, false);
        assert_eq!(ended.requests.expect("requests")["cpu"].0, "2");
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
        let other = Requests::of(&one("1500m", "1Gi"));
        let judge = |asked: &Pod| match fits(Requests::of(asked), other, &allocatable) {
            Verdict::Fits => "fits".to_owned(),
            Verdict::Deferred(message) | Verdict::Infeasible(message) => message,
        };
        assert_eq!(judge(&one("2500m", "3Gi")), "fits");
        expect!["Node didn't have enough resource: cpu, requested: 2501, used: 1500, capacity: 4000"]
            .assert_eq(&judge(&one("2501m", "4Gi")));
        expect![
            "Node didn't have enough resource: memory, requested: 4294967296, used: 1073741824, capacity: 4294967296"
        ]
        .assert_eq(&judge(&one("1", "4Gi")));
        expect!["Node didn't have enough capacity: cpu, requested: 5000, capacity: 4000"]
            .assert_eq(&judge(&one("5", "1Gi")));
        assert_eq!(
            Requests::of(&serde_json::from_value(json!({"spec": {
                "containers": [{"name": "a", "resources": {"requests": {"cpu": "1"}}}, {"name": "b", "resources": {"requests": {"cpu": "1"}}}],
                "initContainers": [{"name": "i", "resources": {"requests": {"cpu": "1500m", "memory": "1Ki"}}}]}}))
            .expect("a pod")),
            Requests { cpu: 2000, memory: 1024 }
        );
    }

    fn limited(limits: &serde_json::Value) -> Arc<Pod> {
        pod(&json!([{"name": "a", "resources": {"limits": limits}}]))
    }

    #[test]
    fn there_is_room_for_whatever_may_be_in_force() {
        let mut resizes = Resizes::of(&limited(&json!({"cpu": "2", "memory": "1Gi"})));
        resizes.set_in_force("a");
        let room = |resizes: &Resizes, asked: &Pod| {
            let pod = resizes.room_for(asked);
            let resources = pod.spec.as_ref().expect("a spec").containers[0].resources.clone();
            serde_json::to_value(resources.and_then(|resources| resources.limits)).expect("serializable")
        };
        let asked = limited(&json!({"cpu": "1", "memory": "3Gi"}));
        resizes.grant(&asked);
        assert_eq!(room(&resizes, &asked), json!({"cpu": "2", "memory": "3Gi"}));
        // It failed halfway, and is taken back: either may be in force, and has to be written.
        resizes.doubt("a");
        let back = limited(&json!({"cpu": "1500m", "memory": "1Gi"}));
        resizes.grant(&back);
        assert_eq!(room(&resizes, &back), json!({"cpu": "2", "memory": "3Gi"}));
        resizes.grant(&limited(&json!({"cpu": "2", "memory": "1Gi"})));
        assert!(!resizes.is_in_force("a"));
        // No limit is the largest.
        resizes.set_in_force("a");
        let none = limited(&json!({"cpu": "1"}));
        resizes.grant(&none);
        assert_eq!(room(&resizes, &none), json!({"cpu": "2"}));
        resizes.set_in_force("a");
        assert_eq!(room(&resizes, &none), json!({"cpu": "1"}));
    }

    #[test]
    fn a_refusal_is_recalled_only_while_it_is_one() {
        let condition = json!({"type": "PodResizePending", "status": "True", "reason": "Infeasible", "message": "m", "observedGeneration": 4});
        let mut asked = Pod::clone(&one("9", "1Gi"));
        asked.status = serde_json::from_value(json!({"conditions": [condition]})).expect("a status");
        let mut resizes = Resizes::of(&one("1", "1Gi"));
        resizes.recall(&asked);
        let pending = resizes.pending.expect("pending");
        assert_eq!((pending.reason, pending.generation), (INFEASIBLE, Some(4)));
        let mut resizes = Resizes::of(&asked);
        resizes.recall(&asked);
        assert_eq!(resizes.pending, None);
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
