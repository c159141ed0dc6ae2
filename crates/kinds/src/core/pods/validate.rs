//! Is this a pod? Field paths and sentences are those of Kubernetes, which people search for.

use super::{containers, ephemeral, resources, scheduling, security, volumes, windows};
use crate::defaulting::given;
use crate::rules::{one_of, one_of_required};
use catamaran_api::quantity::Quantity;
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::core::v1::{Pod, PodDNSConfig, PodSpec, ResourceRequirements};
use std::net::IpAddr;

pub(super) fn pod(pod: &Pod, errors: &mut Errors) {
    let no_spec = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&no_spec);
    let path = Path::new("spec");
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    self::spec(spec, Place::Pod, name, &path, errors);
    if given(spec.service_account_name.as_ref()).is_none() {
        tokens_without_account(spec, &path.child("volumes"), errors);
    }
    let lists = [
        ("containers", spec.containers.as_slice()),
        ("initContainers", spec.init_containers.as_deref().unwrap_or_default()),
    ];
    for (field, containers) in lists {
        let list = path.child(field);
        for (index, container) in containers.iter().enumerate() {
            containers::image_without_space(container, &list.index(index), errors);
        }
    }
}

/// What only a new pod must not have.
pub(super) fn new(pod: &Pod, errors: &mut Errors) {
    let no_spec = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&no_spec);
    let path = Path::new("spec");
    if spec.ephemeral_containers.as_ref().is_some_and(|list| !list.is_empty()) {
        errors.forbidden(&path.child("ephemeralContainers"), "cannot be set on create");
    }
    let node = given(spec.node_name.as_ref());
    if node.is_some() && spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty()) {
        let detail = "cannot be set until all schedulingGates have been cleared";
        errors.forbidden(&path.child("nodeName"), detail);
    }
    let annotations = pod.metadata.annotations.as_ref();
    if let Some(mirror) = annotations.and_then(|annotations| annotations.get(super::update::MIRROR))
        && node.is_none()
    {
        let path = Path::new("metadata");
        let path = path.child("annotations");
        let detail = "must set spec.nodeName if mirror pod annotation is set";
        errors.invalid(&path.key(super::update::MIRROR), mirror.as_str(), detail);
    }
}

fn tokens_without_account(spec: &PodSpec, path: &Path<'_>, errors: &mut Errors) {
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        let at = path.index(index);
        let at = at.child("projected");
        let list = at.child("sources");
        let sources = volume
            .projected
            .iter()
            .flat_map(|source| source.sources.iter().flatten());
        for (index, _) in sources
            .enumerate()
            .filter(|(_, source)| source.service_account_token.is_some())
        {
            let detail = "must not be specified when serviceAccountName is not set";
            errors.forbidden(&list.index(index).child("serviceAccountToken"), detail);
        }
    }
}

/// Where a spec stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Pod,
    Template,
}

/// `name` is that of the pod, empty if it has none yet.
pub(super) fn spec(spec: &PodSpec, place: Place, name: &str, path: &Path<'_>, errors: &mut Errors) {
    let volumes = volumes::validate(spec, place, name, &path.child("volumes"), errors);
    let claims = resources::claims(spec, &path.child("resourceClaims"), errors);
    let context = containers::Context {
        volumes: &volumes,
        claims: &claims,
        restart_policy: spec.restart_policy.as_deref().unwrap_or_default(),
        grace_period: spec.termination_grace_period_seconds,
        os: spec.os.as_ref().map(|os| os.name.as_str()),
        host_users: spec.host_users != Some(false),
    };
    containers::validate(spec, &context, path, errors);
    ephemeral::validate(spec, &context, &path.child("ephemeralContainers"), errors);
    resources::of_pod(spec, path, errors);
    host_network(spec, place, &path.child("containers"), errors);
    restart_policy(spec, path, errors);
    security::pod(spec, path, errors);
    scheduling::validate(spec, path, errors);
    dns(spec, path, errors);
    windows::host_processes(spec, path, errors);
    security::host_users(spec, path, errors);
    hostname(spec, path, errors);
    host_aliases(spec, path, errors);
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
    ];
    for (field, value) in subdomain_names {
        if let Some(value) = given(value.as_ref()) {
            errors.invalid_each(&path.child(field), value, names::dns1123_subdomain(value));
        }
    }
    // These two, unlike the others, are empty only if somebody wrote so.
    if let Some(class) = &spec.runtime_class_name {
        let at = path.child("runtimeClassName");
        errors.invalid_each(&at, class, names::dns1123_subdomain(class));
    }
    if let Some(policy) = &spec.preemption_policy {
        let supported = ["PreemptLowerPriority", "Never"];
        one_of_required(policy, &supported, &path.child("preemptionPolicy"), errors);
    }
    if let Some(overhead) = &spec.overhead {
        let overhead = ResourceRequirements {
            limits: Some(overhead.clone()),
            ..Default::default()
        };
        resources::of_container(&overhead, &Default::default(), &path.child("overhead"), errors);
    }
    if let Some(os) = &spec.os {
        let at = path.child("os");
        if os.name.is_empty() {
            errors.required(&at.child("name"), "");
        } else {
            one_of(Some(&os.name), &["linux", "windows"], &at, errors);
        }
    }
    windows::by_system(spec, path, errors);
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

/// On the network of the node a port is what it is. A template may leave it to the pod.
fn host_network(spec: &PodSpec, place: Place, list: &Path<'_>, errors: &mut Errors) {
    if spec.host_network != Some(true) {
        return;
    }
    for (index, container) in spec.containers.iter().enumerate() {
        let ports = list.index(index);
        let ports = ports.child("ports");
        for (index, port) in container.ports.iter().flatten().enumerate() {
            let host = port.host_port.unwrap_or(0);
            if (place == Place::Pod || host != 0) && host != port.container_port {
                let detail = "must match `containerPort` when `hostNetwork` is true";
                errors.invalid(&ports.index(index).child("hostPort"), host, detail);
            }
        }
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
    if searches.join(" ").len() > 2048 {
        errors.invalid(
            &at,
            searches.to_vec(),
            "must not have more than 2048 characters (including spaces) in the search list",
        );
    }
    for (index, search) in searches.iter().enumerate().filter(|(_, search)| search.as_str() != ".") {
        let search = search.strip_suffix('.').unwrap_or(search);
        errors.invalid_each(
            &at.index(index),
            search,
            names::dns1123_subdomain_with_underscore(search),
        );
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
    let Some(value) = &spec.hostname_override else { return };
    let at = path.child("hostnameOverride");
    if spec.set_hostname_as_fqdn == Some(true) {
        errors.forbidden(&at, "may not be specified when setHostnameAsFQDN is true");
    }
    if spec.host_network == Some(true) {
        errors.forbidden(&at, "may not be specified when hostNetwork is true");
    }
    if value.len() > 64 {
        errors.too_long(&at, 64);
    }
    errors.invalid_each(&at, value, names::dns1123_subdomain(value));
}

/// `Guaranteed`, `Burstable` or `BestEffort`, from the CPU and memory of all containers.
/// <https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/>
pub(super) fn qos_class(spec: &PodSpec) -> &'static str {
    let none = ResourceRequirements::default();
    let mut all: Vec<&ResourceRequirements> = Vec::new();
    // What the whole pod asks for says it all.
    match &spec.resources {
        Some(resources) if *resources != none => all.push(resources),
        _ => {
            let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
            all.extend(containers.map(|container| container.resources.as_ref().unwrap_or(&none)));
        }
    }
    let mut any = false;
    let mut guaranteed = true;
    for resources in all {
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
