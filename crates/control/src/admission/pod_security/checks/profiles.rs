//! Controls on the profiles of the kernel's security modules: AppArmor, SELinux, seccomp.

use super::{Setters, Subject, Texts, Violation, containers_named, plural, quoted, violation};
use k8s_openapi::api::core::v1::SELinuxOptions;
use std::collections::BTreeSet;

const APP_ARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
const SECCOMP_POD_ANNOTATION: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER_ANNOTATION: &str = "container.seccomp.security.alpha.kubernetes.io/";

/// A profile that confines.
fn confines(type_: &str) -> bool {
    matches!(type_, "RuntimeDefault" | "Localhost")
}

pub(super) fn app_armor(subject: &Subject<'_>) -> Option<Violation> {
    let mut values = Texts::new();
    let bad = |type_: &str| !confines(type_);
    let pod_type = subject
        .spec
        .security_context
        .as_ref()
        .and_then(|context| context.app_armor_profile.as_ref())
        .map(|profile| profile.type_.as_str())
        .filter(|type_| bad(type_));
    values.extend(pod_type);
    let mut setters = Setters {
        pod: pod_type.is_some(),
        containers: Vec::new(),
    };
    for container in subject.containers() {
        let profile = container
            .security
            .and_then(|context| context.app_armor_profile.as_ref());
        if let Some(type_) = profile.map(|profile| profile.type_.as_str()).filter(|type_| bad(type_)) {
            setters.containers.push(container.name);
            values.insert(type_);
        }
    }
    let annotations: BTreeSet<String> = subject
        .annotations
        .iter()
        .filter(|(key, value)| {
            key.starts_with(APP_ARMOR_ANNOTATION)
                && !(value.is_empty() || value.as_str() == "runtime/default" || value.starts_with("localhost/"))
        })
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    let mut who: Vec<String> = setters.shown().into_iter().collect();
    if !annotations.is_empty() {
        who.push(plural(annotations.len(), "annotation", "annotations").to_owned());
    }
    if who.is_empty() {
        return None;
    }
    let count = values.len() + annotations.len();
    let shown = values.into_iter().chain(annotations.iter().map(String::as_str));
    let detail = format!(
        "{} must not set AppArmor profile type to {}",
        who.join(" and "),
        quoted(shown)
    );
    violation(
        plural(count, "forbidden AppArmor profile", "forbidden AppArmor profiles"),
        detail,
    )
}

pub(super) fn se_linux(subject: &Subject<'_>) -> Option<Violation> {
    se_linux_of_types(subject, &["", "container_t", "container_init_t", "container_kvm_t"])
}

pub(super) fn se_linux_with_engine(subject: &Subject<'_>) -> Option<Violation> {
    let allowed = [
        "",
        "container_t",
        "container_init_t",
        "container_kvm_t",
        "container_engine_t",
    ];
    se_linux_of_types(subject, &allowed)
}

/// What is wrong about SELinux options, gathered over a pod.
#[derive(Default)]
struct SeLinuxFaults<'a> {
    types: Texts<'a>,
    user: bool,
    role: bool,
}

impl<'a> SeLinuxFaults<'a> {
    fn find(&mut self, options: &'a SELinuxOptions, allowed: &[&str]) -> bool {
        let set = |field: &Option<String>| field.as_deref().is_some_and(|text| !text.is_empty());
        let type_ = options.type_.as_deref().unwrap_or_default();
        let bad_type = !allowed.contains(&type_);
        if bad_type {
            self.types.insert(type_);
        }
        let (user, role) = (set(&options.user), set(&options.role));
        self.user |= user;
        self.role |= role;
        bad_type || user || role
    }
}

