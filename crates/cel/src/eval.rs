//! Running a checked expression.
//!
//! The account is kept as `cel-go` keeps it: one for a variable and each step from it, a base price for lists and maps, and what
//! [`cost::actual`] says for a call. `has()`, `&&`, `||` and `?:` are free beside what they evaluate.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cost::{self, prices};
use crate::node::{Call, Comprehension, Entry, Kind, Node, Select, SelectKind};
use crate::value::{Key, Map, Str};
use crate::{Bindings, Budget, EvalError, List, Value, check};

/// Runs the tree.
pub(crate) fn evaluate<'a>(
    root: &'a Node,
    bindings: &Bindings<'a>,
    budget: &mut Budget,
) -> Result<Value<'a>, EvalError> {
    let mut run = Run {
        bindings,
        budget,
        locals: Vec::new(),
    };
    run.node(root)
}

struct Run<'r, 'a> {
    bindings: &'r Bindings<'a>,
    budget: &'r mut Budget,
    /// Variables of loops, innermost last. A quantifier whose predicate failed has the failure as its result so far.
    locals: Vec<(&'a str, Result<Value<'a>, EvalError>)>,
}

impl<'a> Run<'_, 'a> {
    fn node(&mut self, node: &'a Node) -> Result<Value<'a>, EvalError> {
        match &node.kind {
            Kind::Const(value) => Ok(constant(value)),
            Kind::Ident(name) => self.identifier(name),
            Kind::Select(select) => self.select(select),
            Kind::Call(call) => self.call(call),
            Kind::List(elements) => self.list(elements),
            Kind::Map(entries) => self.map(entries),
            Kind::Comprehension(comprehension) => self.comprehension(comprehension),
            Kind::Struct(name) => Err(EvalError::new(format!("unknown type: {name}"))),
        }
    }

    fn identifier(&mut self, name: &'a str) -> Result<Value<'a>, EvalError> {
        self.budget.charge(prices::STEP)?;
        if let Some((_, value)) = self.locals.iter().rev().find(|(known, _)| *known == name) {
            return value.clone();
        }
        if let Some(value) = self.bindings.get(name) {
            return Ok(value.clone());
        }
        if check::named_type(name).is_some() || matches!(name, "list" | "map") {
            return Ok(Value::Type(Str::Borrowed(name)));
        }
        Err(EvalError::new(format!("no such attribute(s): {name}")))
    }

    fn select(&mut self, select: &'a Select) -> Result<Value<'a>, EvalError> {
        let operand = self.node(&select.operand)?;
        let (operand, was_optional) = match operand {
            Value::Optional(None) if select.kind == SelectKind::Test => return Ok(Value::Bool(false)),
            Value::Optional(None) => {
                self.budget.charge(prices::STEP)?;
                return Ok(Value::Optional(None));
            }
            Value::Optional(Some(inner)) => ((*inner).clone(), true),
            operand => (operand, false),
        };
        let found = match &operand {
            Value::Map(map) => map.field(&select.field, self.budget)?,
            Value::Opaque(value) if &*select.field == "requestResource" => {
                crate::library::authorizer::request_resource(value)
            }
            Value::Null if select.kind == SelectKind::Test => None,
            _ if select.kind == SelectKind::Optional => None,
            _ => return Err(EvalError::NoSuchOverload),
        };
        if select.kind == SelectKind::Test {
            return Ok(Value::Bool(found.is_some_and(|value| !matches!(value, Value::Null))));
        }
        self.budget.charge(prices::STEP)?;
        match found {
            Some(value) if was_optional || select.kind == SelectKind::Optional => Ok(Value::some(value)),
            Some(value) => Ok(value),
            None if was_optional || select.kind == SelectKind::Optional => Ok(Value::Optional(None)),
            None => Err(EvalError::new(format!("no such key: {}", select.field))),
        }
    }

    fn list(&mut self, elements: &'a [(Node, bool)]) -> Result<Value<'a>, EvalError> {
        let mut items = Vec::with_capacity(elements.len());
        for (element, optional) in elements {
            match (self.node(element)?, optional) {
                (Value::Optional(None), true) => {}
                (Value::Optional(Some(inner)), true) => items.push((*inner).clone()),
                (value, _) => items.push(value),
            }
        }
        self.budget.charge(prices::LIST)?;
        Ok(Value::list(items))
    }

    fn map(&mut self, entries: &'a [Entry]) -> Result<Value<'a>, EvalError> {
        let mut map = BTreeMap::new();
        for entry in entries {
            let key = self.node(&entry.key)?;
            let value = match (self.node(&entry.value)?, entry.optional) {
                (Value::Optional(None), true) => continue,
                (Value::Optional(Some(inner)), true) => (*inner).clone(),
                (value, _) => value,
            };
            let key =
                Key::of(&key).ok_or_else(|| EvalError::new(format!("unsupported key type: {}", key.type_name())))?;
            map.insert(key, value);
        }
        self.budget.charge(prices::MAP)?;
        Ok(Value::Map(Map::Made(Arc::new(map))))
    }

    fn call(&mut self, call: &'a Call) -> Result<Value<'a>, EvalError> {
        match &*call.name {
            "_&&_" => return self.logical(call, false),
            "_||_" => return self.logical(call, true),
            "_?:_" | "_?_:_" => {
                let branch = match self.node(&call.args[0])? {
                    Value::Bool(true) => 1,
                    Value::Bool(false) => 2,
                    _ => return Err(EvalError::NoSuchOverload),
                };
                return self.node(&call.args[branch]);
            }
            "@not_strictly_false" => {
                let value = self.node(&call.args[0]);
                self.budget.charge(1)?;
                return match value {
                    Ok(value) => Ok(Value::Bool(value.as_bool() != Some(false))),
                    Err(error) if error.is_recoverable() => Ok(Value::Bool(true)),
                    Err(error) => Err(error),
                };
            }
            // The alternative is only evaluated if it is needed.
            "or" | "orValue" if call.member => {
                return match self.node(&call.args[0])? {
                    value @ Value::Optional(Some(_)) if &*call.name == "or" => Ok(value),
                    Value::Optional(Some(inner)) => Ok((*inner).clone()),
                    Value::Optional(None) => self.node(&call.args[1]),
                    _ => Err(EvalError::NoSuchOverload),
                };
            }
            "_[_]" | "_[?_]" => return self.index(call),
            _ => {}
        }
        let function = call.function.ok_or(EvalError::NoSuchOverload)?;
        let mut args = Vec::with_capacity(call.args.len());
        for arg in &call.args {
            args.push(self.node(arg)?);
        }
        let result = function(&args, self.budget)?;
        self.budget.charge(cost::actual(call, &args, &result))?;
        Ok(result)
    }

    /// Either side may decide, also if the other fails.
    fn logical(&mut self, call: &'a Call, decisive: bool) -> Result<Value<'a>, EvalError> {
        let mut failure = None;
        for arg in &call.args {
            match self.node(arg) {
                Ok(Value::Bool(value)) if value == decisive => return Ok(Value::Bool(decisive)),
                Ok(Value::Bool(_)) => {}
                Ok(_) => failure = failure.or(Some(EvalError::NoSuchOverload)),
                Err(error) if error.is_recoverable() => failure = failure.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        failure.map_or(Ok(Value::Bool(!decisive)), Err)
    }

    fn index(&mut self, call: &'a Call) -> Result<Value<'a>, EvalError> {
        let operand = self.node(&call.args[0])?;
        let index = self.node(&call.args[1])?;
        self.budget.charge(prices::STEP)?;
        let optional = &*call.name == "_[?_]";
        let (operand, was_optional) = match operand {
            Value::Optional(None) => return Ok(Value::Optional(None)),
            Value::Optional(Some(inner)) => ((*inner).clone(), true),
            operand => (operand, false),
        };
        let found = match &operand {
            Value::List(list) => {
                let position = match index {
                    Value::Int(position) => Some(position),
                    Value::Uint(position) => i64::try_from(position).ok(),
                    #[allow(
                        clippy::cast_possible_truncation,
                        reason = "only whole numbers get here, and casts saturate"
                    )]
                    Value::Double(position) if position.fract() == 0.0 => Some(position as i64),
                    _ => {
                        return Err(EvalError::new(format!(
                            "unsupported index type '{}' in list",
                            index.type_name()
                        )));
                    }
                };
                let found = match position.and_then(|position| usize::try_from(position).ok()) {
                    Some(position) => list.get(position)?,
                    None => None,
                };
                if found.is_none() && !optional && !was_optional {
                    return Err(EvalError::new(format!(
                        "index out of bounds: {}",
                        position.unwrap_or(i64::MAX)
                    )));
                }
                found
            }
            Value::Map(map) => {
                let found = map.get(&index, self.budget)?;
                if found.is_none() && !optional && !was_optional {
                    return Err(EvalError::new(format!("no such key: {}", show_key(&index))));
                }
                found
            }
            _ => return Err(EvalError::NoSuchOverload),
        };
        if optional || was_optional {
            return Ok(found.map_or(Value::Optional(None), Value::some));
        }
        found.ok_or(EvalError::NoSuchOverload)
    }

    fn comprehension(&mut self, c: &'a Comprehension) -> Result<Value<'a>, EvalError> {
        let range = self.node(&c.range)?;
        let init = self.node(&c.init)?;
        let outside = self.locals.len();
        self.locals.push((&c.accumulator, Ok(init)));
        let result = self.iterate(c, &range).and_then(|()| {
            self.locals.truncate(outside + 1);
            self.node(&c.result)
        });
        self.locals.truncate(outside);
        result
    }

    fn iterate(&mut self, c: &'a Comprehension, range: &Value<'a>) -> Result<(), EvalError> {
        match range {
            Value::List(list) => {
                for index in 0..list.len() {
                    let Some(item) = list.get(index)? else { break };
                    let (first, second) = match c.second {
                        Some(_) => (Value::Int(i64::try_from(index).unwrap_or(i64::MAX)), Some(item)),
                        None => (item, None),
                    };
                    if !self.round(c, first, second)? {
                        break;
                    }
                }
            }
            Value::Map(map) => {
                let keys = map.keys();
                self.budget.work(keys.len())?;
                for key in keys {
                    let value = match c.second {
                        Some(_) => map.get(&key, self.budget)?,
                        None => None,
                    };
                    if !self.round(c, key, value)? {
                        break;
                    }
                }
            }
            _ => return Err(EvalError::NoSuchOverload),
        }
        Ok(())
    }

    /// One time through the loop. `false`: the condition has ended it.
    fn round(&mut self, c: &'a Comprehension, first: Value<'a>, second: Option<Value<'a>>) -> Result<bool, EvalError> {
        let accumulator = self.locals.len() - 1;
        self.locals.push((&c.variable, Ok(first)));
        if let (Some(name), Some(value)) = (&c.second, second) {
            self.locals.push((name, Ok(value)));
        }
        let go_on = self.node(&c.condition)?.as_bool() == Some(true);
        let stepped = if go_on { self.step(&c.step, accumulator) } else { Ok(()) };
        self.locals.truncate(accumulator + 1);
        stepped.map(|()| go_on)
    }

    /// Runs the step and keeps its result. Lists and maps that grow do so in place: a copy each time would be quadratic.
    fn step(&mut self, step: &'a Node, accumulator: usize) -> Result<(), EvalError> {
        if let Kind::Call(call) = &step.kind {
            match &*call.name {
                "_?_:_" if grows(&call.args[1]) && is_result(&call.args[2]) => {
                    return match self.node(&call.args[0])? {
                        Value::Bool(true) => self.step(&call.args[1], accumulator),
                        Value::Bool(false) => self.budget.charge(prices::STEP),
                        _ => Err(EvalError::NoSuchOverload),
                    };
                }
                "_+_" | "cel.@mapInsert" if grows(step) => return self.grow(call, accumulator),
                _ => {}
            }
        }
        self.locals[accumulator].1 = match self.node(step) {
            // A later item may still decide.
            Err(error) if error.is_recoverable() && is_logical(step) => Err(error),
            value => Ok(value?),
        };
        Ok(())
    }

    fn grow(&mut self, call: &'a Call, accumulator: usize) -> Result<(), EvalError> {
        let mut additions = Vec::new();
        if &*call.name == "_+_" {
            let Kind::List(elements) = &call.args[1].kind else {
                return Err(EvalError::NoSuchOverload);
            };
            for (element, _) in elements {
                additions.push(self.node(element)?);
            }
            // The accumulator, the list of the addition, and the sum.
            self.budget.charge(prices::STEP + prices::LIST + 1)?;
        } else {
            for arg in &call.args[1..] {
                additions.push(self.node(arg)?);
            }
            self.budget.charge(prices::STEP + 1)?;
        }
        self.budget.work(1)?;
        let current = std::mem::replace(&mut self.locals[accumulator].1, Ok(Value::Null));
        let grown = match current? {
            Value::List(List::Made(mut items)) => {
                Arc::make_mut(&mut items).extend(additions);
                Value::List(List::Made(items))
            }
            Value::Map(Map::Made(mut entries)) => {
                let map = Arc::make_mut(&mut entries);
                match additions.as_slice() {
                    [key, value] => insert(map, key, value)?,
                    [Value::Map(more)] => {
                        for key in more.keys() {
                            if let Some(value) = more.get(&key, self.budget)? {
                                insert(map, &key, &value)?;
                            }
                        }
                    }
                    _ => return Err(EvalError::NoSuchOverload),
                }
                Value::Map(Map::Made(entries))
            }
            _ => return Err(EvalError::NoSuchOverload),
        };
        self.locals[accumulator].1 = Ok(grown);
        Ok(())
    }
}

fn insert<'a>(map: &mut BTreeMap<Key<'a>, Value<'a>>, key: &Value<'a>, value: &Value<'a>) -> Result<(), EvalError> {
    let made = Key::of(key).ok_or_else(|| EvalError::new(format!("unsupported key type: {}", key.type_name())))?;
    if map.contains_key(&made) {
        return Err(EvalError::new(format!(
            "insert failed: key {} already exists",
            show_key(key)
        )));
    }
    map.insert(made, value.clone());
    Ok(())
}

/// A literal; there are no others than these.
fn constant<'a>(value: &'a Value<'static>) -> Value<'a> {
    match value {
        Value::Bool(value) => Value::Bool(*value),
        Value::Int(value) => Value::Int(*value),
        Value::Uint(value) => Value::Uint(*value),
        Value::Double(value) => Value::Double(*value),
        Value::String(text) => Value::String(Str::Borrowed(text)),
        Value::Bytes(bytes) => Value::Bytes(Arc::clone(bytes)),
        _ => Value::Null,
    }
}

fn is_result(node: &Node) -> bool {
    matches!(&node.kind, Kind::Ident(name) if prices::is_accumulator(name))
}

/// Is this the accumulator plus something?
fn grows(node: &Node) -> bool {
    let Kind::Call(call) = &node.kind else { return false };
    match &*call.name {
        "_+_" => is_result(&call.args[0]) && matches!(call.args[1].kind, Kind::List(_)),
        "cel.@mapInsert" => is_result(&call.args[0]),
        _ => false,
    }
}

fn is_logical(step: &Node) -> bool {
    matches!(&step.kind, Kind::Call(call) if matches!(&*call.name, "_&&_" | "_||_") && is_result(&call.args[0]))
}

fn show_key(key: &Value<'_>) -> String {
    crate::library::convert::show(key)
}
