//! The Node object: what this machine is and has.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeSpec, NodeStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

/// What kubectl shows as the node's version.
pub(crate) const KUBELET_VERSION: &str = "v1.35.0+catamaran";
/// `status.capacity.pods`. One process per pod and a /24 of addresses bound it; the kubelet's default is 110.
const MAX_PODS: u32 = 1000;
/// Memory kept for the agent and the system, bytes.
const RESERVED_MEMORY: u64 = 100 << 20;
/// Below these the node says it is under pressure (the kubelet's eviction defaults).
const MEMORY_PRESSURE_BYTES: u64 = 100 << 20;
const DISK_PRESSURE_PERCENT: u64 = 10;

pub(crate) type Quantities = BTreeMap<String, Quantity>;

/// What the machine has, read once.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub cpus: usize,
    pub memory_bytes: u64,
    pub disk_bytes: u64,
}

impl Machine {
    /// Blocking, but only briefly: two files of `/proc` and a statfs.
    pub(crate) fn read(data_dir: &Path) -> Self {
        Self {
            cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory_bytes: meminfo("MemTotal").unwrap_or(0),
            disk_bytes: disk(data_dir).map_or(0, |(total, _)| total),
        }
    }

    pub(crate) fn capacity(&self) -> Quantities {
        quantities(self.cpus, self.memory_bytes, self.disk_bytes)
    }

    pub(crate) fn allocatable(&self) -> Quantities {
        let memory = self.memory_bytes.saturating_sub(RESERVED_MEMORY);
        quantities(self.cpus, memory, self.disk_bytes / 10 * 9)
    }
}

fn quantities(cpus: usize, memory: u64, disk: u64) -> Quantities {
    let entries = [
        ("cpu", cpus.to_string()),
        ("ephemeral-storage", format!("{}Ki", disk / 1024)),
        ("memory", format!("{}Ki", memory / 1024)),
        ("pods", MAX_PODS.to_string()),
    ];
    entries
        .into_iter()
        .map(|(name, value)| (name.to_owned(), Quantity(value)))
        .collect()
}

/// What the Node says about the agent.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub name: String,
    pub ip: IpAddr,
    pub port: u16,
    pub labels: BTreeMap<String, String>,
    pub pod_cidr: String,
}

/// Creates the Node, or brings labels and addresses of an existing one up to date.
///
/// # Errors
/// The API server did not take it.
pub(crate) async fn register(client: &Client, identity: &Identity, status: &NodeStatus) -> Result<(), kube::Error> {
    let api: Api<Node> = Api::all(client.clone());
    let labels = labels(identity);
    let node = Node {
        metadata: ObjectMeta {
            name: Some(identity.name.clone()),
            labels: Some(labels.clone()),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            pod_cidr: Some(identity.pod_cidr.clone()),
            pod_cidrs: Some(vec![identity.pod_cidr.clone()]),
            ..NodeSpec::default()
        }),
        status: Some(status.clone()),
    };
    match api.create(&PostParams::default(), &node).await {
        Ok(_) => {}
        Err(kube::Error::Api(answer)) if answer.code == 409 => {
            let patch = json!({"metadata": {"labels": labels}});
            api.patch(&identity.name, &PatchParams::default(), &Patch::Merge(patch))
                .await?;
        }
        Err(error) => return Err(error),
    }
    publish(client, &identity.name, status).await
}

/// Writes the Node's status.
///
/// # Errors
/// The API server did not take it.
pub(crate) async fn publish(client: &Client, name: &str, status: &NodeStatus) -> Result<(), kube::Error> {
    let api: Api<Node> = Api::all(client.clone());
    let patch = Patch::Merge(json!({"status": status}));
    api.patch_status(name, &PatchParams::default(), &patch).await.map(drop)
}

fn labels(identity: &Identity) -> BTreeMap<String, String> {
    let arch = go_arch();
    let own = [
        ("kubernetes.io/hostname", identity.name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", arch),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", arch),
    ];
    let own = own.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
    own.chain(identity.labels.clone()).collect()
}

fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The Node's status now; transition times continue those of `before`.
pub(crate) fn status(
    identity: &Identity,
    machine: &Machine,
    data_dir: &Path,
    before: Option<&NodeStatus>,
    now: Timestamp,
) -> NodeStatus {
    let address = |type_: &str, address: String| NodeAddress {
        type_: type_.to_owned(),
        address,
    };
    NodeStatus {
        addresses: Some(vec![
            address("InternalIP", identity.ip.to_string()),
            address("Hostname", identity.name.clone()),
        ]),
        allocatable: Some(machine.allocatable()),
        capacity: Some(machine.capacity()),
        conditions: Some(conditions(data_dir, before, now)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint {
                port: i32::from(identity.port),
            }),
        }),
        node_info: Some(system_info()),
        ..NodeStatus::default()
    }
}

/// Whether two statuses differ in more than their heartbeat.
pub(crate) fn differs(one: &NodeStatus, other: &NodeStatus) -> bool {
    let without_heartbeat = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
        }
        status
    };
    without_heartbeat(one) != without_heartbeat(other)
}

fn conditions(data_dir: &Path, before: Option<&NodeStatus>, now: Timestamp) -> Vec<NodeCondition> {
    let memory = meminfo("MemAvailable").is_some_and(|available| available < MEMORY_PRESSURE_BYTES);
    let disk = disk(data_dir).is_some_and(|(total, free)| total > 0 && free * 100 / total < DISK_PRESSURE_PERCENT);
    let pressure = |pressed: bool, kind: &str, none: &str| match pressed {
        true => ("True", format!("KubeletHas{kind}"), format!("kubelet has {none}")),
        false => ("False", String::new(), String::new()),
    };
    let mut rows = Vec::new();
    let (status, reason, message) = match memory {
        true => pressure(true, "InsufficientMemory", "insufficient memory available"),
        false => (
            "False",
            "KubeletHasSufficientMemory".into(),
            "kubelet has sufficient memory available".into(),
        ),
    };
    rows.push(("MemoryPressure", status, reason, message));
    let (status, reason, message) = match disk {
        true => pressure(true, "DiskPressure", "disk pressure"),
        false => (
            "False",
            "KubeletHasNoDiskPressure".into(),
            "kubelet has no disk pressure".into(),
        ),
    };
    rows.push(("DiskPressure", status, reason, message));
    let sufficient = "kubelet has sufficient PID available";
    rows.push((
        "PIDPressure",
        "False",
        "KubeletHasSufficientPID".into(),
        sufficient.into(),
    ));
    rows.push((
        "Ready",
        "True",
        "KubeletReady".into(),
        "kubelet is posting ready status".into(),
    ));
    let old = |type_: &str, status: &str| {
        let known = before.into_iter().flat_map(|before| before.conditions.iter().flatten());
        let mut same = known.filter(|condition| condition.type_ == type_ && condition.status == status);
        same.next().and_then(|condition| condition.last_transition_time.clone())
    };
    rows.into_iter()
        .map(|(type_, status, reason, message)| NodeCondition {
            last_heartbeat_time: Some(Time(now)),
            last_transition_time: Some(old(type_, status).unwrap_or(Time(now))),
            message: Some(message),
            reason: Some(reason),
            status: status.to_owned(),
            type_: type_.to_owned(),
        })
        .collect()
}

fn system_info() -> NodeSystemInfo {
    let line = |path: &str| {
        fs::read_to_string(path)
            .map(|text| text.trim().to_owned())
            .unwrap_or_default()
    };
    let machine_id = line("/etc/machine-id");
    let uuid = Some(line("/sys/class/dmi/id/product_uuid")).filter(|uuid| !uuid.is_empty());
    NodeSystemInfo {
        architecture: go_arch().to_owned(),
        boot_id: line("/proc/sys/kernel/random/boot_id"),
        container_runtime_version: format!("catamaran://{}", env!("CARGO_PKG_VERSION")),
        kernel_version: line("/proc/sys/kernel/osrelease"),
        kubelet_version: KUBELET_VERSION.to_owned(),
        operating_system: "linux".to_owned(),
        os_image: os_image(),
        system_uuid: uuid.unwrap_or_else(|| machine_id.clone()),
        machine_id,
        ..NodeSystemInfo::default()
    }
}

fn os_image() -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "Linux".to_owned(), |name| name.trim_matches('"').to_owned())
}

/// A line of `/proc/meminfo`, bytes.
fn meminfo(field: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Total and free bytes of the file system of `path`.
fn disk(path: &Path) -> Option<(u64, u64)> {
    let found = rustix::fs::statvfs(path).ok()?;
    Some((found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize))
}
