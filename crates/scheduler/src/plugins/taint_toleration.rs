//! Taints keep pods away: strictly (`NoSchedule`, `NoExecute`) or if possible (`PreferNoSchedule`).

use super::{Normalize, Plugin, Rejection, tolerates};
use crate::node::NodeView;
use crate::pod::PodView;
use k8s_openapi::api::core::v1::Taint;

pub(super) struct TaintToleration;

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn filter(&self, pod: &PodView, node: &NodeView) -> Result<(), Rejection> {
        let strict = |taint: &&Taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute");
        match untolerated(pod, node).any(|taint| strict(&taint)) {
            true => Err(Rejection::incurable("node(s) had untolerated taint(s)")),
            false => Ok(()),
        }
    }

    fn score(&self, pod: &PodView, node: &NodeView) -> Option<i64> {
        let unwelcome = untolerated(pod, node)
            .filter(|taint| taint.effect == "PreferNoSchedule")
            .count();
        i64::try_from(unwelcome).ok()
    }

    fn normalize(&self) -> Normalize {
        Normalize::LessIsBetter
    }

    fn weight(&self) -> i64 {
        3
    }
}

fn untolerated<'a>(pod: &'a PodView, node: &'a NodeView) -> impl Iterator<Item = &'a Taint> {
    let taints = node.facts.taints.iter();
    taints.filter(|taint| !pod.tolerations.iter().any(|toleration| tolerates(toleration, taint)))
}
