//! What a service is charged: itself, its load balancer, its ports on nodes.

use super::amounts::Amounts;
use catamaran_api::quantity::Quantity;
use k8s_openapi::api::core::v1::{Service, ServiceSpec};

const NAMES: &[&str] = &["services", "services.loadbalancers", "services.nodeports"];

pub(super) fn counts(name: &str) -> bool {
    NAMES.contains(&name)
}

pub(super) fn usage(service: &Service) -> Amounts {
    let (balancers, ports) = service.spec.as_ref().map(of_spec).unwrap_or_default();
    let ports = i64::try_from(ports).unwrap_or(i64::MAX);
    [
        ("services", 1),
        ("services.loadbalancers", balancers),
        ("services.nodeports", ports),
    ]
    .into_iter()
    .map(|(name, count)| (name.to_owned(), Quantity::from_units(count)))
    .collect()
}

/// Load balancers and node ports. The latter are not allocated yet, so what counts is what will be.
fn of_spec(spec: &ServiceSpec) -> (i64, usize) {
    let ports = spec.ports.as_deref().unwrap_or_default();
    match spec.type_.as_deref() {
        Some("NodePort") => (0, ports.len()),
        Some("LoadBalancer") if spec.allocate_load_balancer_node_ports == Some(false) => {
            (1, ports.iter().filter(|port| port.node_port.unwrap_or(0) != 0).count())
        }
        Some("LoadBalancer") => (1, ports.len()),
        _ => (0, 0),
    }
}
