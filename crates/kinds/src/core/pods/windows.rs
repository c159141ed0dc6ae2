//! What only Windows has, and what it has not. No node of ours runs it; the API is the same for all.

use super::ephemeral::as_container;
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::core::v1::{Container, PodSpec, WindowsSecurityContextOptions};

/// All containers of a pod, with their places: what each concerns is asked of every kind.
fn each_container(spec: &PodSpec, path: &Path<'_>, mut visit: impl FnMut(&Container, &Path<'_>)) {
    let lists = [
        ("initContainers", spec.init_containers.as_deref().unwrap_or_default()),
        ("containers", spec.containers.as_slice()),
    ];
    for (field, containers) in lists {
        let list = path.child(field);
        for (index, container) in containers.iter().enumerate() {
            visit(container, &list.index(index));
        }
    }
    let list = path.child("ephemeralContainers");
    for (index, ephemeral) in spec.ephemeral_containers.iter().flatten().enumerate() {
        visit(&as_container(ephemeral), &list.index(index));
    }
}

pub(super) fn options(options: &WindowsSecurityContextOptions, path: &Path<'_>, errors: &mut Errors) {
    if let Some(name) = &options.gmsa_credential_spec_name {
        errors.invalid_each(
            &path.child("gmsaCredentialSpecName"),
            name,
            names::dns1123_subdomain(name),
        );
    }
    if let Some(spec) = &options.gmsa_credential_spec {
        let at = path.child("gmsaCredentialSpec");
        if spec.is_empty() {
            errors.invalid(&at, "", "gmsaCredentialSpec cannot be an empty string");
        } else if spec.len() > 64 * 1024 {
            errors.invalid(&at, spec.as_str(), "gmsaCredentialSpec size must be under 64 KiB");
        }
    }
    if let Some(name) = &options.run_as_user_name {
        for detail in user_name(name) {
            errors.invalid(&path.child("runAsUserName"), name.as_str(), detail);
        }
    }
}

fn user_name(name: &str) -> Vec<&'static str> {
    if name.is_empty() {
        return vec!["runAsUserName cannot be an empty string"];
    }
    if name.chars().any(|c| c.is_ascii_control()) {
        return vec!["runAsUserName cannot contain control characters"];
    }
    let (domain, user) = match name.split_once('\\') {
        Some((_, rest)) if rest.contains('\\') => return vec!["runAsUserName cannot contain more than one backslash"],
        Some((domain, user)) => (Some(domain), user),
        None => (None, name),
    };
    let mut problems = Vec::new();
    if let Some(domain) = domain {
        if domain.len() >= 256 {
            problems.push("runAsUserName's Domain length must be under 256 characters");
        }
        let plain = |c: char| !"\\/:*?\"<>|".contains(c);
        let net_bios =
            (1..=15).contains(&domain.chars().count()) && !domain.starts_with('.') && domain.chars().all(plain);
        if !net_bios && !names::dns1123_subdomain(&domain.to_lowercase()).is_empty() {
            problems.push("runAsUserName's Domain doesn't match the NetBios nor the DNS format");
        }
    }
    if user.is_empty() {
        problems.push("runAsUserName's User cannot be empty");
    } else if user.len() > 104 {
        problems.push("runAsUserName's User length must not be longer than 104 characters");
    }
    if !user.is_empty() && user.chars().all(|c| c == '.' || c == ' ') {
        problems.push("runAsUserName's User cannot contain only periods or spaces");
    }
    if user.chars().any(|c| "\"/\\:;|=,+*?<>@[]".contains(c)) {
        problems.push("runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]");
    }
    problems
}

