//! Holding an object against the rules of its schema.

use catamaran_api::field::{Errors, FieldError, Path, Reason};
use catamaran_api::structural::Schema;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::ValidationRule;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::{CompiledRule, compile_rules, declare};
use crate::{Bindings, Budget, Decl, EvalError, Value};

/// Longest text a `messageExpression` may give, in bytes.
const MAX_MESSAGE: usize = 5 * 1024;

/// What failed but was wrong before as well.
pub type RuleWarnings = Vec<String>;

/// The compiled rules of a schema. Places without rules below them take no memory.
#[derive(Debug)]
pub struct RuleSet {
    root: Place,
}

#[derive(Debug)]
struct Place {
    rules: Vec<(ValidationRule, CompiledRule)>,
    decl: Arc<Decl>,
    type_name: &'static str,
    items: Option<Box<Place>>,
    properties: BTreeMap<Box<str>, Place>,
    additional: Option<Box<Place>>,
    all_of: Vec<Place>,
    /// The schema, if items can be told apart by their properties.
    keyed: Option<Box<Schema>>,
}

impl RuleSet {
    /// Compiles all rules of a schema; `None` if there are none.
    pub fn new(schema: &Schema, resource: bool) -> Option<Self> {
        if !schema.has_expressions() {
            return None;
        }
        let decl = Arc::new(declare(schema, resource)?);
        place(schema, schema, &decl).map(|root| Self { root })
    }

    /// Adds everything that the rules have against a value. `old` is the value it replaces.
    pub fn check(
        &self,
        path: &Path<'_>,
        value: &Json,
        old: Option<&Json>,
        budget: &mut Budget,
        errors: &mut Errors,
    ) -> RuleWarnings {
        let mut run = Run {
            budget,
            errors,
            warnings: Vec::new(),
            stopped: false,
        };
        let ratchet = Ratchet {
            current: old.map(|old| (value, old)),
            parent: None,
        };
        run.place(path, &self.root, value, old, ratchet);
        run.warnings
    }
}

fn place(rules_of: &Schema, node: &Schema, decl: &Arc<Decl>) -> Option<Place> {
    let compiled = compile_rules(&rules_of.expressions, node, decl);
    let below =
        |decl: Option<&Decl>, node: &Schema| decl.cloned().or_else(|| declare(node, node.embedded)).map(Arc::new);
    let items = match (&rules_of.items, &node.items) {
        (Some(rules_of), Some(node)) => below(decl.items(), node).and_then(|decl| place(rules_of, node, &decl)),
        _ => None,
    };
    let mut properties = BTreeMap::new();
    for (name, rules_of) in &rules_of.properties {
        let Some(property) = node.properties.get(name) else {
            continue;
        };
        let declared = crate::escape(name).and_then(|escaped| decl.field(&escaped));
        let found = below(declared, property).and_then(|decl| place(rules_of, property, &decl));
        if let Some(place) = found {
            properties.insert(name.clone(), place);
        }
    }
    let additional = match (rules_of.additional_schema(), node.additional_schema()) {
        (Some(rules_of), Some(node)) => below(decl.values(), node).and_then(|decl| place(rules_of, node, &decl)),
        _ => None,
    };
    let parts = rules_of.rules.iter().flat_map(|rules| &rules.all_of);
    let all_of: Vec<Place> = parts.filter_map(|part| place(part, node, decl)).collect();
    let nothing = compiled.is_empty() && items.is_none() && properties.is_empty() && additional.is_none();
    if nothing && all_of.is_empty() {
        return None;
    }
    let keyed = node.map_keys().is_some() && items.is_some();
    Some(Place {
        rules: rules_of.expressions.iter().cloned().zip(compiled).collect(),
        decl: Arc::clone(decl),
        type_name: node.ty.map_or("", |ty| ty.as_str()),
        items: items.map(Box::new),
        properties,
        additional: additional.map(Box::new),
        all_of,
        keyed: keyed.then(|| Box::new(node.clone())),
    })
}

