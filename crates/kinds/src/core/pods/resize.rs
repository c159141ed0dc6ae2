//! The `resize` subresource: CPU and memory of containers that run.

use super::validate::qos_class;
use catamaran_api::{Errors, Path};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Amount;
use std::collections::BTreeMap;

/// The old pod with nothing taken from the new one but resources and resize policies of containers that are where they were,
/// and the version it was made from.
pub fn prepare_resize(new: &Pod, old: &Pod) -> Pod {
    let mut pod = old.clone();
    pod.metadata.resource_version.clone_from(&new.metadata.resource_version);
    let (Some(spec), Some(asked)) = (&mut pod.spec, &new.spec) else {
        return pod;
    };
    let lists = [
        (Some(&mut spec.containers), Some(&asked.containers)),
        (spec.init_containers.as_mut(), asked.init_containers.as_ref()),
    ];
    for (kept, asked) in lists {
        let (Some(kept), Some(asked)) = (kept, asked) else {
            continue;
        };
        let in_place = kept.len() == asked.len() && kept.iter().zip(asked).all(|(kept, asked)| kept.name == asked.name);
        if !in_place {
            kept.clone_from(asked);
            continue;
        }
        for (kept, asked) in kept.iter_mut().zip(asked) {
            kept.resources.clone_from(&asked.resources);
            kept.resize_policy.clone_from(&asked.resize_policy);
        }
    }
    pod
}

/// Errors of a resize, beyond those of the new pod on its own.
pub fn validate_resize(new: &Pod, old: &Pod, errors: &mut Errors) {
    let no_spec = PodSpec::default();
    let (is, was) = (
        new.spec.as_ref().unwrap_or(&no_spec),
        old.spec.as_ref().unwrap_or(&no_spec),
    );
    if let Some(why) = never(is, was, old) {
        errors.forbidden(&Path::ROOT, why);
        return;
    }
    let path = Path::new("spec");
    let class = qos_class(is);
    if qos_class(was) != class {
        let shown = new.status.as_ref().and_then(|status| status.qos_class.clone());
        let detail = "Pod QOS Class may not change as a result of resizing";
        errors.invalid(&path, shown.unwrap_or_default(), detail);
    }
    if !is_supported(old) {
        errors.forbidden(&path, "Pod running on node without support for resize");
    }
    let before = errors.len();
    let (init, was_init) = (init(is), self::init(was));
    same_containers(&is.containers, &was.containers, "containers", &path, errors);
    same_containers(init, was_init, "initContainers", &path, errors);
    if errors.len() > before {
        return;
    }
    let is_sidecar = |container: &Container| container.restart_policy.as_deref() == Some("Always");
    for (field, new, old) in [
        ("initContainers", init, was_init),
        ("containers", is.containers.as_slice(), was.containers.as_slice()),
    ] {
        let list = path.child(field);
        for (index, (new, old)) in new.iter().zip(old).enumerate() {
            if field == "containers" || is_sidecar(old) {
                removed(new, old, &list.index(index).child("resources"), errors);
            }
        }
    }
    let mut rest = is.clone();
    for (new, old) in rest.containers.iter_mut().zip(&was.containers) {
        set_back(new, old);
        if new != old {
            errors.forbidden(&path, "only cpu and memory resources are mutable");
        }
    }
    for (new, old) in rest.init_containers.iter_mut().flatten().zip(was_init) {
        if is_sidecar(new) {
            set_back(new, old);
            if new != old {
                let detail = "only cpu and memory resources for sidecar containers are mutable";
                errors.forbidden(&path, detail);
            }
        } else if new != old {
            errors.forbidden(&path, "resources for non-sidecar init containers are immutable");
        }
    }
    if errors.is_empty() && rest != *was {
        errors.forbidden(&path, "only cpu and memory resources are mutable");
    }
}

fn init(spec: &PodSpec) -> &[Container] {
    spec.init_containers.as_deref().unwrap_or_default()
}

fn never(is: &PodSpec, was: &PodSpec, old: &Pod) -> Option<&'static str> {
    let filled = |list: &Option<BTreeMap<String, Amount>>| list.as_ref().is_some_and(|list| !list.is_empty());
    let of_pod = |spec: &PodSpec| {
        let resources = spec.resources.as_ref();
        resources.is_some_and(|resources| filled(&resources.requests) || filled(&resources.limits))
    };
    if of_pod(is) || of_pod(was) {
        return Some("pods with pod-level resources cannot be resized");
    }
    let annotations = old.metadata.annotations.as_ref();
    if annotations.is_some_and(|annotations| annotations.contains_key(super::update::MIRROR)) {
        return Some("static pods cannot be resized");
    }
    let windows = was.os.as_ref().is_some_and(|os| os.name == "windows");
    windows.then_some("windows pods cannot be resized")
}

/// Nodes that can resize say what their running containers have.
fn is_supported(pod: &Pod) -> bool {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_ref());
    let running = statuses.into_iter().flatten().find(|status| {
        let state = status.state.as_ref();
        state.is_some_and(|state| state.running.is_some())
    });
    running.is_none_or(|status| status.resources.is_some())
}

fn same_containers(new: &[Container], old: &[Container], field: &str, path: &Path<'_>, errors: &mut Errors) {
    let list = path.child(field);
    if new.len() != old.len() {
        errors.forbidden(&list, format!("{field} may not be added or removed on resize"));
        return;
    }
    for (index, _) in new
        .iter()
        .zip(old)
        .enumerate()
        .filter(|(_, (new, old))| new.name != old.name)
    {
        let at = list.index(index);
        errors.forbidden(
            &at.child("name"),
            format!("{field} may not be renamed or reordered on resize"),
        );
    }
}

fn removed(new: &Container, old: &Container, path: &Path<'_>, errors: &mut Errors) {
    let none = ResourceRequirements::default();
    let (new, old) = (
        new.resources.as_ref().unwrap_or(&none),
        old.resources.as_ref().unwrap_or(&none),
    );
    for (field, new, old) in [
        ("requests", &new.requests, &old.requests),
        ("limits", &new.limits, &old.limits),
    ] {
        let kept = |name: &String| new.as_ref().is_some_and(|new| new.contains_key(name));
        if !old.iter().flatten().all(|(name, _)| kept(name)) {
            errors.forbidden(&path.child(field), format!("resource {field} cannot be removed"));
        }
    }
}

/// Undoes what a resize may do.
fn set_back(new: &mut Container, old: &Container) {
    let none = ResourceRequirements::default();
    let was = old.resources.as_ref().unwrap_or(&none);
    let mut resources = new.resources.take().unwrap_or_default();
    for (new, old) in [
        (&mut resources.limits, &was.limits),
        (&mut resources.requests, &was.requests),
    ] {
        let Some(old) = old else {
            *new = None;
            continue;
        };
        let new = new.get_or_insert_default();
        for name in ["cpu", "memory"] {
            match old.get(name) {
                Some(amount) => new.insert(name.to_owned(), amount.clone()),
                None => new.remove(name),
            };
        }
    }
    let unchanged = resources == was.clone();
    new.resources = if unchanged {
        old.resources.clone()
    } else {
        Some(resources)
    };
    new.resize_policy.clone_from(&old.resize_policy);
}
