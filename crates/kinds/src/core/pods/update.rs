//! What may change about a pod: hardly anything, since its containers are running.

use crate::changes;
use catamaran_api::{Errors, Path};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Toleration};
use serde_json::Value;

pub(super) fn pod(new: &Pod, old: &Pod, errors: &mut Errors) {
    let (Some(new), Some(old)) = (&new.spec, &old.spec) else {
        return;
    };
    let path = Path::new("spec");
    if (new.containers.len(), init(new).len()) != (old.containers.len(), init(old).len()) {
        let field = if new.containers.len() == old.containers.len() {
            "initContainers"
        } else {
            "containers"
        };
        errors.forbidden(&path.child(field), "pod updates may not add or remove containers");
        return;
    }
    deadline(new, old, &path, errors);
    tolerations(new, old, &path, errors);
    gates(new, old, &path, errors);
    let allowed = with_allowed_changes(new, old);
    if allowed != *old {
        let changed = changes::describe("spec", &allowed, old);
        errors.forbidden(&path, format!("{ALLOWED}\n{changed}\n"));
    }
}

const ALLOWED: &str = "pod updates may not change fields other than \
    `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
    `spec.tolerations` (only additions to existing tolerations),\
    `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

fn init(spec: &PodSpec) -> &[Container] {
    spec.init_containers.as_deref().unwrap_or_default()
}

/// The new spec, with the fields that may change set back. What differs still was not allowed to.
fn with_allowed_changes(new: &PodSpec, old: &PodSpec) -> PodSpec {
    let mut spec = new.clone();
    for (new, old) in spec.containers.iter_mut().zip(&old.containers) {
        new.image.clone_from(&old.image);
    }
    for (new, old) in spec.init_containers.iter_mut().flatten().zip(init(old)) {
        new.image.clone_from(&old.image);
    }
    spec.active_deadline_seconds = old.active_deadline_seconds;
    spec.tolerations.clone_from(&old.tolerations);
    if old.termination_grace_period_seconds.is_some_and(|seconds| seconds < 0)
        && spec.termination_grace_period_seconds == Some(1)
    {
        spec.termination_grace_period_seconds = old.termination_grace_period_seconds;
    }
    // While gates keep the pod from being scheduled, where it may go can still be narrowed.
    if old.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty()) {
        spec.scheduling_gates.clone_from(&old.scheduling_gates);
        let keeps = |new: &PodSpec, old: &PodSpec| {
            let new = new.node_selector.clone().unwrap_or_default();
            old.node_selector
                .iter()
                .flatten()
                .all(|(key, value)| new.get(key) == Some(value))
        };
        if keeps(&spec, old) {
            spec.node_selector.clone_from(&old.node_selector);
        }
    }
    spec
}

fn deadline(new: &PodSpec, old: &PodSpec, path: &Path<'_>, errors: &mut Errors) {
    let at = path.child("activeDeadlineSeconds");
    match (new.active_deadline_seconds, old.active_deadline_seconds) {
        (Some(new), Some(old)) if new > old => {
            errors.invalid(&at, new, "must be less than or equal to previous value");
        }
        (None, Some(_)) => errors.invalid(&at, Value::Null, "must not update from a positive integer to nil value"),
        _ => {}
    }
}

fn tolerations(new: &PodSpec, old: &PodSpec, path: &Path<'_>, errors: &mut Errors) {
    let without_seconds = |toleration: &Toleration| Toleration {
        toleration_seconds: None,
        ..toleration.clone()
    };
    let kept: Vec<Toleration> = new.tolerations.iter().flatten().map(without_seconds).collect();
    let mut known = old.tolerations.iter().flatten().map(without_seconds);
    let at = path.child("tolerations");
    if known.any(|toleration| !kept.contains(&toleration)) {
        errors.forbidden(
            &at,
            "existing toleration can not be modified except its tolerationSeconds",
        );
    }
}

fn gates(new: &PodSpec, old: &PodSpec, path: &Path<'_>, errors: &mut Errors) {
    let names = |spec: &PodSpec| -> Vec<String> {
        spec.scheduling_gates
            .iter()
            .flatten()
            .map(|gate| gate.name.clone())
            .collect()
    };
    let old = names(old);
    let added: Vec<String> = names(new).into_iter().filter(|name| !old.contains(name)).collect();
    if !added.is_empty() {
        let detail = format!(
            "only deletion is allowed, but found new scheduling gates '{}'",
            added.join(", ")
        );
        errors.forbidden(&path.child("schedulingGates"), detail);
    }
}

/// A container that has ended for good does not run again.
pub(super) fn status(new: &Pod, old: &Pod, errors: &mut Errors) {
    let policy = old
        .spec
        .as_ref()
        .and_then(|spec| spec.restart_policy.as_deref())
        .unwrap_or("Always");
    let own_policies = old
        .spec
        .iter()
        .flat_map(|spec| &spec.containers)
        .any(|container| container.restart_policy.is_some() || container.restart_policy_rules.is_some());
    if policy == "Always" || own_policies {
        return;
    }
    let statuses = |pod: &Pod| {
        pod.status
            .as_ref()
            .and_then(|status| status.container_statuses.clone())
            .unwrap_or_default()
    };
    let new = statuses(new);
    let root = Path::new("status");
    let list = root.child("containerStatuses");
    for old in statuses(old) {
        let Some(terminated) = old.state.as_ref().and_then(|state| state.terminated.as_ref()) else {
            continue;
        };
        if policy == "OnFailure" && terminated.exit_code != 0 {
            continue;
        }
        let Some(index) = new.iter().position(|status| status.name == old.name) else {
            continue;
        };
        if new[index].state.as_ref().is_none_or(|state| state.terminated.is_none()) {
            errors.forbidden(
                &list.index(index).child("state"),
                "may not be transitioned to non-terminated state",
            );
        }
    }
}
