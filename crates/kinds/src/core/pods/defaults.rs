//! What a pod means where its author said nothing, as Kubernetes v1.35 fills it in. Written to the object, so that everyone who
//! reads it later agrees.

use super::images::pull_policy;
use crate::core::amounts::is_huge_page;
use crate::core::volume_sources;
use crate::defaulting::{number, text};
use crate::quota::{self, Counting};
use k8s_openapi::api::core::v1::{
    Container, EnvVar, EphemeralContainer, HTTPGetAction, LifecycleHandler, ObjectFieldSelector, Pod, PodSpec,
    PodTemplateSpec, Probe, ResourceFieldSelector, Volume,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

pub(super) fn pod(pod: &mut Pod) {
    if let Some(status) = &mut pod.status {
        super::status::agree_on_addresses(status);
    }
    let Some(spec) = &mut pod.spec else { return };
    self::spec(spec);
    spec.enable_service_links.get_or_insert(true);
    let host_network = spec.host_network == Some(true);
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        requests_from_limits(container);
        if host_network {
            host_ports(container);
        }
    }
    if spec.resources.is_some() {
        resources_of_all(pod);
    }
}

/// What is stated for the pod as a whole is completed from what its containers state, and requests from limits.
fn resources_of_all(pod: &mut Pod) {
    let (requests, limits) = {
        let mut alone = pod.clone();
        if let Some(spec) = &mut alone.spec {
            spec.resources = None;
        }
        (
            quota::pod_requests(&alone, Counting::default()),
            quota::pod_limits(&alone, Counting::default()),
        )
    };
    let Some(own) = pod.spec.as_mut().and_then(|spec| spec.resources.as_mut()) else {
        return;
    };
    let stated = |list: &Option<BTreeMap<String, Quantity>>| list.as_ref().is_some_and(|list| !list.is_empty());
    if stated(&own.limits) || stated(&own.requests) {
        for (name, quantity) in quota::to_wire(&limits) {
            let requested = own.requests.as_ref().is_some_and(|own| own.contains_key(&name));
            if is_huge_page(&name) && !requested {
                own.limits.get_or_insert_default().entry(name).or_insert(quantity);
            }
        }
    }
    let Some(limits) = own.limits.clone().filter(|limits| !limits.is_empty()) else {
        return;
    };
    let asked = quota::to_wire(&requests).into_iter();
    let asked = asked.filter(|(name, _)| matches!(name.as_str(), "cpu" | "memory"));
    let bounded = limits.into_iter();
    let bounded = bounded.filter(|(name, _)| matches!(name.as_str(), "cpu" | "memory") || is_huge_page(name));
    for (name, quantity) in asked.chain(bounded) {
        own.requests.get_or_insert_default().entry(name).or_insert(quantity);
    }
}

/// What a template means. Less is written than in a pod: what is added to pods only with a later release must not make
/// every old template look changed.
pub(super) fn template(template: &mut PodTemplateSpec) {
    template.metadata.get_or_insert_default();
    self::spec(template.spec.get_or_insert_default());
}

fn spec(spec: &mut PodSpec) {
    text(&mut spec.dns_policy, "ClusterFirst");
    text(&mut spec.restart_policy, "Always");
    text(&mut spec.scheduler_name, "default-scheduler");
    spec.security_context.get_or_insert_default();
    spec.termination_grace_period_seconds.get_or_insert(30);
    service_account(spec);
    for volume in spec.volumes.iter_mut().flatten() {
        self::volume(volume);
    }
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        self::container(container);
    }
    for container in spec.ephemeral_containers.iter_mut().flatten() {
        ephemeral(container);
    }
}

/// `serviceAccount` is the old name of `serviceAccountName`; both are kept alike.
fn service_account(spec: &mut PodSpec) {
    let named = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
    let name = named(&spec.service_account_name).or_else(|| named(&spec.service_account));
    if name.is_some() {
        spec.service_account_name.clone_from(&name);
        spec.service_account = name;
    }
}

fn container(container: &mut Container) {
    let image = container.image.as_deref().unwrap_or_default();
    text(&mut container.image_pull_policy, pull_policy(image));
    text(&mut container.termination_message_path, "/dev/termination-log");
    text(&mut container.termination_message_policy, "File");
    container.resources.get_or_insert_default();
    for port in container.ports.iter_mut().flatten() {
        text(&mut port.protocol, "TCP");
    }
    for variable in container.env.iter_mut().flatten() {
        env(variable);
    }
    let probes = [
        &mut container.liveness_probe,
        &mut container.readiness_probe,
        &mut container.startup_probe,
    ];
    probes.into_iter().flatten().for_each(probe);
    if let Some(lifecycle) = &mut container.lifecycle {
        let hooks = [&mut lifecycle.post_start, &mut lifecycle.pre_stop];
        hooks.into_iter().flatten().for_each(hook);
    }
}

