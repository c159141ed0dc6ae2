//! The one error a client ever sees: `metav1.Status`.
//!
//! Clients branch on `reason` and `code` and print `message`, so all three are worded as Kubernetes words them
//! (<https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/>). Whatever goes wrong below becomes one of
//! these constructors at the edge; nothing else is ever serialized as an error.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1 as metav1;
use serde::{Deserialize, Serialize};

use crate::field::{Errors, quote};
use crate::gvk::{GroupKind, GroupResource};

/// An error (or, rarely, a plain success) as the API answers it. Boxed, so that `Result<T, Status>` stays small.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Status(Box<metav1::Status>);

pub type Result<T, E = Status> = std::result::Result<T, E>;

/// The message of a conflict between an update and a newer version of the object.
pub const OPTIMISTIC_LOCK_ERROR: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

impl Status {
    fn failure(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Self(Box::new(metav1::Status {
            code: Some(i32::from(code)),
            reason: (!reason.is_empty()).then(|| reason.to_owned()),
            message: Some(message.into()),
            status: Some("Failure".to_owned()),
            ..Default::default()
        }))
    }

    fn of_resource(mut self, resource: &GroupResource, name: &str) -> Self {
        let details = self.details_mut();
        details.group = non_empty(&resource.group);
        details.kind = non_empty(&resource.resource);
        details.name = non_empty(name);
        self
    }

    fn details_mut(&mut self) -> &mut metav1::StatusDetails {
        self.0.details.get_or_insert_with(Default::default)
    }

    fn retry_after(mut self, seconds: u32) -> Self {
        self.details_mut().retry_after_seconds = (seconds > 0).then(|| i32::try_from(seconds).unwrap_or(i32::MAX));
        self
    }

    // --- Success ---

    /// What a delete answers once the object is gone. `kind` is the resource name, as Kubernetes fills it.
    pub fn deleted(resource: &GroupResource, name: &str, uid: &str) -> Self {
        let mut status = Self(Box::new(metav1::Status {
            status: Some("Success".to_owned()),
            ..Default::default()
        }));
        status = status.of_resource(resource, name);
        status.details_mut().uid = non_empty(uid);
        status
    }

    pub fn success() -> Self {
        Self(Box::new(metav1::Status {
            status: Some("Success".to_owned()),
            ..Default::default()
        }))
    }

    // --- 4xx ---

    pub fn not_found(resource: &GroupResource, name: &str) -> Self {
        Self::failure(404, "NotFound", format!("{resource} {} not found", quote(name))).of_resource(resource, name)
    }

    /// For a URL that names no resource at all.
    pub fn unknown_path() -> Self {
        let mut status = Self::failure(404, "NotFound", "the server could not find the requested resource");
        status.details_mut();
        status
    }

    pub fn already_exists(resource: &GroupResource, name: &str) -> Self {
        Self::failure(
            409,
            "AlreadyExists",
            format!("{resource} {} already exists", quote(name)),
        )
        .of_resource(resource, name)
    }

    /// Of an object that is on its way out: it exists still.
    #[must_use]
    pub fn being_deleted(mut self) -> Self {
        self.0.message = Some(format!("object is being deleted: {}", self.message()));
        self
    }

    pub fn conflict(resource: &GroupResource, name: &str, why: impl fmt::Display) -> Self {
        let message = format!("Operation cannot be fulfilled on {resource} {}: {why}", quote(name));
        Self::failure(409, "Conflict", message).of_resource(resource, name)
    }

    /// A conflict because somebody else wrote first.
    pub fn modified(resource: &GroupResource, name: &str) -> Self {
        Self::conflict(resource, name, OPTIMISTIC_LOCK_ERROR)
    }

    /// A server-side apply that would take fields from others, with one cause for each of them.
    pub fn apply_conflict(message: impl Into<String>, causes: Vec<metav1::StatusCause>) -> Self {
        let mut status = Self::failure(409, "Conflict", message);
        status.details_mut().causes = Some(causes);
        status
    }

    /// 422 with one cause for each error.
    pub fn invalid(kind: &GroupKind, name: &str, errors: &Errors) -> Self {
        let subject = format!("{kind} {} is invalid", quote(name));
        let message = if errors.is_empty() {
            subject
        } else {
            format!("{subject}: {}", errors.message())
        };
        let mut status = Self::failure(422, "Invalid", message);
        let details = status.details_mut();
        details.group = non_empty(&kind.group);
        details.kind = non_empty(&kind.kind);
        details.name = non_empty(name);
        details.causes = (!errors.is_empty()).then(|| {
            errors
                .iter()
                .map(|error| metav1::StatusCause {
                    field: Some(error.field.clone()),
                    message: Some(error.body()),
                    reason: Some(error.reason.as_str().to_owned()),
                })
                .collect()
        });
        status
    }

