//! Certificates for clients of this server: nobody may ask for one that makes them its master.

use super::{Attributes, Plugin, World, typed};
use crate::kinds::Object;
use async_trait::async_trait;
use catamaran_api::Status;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;

const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";
const MASTERS: &str = "system:masters";

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
fn organisations(pem: &[u8]) -> Result<Vec<String>, &'static str> {
    let der =
        CertificateSigningRequestDer::from_pem_slice(pem).map_err(|_| "PEM block type must be CERTIFICATE REQUEST")?;
    let (_, request) = X509CertificationRequest::from_der(&der).map_err(|_| "the request is malformed")?;
    let subject = &request.certification_request_info.subject;
    Ok(subject
        .iter_organization()
        .filter_map(|attribute| attribute.as_str().ok())
        .map(ToOwned::to_owned)
        .collect())
}
