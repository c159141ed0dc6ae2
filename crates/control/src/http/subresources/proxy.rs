//! `proxy`: any HTTP request, passed on to a pod, to a pod behind a service, or to a node.
//!
//! Names may say more than who: `name`, `name:port`, `scheme:name:port`. Where a service leads is looked up in its endpoint
//! slices, so that this server needs no cluster network of its own to be told about services.

mod exchange;
mod rewrite;

use super::super::render;
use super::super::resource::Call;
use crate::registry::{Registry, Target};
use axum::body::Body;
use axum::response::Response;
use catamaran_api::Status;
use exchange::Destination;
use http::Method;
use k8s_openapi::api::core::v1::{Endpoints, Node, ObjectReference, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How long it may take to find out where a node is.
const LOOKUP_PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn answer(call: &Call<'_>, body: Body) -> Result<Response, Status> {
    let known = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
    ];
    if !known.contains(&call.head.method) {
        return Err(Status::method_not_allowed());
    }
    let id = Id::parse(&call.target.name).ok_or_else(|| {
        let kind = call.target.resource.info.singular.as_str();
        Status::bad_request(format!("invalid {kind} request {:?}", call.target.name))
    })?;
    let target = Target {
        name: id.name.to_owned(),
        ..call.target.clone()
    };
    let path = exchange::path_of(call);
    let admitted = super::connection::admit(call, &target, Some(path.below)).await?;
    let admitted_path = rewrite::admitted(path.below, &admitted.body);
    let path = rewrite::Split {
        below: &admitted_path,
        ..path
    };
    let registry = &call.app.registry;
    let destination = match target.resource.info.plural.as_ref() {
        "nodes" => node(registry, &target, &id).await?,
        "pods" => pod(registry, &target, &id).await?,
        "services" => service(registry, &target, &id).await?,
        _ => return Err(Status::unknown_path()),
    };
    let mut response = exchange::pass_on(call, &destination, &path, body).await?;
    render::warn(&mut response, &admitted.warnings);
    Ok(response)
}

/// What the name in the path says.
#[derive(Debug, PartialEq, Eq)]
struct Id<'a> {
    https: bool,
    name: &'a str,
    /// A number or a name; empty if it is not said.
    port: &'a str,
}

impl<'a> Id<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        let (scheme, name, port) = match parts.as_slice() {
            [name] => ("", *name, ""),
            [name, port] => ("", *name, *port),
            [scheme, name, port] => (*scheme, *name, *port),
            _ => return None,
        };
        (matches!(scheme, "" | "http" | "https") && !name.is_empty()).then_some(Id {
            https: scheme == "https",
            name,
            port,
        })
    }
}

async fn pod(registry: &Registry, target: &Target, id: &Id<'_>) -> Result<Destination, Status> {
    let pod: Pod = read(registry, target).await?;
    let spec = pod.spec.unwrap_or_default();
    let first = spec
        .containers
        .iter()
        .find_map(|container| container.ports.as_ref()?.first());
    let port = match id.port {
        "" => first.map_or(if id.https { 443 } else { 80 }, |port| port.container_port),
        port => number(port)?,
    };
    let address = pod.status.and_then(|status| status.pod_ip).unwrap_or_default();
    match address.parse() {
        Ok(dialled) if is_global_unicast(&dialled) => Destination::new(id.https, address, vec![dialled], port),
        _ => Err(Status::bad_request("address not allowed")),
    }
}

async fn service(registry: &Registry, target: &Target, id: &Id<'_>) -> Result<Destination, Status> {
    let service: Service = read(registry, target).await?;
    let none = || Status::service_unavailable(format!("no endpoints available for service {:?}", target.name));
    let ports = service.spec.and_then(|spec| spec.ports).unwrap_or_default();
    let port_name = match id.port.parse::<i32>() {
        Ok(port) => match ports.iter().find(|own| own.port == port) {
            Some(own) => own.name.clone().unwrap_or_default(),
            None => {
                let name = &target.name;
                return Err(Status::service_unavailable(format!(
                    "no service port {port} found for service {name:?}"
                )));
            }
        },
        Err(_) => id.port.to_owned(),
    };
    let mut places = slices(registry, target, &port_name);
    if places.is_empty() {
        places = endpoints(registry, target, &port_name);
    }
    // Each in its turn.
    static TURN: AtomicUsize = AtomicUsize::new(0);
    let turn = TURN.fetch_add(1, Ordering::Relaxed);
    let (address, port) = places.get(turn % places.len().max(1)).cloned().ok_or_else(none)?;
    let dialled = address.parse().map_err(|_| none())?;
    Destination::new(id.https, address, vec![dialled], port)
}

