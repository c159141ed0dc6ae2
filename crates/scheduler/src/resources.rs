//! How much a pod asks for, and how much a node has, in numbers that can be compared.
//!
//! The rules are those of <https://kubernetes.io/docs/concepts/workloads/pods/init-containers/#resource-sharing-within-containers>
//! and <https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/>: ordinary init containers run one after
//! the other before the others, so only the largest counts; a sidecar (an init container with `restartPolicy: Always`)
//! runs beside everything after it.

use catamaran_api::quantity::Quantity;
use catamaran_api::resize;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Wire;
use std::collections::BTreeMap;

/// What scoring takes a container for that asks for nothing, so that such pods spread too.
const UNASKED_MILLI_CPU: i64 = 100;
const UNASKED_MEMORY: i64 = 200 << 20;

/// Amounts of everything that is counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Thousandths of a CPU.
    pub milli_cpu: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes.
    pub ephemeral_storage: i64,
    /// Everything else by name (extended resources, huge pages), in whole units. Never zero.
    pub others: BTreeMap<String, i64>,
}

impl Resources {
    /// Takes over an API object's list. `pods` is not an amount a container asks for; it is left out.
    pub fn from_list(list: Option<&BTreeMap<String, Wire>>) -> Resources {
        let mut resources = Resources::default();
        for (name, quantity) in list.into_iter().flatten() {
            match name.as_str() {
                "cpu" => resources.milli_cpu = millis(quantity),
                "memory" => resources.memory = units(quantity),
                "ephemeral-storage" => resources.ephemeral_storage = units(quantity),
                "pods" => {}
                _ => resources.set_other(name, units(quantity)),
            }
        }
        resources
    }

    fn set_other(&mut self, name: &str, amount: i64) {
        if amount == 0 {
            self.others.remove(name);
        } else {
            self.others.insert(name.to_owned(), amount);
        }
    }

    pub fn add(&mut self, more: &Resources) {
        self.combine(more, i64::saturating_add);
    }

    /// Takes back what [`Resources::add`] added.
    pub fn subtract(&mut self, less: &Resources) {
        self.combine(less, i64::saturating_sub);
    }

    /// The larger of both, each by itself.
    pub fn at_least(&mut self, other: &Resources) {
        self.combine(other, i64::max);
    }

    fn combine(&mut self, other: &Resources, with: impl Fn(i64, i64) -> i64) {
        self.milli_cpu = with(self.milli_cpu, other.milli_cpu);
        self.memory = with(self.memory, other.memory);
        self.ephemeral_storage = with(self.ephemeral_storage, other.ephemeral_storage);
        for (name, amount) in &other.others {
            let combined = with(self.other(name), *amount);
            self.set_other(name, combined);
        }
    }

    pub fn other(&self, name: &str) -> i64 {
        self.others.get(name).copied().unwrap_or(0)
    }
}

/// What the pod asks for, as it is reserved on its node. While it is being resized, each container counts with the most of what it
/// asks for, was granted, and has.
pub fn requested(pod: &Pod) -> Resources {
    combined(pod, |container| most(&resize::requests(pod, container)))
}

/// The same for scoring, where a container that names no CPU or memory still counts a little.
pub fn assumed_for_scoring(pod: &Pod) -> Resources {
    combined(pod, |container| {
        let lists = resize::requests(pod, container);
        let mut requests = most(&lists);
        let named = |name| lists.iter().any(|list| list.contains_key(name));
        if !named("cpu") {
            requests.milli_cpu = UNASKED_MILLI_CPU;
        }
        if !named("memory") {
            requests.memory = UNASKED_MEMORY;
        }
        requests
    })
}

fn most(lists: &[&BTreeMap<String, Wire>]) -> Resources {
    let mut most = Resources::default();
    for list in lists {
        most.at_least(&Resources::from_list(Some(list)));
    }
    most
}

fn combined(pod: &Pod, requests: impl Fn(&Container) -> Resources) -> Resources {
    let Some(spec) = &pod.spec else {
        return Resources::default();
    };
    let mut running = Resources::default();
    for container in &spec.containers {
        running.add(&requests(container));
    }
    let (mut starting, mut sidecars) = (Resources::default(), Resources::default());
    for container in spec.init_containers.iter().flatten() {
        let own = requests(container);
        let mut now = sidecars.clone();
        now.add(&own);
        starting.at_least(&now);
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars.add(&own);
        }
    }
    running.add(&sidecars);
    running.at_least(&starting);
    override_by_pod(&mut running, spec);
    running.add(&Resources::from_list(spec.overhead.as_ref()));
    running
}

