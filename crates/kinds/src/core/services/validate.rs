//! What is refused about services.

use super::{has_cluster_ip, has_health_check, is_headless, is_reachable_from_outside, kind};
use crate::defaulting::given;
use crate::{addresses, rules};
use catamaran_api::field::Reason;
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::core::v1::{LoadBalancerIngress, Service, ServicePort, ServiceSpec, SessionAffinityConfig};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};

pub(super) const TOPOLOGY_HINTS: &str = "service.kubernetes.io/topology-aware-hints";
pub(super) const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
/// A day, in seconds.
const AFFINITY_MAX: i32 = 86_400;

/// A service; addresses that `old` has already are let through.
pub(super) fn service(object: &Service, old: Option<&Service>, errors: &mut Errors) {
    let no_spec = ServiceSpec::default();
    let spec = object.spec.as_ref().unwrap_or(&no_spec);
    let old_spec = old.and_then(|old| old.spec.as_ref());
    let path = Path::new("spec");
    topology(object, errors);
    if spec.ports.as_ref().is_none_or(Vec::is_empty) && !is_headless(spec) && kind(spec) != "ExternalName" {
        errors.required(&path.child("ports"), "");
    }
    by_type(spec, &path, errors);
    ports(spec, &path.child("ports"), errors);
    rules::labels(spec.selector.as_ref(), &path.child("selector"), errors);
    affinity(spec, &path, errors);
    cluster_ips(spec, old_spec, errors);
    let kept = old_spec.and_then(|old| old.external_ips.clone()).unwrap_or_default();
    let list = path.child("externalIPs");
    for (index, ip) in spec.external_ips.iter().flatten().enumerate() {
        let before = errors.len();
        addresses::validate(ip, &kept, &list.index(index), errors);
        if errors.len() == before {
            addresses::validate_endpoint(ip, &list.index(index), errors);
        }
    }
    let types = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    rules::one_of_required(kind(spec), &types, &path.child("type"), errors);
    port_numbers(spec, &path.child("ports"), errors);
    source_ranges(object, spec, old_spec, errors);
    load_balancer(spec, &path, errors);
    traffic(spec, &path, errors);
}

fn topology(object: &Service, errors: &mut Errors) {
    let Some(annotations) = &object.metadata.annotations else {
        return;
    };
    if let (Some(mode), Some(hints)) = (annotations.get(TOPOLOGY_MODE), annotations.get(TOPOLOGY_HINTS))
        && mode != hints
    {
        let path = Path::new("metadata");
        let path = path.child("annotations");
        errors.invalid(
            &path.key(TOPOLOGY_MODE),
            mode.as_str(),
            format!("must match annotations[{TOPOLOGY_HINTS}] when both are specified"),
        );
    }
}

fn by_type(spec: &ServiceSpec, path: &Path<'_>, errors: &mut Errors) {
    let is_set = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    match kind(spec) {
        kind @ ("LoadBalancer" | "NodePort") if is_headless(spec) => {
            let detail = format!("may not be set to 'None' for {kind} services");
            errors.invalid(&path.child("clusterIPs").index(0), "None", detail);
        }
        "ExternalName" => {
            let set = [
                ("clusterIPs", is_set(&spec.cluster_ips)),
                ("ipFamilies", is_set(&spec.ip_families)),
                ("ipFamilyPolicy", spec.ip_family_policy.is_some()),
            ];
            for (field, _) in set.into_iter().filter(|(_, set)| *set) {
                errors.forbidden(&path.child(field), "may not be set for ExternalName services");
            }
            let name = spec.external_name.as_deref().unwrap_or_default();
            let name = name.strip_suffix('.').unwrap_or(name);
            let at = path.child("externalName");
            if name.is_empty() {
                errors.required(&at, "");
            } else {
                errors.invalid_each(&at, name, names::dns1123_subdomain(name));
            }
        }
        _ => {}
    }
}

/// What tells two ports apart, within Kubernetes' own type, for errors.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Port<'a> {
    name: &'a str,
    protocol: &'a str,
    app_protocol: Option<&'a str>,
    port: i32,
    target_port: i32,
    node_port: i32,
}

