//! CertificateSigningRequest: somebody wants a certificate; somebody else approves, and a signer issues it.

use super::pem;
use crate::checks::shown;
use crate::{FieldLabel, Kind, NameRule, STATUS, Subresource, age, name};
use catamaran_api::field::quote;
use catamaran_api::table::{Column, human_duration};
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition, CertificateSigningRequestStatus,
};
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

pub(crate) struct CertificateSigningRequests;

/// Where approvers say yes or no.
const APPROVAL: Subresource = Subresource {
    name: "approval",
    kind: "",
    api_version: "",
    verbs: &["get", "patch", "update"],
};

const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";
const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];
/// These are true or absent.
const TRUE_ONLY: [&str; 3] = ["Approved", "Denied", "Failed"];

impl Kind for CertificateSigningRequests {
    type Object = CertificateSigningRequest;
    const NAMESPACED: bool = false;
    const SHORT_NAMES: &'static [&'static str] = &["csr"];
    const SUBRESOURCES: &'static [Subresource] = &[APPROVAL, STATUS];
    const FIELD_SELECTORS: &'static [FieldLabel] = &[FieldLabel::new("spec.signerName")];
    const NAME_RULE: NameRule = names::path_segment;

    /// Who asks is not for the asker to say: admission fills it in from the request.
    fn prepare_create(&self, object: &mut CertificateSigningRequest) {
        object.status = Some(CertificateSigningRequestStatus::default());
    }

    /// The request stays as it is; approval and certificate have their own paths.
    fn prepare_update(&self, new: &mut CertificateSigningRequest, old: &CertificateSigningRequest) {
        new.spec.clone_from(&old.spec);
        new.status.clone_from(&old.status);
    }

    fn prepare_status(&self, new: &mut CertificateSigningRequest, old: &CertificateSigningRequest) {
        new.spec.clone_from(&old.spec);
        keep_transition_times(new, old);
    }

    /// An approval is a condition, and nothing else.
    fn prepare_part(&self, _part: &str, new: &mut CertificateSigningRequest, old: &CertificateSigningRequest) {
        new.spec.clone_from(&old.spec);
        let conditions = new.status.as_mut().and_then(|status| status.conditions.take());
        new.status.clone_from(&old.status);
        new.status.get_or_insert_default().conditions = conditions;
        keep_transition_times(new, old);
    }

    fn validate_part(
        &self,
        _part: &str,
        new: &CertificateSigningRequest,
        old: &CertificateSigningRequest,
        errors: &mut Errors,
    ) {
        validate_conditions(new, errors);
        let path = Path::new("status");
        let path = path.child("conditions");
        for kind in TRUE_ONLY {
            if of_type(new, kind).len() < of_type(old, kind).len() {
                let quoted = quote(kind);
                errors.forbidden(&path, format!("updates may not remove a condition of type {quoted}"));
            }
        }
    }

    fn validate(&self, object: &CertificateSigningRequest, errors: &mut Errors) {
        let path = Path::new("spec");
        let spec = &object.spec;
        if let Err(detail) = pem::check_request(&spec.request.0) {
            errors.invalid(&path.child("request"), shown(&spec.request), detail);
        }
        let usages = spec.usages.as_deref().unwrap_or_default();
        let list = path.child("usages");
        if usages.is_empty() {
            errors.required(&list, "");
        }
        for (index, usage) in usages.iter().enumerate() {
            if !USAGES.contains(&usage.as_str()) {
                errors.not_supported(&list.index(index), usage.as_str(), &USAGES);
            }
        }
        for (index, usage) in usages.iter().enumerate() {
            if usages[..index].contains(usage) {
                errors.duplicate(&list.index(index), usage.as_str());
            }
        }
        validate_signer(&spec.signer_name, &path.child("signerName"), errors);
        if let Some(seconds) = spec.expiration_seconds.filter(|seconds| *seconds < 600) {
            let detail = "may not specify a duration less than 600 seconds (10 minutes)";
            errors.invalid(&path.child("expirationSeconds"), seconds, detail);
        }
        validate_conditions(object, errors);
    }

    fn validate_status(&self, new: &CertificateSigningRequest, old: &CertificateSigningRequest, errors: &mut Errors) {
        validate_conditions(new, errors);
        let certificate = |request: &CertificateSigningRequest| {
            let status = request.status.as_ref();
            status
                .and_then(|status| status.certificate.clone())
                .map_or_else(Vec::new, |bytes| bytes.0)
        };
        let (issued, before) = (certificate(new), certificate(old));
        let path = Path::new("status");
        if issued != before
            && let Err(detail) = pem::check_certificates(&issued)
        {
            errors.invalid(&path.child("certificate"), "<certificate data>", detail);
        }
        for kind in TRUE_ONLY {
            let (new, old) = (of_type(new, kind), of_type(old, kind));
            let quoted = quote(kind);
            let at = path.child("conditions");
            if new.len() < old.len() {
                errors.forbidden(&at, format!("updates may not remove a condition of type {quoted}"));
            } else if kind != "Failed" && new.len() > old.len() {
                errors.forbidden(&at, format!("updates may not add a condition of type {quoted}"));
            } else if kind != "Failed" && new != old {
                errors.forbidden(&at, format!("updates may not modify a condition of type {quoted}"));
            }
        }
        if issued != before && !before.is_empty() {
            let detail = "updates may not modify existing certificate content";
            errors.forbidden(&path.child("certificate"), detail);
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            Column::NAME,
            Column::AGE,
            Column::string("SignerName", "Who shall sign."),
            Column::string("Requestor", "Who asks."),
            Column::string("RequestedDuration", "How long the certificate shall be valid."),
            Column::string("Condition", "How far it got."),
        ];
        COLUMNS
    }

    fn row(&self, object: &CertificateSigningRequest, now: Timestamp) -> Vec<Value> {
        let spec = &object.spec;
        let none = || "<none>".to_owned();
        let signer = Some(spec.signer_name.clone()).filter(|name| !name.is_empty());
        let duration = spec.expiration_seconds.map(|seconds| human_duration(seconds.into()));
        vec![
            name(&object.metadata),
            age(&object.metadata, now),
            signer.unwrap_or_else(none).into(),
            spec.username.clone().unwrap_or_default().into(),
            duration.unwrap_or_else(none).into(),
            progress(object).into(),
        ]
    }
}

