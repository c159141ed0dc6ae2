//! The rules of one place in a schema.

use catamaran_api::structural::{Schema, paths};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::ValidationRule;

use crate::decl::MAX_REQUEST_BYTES;
use crate::{Decl, Env, Program, Type};

/// A rule, as far as it could be compiled.
#[derive(Debug)]
pub struct CompiledRule {
    /// `None` for an empty rule.
    pub program: Option<Result<Program, Rejection>>,
    pub message: Option<Result<Program, Rejection>>,
    /// Does the rule speak about the old value? Then it only holds for updates.
    pub uses_old: bool,
    /// Where the error is reported, below the place of the rule.
    pub field: Option<String>,
}

/// Why an expression cannot be used, in Kubernetes' words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Rejection(pub String);

/// How many values of a declaration fit into one request.
pub fn estimated_cardinality(decl: &Decl) -> u64 {
    MAX_REQUEST_BYTES / (decl.min_bytes + 1)
}

/// Compiles rules about values of a declaration.
pub fn compile_rules(rules: &[ValidationRule], schema: &Schema, decl: &Decl) -> Vec<CompiledRule> {
    let plain = || Env::new().with("self", decl.clone()).with("oldSelf", decl.clone());
    let optional = || {
        Env::new()
            .with("self", decl.clone())
            .with_optional("oldSelf", decl.clone())
    };
    rules
        .iter()
        .map(|rule| {
            let env = if rule.optional_old_self == Some(true) {
                optional()
            } else {
                plain()
            };
            compile_rule(rule, schema, &env)
        })
        .collect()
}

fn compile_rule(rule: &ValidationRule, schema: &Schema, env: &Env) -> CompiledRule {
    let mut compiled = CompiledRule {
        program: None,
        message: None,
        uses_old: false,
        field: None,
    };
    if rule.rule.trim().is_empty() {
        return compiled;
    }
    let program = Program::compile(&rule.rule, env)
        .map_err(|error| Rejection(format!("compilation failed: {error}")))
        .and_then(|program| match program.result_type() {
            Type::Bool => Ok(program),
            _ => Err(Rejection("cel expression must evaluate to a bool".to_owned())),
        });
    compiled.uses_old = program.as_ref().is_ok_and(|program| program.uses("oldSelf"));
    let usable = program.is_ok();
    compiled.program = Some(program);
    if !usable {
        return compiled;
    }
    if let Some(expression) = rule.message_expression.as_deref().filter(|text| !text.is_empty()) {
        let message = Program::compile(expression, env)
            .map_err(|error| Rejection(format!("messageExpression compilation failed: {error}")))
            .and_then(|program| match program.result_type() {
                Type::String => Ok(program),
                _ => Err(Rejection("messageExpression must evaluate to a string".to_owned())),
            });
        compiled.message = Some(message);
    }
    if let Some(path) = rule.field_path.as_deref().filter(|path| !path.is_empty()) {
        compiled.field = paths::follow(path, schema, true).ok().map(|(shown, _)| shown);
    }
    compiled
}
