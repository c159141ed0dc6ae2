//! Types of every part of an expression, and everything that is wrong with them.
//!
//! Works as the specification of CEL describes (<https://github.com/google/cel-spec/blob/master/doc/langdef.md#type-checking>):
//! each call is matched against all declarations of its function, types still unknown are variables that get substituted.

use std::sync::Arc;

use crate::env::Env;
use crate::error::{CompileError, Issue, position};
use crate::library;
use crate::node::{Call, Comprehension, Entry, Kind, Node, SelectKind};
use crate::overloads::{self, FunctionDecl};
use crate::types::{Substitutions, Type, most_general};
use crate::value::Value;

/// Names that are types: `type(x) == int`.
const TYPE_NAMES: &[(&str, Type)] = &[
    ("bool", Type::Bool),
    ("bytes", Type::Bytes),
    ("double", Type::Double),
    ("dyn", Type::Dyn),
    ("int", Type::Int),
    ("null_type", Type::Null),
    ("string", Type::String),
    ("type", Type::Type(None)),
    ("uint", Type::Uint),
    ("google.protobuf.Timestamp", Type::Timestamp),
    ("google.protobuf.Duration", Type::Duration),
    ("optional_type", Type::Dyn),
];

/// The type a name stands for, if it is the name of a type.
pub(crate) fn named_type(name: &str) -> Option<Type> {
    if let Some((_, ty)) = TYPE_NAMES.iter().find(|(known, _)| *known == name) {
        return Some(ty.clone());
    }
    library::OPAQUE_TYPES
        .iter()
        .find(|known| **known == name)
        .map(|known| Type::Opaque(known))
}

/// Finds the types of all parts.
pub(crate) fn check(node: &mut Node, env: &Env, source: &str) -> Result<(), CompileError> {
    let mut checker = Checker {
        env,
        scopes: Vec::new(),
        types: Substitutions::default(),
        issues: Vec::new(),
    };
    checker.node(node);
    if checker.issues.is_empty() {
        let Checker { types, .. } = &checker;
        close(node, types);
        checker.literals(node);
    }
    if checker.issues.is_empty() {
        return Ok(());
    }
    let issues = checker.issues.into_iter().map(|(at, message)| {
        let (line, column) = position(source, at);
        Issue { line, column, message }
    });
    Err(CompileError::new(source, issues.collect()))
}

/// Fills in what was found out about the types; the rest is `dyn`.
fn close(node: &mut Node, types: &Substitutions) {
    node.ty = types.apply(&node.ty, true);
    for child in node.children_mut() {
        close(child, types);
    }
}

struct Checker<'e> {
    env: &'e Env,
    scopes: Vec<(Arc<str>, Type)>,
    types: Substitutions,
    issues: Vec<(usize, String)>,
}

