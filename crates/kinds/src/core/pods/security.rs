//! Security contexts of pods and containers.

use super::{paths, windows};
use crate::rules::one_of;
use catamaran_api::field::Reason;
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::core::v1::{AppArmorProfile, Container, PodSpec, SeccompProfile, SecurityContext, Sysctl};
use serde::Serialize;
use std::collections::HashSet;

pub(super) fn pod(spec: &PodSpec, path: &Path<'_>, errors: &mut Errors) {
    if spec.share_process_namespace == Some(true) && spec.host_pid == Some(true) {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.invalid(
            &path.child("securityContext").child("shareProcessNamespace"),
            true,
            detail,
        );
    }
    let Some(context) = &spec.security_context else { return };
    let path = path.child("securityContext");
    id(context.run_as_user, &path.child("runAsUser"), errors);
    id(context.run_as_group, &path.child("runAsGroup"), errors);
    id(context.fs_group, &path.child("fsGroup"), errors);
    let groups = path.child("supplementalGroups");
    for (index, group) in context.supplemental_groups.iter().flatten().enumerate() {
        id(Some(*group), &groups.index(index), errors);
    }
    let policy = context.fs_group_change_policy.as_deref();
    one_of(
        policy,
        &["Always", "OnRootMismatch"],
        &path.child("fsGroupChangePolicy"),
        errors,
    );
    let policy = context.supplemental_groups_policy.as_deref();
    one_of(
        policy,
        &["Merge", "Strict"],
        &path.child("supplementalGroupsPolicy"),
        errors,
    );
    one_of(
        context.se_linux_change_policy.as_deref(),
        &["MountOption", "Recursive"],
        &path.child("seLinuxChangePolicy"),
        errors,
    );
    sysctls(
        spec,
        context.sysctls.as_deref().unwrap_or_default(),
        &path.child("sysctls"),
        errors,
    );
    if let Some(options) = &context.windows_options {
        windows::options(options, &path.child("windowsOptions"), errors);
    }
    if let Some(profile) = &context.seccomp_profile {
        seccomp(profile, &path.child("seccompProfile"), errors);
    }
    if let Some(profile) = &context.app_armor_profile {
        app_armor(profile, &path.child("appArmorProfile"), errors);
    }
}

/// A user namespace of its own excludes the namespaces of the host.
pub(super) fn host_users(spec: &PodSpec, path: &Path<'_>, errors: &mut Errors) {
    if spec.host_users != Some(false) {
        return;
    }
    for (field, value) in [
        ("hostNetwork", spec.host_network),
        ("HostPID", spec.host_pid),
        ("HostIPC", spec.host_ipc),
    ] {
        if value == Some(true) {
            errors.forbidden(&path.child(field), "when `hostUsers` is false");
        }
    }
    for (field, containers) in [
        ("initContainers", spec.init_containers.as_deref().unwrap_or_default()),
        ("containers", spec.containers.as_slice()),
    ] {
        let list = path.child(field);
        let devices = |container: &Container| container.volume_devices.as_ref().is_some_and(|list| !list.is_empty());
        for (index, _) in containers
            .iter()
            .enumerate()
            .filter(|(_, container)| devices(container))
        {
            errors.forbidden(&list.index(index).child("volumeDevices"), "when `hostUsers` is false");
        }
    }
}

/// A user or group.
fn id(id: Option<i64>, path: &Path<'_>, errors: &mut Errors) {
    let max = i64::from(i32::MAX);
    if let Some(id) = id.filter(|id| !(0..=max).contains(id)) {
        errors.invalid(path, id, names::inclusive_range(0, max));
    }
}

fn sysctls(spec: &PodSpec, sysctls: &[Sysctl], path: &Path<'_>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for (index, sysctl) in sysctls.iter().enumerate() {
        let at = path.index(index);
        let at = at.child("name");
        let name = sysctl.name.as_str();
        let messages = names::sysctl(name);
        if name.is_empty() {
            errors.required(&at, "");
        } else if !messages.is_empty() {
            errors.invalid_each(&at, name, messages);
        } else if seen.contains(name) {
            errors.duplicate(&at, name);
        }
        seen.insert(name);
        let dotted = name.replace('/', ".");
        let of_ipc = ["kernel.shm", "kernel.msg", "fs.mqueue."]
            .iter()
            .any(|prefix| dotted.starts_with(prefix));
        if spec.host_network == Some(true) && dotted.starts_with("net.") {
            errors.invalid(&at, name, "may not be specified when 'hostNetwork' is true");
        } else if spec.host_ipc == Some(true) && (of_ipc || dotted == "kernel.sem") {
            errors.invalid(&at, name, "may not be specified when 'hostIPC' is true");
        }
    }
}

const PROFILE_TYPES: &[&str] = &["Localhost", "RuntimeDefault", "Unconfined"];

fn seccomp(profile: &SeccompProfile, path: &Path<'_>, errors: &mut Errors) {
    profile_type(
        &profile.type_,
        "type is required when seccompProfile is set",
        path,
        errors,
    );
    let file = profile.localhost_profile.as_deref();
    let at = path.child("localhostProfile");
    match (profile.type_.as_str(), file) {
        ("Localhost", None) => errors.required(&at, "must be set when seccomp type is Localhost"),
        ("Localhost", Some(file)) => paths::descending(file, &at, errors),
        (kind, Some(file)) => {
            let shown = Profile {
                r#type: kind,
                localhost_profile: Some(file),
            };
            let detail = "can only be set when seccomp type is Localhost";
            errors.ordered(Reason::Invalid, &at, &shown, detail);
        }
        (_, None) => {}
    }
}

