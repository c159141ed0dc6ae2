//! What the scheduler keeps of a node, and what the pods on it take.

use crate::pod::{HostPort, PodView};
use crate::resources::{self, Resources};
use k8s_openapi::api::core::v1::{Node, Taint};
use std::collections::BTreeMap;

/// What a node is. A heartbeat changes none of it.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeFacts {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    pub unschedulable: bool,
    pub allocatable: Resources,
    pub pod_slots: i64,
}

impl NodeFacts {
    /// `None` for an object without a name, which the API does not serve.
    pub fn new(node: &Node) -> Option<NodeFacts> {
        let spec = node.spec.as_ref();
        let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
        Some(NodeFacts {
            name: node.metadata.name.clone()?,
            labels: node.metadata.labels.clone().unwrap_or_default(),
            taints: spec.and_then(|spec| spec.taints.clone()).unwrap_or_default(),
            unschedulable: spec.and_then(|spec| spec.unschedulable).unwrap_or(false),
            allocatable: Resources::from_list(allocatable),
            pod_slots: resources::pod_slots(allocatable),
        })
    }
}

/// A node with what the pods on it take, assumed ones included.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeView {
    pub facts: NodeFacts,
    pub pods: i64,
    pub requested: Resources,
    pub scoring_requested: Resources,
    pub host_ports: Vec<HostPort>,
}

impl NodeView {
    pub fn new(facts: NodeFacts) -> NodeView {
        NodeView {
            facts,
            pods: 0,
            requested: Resources::default(),
            scoring_requested: Resources::default(),
            host_ports: Vec::new(),
        }
    }

    pub fn add(&mut self, pod: &PodView) {
        self.pods += 1;
        self.requested.add(&pod.requests);
        self.scoring_requested.add(&pod.scoring_requests);
        self.host_ports.extend(pod.host_ports.iter().cloned());
    }

    /// Takes back what [`NodeView::add`] added for the same pod.
    pub fn remove(&mut self, pod: &PodView) {
        self.pods -= 1;
        self.requested.subtract(&pod.requests);
        self.scoring_requested.subtract(&pod.scoring_requests);
        for port in &pod.host_ports {
            if let Some(index) = self.host_ports.iter().position(|taken| taken == port) {
                self.host_ports.swap_remove(index);
            }
        }
    }
}