    /// The body is well formed and still cannot be applied, as a patch whose `test` fails. Kubernetes keeps the reason to itself; here
    /// it is a cause.
    pub fn unprocessable(why: impl fmt::Display) -> Self {
        let message = "the server rejected our request due to an error in our request";
        let mut status = Self::failure(422, "Invalid", message);
        status.details_mut().causes = Some(vec![metav1::StatusCause {
            field: None,
            message: Some(why.to_string()),
            reason: None,
        }]);
        status
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::failure(400, "BadRequest", message)
    }

    pub fn unauthorized(message: &str) -> Self {
        Self::failure(
            401,
            "Unauthorized",
            if message.is_empty() { "Unauthorized" } else { message },
        )
    }

    pub fn forbidden(resource: &GroupResource, name: &str, why: impl fmt::Display) -> Self {
        let message = if resource.resource.is_empty() {
            format!("forbidden: {why}")
        } else if name.is_empty() {
            format!("{resource} is forbidden: {why}")
        } else {
            format!("{resource} {} is forbidden: {why}", quote(name))
        };
        Self::failure(403, "Forbidden", message).of_resource(resource, name)
    }

    /// `action` is the verb, as in `create`.
    pub fn method_not_supported(resource: &GroupResource, action: &str) -> Self {
        let message = format!(
            "{action} is not supported on resources of kind {}",
            quote(&resource.to_string())
        );
        Self::failure(405, "MethodNotAllowed", message).of_resource(resource, "")
    }

    /// For a method that the path does not know, where no resource can be named.
    pub fn method_not_allowed() -> Self {
        let mut status = Self::failure(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        );
        status.details_mut();
        status
    }

