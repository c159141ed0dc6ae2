//! The two priority classes that every cluster has, for pods without which it would not be one.

use k8s_openapi::api::scheduling::v1::PriorityClass;

/// Name, value, description.
const CLASSES: [(&str, i32, &str); 2] = [
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
];

pub(super) fn all() -> impl Iterator<Item = PriorityClass> {
    CLASSES.into_iter().map(|(name, value, description)| PriorityClass {
        metadata: super::named(name),
        value,
        description: Some(description.to_owned()),
        preemption_policy: Some("PreemptLowerPriority".to_owned()),
        ..PriorityClass::default()
    })
}
