//! Dropping what a schema does not name.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Additional, Schema};

const META_FIELDS: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Drops all fields that are not named, and returns their paths (`spec.foo`, `spec.list[0].bar`), sorted. The three fields
/// every object has stay if `resource`, and in embedded objects.
pub fn prune(value: &mut Value, schema: &Schema, resource: bool) -> Vec<String> {
    let mut pruner = Pruner {
        path: String::new(),
        pruned: Vec::new(),
    };
    pruner.value(value, Some(schema), resource);
    pruner.pruned.sort();
    pruner.pruned
}

struct Pruner {
    path: String,
    pruned: Vec<String>,
}

impl Pruner {
    fn below(&mut self, write: impl FnOnce(&mut String), visit: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        write(&mut self.path);
        visit(self);
        self.path.truncate(length);
    }

    fn field(&mut self, name: &str, visit: impl FnOnce(&mut Self)) {
        let write = |path: &mut String| {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(name);
        };
        self.below(write, visit);
    }

    fn index(&mut self, index: usize, visit: impl FnOnce(&mut Self)) {
        let write = |path: &mut String| {
            let _ = write!(path, "[{index}]");
        };
        self.below(write, visit);
    }

    fn value(&mut self, value: &mut Value, schema: Option<&Schema>, resource: bool) {
        let keep = schema.is_some_and(|schema| schema.preserve_unknown);
        let resource = resource || schema.is_some_and(|schema| schema.embedded);
        match value {
            Value::Object(fields) => {
                let mut unknown = Vec::new();
                for (name, value) in fields.iter_mut() {
                    if resource && META_FIELDS.contains(&name.as_str()) {
                        continue;
                    }
                    let property = schema.and_then(|schema| schema.property(name));
                    match (property, schema.and_then(|schema| schema.additional.as_ref())) {
                        (Some(property), _) => self.field(name, |this| this.value(value, Some(property), false)),
                        (None, Some(Additional::Any)) if !keep => {
                            self.field(name, |this| this.value(value, None, false));
                        }
                        _ if keep => {}
                        _ => unknown.push(name.clone()),
                    }
                }
                for name in unknown {
                    fields.remove(&name);
                    let is_meta = META_FIELDS.contains(&name.as_str()) && self.path.is_empty();
                    if !is_meta {
                        self.field(&name, |this| this.pruned.push(this.path.clone()));
                    }
                }
            }
            Value::Array(items) => {
                let item_schema = schema.and_then(|schema| schema.items.as_deref());
                if keep && item_schema.is_none() {
                    return;
                }
                for (index, item) in items.iter_mut().enumerate() {
                    self.index(index, |this| this.value(item, item_schema, false));
                }
            }
            _ => {}
        }
    }
}

/// Drops nulls where none may be, unless there is a default to take their place.
pub fn drop_nulls(value: &mut Value, schema: Option<&Schema>) {
    match value {
        Value::Object(fields) => fields.retain(|name, value| {
            let property = schema.and_then(|schema| schema.property(name));
            if value.is_null() && property.is_some_and(|property| !property.nullable && property.default.is_none()) {
                return false;
            }
            drop_nulls(value, property);
            true
        }),
        Value::Array(items) => {
            let item_schema = schema.and_then(|schema| schema.items.as_deref());
            for item in items {
                drop_nulls(item, item_schema);
            }
        }
        _ => {}
    }
}
