//! Pod: containers that live and die together.
//!
//! | what | where |
//! |---|---|
//! | fields nobody wrote | `defaults`, `images` |
//! | what is refused | `validate` (the pod), `containers`, `handlers`, `resources`, `volumes`, `security`, `windows`, `scheduling` |
//! | pods that are yet to be made | `template` |
//! | what may change | `update`, `resize`, `ephemeral`, `status` |
//! | what is accepted and yet warned about | `warnings` |
//! | what `kubectl get pods` prints | `columns` |

mod columns;
mod containers;
mod defaults;
mod ephemeral;
mod handlers;
mod images;
pub(crate) mod paths;
mod resize;
mod resources;
mod scheduling;
mod security;
mod status;
pub(crate) mod template;
mod update;
mod validate;
mod volumes;
mod warnings;
mod windows;

pub use ephemeral::{prepare_ephemeral_containers, validate_ephemeral_containers};
pub use resize::{prepare_resize, validate_resize};
pub(crate) use scheduling::node_selector as validate_node_selector;
pub(crate) use warnings::{deprecated_node_label, fractional};

use crate::{FieldLabel, Kind, STATUS, Subresource, differs};
use catamaran_api::Errors;
use catamaran_api::table::Column;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

pub(crate) struct Pods;

impl Kind for Pods {
    type Object = Pod;
    const NAMESPACED: bool = true;
    const SHORT_NAMES: &'static [&'static str] = &["po"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const FIELD_SELECTORS: &'static [FieldLabel] = &[
        FieldLabel::new("spec.hostNetwork").or("false"),
        FieldLabel::new("spec.nodeName"),
        FieldLabel::new("spec.restartPolicy"),
        FieldLabel::new("spec.schedulerName"),
        FieldLabel::new("spec.serviceAccountName"),
        FieldLabel::new("status.nominatedNodeName"),
        FieldLabel::new("status.phase"),
        FieldLabel::new("status.podIP"),
    ];
    const SUBRESOURCES: &'static [Subresource] = &[
        Subresource {
            name: "attach",
            kind: "PodAttachOptions",
            api_version: "",
            verbs: &["create", "get"],
        },
        Subresource {
            name: "binding",
            kind: "Binding",
            api_version: "",
            verbs: &["create"],
        },
        Subresource {
            name: "ephemeralcontainers",
            kind: "",
            api_version: "",
            verbs: &["get", "patch", "update"],
        },
        Subresource {
            name: "eviction",
            kind: "Eviction",
            api_version: "policy/v1",
            verbs: &["create"],
        },
        Subresource {
            name: "exec",
            kind: "PodExecOptions",
            api_version: "",
            verbs: &["create", "get"],
        },
        Subresource {
            name: "log",
            kind: "",
            api_version: "",
            verbs: &["get"],
        },
        Subresource {
            name: "portforward",
            kind: "PodPortForwardOptions",
            api_version: "",
            verbs: &["create", "get"],
        },
        Subresource {
            name: "proxy",
            kind: "PodProxyOptions",
            api_version: "",
            verbs: &["create", "delete", "get", "patch", "update"],
        },
        Subresource {
            name: "resize",
            kind: "",
            api_version: "",
            verbs: &["get", "patch", "update"],
        },
        STATUS,
    ];

    fn default(&self, object: &mut Pod) {
        defaults::pod(object);
    }

    fn prepare_create(&self, object: &mut Pod) {
        // A negative grace period means the shortest one.
        if let Some(grace) = object
            .spec
            .as_mut()
            .and_then(|spec| spec.termination_grace_period_seconds.as_mut())
        {
            *grace = if *grace < 0 { 1 } else { *grace };
        }
        let qos_class = object.spec.as_ref().map(validate::qos_class);
        object.status = Some(PodStatus {
            phase: Some("Pending".to_owned()),
            qos_class: qos_class.map(ToOwned::to_owned),
            ..Default::default()
        });
    }

    fn prepare_update(&self, new: &mut Pod, old: &Pod) {
        new.status.clone_from(&old.status);
    }

    fn prepare_status(&self, new: &mut Pod, old: &Pod) {
        new.spec.clone_from(&old.spec);
        new.metadata.owner_references.clone_from(&old.metadata.owner_references);
        // What class a pod is in was decided when it was created.
        if let (Some(new), Some(old)) = (&mut new.status, &old.status)
            && new.qos_class.is_none()
        {
            new.qos_class.clone_from(&old.qos_class);
        }
    }

    fn spec_changed(&self, new: &Pod, old: &Pod) -> Option<bool> {
        differs(&new.spec, &old.spec)
    }

    fn validate(&self, object: &Pod, errors: &mut Errors) {
        validate::pod(object, errors);
    }

    fn validate_update(&self, new: &Pod, old: &Pod, errors: &mut Errors) {
        update::pod(new, old, errors);
    }

    fn validate_create(&self, object: &Pod, errors: &mut Errors) {
        validate::new(object, errors);
    }

    fn prepare_part(&self, part: &str, new: &mut Pod, old: &Pod) {
        match part {
            "ephemeralcontainers" => *new = prepare_ephemeral_containers(new, old),
            "resize" => *new = prepare_resize(new, old),
            _ => new.clone_from(old),
        }
    }

    fn validate_part(&self, part: &str, new: &Pod, old: &Pod, errors: &mut Errors) {
        validate::pod(new, errors);
        match part {
            "ephemeralcontainers" => validate_ephemeral_containers(new, old, errors),
            "resize" => validate_resize(new, old, errors),
            _ => {}
        }
    }

    fn validate_status(&self, new: &Pod, old: &Pod, errors: &mut Errors) {
        status::validate(new, old, errors);
        update::status(new, old, errors);
    }

    fn warnings(&self, new: &Pod, old: Option<&Pod>) -> Vec<String> {
        if old.is_some() { Vec::new() } else { warnings::pod(new) }
    }

    /// A pod that runs somewhere is deleted by its node: the object stays until the agent removes it with grace 0. One
    /// that was never scheduled, or has come to its end, is gone at once.
    fn deletion_grace(&self, object: &Pod, requested: Option<i64>) -> Option<i64> {
        let spec = object.spec.as_ref();
        let scheduled = spec
            .and_then(|spec| spec.node_name.as_deref())
            .is_some_and(|node| !node.is_empty());
        let phase = object.status.as_ref().and_then(|status| status.phase.as_deref());
        if !scheduled || matches!(phase, Some("Succeeded" | "Failed")) {
            return Some(0);
        }
        let own = spec
            .and_then(|spec| spec.termination_grace_period_seconds)
            .unwrap_or(30);
        Some(requested.unwrap_or(own)).map(|seconds| if seconds < 0 { 1 } else { seconds })
    }

    fn columns(&self) -> &'static [Column] {
        columns::COLUMNS
    }

    fn row(&self, object: &Pod, now: Timestamp) -> Vec<Value> {
        columns::row(object, now)
    }
}

#[cfg(test)]
mod tests;
