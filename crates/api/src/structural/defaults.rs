//! Defaults: filling them in, and holding them against the schema they stand in.

use serde_json::Value;

use super::{Schema, coerce, prune, validate, validate_embedded};
use crate::field::{Errors, Path};

/// Fills in what is missing, and what is null where null may not be.
pub fn apply_defaults(value: &mut Value, schema: &Schema) {
    match value {
        Value::Object(fields) => {
            for (name, property) in &schema.properties {
                let Some(default) = &property.default else { continue };
                let missing = fields
                    .get(&**name)
                    .is_none_or(|value| value.is_null() && !property.nullable);
                if missing {
                    fields.insert((**name).to_owned(), (**default).clone());
                }
            }
            for (name, value) in fields.iter_mut() {
                if let Some(property) = schema.properties.get(&**name) {
                    apply_defaults(value, property);
                } else if let Some(additional) = schema.additional_schema() {
                    replace_null(value, additional);
                    apply_defaults(value, additional);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = &schema.items {
                for item in items {
                    replace_null(item, schema);
                    apply_defaults(item, schema);
                }
            }
        }
        _ => {}
    }
}

fn replace_null(value: &mut Value, schema: &Schema) {
    if let Some(default) = &schema.default
        && value.is_null()
        && !schema.nullable
    {
        *value = (**default).clone();
    }
}

/// Are all defaults what their schemas ask for? `evaluate` runs the expressions of a schema over a default.
pub fn check_defaults(
    path: &Path<'_>,
    schema: &Schema,
    evaluate: &mut dyn FnMut(&Path<'_>, &Schema, &Value, bool, &mut Errors),
    errors: &mut Errors,
) {
    let mut checker = Checker { evaluate, errors };
    checker.place(path, schema, true, false);
}

struct Checker<'c> {
    evaluate: &'c mut dyn FnMut(&Path<'_>, &Schema, &Value, bool, &mut Errors),
    errors: &'c mut Errors,
}

impl Checker<'_> {
    fn place(&mut self, path: &Path<'_>, schema: &Schema, root: bool, inside_meta: bool) {
        let inside_meta = inside_meta && !schema.embedded;
        if let Some(default) = &schema.default {
            let mut found = Errors::new();
            self.default(&path.child("default"), schema, default, root, inside_meta, &mut found);
            self.errors.extend(found);
        }
        if let Some(items) = &schema.items {
            self.place(&path.child("items"), items, false, inside_meta);
        }
        let properties = path.child("properties");
        for (name, property) in &schema.properties {
            let is_meta = (root || schema.embedded) && matches!(&**name, "metadata" | "apiVersion" | "kind");
            self.place(&properties.key(name), property, false, inside_meta || is_meta);
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "a default is judged by where it stands; the caller owns the errors"
    )]
    fn default(
        &mut self,
        path: &Path<'_>,
        schema: &Schema,
        default: &Value,
        root: bool,
        inside_meta: bool,
        errors: &mut Errors,
    ) {
        if !inside_meta {
            let mut pruned = default.clone();
            prune(&mut pruned, schema, schema.embedded);
            if pruned != *default {
                errors.invalid(path, default.clone(), "must not have unknown fields");
            }
            let mut coerced = default.clone();
            if let Err(error) = coerce(path, &mut coerced, schema, schema.embedded) {
                errors.push(error);
                return;
            }
            let before = errors.len();
            validate_embedded(path, default, schema, schema.embedded, errors);
            if errors.len() > before {
                return;
            }
        }
        // A default is judged as an object of its own: texts name places in it, only fields say where it is.
        let mut found = Errors::new();
        validate(&Path::ROOT, schema, default, None, &mut found);
        if found.is_empty() {
            (self.evaluate)(path, schema, default, root, errors);
        }
        errors.extend(found.iter().cloned().map(|mut error| {
            error.field = match error.field.as_str() {
                "" => path.to_string(),
                "<nil>" => return error,
                field if field.starts_with('[') => format!("{path}{field}"),
                field => format!("{path}.{field}"),
            };
            error
        }));
    }
}
