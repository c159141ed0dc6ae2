//! Pod fields that change behaviour and that no node of ours honours yet.
//!
//! None of them is ever ignored: the API takes what Kubernetes takes, and the agent refuses to start the container, by this one list.
//! It shrinks as features land.

use k8s_openapi::api::core::v1::{Container, PodSecurityContext, PodSpec, SeccompProfile, SecurityContext, Volume};

/// Paths of the fields that concern the whole pod: `spec.hostNetwork`, `spec.volumes[0].nfs`.
pub fn pod(spec: &PodSpec) -> Vec<String> {
    let mut fields: Vec<String> = set([
        (spec.host_network == Some(true), "spec.hostNetwork"),
        (spec.host_pid == Some(true), "spec.hostPID"),
        (spec.host_ipc == Some(true), "spec.hostIPC"),
        (spec.host_users == Some(false), "spec.hostUsers"),
        (is_filled(spec.resource_claims.as_deref()), "spec.resourceClaims"),
        (spec.resources.is_some(), "spec.resources"),
        (spec.os.as_ref().is_some_and(|os| os.name != "linux"), "spec.os"),
    ]);
    fields.extend(placement(spec));
    if let Some(security) = &spec.security_context {
        fields.extend(pod_security(security));
    }
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        fields.extend(
            self::volume(volume)
                .into_iter()
                .map(|source| format!("spec.volumes[{index}].{source}")),
        );
    }
    fields
}

/// Demands on where other pods run. Preferences among them are just that, and are passed over.
fn placement(spec: &PodSpec) -> Vec<String> {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    let affinity = spec.affinity.as_ref();
    let near = affinity.and_then(|affinity| affinity.pod_affinity.as_ref());
    let apart = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
    let near = near.and_then(|near| near.required_during_scheduling_ignored_during_execution.as_deref());
    let apart = apart.and_then(|apart| apart.required_during_scheduling_ignored_during_execution.as_deref());
    let mut fields = Vec::new();
    for (terms, name) in [(near, "podAffinity"), (apart, "podAntiAffinity")] {
        if is_filled(terms) {
            fields.push(format!("spec.affinity.{name}.{REQUIRED}"));
        }
    }
    let spread = spec.topology_spread_constraints.iter().flatten().enumerate();
    let hard = spread.filter(|(_, constraint)| constraint.when_unsatisfiable == "DoNotSchedule");
    fields.extend(hard.map(|(index, _)| format!("spec.topologySpreadConstraints[{index}]")));
    fields
}

/// Names of the fields of one container, `readinessProbe`, `ports[0].hostPort`.
pub fn container(container: &Container) -> Vec<String> {
    let lifecycle = container.lifecycle.as_ref();
    let mut fields = set([
        (container.restart_policy.is_some(), "restartPolicy"),
        (
            is_filled(container.restart_policy_rules.as_deref()),
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
        (is_filled(container.volume_devices.as_deref()), "volumeDevices"),
    ]);
    for (index, port) in container.ports.iter().flatten().enumerate() {
        if port.host_port.is_some_and(|port| port != 0) {
            fields.push(format!("ports[{index}].hostPort"));
        }
    }
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        if mount.mount_propagation.as_deref().is_some_and(|mode| mode != "None") {
            fields.push(format!("volumeMounts[{index}].mountPropagation"));
        }
        if mount.recursive_read_only.as_deref() == Some("Enabled") {
            fields.push(format!("volumeMounts[{index}].recursiveReadOnly"));
        }
    }
    for (index, variable) in container.env.iter().flatten().enumerate() {
        if variable
            .value_from
            .as_ref()
            .is_some_and(|source| source.file_key_ref.is_some())
        {
            fields.push(format!("env[{index}].valueFrom.fileKeyRef"));
        }
    }
    if let Some(security) = &container.security_context {
        fields.extend(container_security(security));
    }
    if let Some(resources) = &container.resources {
        fields.extend(set([(is_filled(resources.claims.as_deref()), "resources.claims")]));
        let offered = ["cpu", "memory", "ephemeral-storage"];
        let extended = resources
            .limits
            .iter()
            .flatten()
            .map(|(name, _)| name)
            .filter(|name| !offered.contains(&name.as_str()));
        fields.extend(extended.map(|name| format!("resources.limits[{name}]")));
    }
    fields
}

