//! Fields that change what a pod does and that this agent does not honour yet.
//!
//! None of them is ignored: a container that would behave differently than its spec says does not start, and says which
//! field it is. The list shrinks as features land; the API server warns about the same fields at creation.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Volume};

/// The first field that keeps any container of the pod from starting, as a sentence.
pub(crate) fn pod(pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    pod_field(spec)
        .or_else(|| spec.volumes.iter().flatten().find_map(volume_field))
        .map(|field| sentence(&field))
}

/// The first field that keeps this container from starting. `path` is `spec.containers` or `spec.initContainers`.
pub(crate) fn container(path: &str, container: &Container) -> Option<String> {
    container_field(container).map(|field| sentence(&format!("{path}{{{}}}.{field}", container.name)))
}

fn sentence(field: &str) -> String {
    format!("{field} is not supported by this node agent yet; remove it to run the pod")
}

fn pod_field(spec: &PodSpec) -> Option<String> {
    let security = spec.security_context.as_ref();
    let flags = [
        (spec.host_network == Some(true), "spec.hostNetwork"),
        (spec.host_pid == Some(true), "spec.hostPID"),
        (spec.host_ipc == Some(true), "spec.hostIPC"),
        (spec.host_users == Some(false), "spec.hostUsers"),
        (
            spec.resource_claims.as_ref().is_some_and(|claims| !claims.is_empty()),
            "spec.resourceClaims",
        ),
        (spec.resources.is_some(), "spec.resources"),
        (spec.os.as_ref().is_some_and(|os| os.name != "linux"), "spec.os"),
        (
            security.is_some_and(|security| security.se_linux_options.is_some()),
            "spec.securityContext.seLinuxOptions",
        ),
        (
            security
                .and_then(|security| security.app_armor_profile.as_ref())
                .is_some_and(|p| p.type_ == "Localhost"),
            "spec.securityContext.appArmorProfile",
        ),
        (
            security
                .and_then(|security| security.seccomp_profile.as_ref())
                .is_some_and(|p| p.type_ == "Localhost"),
            "spec.securityContext.seccompProfile.localhostProfile",
        ),
    ];
    first(&flags)
}

fn container_field(container: &Container) -> Option<String> {
    let lifecycle = container.lifecycle.as_ref();
    let security = container.security_context.as_ref();
    let ports = container.ports.as_deref().unwrap_or_default();
    let mounts = container.volume_mounts.as_deref().unwrap_or_default();
    let variables = container.env.as_deref().unwrap_or_default();
    let flags = [
        (container.restart_policy.is_some(), "restartPolicy"),
        (
            container
                .restart_policy_rules
                .as_ref()
                .is_some_and(|rules| !rules.is_empty()),
            "restartPolicyRules",
        ),
        (container.liveness_probe.is_some(), "livenessProbe"),
        (container.readiness_probe.is_some(), "readinessProbe"),
        (container.startup_probe.is_some(), "startupProbe"),
        (
            lifecycle.is_some_and(|lifecycle| lifecycle.post_start.is_some()),
            "lifecycle.postStart",
        ),
        (
            lifecycle.is_some_and(|lifecycle| lifecycle.pre_stop.is_some()),
            "lifecycle.preStop",
        ),
        (
            ports.iter().any(|port| port.host_port.is_some_and(|port| port != 0)),
            "ports.hostPort",
        ),
        (
            container
                .volume_devices
                .as_ref()
                .is_some_and(|devices| !devices.is_empty()),
            "volumeDevices",
        ),
        (
            mounts
                .iter()
                .any(|mount| mount.mount_propagation.as_deref().is_some_and(|mode| mode != "None")),
            "volumeMounts.mountPropagation",
        ),
        (
            mounts
                .iter()
                .any(|mount| mount.recursive_read_only.as_deref() == Some("Enabled")),
            "volumeMounts.recursiveReadOnly",
        ),
        (
            variables.iter().any(|v| {
                v.value_from
                    .as_ref()
                    .is_some_and(|source| source.file_key_ref.is_some())
            }),
            "env.valueFrom.fileKeyRef",
        ),
        (
            security.is_some_and(|security| security.se_linux_options.is_some()),
            "securityContext.seLinuxOptions",
        ),
        (
            security
                .and_then(|security| security.app_armor_profile.as_ref())
                .is_some_and(|p| p.type_ == "Localhost"),
            "securityContext.appArmorProfile",
        ),
        (
            security
                .and_then(|security| security.seccomp_profile.as_ref())
                .is_some_and(|p| p.type_ == "Localhost"),
            "securityContext.seccompProfile.localhostProfile",
        ),
        (
            container
                .resources
                .as_ref()
                .and_then(|all| all.claims.as_ref())
                .is_some_and(|claims| !claims.is_empty()),
            "resources.claims",
        ),
    ];
    first(&flags).or_else(|| extended_resource(container))
}

