//! Carrying out a strategic merge patch, with the directives, the sequences and the errors of Kubernetes.

use serde_json::{Map, Value};

use super::order;
use super::table::{ListMerge, Strategy, strategy};
use super::{DELETE_PRIMITIVES, PATCH, RETAIN_KEYS, SET_ORDER};
use crate::Status;
use crate::patch::apply::values::{go_text, go_type};
use crate::schema::Node;

pub(super) type Fields = Map<String, Value>;

/// Applies `patch` to an object of the type at `node`. Without a node every list is atomic.
///
/// # Errors
/// A patch that is malformed: unknown directives, items without their merge key, an order that contradicts the list. As in
/// Kubernetes, some of that is a bad request (400) and the rest has no reason of its own (500).
pub fn apply(object: &Value, patch: &Value, node: Option<Node<'_>>) -> Result<Value, Status> {
    let (Value::Object(object), Value::Object(patch)) = (object, patch) else {
        return Err(Status::bad_request("invalid JSON document"));
    };
    merge_object(object.clone(), patch.clone(), node).map(Value::Object)
}

fn merge_object(mut object: Fields, mut patch: Fields, node: Option<Node<'_>>) -> Result<Fields, Status> {
    match patch.get(PATCH) {
        None => {}
        Some(directive) if directive == "replace" => {
            patch.remove(PATCH);
            return Ok(patch);
        }
        Some(directive) if directive == "delete" => return Ok(Fields::new()),
        Some(directive) => return Err(unknown_directive(directive, &patch)),
    }
    if let Some(keys) = patch.remove(RETAIN_KEYS) {
        retain_keys(&mut object, &patch, &keys)?;
    }
    for (field, order) in take_prefixed(&mut patch, SET_ORDER) {
        merge_in_order(&mut object, &mut patch, &field, order, node)?;
    }
    for (field, doomed) in take_prefixed(&mut patch, DELETE_PRIMITIVES) {
        delete_primitives(&mut object, &field, &doomed)?;
    }
    for (field, value) in patch {
        merge_field(&mut object, field, value, node)?;
    }
    Ok(object)
}

fn merge_field(object: &mut Fields, field: String, value: Value, node: Option<Node<'_>>) -> Result<(), Status> {
    let child = node.and_then(|node| node.field(&field));
    let how = strategy(node, &field);
    let merged = match (object.remove(&field), value) {
        (_, Value::Null) => return Ok(()),
        (Some(Value::Object(old)), Value::Object(patch)) if !how.replace => {
            Some(Value::Object(merge_object(old, patch, child)?))
        }
        (Some(Value::Array(old)), Value::Array(patch)) if how.list != ListMerge::Atomic => {
            let items = child.and_then(Node::items);
            Some(Value::Array(merge_list(old, patch, how.list, items)?))
        }
        (Some(Value::Object(_)), patch @ Value::Object(_)) | (Some(Value::Array(_)), patch @ Value::Array(_)) => {
            Some(patch)
        }
        (_, value) => without_directives(without_nulls(value)),
    };
    object.extend(merged.map(|merged| (field, merged)));
    Ok(())
}

fn merge_list(
    list: Vec<Value>,
    patch: Vec<Value>,
    merge: ListMerge<'_>,
    items: Option<Node<'_>>,
) -> Result<Vec<Value>, Status> {
    if list.is_empty() && patch.is_empty() {
        return Ok(list);
    }
    let holds_objects = same_types(&[&list, &patch])?;
    match merge {
        ListMerge::ByKey(key) if holds_objects => merge_by_key(list, patch, key, items),
        _ if holds_objects => Err(Status::unknown("cannot merge lists without merge key")),
        _ => {
            let mut both: Vec<Value> = Vec::with_capacity(list.len() + patch.len());
            for item in list.iter().chain(&patch) {
                if !both.contains(item) {
                    both.push(item.clone());
                }
            }
            Ok(order::arrange(both, &patch, &patch, &list, None))
        }
    }
}

/// Are the items objects?
///
/// # Errors
/// Lists within lists, and lists whose items are of several types.
fn same_types(lists: &[&Vec<Value>]) -> Result<bool, Status> {
    let mut items = lists.iter().copied().flatten();
    let Some(first) = items.next() else { return Ok(false) };
    if first.is_array() {
        return Err(Status::unprocessable("lists of lists are not supported"));
    }
    if items.any(|item| go_type(item) != go_type(first)) {
        let lists: Vec<String> = lists
            .iter()
            .map(|list| go_text(&Value::Array((*list).clone())))
            .collect();
        return Err(Status::unknown(format!(
            "list element types are not identical: [{}]",
            lists.join(" ")
        )));
    }
    Ok(first.is_object())
}

fn merge_by_key(list: Vec<Value>, patch: Vec<Value>, key: &str, items: Option<Node<'_>>) -> Result<Vec<Value>, Status> {
    let mut list = list;
    let mut replace = false;
    let mut additions = Vec::new();
    for item in patch {
        let Value::Object(fields) = &item else { continue };
        match fields.get(PATCH) {
            None => additions.push(item),
            Some(directive) if directive == "replace" => replace = true,
            Some(directive) if directive == "delete" => {
                let doomed = key_of(fields, key)?;
                list.retain(|old| old.get(key) != Some(doomed));
            }
            Some(directive) if directive == "merge" => {
                return Err(Status::unknown("merging lists cannot yet be specified in the patch"));
            }
            Some(directive) => return Err(unknown_directive(directive, fields)),
        }
    }
    if replace {
        return Ok(additions);
    }
    let before = list.clone();
    for item in &additions {
        let Value::Object(fields) = item else { continue };
        let wanted = key_of(fields, key)?;
        match list.iter_mut().find(|old| old.get(key) == Some(wanted)) {
            Some(Value::Object(old)) => *old = merge_object(std::mem::take(old), fields.clone(), items)?,
            _ => list.push(item.clone()),
        }
    }
    if let Some(Value::Object(strange)) = list.iter().find(|item| item.get(key).is_none()) {
        return Err(no_key(strange, key));
    }
    Ok(order::arrange(list, &additions, &additions, &before, Some(key)))
}

