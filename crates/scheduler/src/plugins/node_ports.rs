//! Two pods cannot have the same port of a node.

use super::{Plugin, Rejection};
use crate::node::NodeView;
use crate::pod::{HostPort, PodView};

pub(super) struct NodePorts;

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn filter(&self, pod: &PodView, node: &NodeView) -> Result<(), Rejection> {
        let taken = |port: &HostPort| node.host_ports.iter().any(|other| collide(port, other));
        match pod.host_ports.iter().any(taken) {
            false => Ok(()),
            true => Err(Rejection {
                reasons: vec!["node(s) didn't have free ports for the requested pod ports".to_owned()],
                curable: true,
            }),
        }
    }
}

fn collide(one: &HostPort, other: &HostPort) -> bool {
    let everywhere = |ip: &str| matches!(ip, "" | "0.0.0.0" | "::");
    one.port == other.port
        && one.protocol == other.protocol
        && (one.ip == other.ip || everywhere(&one.ip) || everywhere(&other.ip))
}
