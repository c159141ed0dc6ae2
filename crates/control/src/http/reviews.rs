//! Questions about somebody: who am I, and may I? They are asked as objects, answered, and never stored.
//!
//! `kubectl auth whoami` and `kubectl auth can-i` are made of these.
//! <https://kubernetes.io/docs/reference/access-authn-authz/authorization/#checking-api-access>

use super::App;
use super::negotiate::{self, Form};
use super::render;
use super::request_info::RequestInfo;
use super::resource::{format, read};
use crate::authn::Identity;
use crate::authz::{Attempt, AttemptedResource, Verdict};
use axum::body::Body;
use axum::response::Response;
use catamaran_api::{Errors, GroupKind, GroupResource, Path, Status, body};
use http::{Method, StatusCode, request};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SelfSubjectAccessReviewSpec, SelfSubjectRulesReviewSpec,
    SubjectAccessReviewSpec,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";
pub(super) const VERSION: &str = "v1";

/// A question.
#[derive(Clone, Copy, Debug)]
pub(super) struct Review {
    pub(super) group: &'static str,
    pub(super) plural: &'static str,
    pub(super) kind: &'static str,
    pub(super) namespaced: bool,
    question: Question,
}

#[derive(Clone, Copy, Debug)]
enum Question {
    WhoAmI,
    MayI,
    MayThey,
    WhatMayI,
}

/// All questions, by group and plural.
pub(super) static ALL: &[Review] = &[
    Review {
        group: AUTHENTICATION,
        plural: "selfsubjectreviews",
        kind: "SelfSubjectReview",
        namespaced: false,
        question: Question::WhoAmI,
    },
    Review {
        group: AUTHORIZATION,
        plural: "localsubjectaccessreviews",
        kind: "LocalSubjectAccessReview",
        namespaced: true,
        question: Question::MayThey,
    },
    Review {
        group: AUTHORIZATION,
        plural: "selfsubjectaccessreviews",
        kind: "SelfSubjectAccessReview",
        namespaced: false,
        question: Question::MayI,
    },
    Review {
        group: AUTHORIZATION,
        plural: "selfsubjectrulesreviews",
        kind: "SelfSubjectRulesReview",
        namespaced: false,
        question: Question::WhatMayI,
    },
    Review {
        group: AUTHORIZATION,
        plural: "subjectaccessreviews",
        kind: "SubjectAccessReview",
        namespaced: false,
        question: Question::MayThey,
    },
];

