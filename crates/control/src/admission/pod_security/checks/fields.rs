//! Controls on single fields of security contexts.

use super::{Subject, Texts, Violation, containers_named, quoted, violation};

const DEFAULT_CAPABILITIES: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

pub(super) fn capabilities_baseline(subject: &Subject<'_>) -> Option<Violation> {
    let mut bad = Vec::new();
    let mut added = Texts::new();
    for container in subject.containers() {
        let Some(capabilities) = container.security.and_then(|context| context.capabilities.as_ref()) else {
            continue;
        };
        let mut valid = true;
        for capability in capabilities.add.iter().flatten() {
            if !DEFAULT_CAPABILITIES.contains(&capability.as_str()) {
                valid = false;
                added.insert(capability.as_str());
            }
        }
        if !valid {
            bad.push(container.name);
        }
    }
    if bad.is_empty() {
        return None;
    }
    let detail = format!(
        "{} must not include {} in securityContext.capabilities.add",
        containers_named(&bad),
        quoted(added)
    );
    violation("non-default capabilities", detail)
}

pub(super) fn capabilities_restricted_but_windows(subject: &Subject<'_>) -> Option<Violation> {
    if subject.is_windows() {
        return None;
    }
    capabilities_restricted(subject)
}

pub(super) fn capabilities_restricted(subject: &Subject<'_>) -> Option<Violation> {
    let mut keeping = Vec::new();
    let mut adding = Vec::new();
    let mut added = Texts::new();
    for container in subject.containers() {
        let Some(capabilities) = container.security.and_then(|context| context.capabilities.as_ref()) else {
            keeping.push(container.name);
            continue;
        };
        if !capabilities.drop.iter().flatten().any(|capability| capability == "ALL") {
            keeping.push(container.name);
        }
        let mut forbidden = capabilities
            .add
            .iter()
            .flatten()
            .map(String::as_str)
            .filter(|capability| *capability != "NET_BIND_SERVICE")
            .peekable();
        if forbidden.peek().is_some() {
            adding.push(container.name);
            added.extend(forbidden);
        }
    }
    let mut details = Vec::new();
    if !keeping.is_empty() {
        details.push(format!(
            "{} must set securityContext.capabilities.drop=[\"ALL\"]",
            containers_named(&keeping)
        ));
    }
    if !adding.is_empty() {
        details.push(format!(
            "{} must not include {} in securityContext.capabilities.add",
            containers_named(&adding),
            quoted(added)
        ));
    }
    if details.is_empty() {
        return None;
    }
    violation("unrestricted capabilities", details.join("; "))
}

pub(super) fn escalation_but_windows(subject: &Subject<'_>) -> Option<Violation> {
    if subject.is_windows() {
        return None;
    }
    escalation(subject)
}

pub(super) fn escalation(subject: &Subject<'_>) -> Option<Violation> {
    let bad: Vec<&str> = subject
        .containers()
        .filter(|container| {
            container
                .security
                .and_then(|context| context.allow_privilege_escalation)
                .unwrap_or(true)
        })
        .map(|container| container.name)
        .collect();
    if bad.is_empty() {
        return None;
    }
    let detail = format!(
        "{} must set securityContext.allowPrivilegeEscalation=false",
        containers_named(&bad)
    );
    violation("allowPrivilegeEscalation != false", detail)
}

pub(super) fn privileged(subject: &Subject<'_>) -> Option<Violation> {
    let bad: Vec<&str> = subject
        .containers()
        .filter(|container| container.security.and_then(|context| context.privileged) == Some(true))
        .map(|container| container.name)
        .collect();
    if bad.is_empty() {
        return None;
    }
    let detail = format!(
        "{} must not set securityContext.privileged=true",
        containers_named(&bad)
    );
    violation("privileged", detail)
}

pub(super) fn proc_mount_on_host(subject: &Subject<'_>) -> Option<Violation> {
    if subject.has_own_users() {
        return None;
    }
    proc_mount(subject)
}

pub(super) fn proc_mount(subject: &Subject<'_>) -> Option<Violation> {
    let mut bad = Vec::new();
    let mut types = Texts::new();
    for container in subject.containers() {
        let mount = container.security.and_then(|context| context.proc_mount.as_deref());
        if let Some(mount) = mount.filter(|mount| *mount != "Default") {
            bad.push(container.name);
            types.insert(mount);
        }
    }
    if bad.is_empty() {
        return None;
    }
    let detail = format!(
        "{} must not set securityContext.procMount to {}",
        containers_named(&bad),
        quoted(types)
    );
    violation("procMount", detail)
}

const SYSCTLS_1_0: &[&str] = &[
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
];
const SYSCTLS_1_27: &[&str] = &["net.ipv4.ip_local_reserved_ports"];
const SYSCTLS_1_29: &[&str] = &[
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
];
const SYSCTLS_1_32: &[&str] = &["net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"];

pub(super) fn sysctls_1_0(subject: &Subject<'_>) -> Option<Violation> {
    sysctls(subject, &[SYSCTLS_1_0])
}

pub(super) fn sysctls_1_27(subject: &Subject<'_>) -> Option<Violation> {
    sysctls(subject, &[SYSCTLS_1_0, SYSCTLS_1_27])
}

pub(super) fn sysctls_1_29(subject: &Subject<'_>) -> Option<Violation> {
    sysctls(subject, &[SYSCTLS_1_0, SYSCTLS_1_27, SYSCTLS_1_29])
}

pub(super) fn sysctls_1_32(subject: &Subject<'_>) -> Option<Violation> {
    sysctls(subject, &[SYSCTLS_1_0, SYSCTLS_1_27, SYSCTLS_1_29, SYSCTLS_1_32])
}

fn sysctls(subject: &Subject<'_>, allowed: &[&[&str]]) -> Option<Violation> {
    let context = subject.spec.security_context.as_ref()?;
    let bad: Vec<&str> = context
        .sysctls
        .iter()
        .flatten()
        .map(|sysctl| sysctl.name.as_str())
        .filter(|name| !allowed.iter().any(|list| list.contains(name)))
        .collect();
    if bad.is_empty() {
        return None;
    }
    violation("forbidden sysctls", bad.join(", "))
}
