//! Sets have no equal items, lists of maps no two with the same keys.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::{ListType, Schema};
use crate::field::{Errors, Path};

/// Duplicates anywhere below.
pub fn check_lists(path: &Path<'_>, schema: &Schema, value: &Value, errors: &mut Errors) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if let Some(property) = schema.properties.get(&**name) {
                    check_lists(&path.child(name), property, value, errors);
                } else if let Some(additional) = schema.additional_schema() {
                    check_lists(&path.key(name), additional, value, errors);
                }
            }
        }
        Value::Array(items) => {
            match &schema.list_type {
                Some(ListType::Set) => duplicates(path, items, errors),
                Some(ListType::Map(keys)) => duplicate_keys(path, items, keys, errors),
                _ => {}
            }
            if let Some(schema) = &schema.items {
                for (index, item) in items.iter().enumerate() {
                    check_lists(&path.index(index), schema, item, errors);
                }
            }
        }
        _ => {}
    }
}

/// Each value that occurs again is reported once, at its second place.
fn duplicates(path: &Path<'_>, values: &[Value], errors: &mut Errors) {
    let mut seen: HashMap<String, usize> = HashMap::with_capacity(values.len());
    for (index, value) in values.iter().enumerate() {
        let times = seen.entry(value.to_string()).or_default();
        *times += 1;
        if *times == 2 {
            errors.duplicate(&path.index(index), value.clone());
        }
    }
}

fn duplicate_keys(path: &Path<'_>, items: &[Value], keys: &[String], errors: &mut Errors) {
    for (index, item) in items.iter().enumerate() {
        if !item.is_object() && !item.is_null() {
            let detail = "must be an object for an array of list-type map";
            errors.invalid(&path.index(index), item.clone(), detail);
            return;
        }
    }
    let of = |item: &Value| {
        let present = keys
            .iter()
            .filter_map(|key| Some((key.clone(), item.get(key)?.clone())));
        Value::Object(present.collect::<Map<_, _>>())
    };
    let found: Vec<Value> = items.iter().map(of).collect();
    duplicates(path, &found, errors);
}
