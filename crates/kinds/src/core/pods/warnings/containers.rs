//! Variables that hide each other, ports that collide, bytes in parts.

use super::fractional;
use catamaran_api::Path;
use catamaran_api::field::quote;
use k8s_openapi::api::core::v1::{Container, ContainerPort, PodSpec};

pub(super) fn all(spec: &PodSpec, path: &Path<'_>, warnings: &mut Vec<String>) {
    let lists = [
        ("initContainers", spec.init_containers.as_deref().unwrap_or_default()),
        ("containers", spec.containers.as_slice()),
    ];
    let mut ports = Vec::new();
    for (field, containers) in lists {
        let list = path.child(field);
        for (index, container) in containers.iter().enumerate() {
            let at = list.index(index);
            fractional_bytes(container, &at, warnings);
            hidden_variables(container, &at, warnings);
            let at = at.child("ports");
            let own = container.ports.iter().flatten().enumerate();
            ports.extend(own.map(|(index, port)| (at.index(index).to_string(), port)));
        }
    }
    colliding(&ports, warnings);
    same_names(&ports, warnings);
}

fn fractional_bytes(container: &Container, path: &Path<'_>, warnings: &mut Vec<String>) {
    let Some(resources) = &container.resources else { return };
    let path = path.child("resources");
    for name in ["memory", "ephemeral-storage"] {
        for (list, amounts) in [("limits", &resources.limits), ("requests", &resources.requests)] {
            if let Some(amount) = amounts.as_ref().and_then(|amounts| amounts.get(name)) {
                warnings.extend(fractional(amount, &path.child(list).key(name)));
            }
        }
    }
}

/// Of two variables with one name the last one counts, unless it contains the first; a merge keeps only one.
fn hidden_variables(container: &Container, path: &Path<'_>, warnings: &mut Vec<String>) {
    let list = path.child("env");
    let variables = container.env.as_deref().unwrap_or_default();
    for (index, variable) in variables.iter().enumerate() {
        if !variables[..index].iter().any(|other| other.name == variable.name) {
            continue;
        }
        let reference = format!("$({})", variable.name);
        let value = variable.value.as_deref().unwrap_or_default();
        if variable.value_from.is_some() || value == reference || !value.contains(&reference) {
            warnings.push(format!(
                "{}: hides previous definition of {}, which may be dropped when using apply",
                list.index(index),
                quote(&variable.name)
            ));
        }
    }
}

type Ports<'p> = [(String, &'p ContainerPort)];

fn colliding(ports: &Ports<'_>, warnings: &mut Vec<String>) {
    let ip = |port: &ContainerPort| port.host_ip.clone().unwrap_or_default();
    let host = |port: &ContainerPort| port.host_port.unwrap_or(0);
    for (index, (path, port)) in ports.iter().enumerate() {
        if !ip(port).is_empty() && host(port) == 0 {
            warnings.push(format!(
                "{path}: hostIP set without hostPort: {{Name:{} HostPort:0 ContainerPort:{} Protocol:{} HostIP:{}}}",
                port.name.as_deref().unwrap_or_default(),
                port.container_port,
                port.protocol.as_deref().unwrap_or_default(),
                ip(port)
            ));
        }
        let same =
            |other: &ContainerPort| (other.container_port, &other.protocol) == (port.container_port, &port.protocol);
        for (other_path, other) in ports[..index].iter().filter(|(_, other)| same(other)) {
            let what = if (ip(port), host(port)) == (ip(other), host(other)) {
                "duplicate"
            } else if host(port) == 0 || host(other) == 0 {
                "overlapping"
            } else if host(port) == host(other) && (ip(port).is_empty() != ip(other).is_empty()) {
                "dangerously ambiguous"
            } else {
                continue;
            };
            warnings.push(format!("{path}: {what} port definition with {other_path}"));
        }
    }
}

fn same_names(ports: &Ports<'_>, warnings: &mut Vec<String>) {
    for (index, (path, port)) in ports.iter().enumerate() {
        let Some(name) = crate::defaulting::given(port.name.as_ref()) else {
            continue;
        };
        if let Some((other, _)) = ports[..index]
            .iter()
            .find(|(_, other)| other.name.as_deref() == Some(name))
        {
            warnings.push(format!(
                "{path}: duplicate port name {} with {other}, services and probes that select ports by name will use {other}",
                quote(name)
            ));
        }
    }
}
