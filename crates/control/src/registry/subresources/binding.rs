//! A binding: the scheduler's decision.

use crate::admission::{Attributes, Operation};
use crate::kinds::Object;
use crate::registry::update::Part;
use crate::registry::{Registry, Target, WriteOptions, Written, metadata};
use catamaran_api::{Errors, GroupResource, Path, Status};
use k8s_openapi::api::core::v1::{Binding, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as metav1;
use std::any::Any;

impl Registry {
    /// POST to `pods/binding`: places a pod on a node. The node's name and the `PodScheduled` condition are one write;
    /// a pod that has a node already, or is being deleted, is a conflict.
    pub(crate) async fn bind(
        &self,
        target: &Target,
        binding: &Binding,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        let mut object: Box<dyn Object> = Box::new(binding.clone());
        let attributes = Attributes::new(target, Operation::Create, None, options);
        self.admission.mutate(&self.world(), &attributes, &mut object).await?;
        let binding: &Binding = &super::retyped(object.as_ref())?;
        let node = binding.target.name.as_deref().unwrap_or_default();
        check_binding(target, binding, node)?;
        self.admission
            .validate(&self.world(), &attributes, Some(binding))
            .await?;
        let conflict = |why: String| Status::conflict(&BINDINGS, &target.name, why);
        let warnings = attributes.take_warnings();
        let mut written = self.change(target, Part::System, options, &mut |current, old, _| {
            let mut new = old.boxed_clone();
            let any: &mut dyn Any = new.as_mut();
            let Some(pod) = any.downcast_mut::<Pod>() else {
                return Err(Status::internal("a binding is for a pod"));
            };
            if let Some(uid) = binding
                .metadata
                .uid
                .as_deref()
                .filter(|uid| Some(*uid) != pod.metadata.uid.as_deref())
            {
                let own = pod.metadata.uid.as_deref().unwrap_or_default();
                return Err(conflict(format!(
                    "Precondition failed: UID in precondition: {uid}, UID in object meta: {own}"
                )));
            }
            if pod.metadata.deletion_timestamp.is_some() {
                return Err(conflict(format!(
                    "pod {} is being deleted, cannot be assigned to a host",
                    target.name
                )));
            }
            if let Some(version) = binding.metadata.resource_version.as_deref().filter(|version| !version.is_empty())
                && version != current.revision.to_string()
            {
                let own = current.revision;
                return Err(conflict(format!(
                    "Precondition failed: ResourceVersion in precondition: {version}, ResourceVersion in object meta: {own}"
                )));
            }
            let spec = pod.spec.get_or_insert_default();
            if spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty()) {
                return Err(conflict(format!("pod {} has non-empty .spec.schedulingGates", target.name)));
            }
            if let Some(own) = spec.node_name.as_deref().filter(|own| !own.is_empty()) {
                return Err(conflict(format!(
                    "pod {} is already assigned to node \"{own}\"",
                    target.name
                )));
            }
            spec.node_name = Some(node.to_owned());
            if let Some(annotations) = &binding.metadata.annotations {
                pod.metadata
                    .annotations
                    .get_or_insert_default()
                    .extend(annotations.clone());
            }
            let condition = PodCondition {
                type_: "PodScheduled".to_owned(),
                status: "True".to_owned(),
                last_transition_time: Some(metadata::now()),
                ..Default::default()
            };
            let conditions = pod.status.get_or_insert_default().conditions.get_or_insert_default();
            conditions.retain(|condition| condition.type_ != "PodScheduled");
            conditions.push(condition);
            Ok(new)
        })
        .await?;
        written.warnings.extend(warnings);
        Ok(written)
    }
}

const BINDINGS: GroupResource = GroupResource::from_static("", "pods/binding");

fn check_binding(target: &Target, binding: &Binding, node: &str) -> Result<(), Status> {
    if binding.metadata.name.as_deref().unwrap_or_default() != target.name {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    let kind = binding.target.kind.as_deref().unwrap_or_default();
    let path = Path::new("target");
    let mut errors = Errors::new();
    if !matches!(kind, "" | "Node") {
        errors.not_supported(&path.child("kind"), kind, &["Node", "<empty>"]);
    }
    if node.is_empty() {
        errors.required(&path.child("name"), "");
    }
    if errors.is_empty() {
        return Ok(());
    }
    // Kubernetes has no better code for these.
    Err(Status::from(metav1::Status {
        status: Some("Failure".to_owned()),
        code: Some(500),
        message: Some(errors.message()),
        ..metav1::Status::default()
    }))
}
