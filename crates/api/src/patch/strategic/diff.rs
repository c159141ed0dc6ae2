//! The patch a client-side apply sends.
//!
//! Of three versions of an object – as it was applied last, as it shall be, as it is – the patch sets what shall be and is not,
//! removes what was applied and shall be no more, and leaves alone what others wrote.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::table::{ListMerge, Strategy, strategy};
use super::{DELETE_PRIMITIVES, PATCH, RETAIN_KEYS, SET_ORDER};
use crate::schema::Node;

type Fields = Map<String, Value>;

/// The strategic merge patch from `current` to `modified`, given what was applied `last` (empty the first time). Empty if there is
/// nothing to do.
pub fn three_way(last: &Fields, modified: &Fields, current: &Fields, node: Option<Node<'_>>) -> Fields {
    let mut patch = Fields::new();
    for (field, wanted) in modified {
        let child = node.and_then(|node| node.field(field));
        let how = strategy(node, field);
        match (current.get(field), wanted) {
            (Some(now), wanted) if now == wanted => {}
            (Some(Value::Object(now)), Value::Object(wanted)) => {
                let mut inner = three_way(object(last.get(field)), wanted, now, child);
                if !inner.is_empty() {
                    if how.retain_keys {
                        inner.insert(RETAIN_KEYS.to_owned(), keys_of(wanted));
                    }
                    patch.insert(field.clone(), Value::Object(inner));
                }
            }
            (Some(Value::Array(now)), Value::Array(wanted)) if how.list != ListMerge::Atomic => {
                let last = last.get(field).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                list(&mut patch, field, [last, wanted, now], how, child.and_then(Node::items));
            }
            _ => {
                patch.insert(field.clone(), wanted.clone());
            }
        }
    }
    for field in last
        .keys()
        .filter(|field| !modified.contains_key(*field) && current.contains_key(*field))
    {
        patch.insert(field.clone(), Value::Null);
    }
    patch
}

fn object(value: Option<&Value>) -> &Fields {
    static EMPTY: LazyLock<Fields> = LazyLock::new(Fields::new);
    value.and_then(Value::as_object).unwrap_or(&EMPTY)
}

fn keys_of(fields: &Fields) -> Value {
    fields.keys().cloned().collect()
}

fn list(
    patch: &mut Fields,
    field: &str,
    [last, wanted, now]: [&[Value]; 3],
    how: Strategy<'_>,
    items: Option<Node<'_>>,
) {
    match how.list {
        ListMerge::ByKey(key) if wanted.iter().chain(now).chain(last).all(|item| item.get(key).is_some()) => {
            by_key(patch, field, [last, wanted, now], (key, how.retain_keys), items);
        }
        ListMerge::Set => set(patch, field, [last, wanted, now]),
        _ => {
            patch.insert(field.to_owned(), wanted.into());
        }
    }
}

fn by_key(
    patch: &mut Fields,
    field: &str,
    [last, wanted, now]: [&[Value]; 3],
    (key, retain): (&str, bool),
    items: Option<Node<'_>>,
) {
    let find = |list: &'_ [Value], id: &Value| list.iter().find(|item| item.get(key) == Some(id)).cloned();
    let mut changes = Vec::new();
    for item in wanted {
        let Some(now) = find(now, &item[key]) else {
            changes.push(item.clone());
            continue;
        };
        let last = find(last, &item[key]);
        let mut inner = three_way(object(last.as_ref()), object(Some(item)), object(Some(&now)), items);
        if !inner.is_empty() {
            if retain {
                inner.insert(RETAIN_KEYS.to_owned(), keys_of(object(Some(item))));
            }
            inner.insert(key.to_owned(), item[key].clone());
            changes.push(Value::Object(inner));
        }
    }
    for item in last {
        if find(wanted, &item[key]).is_none() && find(now, &item[key]).is_some() {
            changes.push(json!({ PATCH: "delete", key: item[key] }));
        }
    }
    let ids = |list: &[Value]| list.iter().map(|item| item[key].clone()).collect::<Vec<_>>();
    if changes.is_empty() && in_order(&ids(wanted), &ids(now)) {
        return;
    }
    let order: Vec<Value> = wanted.iter().map(|item| json!({ key: item[key] })).collect();
    patch.insert(format!("{SET_ORDER}{field}"), order.into());
    if !changes.is_empty() {
        patch.insert(field.to_owned(), changes.into());
    }
}

fn set(patch: &mut Fields, field: &str, [last, wanted, now]: [&[Value]; 3]) {
    let added: Vec<Value> = wanted.iter().filter(|item| !now.contains(item)).cloned().collect();
    let removed: Vec<Value> = last
        .iter()
        .filter(|item| !wanted.contains(item) && now.contains(item))
        .cloned()
        .collect();
    if added.is_empty() && removed.is_empty() && in_order(wanted, now) {
        return;
    }
    patch.insert(format!("{SET_ORDER}{field}"), wanted.into());
    if !added.is_empty() {
        patch.insert(field.to_owned(), added.into());
    }
    if !removed.is_empty() {
        patch.insert(format!("{DELETE_PRIMITIVES}{field}"), removed.into());
    }
}

/// Does `now`, without what `wanted` does not name, come in the sequence of `wanted`?
fn in_order(wanted: &[Value], now: &[Value]) -> bool {
    now.iter().filter(|item| wanted.contains(item)).eq(wanted.iter())
}