/// Addresses and ports of ready pods, from endpoint slices.
fn slices(registry: &Registry, target: &Target, port_name: &str) -> Vec<(String, i32)> {
    let namespace = target.namespace.as_deref().unwrap_or_default();
    let label = ("kubernetes.io/service-name", target.name.as_str());
    let records = registry.peek_labelled("discovery.k8s.io/v1", "endpointslices", namespace, label);
    let slices = records
        .iter()
        .filter_map(|record| serde_json::from_slice::<EndpointSlice>(&record.json()).ok());
    let mut places = Vec::new();
    for slice in slices {
        let ports = slice.ports.unwrap_or_default();
        let port = ports
            .iter()
            .find(|port| port.name.as_deref().unwrap_or_default() == port_name);
        let Some(port) = port.and_then(|port| port.port) else {
            continue;
        };
        let ready = slice.endpoints.into_iter().filter(|endpoint| {
            let is_ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready);
            is_ready != Some(false)
                && is_pod(
                    registry,
                    namespace,
                    endpoint.target_ref.as_ref(),
                    endpoint.addresses.first(),
                )
        });
        places.extend(ready.filter_map(|endpoint| Some((endpoint.addresses.first()?.clone(), port))));
    }
    places
}

/// The same from the older form.
fn endpoints(registry: &Registry, target: &Target, port_name: &str) -> Vec<(String, i32)> {
    let namespace = target.namespace.as_deref();
    let record = registry.peek("v1", "endpoints", namespace, &target.name);
    let endpoints = record.and_then(|record| serde_json::from_slice::<Endpoints>(&record.json()).ok());
    let mut places = Vec::new();
    for subset in endpoints.and_then(|endpoints| endpoints.subsets).unwrap_or_default() {
        let ports = subset.ports.unwrap_or_default();
        let port = ports
            .iter()
            .find(|port| port.name.as_deref().unwrap_or_default() == port_name);
        let Some(port) = port.map(|port| port.port) else {
            continue;
        };
        let addresses = subset.addresses.unwrap_or_default().into_iter();
        let pods = addresses.filter(|address| {
            is_pod(
                registry,
                namespace.unwrap_or_default(),
                address.target_ref.as_ref(),
                Some(&address.ip),
            )
        });
        places.extend(pods.map(|address| (address.ip, port)));
    }
    places
}

/// Endpoints can be written by anybody who may write endpoints; only what is the address of a pod of the same namespace is
/// dialled from here.
fn is_pod(registry: &Registry, namespace: &str, reference: Option<&ObjectReference>, address: Option<&String>) -> bool {
    let (Some(reference), Some(address)) = (reference, address) else {
        return false;
    };
    let elsewhere = reference
        .namespace
        .as_deref()
        .is_some_and(|own| !own.is_empty() && own != namespace);
    if reference.kind.as_deref() != Some("Pod") || elsewhere {
        return false;
    }
    let name = reference.name.as_deref().unwrap_or_default();
    let record = registry.peek("v1", "pods", Some(namespace), name);
    let pod = record.and_then(|record| serde_json::from_slice::<Pod>(&record.json()).ok());
    pod.is_some_and(|pod| has_address(&pod, address))
}