fn profile_type(kind: &str, missing: &str, path: &Path<'_>, errors: &mut Errors) {
    let at = path.child("type");
    if kind.is_empty() {
        errors.required(&at, missing);
    } else {
        one_of(Some(kind), PROFILE_TYPES, &at, errors);
    }
}

/// The longest path Linux knows.
const LONGEST_PROFILE: usize = 4095;

fn app_armor(profile: &AppArmorProfile, path: &Path<'_>, errors: &mut Errors) {
    let name = profile.localhost_profile.as_deref();
    let at = path.child("localhostProfile");
    match (profile.type_.as_str(), name) {
        ("Localhost", None) => errors.required(&at, "must be set when AppArmor type is Localhost"),
        ("Localhost", Some(name)) => {
            if name.trim() != name {
                errors.invalid(&at, name, "must not be padded with whitespace");
            } else if name.is_empty() {
                errors.required(&at, "must be set when AppArmor type is Localhost");
            }
            if name.len() > LONGEST_PROFILE {
                errors.too_long(&at, LONGEST_PROFILE);
            }
        }
        ("RuntimeDefault" | "Unconfined", Some(name)) => {
            errors.invalid(&at, name, "can only be set when AppArmor type is Localhost");
        }
        (kind, _) => profile_type(kind, "type is required when appArmorProfile is set", path, errors),
    }
}

pub(super) fn container(context: &SecurityContext, host_users: bool, path: &Path<'_>, errors: &mut Errors) {
    id(context.run_as_user, &path.child("runAsUser"), errors);
    id(context.run_as_group, &path.child("runAsGroup"), errors);
    one_of(
        context.proc_mount.as_deref(),
        &["Default", "Unmasked"],
        &path.child("procMount"),
        errors,
    );
    if host_users && context.proc_mount.as_deref() == Some("Unmasked") {
        let detail = "`hostUsers` must be false to use `Unmasked`";
        errors.invalid(&path.child("procMount"), "Unmasked", detail);
    }
    if let Some(options) = &context.windows_options {
        windows::options(options, &path.child("windowsOptions"), errors);
    }
    if let Some(profile) = &context.seccomp_profile {
        seccomp(profile, &path.child("seccompProfile"), errors);
    }
    if let Some(profile) = &context.app_armor_profile {
        app_armor(profile, &path.child("appArmorProfile"), errors);
    }
    if context.allow_privilege_escalation == Some(false) {
        let shown = Context::of(context);
        if context.privileged == Some(true) {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.ordered(Reason::Invalid, path, &shown, detail);
        }
        let mut added = context
            .capabilities
            .iter()
            .flat_map(|capabilities| capabilities.add.iter().flatten());
        if added.any(|capability| capability == "CAP_SYS_ADMIN") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.ordered(Reason::Invalid, path, &shown, detail);
        }
    }
}

/// A profile as Kubernetes' own type has it, for errors.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Profile<'a> {
    r#type: &'a str,
    localhost_profile: Option<&'a str>,
}

/// A container's security context as Kubernetes' own type has it, for errors.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Context<'a> {
    capabilities: Option<Capabilities<'a>>,
    privileged: Option<bool>,
    #[serde(rename = "SELinuxOptions")]
    se_linux_options: Option<SeLinux<'a>>,
    windows_options: Option<Windows<'a>>,
    run_as_user: Option<i64>,
    run_as_group: Option<i64>,
    run_as_non_root: Option<bool>,
    read_only_root_filesystem: Option<bool>,
    allow_privilege_escalation: Option<bool>,
    proc_mount: Option<&'a str>,
    seccomp_profile: Option<Profile<'a>>,
    app_armor_profile: Option<Profile<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Capabilities<'a> {
    add: Option<&'a [String]>,
    drop: Option<&'a [String]>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SeLinux<'a> {
    user: &'a str,
    role: &'a str,
    r#type: &'a str,
    level: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Windows<'a> {
    #[serde(rename = "GMSACredentialSpecName")]
    gmsa_credential_spec_name: Option<&'a str>,
    #[serde(rename = "GMSACredentialSpec")]
    gmsa_credential_spec: Option<&'a str>,
    run_as_user_name: Option<&'a str>,
    host_process: Option<bool>,
}

impl<'a> Context<'a> {
    fn of(context: &'a SecurityContext) -> Self {
        let text = |text: &'a Option<String>| text.as_deref().unwrap_or_default();
        Context {
            capabilities: context.capabilities.as_ref().map(|capabilities| Capabilities {
                add: capabilities.add.as_deref(),
                drop: capabilities.drop.as_deref(),
            }),
            privileged: context.privileged,
            se_linux_options: context.se_linux_options.as_ref().map(|options| SeLinux {
                user: text(&options.user),
                role: text(&options.role),
                r#type: text(&options.type_),
                level: text(&options.level),
            }),
            windows_options: context.windows_options.as_ref().map(|options| Windows {
                gmsa_credential_spec_name: options.gmsa_credential_spec_name.as_deref(),
                gmsa_credential_spec: options.gmsa_credential_spec.as_deref(),
                run_as_user_name: options.run_as_user_name.as_deref(),
                host_process: options.host_process,
            }),
            run_as_user: context.run_as_user,
            run_as_group: context.run_as_group,
            run_as_non_root: context.run_as_non_root,
            read_only_root_filesystem: context.read_only_root_filesystem,
            allow_privilege_escalation: context.allow_privilege_escalation,
            proc_mount: context.proc_mount.as_deref(),
            seccomp_profile: context.seccomp_profile.as_ref().map(|profile| Profile {
                r#type: &profile.type_,
                localhost_profile: profile.localhost_profile.as_deref(),
            }),
            app_armor_profile: context.app_armor_profile.as_ref().map(|profile| Profile {
                r#type: &profile.type_,
                localhost_profile: profile.localhost_profile.as_deref(),
            }),
        }
    }
}