fn ports(spec: &ServiceSpec, path: &Path<'_>, errors: &mut Errors) {
    let ports = spec.ports.as_deref().unwrap_or_default();
    let mut seen = HashSet::new();
    for (index, port) in ports.iter().enumerate() {
        let at = path.index(index);
        match given(port.name.as_ref()) {
            None if ports.len() > 1 => errors.required(&at.child("name"), ""),
            None => {}
            Some(name) => {
                errors.invalid_each(&at.child("name"), name, names::dns1123_label(name));
                if !seen.insert(name) {
                    errors.duplicate(&at.child("name"), name);
                }
            }
        }
        rules::port_number(port.port, &at.child("port"), errors);
        let protocol = port.protocol.as_deref().unwrap_or_default();
        rules::one_of_required(protocol, &["SCTP", "TCP", "UDP"], &at.child("protocol"), errors);
        let target = port.target_port.as_ref().unwrap_or(&IntOrString::Int(0));
        rules::port_number_or_name(target, &at.child("targetPort"), errors);
        if let Some(protocol) = &port.app_protocol {
            errors.invalid_each(&at.child("appProtocol"), protocol, names::qualified_name(protocol));
        }
    }
}

/// Ports that are there twice, of the service or of the nodes.
fn port_numbers(spec: &ServiceSpec, path: &Path<'_>, errors: &mut Errors) {
    let ports = spec.ports.as_deref().unwrap_or_default();
    let node = |port: &ServicePort| port.node_port.filter(|port| *port != 0);
    if kind(spec) == "ClusterIP" {
        for (index, _) in ports.iter().enumerate().filter(|(_, port)| node(port).is_some()) {
            let at = path.index(index);
            errors.forbidden(&at.child("nodePort"), "may not be used when `type` is 'ClusterIP'");
        }
    }
    for (index, port) in ports.iter().enumerate() {
        if let Some(number) = node(port)
            && ports[..index]
                .iter()
                .any(|other| (&other.protocol, node(other)) == (&port.protocol, Some(number)))
        {
            errors.duplicate(&path.index(index).child("nodePort"), number);
        }
    }
    for (index, port) in ports.iter().enumerate() {
        let same = |other: &ServicePort| (&other.protocol, other.port) == (&port.protocol, port.port);
        if ports[..index].iter().any(same) {
            let shown = Port {
                name: "",
                protocol: port.protocol.as_deref().unwrap_or_default(),
                app_protocol: None,
                port: port.port,
                target_port: 0,
                node_port: 0,
            };
            errors.ordered(Reason::Duplicate, &path.index(index), &shown, "");
        }
    }
}

fn affinity(spec: &ServiceSpec, path: &Path<'_>, errors: &mut Errors) {
    let affinity = spec.session_affinity.as_deref().unwrap_or_default();
    rules::one_of_required(affinity, &["ClientIP", "None"], &path.child("sessionAffinity"), errors);
    let at = path.child("sessionAffinityConfig");
    match affinity {
        "ClientIP" => client_ip(spec.session_affinity_config.as_ref(), &at, errors),
        "None" if spec.session_affinity_config.is_some() => {
            errors.forbidden(&at, "must not be set when session affinity is None");
        }
        _ => {}
    }
}

fn client_ip(config: Option<&SessionAffinityConfig>, path: &Path<'_>, errors: &mut Errors) {
    let missing = "when session affinity type is ClientIP";
    let Some(config) = config else {
        return errors.required(path, missing);
    };
    let path = path.child("clientIP");
    let Some(client) = &config.client_ip else {
        return errors.required(&path, missing);
    };
    let at = path.child("timeoutSeconds");
    match client.timeout_seconds {
        None => errors.required(&at, missing),
        Some(seconds) if !(1..=AFFINITY_MAX).contains(&seconds) => {
            let detail = format!("must be greater than 0 and less than {AFFINITY_MAX}");
            errors.invalid(&at, seconds, detail);
        }
        Some(_) => {}
    }
}

