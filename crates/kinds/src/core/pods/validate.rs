//! Is this a pod? Field paths and sentences are those of Kubernetes, which people search for.

use super::{containers, scheduling, security, volumes};
use crate::rules::{one_of, one_of_required};
use catamaran_api::quantity::Quantity;
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::core::v1::{Pod, PodDNSConfig, PodSpec, ResourceRequirements};
use std::net::IpAddr;

pub(super) fn pod(pod: &Pod, errors: &mut Errors) {
    let no_spec = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&no_spec);
    self::spec(spec, &Path::new("spec"), errors);
}

pub(super) fn spec(spec: &PodSpec, path: &Path<'_>, errors: &mut Errors) {
    let volumes = volumes::validate(spec, &path.child("volumes"), errors);
    containers::validate(spec, &volumes, path, errors);
    restart_policy(spec, path, errors);
    dns(spec, path, errors);
    scheduling::validate(spec, path, errors);
    security::pod(spec, path, errors);
    host_aliases(spec, path, errors);
    hostname(spec, path, errors);
    if let Some(seconds) = spec
        .active_deadline_seconds
        .filter(|seconds| !(1..=i64::from(i32::MAX)).contains(seconds))
    {
        let detail = names::inclusive_range(1, i64::from(i32::MAX));
        errors.invalid(&path.child("activeDeadlineSeconds"), seconds, detail);
    }
    let subdomain_names = [
        ("serviceAccountName", &spec.service_account_name),
        ("nodeName", &spec.node_name),
        ("priorityClassName", &spec.priority_class_name),
        ("runtimeClassName", &spec.runtime_class_name),
    ];
    for (field, value) in subdomain_names {
        if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
            errors.invalid_each(&path.child(field), value, names::dns1123_subdomain(value));
        }
    }
    one_of(
        spec.preemption_policy.as_deref(),
        &["PreemptLowerPriority", "Never"],
        &path.child("preemptionPolicy"),
        errors,
    );
    if let Some(os) = &spec.os {
        one_of_required(&os.name, &["linux", "windows"], &path.child("os").child("name"), errors);
    }
    let gates = path.child("readinessGates");
    for (index, gate) in spec.readiness_gates.iter().flatten().enumerate() {
        let kind = &gate.condition_type;
        errors.invalid_each(
            &gates.index(index).child("conditionType"),
            kind,
            names::qualified_name(kind),
        );
    }
}

fn restart_policy(spec: &PodSpec, path: &Path<'_>, errors: &mut Errors) {
    let policy = spec.restart_policy.as_deref().unwrap_or_default();
    one_of_required(
        policy,
        &["Always", "OnFailure", "Never"],
        &path.child("restartPolicy"),
        errors,
    );
}

const DNS_POLICIES: &[&str] = &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];

fn dns(spec: &PodSpec, path: &Path<'_>, errors: &mut Errors) {
    let policy = spec.dns_policy.as_deref().unwrap_or_default();
    one_of_required(policy, DNS_POLICIES, &path.child("dnsPolicy"), errors);
    let at = path.child("dnsConfig");
    if policy == "None" {
        let nameservers = spec
            .dns_config
            .as_ref()
            .map(|config| config.nameservers.iter().flatten().count());
        match nameservers {
            None => errors.required(&at, "must provide `dnsConfig` when `dnsPolicy` is None"),
            Some(0) => {
                let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
                errors.required(&at.child("nameservers"), detail);
            }
            Some(_) => {}
        }
    }
    if let Some(config) = &spec.dns_config {
        dns_config(config, &at, errors);
    }
}

fn dns_config(config: &PodDNSConfig, path: &Path<'_>, errors: &mut Errors) {
    let nameservers = config.nameservers.as_deref().unwrap_or_default();
    let at = path.child("nameservers");
    if nameservers.len() > 3 {
        errors.invalid(&at, nameservers.to_vec(), "must not have more than 3 nameservers");
    }
    for (index, address) in nameservers.iter().enumerate() {
        errors.invalid_each(&at.index(index), address, names::ip(address));
    }
    let searches = config.searches.as_deref().unwrap_or_default();
    let at = path.child("searches");
    if searches.len() > 32 {
        errors.invalid(&at, searches.to_vec(), "must not have more than 32 search paths");
    }
    if searches.iter().map(|search| search.len() + 1).sum::<usize>() > 2049 {
        errors.invalid(
            &at,
            searches.to_vec(),
            "must not have more than 2048 characters (including spaces) in the search list",
        );
    }
    for (index, search) in searches.iter().enumerate().filter(|(_, search)| search.as_str() != ".") {
        let labels = search.strip_suffix('.').unwrap_or(search).replace('_', "a");
        errors.invalid_each(&at.index(index), search, names::dns1123_subdomain(&labels));
    }
    for (index, option) in config.options.iter().flatten().enumerate() {
        if option.name.as_deref().unwrap_or_default().is_empty() {
            errors.required(&path.child("options").index(index), "must not be empty");
        }
    }
}

fn host_aliases(spec: &PodSpec, path: &Path<'_>, errors: &mut Errors) {
    let list = path.child("hostAliases");
    for (index, alias) in spec.host_aliases.iter().flatten().enumerate() {
        let at = list.index(index);
        if alias.ip.parse::<IpAddr>().is_err() {
            errors.invalid_each(&at.child("ip"), &alias.ip, names::ip(&alias.ip));
        }
        for (index, name) in alias.hostnames.iter().flatten().enumerate() {
            let names = at.child("hostnames");
            errors.invalid_each(&names.index(index), name, names::dns1123_subdomain(name));
        }
    }
}

fn hostname(spec: &PodSpec, path: &Path<'_>, errors: &mut Errors) {
    for (field, value) in [("hostname", &spec.hostname), ("subdomain", &spec.subdomain)] {
        if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
            errors.invalid_each(&path.child(field), value, names::dns1123_label(value));
        }
    }
    if let Some(value) = &spec.hostname_override {
        let at = path.child("hostnameOverride");
        errors.invalid_each(&at, value, names::dns1123_subdomain(value));
        if value.len() > 64 {
            errors.too_long(&at, 64);
        }
        if spec.host_network == Some(true) {
            errors.forbidden(
                &path.child("hostNetwork"),
                "cannot be set to true when `hostnameOverride` is set",
            );
        }
        if spec.set_hostname_as_fqdn == Some(true) {
            errors.forbidden(
                &path.child("setHostnameAsFQDN"),
                "cannot be set to true when `hostnameOverride` is set",
            );
        }
    }
}

/// `Guaranteed`, `Burstable` or `BestEffort`, from the CPU and memory of all containers.
/// <https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/>
pub(super) fn qos_class(spec: &PodSpec) -> &'static str {
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let none = ResourceRequirements::default();
    let mut any = false;
    let mut guaranteed = true;
    for container in containers {
        let resources = container.resources.as_ref().unwrap_or(&none);
        for name in ["cpu", "memory"] {
            let amount = |list: &Option<std::collections::BTreeMap<String, _>>| {
                let amount = list.as_ref().and_then(|list| list.get(name))?;
                Quantity::try_from(amount).ok().filter(|amount| !amount.is_zero())
            };
            let (request, limit) = (amount(&resources.requests), amount(&resources.limits));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}
