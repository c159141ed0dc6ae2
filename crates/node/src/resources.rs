//! From requests and limits to cgroup values, quality of service and OOM scores. Pure.
//!
//! Numbers are the kubelet's: 1 CPU is 1024 shares and a quota of 100 ms per 100 ms.

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use oci_spec::runtime::{LinuxCpu, LinuxCpuBuilder, LinuxMemory, LinuxMemoryBuilder, LinuxResources};
use std::collections::BTreeMap;

const CPU_PERIOD_MICROS: u64 = 100_000;
const MIN_QUOTA_MICROS: i64 = 1_000;
const MIN_SHARES: u64 = 2;
const MAX_SHARES: u64 = 262_144;

type Quantities = BTreeMap<String, Quantity>;

/// `status.qosClass`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QosClass {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl QosClass {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

/// The value of a quantity in thousandths, rounded up; `None` when it cannot be read.
pub(crate) fn milli(quantity: &Quantity) -> Option<i64> {
    catamaran_api::quantity::Quantity::parse(&quantity.0)
        .ok()
        .map(catamaran_api::quantity::Quantity::millis)
}

/// The value of a quantity in units, rounded up.
pub(crate) fn units(quantity: &Quantity) -> Option<i64> {
    catamaran_api::quantity::Quantity::parse(&quantity.0)
        .ok()
        .map(catamaran_api::quantity::Quantity::units)
}

