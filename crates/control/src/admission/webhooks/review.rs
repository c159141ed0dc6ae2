//! The two halves of an `AdmissionReview`: what is asked, and what an answer means.
//!
//! <https://kubernetes.io/docs/reference/config-api/apiserver-admission.v1/>

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use catamaran_api::Status;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as metav1;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The body of a call.
pub(super) fn question(version: &str, uid: &str, mut request: Map<String, Value>, object: Value, old: Value) -> Value {
    request.insert("uid".to_owned(), uid.into());
    request.insert("object".to_owned(), object);
    request.insert("oldObject".to_owned(), old);
    json!({
        "kind": "AdmissionReview",
        "apiVersion": format!("admission.k8s.io/{version}"),
        "request": request,
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    response: Option<Response>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    #[serde(default)]
    uid: String,
    #[serde(default)]
    allowed: bool,
    status: Option<metav1::Status>,
    patch: Option<String>,
    patch_type: Option<String>,
    #[serde(default)]
    audit_annotations: Option<BTreeMap<String, String>>,
    #[serde(default)]
    warnings: Option<Vec<String>>,
}

/// A sound answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) allowed: bool,
    pub(super) status: Option<metav1::Status>,
    /// A JSON patch.
    pub(super) patch: Option<Vec<u8>>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) warnings: Vec<String>,
}

/// Why an answer is not sound.
pub(super) enum Unsound {
    /// It is no review at all.
    Undecodable(String),
    /// It is one, but not one that answers the question.
    Invalid(String),
}

/// Reads and checks an answer.
pub(super) fn answer(body: &[u8], version: &str, uid: &str, mutating: bool) -> Result<Answer, Unsound> {
    let review: Review = serde_json::from_slice(body)
        .map_err(|error| Unsound::Undecodable(format!("couldn't get version/kind; {error}")))?;
    let invalid = |why: String| Err(Unsound::Invalid(why));
    let Some(response) = review.response else {
        return invalid("webhook response was absent".to_owned());
    };
    let strict = version == "v1";
    if strict && response.uid != uid {
        return invalid(format!("expected response.uid={uid:?}, got {:?}", response.uid));
    }
    if strict && (review.api_version != "admission.k8s.io/v1" || review.kind != "AdmissionReview") {
        let (group, version) = review.api_version.split_once('/').unwrap_or(("", &review.api_version));
        return invalid(format!(
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {group}/{version}, Kind={}",
            review.kind
        ));
    }
    let encoded = response.patch.as_deref().filter(|patch| !patch.is_empty());
    let why = match (mutating, encoded, &response.patch_type) {
        (false, Some(_), _) => Some("validating webhook may not return response.patch"),
        (false, _, Some(_)) => Some("validating webhook may not return response.patchType"),
        (true, Some(_), None) if strict => Some("webhook returned response.patch but not response.patchType"),
        (true, None, Some(_)) if strict => Some("webhook returned response.patchType but not response.patch"),
        _ => None,
    };
    if let Some(why) = why {
        return invalid(why.to_owned());
    }
    if let Some(type_) = response.patch_type.as_deref().filter(|type_| *type_ != "JSONPatch") {
        if type_.is_empty() {
            return invalid("webhook returned invalid response.patchType of \"\"".to_owned());
        }
        return invalid(format!("unsupported patch type {type_:?}"));
    }
    let patch = match encoded {
        None => None,
        Some(text) => match STANDARD.decode(text) {
            Ok(patch) => Some(patch),
            Err(error) => return Err(Unsound::Undecodable(error.to_string())),
        },
    };
    Ok(Answer {
        allowed: response.allowed,
        status: response.status,
        patch,
        annotations: response.audit_annotations.unwrap_or_default(),
        warnings: response.warnings.unwrap_or_default(),
    })
}

/// The error a client gets when a webhook says no.
pub(super) fn denial(webhook: &str, status: Option<metav1::Status>) -> Status {
    let mut status = status.unwrap_or_default();
    if status.code.is_none_or(|code| code < 400) {
        status.code = Some(400);
    }
    if matches!(status.status.as_deref(), None | Some("" | "Success")) {
        status.status = Some("Failure".to_owned());
    }
    let denied = format!("admission webhook {webhook:?} denied the request");
    let said = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    status.message = Some(match (said(&status.message), said(&status.reason)) {
        (Some(message), _) => format!("{denied}: {message}"),
        (None, Some(reason)) => format!("{denied}: {reason}"),
        (None, None) => format!("{denied} without explanation"),
    });
    status.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(response: Value, mutating: bool) -> String {
        let body = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
        match answer(body.to_string().as_bytes(), "v1", "u", mutating) {
            Ok(answer) => format!(
                "{} {:?}",
                answer.allowed,
                answer.patch.map(|patch| String::from_utf8(patch).unwrap())
            ),
            Err(Unsound::Invalid(why)) => why,
            Err(Unsound::Undecodable(why)) => format!("undecodable: {why}"),
        }
    }

    #[test]
    fn answers_are_checked() {
        assert_eq!(said(json!({"uid": "u", "allowed": true}), false), "true None");
        assert_eq!(
            said(json!({"uid": "v", "allowed": true}), false),
            r#"expected response.uid="u", got "v""#
        );
        assert_eq!(said(Value::Null, false), "webhook response was absent");
        assert_eq!(
            said(
                json!({"uid": "u", "allowed": true, "patch": "W10=", "patchType": "JSONPatch"}),
                true
            ),
            r#"true Some("[]")"#
        );
        assert_eq!(
            said(json!({"uid": "u", "allowed": true, "patch": "W10="}), true),
            "webhook returned response.patch but not response.patchType"
        );
        assert_eq!(
            said(json!({"uid": "u", "allowed": true, "patchType": "JSONPatch"}), true),
            "webhook returned response.patchType but not response.patch"
        );
        assert_eq!(
            said(
                json!({"uid": "u", "allowed": true, "patch": "W10=", "patchType": "JSONPatch"}),
                false
            ),
            "validating webhook may not return response.patch"
        );
        let old =
            json!({"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview", "response": {"uid": "u"}});
        let Err(Unsound::Invalid(why)) = answer(old.to_string().as_bytes(), "v1", "u", false) else {
            panic!("v1beta1 is no answer to v1");
        };
        assert_eq!(
            why,
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got admission.k8s.io/v1beta1, Kind=AdmissionReview"
        );
        assert!(answer(old.to_string().as_bytes(), "v1beta1", "other", false).is_ok());
    }

    #[test]
    fn denials_are_errors_whatever_they_say() {
        let denied = |status: Value| {
            let status = denial("h.example.org", serde_json::from_value(status).unwrap());
            format!("{} {} {}", status.code(), status.reason(), status.message())
        };
        assert_eq!(
            denied(Value::Null),
            r#"400  admission webhook "h.example.org" denied the request without explanation"#
        );
        assert_eq!(
            denied(json!({"code": 200, "status": "Success", "message": "no"})),
            r#"400  admission webhook "h.example.org" denied the request: no"#
        );
        assert_eq!(
            denied(json!({"code": 403, "reason": "Forbidden"})),
            r#"403 Forbidden admission webhook "h.example.org" denied the request: Forbidden"#
        );
    }
}
