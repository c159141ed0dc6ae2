//! EndpointSlice: some of the addresses behind a service.

use crate::addresses::{ip_warning, legacy_ip, reachable};
use crate::checks::{fully_qualified_domain_name, immutable, labels};
use crate::{Kind, age, name};
use catamaran_api::table::Column;
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointHints, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

pub(crate) struct EndpointSlices;

const MAX_ENDPOINTS: usize = 1000;
const MAX_ADDRESSES: usize = 100;
const MAX_PORTS: usize = 20_000;
const MAX_TOPOLOGY: usize = 16;
const MAX_HINTS: usize = 8;

impl Kind for EndpointSlices {
    type Object = EndpointSlice;
    const NAMESPACED: bool = true;

    fn default(&self, object: &mut EndpointSlice) {
        for port in object.ports.iter_mut().flatten() {
            port.name.get_or_insert_default();
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
        }
    }

    /// There is no spec: everything outside metadata counts, and so do the labels.
    fn spec_changed(&self, new: &EndpointSlice, old: &EndpointSlice) -> Option<bool> {
        let without = |slice: &EndpointSlice| EndpointSlice {
            metadata: ObjectMeta::default(),
            ..slice.clone()
        };
        Some(new.metadata.labels != old.metadata.labels || without(new) != without(old))
    }

    fn validate(&self, object: &EndpointSlice, errors: &mut Errors) {
        let supported = ["FQDN", "IPv4", "IPv6"];
        let path = Path::new("addressType");
        let kind = object.address_type.as_str();
        if kind.is_empty() {
            errors.required(&path, "");
        } else if !supported.contains(&kind) {
            errors.not_supported(&path, kind, &supported);
        }
        let path = Path::new("endpoints");
        if object.endpoints.len() > MAX_ENDPOINTS {
            errors.too_many(&path, object.endpoints.len(), MAX_ENDPOINTS);
        } else {
            for (index, endpoint) in object.endpoints.iter().enumerate() {
                validate_endpoint(endpoint, kind, &path.index(index), errors);
            }
        }
        validate_ports(object.ports.as_deref().unwrap_or_default(), errors);
    }

    fn validate_update(&self, new: &EndpointSlice, old: &EndpointSlice, errors: &mut Errors) {
        immutable(&new.address_type, &old.address_type, &Path::new("addressType"), errors);
    }

    fn warnings(&self, new: &EndpointSlice, _old: Option<&EndpointSlice>) -> Vec<String> {
        let mut warnings = Vec::new();
        if new.address_type == "FQDN" {
            warnings.push("spec.addressType: FQDN endpoints are deprecated".to_owned());
            return warnings;
        }
        let path = Path::new("endpoints");
        for (index, endpoint) in new.endpoints.iter().enumerate() {
            let at = path.index(index);
            let list = at.child("addresses");
            for (index, address) in endpoint.addresses.iter().enumerate() {
                warnings.extend(ip_warning(address, &list.index(index)));
            }
        }
        warnings
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            Column::NAME,
            Column::string("AddressType", "What the addresses are."),
            Column::string("Ports", "The first ports."),
            Column::string("Endpoints", "The first addresses."),
            Column::AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &EndpointSlice, now: Timestamp) -> Vec<Value> {
        let ports = object.ports.iter().flatten().map(|port| match port.port {
            Some(number) => number.to_string(),
            None => port.name.clone().unwrap_or_else(|| "*".to_owned()),
        });
        let addresses = object
            .endpoints
            .iter()
            .flat_map(|endpoint| endpoint.addresses.iter().cloned());
        vec![
            name(&object.metadata),
            object.address_type.clone().into(),
            some(&ports.collect::<Vec<String>>()).into(),
            some(&addresses.collect::<Vec<String>>()).into(),
            age(&object.metadata, now),
        ]
    }
}

/// The first three, and how many more there are.
fn some(list: &[String]) -> String {
    const MOST: usize = 3;
    match list.len() {
        // A port that has neither number nor name leaves nothing to show.
        _ if list.iter().all(String::is_empty) => "<unset>".to_owned(),
        all if all > MOST => format!("{} + {} more...", list[..MOST].join(","), all - MOST),
        _ => list.join(","),
    }
}

