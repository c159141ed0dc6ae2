//! Nothing is created in a namespace that is not there or is going away, and the system's namespaces stay.

use super::{Operation, Plugin, Request, World, forbidden};
use crate::kinds::Object;
use crate::registry::{Target, tree};
use catamaran_api::{GroupResource, Status};

/// Namespaces the system cannot do without.
const IMMORTAL: &[&str] = &["default", "kube-public", "kube-system"];

/// May this object be deleted at all?
pub(super) fn may_delete(target: &Target) -> Result<(), Status> {
    let resource = &target.resource.group_resource;
    if *resource == NAMESPACES && IMMORTAL.contains(&target.name.as_str()) {
        return Err(Status::forbidden(
            resource,
            &target.name,
            "this namespace may not be deleted",
        ));
    }
    Ok(())
}

pub(super) struct NamespaceLifecycle;

const NAMESPACES: GroupResource = GroupResource::from_static("", "namespaces");

impl Plugin for NamespaceLifecycle {
    fn admit(&self, world: &World<'_>, request: &Request<'_>, object: &mut dyn Object) -> Result<(), Status> {
        let Some(namespace) = request.target.namespace.as_deref() else {
            return Ok(());
        };
        if request.operation != Operation::Create {
            return Ok(());
        }
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
        let mut status = forbidden(request, object, &why).into_inner();
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
}
