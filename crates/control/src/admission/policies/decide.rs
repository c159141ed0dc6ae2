//! What a policy says about one request with one set of parameters. Pure.

use super::super::expressions::{Expression, Failure, Inputs, all_hold};
use super::compiled::{Policy, Validation};
use catamaran_cel::{Bindings, Budget, EvalError, Fields, Map, RUNTIME_BUDGET, Value};
use parking_lot::Mutex;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

/// Longer messages of expressions are not used.
const LONGEST_MESSAGE: usize = 5 * 1024;

#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// One per validation, or one for all if it could not come to them.
    pub(super) verdicts: Vec<Verdict>,
    pub(super) annotations: Vec<(String, String)>,
    /// Errors of annotations; each denies.
    pub(super) failed_annotations: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Admitted,
    Denied { reason: Option<String>, message: String },
}

pub(super) fn decide(policy: &Policy, inputs: &Inputs, params: &Json) -> Outcome {
    let expressions = &policy.expressions;
    let mut bindings = inputs.bindings();
    if policy.param_kind.is_some() {
        bindings.set("params", Value::untyped(params));
    }
    match all_hold(&expressions.conditions, &bindings, policy.ignores_failures) {
        Ok(true) => {}
        Ok(false) => return Outcome::default(),
        Err(why) => return policy.failed(why),
    }
    let variables = Variables::new(&expressions.variables, &bindings);
    bindings.set("variables", Value::Map(Map::Computed(variables)));

    let mut budget = Budget::new(RUNTIME_BUDGET);
    let mut results = Vec::new();
    for validation in &expressions.validations {
        match validation.expression.evaluate(&bindings, &mut budget) {
            Err(Failure::Budget(why)) => return policy.failed(why),
            Err(Failure::Expression(why)) => results.push(Err(why)),
            Ok(value) => results.push(Ok(value.as_bool() == Some(true))),
        }
    }
    let mut outcome = Outcome::default();
    for (validation, result) in expressions.validations.iter().zip(results) {
        outcome.verdicts.push(match result {
            Ok(true) => Verdict::Admitted,
            Ok(false) => denied(validation, &bindings, &mut budget),
            Err(why) => policy.failure(why),
        });
    }
    let mut budget = Budget::new(RUNTIME_BUDGET);
    for (key, expression) in &expressions.annotations {
        match expression.evaluate(&bindings, &mut budget) {
            Ok(Value::Null) => {}
            Ok(value) => {
                let text = value.as_str().unwrap_or_default().trim();
                if !text.is_empty() {
                    outcome.annotations.push((key.clone(), text.to_owned()));
                }
            }
            Err(_) if policy.ignores_failures => {}
            Err(Failure::Expression(why) | Failure::Budget(why)) => outcome.failed_annotations.push(why),
        }
    }
    outcome
}

impl Policy {
    fn failure(&self, message: String) -> Verdict {
        if self.ignores_failures {
            return Verdict::Admitted;
        }
        Verdict::Denied { reason: None, message }
    }

    fn failed(&self, why: String) -> Outcome {
        Outcome {
            verdicts: vec![self.failure(why)],
            ..Outcome::default()
        }
    }
}

/// What is said: by the expression for it, else the text, else the expression that failed.
fn denied<'a>(validation: &'a Validation, bindings: &Bindings<'a>, budget: &mut Budget) -> Verdict {
    let computed = validation
        .message_expression
        .as_ref()
        .and_then(|expression| expression.evaluate(bindings, budget).ok())
        .and_then(|value| value.as_str().map(|text| text.trim().to_owned()))
        .filter(|text| !text.is_empty() && text.len() <= LONGEST_MESSAGE && !text.contains('\n'));
    let written = validation.message.as_deref().filter(|text| !text.is_empty());
    let message = computed
        .or_else(|| written.map(|text| text.trim().to_owned()))
        .unwrap_or_else(|| format!("failed expression: {}", validation.expression.text.trim()));
    Verdict::Denied {
        reason: Some(validation.reason.clone().unwrap_or_else(|| "Invalid".to_owned())),
        message,
    }
}

/// `variables`: each computed when it is first asked for, and once.
struct Variables<'a> {
    this: Weak<Self>,
    expressions: &'a [(String, Expression)],
    bindings: Bindings<'a>,
    values: Mutex<BTreeMap<usize, Result<Value<'a>, EvalError>>>,
}

impl<'a> Variables<'a> {
    fn new(expressions: &'a [(String, Expression)], bindings: &Bindings<'a>) -> Arc<Self> {
        Arc::new_cyclic(|this| Variables {
            this: Weak::clone(this),
            expressions,
            bindings: bindings.clone(),
            values: Mutex::default(),
        })
    }
}

impl<'a> Fields<'a> for Variables<'a> {
    fn field(&self, name: &str, budget: &mut Budget) -> Result<Option<Value<'a>>, EvalError> {
        let found = self.expressions.iter().position(|(own, _)| own == name);
        let Some(index) = found else { return Ok(None) };
        let known = self.values.lock().get(&index).cloned();
        if let Some(known) = known {
            return known.map(Some);
        }
        let mut bindings = self.bindings.clone();
        if let Some(this) = self.this.upgrade() {
            bindings.set("variables", Value::Map(Map::Computed(this)));
        }
        let value = match &self.expressions[index].1.program {
            Err(why) => Err(EvalError::new(format!(
                "composited variable {name:?} fails to compile: {why}"
            ))),
            Ok(program) => program.evaluate(&bindings, budget).map_err(|error| match error {
                EvalError::Failed(why) => {
                    EvalError::new(format!("composited variable {name:?} fails to evaluate: {why}"))
                }
                other => other,
            }),
        };
        if !matches!(value, Err(EvalError::BudgetExhausted | EvalError::CostLimit)) {
            self.values.lock().insert(index, value.clone());
        }
        value.map(Some)
    }

    fn names(&self) -> Vec<String> {
        self.expressions.iter().map(|(name, _)| name.clone()).collect()
    }
}

#[cfg(test)]
mod tests;
