//! Which objects a quota is about.

use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, Pod, PodAffinityTerm, PodSpec, ResourceQuotaSpec, ResourceRequirements,
};

/// One condition on objects: `spec.scopes` and `spec.scopeSelector` in the same form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    pub name: String,
    /// `In`, `NotIn`, `Exists`, `DoesNotExist`.
    pub operator: String,
    pub values: Vec<String>,
}

/// All conditions of a quota; an object has to meet every one.
pub fn scopes_of(spec: &ResourceQuotaSpec) -> Vec<Scope> {
    let plain = spec.scopes.iter().flatten().map(|name| Scope {
        name: name.clone(),
        operator: "Exists".to_owned(),
        values: Vec::new(),
    });
    let selected = spec
        .scope_selector
        .iter()
        .flat_map(|selector| selector.match_expressions.iter().flatten())
        .map(|expression| Scope {
            name: expression.scope_name.clone(),
            operator: expression.operator.clone(),
            values: expression.values.clone().unwrap_or_default(),
        });
    plain.chain(selected).collect()
}

impl Scope {
    pub(super) fn has_pod(&self, pod: &Pod) -> bool {
        let terminating = || {
            let seconds = pod.spec.as_ref().and_then(|spec| spec.active_deadline_seconds);
            seconds.is_some_and(|seconds| seconds >= 0)
        };
        match self.name.as_str() {
            "Terminating" => terminating(),
            "NotTerminating" => !terminating(),
            "BestEffort" => is_best_effort(pod),
            "NotBestEffort" => !is_best_effort(pod),
            "PriorityClass" => {
                let class = pod.spec.as_ref().and_then(|spec| spec.priority_class_name.as_deref());
                self.selects(class.filter(|class| !class.is_empty()))
            }
            "CrossNamespacePodAffinity" => pod.spec.as_ref().is_some_and(crosses_namespaces),
            _ => false,
        }
    }

    pub(super) fn has_claim(&self, claim: &PersistentVolumeClaim) -> bool {
        if self.name != "VolumeAttributesClass" {
            return false;
        }
        let spec = claim.spec.as_ref();
        let status = claim.status.as_ref();
        let mut classes = [
            spec.and_then(|spec| spec.volume_attributes_class_name.as_deref()),
            status.and_then(|status| status.current_volume_attributes_class_name.as_deref()),
            status.and_then(|status| {
                let modify = status.modify_volume_status.as_ref()?;
                modify.target_volume_attributes_class_name.as_deref()
            }),
        ]
        .into_iter()
        .flatten()
        .filter(|class| !class.is_empty())
        .peekable();
        if classes.peek().is_none() {
            return self.selects(None);
        }
        classes.any(|class| self.selects(Some(class)))
    }

    /// Is it this class, or none, that is asked for?
    fn selects(&self, class: Option<&str>) -> bool {
        let listed = |class: &str| self.values.iter().any(|value| value == class);
        match self.operator.as_str() {
            "In" => class.is_some_and(listed),
            "NotIn" => !class.is_some_and(listed),
            "DoesNotExist" => class.is_none(),
            _ => class.is_some(),
        }
    }
}

/// Does nothing in the pod state what it needs?
fn is_best_effort(pod: &Pod) -> bool {
    let known = pod.status.as_ref().and_then(|status| status.qos_class.as_deref());
    if let Some(class) = known.filter(|class| !class.is_empty()) {
        return class == "BestEffort";
    }
    let Some(spec) = &pod.spec else { return true };
    let states = |resources: Option<&ResourceRequirements>| {
        resources.is_some_and(|resources| {
            [&resources.requests, &resources.limits]
                .into_iter()
                .flatten()
                .any(|list| {
                    super::of_wire(Some(list))
                        .iter()
                        .any(|(name, quantity)| matches!(name.as_str(), "cpu" | "memory") && !quantity.is_zero())
                })
        })
    };
    let mut containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    !states(spec.resources.as_ref()) && !containers.any(|container| states(container.resources.as_ref()))
}

fn crosses_namespaces(spec: &PodSpec) -> bool {
    let crosses = |term: &PodAffinityTerm| {
        term.namespaces
            .as_ref()
            .is_some_and(|namespaces| !namespaces.is_empty())
            || term.namespace_selector.is_some()
    };
    let Some(affinity) = &spec.affinity else { return false };
    let near = affinity.pod_affinity.as_ref().map(|affinity| {
        (
            &affinity.required_during_scheduling_ignored_during_execution,
            &affinity.preferred_during_scheduling_ignored_during_execution,
        )
    });
    let apart = affinity.pod_anti_affinity.as_ref().map(|affinity| {
        (
            &affinity.required_during_scheduling_ignored_during_execution,
            &affinity.preferred_during_scheduling_ignored_during_execution,
        )
    });
    [near, apart].into_iter().flatten().any(|(required, preferred)| {
        required.iter().flatten().any(crosses)
            || preferred
                .iter()
                .flatten()
                .any(|weighted| crosses(&weighted.pod_affinity_term))
    })
}
