//! Ephemeral containers (`kubectl debug`): added to a pod that runs, started once, never again. The pod is as it is without
//! them: neither its phase nor its readiness asks.
//!
//! The API has a type of their own for them, which is a container's without what they must not have. Here they are containers.

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod};

/// In the order of the spec.
pub(crate) fn containers(pod: &Pod) -> impl Iterator<Item = Container> {
    let spec = pod.spec.iter();
    spec.flat_map(|spec| spec.ephemeral_containers.iter().flatten())
        .map(as_container)
}

pub(crate) fn is_one(pod: &Pod, name: &str) -> bool {
    containers(pod).any(|container| container.name == name)
}

/// Whose processes the container wants to see.
pub(crate) fn target<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    let mut all = pod
        .spec
        .iter()
        .flat_map(|spec| spec.ephemeral_containers.iter().flatten());
    let own = all.find(|container| container.name == name)?;
    own.target_container_name.as_deref().filter(|target| !target.is_empty())
}

fn as_container(own: &EphemeralContainer) -> Container {
    let own = own.clone();
    Container {
        args: own.args,
        command: own.command,
        env: own.env,
        env_from: own.env_from,
        image: own.image,
        image_pull_policy: own.image_pull_policy,
        name: own.name,
        security_context: own.security_context,
        stdin: own.stdin,
        stdin_once: own.stdin_once,
        termination_message_path: own.termination_message_path,
        termination_message_policy: own.termination_message_policy,
        tty: own.tty,
        volume_devices: own.volume_devices,
        volume_mounts: own.volume_mounts,
        working_dir: own.working_dir,
        ..Container::default()
    }
}
