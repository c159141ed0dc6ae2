//! Containers: names, images, ports, variables, mounts, resources.

use super::handlers;
use super::paths;
use super::resources::{self, Claims};
use super::security;
use super::volumes::{self, Volumes};
use crate::rules::{one_of, one_of_required};
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvFromSource, EnvVarSource, FileKeySelector, PodSpec, VolumeMount,
};
use std::collections::HashSet;

const PULL_POLICIES: &[&str] = &["Always", "IfNotPresent", "Never"];

/// What of the pod its containers may name.
pub(super) struct Context<'s> {
    pub(super) volumes: &'s Volumes<'s>,
    pub(super) claims: &'s Claims<'s>,
    pub(super) restart_policy: &'s str,
    pub(super) grace_period: Option<i64>,
    pub(super) os: Option<&'s str>,
    /// The containers' users are those of the node.
    pub(super) host_users: bool,
}

/// Containers and init containers of the pod. Names are unique among all lists.
pub(super) fn validate(spec: &PodSpec, context: &Context<'_>, path: &Path<'_>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    let list = path.child("containers");
    if spec.containers.is_empty() {
        errors.required(&list, "");
    }
    for (index, container) in spec.containers.iter().enumerate() {
        let at = list.index(index);
        common(container, context, &at, errors);
        unique(container, &mut seen, &at, errors);
        handlers::of_container(container, context, &at, errors);
        restart_policy(container, &at, errors);
    }
    host_ports(&spec.containers, &list, errors);
    let list = path.child("initContainers");
    for (index, container) in spec.init_containers.iter().flatten().enumerate() {
        let at = list.index(index);
        common(container, context, &at, errors);
        init_container(container, context, &at, errors);
        unique(container, &mut seen, &at, errors);
        host_ports(std::slice::from_ref(container), &list, errors);
    }
}

fn unique<'s>(container: &'s Container, seen: &mut HashSet<&'s str>, path: &Path<'_>, errors: &mut Errors) {
    if !container.name.is_empty() && !seen.insert(&container.name) {
        errors.duplicate(&path.child("name"), container.name.as_str());
    }
}

/// What all kinds of containers have in common.
pub(super) fn common(container: &Container, context: &Context<'_>, path: &Path<'_>, errors: &mut Errors) {
    let name = path.child("name");
    if container.name.is_empty() {
        errors.required(&name, "");
    } else {
        errors.invalid_each(&name, &container.name, names::dns1123_label(&container.name));
    }
    if container.image.as_deref().unwrap_or_default().is_empty() {
        errors.required(&path.child("image"), "");
    }
    let policy = container.termination_message_policy.as_deref().unwrap_or_default();
    let supported = ["File", "FallbackToLogsOnError"];
    one_of_required(policy, &supported, &path.child("terminationMessagePolicy"), errors);
    ports(
        container.ports.as_deref().unwrap_or_default(),
        &path.child("ports"),
        errors,
    );
    env(container, context.volumes, &path.child("env"), errors);
    env_from(
        container.env_from.as_deref().unwrap_or_default(),
        &path.child("envFrom"),
        errors,
    );
    mounts(container, context.volumes, &path.child("volumeMounts"), errors);
    devices(container, context.volumes, &path.child("volumeDevices"), errors);
    let policy = container.image_pull_policy.as_deref().unwrap_or_default();
    one_of_required(policy, PULL_POLICIES, &path.child("imagePullPolicy"), errors);
    if let Some(resources) = &container.resources {
        resources::of_container(resources, context.claims, &path.child("resources"), errors);
    }
    let policies = container.resize_policy.as_deref().unwrap_or_default();
    resources::resize_policy(policies, context.restart_policy, &path.child("resizePolicy"), errors);
    if let Some(security) = &container.security_context {
        security::container(security, context.host_users, &path.child("securityContext"), errors);
    }
}