    pub fn not_acceptable(accepted: &[&str]) -> Self {
        let message = format!("only the following media types are accepted: {}", accepted.join(", "));
        Self::failure(406, "NotAcceptable", message)
    }

    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Self::failure(415, "UnsupportedMediaType", message)
    }

    /// The revision asked for is compacted away: list again.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::failure(410, "Expired", message)
    }

    /// For a watch: both revisions are resource versions.
    pub fn too_old_resource_version(requested: u64, oldest: u64) -> Self {
        Self::expired(format!("too old resource version: {requested} ({oldest})"))
    }

    /// For a list page. The client may go on without consistency by sending `continue_token` instead.
    pub fn expired_continue(continue_token: Option<&str>) -> Self {
        let mut status = Self::expired(
            "The provided continue parameter is too old to display a consistent list result. You can start a new list \
             without the continue parameter, or use the continue token in this response to retrieve the remainder of \
             the results. Continuing with the provided token results in an inconsistent list - objects that were \
             created, modified, or deleted between the time the first chunk was returned and now may show up in the \
             list.",
        );
        status.0.metadata.continue_ = continue_token.map(ToOwned::to_owned);
        status
    }

    /// The server has not yet seen the revision asked for.
    pub fn too_large_resource_version(requested: u64, current: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {requested}, current: {current}");
        let mut status = Self::failure(504, "Timeout", message).retry_after(1);
        status.details_mut().causes = Some(vec![metav1::StatusCause {
            field: None,
            message: Some("Too large resource version".to_owned()),
            reason: Some("ResourceVersionTooLarge".to_owned()),
        }]);
        status
    }

    pub fn request_too_large(message: impl fmt::Display) -> Self {
        Self::failure(
            413,
            "RequestEntityTooLarge",
            format!("Request entity too large: {message}"),
        )
    }

    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self::failure(429, "TooManyRequests", message).retry_after(retry_after_seconds)
    }

    // --- 5xx ---

    /// A failure that has no reason of its own.
    pub fn unknown(message: impl Into<String>) -> Self {
        Self::failure(500, "", message)
    }

    pub fn internal(why: impl fmt::Display) -> Self {
        let why = why.to_string();
        let mut status = Self::failure(500, "InternalError", format!("Internal error occurred: {why}"));
        status.details_mut().causes = Some(vec![metav1::StatusCause {
            field: None,
            message: Some(why),
            reason: None,
        }]);
        status
    }

    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::failure(503, "ServiceUnavailable", message)
    }

    pub fn timeout(message: impl fmt::Display, retry_after_seconds: u32) -> Self {
        Self::failure(504, "Timeout", format!("Timeout: {message}")).retry_after(retry_after_seconds)
    }

    pub fn server_timeout(resource: &GroupResource, operation: &str, retry_after_seconds: u32) -> Self {
        let message = format!(
            "The {operation} operation against {resource} could not be completed at this time, please try again."
        );
        Self::failure(500, "ServerTimeout", message)
            .of_resource(resource, "")
            .retry_after(retry_after_seconds)
    }

    // --- Reading ---

    /// The HTTP status; 200 for a success.
    pub fn code(&self) -> u16 {
        match self.0.code {
            Some(code) => u16::try_from(code).unwrap_or(500),
            None if self.0.status.as_deref() == Some("Success") => 200,
            None => 500,
        }
    }

    pub fn reason(&self) -> &str {
        self.0.reason.as_deref().unwrap_or_default()
    }

    pub fn message(&self) -> &str {
        self.0.message.as_deref().unwrap_or_default()
    }

    /// Seconds for a `Retry-After` header.
    pub fn retry_after_seconds(&self) -> Option<i32> {
        self.0.details.as_ref().and_then(|details| details.retry_after_seconds)
    }

    pub fn as_inner(&self) -> &metav1::Status {
        &self.0
    }

    pub fn into_inner(self) -> metav1::Status {
        *self.0
    }

    pub fn to_value(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    pub fn to_vec(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

impl From<metav1::Status> for Status {
    fn from(status: metav1::Status) -> Self {
        Self(Box::new(status))
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.code(), self.reason(), self.message())
    }
}

impl std::error::Error for Status {}

fn non_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::field::Path;

    const PODS: GroupResource = GroupResource::from_static("", "pods");
    const DEPLOYMENTS: GroupResource = GroupResource::from_static("apps", "deployments");

    #[test]
    fn messages() {
        let all = [
            Status::not_found(&PODS, "web"),
            Status::already_exists(&DEPLOYMENTS, "web"),
            Status::modified(&PODS, "web"),
            Status::bad_request("no"),
            Status::unauthorized(""),
            Status::forbidden(&PODS, "web", "because"),
            Status::forbidden(&PODS, "", "because"),
            Status::method_not_supported(&DEPLOYMENTS, "patch"),
            Status::not_acceptable(&["application/json", "application/yaml"]),
            Status::unsupported_media_type(&["application/json"]),
            Status::too_old_resource_version(1, 5),
            Status::too_large_resource_version(9, 5),
            Status::request_too_large("limit is 3145728"),
            Status::too_many_requests("slow down", 1),
            Status::internal("disk"),
            Status::service_unavailable("starting"),
            Status::timeout("request did not complete", 0),
            Status::server_timeout(&PODS, "list", 2),
            Status::unknown_path(),
        ];
        let lines: Vec<String> = all.iter().map(|status| format!("{status:?}")).collect();
        expect![[r#"
            404 NotFound: pods "web" not found
            409 AlreadyExists: deployments.apps "web" already exists
            409 Conflict: Operation cannot be fulfilled on pods "web": the object has been modified; please apply your changes to the latest version and try again
            400 BadRequest: no
            401 Unauthorized: Unauthorized
            403 Forbidden: pods "web" is forbidden: because
            403 Forbidden: pods is forbidden: because
            405 MethodNotAllowed: patch is not supported on resources of kind "deployments.apps"
            406 NotAcceptable: only the following media types are accepted: application/json, application/yaml
            415 UnsupportedMediaType: the body of the request was in an unknown format - accepted media types include: application/json
            410 Expired: too old resource version: 1 (5)
            504 Timeout: Timeout: Too large resource version: 9, current: 5
            413 RequestEntityTooLarge: Request entity too large: limit is 3145728
            429 TooManyRequests: slow down
            500 InternalError: Internal error occurred: disk
            503 ServiceUnavailable: starting
            504 Timeout: Timeout: request did not complete
            500 ServerTimeout: The list operation against pods could not be completed at this time, please try again.
            404 NotFound: the server could not find the requested resource"#]]
        .assert_eq(&lines.join("\n"));
    }

    #[test]
    fn json_of_an_invalid_object() {
        let mut errors = Errors::new();
        errors.required(&Path::new("spec").child("containers"), "");
        let status = Status::invalid(&GroupKind::from_static("apps", "Deployment"), "web", &errors);
        expect![[r#"
            {
              "apiVersion": "v1",
              "kind": "Status",
              "code": 422,
              "details": {
                "causes": [
                  {
                    "field": "spec.containers",
                    "message": "Required value",
                    "reason": "FieldValueRequired"
                  }
                ],
                "group": "apps",
                "kind": "Deployment",
                "name": "web"
              },
              "message": "Deployment.apps \"web\" is invalid: spec.containers: Required value",
              "metadata": {},
              "reason": "Invalid",
              "status": "Failure"
            }"#]]
        .assert_eq(&serde_json::to_string_pretty(&status).unwrap());
        let back: Status = serde_json::from_slice(&status.to_vec()).unwrap();
        assert_eq!(back, status);
    }

    #[test]
    fn a_deletion_is_a_success() {
        let status = Status::deleted(&PODS, "web", "u1");
        assert_eq!(status.code(), 200);
        assert_eq!(status.to_value()["details"]["uid"], "u1");
    }
}
