//! Carrying out a strategic merge patch.

use serde_json::{Map, Value};

use super::table::{ListMerge, strategy};
use super::{DELETE_PRIMITIVES, PATCH, RETAIN_KEYS, SET_ORDER};
use crate::Status;
use crate::schema::Node;

type Fields = Map<String, Value>;

/// Applies `patch` to an object of the type at `node`. Without a node every list is atomic.
///
/// # Errors
/// 400 for a patch that is malformed: unknown directives, items without their merge key, an order that contradicts the list.
pub fn apply(object: &Value, patch: &Value, node: Option<Node<'_>>) -> Result<Value, Status> {
    let (Value::Object(object), Value::Object(patch)) = (object, patch) else {
        return Err(Status::bad_request("invalid JSON document"));
    };
    let mut result = object.clone();
    merge_object(&mut result, patch.clone(), node)?;
    Ok(Value::Object(result))
}

fn merge_object(object: &mut Fields, mut patch: Fields, node: Option<Node<'_>>) -> Result<(), Status> {
    match patch.remove(PATCH) {
        None => {}
        Some(directive) if directive == "merge" => {}
        Some(directive) if directive == "replace" => {
            *object = without_directives(patch);
            return Ok(());
        }
        Some(directive) if directive == "delete" => {
            object.clear();
            return Ok(());
        }
        Some(directive) => return Err(unknown_directive(&directive, &patch)),
    }
    if let Some(keys) = patch.remove(RETAIN_KEYS) {
        retain_keys(object, &patch, &keys)?;
    }
    delete_primitives(object, &mut patch)?;
    let orders = take_orders(&mut patch);
    for (field, value) in patch {
        let order = orders
            .iter()
            .find(|(ordered, _)| *ordered == field)
            .map(|(_, order)| order.as_slice());
        merge_field(object, &field, value, order, node)?;
    }
    for (field, order) in &orders {
        if let Some(Value::Array(list)) = object.get_mut(field) {
            sort(list, order, strategy(node, field).list)?;
        }
    }
    Ok(())
}

fn merge_field(
    object: &mut Fields,
    field: &str,
    value: Value,
    order: Option<&[Value]>,
    node: Option<Node<'_>>,
) -> Result<(), Status> {
    let child = node.and_then(|node| node.field(field));
    match (object.get_mut(field), value) {
        (_, Value::Null) => {
            object.remove(field);
        }
        (Some(Value::Object(old)), Value::Object(patch)) => merge_object(old, patch, child)?,
        (Some(Value::Array(old)), Value::Array(patch)) => {
            let merge = strategy(node, field).list;
            if let Some(order) = order {
                check_order(&patch, order, merge)?;
            }
            merge_list(old, patch, merge, child.and_then(Node::items))?;
        }
        (_, value) => {
            object.insert(field.to_owned(), strip(value));
        }
    }
    Ok(())
}

fn merge_list(
    list: &mut Vec<Value>,
    patch: Vec<Value>,
    merge: ListMerge<'_>,
    items: Option<Node<'_>>,
) -> Result<(), Status> {
    match merge {
        ListMerge::Atomic => *list = patch.into_iter().filter_map(strip_item).collect(),
        ListMerge::Set => {
            for item in patch {
                if !list.contains(&item) {
                    list.push(item);
                }
            }
        }
        ListMerge::ByKey(key) => merge_by_key(list, patch, key, items)?,
    }
    Ok(())
}

fn merge_by_key(list: &mut Vec<Value>, patch: Vec<Value>, key: &str, items: Option<Node<'_>>) -> Result<(), Status> {
    let mut replace = false;
    let mut additions = Vec::new();
    for item in patch {
        let Value::Object(item) = item else {
            return Err(Status::bad_request("strategic merge patch format is not supported"));
        };
        match item.get(PATCH) {
            None => additions.push(item),
            Some(directive) if directive == "replace" => replace = true,
            Some(directive) if directive == "delete" => {
                let doomed = key_of(&item, key)?;
                list.retain(|old| old.get(key) != Some(doomed));
            }
            Some(directive) if directive == "merge" => {
                return Err(Status::bad_request(
                    "merging lists cannot yet be specified in the patch",
                ));
            }
            Some(directive) => return Err(unknown_directive(directive, &item)),
        }
    }
    if replace {
        *list = additions
            .into_iter()
            .map(|item| Value::Object(without_directives(item)))
            .collect();
        return Ok(());
    }
    for item in additions {
        let wanted = key_of(&item, key)?.clone();
        match list.iter_mut().find(|old| old.get(key) == Some(&wanted)) {
            Some(Value::Object(old)) => merge_object(old, item, items)?,
            _ => list.push(Value::Object(without_directives(item))),
        }
    }
    Ok(())
}

fn key_of<'v>(item: &'v Fields, key: &str) -> Result<&'v Value, Status> {
    item.get(key).ok_or_else(|| {
        let item = Value::Object(item.clone());
        Status::bad_request(format!("map: {item} does not contain declared merge key: {key}"))
    })
}

