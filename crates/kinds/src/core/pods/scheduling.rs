//! Where a pod may run: selectors, affinity, tolerations, spreading.

use crate::rules::{self, one_of};
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::core::v1::{
    Affinity, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodAffinityTerm, PodSpec,
    Toleration, TopologySpreadConstraint, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use std::collections::HashSet;

pub(super) fn validate(spec: &PodSpec, path: &Path<'_>, errors: &mut Errors) {
    let at = path.child("nodeSelector");
    for (key, value) in spec.node_selector.iter().flatten() {
        errors.invalid_each(&at, key, names::qualified_name(key));
        errors.invalid_each(&at, value, names::label_value(value));
    }
    if let Some(affinity) = &spec.affinity {
        self::affinity(affinity, &path.child("affinity"), errors);
    }
    tolerations(
        spec.tolerations.as_deref().unwrap_or_default(),
        &path.child("tolerations"),
        errors,
    );
    let spread = spec.topology_spread_constraints.as_deref().unwrap_or_default();
    topology_spread(spread, &path.child("topologySpreadConstraints"), errors);
    let gates = path.child("schedulingGates");
    let mut seen = HashSet::new();
    for (index, gate) in spec.scheduling_gates.iter().flatten().enumerate() {
        let at = gates.index(index);
        errors.invalid_each(&at, &gate.name, names::qualified_name(&gate.name));
        if !seen.insert(&gate.name) {
            errors.duplicate(&at, gate.name.as_str());
        }
    }
}

fn affinity(affinity: &Affinity, path: &Path<'_>, errors: &mut Errors) {
    if let Some(node) = &affinity.node_affinity {
        node_affinity(node, &path.child("nodeAffinity"), errors);
    }
    if let Some(pod) = &affinity.pod_affinity {
        let required = pod.required_during_scheduling_ignored_during_execution.as_deref();
        let preferred = pod.preferred_during_scheduling_ignored_during_execution.as_deref();
        pod_affinity(required, preferred, &path.child("podAffinity"), errors);
    }
    if let Some(pod) = &affinity.pod_anti_affinity {
        let required = pod.required_during_scheduling_ignored_during_execution.as_deref();
        let preferred = pod.preferred_during_scheduling_ignored_during_execution.as_deref();
        pod_affinity(required, preferred, &path.child("podAntiAffinity"), errors);
    }
}

pub(super) const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
pub(super) const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

fn node_affinity(affinity: &NodeAffinity, path: &Path<'_>, errors: &mut Errors) {
    if let Some(required) = &affinity.required_during_scheduling_ignored_during_execution {
        node_selector(required, &path.child(REQUIRED), errors);
    }
    let list = path.child(PREFERRED);
    let preferred = affinity
        .preferred_during_scheduling_ignored_during_execution
        .as_deref()
        .unwrap_or_default();
    for (index, term) in preferred.iter().enumerate() {
        let at = list.index(index);
        weight(term.weight, &at, errors);
        node_term(&term.preference, Values::Any, &at.child("preference"), errors);
    }
}

/// Terms of which one must hold.
pub(crate) fn node_selector(selector: &NodeSelector, path: &Path<'_>, errors: &mut Errors) {
    let terms = path.child("nodeSelectorTerms");
    if selector.node_selector_terms.is_empty() {
        errors.required(&terms, "must have at least one node selector term");
    }
    for (index, term) in selector.node_selector_terms.iter().enumerate() {
        node_term(term, Values::OfLabels, &terms.index(index), errors);
    }
}

fn weight(weight: i32, path: &Path<'_>, errors: &mut Errors) {
    if !(1..=100).contains(&weight) {
        errors.invalid(&path.child("weight"), weight, "must be in the range 1-100");
    }
}

/// May an expression ask for what no label can be? Preferences always could.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Values {
    Any,
    OfLabels,
}

fn node_term(term: &NodeSelectorTerm, allowed: Values, path: &Path<'_>, errors: &mut Errors) {
    let list = path.child("matchExpressions");
    for (index, requirement) in term.match_expressions.iter().flatten().enumerate() {
        node_requirement(requirement, allowed, &list.index(index), errors);
    }
    let list = path.child("matchFields");
    for (index, requirement) in term.match_fields.iter().flatten().enumerate() {
        node_field(requirement, &list.index(index), errors);
    }
}

