//! Objects made of others: two merged, or one without some of its fields.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::element::Element;
use super::set::Set;
use super::typed::{Form, TypedErrors, form, item_element};
use crate::schema::{ListType, Node};

/// `applied` laid over `live`: nothing goes away, values are those of `applied` where both have them. Lists keep the sequence of
/// `live` unless `applied` has another.
///
/// # Errors
/// Items of `live` that cannot be told apart, because they lack their keys.
pub fn merge(node: Node<'_>, live: &Value, applied: &Value) -> Result<Value, TypedErrors> {
    Ok(merge_value(node, Some(live), Some(applied))?.unwrap_or(Value::Null))
}

fn merge_value(node: Node<'_>, live: Option<&Value>, applied: Option<&Value>) -> Result<Option<Value>, TypedErrors> {
    let own_form = form(node, applied.or(live));
    let kept = applied.or(live);
    match own_form {
        Form::Scalar | Form::Map { atomic: true } | Form::List(_, ListType::Atomic) => Ok(kept.cloned()),
        Form::Map { .. } => {
            let [live, applied] = [live, applied].map(|value| value.and_then(Value::as_object));
            match (
                live.filter(|map| !map.is_empty()),
                applied.filter(|map| !map.is_empty()),
            ) {
                (None, None) => Ok(kept.cloned()),
                (live, applied) => merge_maps(node, live, applied).map(Some),
            }
        }
        Form::List(items, list) => {
            let [live, applied] =
                [live, applied].map(|value| value.and_then(Value::as_array).map_or(&[][..], Vec::as_slice));
            if live.is_empty() && applied.is_empty() {
                return Ok(kept.cloned());
            }
            let merged = merge_lists(items, list, live, applied)?;
            Ok((!merged.is_empty()).then_some(Value::Array(merged)))
        }
    }
}

fn merge_maps(
    node: Node<'_>,
    live: Option<&Map<String, Value>>,
    applied: Option<&Map<String, Value>>,
) -> Result<Value, TypedErrors> {
    let mut merged = Map::new();
    for (name, value) in live.into_iter().flatten() {
        let other = applied.and_then(|applied| applied.get(name));
        let value = match (other, node.field(name)) {
            (Some(_), Some(child)) => merge_value(child, Some(value), other)?,
            _ => Some(value.clone()),
        };
        merged.extend(value.map(|value| (name.clone(), value)));
    }
    for (name, value) in applied.into_iter().flatten() {
        if live.is_none_or(|live| !live.contains_key(name)) {
            merged.insert(name.clone(), value.clone());
        }
    }
    Ok(Value::Object(merged))
}

/// The items of a list with the elements that tell them apart.
struct Indexed<'v> {
    elements: Vec<Element>,
    /// By element. Of duplicates nothing is known.
    values: BTreeMap<Element, &'v Value>,
}

static NULL: Value = Value::Null;

fn index<'v>(list: &ListType, values: &'v [Value], allow_duplicates: bool) -> Result<Indexed<'v>, TypedErrors> {
    let mut indexed = Indexed {
        elements: Vec::with_capacity(values.len()),
        values: BTreeMap::new(),
    };
    let mut errors = TypedErrors::default();
    for (index, value) in values.iter().enumerate() {
        let element = match item_element(list, value) {
            Ok(element) => element,
            Err(text) => {
                errors.push(format!("element {index}: {text}"));
                continue;
            }
        };
        if indexed.values.contains_key(&element) {
            if !allow_duplicates {
                errors.push(format!("duplicate entries for key {element}"));
                continue;
            }
            indexed.values.insert(element.clone(), &NULL);
        } else {
            indexed.values.insert(element.clone(), value);
        }
        indexed.elements.push(element);
    }
    errors.into_result().map(|()| indexed)
}

/// Items that both have come in the sequence of `applied`; the others of `live` stay before the shared item they stood before.
fn merge_lists(items: Node<'_>, list: &ListType, live: &[Value], applied: &[Value]) -> Result<Vec<Value>, TypedErrors> {
    let new = index(list, applied, false)?;
    let old = index(list, live, true)?;
    let mut shared = new
        .elements
        .iter()
        .filter(|element| old.values.contains_key(element))
        .peekable();
    let mut merged = Vec::with_capacity(live.len().max(applied.len()));
    let mut done: BTreeSet<&Element> = BTreeSet::new();
    let (mut at_old, mut at_new) = (0, 0);
    while at_old < old.elements.len() || at_new < new.elements.len() {
        if let Some(element) = old.elements.get(at_old) {
            let value = new.values.get(element);
            if at_new < new.elements.len() {
                if *element == new.elements[at_new] {
                    done.insert(element);
                    merged.extend(merge_value(items, old.values.get(element).copied(), value.copied())?);
                    at_old += 1;
                    at_new += 1;
                    shared.next();
                    continue;
                }
                // Shared, but not the one whose turn it is.
                if value.is_some() && shared.peek().is_some_and(|next| *next != element) {
                    at_old += 1;
                    continue;
                }
            }
            if value.is_none() {
                merged.push(live[at_old].clone());
                at_old += 1;
                continue;
            }
            if done.contains(element) {
                at_old += 1;
            }
        }
        if let Some(element) = new.elements.get(at_new) {
            done.insert(element);
            let value = new.values.get(element).copied();
            merged.extend(merge_value(items, old.values.get(element).copied(), value)?);
            at_new += 1;
            shared.next_if(|next| *next == element);
        }
    }
    Ok(merged)
}

/// The value without the fields and items of a set. What becomes empty is null.
pub fn without(node: Node<'_>, value: &Value, doomed: &Set) -> Value {
    match (form(node, Some(value)), value) {
        (Form::Scalar, value) => value.clone(),
        (Form::Map { atomic: false }, Value::Object(map)) => {
            let mut rest = Map::new();
            for (name, value) in map {
                let element = Element::field(name);
                if doomed.has_member(&element) {
                    continue;
                }
                let value = match (doomed.below(&element), node.field(name)) {
                    (Some(below), Some(child)) => without(child, value, below),
                    _ => value.clone(),
                };
                rest.insert(name.clone(), value);
            }
            if rest.is_empty() {
                Value::Null
            } else {
                Value::Object(rest)
            }
        }
        (Form::List(items, list @ (ListType::Set | ListType::Map(_))), Value::Array(values)) => {
            let rest: Vec<Value> = values
                .iter()
                .filter_map(|value| {
                    let Ok(element) = item_element(list, value) else {
                        return Some(value.clone());
                    };
                    if doomed.has_member(&element) {
                        return None;
                    }
                    Some(match doomed.below(&element) {
                        Some(below) => without(items, value, below),
                        None => value.clone(),
                    })
                })
                .collect();
            if rest.is_empty() {
                Value::Null
            } else {
                Value::Array(rest)
            }
        }
        _ => Value::Null,
    }
}
