//! Service: one address for many pods.
//!
//! | what | where |
//! |---|---|
//! | what an update takes over or drops, because the user said it with the type | `update` |
//! | what there is to choose from, and how | `pools` |
//! | addresses, ports and families that the system chooses | `allocation` |
//! | what is refused | `validate` |

mod allocation;
mod pools;
mod update;
mod validate;

use crate::defaulting::{given, text};
use crate::{FieldLabel, Kind, NameRule, STATUS, Subresource, addresses, age, cells, name};
use catamaran_api::table::Column;
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::core::v1::{
    ClientIPConfig, LoadBalancerStatus, Service, ServicePort, ServiceSpec, ServiceStatus, SessionAffinityConfig,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

pub use allocation::{Choice, Refusal, addresses, allocate};
pub use pools::{Block, Occupied, Pools, Taken};

pub(crate) struct Services;

/// How long a client is remembered if nobody says, in seconds.
const AFFINITY_SECONDS: i32 = 10_800;

impl Kind for Services {
    type Object = Service;
    const NAMESPACED: bool = true;
    const SHORT_NAMES: &'static [&'static str] = &["svc"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const NAME_RULE: NameRule = names::dns1035_label;
    const FIELD_SELECTORS: &'static [FieldLabel] = &[FieldLabel::new("spec.clusterIP"), FieldLabel::new("spec.type")];
    const SUBRESOURCES: &'static [Subresource] = &[
        Subresource {
            name: "proxy",
            kind: "ServiceProxyOptions",
            api_version: "",
            verbs: &["create", "delete", "get", "patch", "update"],
        },
        STATUS,
    ];

    fn default(&self, object: &mut Service) {
        let spec = object.spec.get_or_insert_default();
        self::default(spec);
        let is_load_balancer = kind(spec) == "LoadBalancer";
        let status = object.status.iter_mut().flat_map(|status| &mut status.load_balancer);
        for ingress in status.flat_map(|status| status.ingress.iter_mut().flatten()) {
            if is_load_balancer && given(ingress.ip.as_ref()).is_some() && ingress.ip_mode.is_none() {
                ingress.ip_mode = Some("VIP".to_owned());
            }
        }
    }

    fn prepare_create(&self, object: &mut Service) {
        object.status = Some(empty_status());
        let spec = object.spec.get_or_insert_default();
        if spec.cluster_ips.as_ref().is_none_or(Vec::is_empty)
            && let Some(ip) = given(spec.cluster_ip.as_ref())
        {
            spec.cluster_ips = Some(vec![ip.to_owned()]);
        }
    }

    fn prepare_update(&self, new: &mut Service, old: &Service) {
        new.status.clone_from(&old.status);
        update::take_over(new.spec.get_or_insert_default(), &old.spec.clone().unwrap_or_default());
        let is_load_balancer = new.spec.as_ref().is_some_and(|spec| kind(spec) == "LoadBalancer");
        if !is_load_balancer {
            new.status.get_or_insert_with(empty_status).load_balancer = Some(LoadBalancerStatus::default());
        }
    }

    fn prepare_status(&self, new: &mut Service, old: &Service) {
        new.spec.clone_from(&old.spec);
    }

    fn validate(&self, object: &Service, errors: &mut Errors) {
        validate::service(object, None, errors);
    }

    fn validate_update(&self, new: &Service, old: &Service, errors: &mut Errors) {
        validate::update(new, old, errors);
    }

    fn validate_status(&self, new: &Service, old: &Service, errors: &mut Errors) {
        validate::status(new, old, errors);
    }

    fn warnings(&self, new: &Service, _old: Option<&Service>) -> Vec<String> {
        warnings(new)
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            Column::NAME,
            Column::string("Type", "How far the address reaches."),
            Column::string("Cluster-IP", "Address inside the cluster."),
            Column::string("External-IP", "Addresses outside the cluster."),
            Column::string("Port(s)", "Ports, with those of the nodes after a colon."),
            Column::AGE,
            Column::string("Selector", "Labels of the pods behind the address.").wide(),
        ];
        COLUMNS
    }

    fn row(&self, object: &Service, now: Timestamp) -> Vec<Value> {
        let no_spec = ServiceSpec::default();
        let spec = object.spec.as_ref().unwrap_or(&no_spec);
        let ip = spec.cluster_ips.as_ref().and_then(|ips| ips.first());
        vec![
            name(&object.metadata),
            kind(spec).into(),
            ip.map_or("<none>", String::as_str).into(),
            external_ip(object, spec).into(),
            port_list(spec.ports.as_deref().unwrap_or_default()).into(),
            age(&object.metadata, now),
            cells::labels(spec.selector.as_ref()).into(),
        ]
    }
}

