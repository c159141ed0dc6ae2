//! The Pod Security Standards: every control, the versions it changed in, and what it says when it is violated.
//!
//! <https://kubernetes.io/docs/concepts/security/pod-security-standards/>

mod fields;
mod host;
mod profiles;
mod users;
mod volumes;

use super::policy::{Level, LevelVersion, Version};
use k8s_openapi::api::core::v1::{ContainerPort, Lifecycle, PodSpec, Probe, SecurityContext};
use std::collections::{BTreeMap, BTreeSet};

/// The newest version in which a control changed; later ones, and `latest`, are the same.
const NEWEST: u32 = 35;

/// What a control looks at.
pub(super) struct Subject<'a> {
    pub(super) annotations: &'a BTreeMap<String, String>,
    pub(super) spec: &'a PodSpec,
}

/// A violation: what is wrong, and where. The second may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) reason: String,
    pub(super) detail: String,
}

type Run = fn(&Subject<'_>) -> Option<Violation>;

/// One control.
struct Check {
    id: &'static str,
    /// Versions from which on another rule holds, ascending.
    since: &'static [(u32, Run)],
    /// For restricted controls: the baseline control that this one is stricter than and stands in for.
    overrides: &'static str,
}

impl Check {
    const fn new(id: &'static str, since: &'static [(u32, Run)]) -> Check {
        Check {
            id,
            since,
            overrides: "",
        }
    }

    const fn instead_of(self, overrides: &'static str) -> Check {
        Check { overrides, ..self }
    }

    fn at(&self, minor: u32) -> Option<Run> {
        let latest = self.since.iter().rev().find(|(since, _)| *since <= minor)?;
        Some(latest.1)
    }
}

/// Sorted by name in byte order, which is the order of the messages.
static BASELINE: &[Check] = &[
    Check::new("appArmorProfile", &[(0, profiles::app_armor)]),
    Check::new("capabilities_baseline", &[(0, fields::capabilities_baseline)]),
    Check::new("hostNamespaces", &[(0, host::namespaces)]),
    Check::new("hostPathVolumes", &[(0, volumes::host_path)]),
    Check::new("hostPorts", &[(0, host::ports)]),
    Check::new("hostProbesAndHostLifecycle", &[(34, host::probes_and_lifecycle)]),
    Check::new("privileged", &[(0, fields::privileged)]),
    Check::new(
        "procMount",
        &[(0, fields::proc_mount), (35, fields::proc_mount_on_host)],
    ),
    Check::new(
        "seLinuxOptions",
        &[(0, profiles::se_linux), (31, profiles::se_linux_with_engine)],
    ),
    Check::new(
        "seccompProfile_baseline",
        &[(0, profiles::seccomp_annotations), (19, profiles::seccomp_baseline)],
    ),
    Check::new(
        "sysctls",
        &[
            (0, fields::sysctls_1_0),
            (27, fields::sysctls_1_27),
            (29, fields::sysctls_1_29),
            (32, fields::sysctls_1_32),
        ],
    ),
    Check::new("windowsHostProcess", &[(0, host::windows_process)]),
];

static RESTRICTED: &[Check] = &[
    Check::new(
        "allowPrivilegeEscalation",
        &[(8, fields::escalation), (25, fields::escalation_but_windows)],
    ),
    Check::new(
        "capabilities_restricted",
        &[
            (22, fields::capabilities_restricted),
            (25, fields::capabilities_restricted_but_windows),
        ],
    )
    .instead_of("capabilities_baseline"),
    Check::new("procMount_restricted", &[(35, fields::proc_mount)]).instead_of("procMount"),
    Check::new("restrictedVolumes", &[(0, volumes::restricted)]).instead_of("hostPathVolumes"),
    Check::new("runAsNonRoot", &[(0, users::non_root), (35, users::non_root_on_host)]),
    Check::new(
        "runAsUser",
        &[(23, users::not_user_zero), (35, users::not_user_zero_on_host)],
    ),
    Check::new(
        "seccompProfile_restricted",
        &[
            (19, profiles::seccomp_restricted),
            (25, profiles::seccomp_restricted_but_windows),
        ],
    )
    .instead_of("seccompProfile_baseline"),
];

/// Everything about a pod that its level forbids.
pub(super) fn violations(policy: LevelVersion, subject: &Subject<'_>) -> Vec<Violation> {
    let minor = match policy.version {
        Version::Minor(minor) => minor.min(NEWEST),
        Version::Latest => NEWEST,
    };
    let restricted: &[Check] = match policy.level {
        Level::Privileged => return Vec::new(),
        Level::Baseline => &[],
        Level::Restricted => RESTRICTED,
    };
    let overridden = |id: &str| {
        restricted
            .iter()
            .any(|check| check.overrides == id && check.at(minor).is_some())
    };
    BASELINE
        .iter()
        .filter(|check| !overridden(check.id))
        .chain(restricted)
        .filter_map(|check| check.at(minor)?(subject))
        .collect()
}

/// `host ports (8080), privileged`.
pub(super) fn in_detail(violations: &[Violation]) -> String {
    let each: Vec<String> = violations
        .iter()
        .map(|violation| {
            if violation.detail.is_empty() {
                violation.reason.clone()
            } else {
                format!("{} ({})", violation.reason, violation.detail)
            }
        })
        .collect();
    each.join(", ")
}

/// `host ports, privileged`.
pub(super) fn in_short(violations: &[Violation]) -> String {
    let each: Vec<&str> = violations.iter().map(|violation| violation.reason.as_str()).collect();
    each.join(", ")
}

fn violation(reason: &str, detail: String) -> Option<Violation> {
    Some(Violation {
        reason: reason.to_owned(),
        detail,
    })
}

/// What the three sorts of containers have in common.
struct Container<'a> {
    name: &'a str,
    security: Option<&'a SecurityContext>,
    ports: &'a [ContainerPort],
    probes: [Option<&'a Probe>; 3],
    lifecycle: Option<&'a Lifecycle>,
}

impl Subject<'_> {
    fn containers(&self) -> impl Iterator<Item = Container<'_>> {
        let plain = self.spec.init_containers.iter().flatten().chain(&self.spec.containers);
        let plain = plain.map(|container| Container {
            name: &container.name,
            security: container.security_context.as_ref(),
            ports: container.ports.as_deref().unwrap_or_default(),
            probes: [
                container.liveness_probe.as_ref(),
                container.readiness_probe.as_ref(),
                container.startup_probe.as_ref(),
            ],
            lifecycle: container.lifecycle.as_ref(),
        });
        let ephemeral = self
            .spec
            .ephemeral_containers
            .iter()
            .flatten()
            .map(|container| Container {
                name: &container.name,
                security: container.security_context.as_ref(),
                ports: container.ports.as_deref().unwrap_or_default(),
                probes: [
                    container.liveness_probe.as_ref(),
                    container.readiness_probe.as_ref(),
                    container.startup_probe.as_ref(),
                ],
                lifecycle: container.lifecycle.as_ref(),
            });
        plain.chain(ephemeral)
    }

    fn is_windows(&self) -> bool {
        self.spec.os.as_ref().is_some_and(|os| os.name == "windows")
    }

    /// Users in the pod are not those of the host.
    fn has_own_users(&self) -> bool {
        self.spec.host_users == Some(false)
    }
}

/// `"a", "b"`.
fn quoted<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let each: Vec<String> = items.into_iter().map(|item| format!("\"{}\"", item.as_ref())).collect();
    each.join(", ")
}

/// `container "a"`, `containers "a", "b"`.
fn containers_named(names: &[&str]) -> String {
    format!("{} {}", plural(names.len(), "container", "containers"), quoted(names))
}

fn plural<'a>(count: usize, one: &'a str, many: &'a str) -> &'a str {
    if count == 1 { one } else { many }
}

/// Who sets something bad: the pod, containers, or both.
struct Setters<'a> {
    pod: bool,
    containers: Vec<&'a str>,
}

impl Setters<'_> {
    /// `pod and container "a"`; `None` if nobody does.
    fn shown(&self) -> Option<String> {
        let mut parts = Vec::new();
        if self.pod {
            parts.push("pod".to_owned());
        }
        if !self.containers.is_empty() {
            parts.push(containers_named(&self.containers));
        }
        (!parts.is_empty()).then(|| parts.join(" and "))
    }
}

type Texts<'a> = BTreeSet<&'a str>;
