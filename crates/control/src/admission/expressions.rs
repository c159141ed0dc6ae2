//! Expressions in webhooks and policies: which variables they see, and what becomes of their errors.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/#validation-expression>

use super::{Attributes, World};
use crate::authn::Identity;
use crate::authz::{Attempt, AttemptedResource, Authorizer, Verdict};
use catamaran_cel::{
    AuthorizationQuery, Bindings, Budget, Decision, Decl, Env, EvalError, ListSemantics, MATCH_CONDITIONS_BUDGET,
    Program, Shape, Type, Value,
};
use k8s_openapi::api::admissionregistration::v1::MatchCondition;
use serde_json::Value as Json;
use std::sync::{Arc, LazyLock};

static REQUEST: LazyLock<Decl> = LazyLock::new(request_decl);
static NAMESPACE: LazyLock<Decl> = LazyLock::new(namespace_decl);

/// An expression as it was written, and the program it is.
#[derive(Debug)]
pub(super) struct Expression {
    pub(super) text: String,
    /// An error is what Kubernetes says about the text.
    pub(super) program: Result<Program, String>,
}

/// Why an expression has no value.
pub(super) enum Failure {
    /// Its own fault; others may still be evaluated.
    Expression(String),
    /// There is no budget left for any other.
    Budget(String),
}

impl Expression {
    /// Compiles; the result has to be of one of the types.
    pub(super) fn compile(text: &str, env: &Env, types: &[Type]) -> Expression {
        let program = match Program::compile(text, env) {
            Err(error) => Err(format!("compilation failed: {error}")),
            Ok(program) if types.is_empty() || types.contains(program.result_type()) => Ok(program),
            Ok(program) => {
                let own = program.result_type();
                Err(match types {
                    [only] => format!("must evaluate to {only} but got {own}"),
                    several => {
                        let each: Vec<String> = several.iter().map(ToString::to_string).collect();
                        format!("must evaluate to one of [{}] but got {own}", each.join(" "))
                    }
                })
            }
        };
        Expression {
            text: text.to_owned(),
            program,
        }
    }

    pub(super) fn evaluate<'a>(&'a self, bindings: &Bindings<'a>, budget: &mut Budget) -> Result<Value<'a>, Failure> {
        let program = self
            .program
            .as_ref()
            .map_err(|error| Failure::Expression(format!("compilation error: {error}")))?;
        program.evaluate(bindings, budget).map_err(|error| match error {
            EvalError::BudgetExhausted => Failure::Budget(error.to_string()),
            other => Failure::Expression(format!("expression '{}' resulted in error: {other}", self.text)),
        })
    }
}

/// The variables of webhooks' match conditions.
pub(super) fn webhook_env() -> Env {
    Env::new()
        .with_dyn("object")
        .with_dyn("oldObject")
        .with("request", REQUEST.clone())
        .with("namespaceObject", NAMESPACE.clone())
        .with("authorizer", Decl::new(Shape::Native(Type::AUTHORIZER), 0, 1))
}

/// The variables of a policy, with or without `params`, and with `authorizer` except in expressions that make texts.
pub(super) fn policy_env(params: bool, authorizer: bool) -> Env {
    let mut env = Env::new()
        .with_dyn("object")
        .with_dyn("oldObject")
        .with("request", REQUEST.clone())
        .with("namespaceObject", NAMESPACE.clone());
    if params {
        env = env.with_dyn("params");
    }
    if authorizer {
        env = env.with("authorizer", Decl::new(Shape::Native(Type::AUTHORIZER), 0, 1));
    }
    env
}

/// A condition without which a webhook or policy is not asked.
pub(super) fn conditions(conditions: Option<&Vec<MatchCondition>>, env: &Env) -> Vec<Expression> {
    conditions
        .into_iter()
        .flatten()
        .map(|condition| Expression::compile(&condition.expression, env, &[Type::Bool]))
        .collect()
}