impl Checker<'_> {
    fn report(&mut self, at: usize, message: String) {
        self.issues.push((at, message));
    }

    fn mismatch(&mut self, at: usize, expected: &Type, found: &Type) {
        self.report(at, format!("expected type '{expected}' but found '{found}'"));
    }

    fn undeclared(&mut self, at: usize, name: &str) {
        self.report(at, format!("undeclared reference to '{name}' (in container '')"));
    }

    fn node(&mut self, node: &mut Node) {
        let at = node.at;
        if let Some(ty) = self.qualified(node) {
            node.ty = ty;
            return;
        }
        node.ty = match &mut node.kind {
            Kind::Const(value) => constant(value),
            Kind::Ident(name) => {
                let name = Arc::clone(name);
                self.identifier(&name).unwrap_or_else(|| {
                    self.undeclared(at, &name);
                    Type::Error
                })
            }
            Kind::Select(select) => {
                self.node(&mut select.operand);
                let operand = self.types.apply(&select.operand.ty, false);
                let field = Arc::clone(&select.field);
                let kind = select.kind;
                self.select(at, operand, &field, kind)
            }
            Kind::Call(call) => self.call(at, call),
            Kind::List(elements) => {
                let mut joined = None;
                for (element, optional) in elements {
                    self.node(element);
                    let ty = self.element(element, *optional);
                    joined = Some(self.join(joined, ty));
                }
                Type::list(joined.unwrap_or_else(|| self.types.fresh()))
            }
            Kind::Map(entries) => self.map(entries),
            Kind::Comprehension(comprehension) => self.comprehension(comprehension),
            Kind::Struct(name) => {
                let name = name.clone();
                self.undeclared(at, &name);
                Type::Error
            }
        };
    }

    /// A chain of names that is the name of a type: `google.protobuf.Duration`.
    fn qualified(&mut self, node: &mut Node) -> Option<Type> {
        let Kind::Select(select) = &node.kind else { return None };
        if select.kind != SelectKind::Value {
            return None;
        }
        let name = node.qualified_name()?;
        let root = name.split('.').next()?;
        if self.scopes.iter().any(|(known, _)| &**known == root) || self.env.get(root).is_some() {
            return None;
        }
        let ty = named_type(&name)?;
        node.kind = Kind::Ident(name.as_str().into());
        Some(Type::Type(Some(Arc::new(ty))))
    }

    fn identifier(&mut self, name: &str) -> Option<Type> {
        if let Some((_, ty)) = self.scopes.iter().rev().find(|(known, _)| &**known == name) {
            return Some(ty.clone());
        }
        if let Some(variable) = self.env.get(name) {
            return Some(variable.ty.clone());
        }
        let ty = match name {
            "list" => {
                let items = self.types.fresh();
                Type::list(items)
            }
            "map" => {
                let keys = self.types.fresh();
                Type::map(keys, self.types.fresh())
            }
            "optional_type" => Type::optional(self.types.fresh()),
            name => named_type(name)?,
        };
        Some(Type::Type(Some(Arc::new(ty))))
    }

    fn select(&mut self, at: usize, operand: Type, field: &str, kind: SelectKind) -> Type {
        let (target, was_optional) = operand.unwrap_optional();
        let selected = match &target {
            Type::Map(entry) => entry.1.clone(),
            Type::Object(object) => match object.find(field) {
                Some(field) => field.decl.ty(),
                None => {
                    self.report(at, format!("undefined field '{field}'"));
                    Type::Error
                }
            },
            Type::Opaque(name) if *name == Type::AUTHORIZER.to_string() && field == "requestResource" => {
                Type::RESOURCE_CHECK
            }
            Type::Opaque(_) => {
                self.report(at, format!("undefined field '{field}'"));
                Type::Error
            }
            Type::Var(_) => {
                self.types.assignable(&Type::Dyn, &target);
                Type::Dyn
            }
            Type::Dyn | Type::Error => Type::Dyn,
            other => {
                self.report(at, format!("type '{other}' does not support field selection"));
                Type::Dyn
            }
        };
        match kind {
            SelectKind::Test => Type::Bool,
            SelectKind::Optional => Type::optional(selected),
            SelectKind::Value if was_optional => Type::optional(selected),
            SelectKind::Value => selected,
        }
    }

    fn element(&mut self, element: &Node, optional: bool) -> Type {
        let ty = self.types.apply(&element.ty, false);
        if !optional {
            return ty;
        }
        let (inner, is_optional) = ty.unwrap_optional();
        if !is_optional && !inner.is_dyn_or_error() {
            self.mismatch(element.at, &Type::optional(inner.clone()), &inner);
        }
        inner
    }

    fn join(&mut self, previous: Option<Type>, current: Type) -> Type {
        match previous {
            None => current,
            Some(previous) if self.types.assignable(&previous, &current) => most_general(&previous, &current).clone(),
            Some(_) => Type::Dyn,
        }
    }

    fn map(&mut self, entries: &mut [Entry]) -> Type {
        let (mut keys, mut values) = (None, None);
        for entry in entries {
            self.node(&mut entry.key);
            let key = self.types.apply(&entry.key.ty, false);
            keys = Some(self.join(keys, key));
            self.node(&mut entry.value);
            let value = self.element(&entry.value, entry.optional);
            values = Some(self.join(values, value));
        }
        match (keys, values) {
            (Some(keys), Some(values)) => Type::map(keys, values),
            _ => {
                let keys = self.types.fresh();
                Type::map(keys, self.types.fresh())
            }
        }
    }

    fn call(&mut self, at: usize, call: &mut Call) -> Type {
        // `ip.isCanonical(x)` is a function with a dot in its name if there is one.
        if call.member
            && let Some(prefix) = call.args[0].qualified_name()
            && let Some(function) = overloads::function(&format!("{prefix}.{}", call.name))
        {
            call.args.remove(0);
            call.member = false;
            call.name = function.name.into();
        }
        let (first, rest) = call.args.split_at_mut(usize::from(call.member));
        for arg in rest.iter_mut().chain(first) {
            self.node(arg);
        }
        let Some(function) = overloads::function(&call.name) else {
            let name = call.name.to_string();
            self.undeclared(at, &name);
            return Type::Error;
        };
        call.function = library::function(function.name);
        if matches!(function.name, "_&&_" | "_||_") {
            return self.logical(call, function);
        }
        self.resolve(at, call, function)
    }

    fn logical(&mut self, call: &mut Call, function: &'static FunctionDecl) -> Type {
        call.overloads = vec![&function.overloads[0]];
        for arg in &call.args {
            if !self.types.assignable(&arg.ty, &Type::Bool) {
                let found = self.types.apply(&arg.ty, true);
                self.mismatch(arg.at, &Type::Bool, &found);
            }
        }
        Type::Bool
    }

    fn resolve(&mut self, at: usize, call: &mut Call, function: &'static FunctionDecl) -> Type {
        let args: Vec<Type> = call.args.iter().map(|arg| arg.ty.clone()).collect();
        let mut result: Option<Type> = None;
        for overload in function
            .overloads
            .iter()
            .filter(|overload| overload.member == call.member)
        {
            let fresh: Vec<Type> = (0..overload.variables).map(|_| self.types.fresh()).collect();
            let params: Vec<Type> = overload.params.iter().map(|param| instantiate(param, &fresh)).collect();
            if !self.types.all_assignable(&args, &params) {
                continue;
            }
            call.overloads.push(overload);
            let found = self.types.apply(&instantiate(&overload.result, &fresh), false);
            result = Some(match result {
                None => found,
                Some(Type::Dyn) => Type::Dyn,
                Some(known) if known == found => known,
                Some(_) => Type::Dyn,
            });
        }
        result.unwrap_or_else(|| {
            let shown: Vec<String> = args.iter().map(|arg| self.types.apply(arg, true).to_string()).collect();
            let signature = match shown.split_first() {
                Some((target, rest)) if call.member => format!("{target}.({})", rest.join(", ")),
                _ => format!("({})", shown.join(", ")),
            };
            self.report(
                at,
                format!(
                    "found no matching overload for '{}' applied to '{signature}'",
                    call.name
                ),
            );
            Type::Error
        })
    }

    fn comprehension(&mut self, comprehension: &mut Comprehension) -> Type {
        self.node(&mut comprehension.range);
        self.node(&mut comprehension.init);
        let range = self.types.apply(&comprehension.range.ty, false);
        let accumulated = comprehension.init.ty.clone();
        let (first, second) = match &range {
            Type::List(items) if comprehension.second.is_some() => (Type::Int, (**items).clone()),
            Type::List(items) => ((**items).clone(), Type::Error),
            Type::Map(entry) => (entry.0.clone(), entry.1.clone()),
            Type::Dyn | Type::Error | Type::Var(_) => {
                self.types.assignable(&Type::Dyn, &range);
                (Type::Dyn, Type::Dyn)
            }
            other => {
                self.report(
                    comprehension.range.at,
                    format!("expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"),
                );
                (Type::Error, Type::Error)
            }
        };
        let outside = self.scopes.len();
        self.scopes
            .push((Arc::clone(&comprehension.accumulator), accumulated.clone()));
        self.scopes.push((Arc::clone(&comprehension.variable), first));
        if let Some(name) = &comprehension.second {
            self.scopes.push((Arc::clone(name), second));
        }
        self.node(&mut comprehension.condition);
        self.assert(&comprehension.condition, &Type::Bool);
        self.node(&mut comprehension.step);
        self.assert(&comprehension.step, &accumulated);
        self.scopes.truncate(outside + 1);
        self.node(&mut comprehension.result);
        self.scopes.truncate(outside);
        self.types.apply(&comprehension.result.ty, false)
    }

    fn assert(&mut self, node: &Node, expected: &Type) {
        if !self.types.assignable(expected, &node.ty) {
            let (expected, found) = (self.types.apply(expected, true), self.types.apply(&node.ty, true));
            self.mismatch(node.at, &expected, &found);
        }
    }

    /// Literals that no run could make sense of: durations, timestamps, patterns, and lists of mixed types.
    fn literals(&mut self, node: &Node) {
        match &node.kind {
            Kind::Call(call) => {
                let literal = |arg: Option<&Node>| match arg.map(|arg| &arg.kind) {
                    Some(Kind::Const(Value::String(text))) => Some(text.to_string()),
                    _ => None,
                };
                let pattern_at = usize::from(call.member);
                let bad = match &*call.name {
                    "duration" => {
                        literal(call.args.first()).is_some_and(|t| library::time::parse_duration(&t).is_err())
                    }
                    "timestamp" => {
                        literal(call.args.first()).is_some_and(|t| library::time::parse_timestamp(&t).is_err())
                    }
                    "matches" => literal(call.args.get(pattern_at)).is_some_and(|t| regex::Regex::new(&t).is_err()),
                    _ => false,
                };
                if bad {
                    let at = call.args.last().map_or(node.at, |arg| arg.at);
                    self.report(at, format!("invalid {} argument", call.name));
                }
            }
            Kind::List(elements) => {
                let types: Vec<(usize, Type)> = elements
                    .iter()
                    .map(|(element, optional)| (element.at, unwrap_if(&element.ty, *optional)))
                    .collect();
                self.homogeneous(&types, true);
            }
            Kind::Map(entries) => {
                let keys: Vec<_> = entries
                    .iter()
                    .map(|entry| (entry.key.at, entry.key.ty.clone()))
                    .collect();
                let values: Vec<_> = entries
                    .iter()
                    .map(|entry| (entry.value.at, unwrap_if(&entry.value.ty, entry.optional)))
                    .collect();
                self.homogeneous(&keys, false);
                self.homogeneous(&values, false);
            }
            _ => {}
        }
        for child in node.children() {
            // What is formatted may be of many types.
            let exempt = matches!(&node.kind, Kind::Call(call) if &*call.name == "format");
            match &child.kind {
                Kind::List(elements) if exempt => elements.iter().for_each(|(element, _)| self.literals(element)),
                _ => self.literals(child),
            }
        }
    }

    fn homogeneous(&mut self, types: &[(usize, Type)], first_only: bool) {
        let Some(((_, expected), rest)) = types.split_first() else {
            return;
        };
        for (at, found) in rest {
            if !equivalent(expected, found) {
                self.mismatch(*at, expected, found);
                if first_only {
                    return;
                }
            }
        }
    }
}

