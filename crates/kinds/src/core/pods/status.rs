//! What is refused about the status of a pod, beyond what its containers may not turn into.

use crate::checks::IMMUTABLE;
use crate::rules::is_dual_stack;
use catamaran_api::field::Reason;
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use serde::Serialize;

/// Conditions that are older than the rule about their names.
const SYSTEM_CONDITIONS: &[&str] = &["PodScheduled", "Ready", "Initialized"];

/// `podIP` is the old field for the first of `podIPs`.
pub(super) fn agree_on_addresses(status: &mut PodStatus) {
    let first = status.pod_ips.as_ref().and_then(|ips| ips.first());
    match (status.pod_ip.as_ref().filter(|ip| !ip.is_empty()), first) {
        (Some(ip), None) => status.pod_ips = Some(vec![k8s_openapi::api::core::v1::PodIP { ip: ip.clone() }]),
        (None, Some(first)) => status.pod_ip = Some(first.ip.clone()),
        _ => {}
    }
}

pub(super) fn validate(new: &Pod, old: &Pod, errors: &mut Errors) {
    let none = PodStatus::default();
    let (new, old) = (
        new.status.as_ref().unwrap_or(&none),
        old.status.as_ref().unwrap_or(&none),
    );
    let path = Path::new("status");
    let list = path.child("conditions");
    for (index, condition) in new.conditions.iter().flatten().enumerate() {
        let kind = condition.type_.as_str();
        if !SYSTEM_CONDITIONS.contains(&kind) {
            errors.invalid_each(&list.index(index).child("Type"), kind, names::qualified_name(kind));
        }
    }
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let node = text(&new.nominated_node_name);
    if !node.is_empty() && node != text(&old.nominated_node_name) {
        let at = path.child("nominatedNodeName");
        errors.invalid_each(&at, &node, names::dns1123_subdomain(&node));
    }
    let class = text(&new.qos_class);
    if class != text(&old.qos_class) {
        errors.invalid(&path.child("qosClass"), class, IMMUTABLE);
    }
    let of_pod =
        |status: &PodStatus| -> Vec<String> { status.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect() };
    let of_host =
        |status: &PodStatus| -> Vec<String> { status.host_ips.iter().flatten().map(|ip| ip.ip.clone()).collect() };
    addresses(&of_pod(new), &of_pod(old), &path.child("podIPs"), errors);
    let at = path.child("hostIPs");
    let host = of_host(new);
    if let Some(first) = host.first()
        && *first != text(&new.host_ip)
    {
        errors.invalid(&at.index(0).child("ip"), first.as_str(), "must be equal to `hostIP`");
    }
    addresses(&host, &of_host(old), &at, errors);
}

/// An address as Kubernetes' own types have it, for errors.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(rename = "IP")]
    ip: &'a str,
}

/// What was wrong before may stay.
fn addresses(new: &[String], old: &[String], path: &Path<'_>, errors: &mut Errors) {
    for (index, ip) in new.iter().enumerate().filter(|(_, ip)| !old.contains(ip)) {
        errors.invalid_each(&path.index(index), ip, names::ip(ip));
    }
    if new.len() > 1 && (new.len() > 2 || !is_dual_stack(new)) {
        let shown: Vec<Shown<'_>> = new.iter().map(|ip| Shown { ip }).collect();
        let detail = "may specify no more than one IP for each IP family";
        errors.ordered(Reason::Invalid, path, &shown, detail);
    }
}