fn has_address(pod: &Pod, address: &str) -> bool {
    let Ok(wanted) = address.parse::<IpAddr>() else {
        return false;
    };
    let status = pod.status.as_ref();
    let first = status.and_then(|status| status.pod_ip.as_deref());
    let all = status.and_then(|status| status.pod_ips.as_deref()).unwrap_or_default();
    let mut own = first.into_iter().chain(all.iter().map(|own| own.ip.as_str()));
    is_global_unicast(&wanted) && own.any(|own| own.parse() == Ok(wanted))
}

async fn node(registry: &Registry, target: &Target, id: &Id<'_>) -> Result<Destination, Status> {
    let node: Node = read(registry, target).await?;
    let own = super::super::node_proxy::place_of(&target.name, &node)?;
    if id.port.is_empty() || id.port == own.port.to_string() {
        return Ok(Destination::Node(own));
    }
    // The agent may well be on this machine; what else listens only there is nobody's to reach. A name is looked up once, and
    // what it stood for then is dialled: it may stand for something else the next moment.
    let looked_up = tokio::time::timeout(LOOKUP_PATIENCE, tokio::net::lookup_host((own.address.as_str(), 0)));
    let addresses: Vec<IpAddr> = match looked_up.await {
        Ok(Ok(found)) => found.map(|address| address.ip()).collect(),
        Ok(Err(error)) => return Err(Status::bad_request(format!("lookup {}: {error}", own.address))),
        Err(_) => return Err(Status::bad_request(format!("lookup {}: i/o timeout", own.address))),
    };
    if addresses.is_empty() || !addresses.iter().all(is_global_unicast) {
        return Err(Status::bad_request("address not allowed"));
    }
    Destination::new(id.https, own.address, addresses, number(id.port)?)
}

async fn read<T: serde::de::DeserializeOwned>(registry: &Registry, target: &Target) -> Result<T, Status> {
    let record = registry.get(target).await?;
    serde_json::from_slice(&record.json()).map_err(Status::internal)
}

fn number(port: &str) -> Result<i32, Status> {
    port.parse().map_err(|_| {
        Status::service_unavailable(format!(
            "error trying to reach service: dial tcp: lookup tcp/{port}: unknown port"
        ))
    })
}

/// May it be the address of a pod? Loopback, link-local, multicast and the like are not dialled for anybody.
fn is_global_unicast(address: &IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            !(v4.is_unspecified() || v4.is_loopback() || v4.is_multicast() || v4.is_link_local() || v4.is_broadcast())
        }
        IpAddr::V6(v6) => !(v6.is_unspecified() || v6.is_loopback() || v6.is_multicast() || v6.is_unicast_link_local()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_pods_may_have_is_dialled() {
        let dialled = |address: &str| is_global_unicast(&address.parse().unwrap());
        for address in ["10.0.0.1", "192.168.1.2", "fd00::1", "::ffff:10.0.0.1"] {
            assert!(dialled(address), "{address}");
        }
        for address in [
            "127.0.0.1",
            "::1",
            "::ffff:127.0.0.1",
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "0.0.0.0",
            "fe80::1",
        ] {
            assert!(!dialled(address), "{address}");
        }
    }

    #[test]
    fn an_endpoint_is_where_its_pod_is() {
        let status = serde_json::json!({"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]});
        let pod: Pod = serde_json::from_value(serde_json::json!({"metadata": {}, "status": status})).unwrap();
        assert!(has_address(&pod, "10.0.0.1") && has_address(&pod, "fd00:0::1"));
        assert!(!has_address(&pod, "10.0.0.2") && !has_address(&pod, "127.0.0.1") && !has_address(&pod, "elsewhere"));
    }

    #[test]
    fn names_say_how() {
        let id = |https, name, port| Some(Id { https, name, port });
        assert_eq!(Id::parse("a"), id(false, "a", ""));
        assert_eq!(Id::parse("a:80"), id(false, "a", "80"));
        assert_eq!(Id::parse("https:a:web"), id(true, "a", "web"));
        assert_eq!(Id::parse("https:a:"), id(true, "a", ""));
        assert_eq!(Id::parse("ftp:a:1"), None);
        assert_eq!(Id::parse(":1"), None);
        assert_eq!(Id::parse("a:b:c:d"), None);
    }
}
