//! `authorizer.group('apps').resource('deployments').check('create').allowed()`.
//!
//! Who may do what is not known here: whoever runs an expression brings an [`Authorizer`], bound to the user of the request.

use std::sync::Arc;

use super::{Answer, Function, text};
use crate::value::Opaque;
use crate::{Budget, EvalError, Value};

/// Answers whether somebody may do something. One value stands for the user of one request.
pub trait Authorizer: Send + Sync {
    /// Asks for the user of the request, or for a service account if the query names one.
    fn authorize(&self, query: &AuthorizationQuery) -> Decision;

    /// What the request is about, for `authorizer.requestResource`; the verb is left empty.
    fn request_resource(&self) -> Option<AuthorizationQuery> {
        None
    }
}

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthorizationQuery {
    /// Namespace and name of the service account to ask for instead of the user.
    pub service_account: Option<(String, String)>,
    pub verb: String,
    /// A path that is no resource, `/healthz`; everything below is empty then.
    pub path: Option<String>,
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    pub field_selector: SelectorText,
    pub label_selector: SelectorText,
}

/// A selector as the expression wrote it; empty for none.
pub type SelectorText = String;

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    pub allowed: bool,
    pub reason: String,
    /// Why the question could not be answered.
    pub error: Option<String>,
}

/// Whom to ask for.
#[derive(Clone)]
pub struct Subject<'a> {
    authorizer: &'a dyn Authorizer,
    service_account: Option<(String, String)>,
}

impl std::fmt::Debug for Subject<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Subject").field(&self.service_account).finish()
    }
}

#[derive(Clone, Debug)]
pub struct PathCheck<'a> {
    subject: Subject<'a>,
    path: String,
}

#[derive(Clone, Debug)]
pub struct GroupCheck<'a> {
    subject: Subject<'a>,
    group: String,
}

#[derive(Clone, Debug)]
pub struct ResourceCheck<'a> {
    subject: Subject<'a>,
    query: AuthorizationQuery,
}

/// The value of the `authorizer` variable.
pub(crate) fn authorizer(authorizer: &dyn Authorizer) -> Value<'_> {
    Value::opaque(Opaque::Authorizer(Subject {
        authorizer,
        service_account: None,
    }))
}

/// `authorizer.requestResource`.
pub(crate) fn request_resource<'a>(value: &Arc<Opaque<'a>>) -> Option<Value<'a>> {
    let Opaque::Authorizer(subject) = &**value else {
        return None;
    };
    let query = subject.authorizer.request_resource()?;
    Some(Value::opaque(Opaque::ResourceCheck(Box::new(ResourceCheck {
        subject: subject.clone(),
        query,
    }))))
}

pub(super) fn function(name: &str) -> Option<Function> {
    Some(match name {
        "path" => |args, _| {
            let (subject, path) = (subject(&args[0])?.clone(), text(args, 1)?.to_owned());
            Ok(Value::opaque(Opaque::PathCheck(PathCheck { subject, path })))
        },
        "group" => |args, _| {
            let (subject, group) = (subject(&args[0])?.clone(), text(args, 1)?.to_owned());
            Ok(Value::opaque(Opaque::GroupCheck(GroupCheck { subject, group })))
        },
        "serviceAccount" => service_account,
        "resource" => resource,
        "subresource" => |args, _| narrowed(args, |query, value| query.subresource = value),
        "namespace" => |args, _| narrowed(args, |query, value| query.namespace = value),
        "name" => |args, _| narrowed(args, |query, value| query.name = value),
        "fieldSelector" => |args, _| narrowed(args, |query, value| query.field_selector = value),
        "labelSelector" => |args, _| narrowed(args, |query, value| query.label_selector = value),
        "check" => check,
        "allowed" => |args, _| Ok(Value::Bool(decision(&args[0])?.allowed)),
        "reason" => |args, _| Ok(Value::string(decision(&args[0])?.reason.as_str())),
        "errored" => |args, _| Ok(Value::Bool(decision(&args[0])?.error.is_some())),
        "error" => |args, _| Ok(Value::string(decision(&args[0])?.error.as_deref().unwrap_or(""))),
        _ => return None,
    })
}

fn opaque<'v, 'a>(value: &'v Value<'a>) -> Result<&'v Opaque<'a>, EvalError> {
    match value {
        Value::Opaque(value) => Ok(value),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn subject<'v, 'a>(value: &'v Value<'a>) -> Result<&'v Subject<'a>, EvalError> {
    match opaque(value)? {
        Opaque::Authorizer(subject) => Ok(subject),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn decision<'v>(value: &'v Value<'_>) -> Result<&'v Decision, EvalError> {
    match opaque(value)? {
        Opaque::Decision(decision) => Ok(decision),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn service_account<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    let subject = subject(&args[0])?;
    let (namespace, name) = (text(args, 1)?, text(args, 2)?);
    let problems = [
        catamaran_api::names::dns1123_subdomain(name),
        catamaran_api::names::dns1123_label(namespace),
    ];
    if !problems[0].is_empty() {
        return Err(EvalError::new("Invalid service account name"));
    }
    if !problems[1].is_empty() {
        return Err(EvalError::new("Invalid service account namespace"));
    }
    Ok(Value::opaque(Opaque::Authorizer(Subject {
        authorizer: subject.authorizer,
        service_account: Some((namespace.to_owned(), name.to_owned())),
    })))
}

fn resource<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    let Opaque::GroupCheck(check) = opaque(&args[0])? else {
        return Err(EvalError::NoSuchOverload);
    };
    let query = AuthorizationQuery {
        group: check.group.clone(),
        resource: text(args, 1)?.to_owned(),
        ..AuthorizationQuery::default()
    };
    let subject = check.subject.clone();
    Ok(Value::opaque(Opaque::ResourceCheck(Box::new(ResourceCheck {
        subject,
        query,
    }))))
}

fn narrowed<'a>(args: &[Value<'a>], set: fn(&mut AuthorizationQuery, String)) -> Answer<'a> {
    let Opaque::ResourceCheck(check) = opaque(&args[0])? else {
        return Err(EvalError::NoSuchOverload);
    };
    let mut check = check.clone();
    set(&mut check.query, text(args, 1)?.to_owned());
    Ok(Value::opaque(Opaque::ResourceCheck(check)))
}

fn check<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    let verb = text(args, 1)?.to_owned();
    let (subject, mut query) = match opaque(&args[0])? {
        Opaque::ResourceCheck(check) => (&check.subject, check.query.clone()),
        Opaque::PathCheck(check) => (
            &check.subject,
            AuthorizationQuery {
                path: Some(check.path.clone()),
                ..AuthorizationQuery::default()
            },
        ),
        _ => return Err(EvalError::NoSuchOverload),
    };
    query.verb = verb;
    query.service_account.clone_from(&subject.service_account);
    Ok(Value::opaque(Opaque::Decision(subject.authorizer.authorize(&query))))
}