fn node_requirement(requirement: &NodeSelectorRequirement, allowed: Values, path: &Path<'_>, errors: &mut Errors) {
    let values = requirement.values.as_deref().unwrap_or_default();
    let at = path.child("values");
    match requirement.operator.as_str() {
        "In" | "NotIn" if values.is_empty() => {
            errors.required(&at, "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            errors.forbidden(
                &at,
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            );
        }
        "Gt" | "Lt" if values.len() != 1 => {
            errors.required(&at, "must be specified single value when `operator` is 'Lt' or 'Gt'");
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
    }
    errors.invalid_each(
        &path.child("key"),
        &requirement.key,
        names::qualified_name(&requirement.key),
    );
    for (index, value) in values.iter().enumerate().filter(|_| allowed == Values::OfLabels) {
        errors.invalid_each(&at.index(index), value, names::label_value(value));
    }
}

/// The only field of a node that can be selected is its name.
fn node_field(requirement: &NodeSelectorRequirement, path: &Path<'_>, errors: &mut Errors) {
    let values = requirement.values.as_deref().unwrap_or_default();
    let at = path.child("values");
    match requirement.operator.as_str() {
        "In" | "NotIn" if values.len() != 1 => {
            let detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            errors.required(&at, detail);
        }
        "In" | "NotIn" => {}
        other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
    }
    if requirement.key != "metadata.name" {
        errors.invalid(
            &path.child("key"),
            requirement.key.as_str(),
            "not a valid field selector key",
        );
        return;
    }
    for (index, value) in values.iter().enumerate() {
        errors.invalid_each(&at.index(index), value, names::dns1123_subdomain(value));
    }
}

fn pod_affinity(
    required: Option<&[PodAffinityTerm]>,
    preferred: Option<&[WeightedPodAffinityTerm]>,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    let list = path.child(REQUIRED);
    for (index, term) in required.unwrap_or_default().iter().enumerate() {
        pod_term(term, &list.index(index), errors);
    }
    let list = path.child(PREFERRED);
    for (index, term) in preferred.unwrap_or_default().iter().enumerate() {
        let at = list.index(index);
        weight(term.weight, &at, errors);
        pod_term(&term.pod_affinity_term, &at.child("podAffinityTerm"), errors);
    }
}

fn pod_term(term: &PodAffinityTerm, path: &Path<'_>, errors: &mut Errors) {
    label_selector(term.label_selector.as_ref(), &path.child("labelSelector"), errors);
    label_selector(
        term.namespace_selector.as_ref(),
        &path.child("namespaceSelector"),
        errors,
    );
    for namespace in term.namespaces.iter().flatten() {
        errors.invalid_each(&path.child("namespace"), namespace, names::dns1123_label(namespace));
    }
    let (is, not) = (term.match_label_keys.as_deref(), term.mismatch_label_keys.as_deref());
    let at = path.child("matchLabelKeys");
    label_keys(is, term.label_selector.as_ref(), &at, errors);
    let mismatched = path.child("mismatchLabelKeys");
    label_keys(not, term.label_selector.as_ref(), &mismatched, errors);
    for (index, key) in is.unwrap_or_default().iter().enumerate() {
        if not.unwrap_or_default().contains(key) {
            let detail = "exists in both matchLabelKeys and mismatchLabelKeys";
            errors.invalid(&at.index(index), key.as_str(), detail);
        }
    }
    let at = path.child("topologyKey");
    if term.topology_key.is_empty() {
        errors.required(&at, "can not be empty");
    }
    errors.invalid_each(&at, &term.topology_key, names::qualified_name(&term.topology_key));
}

fn label_selector(selector: Option<&LabelSelector>, path: &Path<'_>, errors: &mut Errors) {
    if let Some(selector) = selector {
        rules::label_selector(selector, path, errors);
    }
}

/// Labels of the new pod whose values join the selector; without one there is nothing to join.
fn label_keys(keys: Option<&[String]>, selector: Option<&LabelSelector>, path: &Path<'_>, errors: &mut Errors) {
    let keys = keys.unwrap_or_default();
    if keys.is_empty() {
        return;
    }
    if selector.is_none() {
        errors.forbidden(path, "must not be specified when labelSelector is not set");
        return;
    }
    for (index, key) in keys.iter().enumerate() {
        errors.invalid_each(&path.index(index), key, names::qualified_name(key));
    }
}

fn selects_by(selector: Option<&LabelSelector>, key: &str) -> bool {
    selector.is_some_and(|selector| {
        let mut expressions = selector.match_expressions.iter().flatten();
        let labels = selector.match_labels.as_ref();
        labels.is_some_and(|labels| labels.contains_key(key)) || expressions.any(|expression| expression.key == key)
    })
}

pub(super) fn tolerations(tolerations: &[Toleration], path: &Path<'_>, errors: &mut Errors) {
    for (index, toleration) in tolerations.iter().enumerate() {
        let at = path.index(index);
        let key = toleration.key.as_deref().unwrap_or_default();
        let operator = toleration.operator.as_deref().unwrap_or_default();
        let effect = toleration.effect.as_deref().unwrap_or_default();
        let value = toleration.value.as_deref().unwrap_or_default();
        if !key.is_empty() {
            errors.invalid_each(&at.child("key"), key, names::qualified_name(key));
        } else if operator != "Exists" {
            let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.invalid(&at.child("operator"), operator, detail);
        }
        if toleration.toleration_seconds.is_some() && effect != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.invalid(&at.child("effect"), effect, detail);
        }
        match operator {
            "" | "Equal" => {
                let messages = names::label_value(value);
                if !messages.is_empty() {
                    errors.invalid(&at.child("operator"), value, messages.join(";"));
                }
            }
            "Exists" if !value.is_empty() => {
                let detail = "value must be empty when `operator` is 'Exists'";
                errors.invalid(&at.child("operator"), value, detail);
            }
            "Exists" => {}
            other => errors.not_supported(&at.child("operator"), other, &["Equal", "Exists"]),
        }
        if !effect.is_empty() {
            one_of(
                Some(effect),
                &["NoSchedule", "PreferNoSchedule", "NoExecute"],
                &at.child("effect"),
                errors,
            );
        }
    }
}

