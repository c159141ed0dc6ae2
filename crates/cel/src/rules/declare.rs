//! A schema as a declaration.

use std::collections::BTreeMap;
use std::sync::Arc;

use catamaran_api::structural::{Additional, ListType, Rules, Schema, Type};
use serde_json::Value;

use crate::decl::{Field, MAX_REQUEST_BYTES, ObjectDecl};
use crate::{Decl, ListSemantics, Shape};

/// Longest duration and timestamp as JSON.
const MAX_TIME: u64 = 32;
/// A date as JSON.
const DATE: u64 = 12;
/// Shortest timestamp as JSON.
const MIN_TIMESTAMP: u64 = 21;
/// Shortest duration as JSON.
const MIN_DURATION: u64 = 3;

/// What expressions may know of a value of this schema; `None` if nothing. `resource`: it has `apiVersion`, `kind` and
/// `metadata` although the schema need not say so.
pub fn declare(schema: &Schema, resource: bool) -> Option<Decl> {
    let rules = schema.rules.as_deref();
    let max_length = |rules: Option<&Rules>| rules.and_then(|rules| rules.max_length).map(count);
    if schema.int_or_string {
        let longest = max_length(rules).map_or(MAX_REQUEST_BYTES - 2, |length| length.saturating_mul(4));
        return Some(Decl::new(Shape::Dyn, longest, 1));
    }
    match schema.ty? {
        Type::Array => {
            let items = schema.items.as_deref()?;
            let items = declare(items, items.embedded)?;
            let most = rules
                .and_then(|rules| rules.max_items)
                .map_or((MAX_REQUEST_BYTES - 2) / (items.min_bytes + 1), count);
            Some(Decl::list(items, semantics(schema), most))
        }
        Type::Object if matches!(schema.additional, Some(Additional::Schema(_))) && !resource => {
            let values = schema.additional_schema()?;
            let values = declare(values, values.embedded)?;
            let most = rules
                .and_then(|rules| rules.max_properties)
                .map_or((MAX_REQUEST_BYTES - 2) / (values.min_bytes + 6), count);
            Some(Decl::map(values, most))
        }
        Type::Object => Some(object(schema, rules, resource)),
        Type::String => Some(string(rules, max_length(rules))),
        Type::Boolean => Some(Decl::new(Shape::Bool, 0, 4)),
        Type::Number => Some(Decl::new(Shape::Double, 0, 1)),
        Type::Integer => Some(Decl::new(Shape::Int, 0, 1)),
    }
}

fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

fn semantics(schema: &Schema) -> ListSemantics {
    match &schema.list_type {
        Some(ListType::Set) => ListSemantics::Set,
        Some(ListType::Map(keys)) => ListSemantics::Map(keys.clone().into()),
        _ => ListSemantics::Atomic,
    }
}

fn string(rules: Option<&Rules>, max_length: Option<u64>) -> Decl {
    let longest_text = MAX_REQUEST_BYTES - 2;
    match rules.and_then(|rules| rules.format.as_deref()) {
        Some("byte") => Decl::new(Shape::Bytes, max_length.unwrap_or(longest_text), 2),
        Some("duration") => Decl::new(Shape::Duration, MAX_TIME, MIN_DURATION),
        Some("date") => Decl::new(Shape::Date, DATE, DATE),
        Some("date-time") => Decl::new(Shape::Timestamp, MAX_TIME, MIN_TIMESTAMP),
        _ => {
            let longest_allowed = || {
                let allowed = rules?.allowed.as_ref().filter(|allowed| !allowed.is_empty())?;
                Some(
                    allowed
                        .iter()
                        .filter_map(Value::as_str)
                        .map(str::len)
                        .max()
                        .unwrap_or(0) as u64,
                )
            };
            // Lengths are in characters, sizes in bytes.
            let bytes = max_length.map(|length| length.saturating_mul(4));
            Decl::string(bytes.or_else(longest_allowed).unwrap_or(longest_text))
        }
    }
}

fn object(schema: &Schema, rules: Option<&Rules>, resource: bool) -> Decl {
    let required = |name: &str| rules.is_some_and(|rules| rules.required.iter().any(|required| required == name));
    let mut fields = BTreeMap::new();
    let mut min_bytes = 2;
    let mut add = |name: &str, decl: Decl, has_default: bool| {
        if required(name) && !has_default {
            min_bytes += name.len() as u64 + decl.min_bytes + 4;
        }
        if let Some(escaped) = crate::escape(name) {
            let property = name.into();
            fields.insert(escaped, Field { property, decl });
        }
    };
    let is_meta = |name: &str| matches!(name, "apiVersion" | "kind" | "metadata");
    for (name, property) in &schema.properties {
        if resource && is_meta(name) {
            continue;
        }
        if let Some(decl) = declare(property, property.embedded) {
            add(name, decl, property.default.is_some());
        }
    }
    if resource {
        let longest = || Decl::string(MAX_REQUEST_BYTES - 2);
        let declared = |name: &str| schema.properties.get(name).and_then(|schema| declare(schema, false));
        add("apiVersion", declared("apiVersion").unwrap_or_else(longest), false);
        add("kind", declared("kind").unwrap_or_else(longest), false);
        let metadata = schema.properties.get("metadata");
        let name = |name: &str| {
            let stated = metadata.and_then(|metadata| declare(metadata.properties.get(name)?, false));
            (name.to_owned(), stated.unwrap_or_else(longest))
        };
        add(
            "metadata",
            Decl::object("object", [name("name"), name("generateName")], 2),
            false,
        );
    }
    let object = ObjectDecl {
        name: "object".to_owned(),
        fields,
    };
    Decl::new(Shape::Object(Arc::new(object)), 0, min_bytes)
}