fn unwrap_if(ty: &Type, optional: bool) -> Type {
    if optional {
        ty.clone().unwrap_optional().0
    } else {
        ty.clone()
    }
}

/// The same type, where `dyn` inside a type is every type.
fn equivalent(a: &Type, b: &Type) -> bool {
    let inner = |a: &Type, b: &Type| equivalent(a, b) || *a == Type::Dyn || *b == Type::Dyn;
    match (a, b) {
        (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => inner(a, b),
        (Type::Map(a), Type::Map(b)) => inner(&a.0, &b.0) && inner(&a.1, &b.1),
        (Type::Type(_), Type::Type(_)) => true,
        (a, b) => a == b,
    }
}

fn constant(value: &Value<'_>) -> Type {
    match value {
        Value::Bool(_) => Type::Bool,
        Value::Int(_) => Type::Int,
        Value::Uint(_) => Type::Uint,
        Value::Double(_) => Type::Double,
        Value::String(_) => Type::String,
        Value::Bytes(_) => Type::Bytes,
        Value::Null => Type::Null,
        _ => Type::Dyn,
    }
}

/// A declared type with its variables replaced.
fn instantiate(ty: &Type, variables: &[Type]) -> Type {
    match ty {
        Type::Var(id) => variables.get(*id as usize).cloned().unwrap_or(Type::Dyn),
        Type::List(items) => Type::list(instantiate(items, variables)),
        Type::Map(entry) => Type::map(instantiate(&entry.0, variables), instantiate(&entry.1, variables)),
        Type::Optional(inner) => Type::optional(instantiate(inner, variables)),
        Type::Type(Some(inner)) => Type::Type(Some(Arc::new(instantiate(inner, variables)))),
        other => other.clone(),
    }
}
