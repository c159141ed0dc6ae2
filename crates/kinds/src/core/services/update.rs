//! What an update means. Fields that the system filled in are kept where the client did not repeat them, and fields that a change
//! of type makes meaningless are dropped where the client did not touch them: both let people apply the file they wrote.

use super::{has_cluster_ip, has_health_check, has_node_ports, is_reachable_from_outside, kind};
use k8s_openapi::api::core::v1::ServiceSpec;
use std::collections::{BTreeSet, HashMap};

pub(super) fn take_over(new: &mut ServiceSpec, old: &ServiceSpec) {
    keep_allocated(new, old);
    sync_cluster_ips(new, old);
    drop_meaningless(new, old);
}

fn keep_allocated(new: &mut ServiceSpec, old: &ServiceSpec) {
    if has_cluster_ip(old) && has_cluster_ip(new) {
        if text(&new.cluster_ip).is_empty() {
            new.cluster_ip.clone_from(&old.cluster_ip);
        }
        if list(&new.cluster_ips).is_empty() && new.cluster_ip == old.cluster_ip {
            new.cluster_ips.clone_from(&old.cluster_ips);
        }
    }
    if has_node_ports(old) && has_node_ports(new) {
        keep_node_ports(new, old);
    }
    if has_health_check(old) && has_health_check(new) && new.health_check_node_port.unwrap_or(0) == 0 {
        new.health_check_node_port = old.health_check_node_port;
    }
}

/// Ports are known by their names, as the rest may have changed.
fn keep_node_ports(new: &mut ServiceSpec, old: &ServiceSpec) {
    let (of_old, of_new) = (node_ports(old), node_ports(new));
    let mut used: BTreeSet<i32> = of_old.intersection(&of_new).copied().collect();
    let by_name: HashMap<&str, i32> = old
        .ports
        .iter()
        .flatten()
        .map(|port| (text(&port.name), port.node_port.unwrap_or(0)))
        .collect();
    for port in new.ports.iter_mut().flatten() {
        if port.node_port.unwrap_or(0) != 0 {
            continue;
        }
        let known = by_name.get(text(&port.name)).copied().filter(|port| *port != 0);
        if let Some(known) = known
            && used.insert(known)
        {
            port.node_port = Some(known);
        }
    }
}

fn node_ports(spec: &ServiceSpec) -> BTreeSet<i32> {
    let ports = spec.ports.iter().flatten().filter_map(|port| port.node_port);
    ports.filter(|port| *port != 0).collect()
}

/// `clusterIP` and the first of `clusterIPs` are one field for old clients and two for new ones.
fn sync_cluster_ips(new: &mut ServiceSpec, old: &ServiceSpec) {
    let same_ip = text(&new.cluster_ip) == text(&old.cluster_ip);
    if list(&new.cluster_ips).is_empty() && same_ip {
        new.cluster_ips.clone_from(&old.cluster_ips);
    }
    if same_ip || list(&new.cluster_ips) != list(&old.cluster_ips) {
        return;
    }
    new.cluster_ips = match text(&new.cluster_ip) {
        "" => None,
        ip => Some(vec![ip.to_owned()]),
    };
}

fn drop_meaningless(new: &mut ServiceSpec, old: &ServiceSpec) {
    if has_cluster_ip(old) && !has_cluster_ip(new) {
        let same_ips =
            text(&new.cluster_ip) == text(&old.cluster_ip) && list(&new.cluster_ips) == list(&old.cluster_ips);
        if same_ips {
            new.cluster_ip = None;
            new.cluster_ips = None;
        }
        if list(&new.ip_families) == list(&old.ip_families) {
            new.ip_families = None;
        }
        if new.ip_family_policy == old.ip_family_policy {
            new.ip_family_policy = None;
        }
    }
    if has_node_ports(old) && !has_node_ports(new) && same_node_ports(new, old) {
        for port in new.ports.iter_mut().flatten() {
            port.node_port = None;
        }
    }
    if has_health_check(old)
        && !has_health_check(new)
        && new.health_check_node_port.unwrap_or(0) == old.health_check_node_port.unwrap_or(0)
    {
        new.health_check_node_port = None;
    }
    if kind(old) == "LoadBalancer" && kind(new) != "LoadBalancer" {
        if new.allocate_load_balancer_node_ports == old.allocate_load_balancer_node_ports {
            new.allocate_load_balancer_node_ports = None;
        }
        if new.load_balancer_class == old.load_balancer_class {
            new.load_balancer_class = None;
        }
    }
    if is_reachable_from_outside(old)
        && !is_reachable_from_outside(new)
        && new.external_traffic_policy == old.external_traffic_policy
    {
        new.external_traffic_policy = None;
    }
}

/// Did the client leave the ports of the nodes alone? Every one it sent was there before.
fn same_node_ports(new: &ServiceSpec, old: &ServiceSpec) -> bool {
    node_ports(new) == node_ports(old)
}

fn text(value: &Option<String>) -> &str {
    value.as_deref().unwrap_or_default()
}

fn list(value: &Option<Vec<String>>) -> &[String] {
    value.as_deref().unwrap_or_default()
}