/// What a value is compared with to see whether an error in it is new.
#[derive(Clone, Copy, Default)]
struct Ratchet<'v> {
    /// This value and the one it replaces.
    current: Option<(&'v Json, &'v Json)>,
    /// The same of what is around it, for values that cannot be told apart from their neighbours.
    parent: Option<(&'v Json, &'v Json)>,
}

impl<'v> Ratchet<'v> {
    fn unchanged(self) -> bool {
        self.current.or(self.parent).is_some_and(|(new, old)| new == old)
    }

    fn below(self, value: &'v Json, old: Option<&'v Json>) -> Self {
        match self.current {
            None => self,
            Some(current) => Self {
                current: old.map(|old| (value, old)),
                parent: Some(current),
            },
        }
    }
}

struct Run<'r> {
    budget: &'r mut Budget,
    errors: &'r mut Errors,
    warnings: RuleWarnings,
    /// Nothing more is evaluated.
    stopped: bool,
}

impl Run<'_> {
    fn place(&mut self, path: &Path<'_>, place: &Place, value: &Json, old: Option<&Json>, ratchet: Ratchet<'_>) {
        if value.is_null() {
            return;
        }
        self.rules(path, place, value, old, ratchet);
        for part in &place.all_of {
            if self.stopped {
                return;
            }
            let only_parent = Ratchet {
                current: None,
                parent: ratchet.parent,
            };
            self.place(path, part, value, old, only_parent);
        }
        match value {
            Json::Array(items) => {
                let Some(below) = &place.items else { return };
                for (index, item) in items.iter().enumerate() {
                    if self.stopped {
                        return;
                    }
                    let counterpart = place.keyed.as_ref().and_then(|schema| schema.counterpart(item, old));
                    self.place(
                        &path.index(index),
                        below,
                        item,
                        counterpart,
                        ratchet.below(item, counterpart),
                    );
                }
            }
            Json::Object(fields) => {
                for (name, value) in fields {
                    if self.stopped {
                        return;
                    }
                    let old = old.and_then(|old| old.get(name));
                    if let Some(below) = place.properties.get(&**name) {
                        self.place(&path.child(name), below, value, old, ratchet.below(value, old));
                    }
                    if let Some(below) = &place.additional {
                        self.place(&path.key(name), below, value, old, ratchet.below(value, old));
                    }
                }
            }
            _ => {}
        }
    }

    fn rules(&mut self, path: &Path<'_>, place: &Place, value: &Json, old: Option<&Json>, ratchet: Ratchet<'_>) {
        if place.rules.is_empty() {
            return;
        }
        let invalid =
            |detail: String| FieldError::new(Reason::Invalid, path, Some(Json::from(place.type_name)), detail);
        let old = old.filter(|old| !old.is_null());
        let bound = |json| Value::from_json(json, &place.decl);
        // If its type is wrong, that is reported already.
        let Ok(own) = bound(value) else { return };
        let former = old.and_then(|old| bound(old).ok());
        for (rule, compiled) in &place.rules {
            let program = match &compiled.program {
                None => continue,
                Some(Err(rejection)) => {
                    self.errors.push(invalid(format!("rule compile error: {rejection}")));
                    continue;
                }
                Some(Ok(program)) => program,
            };
            let optional = rule.optional_old_self == Some(true);
            if compiled.uses_old && former.is_none() && !optional {
                continue;
            }
            let mut bindings = Bindings::new().with("self", own.clone());
            match (&former, optional) {
                (Some(former), true) => bindings.set("oldSelf", Value::some(former.clone())),
                (None, true) => bindings.set("oldSelf", Value::Optional(None)),
                (Some(former), false) => bindings.set("oldSelf", former.clone()),
                (None, false) => {}
            }
            let shown = shown(rule);
            let failure = match program.evaluate(&bindings, self.budget) {
                Ok(Value::Bool(true)) => continue,
                Ok(_) => None,
                Err(error) => Some(error),
            };
            if let Some(error) = failure {
                let detail = match &error {
                    EvalError::BudgetExhausted => error.to_string(),
                    EvalError::NoSuchOverload => format!(
                        "'{error}': call arguments did not match a supported operator, function or macro signature for rule: {shown}"
                    ),
                    EvalError::CostLimit => format!(
                        "'{error}': no further validation rules will be run due to call cost exceeds limit for rule: {shown}"
                    ),
                    EvalError::Failed(_) => format!("{error} evaluating rule: {shown}"),
                };
                self.errors.push(invalid(detail));
                if matches!(error, EvalError::BudgetExhausted | EvalError::CostLimit) {
                    self.stopped = true;
                    return;
                }
                continue;
            }
            let forgiven = !compiled.uses_old && ratchet.unchanged();
            match self.detail(rule, compiled, &bindings) {
                Ok(detail) => {
                    let error = violation(path, place, value, rule, compiled, detail);
                    self.report(error, forgiven);
                }
                Err(detail) => {
                    self.report(invalid(detail), forgiven);
                    self.stopped = true;
                    return;
                }
            }
        }
    }

    fn report(&mut self, error: FieldError, forgiven: bool) {
        if forgiven {
            self.warnings.push(error.to_string());
        } else {
            self.errors.push(error);
        }
    }

    /// The text of a violation. `Err`: the budget is used up.
    fn detail<'a>(
        &mut self,
        rule: &ValidationRule,
        compiled: &'a CompiledRule,
        bindings: &Bindings<'a>,
    ) -> Result<String, String> {
        let stated = || match rule.message.as_deref().filter(|message| !message.is_empty()) {
            Some(message) => message.trim().to_owned(),
            None => format!("failed rule: {}", rule.rule.trim()),
        };
        let Some(Ok(program)) = &compiled.message else {
            return Ok(stated());
        };
        let quoted = || catamaran_api::field::quote(rule.message_expression.as_deref().unwrap_or_default());
        match evaluate_text(program, bindings, self.budget) {
            Ok(Some(text)) => {
                let text = text.trim();
                let usable = !text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n');
                Ok(if usable { text.to_owned() } else { stated() })
            }
            Ok(None) | Err(EvalError::Failed(_) | EvalError::NoSuchOverload) => Ok(stated()),
            Err(EvalError::BudgetExhausted) => Err(
                "messageExpression evaluation failed due to running out of cost budget, no further validation rules will be run"
                    .to_owned(),
            ),
            Err(EvalError::CostLimit) => Err(format!(
                "no further validation rules will be run due to call cost exceeds limit for messageExpression: {}",
                quoted()
            )),
        }
    }
}

