//! Endpoints: the addresses behind a service, as they were listed before there were endpoint slices.

use crate::defaulting::{given, text};
use crate::{Kind, addresses, age, name, rules};
use catamaran_api::table::Column;
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints as Object};
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

pub(crate) struct Endpoints;

/// Addresses shown in the table.
const SHOWN: usize = 3;

impl Kind for Endpoints {
    type Object = Object;
    const NAMESPACED: bool = true;
    const SHORT_NAMES: &'static [&'static str] = &["ep"];
    const CREATE_ON_UPDATE: bool = true;
    const DEPRECATION: Option<&'static str> =
        Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice");

    fn default(&self, object: &mut Object) {
        for subset in object.subsets.iter_mut().flatten() {
            for port in subset.ports.iter_mut().flatten() {
                text(&mut port.protocol, "TCP");
            }
        }
    }

    fn validate(&self, object: &Object, errors: &mut Errors) {
        let list = Path::new("subsets");
        for (index, subset) in object.subsets.iter().flatten().enumerate() {
            self::subset(subset, &list.index(index), errors);
        }
    }

    fn warnings(&self, new: &Object, _old: Option<&Object>) -> Vec<String> {
        let mut warnings = Vec::new();
        let list = Path::new("subsets");
        for (index, subset) in new.subsets.iter().flatten().enumerate() {
            let at = list.index(index);
            for (field, listed) in [
                ("addresses", &subset.addresses),
                ("notReadyAddresses", &subset.not_ready_addresses),
            ] {
                let at = at.child(field);
                for (index, address) in listed.iter().flatten().enumerate() {
                    warnings.extend(addresses::ip_warning(&address.ip, &at.index(index).child("ip")));
                }
            }
        }
        warnings
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            Column::NAME,
            Column::string("Endpoints", "Addresses that are ready, with their ports."),
            Column::AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let subsets = object.subsets.as_deref().unwrap_or_default();
        vec![
            name(&object.metadata),
            ready(subsets).into(),
            age(&object.metadata, now),
        ]
    }
}

fn subset(subset: &EndpointSubset, path: &Path<'_>, errors: &mut Errors) {
    let listed = subset.addresses.as_deref().unwrap_or_default();
    let not_ready = subset.not_ready_addresses.as_deref().unwrap_or_default();
    if listed.is_empty() && not_ready.is_empty() {
        errors.required(path, "must specify `addresses` or `notReadyAddresses`");
    }
    for (field, listed) in [("addresses", listed), ("notReadyAddresses", not_ready)] {
        let list = path.child(field);
        for (index, address) in listed.iter().enumerate() {
            self::address(address, &list.index(index), errors);
        }
    }
    let ports = subset.ports.as_deref().unwrap_or_default();
    let list = path.child("ports");
    for (index, port) in ports.iter().enumerate() {
        self::port(port, ports.len() > 1, &list.index(index), errors);
    }
}

fn address(address: &EndpointAddress, path: &Path<'_>, errors: &mut Errors) {
    let at = path.child("ip");
    addresses::validate(&address.ip, &[], &at, errors);
    if let Some(host) = given(address.hostname.as_ref()) {
        errors.invalid_each(&path.child("hostname"), host, names::dns1123_label(host));
    }
    if let Some(node) = &address.node_name {
        errors.invalid_each(&path.child("nodeName"), node, names::dns1123_subdomain(node));
    }
    addresses::validate_endpoint(&address.ip, &at, errors);
}

fn port(port: &EndpointPort, needs_name: bool, path: &Path<'_>, errors: &mut Errors) {
    let at = path.child("name");
    match given(port.name.as_ref()) {
        None if needs_name => errors.required(&at, ""),
        None => {}
        Some(name) => errors.invalid_each(&at, name, names::dns1123_label(name)),
    }
    rules::port_number(port.port, &path.child("port"), errors);
    let protocol = port.protocol.as_deref().unwrap_or_default();
    rules::one_of_required(protocol, &["SCTP", "TCP", "UDP"], &path.child("protocol"), errors);
    if let Some(protocol) = &port.app_protocol {
        errors.invalid_each(&path.child("appProtocol"), protocol, names::qualified_name(protocol));
    }
}

/// `10.0.0.1:80,10.0.0.2:80 + 3 more...`
fn ready(subsets: &[EndpointSubset]) -> String {
    if subsets.is_empty() {
        return "<none>".to_owned();
    }
    let mut all = Vec::new();
    for subset in subsets {
        let ips = subset.addresses.iter().flatten().map(|address| &address.ip);
        match subset.ports.as_deref().unwrap_or_default() {
            [] => all.extend(ips.cloned()),
            ports => {
                let ips: Vec<&String> = ips.collect();
                all.extend(ports.iter().flat_map(|port| ips.iter().map(|ip| joined(ip, port.port))));
            }
        }
    }
    let shown = all.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(",");
    if all.len() > SHOWN {
        format!("{shown} + {} more...", all.len() - SHOWN)
    } else {
        shown
    }
}

fn joined(ip: &str, port: i32) -> String {
    if ip.contains(':') {
        format!("[{ip}]:{port}")
    } else {
        format!("{ip}:{port}")
    }
}