/// When a container restarts, beside or against the pod's policy.
fn restart_policy(container: &Container, path: &Path<'_>, errors: &mut Errors) {
    let rules = container.restart_policy_rules.as_deref().unwrap_or_default();
    let at = path.child("restartPolicy");
    match container.restart_policy.as_deref() {
        None if rules.is_empty() => return,
        None => errors.required(&at, "must specify restartPolicy when restart rules are used"),
        policy => one_of(policy, &["Always", "Never", "OnFailure"], &at, errors),
    }
    let list = path.child("restartPolicyRules");
    if rules.len() > 20 {
        errors.too_long(&list, 20);
    }
    for (index, rule) in rules.iter().enumerate() {
        let at = list.index(index);
        one_of(Some(&rule.action), &["Restart"], &at.child("action"), errors);
        let codes = at.child("exitCodes");
        match &rule.exit_codes {
            None => errors.required(&codes, "must be specified"),
            Some(exit) => {
                one_of(Some(&exit.operator), &["In", "NotIn"], &codes.child("operator"), errors);
                if exit.values.as_ref().is_some_and(|values| values.len() > 255) {
                    errors.too_long(&codes.child("values"), 255);
                }
            }
        }
    }
}

/// Templates may have images that something else fills in.
pub(super) fn image_without_space(container: &Container, path: &Path<'_>, errors: &mut Errors) {
    let image = container.image.as_deref().unwrap_or_default();
    if image != image.trim() {
        errors.invalid(
            &path.child("image"),
            image,
            "must not have leading or trailing whitespace",
        );
    }
}

/// An init container that is no sidecar runs to its end: it has neither probes nor hooks.
fn init_container(container: &Container, context: &Context<'_>, path: &Path<'_>, errors: &mut Errors) {
    if container.restart_policy.as_deref() == Some("Always") {
        let rules = container.restart_policy_rules.as_ref();
        if rules.is_some_and(|rules| !rules.is_empty()) {
            let detail = "restartPolicyRules are not allowed for init containers with restart policy Always";
            errors.forbidden(&path.child("restartPolicyRules"), detail);
        }
        handlers::of_container(container, context, path, errors);
        return;
    }
    if container.restart_policy.is_some() {
        restart_policy(container, path, errors);
    }
    let set = [
        ("lifecycle", container.lifecycle.is_some()),
        ("livenessProbe", container.liveness_probe.is_some()),
        ("readinessProbe", container.readiness_probe.is_some()),
        ("startupProbe", container.startup_probe.is_some()),
    ];
    for (field, _) in set.into_iter().filter(|(_, set)| *set) {
        errors.forbidden(
            &path.child(field),
            "may not be set for init containers without restartPolicy=Always",
        );
    }
}

fn ports(ports: &[ContainerPort], path: &Path<'_>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for (index, port) in ports.iter().enumerate() {
        let at = path.index(index);
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            let messages = names::port_name(name);
            if messages.is_empty() && !seen.insert(name) {
                errors.duplicate(&at.child("name"), name);
            }
            errors.invalid_each(&at.child("name"), name, messages);
        }
        if port.container_port == 0 {
            errors.required(&at.child("containerPort"), "");
        } else {
            port_number(port.container_port, &at.child("containerPort"), errors);
        }
        if let Some(host_port) = port.host_port.filter(|port| *port != 0) {
            port_number(host_port, &at.child("hostPort"), errors);
        }
        let protocol = port.protocol.as_deref().unwrap_or_default();
        one_of_required(protocol, &["SCTP", "TCP", "UDP"], &at.child("protocol"), errors);
    }
}

pub(super) fn port_number(port: i32, path: &Path<'_>, errors: &mut Errors) {
    for message in names::port_number(port) {
        errors.invalid(path, port, message);
    }
}

/// No two containers may ask for the same port of the node.
fn host_ports(containers: &[Container], list: &Path<'_>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for (index, container) in containers.iter().enumerate() {
        let ports = list.index(index);
        let ports = ports.child("ports");
        for (index, port) in container.ports.iter().flatten().enumerate() {
            let Some(number) = port.host_port.filter(|port| *port != 0) else {
                continue;
            };
            let protocol = port.protocol.as_deref().unwrap_or_default();
            let taken = format!("{protocol}/{}/{number}", port.host_ip.as_deref().unwrap_or_default());
            if !seen.insert(taken.clone()) {
                errors.duplicate(&ports.index(index).child("hostPort"), taken);
            }
        }
    }
}

fn env(container: &Container, volumes: &Volumes<'_>, path: &Path<'_>, errors: &mut Errors) {
    for (index, variable) in container.env.iter().flatten().enumerate() {
        let at = path.index(index);
        if variable.name.is_empty() {
            errors.required(&at.child("name"), "");
        } else {
            errors.invalid_each(&at.child("name"), &variable.name, names::env_var_name(&variable.name));
        }
        if let Some(source) = &variable.value_from {
            let has_value = variable.value.as_deref().is_some_and(|value| !value.is_empty());
            env_source(source, has_value, &at.child("valueFrom"), errors);
            if let Some(reference) = &source.file_key_ref {
                let at = at.child("valueFrom");
                file_ref(reference, volumes, &at.child("fileKeyRef"), errors);
            }
        }
    }
}

