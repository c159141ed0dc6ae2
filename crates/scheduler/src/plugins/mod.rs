//! The rules. One file per rule, one line in [`ALL`].
//!
//! A rule may filter, score, or both. Filters look at one node at a time and know nothing of each other, so the set of
//! nodes they leave does not depend on their order; the order only decides whose reason a rejected node gives, and it
//! is kube-scheduler's, so that the sentence people read is the same.

mod balanced_allocation;
mod least_allocated;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_resources_fit;
mod node_unschedulable;
mod taint_toleration;

use crate::node::NodeView;
use crate::pod::PodView;
use k8s_openapi::api::core::v1::{Taint, Toleration};

/// The best a node can score by one rule.
pub const MAX_SCORE: i64 = 100;

/// Every rule, in the order in which a node's first rejection is named.
pub static ALL: &[&dyn Plugin] = &[
    &node_unschedulable::NodeUnschedulable,
    &node_name::NodeName,
    &taint_toleration::TaintToleration,
    &node_affinity::NodeAffinity,
    &node_ports::NodePorts,
    &node_resources_fit::NodeResourcesFit,
    &least_allocated::LeastAllocated,
    &balanced_allocation::BalancedAllocation,
];

/// Why a node is out of the question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Kubernetes' words, as they follow a number of nodes: `Insufficient cpu`.
    pub reasons: Vec<String>,
    /// Whether the node could serve if pods on it went away.
    pub curable: bool,
}

impl Rejection {
    fn incurable(reason: &str) -> Rejection {
        Rejection {
            reasons: vec![reason.to_owned()],
            curable: false,
        }
    }
}

/// How the raw scores of all nodes become scores up to [`MAX_SCORE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Normalize {
    /// They are already.
    Not,
    /// The greatest becomes the best.
    MoreIsBetter,
    /// Zero becomes the best.
    LessIsBetter,
}

/// One rule.
pub trait Plugin: Sync {
    /// kube-scheduler's name for it.
    fn name(&self) -> &'static str;

    /// Whether the pod can run on the node.
    fn filter(&self, _pod: &PodView, _node: &NodeView) -> Result<(), Rejection> {
        Ok(())
    }

    /// How well it would run there; `None` when the rule has no opinion on this pod.
    fn score(&self, _pod: &PodView, _node: &NodeView) -> Option<i64> {
        None
    }

    fn normalize(&self) -> Normalize {
        Normalize::Not
    }

    /// How much the score counts.
    fn weight(&self) -> i64 {
        1
    }
}

/// <https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/>
fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let unset_or =
        |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted.is_empty() || wanted == is);
    if !unset_or(&toleration.effect, &taint.effect) || !unset_or(&toleration.key, &taint.key) {
        return false;
    }
    match toleration.operator.as_deref() {
        Some("Exists") => true,
        None | Some("" | "Equal") => {
            toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default()
        }
        Some(_) => false,
    }
}