/// Quality of service of a pod, from cpu and memory of all its containers.
pub(crate) fn qos_class(spec: &PodSpec) -> QosClass {
    let mut any = false;
    let mut guaranteed = true;
    for container in all_containers(spec) {
        let requirements = container.resources.as_ref();
        for resource in ["cpu", "memory"] {
            let request = requirements.and_then(|all| positive(all.requests.as_ref(), resource));
            let limit = requirements.and_then(|all| positive(all.limits.as_ref(), resource));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => QosClass::BestEffort,
        (true, true) => QosClass::Guaranteed,
        (true, false) => QosClass::Burstable,
    }
}

/// `oom_score_adj` of a container's processes.
pub(crate) fn oom_score_adj(spec: &PodSpec, container: &Container, node_memory_bytes: u64) -> i32 {
    match qos_class(spec) {
        QosClass::Guaranteed => -997,
        QosClass::BestEffort => 1000,
        QosClass::Burstable => {
            let request = memory_request(container).unwrap_or(0);
            let share = 1000 - i128::from(request) * 1000 / i128::from(node_memory_bytes.max(1));
            // Below 3 is left to guaranteed pods and the node itself; 1000 to best-effort ones.
            i32::try_from(share.clamp(3, 999)).unwrap_or(999)
        }
    }
}

/// Limits of a container's cgroup.
pub(crate) fn container_resources(container: &Container) -> LinuxResources {
    let requirements = container.resources.as_ref();
    let limit = requirements.and_then(|all| positive_milli(all.limits.as_ref(), "cpu"));
    let request = requirements
        .and_then(|all| positive_milli(all.requests.as_ref(), "cpu"))
        .or(limit);
    linux_resources(request.unwrap_or(0), limit, memory_limit(container))
}

/// Limits of the pod's cgroup: what its containers may use together.
pub(crate) fn pod_resources(spec: &PodSpec) -> LinuxResources {
    let main = &spec.containers;
    let init = spec.init_containers.as_deref().unwrap_or_default();
    let sum_or_max = |value: &dyn Fn(&Container) -> Option<i64>| -> (i64, bool) {
        let sum: i64 = main.iter().filter_map(value).fold(0, i64::saturating_add);
        let init_max = init.iter().filter_map(value).max().unwrap_or(0);
        let complete = main.iter().chain(init).all(|container| value(container).is_some());
        (sum.max(init_max), complete)
    };
    let (cpu_request, _) = sum_or_max(&cpu_request);
    let (cpu_limit, all_cpu) = sum_or_max(&cpu_limit);
    let (memory, all_memory) = sum_or_max(&memory_limit);
    match qos_class(spec) {
        QosClass::BestEffort => linux_resources(0, None, None),
        QosClass::Guaranteed | QosClass::Burstable => {
            linux_resources(cpu_request, all_cpu.then_some(cpu_limit), all_memory.then_some(memory))
        }
    }
}

/// `resources.limits.memory` in bytes, when it is set and positive.
pub(crate) fn memory_limit(container: &Container) -> Option<i64> {
    positive_units(container.resources.as_ref()?.limits.as_ref(), "memory")
}

/// Value of a `resourceFieldRef`: rounded up to multiples of the divisor. Missing limits are the node's allocatable.
pub(crate) fn field_value(
    requirements: Option<&ResourceRequirements>,
    resource: &str,
    divisor: Option<&Quantity>,
    allocatable: &Quantities,
) -> Result<String, String> {
    let unsupported = || format!("unsupported container resource: {resource}");
    let (side, name) = resource.split_once('.').ok_or_else(unsupported)?;
    let from = |quantities: Option<&Quantities>| quantities.and_then(|all| all.get(name)).cloned();
    let quantity = match side {
        "limits" => from(requirements.and_then(|all| all.limits.as_ref())).or_else(|| allocatable.get(name).cloned()),
        "requests" => from(requirements.and_then(|all| all.requests.as_ref())),
        _ => return Err(unsupported()),
    };
    let divisor = divisor.filter(|divisor| milli(divisor).is_some_and(|value| value > 0));
    let value = match name {
        "cpu" => {
            let divisor = divisor.and_then(milli).unwrap_or(1000);
            quantity.as_ref().and_then(milli).unwrap_or(0).div_euclid(divisor)
                + i64::from(quantity.as_ref().and_then(milli).unwrap_or(0).rem_euclid(divisor) > 0)
        }
        "memory" | "ephemeral-storage" => {
            let divisor = divisor.and_then(units).unwrap_or(1).max(1);
            let bytes = quantity.as_ref().and_then(units).unwrap_or(0);
            bytes.div_euclid(divisor) + i64::from(bytes.rem_euclid(divisor) > 0)
        }
        _ if name.starts_with("hugepages-") => quantity.as_ref().and_then(units).unwrap_or(0),
        _ => return Err(unsupported()),
    };
    Ok(value.to_string())
}

fn linux_resources(cpu_request_milli: i64, cpu_limit_milli: Option<i64>, memory_bytes: Option<i64>) -> LinuxResources {
    let mut resources = LinuxResources::default();
    resources.set_cpu(Some(linux_cpu(cpu_request_milli, cpu_limit_milli)));
    if let Some(bytes) = memory_bytes {
        resources.set_memory(Some(linux_memory(bytes)));
    }
    resources
}

fn linux_cpu(request_milli: i64, limit_milli: Option<i64>) -> LinuxCpu {
    let shares = (u64::try_from(request_milli).unwrap_or(0) * 1024 / 1000).clamp(MIN_SHARES, MAX_SHARES);
    let mut cpu = LinuxCpuBuilder::default().shares(shares).build().unwrap_or_default();
    if let Some(limit) = limit_milli {
        let quota = limit.saturating_mul(100).max(MIN_QUOTA_MICROS);
        cpu.set_quota(Some(quota));
        cpu.set_period(Some(CPU_PERIOD_MICROS));
    }
    cpu
}

fn linux_memory(bytes: i64) -> LinuxMemory {
    // Memory and swap together equal to memory: a limited container does not swap.
    LinuxMemoryBuilder::default()
        .limit(bytes)
        .swap(bytes)
        .build()
        .unwrap_or_default()
}

fn all_containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.containers.iter().chain(spec.init_containers.iter().flatten())
}

fn cpu_request(container: &Container) -> Option<i64> {
    let requirements = container.resources.as_ref()?;
    positive_milli(requirements.requests.as_ref(), "cpu")
        .or_else(|| positive_milli(requirements.limits.as_ref(), "cpu"))
}

fn cpu_limit(container: &Container) -> Option<i64> {
    positive_milli(container.resources.as_ref()?.limits.as_ref(), "cpu")
}

fn memory_request(container: &Container) -> Option<i64> {
    let requirements = container.resources.as_ref()?;
    positive_units(requirements.requests.as_ref(), "memory")
        .or_else(|| positive_units(requirements.limits.as_ref(), "memory"))
}

fn positive(quantities: Option<&Quantities>, name: &str) -> Option<i64> {
    positive_milli(quantities, name)
}

fn positive_milli(quantities: Option<&Quantities>, name: &str) -> Option<i64> {
    quantities?.get(name).and_then(milli).filter(|value| *value > 0)
}

fn positive_units(quantities: Option<&Quantities>, name: &str) -> Option<i64> {
    quantities?.get(name).and_then(units).filter(|value| *value > 0)
}