/// A list and the order its items shall have: `$setElementOrder/<field>`.
fn merge_in_order(
    object: &mut Fields,
    patch: &mut Fields,
    field: &str,
    order: Value,
    node: Option<Node<'_>>,
) -> Result<(), Status> {
    let list = |value: Value| match value {
        Value::Array(items) => Ok(items),
        other => Err(wrong_type("[]interface {}", &other)),
    };
    let order = list(order)?;
    if let Some(node) = node.filter(|node| node.field(field).is_none()) {
        let within = node
            .definition()
            .and_then(|name| name.rsplit('.').next())
            .unwrap_or_default();
        let field = crate::field::quote(field);
        return Err(Status::unknown(format!(
            "unable to find api field in struct {within} for the json field {field}"
        )));
    }
    let old = object.remove(field).map(list).transpose()?;
    let new = patch.remove(field).map(list).transpose()?;
    let Strategy { list: merge, .. } = strategy(node, field);
    let key = match merge {
        ListMerge::ByKey(key) => Some(key),
        ListMerge::Set | ListMerge::Atomic => None,
    };
    order::check(new.as_deref().unwrap_or_default(), &order, key)?;
    let items = node.and_then(|node| node.field(field)).and_then(Node::items);
    let before = old.clone().unwrap_or_default();
    let merged = match (old, new) {
        (None, None) => return Ok(()),
        (Some(old), None) => old,
        (None, Some(new)) => new.into_iter().filter_map(without_directives).collect(),
        (Some(_), Some(new)) if merge == ListMerge::Atomic => new,
        (Some(old), Some(new)) => merge_list(old, new, merge, items)?,
    };
    if let Some(key) = key
        && let Some(Value::Object(strange)) = merged.iter().find(|item| item.get(key).is_none())
    {
        return Err(no_key(strange, key));
    }
    let sorted = order::arrange(merged, &order, &order, &before, key);
    object.insert(field.to_owned(), sorted.into());
    Ok(())
}

fn key_of<'v>(item: &'v Fields, key: &str) -> Result<&'v Value, Status> {
    item.get(key).ok_or_else(|| no_key(item, key))
}

pub(super) fn no_key(item: &Fields, key: &str) -> Status {
    let item = go_text(&Value::Object(item.clone()));
    Status::unknown(format!("map: {item} does not contain declared merge key: {key}"))
}

pub(super) fn wrong_type(expected: &str, actual: &Value) -> Status {
    Status::unknown(format!("expected a {expected}, but received a {}", go_type(actual)))
}

/// `$retainKeys` lists all fields the object shall have afterwards; the patch may set no others.
fn retain_keys(object: &mut Fields, patch: &Fields, keys: &Value) -> Result<(), Status> {
    let malformed = || Status::bad_request("invalid patch format of retainKeys");
    let keys: Vec<&str> = match keys {
        Value::Array(keys) => keys.iter().filter_map(Value::as_str).collect(),
        _ => return Err(malformed()),
    };
    let is_order = |field: &str| field.starts_with(DELETE_PRIMITIVES) || field.starts_with(SET_ORDER);
    let contradicts =
        |(field, value): (&String, &Value)| !is_order(field) && !value.is_null() && !keys.contains(&field.as_str());
    if patch.iter().any(contradicts) {
        return Err(malformed());
    }
    object.retain(|field, _| keys.contains(&field.as_str()));
    Ok(())
}

fn delete_primitives(object: &mut Fields, field: &str, doomed: &Value) -> Result<(), Status> {
    let (Some(Value::Array(list)), Value::Array(doomed)) = (object.get_mut(field), doomed) else {
        return Ok(());
    };
    if !(list.is_empty() && doomed.is_empty()) && same_types(&[list, doomed])? {
        return Err(Status::bad_request("invalid patch format of primitive list"));
    }
    list.retain(|item| !doomed.contains(item));
    Ok(())
}

fn take_prefixed(patch: &mut Fields, prefix: &str) -> Vec<(String, Value)> {
    let keys: Vec<String> = patch.keys().filter(|key| key.starts_with(prefix)).cloned().collect();
    let taken = keys.into_iter().filter_map(|key| {
        let value = patch.remove(&key)?;
        Some((key[prefix.len()..].to_owned(), value))
    });
    taken.collect()
}

fn unknown_directive(directive: &Value, patch: &Fields) -> Status {
    let (directive, patch) = (go_text(directive), go_text(&Value::Object(patch.clone())));
    Status::unknown(format!("unknown patch type: {directive} in map: {patch}"))
}

/// A value that is new to the object: objects with a directive have no place there.
fn without_directives(value: Value) -> Option<Value> {
    Some(match value {
        Value::Object(fields) if fields.contains_key(PATCH) => return None,
        Value::Object(fields) => {
            let kept = fields
                .into_iter()
                .filter_map(|(field, value)| Some((field, without_directives(value)?)));
            Value::Object(kept.collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().filter_map(without_directives).collect()),
        other => other,
    })
}

/// Nulls remove what is there, and nothing is.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(field, value)| (field, without_nulls(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}
