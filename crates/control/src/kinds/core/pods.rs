//! Pod: containers that live and die together.

use crate::kinds::{Kind, STATUS, Subresource, differs};
use k8s_openapi::api::core::v1::{Pod, PodStatus};

pub(in crate::kinds) struct Pods;

impl Kind for Pods {
    type Object = Pod;
    const NAMESPACED: bool = true;
    const SHORT_NAMES: &'static [&'static str] = &["po"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const FIELD_SELECTORS: &'static [&'static str] = &[
        "spec.hostNetwork",
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "status.nominatedNodeName",
        "status.phase",
        "status.podIP",
    ];
    const SUBRESOURCES: &'static [Subresource] = &[
        Subresource { name: "attach", kind: "PodAttachOptions", verbs: &["create", "get"] },
        Subresource { name: "binding", kind: "Binding", verbs: &["create"] },
        Subresource { name: "exec", kind: "PodExecOptions", verbs: &["create", "get"] },
        Subresource { name: "log", kind: "", verbs: &["get"] },
        STATUS,
    ];

    fn prepare_create(&self, object: &mut Pod) {
        object.status = Some(PodStatus { phase: Some("Pending".to_owned()), ..Default::default() });
    }

    fn prepare_update(&self, new: &mut Pod, old: &Pod) {
        new.status.clone_from(&old.status);
    }

    fn prepare_status(&self, new: &mut Pod, old: &Pod) {
        new.spec.clone_from(&old.spec);
    }

    fn spec_changed(&self, new: &Pod, old: &Pod) -> Option<bool> {
        differs(&new.spec, &old.spec)
    }

    /// A pod that runs somewhere is deleted by its node: the object stays until the agent removes it with grace 0. One
    /// that was never scheduled, or has come to its end, is gone at once.
    fn deletion_grace(&self, object: &Pod, requested: Option<i64>) -> Option<i64> {
        let spec = object.spec.as_ref();
        let scheduled = spec.and_then(|spec| spec.node_name.as_deref()).is_some_and(|node| !node.is_empty());
        let phase = object.status.as_ref().and_then(|status| status.phase.as_deref());
        if !scheduled || matches!(phase, Some("Succeeded" | "Failed")) {
            return Some(0);
        }
        let own = spec.and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(30);
        Some(requested.unwrap_or(own)).map(|seconds| if seconds < 0 { 1 } else { seconds })
    }
}