fn empty_status() -> ServiceStatus {
    ServiceStatus {
        load_balancer: Some(LoadBalancerStatus::default()),
        ..Default::default()
    }
}

fn default(spec: &mut ServiceSpec) {
    text(&mut spec.session_affinity, "None");
    match spec.session_affinity.as_deref() {
        Some("None") => spec.session_affinity_config = None,
        Some("ClientIP") => {
            let config = spec.session_affinity_config.as_ref();
            let seconds = config
                .and_then(|config| config.client_ip.as_ref())
                .and_then(|client| client.timeout_seconds);
            spec.session_affinity_config = Some(SessionAffinityConfig {
                client_ip: Some(ClientIPConfig {
                    timeout_seconds: Some(seconds.unwrap_or(AFFINITY_SECONDS)),
                }),
            });
        }
        _ => {}
    }
    text(&mut spec.type_, "ClusterIP");
    for port in spec.ports.iter_mut().flatten() {
        text(&mut port.protocol, "TCP");
        let unset = match &port.target_port {
            None | Some(IntOrString::Int(0)) => true,
            Some(IntOrString::String(name)) => name.is_empty(),
            Some(IntOrString::Int(_)) => false,
        };
        if unset {
            port.target_port = Some(IntOrString::Int(port.port));
        }
    }
    if is_reachable_from_outside(spec) {
        text(&mut spec.external_traffic_policy, "Cluster");
    }
    if has_cluster_ip(spec) {
        spec.internal_traffic_policy.get_or_insert_with(|| "Cluster".to_owned());
    }
    if kind(spec) == "LoadBalancer" {
        spec.allocate_load_balancer_node_ports.get_or_insert(true);
    }
}

fn kind(spec: &ServiceSpec) -> &str {
    spec.type_.as_deref().unwrap_or_default()
}

/// Of a type that has an address in the cluster, be it `None`.
fn has_cluster_ip(spec: &ServiceSpec) -> bool {
    matches!(kind(spec), "ClusterIP" | "NodePort" | "LoadBalancer")
}

fn has_node_ports(spec: &ServiceSpec) -> bool {
    matches!(kind(spec), "NodePort" | "LoadBalancer")
}

fn is_reachable_from_outside(spec: &ServiceSpec) -> bool {
    let has_external_ips = spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty());
    has_node_ports(spec) || (kind(spec) == "ClusterIP" && has_external_ips)
}

/// A load balancer that sends traffic to nodes with pods only asks the nodes whether they have any.
fn has_health_check(spec: &ServiceSpec) -> bool {
    kind(spec) == "LoadBalancer" && spec.external_traffic_policy.as_deref() == Some("Local")
}

/// Told not to have an address.
fn is_headless(spec: &ServiceSpec) -> bool {
    spec.cluster_ips
        .as_ref()
        .is_some_and(|ips| ips.len() == 1 && ips[0] == "None")
}

