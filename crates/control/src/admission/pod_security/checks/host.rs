//! Controls on what a pod has of its host.

use super::{Setters, Subject, Texts, Violation, containers_named, plural, quoted, violation};
use k8s_openapi::api::core::v1::{LifecycleHandler, Probe};
use std::collections::BTreeSet;

pub(super) fn namespaces(subject: &Subject<'_>) -> Option<Violation> {
    let spec = subject.spec;
    let shared: Vec<&str> = [
        ("hostNetwork=true", spec.host_network),
        ("hostPID=true", spec.host_pid),
        ("hostIPC=true", spec.host_ipc),
    ]
    .iter()
    .filter(|(_, value)| *value == Some(true))
    .map(|(text, _)| *text)
    .collect();
    if shared.is_empty() {
        return None;
    }
    violation("host namespaces", shared.join(", "))
}

pub(super) fn ports(subject: &Subject<'_>) -> Option<Violation> {
    let mut bad = Vec::new();
    // As texts, because that is how they are sorted.
    let mut ports = BTreeSet::new();
    for container in subject.containers() {
        let used: Vec<String> = container
            .ports
            .iter()
            .filter_map(|port| port.host_port)
            .filter(|port| *port != 0)
            .map(|port| port.to_string())
            .collect();
        if !used.is_empty() {
            bad.push(container.name);
            ports.extend(used);
        }
    }
    if bad.is_empty() {
        return None;
    }
    let detail = format!(
        "{} {} {} {}",
        containers_named(&bad),
        plural(bad.len(), "uses", "use"),
        plural(ports.len(), "hostPort", "hostPorts"),
        ports.into_iter().collect::<Vec<_>>().join(", ")
    );
    violation("hostPort", detail)
}

pub(super) fn probes_and_lifecycle(subject: &Subject<'_>) -> Option<Violation> {
    let mut bad = Texts::new();
    let mut hosts = Texts::new();
    for container in subject.containers() {
        let handlers = container
            .lifecycle
            .iter()
            .flat_map(|lifecycle| [lifecycle.post_start.as_ref(), lifecycle.pre_stop.as_ref()])
            .flatten()
            .flat_map(of_handler);
        let probes = container.probes.into_iter().flatten().flat_map(of_probe);
        let mut used = handlers.chain(probes).filter(|host| !host.is_empty()).peekable();
        if used.peek().is_some() {
            bad.insert(container.name);
            hosts.extend(used);
        }
    }
    if bad.is_empty() {
        return None;
    }
    let bad: Vec<&str> = bad.into_iter().collect();
    let detail = format!(
        "{} {} {} {}",
        containers_named(&bad),
        plural(bad.len(), "uses", "use"),
        plural(hosts.len(), "probe or lifecycle host", "probe or lifecycle hosts"),
        quoted(hosts)
    );
    violation("probe or lifecycle host", detail)
}

fn of_probe(probe: &Probe) -> Vec<&str> {
    let http = probe.http_get.as_ref().and_then(|action| action.host.as_deref());
    let tcp = probe.tcp_socket.as_ref().and_then(|action| action.host.as_deref());
    http.into_iter().chain(tcp).collect()
}

fn of_handler(handler: &LifecycleHandler) -> Vec<&str> {
    let http = handler.http_get.as_ref().and_then(|action| action.host.as_deref());
    let tcp = handler.tcp_socket.as_ref().and_then(|action| action.host.as_deref());
    http.into_iter().chain(tcp).collect()
}

pub(super) fn windows_process(subject: &Subject<'_>) -> Option<Violation> {
    let context = subject.spec.security_context.as_ref();
    let setters = Setters {
        pod: context.and_then(|context| context.windows_options.as_ref()?.host_process) == Some(true),
        containers: subject
            .containers()
            .filter(|container| {
                container
                    .security
                    .and_then(|context| context.windows_options.as_ref()?.host_process)
                    == Some(true)
            })
            .map(|container| container.name)
            .collect(),
    };
    let detail = format!(
        "{} must not set securityContext.windowsOptions.hostProcess=true",
        setters.shown()?
    );
    violation("hostProcess", detail)
}