/// Addresses and families, each on its own and together.
pub(super) fn cluster_ips(spec: &ServiceSpec, old: Option<&ServiceSpec>, errors: &mut Errors) {
    if kind(spec) == "ExternalName" {
        return;
    }
    let path = Path::new("spec");
    let list = path.child("clusterIPs");
    let ips = spec.cluster_ips.as_deref().unwrap_or_default();
    match (given(spec.cluster_ip.as_ref()), ips.first()) {
        (Some(_), None) => errors.required(&list, ""),
        (Some(ip), Some(first)) if ip != first => {
            errors.invalid(&list, ips.to_vec(), "first value must match `clusterIP`");
        }
        (None, Some(_)) => {
            let detail = "must be empty when `clusterIP` is not specified";
            errors.invalid(&list, ips.to_vec(), detail);
        }
        _ => {}
    }
    families(spec, &path, errors);
    let before = errors.len();
    let kept = old.and_then(|old| old.cluster_ips.clone()).unwrap_or_default();
    for (index, ip) in ips.iter().enumerate() {
        if index == 0 && ip == "None" {
            if ips.len() > 1 {
                errors.invalid(&list, ips.to_vec(), "'None' must be the first and only value");
            }
        } else {
            addresses::validate(ip, &kept, &list.index(index), errors);
        }
    }
    let has_invalid = errors.len() > before;
    if ips.len() > 2 {
        errors.invalid(&list, ips.to_vec(), "may only hold up to 2 values");
    }
    if has_invalid {
        return;
    }
    if ips.len() > 1 && !rules::is_dual_stack(ips) {
        errors.invalid(
            &list,
            ips.to_vec(),
            "may specify no more than one IP for each IP family",
        );
    }
    if is_headless(spec) {
        return;
    }
    let families = spec.ip_families.as_deref().unwrap_or_default();
    for (index, (ip, family)) in ips.iter().zip(families).enumerate() {
        if matches!(family.as_str(), "IPv4" | "IPv6") && family != family_of(ip) {
            let detail = format!("expected an {family} value as indicated by `ipFamilies[{index}]`");
            errors.invalid(&list.index(index), ip.as_str(), detail);
        }
    }
}

pub(super) fn family_of(ip: &str) -> &'static str {
    if ip.contains(':') { "IPv6" } else { "IPv4" }
}

fn families(spec: &ServiceSpec, path: &Path<'_>, errors: &mut Errors) {
    let list = path.child("ipFamilies");
    let families = spec.ip_families.as_deref().unwrap_or_default();
    for (index, family) in families.iter().enumerate() {
        rules::one_of(Some(family), &["IPv4", "IPv6"], &list.index(index), errors);
        if families[..index].contains(family) {
            errors.duplicate(&list.index(index), family.as_str());
        }
    }
    let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    let policy = spec.ip_family_policy.as_deref();
    rules::one_of(policy, &policies, &path.child("ipFamilyPolicy"), errors);
}

fn source_ranges(object: &Service, spec: &ServiceSpec, old: Option<&ServiceSpec>, errors: &mut Errors) {
    let only = "may only be used when `type` is 'LoadBalancer'";
    let fits = kind(spec) == "LoadBalancer";
    let ranges = spec.load_balancer_source_ranges.as_deref().unwrap_or_default();
    let annotations: Option<&BTreeMap<String, String>> = object.metadata.annotations.as_ref();
    if !ranges.is_empty() {
        let path = Path::new("spec");
        let path = path.child("LoadBalancerSourceRanges");
        if !fits {
            errors.forbidden(&path, only);
        }
        let kept = old.and_then(|old| old.load_balancer_source_ranges.clone());
        let kept: Vec<String> = kept.iter().flatten().map(|range| range.trim().to_owned()).collect();
        for (index, range) in ranges.iter().enumerate() {
            addresses::validate_cidr(range.trim(), &kept, &path.index(index), errors);
        }
    } else if let Some(ranges) = annotations.and_then(|annotations| annotations.get(SOURCE_RANGES)) {
        let path = Path::new("metadata");
        let path = path.child("annotations");
        let at = path.key(SOURCE_RANGES);
        if !fits {
            errors.forbidden(&at, only);
        }
        for range in ranges.trim().split(',').filter(|_| !ranges.trim().is_empty()) {
            addresses::validate_cidr(range.trim(), &[], &at, errors);
        }
    }
}