/// Do all conditions hold? One that says no decides, whatever fails beside it.
pub(super) fn all_hold<'a>(
    conditions: &'a [Expression],
    bindings: &Bindings<'a>,
    ignore_failures: bool,
) -> Result<bool, String> {
    let mut budget = Budget::new(MATCH_CONDITIONS_BUDGET);
    let mut failures = Vec::new();
    for condition in conditions {
        match condition.evaluate(bindings, &mut budget) {
            Ok(value) if value.as_bool() == Some(false) => return Ok(false),
            Ok(_) => {}
            Err(Failure::Expression(why)) => failures.push(why),
            Err(Failure::Budget(_)) if ignore_failures => return Ok(false),
            Err(Failure::Budget(why)) => return Err(why),
        }
    }
    match failures.as_slice() {
        [] => Ok(true),
        _ if ignore_failures => Ok(false),
        [only] => Err(only.clone()),
        several => Err(format!("[{}]", several.join(", "))),
    }
}

/// What the variables stand for in one request.
pub(super) struct Inputs {
    pub(super) object: Json,
    pub(super) old: Json,
    pub(super) request: Json,
    pub(super) namespace: Json,
    authorizer: RequestAuthorizer,
}

impl Inputs {
    pub(super) fn new(
        world: &World<'_>,
        attributes: &Attributes<'_>,
        view: super::views::View,
        request: serde_json::Map<String, Json>,
        namespace: Json,
    ) -> Self {
        Inputs {
            object: view.object,
            old: view.old,
            request: Json::Object(request),
            namespace,
            authorizer: RequestAuthorizer::new(world, attributes),
        }
    }

    /// Of no request in particular: nobody may do anything.
    #[cfg(test)]
    pub(super) fn of(object: Json, old: Json, request: Json, namespace: Json) -> Self {
        Inputs {
            object,
            old,
            request,
            namespace,
            authorizer: RequestAuthorizer {
                authorizer: None,
                identity: Identity::anonymous(),
                request: AuthorizationQuery::default(),
            },
        }
    }

    pub(super) fn bindings(&self) -> Bindings<'_> {
        let typed = |json, decl| Value::from_json(json, decl).unwrap_or(Value::Null);
        Bindings::new()
            .with("object", Value::untyped(&self.object))
            .with("oldObject", Value::untyped(&self.old))
            .with("request", typed(&self.request, &REQUEST))
            .with("namespaceObject", typed(&self.namespace, &NAMESPACE))
            .with_authorizer("authorizer", &self.authorizer)
    }
}

/// Asks for the user of a request.
struct RequestAuthorizer {
    authorizer: Option<Arc<dyn Authorizer>>,
    identity: Identity,
    request: AuthorizationQuery,
}

impl RequestAuthorizer {
    fn new(world: &World<'_>, attributes: &Attributes<'_>) -> Self {
        let target = attributes.target;
        RequestAuthorizer {
            authorizer: world.registry.authorizer(),
            identity: attributes.caller.identity.clone(),
            request: AuthorizationQuery {
                group: target.resource.info.group.to_string(),
                resource: target.resource.info.plural.to_string(),
                subresource: attributes.subresource.to_owned(),
                namespace: target.namespace.clone().unwrap_or_default(),
                name: target.name.clone(),
                ..AuthorizationQuery::default()
            },
        }
    }
}

impl catamaran_cel::Authorizer for RequestAuthorizer {
    fn authorize(&self, query: &AuthorizationQuery) -> Decision {
        let Some(authorizer) = &self.authorizer else {
            return Decision::default();
        };
        let account = query.service_account.as_ref().map(|(namespace, name)| {
            let user = format!("system:serviceaccount:{namespace}:{name}");
            let of_namespace = format!("system:serviceaccounts:{namespace}");
            Identity::authenticated(&user, &["system:serviceaccounts", &of_namespace])
        });
        may(authorizer.as_ref(), account.as_ref().unwrap_or(&self.identity), query)
    }

