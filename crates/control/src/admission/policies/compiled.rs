//! Policies and bindings, ready to be applied.

use super::super::decoded;
use super::super::expressions::{Expression, conditions, policy_env};
use super::super::matching::Criteria;
use crate::watch_cache::Record;
use catamaran_cel::{Decl, Env, Shape, Type};
use k8s_openapi::api::admissionregistration::v1::{
    ParamRef, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicySpec, Variable,
};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) struct Policy {
    pub(super) name: String,
    pub(super) criteria: Criteria,
    pub(super) ignores_failures: bool,
    /// API version and kind of the objects with parameters.
    pub(super) param_kind: Option<(String, String)>,
    pub(super) expressions: Expressions,
}

/// All expressions of a policy.
pub(super) struct Expressions {
    pub(super) conditions: Vec<Expression>,
    pub(super) variables: Vec<(String, Expression)>,
    pub(super) validations: Vec<Validation>,
    /// By key.
    pub(super) annotations: Vec<(String, Expression)>,
}

pub(super) struct Validation {
    pub(super) expression: Expression,
    pub(super) message: Option<String>,
    pub(super) message_expression: Option<Expression>,
    pub(super) reason: Option<String>,
}

pub(super) struct Binding {
    pub(super) name: String,
    pub(super) criteria: Criteria,
    pub(super) params: Option<ParamRef>,
    /// `Deny`, `Warn`, `Audit`.
    pub(super) actions: Vec<String>,
}

pub(super) fn policies(records: &[Arc<Record>]) -> Vec<Arc<Policy>> {
    let objects = records
        .iter()
        .filter_map(|record| decoded::<ValidatingAdmissionPolicy>(record).ok());
    objects.map(|object| Arc::new(policy(object))).collect()
}

fn policy(object: ValidatingAdmissionPolicy) -> Policy {
    let spec = object.spec.unwrap_or_default();
    Policy {
        name: object.metadata.name.unwrap_or_default(),
        expressions: compile(&spec),
        ignores_failures: spec.failure_policy.as_deref() == Some("Ignore"),
        param_kind: spec
            .param_kind
            .map(|kind| (kind.api_version.unwrap_or_default(), kind.kind.unwrap_or_default())),
        criteria: Criteria::of_policy(spec.match_constraints),
    }
}

/// Compiles all expressions of a policy. Later variables may use earlier ones.
pub(super) fn compile(spec: &ValidatingAdmissionPolicySpec) -> Expressions {
    let params = spec.param_kind.is_some();
    let plain = policy_env(params, true);
    let (variables, declared) = variables(spec.variables.as_deref().unwrap_or_default(), &plain);
    let with_variables = |env: Env| env.with("variables", variables_decl(&declared));
    let env = with_variables(plain.clone());
    let texts = with_variables(policy_env(params, false));
    Expressions {
        conditions: conditions(spec.match_conditions.as_ref(), &plain),
        variables,
        validations: spec
            .validations
            .iter()
            .flatten()
            .map(|validation| Validation {
                expression: Expression::compile(&validation.expression, &env, &[Type::Bool]),
                message: validation.message.clone(),
                message_expression: validation
                    .message_expression
                    .as_ref()
                    .filter(|text| !text.is_empty())
                    .map(|text| Expression::compile(text, &texts, &[Type::String])),
                reason: validation.reason.clone(),
            })
            .collect(),
        annotations: spec
            .audit_annotations
            .iter()
            .flatten()
            .map(|annotation| {
                let types = [Type::String, Type::Null];
                let expression = Expression::compile(&annotation.value_expression, &texts, &types);
                (annotation.key.clone(), expression)
            })
            .collect(),
    }
}

/// Something by its name.
type Named<T> = Vec<(String, T)>;

/// Compiled variables, and the types of those that are sound.
pub(super) fn variables(variables: &[Variable], plain: &Env) -> (Named<Expression>, Named<Type>) {
    let mut compiled = Vec::new();
    let mut declared = Vec::new();
    for variable in variables {
        let env = plain.clone().with("variables", variables_decl(&declared));
        let expression = Expression::compile(&variable.expression, &env, &[]);
        let ty = expression
            .program
            .as_ref()
            .map_or(Type::Dyn, |program| program.result_type().clone());
        declared.push((variable.name.clone(), ty));
        compiled.push((variable.name.clone(), expression));
    }
    (compiled, declared)
}

pub(super) fn variables_decl(declared: &[(String, Type)]) -> Decl {
    let fields = declared
        .iter()
        .map(|(name, ty)| (name.clone(), Decl::new(Shape::Native(ty.clone()), 0, 1)));
    Decl::object("kubernetes.variables", fields, 2)
}

pub(super) fn bindings(records: &[Arc<Record>]) -> BTreeMap<String, Vec<Arc<Binding>>> {
    let mut bindings: BTreeMap<String, Vec<Arc<Binding>>> = BTreeMap::new();
    for record in records {
        let Ok(object) = decoded::<ValidatingAdmissionPolicyBinding>(record) else {
            continue;
        };
        let spec = object.spec.unwrap_or_default();
        let binding = Binding {
            name: object.metadata.name.unwrap_or_default(),
            criteria: Criteria::of_policy(spec.match_resources),
            params: spec.param_ref,
            actions: spec.validation_actions.unwrap_or_default(),
        };
        let policy = spec.policy_name.unwrap_or_default();
        bindings.entry(policy).or_default().push(Arc::new(binding));
    }
    bindings
}