/// Fields of the pod that a variable may take its value from.
const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

const ENV_RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

fn env_source(source: &EnvVarSource, has_value: bool, path: &Path<'_>, errors: &mut Errors) {
    let mut sources = usize::from(source.file_key_ref.is_some());
    if let Some(field) = &source.field_ref {
        sources += 1;
        volumes::field_ref(field, ENV_FIELDS, &path.child("fieldRef"), errors);
    }
    if let Some(resource) = &source.resource_field_ref {
        sources += 1;
        volumes::resource_ref(resource, ENV_RESOURCES, false, &path.child("resourceFieldRef"), errors);
    }
    if let Some(reference) = &source.config_map_key_ref {
        sources += 1;
        key_ref(&reference.name, &reference.key, &path.child("configMapKeyRef"), errors);
    }
    if let Some(reference) = &source.secret_key_ref {
        sources += 1;
        key_ref(&reference.name, &reference.key, &path.child("secretKeyRef"), errors);
    }
    if sources == 0 {
        let detail =
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        errors.invalid(path, "", detail);
    } else if has_value {
        errors.invalid(path, "", "may not be specified when `value` is not empty");
    } else if sources > 1 {
        errors.invalid(path, "", "may not have more than one field specified at a time");
    }
}

/// A key of a file that another container wrote.
fn file_ref(reference: &FileKeySelector, volumes: &Volumes<'_>, path: &Path<'_>, errors: &mut Errors) {
    if reference.key.is_empty() {
        errors.required(&path.child("key"), "");
    } else {
        errors.invalid_each(&path.child("key"), &reference.key, names::env_var_name(&reference.key));
    }
    let volume = reference.volume_name.as_str();
    let at = path.child("volumeName");
    if volume.is_empty() {
        errors.required(&at, "");
    } else {
        errors.invalid_each(&at, volume, names::dns1123_label(volume));
    }
    if reference.path.is_empty() {
        errors.required(&path.child("path"), "");
    } else {
        paths::no_parents(&reference.path, &path.child("path"), errors);
    }
    match volumes.get(volume) {
        None => errors.not_found(&at, volume),
        Some(source) if source.empty_dir.is_none() => {
            errors.invalid(&at, volume, "referenced volume must be of type emptyDir");
        }
        Some(_) => {}
    }
}

fn key_ref(name: &str, key: &str, path: &Path<'_>, errors: &mut Errors) {
    errors.invalid_each(&path.child("name"), name, names::dns1123_subdomain(name));
    if key.is_empty() {
        errors.required(&path.child("key"), "");
    } else {
        errors.invalid_each(&path.child("key"), key, names::config_key(key));
    }
}

fn env_from(sources: &[EnvFromSource], path: &Path<'_>, errors: &mut Errors) {
    for (index, source) in sources.iter().enumerate() {
        let at = path.index(index);
        if let Some(prefix) = source.prefix.as_deref().filter(|prefix| !prefix.is_empty()) {
            errors.invalid_each(&at.child("prefix"), prefix, names::env_var_name(prefix));
        }
        let config_map = source
            .config_map_ref
            .as_ref()
            .map(|reference| ("configMapRef", &reference.name));
        let secret = source
            .secret_ref
            .as_ref()
            .map(|reference| ("secretRef", &reference.name));
        for (field, name) in config_map.iter().chain(&secret) {
            let at = at.child(field);
            if name.is_empty() {
                errors.required(&at.child("name"), "");
            } else {
                errors.invalid_each(&at.child("name"), name, names::dns1123_subdomain(name));
            }
        }
        match (config_map, secret) {
            (None, None) => errors.invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"),
            (Some(_), Some(_)) => errors.invalid(path, "", "may not have more than one field specified at a time"),
            _ => {}
        }
    }
}

