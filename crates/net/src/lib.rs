//! Pod network of one node: addresses, veth pairs, routes, masquerade.