fn se_linux_of_types(subject: &Subject<'_>, allowed: &[&str]) -> Option<Violation> {
    let mut faults = SeLinuxFaults::default();
    let context = subject.spec.security_context.as_ref();
    let mut setters = Setters {
        pod: context
            .and_then(|context| context.se_linux_options.as_ref())
            .is_some_and(|options| faults.find(options, allowed)),
        containers: Vec::new(),
    };
    for container in subject.containers() {
        let options = container.security.and_then(|context| context.se_linux_options.as_ref());
        if options.is_some_and(|options| faults.find(options, allowed)) {
            setters.containers.push(container.name);
        }
    }
    let who = setters.shown()?;
    let mut what = Vec::new();
    if !faults.types.is_empty() {
        let count = faults.types.len();
        what.push(format!("{} {}", plural(count, "type", "types"), quoted(faults.types)));
    }
    if faults.user {
        what.push("user may not be set".to_owned());
    }
    if faults.role {
        what.push("role may not be set".to_owned());
    }
    let detail = format!(
        "{who} set forbidden securityContext.seLinuxOptions: {}",
        what.join("; ")
    );
    violation("seLinuxOptions", detail)
}

/// Before there were fields for it.
pub(super) fn seccomp_annotations(subject: &Subject<'_>) -> Option<Violation> {
    let allowed =
        |value: &str| matches!(value, "runtime/default" | "docker/default") || value.starts_with("localhost/");
    let of_containers = subject
        .containers()
        .map(|container| format!("{SECCOMP_CONTAINER_ANNOTATION}{}", container.name));
    let bad: BTreeSet<String> = std::iter::once(SECCOMP_POD_ANNOTATION.to_owned())
        .chain(of_containers)
        .filter_map(|key| {
            let value = subject.annotations.get(&key).filter(|value| !allowed(value))?;
            Some(format!("{key}={value:?}"))
        })
        .collect();
    if bad.is_empty() {
        return None;
    }
    let detail = format!(
        "forbidden {} {}",
        plural(bad.len(), "annotation", "annotations"),
        bad.into_iter().collect::<Vec<_>>().join(", ")
    );
    violation("seccompProfile", detail)
}

/// Profiles that are set, and do not confine.
struct Seccomp<'a> {
    setters: Setters<'a>,
    values: Texts<'a>,
    /// The pod sets one that does confine.
    pod_confined: bool,
    /// Containers that leave it to the pod.
    unset: Vec<&'a str>,
}

impl<'a> Seccomp<'a> {
    fn of(subject: &'a Subject<'_>) -> Seccomp<'a> {
        let context = subject.spec.security_context.as_ref();
        let pod = context
            .and_then(|context| context.seccomp_profile.as_ref())
            .map(|profile| profile.type_.as_str());
        let bad_pod = pod.filter(|type_| !confines(type_));
        let mut found = Seccomp {
            setters: Setters {
                pod: bad_pod.is_some(),
                containers: Vec::new(),
            },
            values: bad_pod.into_iter().collect(),
            pod_confined: pod.is_some_and(confines),
            unset: Vec::new(),
        };
        for container in subject.containers() {
            let profile = container.security.and_then(|context| context.seccomp_profile.as_ref());
            match profile.map(|profile| profile.type_.as_str()) {
                None => found.unset.push(container.name),
                Some(type_) if confines(type_) => {}
                Some(type_) => {
                    found.setters.containers.push(container.name);
                    found.values.insert(type_);
                }
            }
        }
        found
    }

    fn explicit(self) -> Option<Violation> {
        let detail = format!(
            "{} must not set securityContext.seccompProfile.type to {}",
            self.setters.shown()?,
            quoted(self.values)
        );
        violation("seccompProfile", detail)
    }
}

pub(super) fn seccomp_baseline(subject: &Subject<'_>) -> Option<Violation> {
    Seccomp::of(subject).explicit()
}

pub(super) fn seccomp_restricted_but_windows(subject: &Subject<'_>) -> Option<Violation> {
    if subject.is_windows() {
        return None;
    }
    seccomp_restricted(subject)
}

pub(super) fn seccomp_restricted(subject: &Subject<'_>) -> Option<Violation> {
    let found = Seccomp::of(subject);
    if found.setters.shown().is_some() {
        return found.explicit();
    }
    if found.pod_confined || found.unset.is_empty() {
        return None;
    }
    let detail = format!(
        "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
        containers_named(&found.unset)
    );
    violation("seccompProfile", detail)
}
