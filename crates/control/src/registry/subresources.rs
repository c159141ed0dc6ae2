//! The paths below an object that change it in one particular way.

use super::update::Part;
use super::{Registry, Target, WriteOptions, Written, body};
use catamaran_api::body::Body;
use catamaran_api::{Errors, Path, Status};
use k8s_openapi::api::core::v1::{Binding, Namespace, Pod, PodCondition};
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
        let node = binding.target.name.as_deref().unwrap_or_default();
        check_binding(target, binding, node)?;
        let conflict = |why: String| Status::conflict(&target.resource.group_resource, &target.name, why);
        self.change(target, Part::System, options, &mut |_, old, _| {
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
            let spec = pod.spec.get_or_insert_default();
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
                last_transition_time: Some(super::metadata::now()),
                ..Default::default()
            };
            let conditions = pod.status.get_or_insert_default().conditions.get_or_insert_default();
            conditions.retain(|condition| condition.type_ != "PodScheduled");
            conditions.push(condition);
            Ok(new)
        })
        .await
    }

    /// PUT to `namespaces/finalize`: what still has to happen before a namespace is gone.
    pub(crate) async fn finalize(
        &self,
        target: &Target,
        body: Body,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        let mut warnings = Vec::new();
        let wanted = body::decode(&target.resource, body, options.validation, &mut warnings)?;
        let any: &dyn Any = wanted.as_ref();
        let Some(wanted) = any.downcast_ref::<Namespace>() else {
            return Err(Status::internal("finalize is for a namespace"));
        };
        self.change(target, Part::Finalize, options, &mut |_, old, _| {
            let mut new = old.boxed_clone();
            let any: &mut dyn Any = new.as_mut();
            if let Some(namespace) = any.downcast_mut::<Namespace>() {
                let finalizers = wanted.spec.as_ref().and_then(|spec| spec.finalizers.clone());
                namespace.spec.get_or_insert_default().finalizers = finalizers;
                namespace
                    .metadata
                    .resource_version
                    .clone_from(&wanted.metadata.resource_version);
                namespace.metadata.uid.clone_from(&wanted.metadata.uid);
            }
            Ok(new)
        })
        .await
    }
}

fn check_binding(target: &Target, binding: &Binding, node: &str) -> Result<(), Status> {
    let kind = binding.target.kind.as_deref().unwrap_or_default();
    let path = Path::new("target");
    let mut errors = Errors::new();
    if !matches!(kind, "" | "Node") {
        errors.not_supported(&path.child("kind"), kind, &["Node", "<empty>"]);
    }
    if node.is_empty() {
        errors.required(&path.child("name"), "");
    }
    let name = binding.metadata.name.as_deref().unwrap_or_default();
    if !name.is_empty() && name != target.name {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            target.name
        )));
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(
        &catamaran_api::GroupKind::from_static("", "Binding"),
        &target.name,
        &errors,
    ))
}
