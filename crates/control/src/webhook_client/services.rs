//! From a service to an address that can be dialled.
//!
//! This server may run where nobody translates cluster addresses, so a pod's own address is better than the service's.

use crate::registry::Registry;
use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{OnceLock, Weak};

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// An address or a DNS name.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Knows where services are. An error is the text that Kubernetes' resolver has for it.
pub(crate) trait ServiceResolver: Send + Sync {
    fn resolve(&self, namespace: &str, name: &str, port: u16) -> Result<Place, String>;
}

/// Looks services up in the caches of a registry. Made before the registry, which calls webhooks itself.
#[derive(Default)]
pub(crate) struct RegistryServices {
    registry: OnceLock<Weak<Registry>>,
    /// Counts calls, so that all ready pods have their turn.
    turn: AtomicUsize,
}

impl RegistryServices {
    /// Where to look from now on. Only the first call counts.
    pub(crate) fn attach(&self, registry: Weak<Registry>) {
        let _ = self.registry.set(registry);
    }
}

impl ServiceResolver for RegistryServices {
    fn resolve(&self, namespace: &str, name: &str, port: u16) -> Result<Place, String> {
        let registry = self
            .registry
            .get()
            .and_then(Weak::upgrade)
            .ok_or_else(|| "the server is starting or shutting down".to_owned())?;
        let service: Service = registry
            .peek("v1", "services", Some(namespace), name)
            .and_then(|record| serde_json::from_slice(&record.json()).ok())
            .ok_or_else(|| format!("service {name:?} not found"))?;
        let slices: Vec<EndpointSlice> = registry
            .peek_labelled(
                "discovery.k8s.io/v1",
                "endpointslices",
                namespace,
                ("kubernetes.io/service-name", name),
            )
            .iter()
            .filter_map(|record| serde_json::from_slice(&record.json()).ok())
            .collect();
        let endpoints: Option<Endpoints> = registry
            .peek("v1", "endpoints", Some(namespace), name)
            .and_then(|record| serde_json::from_slice(&record.json()).ok());
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        place_of(&service, &slices, endpoints.as_ref(), port, turn)
    }
}

/// Pure: one of the places that serve a port of a service. `turn` picks among the ready ones. If nobody has published
/// endpoints, it is the service's own address.
pub(crate) fn place_of(
    service: &Service,
    slices: &[EndpointSlice],
    endpoints: Option<&Endpoints>,
    port: u16,
    turn: usize,
) -> Result<Place, String> {
    let name = service.metadata.name.as_deref().unwrap_or_default();
    let spec = service.spec.clone().unwrap_or_default();
    let cluster_ip = spec.cluster_ip.as_deref().unwrap_or_default();
    match spec.type_.as_deref().unwrap_or("ClusterIP") {
        "ClusterIP" | "LoadBalancer" | "NodePort" => {}
        "ExternalName" => {
            return Ok(Place {
                host: spec.external_name.unwrap_or_default(),
                port,
            });
        }
        other => return Err(format!("unsupported service type {other:?}")),
    }
    let service_port = spec
        .ports
        .iter()
        .flatten()
        .find(|candidate| candidate.port == i32::from(port))
        .ok_or_else(|| format!("no service port {port} found for service {name:?}"))?;
    let port_name = service_port.name.as_deref().unwrap_or_default();

    let ready: Vec<Place> = if slices.is_empty() {
        endpoints
            .map(|endpoints| of_endpoints(endpoints, port_name))
            .unwrap_or_default()
    } else {
        slices.iter().flat_map(|slice| of_slice(slice, port_name)).collect()
    };
    if !ready.is_empty() {
        return Ok(ready[turn % ready.len()].clone());
    }
    let published = !slices.is_empty() || endpoints.is_some();
    match cluster_ip {
        "None" if !published => Err(r#"cannot route to service with ClusterIP "None""#.to_owned()),
        "" | "None" => Err(format!("no endpoints available for service {name:?}")),
        _ if published => Err(format!("no endpoints available for service {name:?}")),
        address => Ok(Place {
            host: address.to_owned(),
            port,
        }),
    }
}

fn of_slice(slice: &EndpointSlice, port_name: &str) -> Vec<Place> {
    let port = slice
        .ports
        .iter()
        .flatten()
        .find(|port| port.name.as_deref().unwrap_or_default() == port_name)
        .and_then(|port| u16::try_from(port.port?).ok());
    let Some(port) = port else { return Vec::new() };
    slice
        .endpoints
        .iter()
        .filter(|endpoint| {
            endpoint
                .conditions
                .as_ref()
                .is_none_or(|conditions| conditions.ready != Some(false))
        })
        .filter_map(|endpoint| {
            Some(Place {
                host: endpoint.addresses.first()?.clone(),
                port,
            })
        })
        .collect()
}

fn of_endpoints(endpoints: &Endpoints, port_name: &str) -> Vec<Place> {
    let mut places = Vec::new();
    for subset in endpoints.subsets.iter().flatten() {
        let port = subset
            .ports
            .iter()
            .flatten()
            .find(|port| port.name.as_deref().unwrap_or_default() == port_name)
            .and_then(|port| u16::try_from(port.port).ok());
        let Some(port) = port else { continue };
        places.extend(subset.addresses.iter().flatten().map(|address| Place {
            host: address.ip.clone(),
            port,
        }));
    }
    places
}
