//! Certificates: who may approve and sign for which signer, and that nobody gets one that makes them this server's master.

use super::expressions::may;
use super::{Attributes, Operation, Plugin, World, typed, typed_mut};
use crate::kinds::Object;
use async_trait::async_trait;
use catamaran_api::Status;
use catamaran_cel::AuthorizationQuery;
use catamaran_kinds::signing;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;

const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";
const MASTERS: &str = "system:masters";

const GROUP: &str = "certificates.k8s.io";
const REQUESTS: &str = "certificatesigningrequests";

/// A request says who it is from; whoever sent it does not get to say.
pub(super) struct Requester;

#[async_trait]
impl Plugin for Requester {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Create
            && attributes.subresource.is_empty()
            && attributes.concerns(GROUP, REQUESTS)
    }

    async fn mutate(
        &self,
        _: &World<'_>,
        attributes: &Attributes<'_>,
        object: &mut Box<dyn Object>,
    ) -> Result<(), Status> {
        let Some(request) = typed_mut::<CertificateSigningRequest>(object.as_mut()) else {
            return Ok(());
        };
        let identity = &attributes.caller.identity;
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        request.spec.username = some(&identity.user);
        request.spec.uid = some(&identity.uid);
        request.spec.groups = (!identity.groups.is_empty()).then(|| identity.groups.clone());
        request.spec.extra = (!identity.extra.is_empty()).then(|| identity.extra.clone());
        Ok(())
    }
}

/// Writes to `approval` need the verb `approve` on the signer.
pub(super) struct Approval;

#[async_trait]
impl Plugin for Approval {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Update
            && attributes.subresource == "approval"
            && attributes.concerns(GROUP, REQUESTS)
    }

    async fn validate(
        &self,
        world: &World<'_>,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
    ) -> Result<(), Status> {
        let Some(old) = attributes.old.and_then(typed::<CertificateSigningRequest>) else {
            return Ok(());
        };
        let signer = &old.spec.signer_name;
        if may_for_signer(world, attributes, "approve", signer) {
            return Ok(());
        }
        let why = format!("user not permitted to approve requests with signerName {signer:?}");
        Err(attributes.forbidden(object, why))
    }
}

/// Certificates and conditions in `status` need the verb `sign` on the signer.
pub(super) struct Signing;

#[async_trait]
impl Plugin for Signing {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Update
            && attributes.subresource == "status"
            && attributes.concerns(GROUP, REQUESTS)
    }

    async fn validate(
        &self,
        world: &World<'_>,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
    ) -> Result<(), Status> {
        let requests = (
            object.and_then(typed::<CertificateSigningRequest>),
            attributes.old.and_then(typed::<CertificateSigningRequest>),
        );
        let (Some(new), Some(old)) = requests else {
            return Ok(());
        };
        let (new_status, old_status) = (
            new.status.clone().unwrap_or_default(),
            old.status.clone().unwrap_or_default(),
        );
        if new_status.certificate == old_status.certificate && new_status.conditions == old_status.conditions {
            return Ok(());
        }
        let signer = &old.spec.signer_name;
        if may_for_signer(world, attributes, "sign", signer) {
            return Ok(());
        }
        let why = format!("user not permitted to sign requests with signerName {signer:?}");
        Err(attributes.forbidden(object, why))
    }
}

/// May the user do this for the signer, or for all signers of its domain?
fn may_for_signer(world: &World<'_>, attributes: &Attributes<'_>, verb: &str, signer: &str) -> bool {
    let Some(authorizer) = world.registry.authorizer() else {
        return false;
    };
    let domain = signer.split('/').next().unwrap_or_default();
    [signer.to_owned(), format!("{domain}/*")].into_iter().any(|name| {
        let query = AuthorizationQuery {
            verb: verb.to_owned(),
            group: GROUP.to_owned(),
            resource: "signers".to_owned(),
            name,
            ..AuthorizationQuery::default()
        };
        may(authorizer.as_ref(), &attributes.caller.identity, &query).allowed
    })
}

pub(super) struct SubjectRestriction;

#[async_trait]
impl Plugin for SubjectRestriction {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.is_create_of("certificates.k8s.io/v1", "certificatesigningrequests")
    }

    async fn validate(
        &self,
        _: &World<'_>,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
    ) -> Result<(), Status> {
        let Some(request) = object.and_then(typed::<CertificateSigningRequest>) else {
            return Ok(());
        };
        if request.spec.signer_name != CLIENT_SIGNER {
            return Ok(());
        }
        match organisations(&request.spec.request.0) {
            Err(why) => Err(attributes.forbidden(object, format!("failed to parse CSR: {why}"))),
            Ok(groups) if groups.iter().any(|group| group == MASTERS) => {
                let why = format!("use of {CLIENT_SIGNER} signer with {MASTERS} group is not allowed");
                Err(attributes.forbidden(object, why))
            }
            Ok(_) => Ok(()),
        }
    }
}

/// The organisations in the subject of a PEM request: the groups of the user it is for.
fn organisations(pem: &[u8]) -> Result<Vec<String>, String> {
    let der = signing::decode(pem)?;
    let request = signing::parse(&der)?;
    signing::Subject::read(&request.certification_request_info.subject).map(|subject| subject.organizations)
}
