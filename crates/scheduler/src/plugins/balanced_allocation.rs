//! Balance: CPU and memory of a node should fill up evenly, so that neither is stranded by the lack of the other.

use super::{MAX_SCORE, Plugin};
use crate::node::NodeView;
use crate::pod::PodView;

pub(super) struct BalancedAllocation;

impl Plugin for BalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    /// No opinion on a pod that asks for neither: a balanced node would attract all of them.
    fn score(&self, pod: &PodView, node: &NodeView) -> Option<i64> {
        let (taken, wanted, there) = (&node.requested, &pod.requests, &node.facts.allocatable);
        if wanted.milli_cpu == 0 && wanted.memory == 0 {
            return None;
        }
        let cpu = fraction(taken.milli_cpu + wanted.milli_cpu, there.milli_cpu);
        let memory = fraction(taken.memory + wanted.memory, there.memory);
        let deviation = match (cpu, memory) {
            (Some(cpu), Some(memory)) => (cpu - memory).abs() / 2.0,
            _ => 0.0,
        };
        #[expect(
            clippy::cast_possible_truncation,
            reason = "between 0 and 100, and truncation is the rule"
        )]
        Some(((1.0 - deviation) * MAX_SCORE as f64) as i64)
    }
}

fn fraction(taken: i64, there: i64) -> Option<f64> {
    (there > 0).then(|| (taken as f64 / there as f64).min(1.0))
}