/// Devices and huge pages: nothing on this node gives them.
fn extended_resource(container: &Container) -> Option<String> {
    let limits = container.resources.as_ref()?.limits.as_ref()?;
    let known = ["cpu", "memory", "ephemeral-storage"];
    limits
        .keys()
        .find(|name| !known.contains(&name.as_str()))
        .map(|name| format!("resources.limits[{name}]"))
}

fn volume_field(volume: &Volume) -> Option<String> {
    let offered = volume.empty_dir.is_some()
        || volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.host_path.is_some()
        || volume.downward_api.is_some();
    if let Some(projected) = &volume.projected {
        let odd = projected.sources.iter().flatten().find_map(|source| {
            first(&[
                (source.service_account_token.is_some(), "serviceAccountToken"),
                (source.cluster_trust_bundle.is_some(), "clusterTrustBundle"),
                (source.pod_certificate.is_some(), "podCertificate"),
            ])
        });
        return odd.map(|source| format!("spec.volumes{{{}}}.projected.sources.{source}", volume.name));
    }
    if offered {
        None
    } else {
        Some(format!("spec.volumes{{{}}}.{}", volume.name, volume_type(volume)))
    }
}

/// The name of the volume source that is set, found in the serialized form so that new types need no line here.
fn volume_type(volume: &Volume) -> String {
    let value = serde_json::to_value(volume).unwrap_or_default();
    let keys = value.as_object().into_iter().flat_map(serde_json::Map::keys);
    keys.filter(|key| *key != "name")
        .map(String::as_str)
        .next()
        .unwrap_or("(no source)")
        .to_owned()
}

fn first(flags: &[(bool, &str)]) -> Option<String> {
    flags.iter().find(|(set, _)| *set).map(|(_, field)| (*field).to_owned())
}

#[cfg(test)]
#[allow(clippy::needless_pass_by_value, reason = "cases are written as literals")]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(spec: serde_json::Value, expected: &Expect) {
        let object: Pod = serde_json::from_value(serde_json::json!({ "spec": spec })).expect("a pod");
        let spec = object.spec.as_ref().expect("a spec");
        let found = pod(&object).or_else(|| spec.containers.iter().find_map(|c| container("spec.containers", c)));
        expected.assert_eq(&found.unwrap_or_default());
    }

    #[test]
    fn names_the_field() {
        let suffix_free =
            serde_json::json!({"containers": [{"name": "a"}], "volumes": [{"name": "v", "emptyDir": {}}]});
        check(suffix_free, &expect![""]);
        check(
            serde_json::json!({"hostNetwork": true, "containers": []}),
            &expect!["spec.hostNetwork is not supported by this node agent yet; remove it to run the pod"],
        );
        check(
            serde_json::json!({"containers": [], "volumes": [{"name": "data", "nfs": {"server": "s", "path": "/"}}]}),
            &expect!["spec.volumes{data}.nfs is not supported by this node agent yet; remove it to run the pod"],
        );
        check(
            serde_json::json!({"containers": [{"name": "web", "readinessProbe": {"httpGet": {"port": 80}}}]}),
            &expect![
                "spec.containers{web}.readinessProbe is not supported by this node agent yet; remove it to run the pod"
            ],
        );
        check(
            serde_json::json!({"containers": [{"name": "web", "ports": [{"containerPort": 80, "hostPort": 80}]}]}),
            &expect![
                "spec.containers{web}.ports.hostPort is not supported by this node agent yet; remove it to run the pod"
            ],
        );
    }
}
