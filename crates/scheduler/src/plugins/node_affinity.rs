//! `nodeSelector` and node affinity: which nodes a pod must run on, and which it would rather run on.
//!
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/>. Terms are alternatives; the requirements
//! within a term all hold. An empty term selects nothing.

use super::{Normalize, Plugin, Rejection};
use crate::node::NodeView;
use crate::pod::PodView;
use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};

pub(super) struct NodeAffinity;

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn filter(&self, pod: &PodView, node: &NodeView) -> Result<(), Rejection> {
        if let Some(required) = &pod.required_affinity
            && !may_be_named(required, &node.facts.name)
        {
            return Err(Rejection::incurable("node(s) didn't satisfy plugin(s) [NodeAffinity]"));
        }
        let labels = &node.facts.labels;
        let selected = pod
            .node_selector
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value));
        let required = pod.required_affinity.as_ref();
        if selected
            && required.is_none_or(|required| required.node_selector_terms.iter().any(|term| matches(term, node)))
        {
            return Ok(());
        }
        Err(Rejection::incurable(
            "node(s) didn't match Pod's node affinity/selector",
        ))
    }

    fn score(&self, pod: &PodView, node: &NodeView) -> Option<i64> {
        if pod.preferred_affinity.is_empty() {
            return None;
        }
        let liked = pod
            .preferred_affinity
            .iter()
            .filter(|preferred| matches(&preferred.preference, node));
        Some(liked.map(|preferred| i64::from(preferred.weight)).sum())
    }

    fn normalize(&self) -> Normalize {
        Normalize::MoreIsBetter
    }

    fn weight(&self) -> i64 {
        2
    }
}

/// False when every term says by name which nodes it means, and none means this one. Daemons' pods are pinned like
/// that; kube-scheduler drops all other nodes before it looks at them, and says so in other words.
fn may_be_named(required: &NodeSelector, name: &str) -> bool {
    required.node_selector_terms.is_empty()
        || required.node_selector_terms.iter().any(|term| {
            let fields = term.match_fields.iter().flatten();
            let mut names = fields
                .filter(|field| field.key == "metadata.name" && field.operator == "In")
                .peekable();
            names.peek().is_none() || names.all(|field| field.values.iter().flatten().any(|value| value == name))
        })
}

fn matches(term: &NodeSelectorTerm, node: &NodeView) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let label = |key: &str| node.facts.labels.get(key).map(String::as_str);
    let field = |key: &str| (key == "metadata.name").then_some(node.facts.name.as_str());
    expressions
        .iter()
        .all(|requirement| holds(requirement, label(&requirement.key)))
        && fields
            .iter()
            .all(|requirement| holds(requirement, field(&requirement.key)))
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = || value.is_some_and(|value| values.iter().any(|wanted| wanted == value));
    match requirement.operator.as_str() {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(value, values).is_some_and(|(is, bound)| is > bound),
        "Lt" => compare(value, values).is_some_and(|(is, bound)| is < bound),
        _ => false,
    }
}

fn compare(value: Option<&str>, values: &[String]) -> Option<(i64, i64)> {
    let [bound] = values else {
        return None;
    };
    Some((value?.parse().ok()?, bound.parse().ok()?))
}
