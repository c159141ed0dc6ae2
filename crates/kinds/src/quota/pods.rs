//! What a pod asks for, and what it is charged.

use super::amounts::{Amounts, add, larger, of_wire};
use catamaran_api::quantity::Quantity;
use catamaran_api::resize;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as WireQuantity;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// Names of quotas about pods that have no prefix.
const NAMES: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
];
/// What every container has to state once a quota bounds it.
const TO_BE_STATED: &[&str] = &[
    "cpu",
    "memory",
    "requests.cpu",
    "requests.memory",
    "limits.cpu",
    "limits.memory",
];

pub(super) fn counts(name: &str) -> bool {
    NAMES.contains(&name)
        || name.starts_with("hugepages-")
        || name.starts_with("requests.hugepages-")
        || name.strip_prefix("requests.").is_some_and(|rest| !is_native(rest))
}

/// Is it one of Kubernetes' own resources, not an extended one?
fn is_native(name: &str) -> bool {
    !name.contains('/')
        || name
            .split('/')
            .next()
            .is_some_and(|domain| domain.ends_with("kubernetes.io"))
}

/// A pod is counted while it is there; what it asks for only until it has ended, or should have.
pub(super) fn usage(pod: &Pod, now: Timestamp) -> Amounts {
    if is_over(pod, now) {
        return Amounts::new();
    }
    let counting = Counting {
        overhead: true,
        status: true,
    };
    charged(&pod_requests(pod, counting), &pod_limits(pod, counting))
}

fn is_over(pod: &Pod, now: Timestamp) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return true;
    }
    let meta = &pod.metadata;
    match (&meta.deletion_timestamp, meta.deletion_grace_period_seconds) {
        (Some(at), Some(grace)) => {
            at.0.checked_add(SignedDuration::from_secs(grace))
                .is_ok_and(|end| now > end)
        }
        _ => false,
    }
}

/// The names under which requests and limits are charged.
fn charged(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut charged = Amounts::from([("pods".to_owned(), Quantity::from_units(1))]);
    for (name, quantity) in requests {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-") {
            charged.insert(name.clone(), *quantity);
            charged.insert(format!("requests.{name}"), *quantity);
        } else if !is_native(name) {
            charged.insert(format!("requests.{name}"), *quantity);
        }
    }
    for (name, quantity) in limits {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") {
            charged.insert(format!("limits.{name}"), *quantity);
        }
    }
    charged
}

pub(super) fn check_stated<'n>(bounded: impl Iterator<Item = &'n str>, pod: &Pod) -> Result<(), String> {
    let bounded: Vec<&str> = bounded.filter(|name| TO_BE_STATED.contains(name)).collect();
    let Some(spec) = pod.spec.as_ref().filter(|_| !bounded.is_empty()) else {
        return Ok(());
    };
    let for_all = stated(spec.resources.as_ref());
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
        let own = stated(container.resources.as_ref());
        for name in &bounded {
            if !own.contains_key(*name) && !for_all.contains_key(*name) {
                missing.entry(name).or_default().insert(&container.name);
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let each: Vec<String> = missing
        .into_iter()
        .map(|(name, containers)| {
            let containers: Vec<&str> = containers.into_iter().collect();
            format!("{name} for: {}", containers.join(","))
        })
        .collect();
    Err(format!("must specify {}", each.join("; ")))
}

fn stated(resources: Option<&ResourceRequirements>) -> Amounts {
    let requests = of_wire(resources.and_then(|resources| resources.requests.as_ref()));
    let limits = of_wire(resources.and_then(|resources| resources.limits.as_ref()));
    charged(&requests, &limits)
}

/// What counts beside what the containers state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counting {
    /// What the runtime class adds.
    pub overhead: bool,
    /// What the node has given to containers that are being resized, where it is more.
    pub status: bool,
}

/// What a pod as a whole asks for.
pub fn pod_requests(pod: &Pod, counting: Counting) -> Amounts {
    total(
        pod,
        counting,
        |resources| of_wire(resources.requests.as_ref()),
        resize::requests,
        true,
    )
}

/// The bounds of a pod as a whole, where all its containers have one… or at least those that are counted.
pub fn pod_limits(pod: &Pod, counting: Counting) -> Amounts {
    total(
        pod,
        counting,
        |resources| of_wire(resources.limits.as_ref()),
        resize::limits,
        false,
    )
}

/// Lists of a container of which the larger amounts count.
type Lists = for<'a> fn(&'a Pod, &'a Container) -> Vec<&'a BTreeMap<String, WireQuantity>>;

fn total(
    pod: &Pod,
    counting: Counting,
    read: fn(&ResourceRequirements) -> Amounts,
    resized: Lists,
    requests: bool,
) -> Amounts {
    let Some(spec) = &pod.spec else { return Amounts::new() };
    let of = |container: &Container| {
        if !counting.status {
            return container.resources.as_ref().map(read).unwrap_or_default();
        }
        let lists = resized(pod, container).into_iter().map(|list| of_wire(Some(list)));
        lists.fold(Amounts::new(), |most, list| larger(most, &list))
    };
    let mut sum = Amounts::new();
    for container in &spec.containers {
        sum = add(sum, &of(container));
    }
    // Init containers run one after the other, beside those that started before and stay.
    let mut staying = Amounts::new();
    let mut peak = Amounts::new();
    for container in spec.init_containers.iter().flatten() {
        let own = of(container);
        if container.restart_policy.as_deref() == Some("Always") {
            sum = add(sum, &own);
            staying = add(staying, &own);
            peak = larger(peak, &staying);
        } else {
            peak = larger(peak, &add(own, &staying));
        }
    }
    sum = larger(sum, &peak);
    for (name, quantity) in spec.resources.as_ref().map(read).unwrap_or_default() {
        if matches!(name.as_str(), "cpu" | "memory") || name.starts_with("hugepages-") {
            sum.insert(name, quantity);
        }
    }
    if counting.overhead {
        sum = with_overhead(sum, spec, requests);
    }
    sum
}

/// Overhead is asked for in any case, but bounds only what is bounded.
fn with_overhead(sum: Amounts, spec: &PodSpec, requests: bool) -> Amounts {
    let mut overhead = of_wire(spec.overhead.as_ref());
    if !requests {
        overhead.retain(|name, _| sum.get(name).is_some_and(|own| !own.is_zero()));
    }
    add(sum, &overhead)
}
