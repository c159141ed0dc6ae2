//! NetworkPolicy: which traffic to and from pods is let through.

use crate::addresses::{cidr_warnings, legacy_cidr};
use crate::checks::{format_label_selector, label_selector};
use crate::{Kind, age, differs, name};
use catamaran_api::table::Column;
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

pub(crate) struct NetworkPolicies;

impl Kind for NetworkPolicies {
    type Object = NetworkPolicy;
    const NAMESPACED: bool = true;
    const SHORT_NAMES: &'static [&'static str] = &["netpol"];

    fn default(&self, object: &mut NetworkPolicy) {
        let spec = object.spec.get_or_insert_default();
        let ingress = spec.ingress.iter_mut().flatten().map(|rule| &mut rule.ports);
        let egress = spec.egress.iter_mut().flatten().map(|rule| &mut rule.ports);
        for port in ingress.chain(egress).flatten().flatten() {
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
        }
        if spec.policy_types.as_ref().is_none_or(Vec::is_empty) {
            let mut types = vec!["Ingress".to_owned()];
            if spec.egress.as_ref().is_some_and(|rules| !rules.is_empty()) {
                types.push("Egress".to_owned());
            }
            spec.policy_types = Some(types);
        }
        spec.pod_selector.get_or_insert_default();
    }

    fn spec_changed(&self, new: &NetworkPolicy, old: &NetworkPolicy) -> Option<bool> {
        differs(&new.spec, &old.spec)
    }

    fn validate(&self, object: &NetworkPolicy, errors: &mut Errors) {
        let Some(spec) = &object.spec else { return };
        let path = Path::new("spec");
        label_selector(spec.pod_selector.as_ref(), &path.child("podSelector"), errors);
        each_rule(spec, &path, |ports, peers, peers_name, at| {
            let list = at.child("ports");
            for (index, port) in ports.iter().enumerate() {
                validate_port(port, &list.index(index), errors);
            }
            let list = at.child(peers_name);
            for (index, peer) in peers.iter().enumerate() {
                validate_peer(peer, &list.index(index), errors);
            }
        });
        let types = spec.policy_types.as_deref().unwrap_or_default();
        let path = path.child("policyTypes");
        if types.len() > 2 {
            return errors.invalid(&path, types.to_vec(), "may not specify more than two policyTypes");
        }
        for (index, kind) in types.iter().enumerate() {
            if !matches!(kind.as_str(), "Ingress" | "Egress") {
                errors.not_supported(&path.index(index), kind.as_str(), &["Ingress", "Egress"]);
            }
        }
    }

    fn warnings(&self, new: &NetworkPolicy, _old: Option<&NetworkPolicy>) -> Vec<String> {
        let Some(spec) = &new.spec else {
            return Vec::new();
        };
        let mut warnings = Vec::new();
        each_rule(spec, &Path::new("spec"), |_, peers, peers_name, at| {
            let list = at.child(peers_name);
            for (index, peer) in peers.iter().enumerate() {
                let Some(block) = &peer.ip_block else { continue };
                let at = list.index(index);
                let at = at.child("ipBlock");
                warnings.extend(cidr_warnings(&block.cidr, &at.child("cidr")));
                let list = at.child("except");
                for (index, except) in block.except.iter().flatten().enumerate() {
                    warnings.extend(cidr_warnings(except, &list.index(index)));
                }
            }
        });
        warnings
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            Column::NAME,
            Column::string("Pod-Selector", "The pods it is for."),
            Column::AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &NetworkPolicy, now: Timestamp) -> Vec<Value> {
        let selector = object.spec.as_ref().and_then(|spec| spec.pod_selector.clone());
        vec![
            name(&object.metadata),
            format_label_selector(&selector.unwrap_or_default()).into(),
            age(&object.metadata, now),
        ]
    }
}

/// Calls with ports, peers, the name of the field of the peers, and the place of each rule.
fn each_rule(
    spec: &NetworkPolicySpec,
    path: &Path<'_>,
    mut call: impl FnMut(&[NetworkPolicyPort], &[NetworkPolicyPeer], &'static str, &Path<'_>),
) {
    let list = path.child("ingress");
    for (index, rule) in spec.ingress.iter().flatten().enumerate() {
        let (ports, peers) = (rule.ports.as_deref(), rule.from.as_deref());
        call(
            ports.unwrap_or_default(),
            peers.unwrap_or_default(),
            "from",
            &list.index(index),
        );
    }
    let list = path.child("egress");
    for (index, rule) in spec.egress.iter().flatten().enumerate() {
        let (ports, peers) = (rule.ports.as_deref(), rule.to.as_deref());
        call(
            ports.unwrap_or_default(),
            peers.unwrap_or_default(),
            "to",
            &list.index(index),
        );
    }
}

fn validate_port(port: &NetworkPolicyPort, path: &Path<'_>, errors: &mut Errors) {
    let protocols = ["TCP", "UDP", "SCTP"];
    if let Some(protocol) = port
        .protocol
        .as_deref()
        .filter(|protocol| !protocols.contains(protocol))
    {
        errors.not_supported(&path.child("protocol"), protocol, &protocols);
    }
    let at = path.child("port");
    let at_end = path.child("endPort");
    match (&port.port, port.end_port) {
        (Some(IntOrString::Int(number)), end) => {
            for message in names::port_number(*number) {
                errors.invalid(&at, *number, message);
            }
            let Some(end) = end else { return };
            if end < *number {
                errors.invalid(&at_end, end, "must be greater than or equal to `port`");
            }
            for message in names::port_number(end) {
                errors.invalid(&at_end, end, message);
            }
        }
        (Some(IntOrString::String(text)), end) => {
            if let Some(end) = end {
                errors.invalid(&at_end, end, "may not be specified when `port` is non-numeric");
            }
            errors.invalid_each(&at, text, names::port_name(text));
        }
        (None, Some(end)) => errors.invalid(&at_end, end, "may not be specified when `port` is not specified"),
        (None, None) => {}
    }
}

fn validate_peer(peer: &NetworkPolicyPeer, path: &Path<'_>, errors: &mut Errors) {
    label_selector(peer.pod_selector.as_ref(), &path.child("podSelector"), errors);
    label_selector(
        peer.namespace_selector.as_ref(),
        &path.child("namespaceSelector"),
        errors,
    );
    let selected = peer.pod_selector.is_some() || peer.namespace_selector.is_some();
    match &peer.ip_block {
        None if !selected => errors.required(path, "must specify a peer"),
        None => {}
        Some(block) => {
            validate_block(block, &path.child("ipBlock"), errors);
            if selected {
                errors.forbidden(path, "may not specify both ipBlock and another peer");
            }
        }
    }
}

fn validate_block(block: &IPBlock, path: &Path<'_>, errors: &mut Errors) {
    if block.cidr.is_empty() {
        return errors.required(&path.child("cidr"), "");
    }
    let Some(outer) = legacy_cidr(&block.cidr, &path.child("cidr"), errors) else {
        return;
    };
    let list = path.child("except");
    for (index, except) in block.except.iter().flatten().enumerate() {
        let at = list.index(index);
        let Some(inner) = legacy_cidr(except, &at, errors) else {
            continue;
        };
        if !outer.contains(inner.network()) || outer.bits >= inner.bits {
            errors.invalid(&at, except.as_str(), "must be a strict subset of `cidr`");
        }
    }
}