fn pod_security(security: &PodSecurityContext) -> Vec<String> {
    set([
        (
            security.se_linux_options.is_some(),
            "spec.securityContext.seLinuxOptions",
        ),
        (
            security
                .app_armor_profile
                .as_ref()
                .is_some_and(|profile| profile.type_ == "Localhost"),
            "spec.securityContext.appArmorProfile",
        ),
        (
            is_local(security.seccomp_profile.as_ref()),
            "spec.securityContext.seccompProfile.localhostProfile",
        ),
    ])
}

fn container_security(security: &SecurityContext) -> Vec<String> {
    set([
        (security.se_linux_options.is_some(), "securityContext.seLinuxOptions"),
        (
            security
                .app_armor_profile
                .as_ref()
                .is_some_and(|profile| profile.type_ == "Localhost"),
            "securityContext.appArmorProfile",
        ),
        (
            is_local(security.seccomp_profile.as_ref()),
            "securityContext.seccompProfile.localhostProfile",
        ),
    ])
}

fn is_local(profile: Option<&SeccompProfile>) -> bool {
    profile.is_some_and(|profile| profile.type_ == "Localhost")
}

/// The source of a volume, if it is not one of those on offer.
fn volume(volume: &Volume) -> Vec<String> {
    if let Some(projected) = &volume.projected {
        let sources = projected.sources.iter().flatten();
        return sources
            .flat_map(|source| {
                set([
                    (
                        source.cluster_trust_bundle.is_some(),
                        "projected.sources.clusterTrustBundle",
                    ),
                    (source.pod_certificate.is_some(), "projected.sources.podCertificate"),
                ])
            })
            .collect();
    }
    let offered = ["configMap", "downwardAPI", "emptyDir", "hostPath", "name", "secret"];
    // The serialized form has the names, so that a new kind of volume needs no line here.
    let fields = serde_json::to_value(volume).unwrap_or_default();
    let fields = fields.as_object().into_iter().flatten().map(|(field, _)| field.clone());
    fields.filter(|field| !offered.contains(&field.as_str())).collect()
}

fn is_filled<T>(list: Option<&[T]>) -> bool {
    list.is_some_and(|list| !list.is_empty())
}

fn set<const N: usize>(flags: [(bool, &str); N]) -> Vec<String> {
    flags
        .into_iter()
        .filter(|(set, _)| *set)
        .map(|(_, field)| field.to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    #[test]
    fn each_field_is_named() {
        let spec: PodSpec = serde_json::from_value(json!({
            "hostNetwork": true,
            "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone"}]},
                "podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution":
                    [{"weight": 1, "podAffinityTerm": {"topologyKey": "zone"}}]}},
            "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"},
                {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
            "securityContext": {"seccompProfile": {"type": "Localhost"}},
            "volumes": [{"name": "a", "emptyDir": {}}, {"name": "b", "nfs": {"server": "s", "path": "/"}},
                {"name": "c", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}, {"clusterTrustBundle": {"path": "t"}}]}}],
            "containers": [{"name": "a", "readinessProbe": {}, "ports": [{"containerPort": 1}, {"containerPort": 2, "hostPort": 2}],
                "resources": {"limits": {"cpu": "1", "example.com/gpu": "1"}}, "lifecycle": {"preStop": {}}}]}))
        .unwrap();
        let mut fields = pod(&spec);
        fields.extend(container(&spec.containers[0]));
        expect![[r#"
            spec.hostNetwork
            spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution
            spec.topologySpreadConstraints[1]
            spec.securityContext.seccompProfile.localhostProfile
            spec.volumes[1].nfs
            spec.volumes[2].projected.sources.clusterTrustBundle
            readinessProbe
            lifecycle.preStop
            ports[1].hostPort
            resources.limits[example.com/gpu]"#]]
        .assert_eq(&fields.join("\n"));
    }
}
