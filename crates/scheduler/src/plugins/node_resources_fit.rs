//! What the pod asks for must be left on the node, and a place for one more pod.

use super::{Plugin, Rejection};
use crate::node::NodeView;
use crate::pod::PodView;

pub(super) struct NodeResourcesFit;

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn filter(&self, pod: &PodView, node: &NodeView) -> Result<(), Rejection> {
        let mut rejection = Rejection {
            reasons: Vec::new(),
            curable: true,
        };
        if node.pods + 1 > node.facts.pod_slots {
            rejection.reasons.push("Too many pods".to_owned());
        }
        let (wanted, taken, there) = (&pod.requests, &node.requested, &node.facts.allocatable);
        let mut check = |name: &str, wanted: i64, taken: i64, there: i64| {
            // A pod that asks for none of it fits even where it is overcommitted already.
            if wanted > 0 && wanted > there - taken {
                rejection.reasons.push(format!("Insufficient {name}"));
                rejection.curable &= wanted <= there;
            }
        };
        check("cpu", wanted.milli_cpu, taken.milli_cpu, there.milli_cpu);
        check("memory", wanted.memory, taken.memory, there.memory);
        check(
            "ephemeral-storage",
            wanted.ephemeral_storage,
            taken.ephemeral_storage,
            there.ephemeral_storage,
        );
        for (name, amount) in &wanted.others {
            check(name, *amount, taken.other(name), there.other(name));
        }
        if rejection.reasons.is_empty() {
            Ok(())
        } else {
            Err(rejection)
        }
    }
}
