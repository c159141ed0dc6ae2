//! The sequence of a merged list: what the patch names comes in its sequence, what only the server has stays where it was among
//! that as far as the two agree.
//! <https://github.com/kubernetes/design-proposals-archive/blob/main/cli/preserve-order-in-strategic-merge-patch.md>

use serde_json::Value;

use super::PATCH;
use super::apply::{no_key, wrong_type};
use crate::Status;
use crate::patch::apply::values::go_text;

/// What tells an item apart: the value of its merge key, or the item itself.
fn identity<'v>(item: &'v Value, key: Option<&str>) -> Option<&'v Value> {
    match key {
        Some(key) => item.get(key),
        None => Some(item),
    }
}

fn index(list: &[Value], item: &Value, key: Option<&str>) -> Option<usize> {
    let wanted = identity(item, key)?;
    list.iter().position(|other| identity(other, key) == Some(wanted))
}

/// Sorts a merged list. Items that `named` names come in the sequence of `order`; the others keep that of the list as it was
/// `before`, each in front of the first named item that came after it.
pub(super) fn arrange(
    merged: Vec<Value>,
    named: &[Value],
    order: &[Value],
    before: &[Value],
    key: Option<&str>,
) -> Vec<Value> {
    let (mut ours, mut others): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|item| index(named, item, key).is_some());
    ours.sort_by_cached_key(|item| index(order, item, key).unwrap_or(usize::MAX));
    others.sort_by_cached_key(|item| index(before, item, key).unwrap_or(usize::MAX));
    let mut sorted = Vec::with_capacity(ours.len() + others.len());
    let mut others = others.into_iter().peekable();
    for item in ours {
        let place = index(before, &item, key);
        let comes_first = |other: &Value| match (index(before, other, key), place) {
            (Some(other), Some(place)) => other < place,
            _ => false,
        };
        while let Some(other) = others.next_if(comes_first) {
            sorted.push(other);
        }
        sorted.push(item);
    }
    sorted.extend(others);
    sorted
}

/// What the patch sets must stand in the order, and in the same sequence.
///
/// # Errors
/// If it does not, or where items cannot be told apart.
pub(super) fn check(patch: &[Value], order: &[Value], key: Option<&str>) -> Result<(), Status> {
    if order.is_empty() || patch.is_empty() {
        return Ok(());
    }
    let mut rest = order.iter();
    for item in patch {
        let wanted = match (key, item) {
            (None, item) => item,
            (Some(_), Value::Object(fields)) if fields.contains_key(PATCH) => continue,
            (Some(key), Value::Object(fields)) => fields.get(key).ok_or_else(|| no_key(fields, key))?,
            (Some(_), other) => return Err(wrong_type("map[string]interface {}", other)),
        };
        let mut found = false;
        for listed in rest.by_ref() {
            let listed = match (key, listed) {
                (None, listed) => listed,
                (Some(key), Value::Object(fields)) => fields.get(key).ok_or_else(|| no_key(fields, key))?,
                (Some(_), other) => return Err(wrong_type("map[string]interface {}", other)),
            };
            if listed == wanted {
                found = true;
                break;
            }
        }
        if !found {
            let [patch, order] = [patch, order].map(|list| go_text(&Value::Array(list.to_vec())));
            return Err(Status::unknown(format!(
                "The order in patch list:\n{patch}\n doesn't match $setElementOrder list:\n{order}\n"
            )));
        }
    }
    Ok(())
}