/// An ephemeral container has the fields of any other and takes its defaults.
fn ephemeral(ephemeral: &mut EphemeralContainer) {
    let image = ephemeral.image.as_deref().unwrap_or_default();
    text(&mut ephemeral.image_pull_policy, pull_policy(image));
    text(&mut ephemeral.termination_message_path, "/dev/termination-log");
    text(&mut ephemeral.termination_message_policy, "File");
    ephemeral.resources.get_or_insert_default();
    ephemeral.env.iter_mut().flatten().for_each(env);
}

fn requests_from_limits(container: &mut Container) {
    let Some(resources) = &mut container.resources else {
        return;
    };
    let Some(limits) = resources.limits.clone().filter(|limits| !limits.is_empty()) else {
        return;
    };
    let requests = resources.requests.get_or_insert_default();
    for (name, limit) in limits {
        requests.entry(name).or_insert(limit);
    }
}

fn host_ports(container: &mut Container) {
    for port in container.ports.iter_mut().flatten() {
        number(&mut port.host_port, port.container_port);
    }
}

fn env(variable: &mut EnvVar) {
    let Some(source) = &mut variable.value_from else { return };
    if let Some(field) = &mut source.field_ref {
        field_ref(field);
    }
    if let Some(resource) = &mut source.resource_field_ref {
        resource_ref(resource);
    }
}

fn field_ref(field: &mut ObjectFieldSelector) {
    text(&mut field.api_version, "v1");
}

fn resource_ref(resource: &mut ResourceFieldSelector) {
    resource.divisor.get_or_insert_with(|| Quantity("0".to_owned()));
}

fn probe(probe: &mut Probe) {
    number(&mut probe.timeout_seconds, 1);
    number(&mut probe.period_seconds, 10);
    number(&mut probe.success_threshold, 1);
    number(&mut probe.failure_threshold, 3);
    if let Some(get) = &mut probe.http_get {
        http_get(get);
    }
    if let Some(grpc) = &mut probe.grpc {
        grpc.service.get_or_insert_default();
    }
}

fn hook(hook: &mut LifecycleHandler) {
    if let Some(get) = &mut hook.http_get {
        http_get(get);
    }
}

fn http_get(get: &mut HTTPGetAction) {
    text(&mut get.path, "/");
    text(&mut get.scheme, "HTTP");
}

/// `rw-r--r--`
const FILE_MODE: i32 = 0o644;

fn volume(volume: &mut Volume) {
    if let Some(source) = &mut volume.config_map {
        source.default_mode.get_or_insert(FILE_MODE);
    } else if let Some(source) = &mut volume.secret {
        source.default_mode.get_or_insert(FILE_MODE);
    } else if let Some(source) = &mut volume.downward_api {
        source.default_mode.get_or_insert(FILE_MODE);
        for item in source.items.iter_mut().flatten() {
            item.field_ref.iter_mut().for_each(field_ref);
            item.resource_field_ref.iter_mut().for_each(resource_ref);
        }
    } else if let Some(source) = &mut volume.projected {
        source.default_mode.get_or_insert(FILE_MODE);
        for projection in source.sources.iter_mut().flatten() {
            for item in projection
                .downward_api
                .iter_mut()
                .flat_map(|source| source.items.iter_mut().flatten())
            {
                item.field_ref.iter_mut().for_each(field_ref);
                item.resource_field_ref.iter_mut().for_each(resource_ref);
            }
            if let Some(token) = &mut projection.service_account_token {
                token.expiration_seconds.get_or_insert(3600);
            }
        }
    } else if let Some(source) = &mut volume.host_path {
        source.type_.get_or_insert_default();
    } else if let Some(source) = &mut volume.image {
        let reference = source.reference.as_deref().unwrap_or_default();
        text(&mut source.pull_policy, pull_policy(reference));
    } else if let Some(template) = volume
        .ephemeral
        .as_mut()
        .and_then(|source| source.volume_claim_template.as_mut())
    {
        template.spec.volume_mode.get_or_insert_with(|| "Filesystem".to_owned());
    } else if let Some(source) = &mut volume.iscsi {
        text(&mut source.iscsi_interface, "default");
    } else if let Some(source) = &mut volume.rbd {
        text(&mut source.pool, "rbd");
        text(&mut source.user, "admin");
        text(&mut source.keyring, "/etc/ceph/keyring");
    } else if let Some(source) = &mut volume.azure_disk {
        volume_sources::default_azure_disk(source);
    } else if let Some(source) = &mut volume.scale_io {
        text(&mut source.storage_mode, "ThinProvisioned");
        text(&mut source.fs_type, "xfs");
    } else if has_no_source(volume) {
        volume.empty_dir = Some(Default::default());
    }
}

fn has_no_source(volume: &Volume) -> bool {
    *volume
        == Volume {
            name: volume.name.clone(),
            ..Default::default()
        }
}