fn load_balancer(spec: &ServiceSpec, path: &Path<'_>, errors: &mut Errors) {
    let only = "may only be used when `type` is 'LoadBalancer'";
    let fits = kind(spec) == "LoadBalancer";
    match spec.allocate_load_balancer_node_ports {
        Some(_) if !fits => errors.forbidden(&path.child("allocateLoadBalancerNodePorts"), only),
        None if fits => errors.required(&Path::new("allocateLoadBalancerNodePorts"), ""),
        _ => {}
    }
    let at = path.child("loadBalancerClass");
    match &spec.load_balancer_class {
        Some(class) if fits => errors.invalid_each(&at, class, names::qualified_name(class)),
        Some(_) => errors.forbidden(&at, only),
        None => {}
    }
}

fn traffic(spec: &ServiceSpec, path: &Path<'_>, errors: &mut Errors) {
    let at = path.child("externalTrafficPolicy");
    let policy = spec.external_traffic_policy.as_deref().unwrap_or_default();
    if is_reachable_from_outside(spec) {
        rules::one_of_required(policy, &["Cluster", "Local"], &at, errors);
    } else if !policy.is_empty() {
        errors.invalid(&at, policy, "may only be set for externally-accessible services");
    }
    let at = path.child("healthCheckNodePort");
    match (has_health_check(spec), spec.health_check_node_port.unwrap_or(0)) {
        (true, 0) => errors.required(&at, ""),
        (true, port) => rules::port_number(port, &at, errors),
        (false, 0) => {}
        (false, port) => {
            let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            errors.invalid(&at, port, detail);
        }
    }
    let at = path.child("internalTrafficPolicy");
    let policy = spec.internal_traffic_policy.as_deref();
    if policy.is_none() && has_cluster_ip(spec) {
        errors.required(&at, "");
    }
    rules::one_of(policy, &["Cluster", "Local"], &at, errors);
    let supported = ["PreferClose", "PreferSameZone", "PreferSameNode"];
    let distribution = spec.traffic_distribution.as_deref();
    rules::one_of(distribution, &supported, &path.child("trafficDistribution"), errors);
}

/// What may not change. The new service on its own is validated beside this.
pub(super) fn update(new: &Service, old: &Service, errors: &mut Errors) {
    let no_spec = ServiceSpec::default();
    let (new, old) = (
        new.spec.as_ref().unwrap_or(&no_spec),
        old.spec.as_ref().unwrap_or(&no_spec),
    );
    if kind(new) != "ExternalName" && kind(old) != "ExternalName" {
        if !(is_headless(new) && is_headless(old)) {
            changed_ips(new, old, errors);
        }
        if !is_headless(new) && !is_headless(old) {
            changed_families(new, old, errors);
        }
    }
    let path = Path::new("spec");
    if kind(new) == "LoadBalancer" && kind(old) == "LoadBalancer" && new.load_balancer_class != old.load_balancer_class
    {
        let shown = serde_json::to_value(&new.load_balancer_class).unwrap_or_default();
        errors.invalid(&path.child("loadBalancerClass"), shown, "may not change once set");
    }
    if has_health_check(old) && has_health_check(new) && old.health_check_node_port != new.health_check_node_port {
        errors.forbidden(&path.child("healthCheckNodePort"), "field is immutable");
    }
}

