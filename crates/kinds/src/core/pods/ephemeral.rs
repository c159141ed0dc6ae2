//! Ephemeral containers: added to a pod that runs, to look at it. They are no part of the service, so what makes a container one
//! is refused.

use super::containers::{self, Context};
use super::update::MIRROR;
use crate::changes;
use crate::defaulting::given;
use catamaran_api::field::quote;
use catamaran_api::{Errors, Path};
use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec, ResourceRequirements};
use std::collections::HashSet;

/// The same container as one of the usual type.
pub(super) fn as_container(ephemeral: &EphemeralContainer) -> Container {
    let value = serde_json::to_value(ephemeral).unwrap_or_default();
    serde_json::from_value(value).unwrap_or_default()
}

pub(super) fn validate(spec: &PodSpec, context: &Context<'_>, path: &Path<'_>, errors: &mut Errors) {
    let others = spec.init_containers.iter().flatten().chain(&spec.containers);
    let others: HashSet<&str> = others.map(|container| container.name.as_str()).collect();
    let list = spec.ephemeral_containers.as_deref().unwrap_or_default();
    for (index, ephemeral) in list.iter().enumerate() {
        let at = path.index(index);
        let container = as_container(ephemeral);
        containers::common(&container, context, &at, errors);
        containers::image_without_space(&container, &at, errors);
        let taken = list[..index].iter().any(|other| other.name == ephemeral.name);
        if taken || others.contains(ephemeral.name.as_str()) {
            errors.duplicate(&at.child("name"), ephemeral.name.as_str());
        }
        if let Some(target) = given(ephemeral.target_container_name.as_ref())
            && !others.contains(target)
        {
            errors.not_found(&at.child("targetContainerName"), target);
        }
        refused_fields(&container, &at, errors);
    }
}

fn refused_fields(container: &Container, path: &Path<'_>, errors: &mut Errors) {
    let detail = "cannot be set for an Ephemeral Container";
    let filled = |resources: &ResourceRequirements| *resources != ResourceRequirements::default();
    let set = [
        ("ports", container.ports.as_ref().is_some_and(|list| !list.is_empty())),
        ("resources", container.resources.as_ref().is_some_and(filled)),
        (
            "resizePolicy",
            container.resize_policy.as_ref().is_some_and(|list| !list.is_empty()),
        ),
        ("restartPolicy", container.restart_policy.is_some()),
        (
            "restartPolicyRules",
            container
                .restart_policy_rules
                .as_ref()
                .is_some_and(|list| !list.is_empty()),
        ),
        ("livenessProbe", container.liveness_probe.is_some()),
        ("readinessProbe", container.readiness_probe.is_some()),
        ("startupProbe", container.startup_probe.is_some()),
        ("lifecycle", container.lifecycle.is_some()),
    ];
    for (field, _) in set.into_iter().filter(|(_, set)| *set) {
        errors.forbidden(&path.child(field), detail);
    }
    let list = path.child("volumeMounts");
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        for (field, value) in [("subPath", &mount.sub_path), ("subPathExpr", &mount.sub_path_expr)] {
            if given(value.as_ref()).is_some() {
                errors.forbidden(&list.index(index).child(field), detail);
            }
        }
    }
}

/// The old pod with the ephemeral containers of the new one, and the version that was made from.
pub fn prepare_ephemeral_containers(new: &Pod, old: &Pod) -> Pod {
    let mut pod = old.clone();
    pod.metadata.resource_version.clone_from(&new.metadata.resource_version);
    let asked = new.spec.as_ref().and_then(|spec| spec.ephemeral_containers.clone());
    pod.spec.get_or_insert_default().ephemeral_containers = asked;
    pod
}

/// Errors of a change of ephemeral containers, beyond those of the new pod on its own: they are only ever added.
pub fn validate_ephemeral_containers(new: &Pod, old: &Pod, errors: &mut Errors) {
    let annotations = old.metadata.annotations.as_ref();
    if annotations.is_some_and(|annotations| annotations.contains_key(MIRROR)) {
        errors.forbidden(&Path::ROOT, "static pods do not support ephemeral containers");
        return;
    }
    fn of(pod: &Pod) -> &[EphemeralContainer] {
        let spec = pod.spec.as_ref();
        spec.and_then(|spec| spec.ephemeral_containers.as_deref())
            .unwrap_or_default()
    }
    let path = Path::new("spec");
    let path = path.child("ephemeralContainers");
    for old in of(old) {
        let name = quote(&old.name);
        match of(new).iter().find(|new| new.name == old.name) {
            None => {
                let detail = format!("existing ephemeral containers {name} may not be removed\n");
                errors.forbidden(&path, detail);
            }
            Some(new) if new != old => {
                let changed = changes::describe("ephemeralContainer", new, old);
                let detail = format!("existing ephemeral containers {name} may not be changed\n{changed}\n");
                errors.forbidden(&path, detail);
            }
            Some(_) => {}
        }
    }
}
