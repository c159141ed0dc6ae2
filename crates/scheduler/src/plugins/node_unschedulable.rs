//! A cordoned node takes only pods that tolerate it (those of daemons do).

use super::{Plugin, Rejection, tolerates};
use crate::node::NodeView;
use crate::pod::PodView;
use k8s_openapi::api::core::v1::Taint;

pub(super) struct NodeUnschedulable;

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn filter(&self, pod: &PodView, node: &NodeView) -> Result<(), Rejection> {
        if !node.facts.unschedulable {
            return Ok(());
        }
        let cordon = Taint {
            key: "node.kubernetes.io/unschedulable".to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Taint::default()
        };
        match pod.tolerations.iter().any(|toleration| tolerates(toleration, &cordon)) {
            true => Ok(()),
            false => Err(Rejection::incurable("node(s) were unschedulable")),
        }
    }
}