/// `$retainKeys` lists all fields the object shall have afterwards; the patch may set no others.
fn retain_keys(object: &mut Fields, patch: &Fields, keys: &Value) -> Result<(), Status> {
    let keys: Option<Vec<&str>> = keys
        .as_array()
        .map(|keys| keys.iter().filter_map(Value::as_str).collect());
    let Some(keys) = keys else {
        return Err(Status::bad_request("invalid patch format of retainKeys"));
    };
    let contradicts = |(field, value): (&String, &Value)| {
        !field.starts_with('$') && !value.is_null() && !keys.contains(&field.as_str())
    };
    if patch.iter().any(contradicts) {
        return Err(Status::bad_request("patch content doesn't match retainKeys list"));
    }
    object.retain(|field, _| keys.contains(&field.as_str()));
    Ok(())
}

fn delete_primitives(object: &mut Fields, patch: &mut Fields) -> Result<(), Status> {
    for (field, doomed) in take_prefixed(patch, DELETE_PRIMITIVES) {
        let Value::Array(doomed) = doomed else {
            return Err(Status::bad_request("invalid patch format of primitive list"));
        };
        if let Some(Value::Array(list)) = object.get_mut(&field) {
            list.retain(|item| !doomed.contains(item));
        }
    }
    Ok(())
}

fn take_orders(patch: &mut Fields) -> Vec<(String, Vec<Value>)> {
    take_prefixed(patch, SET_ORDER)
        .into_iter()
        .filter_map(|(field, order)| match order {
            Value::Array(order) => Some((field, order)),
            _ => None,
        })
        .collect()
}

fn take_prefixed(patch: &mut Fields, prefix: &str) -> Vec<(String, Value)> {
    let keys: Vec<String> = patch.keys().filter(|key| key.starts_with(prefix)).cloned().collect();
    keys.into_iter()
        .filter_map(|key| {
            let value = patch.remove(&key)?;
            Some((key[prefix.len()..].to_owned(), value))
        })
        .collect()
}

/// The part of an item that tells it apart; the item itself in a set.
fn identity<'v>(item: &'v Value, merge: ListMerge<'_>) -> Option<&'v Value> {
    match merge {
        ListMerge::ByKey(key) => item.get(key),
        ListMerge::Set | ListMerge::Atomic => Some(item),
    }
}

/// What the patch sets must stand in the order, and in the same sequence.
fn check_order(patch: &[Value], order: &[Value], merge: ListMerge<'_>) -> Result<(), Status> {
    let mut rest = order.iter().filter_map(|item| identity(item, merge));
    let set = patch.iter().filter(|item| item.get(PATCH).is_none());
    for wanted in set.filter_map(|item| identity(item, merge)) {
        if !rest.any(|listed| listed == wanted) {
            let (patch, order) = (Value::from(patch.to_vec()), Value::from(order.to_vec()));
            return Err(Status::bad_request(format!(
                "The order in patch list:\n{patch}\n doesn't match $setElementOrder list:\n{order}\n"
            )));
        }
    }
    Ok(())
}

/// Listed items take the order's sequence. The others, which only the server knows, stay before those listed items that they
/// stood before.
fn sort(list: &mut Vec<Value>, order: &[Value], merge: ListMerge<'_>) -> Result<(), Status> {
    if merge == ListMerge::Atomic {
        return Err(Status::bad_request("invalid patch format of setElementOrder list"));
    }
    let rank = |item: &Value| {
        let wanted = identity(item, merge)?;
        order.iter().position(|listed| identity(listed, merge) == Some(wanted))
    };
    let mut listed = Vec::new();
    let mut others = Vec::new();
    for (position, item) in std::mem::take(list).into_iter().enumerate() {
        match rank(&item) {
            Some(rank) => listed.push((rank, position, item)),
            None => others.push((position, item)),
        }
    }
    listed.sort_by_key(|(rank, position, _)| (*rank, *position));
    let mut others = others.into_iter().peekable();
    for (_, position, item) in listed {
        while let Some((_, other)) = others.next_if(|(other, _)| *other < position) {
            list.push(other);
        }
        list.push(item);
    }
    list.extend(others.map(|(_, item)| item));
    Ok(())
}

fn unknown_directive(directive: &Value, patch: &Fields) -> Status {
    let directive = directive
        .as_str()
        .map_or_else(|| directive.to_string(), ToOwned::to_owned);
    let patch = Value::Object(patch.clone());
    Status::bad_request(format!("unknown patch type: {directive} in map: {patch}"))
}

/// A value that is new to the object: directives mean nothing there, nulls remove what is not.
fn strip(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(without_directives(fields)),
        Value::Array(items) => Value::Array(items.into_iter().filter_map(strip_item).collect()),
        other => other,
    }
}

fn strip_item(item: Value) -> Option<Value> {
    let doomed = item
        .get(PATCH)
        .is_some_and(|directive| directive == "delete" || directive == "replace");
    (!doomed || item.as_object().is_some_and(|item| item.len() > 2)).then(|| strip(item))
}

fn without_directives(fields: Fields) -> Fields {
    fields
        .into_iter()
        .filter(|(key, value)| !value.is_null() && !is_directive(key))
        .map(|(key, value)| (key, strip(value)))
        .collect()
}

fn is_directive(key: &str) -> bool {
    key == PATCH || key == RETAIN_KEYS || key.starts_with(SET_ORDER) || key.starts_with(DELETE_PRIMITIVES)
}