fn mounts(container: &Container, volumes: &Volumes<'_>, path: &Path<'_>, errors: &mut Errors) {
    let mounts = container.volume_mounts.as_deref().unwrap_or_default();
    let devices = container.volume_devices.as_deref().unwrap_or_default();
    for (index, mount) in mounts.iter().enumerate() {
        let at = path.index(index);
        let (at_name, at_path) = (at.child("name"), at.child("mountPath"));
        let (name, place) = (mount.name.as_str(), mount.mount_path.as_str());
        if name.is_empty() {
            errors.required(&at_name, "");
        }
        if !volumes.contains_key(name) {
            errors.not_found(&at_name, name);
        }
        if place.is_empty() {
            errors.required(&at_path, "");
        }
        if mounts[..index].iter().any(|other| other.mount_path == place) {
            errors.invalid(&at_path, place, "must be unique");
        }
        if devices.iter().any(|device| device.name == name) {
            errors.invalid(&at_name, name, "must not already exist in volumeDevices");
        }
        if devices.iter().any(|device| device.device_path == place) {
            errors.invalid(&at_path, place, "must not already exist as a path in volumeDevices");
        }
        self::mount(container, mount, &at, path, errors);
    }
}

/// Kubernetes names the list, not the mount, where these fields are wrong.
fn mount(container: &Container, mount: &VolumeMount, at: &Path<'_>, list: &Path<'_>, errors: &mut Errors) {
    let set = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    if let Some(sub_path) = set(&mount.sub_path) {
        paths::descending(&sub_path, &list.child("subPath"), errors);
    }
    if let Some(sub_path) = set(&mount.sub_path_expr) {
        if set(&mount.sub_path).is_some() {
            errors.invalid(
                &at.child("subPathExpr"),
                sub_path.as_str(),
                "subPathExpr and subPath are mutually exclusive",
            );
        }
        paths::descending(&sub_path, &list.child("subPathExpr"), errors);
    }
    if let Some(mode) = &mount.mount_propagation {
        let at = list.child("mountPropagation");
        one_of(Some(mode), &["Bidirectional", "HostToContainer", "None"], &at, errors);
        let privileged = container
            .security_context
            .as_ref()
            .is_some_and(|context| context.privileged == Some(true));
        if mode == "Bidirectional" && !privileged {
            errors.forbidden(
                &at,
                "Bidirectional mount propagation is available only to privileged containers",
            );
        }
    }
    let at = list.child("recursiveReadOnly");
    match mount.recursive_read_only.as_deref() {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if mount.read_only != Some(true) {
                errors.forbidden(&at, "may only be specified when readOnly is true");
            }
            if mount.mount_propagation.as_ref().is_some_and(|mode| mode != "None") {
                let detail = "may only be specified when mountPropagation is None or not specified";
                errors.forbidden(&at, detail);
            }
        }
        mode => one_of(mode, &["Disabled", "Enabled", "IfPossible"], &at, errors),
    }
}

fn devices(container: &Container, volumes: &Volumes<'_>, path: &Path<'_>, errors: &mut Errors) {
    let devices = container.volume_devices.as_deref().unwrap_or_default();
    let mounts = container.volume_mounts.as_deref().unwrap_or_default();
    let leads_back = |place: &str| place.split('/').any(|part| part == "..");
    for (index, device) in devices.iter().enumerate() {
        let at = path.index(index);
        let (at_name, at_path) = (at.child("name"), at.child("devicePath"));
        let (name, place) = (device.name.as_str(), device.device_path.as_str());
        if name.is_empty() {
            errors.required(&at_name, "");
        } else if devices[..index].iter().any(|other| other.name == name) {
            errors.invalid(&at_name, name, "must be unique");
        }
        match volumes.get(name) {
            None => errors.not_found(&at_name, name),
            Some(volume) if volume.persistent_volume_claim.is_none() && volume.ephemeral.is_none() => {
                let detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.invalid(&at_name, name, detail);
            }
            Some(_) => {}
        }
        if place.is_empty() {
            errors.required(&at_path, "");
        }
        let mut others = devices[..index].iter().map(|other| other.device_path.as_str());
        if !leads_back(place) && others.any(|other| other == place) {
            errors.invalid(&at_path, place, "must be unique");
        }
        if leads_back(place) {
            errors.invalid(&at_path, place, "can not contain backsteps ('..')");
        }
        if mounts.iter().any(|mount| mount.name == name) {
            errors.invalid(&at_name, name, "must not already exist in volumeMounts");
        }
        if mounts.iter().any(|mount| mount.mount_path == place) {
            errors.invalid(&at_path, place, "must not already exist as a path in volumeMounts");
        }
    }
}
