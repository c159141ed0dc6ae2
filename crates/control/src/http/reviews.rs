//! Questions about somebody: who am I, and may I? They are asked as objects, answered, and never stored.
//!
//! `kubectl auth whoami` and `kubectl auth can-i` are made of these.
//! <https://kubernetes.io/docs/reference/access-authn-authz/authorization/#checking-api-access>

use super::App;
use super::negotiate::{self, Form, Offer};
use super::render;
use super::request_info::RequestInfo;
use super::resource::{format, read};
use crate::authn::Identity;
use crate::authz::{Attempt, AttemptedResource};
use axum::body::Body;
use axum::response::Response;
use catamaran_api::{Errors, GroupKind, GroupResource, Path, Status, body};
use http::{Method, StatusCode, request};
use k8s_openapi::api::authentication::v1::TokenReviewSpec;
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
    Whose,
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
        group: AUTHENTICATION,
        plural: "tokenreviews",
        kind: "TokenReview",
        namespaced: false,
        question: Question::Whose,
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
        let form: Form = negotiate::accepted(&head.headers, Offer::PLAIN)?;
        let mut object = self.object(head, body).await?;
        let anonymous = Identity::anonymous();
        let identity = head.extensions.get::<Identity>().unwrap_or(&anonymous);
        let status = self.status(app, identity, &object, info.namespace.as_deref()).await?;
        object["kind"] = json!(self.kind);
        object["apiVersion"] = json!(self.api_version());
        if !object["metadata"].is_object() {
            object["metadata"] = json!({});
        }
        if matches!(self.question, Question::WhoAmI) {
            let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            object["metadata"] = json!({ "creationTimestamp": now });
        }
        if let Some(namespace) = &info.namespace {
            object["metadata"]["namespace"] = json!(namespace);
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

    async fn status(
        &self,
        app: &App,
        identity: &Identity,
        object: &Value,
        namespace: Option<&str>,
    ) -> Result<Value, Status> {
        match self.question {
            Question::WhoAmI => Ok(json!({ "userInfo": user_info(identity) })),
            Question::Whose => self.whose(app, object).await,
            Question::MayI => {
                let spec: SelfSubjectAccessReviewSpec = self.spec(object)?;
                let asked = (spec.resource_attributes, spec.non_resource_attributes);
                let errors = access_errors(&asked);
                self.check(object, None, errors)?;
                Ok(verdict(app, identity, asked))
            }
            Question::MayThey => {
                let spec: SubjectAccessReviewSpec = self.spec(object)?;
                let subject = Identity {
                    user: spec.user.unwrap_or_default(),
                    uid: spec.uid.unwrap_or_default(),
                    groups: spec.groups.unwrap_or_default(),
                    extra: spec.extra.unwrap_or_default(),
                };
                let asked = (spec.resource_attributes, spec.non_resource_attributes);
                let mut errors = access_errors(&asked);
                if subject.user.is_empty() && subject.groups.is_empty() {
                    let why = "at least one of user or group must be specified";
                    errors.invalid(&Path::new("spec.user"), "", why);
                }
                if let Some(namespace) = namespace {
                    local_errors(&asked, namespace, &mut errors);
                }
                self.check(object, namespace, errors)?;
                Ok(verdict(app, &subject, asked))
            }
            Question::WhatMayI => {
                let spec: SelfSubjectRulesReviewSpec = self.spec(object)?;
                let namespace = spec.namespace.unwrap_or_default();
                if namespace.is_empty() {
                    return Err(Status::bad_request("no namespace on request"));
                }
                Ok(rules(app, identity, &namespace))
            }
        }
    }

    /// Whose token it is, as the server that asks cannot tell.
    async fn whose(&self, app: &App, object: &Value) -> Result<Value, Status> {
        let spec: TokenReviewSpec = self.spec(object)?;
        let token = spec
            .token
            .filter(|token| !token.is_empty())
            .ok_or_else(|| Status::bad_request("token is required for TokenReview in authentication"))?;
        let own = app.authenticator.service_accounts().audiences();
        let wanted = spec.audiences.filter(|audiences| !audiences.is_empty());
        let wanted = wanted.unwrap_or_else(|| own.to_vec());
        Ok(match app.authenticator.prove(&token, &wanted).await {
            Ok(proven) => json!({
                "authenticated": true,
                "user": user_info(&proven.identity),
                "audiences": proven.audiences,
            }),
            Err(why) => json!({ "user": {}, "error": format!("[invalid bearer token, {why}]") }),
        })
    }

    /// What is wrong with a question about access, and with its metadata, which has to be empty.
    fn check(&self, object: &Value, namespace: Option<&str>, mut errors: Errors) -> Result<(), Status> {
        let metadata = object["metadata"].as_object();
        let empty = |value: &Value| value.is_null() || *value == json!({}) || *value == json!("");
        let mut stated = metadata.into_iter().flatten();
        let only_own = stated.all(|(key, value)| {
            empty(value) || key == "managedFields" || (key == "namespace" && namespace == value.as_str())
        });
        if !only_own {
            let why = match namespace {
                Some(_) => "must be empty except for namespace",
                None => "must be empty",
            };
            errors.invalid(&Path::new("metadata"), object["metadata"].clone(), why);
        }
        if errors.is_empty() {
            Ok(())
        } else {
            Err(self.invalid(&errors))
        }
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

/// What a question about access is about: a resource, or a path.
type Asked = (Option<ResourceAttributes>, Option<NonResourceAttributes>);

fn access_errors(asked: &Asked) -> Errors {
    let mut errors = Errors::new();
    match asked {
        (Some(_), Some(path)) => {
            let why = "cannot be specified in combination with resourceAttributes";
            errors.invalid(&Path::new("spec.nonResourceAttributes"), json!(path), why);
        }
        (None, None) => {
            let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            errors.invalid(&Path::new("spec.resourceAttributes"), "null", why);
        }
        (Some(resource), None) => selector_errors(resource, &mut errors),
        (None, Some(_)) => {}
    }
    errors
}

fn selector_errors(resource: &ResourceAttributes, errors: &mut Errors) {
    let mut check = |name: &str, raw: &Option<String>, requirements: bool, given: bool| {
        let path = Path::new("spec.resourceAttributes");
        let path = path.child(name);
        let raw = raw.as_deref().unwrap_or_default();
        if !raw.is_empty() && requirements {
            errors.invalid(
                &path.child("rawSelector"),
                raw,
                "may not specified at the same time as requirements",
            );
        } else if given && raw.is_empty() && !requirements {
            errors.required(
                &path.child("requirements"),
                "when specifying a selector, requirements or rawSelector is required",
            );
        }
    };
    if let Some(own) = &resource.field_selector {
        let requirements = own.requirements.as_ref().is_some_and(|list| !list.is_empty());
        check("fieldSelector", &own.raw_selector, requirements, true);
    }
    if let Some(own) = &resource.label_selector {
        let requirements = own.requirements.as_ref().is_some_and(|list| !list.is_empty());
        check("labelSelector", &own.raw_selector, requirements, true);
    }
}

fn local_errors(asked: &Asked, namespace: &str, errors: &mut Errors) {
    let path = Path::new("spec");
    if let Some(resource) = &asked.0 {
        let stated = resource.namespace.as_deref().unwrap_or_default();
        if stated != namespace {
            let path = path.child("resourceAttributes");
            errors.invalid(&path.child("namespace"), stated, "must match metadata.namespace");
        }
    }
    if let Some(other) = &asked.1 {
        let why = "disallowed on this kind of request";
        errors.invalid(&path.child("nonResourceAttributes"), json!(other), why);
    }
}

fn verdict(app: &App, identity: &Identity, asked: Asked) -> Value {
    let (resource, path) = asked;
    let (resource, path) = (resource.unwrap_or_default(), path.unwrap_or_default());
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (field, label) = (field_selector(&resource), label_selector(&resource));
    let is_path = path.verb.is_some() || path.path.is_some();
    let verb = text(if is_path { &path.verb } else { &resource.verb });
    let path = text(&path.path);
    let resource = AttemptedResource {
        group: resource.group.as_deref().unwrap_or_default(),
        version: resource.version.as_deref().unwrap_or_default(),
        plural: resource.resource.as_deref().unwrap_or_default(),
        subresource: resource.subresource.as_deref().unwrap_or_default(),
        namespace: resource.namespace.as_deref().unwrap_or_default(),
        name: resource.name.as_deref().unwrap_or_default(),
        field_selector: &field,
        label_selector: &label,
    };
    let (allowed, reason) = app.authorizer.explain(&Attempt {
        identity,
        verb: &verb,
        resource: (!is_path).then_some(resource),
        path: &path,
    });
    let mut status = json!({ "allowed": allowed });
    if !reason.is_empty() {
        status["reason"] = json!(reason);
    }
    status
}

/// The selector as a query has it. What no query could say restricts nothing.
fn field_selector(resource: &ResourceAttributes) -> String {
    let Some(own) = &resource.field_selector else {
        return String::new();
    };
    if let Some(raw) = own.raw_selector.as_ref().filter(|raw| !raw.is_empty()) {
        return raw.clone();
    }
    let terms = own.requirements.iter().flatten().filter_map(|requirement| {
        let [value] = requirement.values.as_deref()? else {
            return None;
        };
        match requirement.operator.as_str() {
            "In" => Some(format!("{}={value}", requirement.key)),
            "NotIn" => Some(format!("{}!={value}", requirement.key)),
            _ => None,
        }
    });
    terms.collect::<Vec<String>>().join(",")
}

fn label_selector(resource: &ResourceAttributes) -> String {
    let Some(own) = &resource.label_selector else {
        return String::new();
    };
    if let Some(raw) = own.raw_selector.as_ref().filter(|raw| !raw.is_empty()) {
        return raw.clone();
    }
    let terms = own.requirements.iter().flatten().filter_map(|requirement| {
        let values = requirement.values.as_deref().unwrap_or_default().join(",");
        match requirement.operator.as_str() {
            "In" => Some(format!("{} in ({values})", requirement.key)),
            "NotIn" => Some(format!("{} notin ({values})", requirement.key)),
            "Exists" => Some(requirement.key.clone()),
            "DoesNotExist" => Some(format!("!{}", requirement.key)),
            _ => None,
        }
    });
    terms.collect::<Vec<String>>().join(",")
}

fn rules(app: &App, identity: &Identity, namespace: &str) -> Value {
    let rules = app.authorizer.rules(identity, namespace);
    let resources = rules.resources.iter().map(|rule| {
        let mut shown = json!({ "verbs": rule.verbs, "apiGroups": rule.groups, "resources": rule.plurals });
        if !rule.names.is_empty() {
            shown["resourceNames"] = json!(rule.names);
        }
        shown
    });
    let paths = rules
        .paths
        .iter()
        .map(|rule| json!({ "verbs": rule.verbs, "nonResourceURLs": rule.paths }));
    let mut status = json!({
        "resourceRules": resources.collect::<Vec<Value>>(),
        "nonResourceRules": paths.collect::<Vec<Value>>(),
        "incomplete": !rules.error.is_empty(),
    });
    if !rules.error.is_empty() {
        status["evaluationError"] = json!(rules.error);
    }
    status
}

fn user_info(identity: &Identity) -> Value {
    let mut info = json!({ "username": identity.user });
    if !identity.uid.is_empty() {
        info["uid"] = json!(identity.uid);
    }
    if !identity.groups.is_empty() {
        info["groups"] = json!(identity.groups);
    }
    if !identity.extra.is_empty() {
        info["extra"] = json!(identity.extra);
    }
    info
}
