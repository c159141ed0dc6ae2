//! How each field merges. Kubernetes keeps this as tags on its Go types; the published schemas lack it, so here is the table, by the
//! name of the definition that has the field. A list that is not in it is atomic: replaced as a whole.

use crate::schema::Node;

/// How two values of a field become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strategy {
    pub list: ListMerge,
    /// A patch of the object (or of an item of the list) says with `$retainKeys` which of its fields stay: unions, where setting
    /// one member must clear the others.
    pub retain_keys: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListMerge {
    /// The new list replaces the old one.
    Atomic,
    /// A set of scalars.
    Set,
    /// A map whose items are told apart by this field.
    ByKey(&'static str),
}

const ATOMIC: Strategy = Strategy {
    list: ListMerge::Atomic,
    retain_keys: false,
};

/// The strategy of field `field` of the type at `node`.
pub fn strategy(node: Option<Node<'_>>, field: &str) -> Strategy {
    let Some(definition) = node.and_then(Node::definition) else {
        return ATOMIC;
    };
    TABLE
        .iter()
        .find(|(suffix, name, _)| *name == field && definition.ends_with(suffix))
        .map_or(ATOMIC, |(_, _, strategy)| *strategy)
}

const fn by(key: &'static str) -> Strategy {
    Strategy {
        list: ListMerge::ByKey(key),
        retain_keys: false,
    }
}

const fn retaining(key: &'static str) -> Strategy {
    Strategy {
        list: ListMerge::ByKey(key),
        retain_keys: true,
    }
}

const SET: Strategy = Strategy {
    list: ListMerge::Set,
    retain_keys: false,
};
const RETAINING_OBJECT: Strategy = Strategy {
    list: ListMerge::Atomic,
    retain_keys: true,
};

/// End of the definition's name, field, strategy. Sorted.
const TABLE: &[(&str, &str, Strategy)] = &[
    (
        ".admissionregistration.v1.MutatingWebhookConfiguration",
        "webhooks",
        by("name"),
    ),
    (
        ".admissionregistration.v1.ValidatingWebhookConfiguration",
        "webhooks",
        by("name"),
    ),
    (".apps.v1.DaemonSetStatus", "conditions", by("type")),
    (".apps.v1.DeploymentSpec", "strategy", RETAINING_OBJECT),
    (".apps.v1.DeploymentStatus", "conditions", by("type")),
    (".apps.v1.ReplicaSetStatus", "conditions", by("type")),
    (".apps.v1.StatefulSetStatus", "conditions", by("type")),
    (
        ".autoscaling.v2.HorizontalPodAutoscalerStatus",
        "conditions",
        by("type"),
    ),
    (".batch.v1.JobStatus", "conditions", by("type")),
    (".core.v1.Container", "env", by("name")),
    (".core.v1.Container", "ports", by("containerPort")),
    (".core.v1.Container", "volumeDevices", by("devicePath")),
    (".core.v1.Container", "volumeMounts", by("mountPath")),
    (".core.v1.ContainerStatus", "volumeMounts", by("mountPath")),
    (".core.v1.EphemeralContainer", "env", by("name")),
    (".core.v1.EphemeralContainer", "ports", by("containerPort")),
    (".core.v1.EphemeralContainer", "volumeDevices", by("devicePath")),
    (".core.v1.EphemeralContainer", "volumeMounts", by("mountPath")),
    (".core.v1.NamespaceStatus", "conditions", by("type")),
    (".core.v1.NodeSpec", "podCIDRs", SET),
    (".core.v1.NodeStatus", "addresses", by("type")),
    (".core.v1.NodeStatus", "conditions", by("type")),
    (".core.v1.PersistentVolumeClaimStatus", "conditions", by("type")),
    (".core.v1.PodSpec", "containers", by("name")),
    (".core.v1.PodSpec", "ephemeralContainers", by("name")),
    (".core.v1.PodSpec", "hostAliases", by("ip")),
    (".core.v1.PodSpec", "imagePullSecrets", by("name")),
    (".core.v1.PodSpec", "initContainers", by("name")),
    (".core.v1.PodSpec", "resourceClaims", retaining("name")),
    (".core.v1.PodSpec", "schedulingGates", by("name")),
    (".core.v1.PodSpec", "topologySpreadConstraints", by("topologyKey")),
    (".core.v1.PodSpec", "volumes", retaining("name")),
    (".core.v1.PodStatus", "conditions", by("type")),
    (".core.v1.PodStatus", "hostIPs", by("ip")),
    (".core.v1.PodStatus", "podIPs", by("ip")),
    (".core.v1.PodStatus", "resourceClaimStatuses", retaining("name")),
    (".core.v1.ReplicationControllerStatus", "conditions", by("type")),
    (".core.v1.ServiceAccount", "secrets", by("name")),
    (".core.v1.ServiceSpec", "ports", by("port")),
    (".core.v1.ServiceStatus", "conditions", by("type")),
    (".meta.v1.ObjectMeta", "finalizers", SET),
    (".meta.v1.ObjectMeta", "ownerReferences", by("uid")),
    (".policy.v1.PodDisruptionBudgetStatus", "conditions", by("type")),
    (".storage.v1.CSINodeSpec", "drivers", by("name")),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Schemas;

    #[test]
    fn the_table_is_sorted_and_names_fields_that_exist() {
        assert!(TABLE.is_sorted_by(|a, b| (a.0, a.1) < (b.0, b.1)));
        for (suffix, field, strategy) in TABLE {
            let name = ["io.k8s.api", "io.k8s.apimachinery.pkg.apis"].map(|prefix| format!("{prefix}{suffix}"));
            let Some(node) = name.iter().find_map(|name| Schemas::builtin().node(name)) else {
                continue;
            };
            let field_node = node
                .field(field)
                .unwrap_or_else(|| panic!("{suffix} has no field {field}"));
            if let ListMerge::ByKey(key) = strategy.list {
                assert!(
                    field_node.items().unwrap().field(key).is_some(),
                    "{suffix}.{field} has no {key}"
                );
            }
            assert_eq!(super::strategy(Some(node), field), *strategy);
        }
    }
}
