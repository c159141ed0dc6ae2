//! What the scheduler keeps of a pod: far less than the object, and taken from it once.

use crate::resources::{self, Resources};
use k8s_openapi::api::core::v1::{NodeSelector, Pod, PodSpec, PreferredSchedulingTerm, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A pod's name; its uid tells two pods of one name apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodKey {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

impl fmt::Display for PodKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.namespace, self.name)
    }
}

/// A pod as decisions see it.
#[derive(Clone, Debug, PartialEq)]
pub struct PodView {
    pub key: PodKey,
    pub uid: Arc<str>,
    /// The node it is on, or must be on.
    pub node_name: Option<String>,
    pub scheduler_name: String,
    /// Held back by `schedulingGates`.
    pub gated: bool,
    pub deleting: bool,
    pub priority: i32,
    pub never_preempts: bool,
    pub requests: Resources,
    pub scoring_requests: Resources,
    pub host_ports: Vec<HostPort>,
    pub node_selector: BTreeMap<String, String>,
    pub required_affinity: Option<NodeSelector>,
    pub preferred_affinity: Vec<PreferredSchedulingTerm>,
    pub tolerations: Vec<Toleration>,
    /// The `PodScheduled` condition as it was last seen.
    pub condition: Option<Condition>,
}

/// A port of the node that a container wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Empty: all addresses.
    pub ip: String,
    pub protocol: String,
    pub port: i32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    pub status: String,
    pub reason: String,
    pub message: String,
    pub since: Option<Time>,
}

impl PodView {
    /// `None` for an object without name or spec, which the API does not serve.
    pub fn new(pod: &Pod) -> Option<PodView> {
        let (meta, spec) = (&pod.metadata, pod.spec.as_ref()?);
        let affinity = spec
            .affinity
            .as_ref()
            .and_then(|affinity| affinity.node_affinity.as_ref());
        let preferred =
            affinity.and_then(|affinity| affinity.preferred_during_scheduling_ignored_during_execution.clone());
        Some(PodView {
            key: PodKey {
                namespace: meta.namespace.as_deref().unwrap_or("default").into(),
                name: meta.name.as_deref()?.into(),
            },
            uid: meta.uid.as_deref().unwrap_or_default().into(),
            node_name: spec.node_name.clone().filter(|name| !name.is_empty()),
            scheduler_name: spec
                .scheduler_name
                .clone()
                .unwrap_or_else(|| "default-scheduler".to_owned()),
            gated: spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty()),
            deleting: meta.deletion_timestamp.is_some(),
            priority: spec.priority.unwrap_or(0),
            never_preempts: spec.preemption_policy.as_deref() == Some("Never"),
            requests: resources::requested(pod),
            scoring_requests: resources::assumed_for_scoring(pod),
            host_ports: host_ports(spec),
            node_selector: spec.node_selector.clone().unwrap_or_default(),
            required_affinity: affinity
                .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.clone()),
            preferred_affinity: preferred.unwrap_or_default(),
            tolerations: spec.tolerations.clone().unwrap_or_default(),
            condition: condition(pod),
        })
    }

    /// Whether a scheduler of this name has to find a node for it.
    pub fn waits_for(&self, scheduler_name: &str) -> bool {
        self.node_name.is_none() && !self.gated && !self.deleting && self.scheduler_name == scheduler_name
    }

    /// Whether anything a decision depends on differs.
    pub fn differs_in_needs(&self, other: &PodView) -> bool {
        let comparable = |view: &PodView| PodView {
            condition: None,
            ..view.clone()
        };
        comparable(self) != comparable(other)
    }
}

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let ports = spec
        .containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            Some(HostPort {
                ip: port.host_ip.clone().unwrap_or_default(),
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                port: port.host_port.filter(|port| *port > 0)?,
            })
        })
        .collect()
}

fn condition(pod: &Pod) -> Option<Condition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let condition = conditions.iter().find(|condition| condition.type_ == "PodScheduled")?;
    Some(Condition {
        status: condition.status.clone(),
        reason: condition.reason.clone().unwrap_or_default(),
        message: condition.message.clone().unwrap_or_default(),
        since: condition.last_transition_time.clone(),
    })
}