fn evaluate_text<'a>(
    program: &'a crate::Program,
    bindings: &Bindings<'a>,
    budget: &mut Budget,
) -> Result<Option<String>, EvalError> {
    let value = program.evaluate(bindings, budget)?;
    Ok(value.as_str().map(str::to_owned))
}

/// How messages call a rule.
fn shown(rule: &ValidationRule) -> String {
    let message = rule.message.as_deref().filter(|message| !message.is_empty());
    message.unwrap_or(&rule.rule).trim().to_owned()
}

fn violation(
    path: &Path<'_>,
    place: &Place,
    value: &Json,
    rule: &ValidationRule,
    compiled: &CompiledRule,
    detail: String,
) -> FieldError {
    // Whole objects and lists are not shown.
    let shown = (!matches!(place.type_name, "object" | "array")).then(|| value.clone());
    let (reason, value) = match rule.reason.as_deref() {
        Some("FieldValueForbidden") => (Reason::Forbidden, None),
        Some("FieldValueRequired") => (Reason::Required, None),
        Some("FieldValueDuplicate") => (Reason::Duplicate, shown),
        _ => (Reason::Invalid, shown),
    };
    let mut error = FieldError::new(reason, path, value, detail);
    if error.field.is_empty() && compiled.field.is_none() {
        // As Kubernetes shows the whole object.
        error.field.push_str("<nil>");
    }
    if let Some(below) = &compiled.field {
        if !error.field.is_empty() && !below.starts_with('[') {
            error.field.push('.');
        }
        error.field.push_str(below);
    }
    error
}
