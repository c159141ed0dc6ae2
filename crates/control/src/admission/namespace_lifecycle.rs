//! Nothing is created in a namespace that is not there or is going away, and the system's namespaces stay.

use super::{Attributes, Operation, Plugin, World};
use crate::kinds::Object;
use crate::registry::{Target, tree};
use async_trait::async_trait;
use catamaran_api::{GroupResource, Status};

/// Namespaces the system cannot do without.
const IMMORTAL: &[&str] = &["default", "kube-public", "kube-system"];

pub(super) struct NamespaceLifecycle;

const NAMESPACES: GroupResource = GroupResource::from_static("", "namespaces");

#[async_trait]
impl Plugin for NamespaceLifecycle {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        match attributes.operation {
            Operation::Create => attributes.target.namespace.is_some(),
            Operation::Delete => attributes.target.resource.group_resource == NAMESPACES,
            Operation::Update | Operation::Connect => false,
        }
    }

    async fn mutate(
        &self,
        world: &World<'_>,
        attributes: &Attributes<'_>,
        object: &mut Box<dyn Object>,
    ) -> Result<(), Status> {
        let Some(namespace) = attributes.target.namespace.as_deref() else {
            return Ok(());
        };
        let Some(record) = world.get("v1", "namespaces", None, namespace) else {
            return Err(Status::not_found(&NAMESPACES, namespace));
        };
        if record
            .facts
            .fields
            .first()
            .is_none_or(|phase| phase.as_ref() != "Terminating")
        {
            return Ok(());
        }
        let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
        let mut status = attributes.forbidden(Some(object.as_ref()), &why).into_inner();
        let since = tree(&record)?
            .pointer("/metadata/deletionTimestamp")
            .map(ToString::to_string)
            .unwrap_or_default();
        let message = format!(
            "namespace {namespace} is being terminated since {}",
            since.trim_matches('"')
        );
        status
            .details
            .get_or_insert_default()
            .causes
            .get_or_insert_default()
            .push(k8s_openapi::apimachinery::pkg::apis::meta::v1::StatusCause {
                reason: Some("NamespaceTerminating".to_owned()),
                message: Some(message),
                field: Some("metadata.namespace".to_owned()),
            });
        Err(status.into())
    }

    async fn validate(&self, _: &World<'_>, attributes: &Attributes<'_>, _: Option<&dyn Object>) -> Result<(), Status> {
        let Target { resource, name, .. } = attributes.target;
        if attributes.operation == Operation::Delete && IMMORTAL.contains(&name.as_str()) {
            let why = "this namespace may not be deleted";
            return Err(Status::forbidden(&resource.group_resource, name, why));
        }
        Ok(())
    }
}