fn of_type<'a>(object: &'a CertificateSigningRequest, kind: &str) -> Vec<&'a CertificateSigningRequestCondition> {
    let conditions = object
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions.filter(|condition| condition.type_ == kind).collect()
}

/// A condition that says what it said before has been so since then.
fn keep_transition_times(new: &mut CertificateSigningRequest, old: &CertificateSigningRequest) {
    let conditions = new
        .status
        .iter_mut()
        .flat_map(|status| status.conditions.iter_mut().flatten());
    for condition in conditions.filter(|condition| condition.last_transition_time.is_none()) {
        let before = of_type(old, &condition.type_);
        let same = before.into_iter().find(|before| before.status == condition.status);
        if let Some(before) = same {
            condition.last_transition_time.clone_from(&before.last_transition_time);
        }
    }
}

fn progress(object: &CertificateSigningRequest) -> String {
    let has = |kind: &str| !of_type(object, kind).is_empty();
    let mut text = if has("Denied") {
        "Denied"
    } else if has("Approved") {
        "Approved"
    } else {
        "Pending"
    }
    .to_owned();
    if has("Failed") {
        text.push_str(",Failed");
    }
    let certificate = object.status.as_ref().and_then(|status| status.certificate.as_ref());
    if certificate.is_some_and(|certificate| !certificate.0.is_empty()) {
        text.push_str(",Issued");
    }
    text
}

fn validate_signer(signer: &str, path: &Path<'_>, errors: &mut Errors) {
    if signer == LEGACY_SIGNER {
        let detail = "the legacy signerName is not allowed via this API version";
        return errors.invalid(path, signer, detail);
    }
    if signer.is_empty() {
        return errors.required(path, "");
    }
    let segments: Vec<&str> = signer.split('/').collect();
    let [domain, rest] = segments[..] else {
        let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return errors.invalid(path, signer, detail);
    };
    if domain.len() > names::SUBDOMAIN_MAX {
        errors.too_long(path, names::SUBDOMAIN_MAX);
    }
    first_bad_label(domain, names::dns1123_label, path, errors);
    if !domain.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        errors.invalid(path, domain, detail);
    }
    first_bad_label(rest, names::dns1123_subdomain, path, errors);
    let max = names::SUBDOMAIN_MAX + names::LABEL_MAX + 1;
    if rest.len() > max {
        errors.too_long(path, max);
    }
}

fn first_bad_label(text: &str, rule: fn(&str) -> Vec<String>, path: &Path<'_>, errors: &mut Errors) {
    for label in text.split('.') {
        let messages = rule(label);
        let bad = !messages.is_empty();
        for message in messages {
            errors.invalid(path, text, format!("validating label {}: {message}", quote(label)));
        }
        if bad {
            return;
        }
    }
}

fn validate_conditions(object: &CertificateSigningRequest, errors: &mut Errors) {
    let path = Path::new("status");
    let path = path.child("conditions");
    let conditions = object.status.as_ref().and_then(|status| status.conditions.as_deref());
    let conditions = conditions.unwrap_or_default();
    for (index, condition) in conditions.iter().enumerate() {
        let at = path.index(index);
        let kind = condition.type_.as_str();
        let before = |kind: &str| conditions[..index].iter().any(|other| other.type_ == kind);
        if kind.is_empty() {
            errors.required(&at.child("type"), "");
        }
        let allowed: &[&str] = if TRUE_ONLY.contains(&kind) {
            &["True"]
        } else {
            &["False", "True", "Unknown"]
        };
        if condition.status.is_empty() {
            errors.required(&at.child("status"), "");
        } else if !allowed.contains(&condition.status.as_str()) {
            errors.not_supported(&at.child("status"), condition.status.as_str(), allowed);
        }
        if (kind == "Approved" && before("Denied")) || (kind == "Denied" && before("Approved")) {
            let detail = "Approved and Denied conditions are mutually exclusive";
            errors.invalid(&at.child("type"), kind, detail);
        }
        if before(kind) {
            errors.duplicate(&at.child("type"), kind);
        }
    }
}
