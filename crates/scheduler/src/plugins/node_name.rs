//! A pod that names its node runs nowhere else.

use super::{Plugin, Rejection};
use crate::node::NodeView;
use crate::pod::PodView;

pub(super) struct NodeName;

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn filter(&self, pod: &PodView, node: &NodeView) -> Result<(), Rejection> {
        match &pod.node_name {
            Some(name) if *name != node.facts.name => {
                Err(Rejection::incurable("node(s) didn't match the requested node name"))
            }
            _ => Ok(()),
        }
    }
}