/// The first stays, the second may come and go.
fn changed_ips(new: &ServiceSpec, old: &ServiceSpec, errors: &mut Errors) {
    let path = Path::new("spec");
    let list = path.child("clusterIPs");
    let (is, was) = (
        new.cluster_ips.as_deref().unwrap_or_default(),
        old.cluster_ips.as_deref().unwrap_or_default(),
    );
    if is.len() == was.len() {
        for (index, _) in was.iter().enumerate().filter(|(index, ip)| **ip != is[*index]) {
            errors.invalid(&list.index(index), is.to_vec(), "may not change once set");
        }
        return;
    }
    let released = was.len() > is.len();
    if released && is.is_empty() {
        errors.invalid(&list.index(0), is.to_vec(), "primary clusterIP can not be unset");
    }
    if let (Some(first), Some(was)) = (is.first(), was.first())
        && first != was
    {
        errors.invalid(&list.index(0), is.to_vec(), "may not change once set");
    }
    if released && is.len() == 1 {
        single_stack(
            new,
            "must be set to 'SingleStack' when releasing the secondary clusterIP",
            errors,
        );
    }
}

fn single_stack(spec: &ServiceSpec, detail: &str, errors: &mut Errors) {
    if spec.ip_family_policy.as_deref() != Some("SingleStack") {
        let shown = serde_json::to_value(&spec.ip_family_policy).unwrap_or_default();
        let path = Path::new("spec");
        errors.invalid(&path.child("ipFamilyPolicy"), shown, detail);
    }
}

fn changed_families(new: &ServiceSpec, old: &ServiceSpec, errors: &mut Errors) {
    let path = Path::new("spec");
    let list = path.child("ipFamilies");
    let first = list.index(0);
    let (is, was) = (
        new.ip_families.as_deref().unwrap_or_default(),
        old.ip_families.as_deref().unwrap_or_default(),
    );
    let ips = new.cluster_ips.clone().unwrap_or_default();
    if is.len() == was.len() {
        for _ in is.iter().zip(was).filter(|(is, was)| is != was) {
            errors.invalid(&first, is.to_vec(), "may not change once set");
        }
        return;
    }
    let released = was.len() > is.len();
    if released && ips.is_empty() {
        errors.invalid(&first, is.to_vec(), "primary ipFamily can not be unset");
    }
    if let (Some(is), Some(was)) = (is.first(), was.first())
        && is != was
    {
        errors.invalid(&first, ips, "may not change once set");
    }
    if released && is.len() == 1 {
        single_stack(
            new,
            "must be set to 'SingleStack' when releasing the secondary ipFamily",
            errors,
        );
    }
}

pub(super) fn status(new: &Service, old: &Service, errors: &mut Errors) {
    let ingresses = |service: &Service| {
        let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        status.and_then(|status| status.ingress.clone()).unwrap_or_default()
    };
    let (is, was) = (ingresses(new), ingresses(old));
    let path = Path::new("status");
    let path = path.child("loadBalancer");
    let list = path.child("ingress");
    let fits = new.spec.as_ref().is_some_and(|spec| kind(spec) == "LoadBalancer");
    if !fits && !is.is_empty() {
        errors.forbidden(&list, "may only be used when `spec.type` is 'LoadBalancer'");
        return;
    }
    let kept: Vec<String> = was.into_iter().filter_map(|ingress| ingress.ip).collect();
    for (index, ingress) in is.iter().enumerate() {
        self::ingress(ingress, &kept, &list.index(index), errors);
    }
}

fn ingress(ingress: &LoadBalancerIngress, kept: &[String], path: &Path<'_>, errors: &mut Errors) {
    let ip = given(ingress.ip.as_ref());
    if let Some(ip) = ip {
        addresses::validate(ip, kept, &path.child("ip"), errors);
    }
    let at = path.child("ipMode");
    match (&ingress.ip_mode, ip) {
        (None, Some(_)) => errors.required(&at, "must be specified when `ip` is set"),
        (Some(_), None) => errors.forbidden(&at, "may not be specified when `ip` is not set"),
        (Some(mode), Some(_)) => rules::one_of(Some(mode), &["Proxy", "VIP"], &at, errors),
        (None, None) => {}
    }
    if let Some(host) = given(ingress.hostname.as_ref()) {
        let at = path.child("hostname");
        errors.invalid_each(&at, host, names::dns1123_subdomain(host));
        if names::ip(host).is_empty() {
            errors.invalid(&at, host, "must be a DNS name, not an IP address");
        }
    }
}