impl Review {
    /// The question a path asks.
    pub(super) fn find(info: &RequestInfo) -> Option<&'static Review> {
        ALL.iter().find(|review| {
            info.plural == review.plural
                && info.api_version == review.api_version()
                && info.namespace.is_some() == review.namespaced
        })
    }

    fn api_version(&self) -> String {
        format!("{}/{VERSION}", self.group)
    }

    /// Answers it: the object that was sent, with a status.
    pub(super) async fn answer(
        &self,
        app: &App,
        info: &RequestInfo,
        head: &request::Parts,
        body: Body,
    ) -> Result<Response, Status> {
        if head.method != Method::POST || !info.name.is_empty() {
            let resource = GroupResource::from_static(self.group, self.plural);
            return Err(Status::method_not_supported(
                &resource,
                &head.method.as_str().to_ascii_lowercase(),
            ));
        }
        let form: Form = negotiate::accepted(&head.headers, &[])?;
        let mut object = self.object(head, body).await?;
        let anonymous = Identity::anonymous();
        let identity = head.extensions.get::<Identity>().unwrap_or(&anonymous);
        let status = self.status(app, identity, &object, info.namespace.as_deref())?;
        object["kind"] = json!(self.kind);
        object["apiVersion"] = json!(self.api_version());
        if !object["metadata"].is_object() {
            object["metadata"] = json!({});
        }
        object["status"] = status;
        render::respond(form, StatusCode::CREATED, render::to_bytes(&object)?)
    }

    async fn object(&self, head: &request::Parts, body: Body) -> Result<Value, Status> {
        let bytes = read(&head.headers, body).await?;
        let object = body::parse(format(&head.headers)?, &bytes)?.value;
        let stated = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
        let (kind, api_version) = (stated("kind"), stated("apiVersion"));
        let fits = |stated: &str, own: &str| stated.is_empty() || stated == own;
        if object.is_object() && fits(kind, self.kind) && fits(api_version, &self.api_version()) {
            return Ok(object);
        }
        Err(Status::bad_request(format!(
            "the body must be a {} of {}, it is a {kind:?} of {api_version:?}",
            self.kind,
            self.api_version()
        )))
    }

    fn status(&self, app: &App, identity: &Identity, object: &Value, namespace: Option<&str>) -> Result<Value, Status> {
        match self.question {
            Question::WhoAmI => Ok(json!({ "userInfo": { "username": identity.user, "groups": identity.groups } })),
            Question::MayI => {
                let spec: SelfSubjectAccessReviewSpec = self.spec(object)?;
                self.verdict(app, identity, spec.resource_attributes, spec.non_resource_attributes)
            }
            Question::MayThey => {
                let spec: SubjectAccessReviewSpec = self.spec(object)?;
                let stated = spec
                    .resource_attributes
                    .as_ref()
                    .and_then(|own| own.namespace.as_deref());
                if namespace.is_some_and(|namespace| stated != Some(namespace)) {
                    let mut errors = Errors::new();
                    errors.invalid(
                        &Path::new("spec.resourceAttributes.namespace"),
                        stated.unwrap_or_default(),
                        "must match metadata.namespace",
                    );
                    return Err(self.invalid(&errors));
                }
                let subject = Identity {
                    user: spec.user.unwrap_or_default(),
                    uid: spec.uid.unwrap_or_default(),
                    groups: spec.groups.unwrap_or_default(),
                    extra: spec.extra.unwrap_or_default(),
                };
                if subject.user.is_empty() && subject.groups.is_empty() {
                    let mut errors = Errors::new();
                    errors.invalid(
                        &Path::new("spec.user"),
                        "",
                        "at least one of user or group must be specified",
                    );
                    return Err(self.invalid(&errors));
                }
                self.verdict(app, &subject, spec.resource_attributes, spec.non_resource_attributes)
            }
            Question::WhatMayI => {
                let spec: SelfSubjectRulesReviewSpec = self.spec(object)?;
                let namespace = spec.namespace.unwrap_or_default();
                if namespace.is_empty() {
                    return Err(Status::bad_request("no namespace on request"));
                }
                let rules = app.authorizer.rules(identity, &namespace);
                let resources: Vec<Value> = rules
                    .resources
                    .iter()
                    .map(|rule| json!({ "verbs": rule.verbs, "apiGroups": rule.groups, "resources": rule.plurals }))
                    .collect();
                let paths: Vec<Value> = rules
                    .paths
                    .iter()
                    .map(|rule| json!({ "verbs": rule.verbs, "nonResourceURLs": rule.paths }))
                    .collect();
                Ok(json!({
                    "resourceRules": resources,
                    "nonResourceRules": paths,
                    "incomplete": !rules.complete,
                }))
            }
        }
    }

    fn verdict(
        &self,
        app: &App,
        identity: &Identity,
        resource: Option<ResourceAttributes>,
        path: Option<NonResourceAttributes>,
    ) -> Result<Value, Status> {
        let verdict = match (resource, path) {
            (Some(wanted), None) => app.authorizer.decide(&Attempt {
                identity,
                verb: wanted.verb.as_deref().unwrap_or_default(),
                resource: Some(AttemptedResource {
                    group: wanted.group.as_deref().unwrap_or_default(),
                    plural: wanted.resource.as_deref().unwrap_or_default(),
                    subresource: wanted.subresource.as_deref().unwrap_or_default(),
                    namespace: wanted.namespace.as_deref().unwrap_or_default(),
                    name: wanted.name.as_deref().unwrap_or_default(),
                }),
                path: "",
            }),
            (None, Some(wanted)) => app.authorizer.decide(&Attempt {
                identity,
                verb: wanted.verb.as_deref().unwrap_or_default(),
                resource: None,
                path: wanted.path.as_deref().unwrap_or_default(),
            }),
            _ => {
                let mut errors = Errors::new();
                errors.invalid(
                    &Path::new("spec.resourceAttributes"),
                    "",
                    "exactly one of nonResourceAttributes or resourceAttributes must be specified",
                );
                return Err(self.invalid(&errors));
            }
        };
        Ok(match verdict {
            Verdict::Allowed => json!({ "allowed": true }),
            Verdict::Unauthenticated => json!({ "allowed": false }),
            Verdict::Denied { reason } => json!({ "allowed": false, "reason": reason }),
        })
    }

    fn spec<T: DeserializeOwned>(&self, object: &Value) -> Result<T, Status> {
        let spec = match object.get("spec") {
            Some(spec) if !spec.is_null() => spec.clone(),
            _ => json!({}),
        };
        serde_json::from_value(spec).map_err(|error| {
            let kind = self.kind;
            Status::bad_request(format!(
                "{kind} in version \"{VERSION}\" cannot be handled as a {kind}: {error}"
            ))
        })
    }

    fn invalid(&self, errors: &Errors) -> Status {
        Status::invalid(&GroupKind::from_static(self.group, self.kind), "", errors)
    }
}
