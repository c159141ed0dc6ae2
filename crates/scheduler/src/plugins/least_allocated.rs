//! Spread: the more CPU and memory a node would have left, the better.

use super::{MAX_SCORE, Plugin};
use crate::node::NodeView;
use crate::pod::PodView;

pub(super) struct LeastAllocated;

impl Plugin for LeastAllocated {
    fn name(&self) -> &'static str {
        "NodeResourcesFit/LeastAllocated"
    }

    fn score(&self, pod: &PodView, node: &NodeView) -> Option<i64> {
        let (taken, wanted, there) = (&node.scoring_requested, &pod.scoring_requests, &node.facts.allocatable);
        let parts = [
            (taken.milli_cpu + wanted.milli_cpu, there.milli_cpu),
            (taken.memory + wanted.memory, there.memory),
        ];
        let left = parts.into_iter().filter(|(_, there)| *there > 0).map(|(taken, there)| {
            let left = (there - taken).max(0);
            i64::try_from(i128::from(left) * i128::from(MAX_SCORE) / i128::from(there)).unwrap_or(0)
        });
        let scores: Vec<i64> = left.collect();
        let count = i64::try_from(scores.len()).ok().filter(|count| *count > 0);
        Some(count.map_or(0, |count| scores.iter().sum::<i64>() / count))
    }
}
