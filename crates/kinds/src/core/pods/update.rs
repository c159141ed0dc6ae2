//! What may change about a pod: hardly anything, since its containers are running.

use crate::changes;
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::core::v1::{
    Affinity, Container, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, Toleration,
};
use serde_json::Value;

pub(super) fn pod(new: &Pod, old: &Pod, errors: &mut Errors) {
    mirror(new, old, errors);
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
    narrowed(new, old, &path, errors);
    let allowed = with_allowed_changes(new, old);
    if allowed != *old {
        let changed = changes::describe("spec", &allowed, old);
        errors.forbidden(&path, format!("{ALLOWED}\n{changed}\n"));
    }
}

/// Whether a pod stands for one of a node's own is decided by the node, once.
fn mirror(new: &Pod, old: &Pod, errors: &mut Errors) {
    let value = |pod: &Pod| {
        let annotations = pod.metadata.annotations.as_ref();
        annotations.and_then(|annotations| annotations.get(MIRROR)).cloned()
    };
    let what = match (value(new), value(old)) {
        (new, old) if new == old => return,
        (_, Some(_)) => "may not remove or update mirror pod annotation",
        (_, None) => "may not add mirror pod annotation",
    };
    let path = Path::new("metadata");
    errors.forbidden(&path.child("annotations").key(MIRROR), what);
}

/// Marks a pod that stands for one a node runs by itself.
pub(super) const MIRROR: &str = "kubernetes.io/config.mirror";

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
        spec.node_selector.clone_from(&old.node_selector);
        let node = old
            .affinity
            .as_ref()
            .and_then(|affinity| affinity.node_affinity.clone());
        let only_node = |affinity: &Affinity| affinity.pod_affinity.is_none() && affinity.pod_anti_affinity.is_none();
        match &mut spec.affinity {
            None => {
                spec.affinity = node.map(|node| Affinity {
                    node_affinity: Some(node),
                    ..Default::default()
                });
            }
            Some(affinity) if old.affinity.is_none() && only_node(affinity) => spec.affinity = None,
            Some(affinity) => affinity.node_affinity = node,
        }
    }
    spec
}

/// Of a pod that waits behind gates, where it may go is only ever narrowed.
fn narrowed(new: &PodSpec, old: &PodSpec, path: &Path<'_>, errors: &mut Errors) {
    if old.scheduling_gates.as_ref().is_none_or(Vec::is_empty) {
        return;
    }
    let selector = new.node_selector.clone().unwrap_or_default();
    let kept = |(key, value): (&String, &String)| selector.get(key) == Some(value);
    if !old.node_selector.iter().flatten().all(kept) {
        let detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        let shown = serde_json::to_value(&new.node_selector).unwrap_or_default();
        errors.invalid(&path.child("nodeSelector"), shown, detail);
    }
    let (new, old) = (required_terms(new), required_terms(old));
    let path = path.child("affinity");
    let path = path.child("nodeAffinity");
    let path = path.child(super::scheduling::REQUIRED);
    let list = path.child("nodeSelectorTerms");
    let shown = |terms: &[NodeSelectorTerm]| serde_json::to_value(terms).unwrap_or_default();
    if !old.is_empty() && old.len() != new.len() {
        let detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        errors.invalid(&list, shown(new), detail);
        return;
    }
    for (index, (new, old)) in new.iter().zip(old).enumerate() {
        if !only_adds(new, old) {
            let shown = serde_json::to_value(new).unwrap_or_default();
            let detail = "only additions are allowed (no mutations or deletions)";
            errors.invalid(&list.index(index), shown, detail);
        }
    }
}

fn required_terms(spec: &PodSpec) -> &[NodeSelectorTerm] {
    let node = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref());
    let required = node.and_then(|node| node.required_during_scheduling_ignored_during_execution.as_ref());
    required.map_or(&[], |required| &required.node_selector_terms)
}

/// A term without conditions matches nothing, so that nothing can be added to it.
fn only_adds(new: &NodeSelectorTerm, old: &NodeSelectorTerm) -> bool {
    let list = |list: &Option<Vec<NodeSelectorRequirement>>| list.clone().unwrap_or_default();
    let (fields, expressions) = (list(&old.match_fields), list(&old.match_expressions));
    let (new_fields, new_expressions) = (list(&new.match_fields), list(&new.match_expressions));
    if fields.is_empty() && expressions.is_empty() {
        return new_fields.is_empty() && new_expressions.is_empty();
    }
    new_fields.starts_with(&fields) && new_expressions.starts_with(&expressions)
}

fn deadline(new: &PodSpec, old: &PodSpec, path: &Path<'_>, errors: &mut Errors) {
    let at = path.child("activeDeadlineSeconds");
    let all = 0..=i64::from(i32::MAX);
    match (new.active_deadline_seconds, old.active_deadline_seconds) {
        (Some(new), _) if !all.contains(&new) => {
            errors.invalid(&at, new, names::inclusive_range(0, i64::from(i32::MAX)));
        }
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
    let old = old.scheduling_gates.as_deref().unwrap_or_default();
    let list = path.child("schedulingGates");
    for (index, gate) in new.scheduling_gates.iter().flatten().enumerate() {
        if !old.iter().any(|other| other.name == gate.name) {
            let detail = format!(
                "only deletion is allowed, but found new scheduling gate '{}'",
                gate.name
            );
            errors.forbidden(&list.index(index).child("name"), detail);
        }
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