/// Containers that are processes of the host are that all together.
pub(super) fn host_processes(spec: &PodSpec, path: &Path<'_>, errors: &mut Errors) {
    let of_pod = spec
        .security_context
        .as_ref()
        .and_then(|context| context.windows_options.as_ref());
    let of_pod = of_pod.and_then(|options| options.host_process);
    let (mut all, mut on_host) = (0, 0);
    each_container(spec, path, |container, path| {
        all += 1;
        let options = container
            .security_context
            .as_ref()
            .and_then(|context| context.windows_options.as_ref());
        let own = options.and_then(|options| options.host_process);
        if let (Some(of_pod), Some(own)) = (of_pod, own)
            && of_pod != own
        {
            let at = path.child("securityContext");
            let at = at.child("windowsOptions");
            let detail = format!("pod hostProcess value must be identical if both are specified, was {of_pod}");
            errors.invalid(&at.child("hostProcess"), own, detail);
        }
        on_host += usize::from(own.or(of_pod) == Some(true));
    });
    if on_host == 0 {
        return;
    }
    if on_host != all {
        let detail = "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        errors.invalid(path, "", detail);
    }
    if spec.host_network != Some(true) {
        let detail = "hostNetwork must be true if pod contains any hostProcess containers";
        errors.invalid(&path.child("hostNetwork"), false, detail);
    }
}

/// Fields that the pod's operating system does not know.
pub(super) fn by_system(spec: &PodSpec, path: &Path<'_>, errors: &mut Errors) {
    match spec.os.as_ref().map(|os| os.name.as_str()) {
        Some("linux") => linux(spec, path, errors),
        Some("windows") => windows(spec, path, errors),
        _ => {}
    }
}

fn linux(spec: &PodSpec, path: &Path<'_>, errors: &mut Errors) {
    let detail = "windows options cannot be set for a linux pod";
    let context = path.child("securityContext");
    if spec
        .security_context
        .as_ref()
        .is_some_and(|context| context.windows_options.is_some())
    {
        errors.forbidden(&context.child("windowsOptions"), detail);
    }
    each_container(spec, path, |container, path| {
        let context = container.security_context.as_ref();
        if context.is_some_and(|context| context.windows_options.is_some()) {
            errors.forbidden(&path.child("securityContext").child("windowsOptions"), detail);
        }
    });
}

fn windows(spec: &PodSpec, path: &Path<'_>, errors: &mut Errors) {
    let detail = "cannot be set for a windows pod";
    let at = path.child("securityContext");
    if let Some(context) = &spec.security_context {
        let set = [
            (context.app_armor_profile.is_some(), "appArmorProfile"),
            (context.se_linux_options.is_some(), "seLinuxOptions"),
            (context.seccomp_profile.is_some(), "seccompProfile"),
            (context.fs_group.is_some(), "fsGroup"),
            (context.fs_group_change_policy.is_some(), "fsGroupChangePolicy"),
            (context.sysctls.as_ref().is_some_and(|list| !list.is_empty()), "sysctls"),
            (context.run_as_user.is_some(), "runAsUser"),
            (context.run_as_group.is_some(), "runAsGroup"),
            (context.supplemental_groups.is_some(), "supplementalGroups"),
            (context.supplemental_groups_policy.is_some(), "supplementalGroupsPolicy"),
            (context.se_linux_change_policy.is_some(), "seLinuxChangePolicy"),
        ];
        for (_, field) in set.into_iter().filter(|(set, _)| *set) {
            errors.forbidden(&at.child(field), detail);
        }
    }
    let set = [
        (spec.host_users.is_some(), "hostUsers"),
        (spec.host_pid == Some(true), "hostPID"),
        (spec.host_ipc == Some(true), "hostIPC"),
        (spec.share_process_namespace.is_some(), "shareProcessNamespace"),
    ];
    for (_, field) in set.into_iter().filter(|(set, _)| *set) {
        errors.forbidden(&path.child(field), detail);
    }
    each_container(spec, path, |container, path| {
        let Some(context) = &container.security_context else {
            return;
        };
        let at = path.child("securityContext");
        let set = [
            (context.app_armor_profile.is_some(), "appArmorProfile"),
            (context.se_linux_options.is_some(), "seLinuxOptions"),
            (context.seccomp_profile.is_some(), "seccompProfile"),
            (context.capabilities.is_some(), "capabilities"),
            (context.read_only_root_filesystem.is_some(), "readOnlyRootFilesystem"),
            (context.privileged.is_some(), "privileged"),
            (context.allow_privilege_escalation.is_some(), "allowPrivilegeEscalation"),
            (context.proc_mount.is_some(), "procMount"),
            (context.run_as_user.is_some(), "runAsUser"),
            (context.run_as_group.is_some(), "runAsGroup"),
        ];
        for (_, field) in set.into_iter().filter(|(set, _)| *set) {
            errors.forbidden(&at.child(field), detail);
        }
    });
}
