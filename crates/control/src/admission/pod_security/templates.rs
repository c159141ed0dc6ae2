//! Where workloads keep the template of their pods.

use super::super::Attributes;
use crate::kinds::Object;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;

/// Is it a kind that makes pods?
pub(super) fn has_template(attributes: &Attributes<'_>) -> bool {
    let info = &attributes.target.resource.info;
    matches!(
        (info.group.as_ref(), info.plural.as_ref()),
        ("", "podtemplates" | "replicationcontrollers")
            | ("apps", "daemonsets" | "deployments" | "replicasets" | "statefulsets")
            | ("batch", "cronjobs" | "jobs")
    )
}

/// The template in an object of such a kind.
pub(super) fn template(object: &dyn Object) -> Option<PodTemplateSpec> {
    let mut tree = object.to_value().ok()?;
    let place = ["/spec/jobTemplate/spec/template", "/spec/template", "/template"]
        .into_iter()
        .find(|place| tree.pointer(place).is_some())?;
    serde_json::from_value(tree.pointer_mut(place).map(Value::take)?).ok()
}