fn external_ip(object: &Service, spec: &ServiceSpec) -> String {
    let external = spec.external_ips.as_deref().unwrap_or_default();
    match kind(spec) {
        "ClusterIP" | "NodePort" if external.is_empty() => "<none>".to_owned(),
        "ClusterIP" | "NodePort" => external.join(","),
        "LoadBalancer" => {
            let status = object.status.as_ref().and_then(|status| status.load_balancer.as_ref());
            let ingress = status.iter().flat_map(|status| status.ingress.iter().flatten());
            let mut all: Vec<String> = ingress
                .filter_map(|ingress| given(ingress.ip.as_ref()).or(given(ingress.hostname.as_ref())))
                .map(ToOwned::to_owned)
                .collect();
            all.sort_unstable();
            all.dedup();
            all.extend_from_slice(external);
            if all.is_empty() {
                "<pending>".to_owned()
            } else {
                all.join(",")
            }
        }
        "ExternalName" => spec.external_name.clone().unwrap_or_default(),
        _ => "<unknown>".to_owned(),
    }
}

fn port_list(ports: &[ServicePort]) -> String {
    let one = |port: &ServicePort| {
        let protocol = port.protocol.as_deref().unwrap_or_default();
        match port.node_port.filter(|node| *node > 0) {
            Some(node) => format!("{}:{node}/{protocol}", port.port),
            None => format!("{}/{protocol}", port.port),
        }
    };
    let all: Vec<String> = ports.iter().map(one).collect();
    if all.is_empty() {
        "<none>".to_owned()
    } else {
        all.join(",")
    }
}

fn warnings(object: &Service) -> Vec<String> {
    let no_spec = ServiceSpec::default();
    let spec = object.spec.as_ref().unwrap_or(&no_spec);
    let mut warnings = Vec::new();
    let annotations = object.metadata.annotations.as_ref();
    if annotations.is_some_and(|annotations| annotations.contains_key(validate::TOPOLOGY_HINTS)) {
        warnings.push(format!(
            "annotation {} is deprecated, please use {} instead",
            validate::TOPOLOGY_HINTS,
            validate::TOPOLOGY_MODE
        ));
    }
    let path = Path::new("spec");
    let has_ip = !matches!(spec.cluster_ip.as_deref(), None | Some("" | "None"));
    for (index, ip) in spec.cluster_ips.iter().flatten().enumerate().filter(|_| has_ip) {
        warnings.extend(addresses::ip_warning(ip, &path.child("clusterIPs").index(index)));
    }
    let external = spec.external_ips.as_deref().unwrap_or_default();
    let balancer = given(spec.load_balancer_ip.as_ref());
    if kind(spec) == "ClusterIP" && spec.cluster_ip.as_deref() == Some("None") {
        let ignored = [
            (balancer.is_some(), "loadBalancerIP"),
            (!external.is_empty(), "externalIPs"),
            (given(spec.session_affinity.as_ref()).is_some(), "SessionAffinity"),
        ];
        let ignored = ignored.into_iter().filter(|(set, _)| *set);
        warnings.extend(ignored.map(|(_, field)| format!("spec.{field} is ignored for headless services")));
    }
    for (index, ip) in external.iter().enumerate() {
        warnings.extend(addresses::ip_warning(ip, &path.child("externalIPs").index(index)));
    }
    if let Some(ip) = balancer {
        warnings.extend(addresses::ip_warning(ip, &path.child("loadBalancerIP")));
    }
    for (index, range) in spec.load_balancer_source_ranges.iter().flatten().enumerate() {
        let list = path.child("loadBalancerSourceRanges");
        warnings.extend(addresses::cidr_warnings(range, &list.index(index)));
    }
    if kind(spec) == "ExternalName" && !external.is_empty() {
        warnings.push(r#"spec.externalIPs is ignored when spec.type is "ExternalName""#.to_owned());
    }
    if kind(spec) != "ExternalName" && given(spec.external_name.as_ref()).is_some() {
        warnings.push(r#"spec.externalName is ignored when spec.type is not "ExternalName""#.to_owned());
    }
    warnings
}