fn topology_spread(constraints: &[TopologySpreadConstraint], path: &Path<'_>, errors: &mut Errors) {
    for (index, constraint) in constraints.iter().enumerate() {
        let at = path.index(index);
        if constraint.max_skew <= 0 {
            errors.invalid(&at.child("maxSkew"), constraint.max_skew, "must be greater than zero");
        }
        if constraint.topology_key.is_empty() {
            errors.required(&at.child("topologyKey"), "can not be empty");
        }
        let supported = ["DoNotSchedule", "ScheduleAnyway"];
        let action = constraint.when_unsatisfiable.as_str();
        one_of(Some(action), &supported, &at.child("whenUnsatisfiable"), errors);
        let same = |other: &TopologySpreadConstraint| {
            (&other.topology_key, &other.when_unsatisfiable)
                == (&constraint.topology_key, &constraint.when_unsatisfiable)
        };
        if constraints[index + 1..].iter().any(same) {
            let pair = format!("{{{}, {action}}}", constraint.topology_key);
            errors.duplicate(&at.child("{topologyKey, whenUnsatisfiable}"), pair);
        }
        if let Some(domains) = constraint.min_domains {
            if domains <= 0 {
                errors.invalid(&at.child("minDomains"), domains, "must be greater than zero");
            }
            if action != "DoNotSchedule" {
                let detail = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
                errors.invalid(&at.child("minDomains"), domains, detail);
            }
        }
        let policies = [
            ("nodeAffinityPolicy", &constraint.node_affinity_policy),
            ("nodeTaintsPolicy", &constraint.node_taints_policy),
        ];
        for (field, policy) in policies {
            one_of(policy.as_deref(), &["Honor", "Ignore"], &at.child(field), errors);
        }
        let selector = constraint.label_selector.as_ref();
        let keys = at.child("matchLabelKeys");
        label_keys(constraint.match_label_keys.as_deref(), selector, &keys, errors);
        for (index, key) in constraint.match_label_keys.iter().flatten().enumerate() {
            if selects_by(selector, key) {
                let detail = "exists in both matchLabelKeys and labelSelector";
                errors.invalid(&keys.index(index), key.as_str(), detail);
            }
        }
        label_selector(selector, &at.child("labelSelector"), errors);
    }
}
