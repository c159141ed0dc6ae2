//! The node agent: turns pods bound to this node into running containers.