    fn request_resource(&self) -> Option<AuthorizationQuery> {
        Some(self.request.clone())
    }
}

/// May somebody do this?
pub(super) fn may(authorizer: &dyn Authorizer, identity: &Identity, query: &AuthorizationQuery) -> Decision {
    let resource = AttemptedResource {
        group: &query.group,
        plural: &query.resource,
        subresource: &query.subresource,
        namespace: &query.namespace,
        name: &query.name,
        field_selector: &query.field_selector,
        label_selector: &query.label_selector,
        ..AttemptedResource::default()
    };
    let attempt = Attempt {
        identity,
        verb: &query.verb,
        resource: query.path.is_none().then_some(resource),
        path: query.path.as_deref().unwrap_or_default(),
    };
    match authorizer.decide(&attempt) {
        Verdict::Allowed => Decision {
            allowed: true,
            ..Decision::default()
        },
        Verdict::Denied { reason } => Decision {
            reason,
            ..Decision::default()
        },
    }
}

fn text() -> Decl {
    Decl::string(0)
}

fn object(name: &str, fields: Vec<(&str, Decl)>) -> Decl {
    let fields = fields.into_iter().map(|(name, decl)| (name.to_owned(), decl));
    Decl::object(name, fields, 2)
}

fn request_decl() -> Decl {
    let kind = || {
        let fields = vec![("group", text()), ("version", text()), ("kind", text())];
        object("kubernetes.GroupVersionKind", fields)
    };
    let resource = || {
        let fields = vec![("group", text()), ("version", text()), ("resource", text())];
        object("kubernetes.GroupVersionResource", fields)
    };
    let texts = || Decl::list(text(), ListSemantics::Atomic, 0);
    let user = object(
        "kubernetes.UserInfo",
        vec![
            ("username", text()),
            ("uid", text()),
            ("groups", texts()),
            ("extra", Decl::map(texts(), 0)),
        ],
    );
    object(
        "kubernetes.AdmissionRequest",
        vec![
            ("kind", kind()),
            ("resource", resource()),
            ("subResource", text()),
            ("requestKind", kind()),
            ("requestResource", resource()),
            ("requestSubResource", text()),
            ("name", text()),
            ("namespace", text()),
            ("operation", text()),
            ("userInfo", user),
            ("dryRun", Decl::new(Shape::Bool, 0, 1)),
            ("options", Decl::dynamic()),
        ],
    )
}

fn namespace_decl() -> Decl {
    let time = || Decl::new(Shape::Timestamp, 0, 2);
    let number = || Decl::new(Shape::Int, 0, 1);
    let texts = || Decl::list(text(), ListSemantics::Atomic, 0);
    let metadata = object(
        "kubernetes.NamespaceMetadata",
        vec![
            ("name", text()),
            ("generateName", text()),
            ("namespace", text()),
            ("labels", Decl::map(text(), 0)),
            ("annotations", Decl::map(text(), 0)),
            ("uid", text()),
            ("UID", text()),
            ("creationTimestamp", time()),
            ("deletionGracePeriodSeconds", number()),
            ("deletionTimestamp", time()),
            ("generation", number()),
            ("resourceVersion", text()),
            ("finalizers", texts()),
        ],
    );
    let condition = object(
        "kubernetes.NamespaceCondition",
        vec![
            ("status", text()),
            ("type", text()),
            ("lastTransitionTime", time()),
            ("message", text()),
            ("reason", text()),
        ],
    );
    let status = vec![
        ("conditions", Decl::list(condition, ListSemantics::Atomic, 0)),
        ("phase", text()),
    ];
    object(
        "kubernetes.Namespace",
        vec![
            ("metadata", metadata),
            (
                "spec",
                object("kubernetes.NamespaceSpec", vec![("finalizers", texts())]),
            ),
            ("status", object("kubernetes.NamespaceStatus", status)),
        ],
    )
}
