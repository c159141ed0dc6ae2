//! Node: a machine that runs pods, as its agent reports it.

use crate::kinds::{Kind, STATUS, Subresource};
use k8s_openapi::api::core::v1::Node;

pub(in crate::kinds) struct Nodes;

impl Kind for Nodes {
    type Object = Node;
    const NAMESPACED: bool = false;
    const SHORT_NAMES: &'static [&'static str] = &["no"];
    const FIELD_SELECTORS: &'static [&'static str] = &["spec.unschedulable"];
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];

    fn prepare_update(&self, new: &mut Node, old: &Node) {
        new.status.clone_from(&old.status);
    }

    fn prepare_status(&self, new: &mut Node, old: &Node) {
        new.spec.clone_from(&old.spec);
    }
}