/// Requests of the pod as a whole replace the sum of its containers' for what they name.
fn override_by_pod(resources: &mut Resources, spec: &PodSpec) {
    let list = spec
        .resources
        .as_ref()
        .and_then(|resources| resources.requests.as_ref());
    for (name, quantity) in list.into_iter().flatten() {
        match name.as_str() {
            "cpu" => resources.milli_cpu = millis(quantity),
            "memory" => resources.memory = units(quantity),
            name if name.starts_with("hugepages-") => resources.set_other(name, units(quantity)),
            _ => {}
        }
    }
}

/// The API validated the text, so what cannot be read here is nothing.
fn units(quantity: &Wire) -> i64 {
    Quantity::parse(&quantity.0).map_or(0, Quantity::units)
}

fn millis(quantity: &Wire) -> i64 {
    Quantity::parse(&quantity.0).map_or(0, Quantity::millis)
}

/// The number of pods a node takes.
pub(crate) fn pod_slots(list: Option<&BTreeMap<String, Wire>>) -> i64 {
    list.and_then(|list| list.get("pods")).map_or(0, units)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(yaml: &str) -> Pod {
        Pod {
            spec: Some(serde_yaml::from_str(yaml).expect("a pod spec")),
            ..Pod::default()
        }
    }

    fn check(yaml: &str, milli_cpu: i64, memory: i64) {
        let resources = requested(&pod(yaml));
        assert_eq!((resources.milli_cpu, resources.memory), (milli_cpu, memory), "{yaml}");
    }

    #[test]
    fn containers_add_up_and_init_containers_take_turns() {
        check(
            "
containers:
- {name: a, resources: {requests: {cpu: '2', memory: 1G}}}
- {name: b, resources: {requests: {cpu: '1', memory: 1G}}}
initContainers:
- {name: x, resources: {requests: {cpu: '2', memory: 1G}}}
- {name: y, resources: {requests: {cpu: '2', memory: 3G}}}
",
            3_000,
            3_000_000_000,
        );
    }

    #[test]
    fn a_resize_counts_with_the_most_of_all() {
        let mut pod = pod(
            "{containers: [{name: a, resources: {requests: {cpu: 1, memory: 3Ki}}}, {name: b, resources: {requests: {cpu: 1}}}],
              initContainers: [{name: s, restartPolicy: Always, resources: {requests: {memory: 1Ki}}}]}",
        );
        let status = "
conditions: [{type: PodResizePending, status: 'True', reason: Deferred}]
containerStatuses:
- {name: a, image: '', imageID: '', ready: true, restartCount: 0, allocatedResources: {cpu: 2, memory: 1Ki},
   resources: {requests: {cpu: 500m, memory: 2Ki}}}
initContainerStatuses:
- {name: s, image: '', imageID: '', ready: true, restartCount: 0, allocatedResources: {memory: 4Ki},
   resources: {requests: {memory: 4Ki}}}
";
        pod.status = Some(serde_yaml::from_str(status).expect("a status"));
        let resources = requested(&pod);
        assert_eq!((resources.milli_cpu, resources.memory), (3_000, 7 << 10));
        let refused = status.replace("Deferred", "Infeasible");
        pod.status = Some(serde_yaml::from_str(&refused).expect("a status"));
        let resources = requested(&pod);
        assert_eq!(
            (resources.milli_cpu, resources.memory),
            (3_000, 6 << 10),
            "not what is never granted"
        );
    }

    #[test]
    fn sidecars_count_beside_everything_after_them() {
        check(
            "
containers:
- {name: a, resources: {requests: {cpu: 500m}}}
initContainers:
- {name: before, resources: {requests: {cpu: 650m}}}
- {name: sidecar, restartPolicy: Always, resources: {requests: {cpu: 100m, memory: 10}}}
- {name: after, resources: {requests: {cpu: 600m}}}
",
            700,
            10,
        );
    }

    #[test]
    fn pod_level_requests_replace_and_overhead_adds() {
        check(
            "
containers:
- {name: a, resources: {requests: {cpu: 500m, memory: 1Ki}}}
resources: {requests: {cpu: '2'}}
overhead: {cpu: 250m, memory: 1Ki}
",
            2_250,
            2_048,
        );
    }

    #[test]
    fn adding_and_taking_back_leaves_nothing() {
        let yaml = "{containers: [{name: a, resources: {requests: {cpu: 1, example.com/gpu: 2}}}]}";
        let pod = pod(yaml);
        let mut sum = Resources::default();
        sum.add(&requested(&pod));
        assert_eq!(sum.other("example.com/gpu"), 2);
        sum.subtract(&requested(&pod));
        assert_eq!(sum, Resources::default());
    }
}