fn validate_endpoint(endpoint: &Endpoint, kind: &str, path: &Path<'_>, errors: &mut Errors) {
    let list = path.child("addresses");
    if endpoint.addresses.is_empty() {
        errors.required(&list, "must contain at least 1 address");
    } else if endpoint.addresses.len() > MAX_ADDRESSES {
        errors.too_many(&list, endpoint.addresses.len(), MAX_ADDRESSES);
    }
    for (index, address) in endpoint.addresses.iter().enumerate() {
        validate_address(address, kind, &list.index(index), errors);
    }
    if let Some(node) = &endpoint.node_name {
        errors.invalid_each(&path.child("nodeName"), node, names::dns1123_subdomain(node));
    }
    let topology = endpoint.deprecated_topology.as_ref();
    let at = path.child("deprecatedTopology");
    if let Some(topology) = topology.filter(|topology| topology.len() > MAX_TOPOLOGY) {
        errors.too_many(&at, topology.len(), MAX_TOPOLOGY);
    }
    labels(topology, &at, errors);
    if let Some(host) = &endpoint.hostname {
        errors.invalid_each(&path.child("hostname"), host, names::dns1123_label(host));
    }
    if let Some(hints) = &endpoint.hints {
        validate_hints(hints, &path.child("hints"), errors);
    }
}

fn validate_address(text: &str, kind: &str, path: &Path<'_>, errors: &mut Errors) {
    let wants_v4 = match kind {
        "FQDN" => return fully_qualified_domain_name(text, path, errors),
        "IPv4" => true,
        "IPv6" => false,
        _ => return,
    };
    let Some(address) = legacy_ip(text, path, errors) else {
        return;
    };
    if address.is_ipv4() != wants_v4 {
        errors.invalid(path, text, format!("must be an {kind} address"));
    } else {
        reachable(text, address, path, errors);
    }
}

fn validate_hints(hints: &EndpointHints, path: &Path<'_>, errors: &mut Errors) {
    let zones: Vec<&str> = hints
        .for_zones
        .iter()
        .flatten()
        .map(|zone| zone.name.as_str())
        .collect();
    validate_names(&zones, names::label_value, &path.child("forZones"), errors);
    let nodes: Vec<&str> = hints
        .for_nodes
        .iter()
        .flatten()
        .map(|node| node.name.as_str())
        .collect();
    validate_names(&nodes, names::dns1123_subdomain, &path.child("forNodes"), errors);
}

fn validate_names(list: &[&str], rule: fn(&str) -> Vec<String>, path: &Path<'_>, errors: &mut Errors) {
    if list.len() > MAX_HINTS {
        return errors.too_many(path, list.len(), MAX_HINTS);
    }
    for (index, name) in list.iter().enumerate() {
        let at = path.index(index);
        let at = at.child("name");
        if list[..index].contains(name) {
            errors.duplicate(&at, *name);
        }
        errors.invalid_each(&at, name, rule(name));
    }
}

fn validate_ports(ports: &[EndpointPort], errors: &mut Errors) {
    let path = Path::new("ports");
    if ports.len() > MAX_PORTS {
        return errors.too_many(&path, ports.len(), MAX_PORTS);
    }
    for (index, port) in ports.iter().enumerate() {
        let at = path.index(index);
        let name = port.name.as_deref().unwrap_or_default();
        if !name.is_empty() {
            errors.invalid_each(&at.child("name"), name, names::dns1123_label(name));
        }
        if ports[..index]
            .iter()
            .any(|other| other.name.as_deref().unwrap_or_default() == name)
        {
            errors.duplicate(&at.child("name"), name);
        }
        let supported = ["SCTP", "TCP", "UDP"];
        match port.protocol.as_deref() {
            None => errors.required(&at.child("protocol"), ""),
            Some(protocol) if !supported.contains(&protocol) => {
                errors.not_supported(&at.child("protocol"), protocol, &supported);
            }
            Some(_) => {}
        }
        if let Some(protocol) = &port.app_protocol {
            errors.invalid_each(&at.child("appProtocol"), protocol, names::qualified_name(protocol));
        }
    }
}
