//! One decision: a pod, a snapshot, an answer. Pure.

use crate::cluster::Snapshot;
use crate::node::NodeView;
use crate::plugins::{self, MAX_SCORE, Normalize, Plugin, Rejection};
use crate::pod::PodView;
use std::collections::BTreeMap;

/// Where a pod goes, or why nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Place {
        node: String,
    },
    /// Kubernetes' sentence for the `PodScheduled` condition and the event.
    Unschedulable {
        message: String,
    },
}

/// Decides by all rules. Among equally good nodes, `tie` decides: pass another number each time, so that such nodes
/// take turns.
pub fn decide(snapshot: &Snapshot, pod: &PodView, tie: usize) -> Decision {
    decide_by(plugins::ALL, snapshot, pod, tie)
}

/// [`decide`] by some rules only.
pub fn decide_by(plugins: &[&dyn Plugin], snapshot: &Snapshot, pod: &PodView, tie: usize) -> Decision {
    let mut feasible: Vec<&NodeView> = Vec::new();
    let mut rejections: Vec<Rejection> = Vec::new();
    for node in snapshot.nodes() {
        match plugins.iter().find_map(|plugin| plugin.filter(pod, node).err()) {
            None => feasible.push(node),
            Some(rejection) => rejections.push(rejection),
        }
    }
    if feasible.is_empty() {
        return Decision::Unschedulable {
            message: sentence(pod, &rejections),
        };
    }
    let scores = score(plugins, pod, &feasible);
    let best = scores.iter().copied().max().unwrap_or(0);
    let mut ties: Vec<&str> = Vec::new();
    for (node, _) in feasible.iter().zip(&scores).filter(|(_, score)| **score == best) {
        ties.push(&node.facts.name);
    }
    Decision::Place {
        node: ties[tie % ties.len()].to_owned(),
    }
}

/// The weighted sum of all rules' opinions, per node.
fn score(plugins: &[&dyn Plugin], pod: &PodView, nodes: &[&NodeView]) -> Vec<i64> {
    let mut totals = vec![0; nodes.len()];
    if nodes.len() == 1 {
        return totals;
    }
    for plugin in plugins {
        let raw: Option<Vec<i64>> = nodes.iter().map(|node| plugin.score(pod, node)).collect();
        let Some(raw) = raw else {
            continue;
        };
        for (total, score) in totals.iter_mut().zip(normalize(raw, plugin.normalize())) {
            *total += score * plugin.weight();
        }
    }
    totals
}

fn normalize(mut scores: Vec<i64>, how: Normalize) -> Vec<i64> {
    let greatest = scores.iter().copied().max().unwrap_or(0);
    let share = |score: i64| if greatest == 0 { 0 } else { score * MAX_SCORE / greatest };
    for score in &mut scores {
        match how {
            Normalize::Not => {}
            Normalize::MoreIsBetter => *score = share(*score),
            Normalize::LessIsBetter => *score = MAX_SCORE - share(*score),
        }
    }
    scores
}

/// The sentence kube-scheduler 1.35 writes; people and autoscalers read it. There is no preemption here, and the part
/// about it says what kube-scheduler says when it finds nobody to evict.
fn sentence(pod: &PodView, rejections: &[Rejection]) -> String {
    if rejections.is_empty() {
        return "no nodes available to schedule pods".to_owned();
    }
    let total = rejections.len();
    let reasons = histogram(
        rejections
            .iter()
            .flat_map(|rejection| rejection.reasons.iter().map(String::as_str)),
    );
    let preemption = if pod.never_preempts {
        "not eligible due to preemptionPolicy=Never.".to_owned()
    } else {
        let outlooks = histogram(rejections.iter().map(|rejection| match rejection.curable {
            true => "No preemption victims found for incoming pod",
            false => "Preemption is not helpful for scheduling",
        }));
        format!("0/{total} nodes are available: {outlooks}.")
    };
    format!("0/{total} nodes are available: {reasons}. no new claims to deallocate, preemption: {preemption}")
}

/// `1 that, 2 this`, sorted as text, as Kubernetes sorts it.
fn histogram<'a>(reasons: impl Iterator<Item = &'a str>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in reasons {
        *counts.entry(reason).or_default() += 1;
    }
    let mut parts: Vec<String> = counts
        .into_iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    parts.sort();
    parts.join(", ")
}
