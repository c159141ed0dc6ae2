//! The v2 documents of other servers, made a part of ours: their paths, and the definitions these need.
//!
//! Servers give equal names to different things now and then; what is not the same as what is there already is renamed, with all
//! that refers to it.

use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

const DEFINITIONS: &str = "#/definitions/";

/// What of a document is about paths with this prefix. `None`: nothing is.
pub(crate) fn part(mut document: Value, prefix: &str) -> Option<Value> {
    let Some(Value::Object(mut paths)) = document.get_mut("paths").map(Value::take) else {
        return None;
    };
    paths.retain(|path, _| path.starts_with(prefix));
    if paths.is_empty() {
        return None;
    }
    let mut definitions = match document.get_mut("definitions").map(Value::take) {
        Some(Value::Object(definitions)) => definitions,
        _ => Map::new(),
    };
    let paths = Value::Object(paths);
    let used = used(&paths, &definitions);
    definitions.retain(|name, _| used.contains(name));
    Some(serde_json::json!({ "paths": paths, "definitions": definitions }))
}

/// Names of definitions that are needed, also by each other.
fn used(paths: &Value, definitions: &Map<String, Value>) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    let mut open = Vec::new();
    references(paths, &mut open);
    while let Some(name) = open.pop() {
        if let Some(definition) = definitions.get(&name)
            && used.insert(name)
        {
            references(definition, &mut open);
        }
    }
    used
}

fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            let name = fields.get("$ref").and_then(Value::as_str);
            found.extend(
                name.and_then(|name| name.strip_prefix(DEFINITIONS))
                    .map(ToOwned::to_owned),
            );
            fields.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

/// Adds a part to a document. Paths that are there stay as they are.
pub(super) fn add(document: &mut Value, part: &Value) {
    let empty = Map::new();
    let theirs = part["definitions"].as_object().unwrap_or(&empty);
    let ours = document["definitions"].as_object().unwrap_or(&empty);
    let mut renamed = BTreeMap::new();
    for (name, definition) in theirs {
        if let Some(other) = ours.get(name).filter(|other| *other != definition) {
            // Descriptions may differ between versions of the same thing.
            if without_words(other) == without_words(definition) {
                continue;
            }
            let free = (2..).map(|number| format!("{name}_v{number}"));
            let mut free = free.filter(|new| !ours.contains_key(new) && !theirs.contains_key(new));
            renamed.extend(free.next().map(|new| (name.clone(), new)));
        }
    }
    let add = |document: &mut Value, place: &str, entries: Vec<(String, Value)>| {
        if let Some(into) = document[place].as_object_mut() {
            for (name, value) in entries {
                into.entry(name).or_insert(value);
            }
        }
    };
    let definitions = theirs.iter().map(|(name, definition)| {
        let name = renamed.get(name).unwrap_or(name).clone();
        (name, rewritten(definition, &renamed))
    });
    let definitions = definitions.collect();
    add(document, "definitions", definitions);
    let paths = part["paths"].as_object().unwrap_or(&empty).iter();
    let paths = paths
        .map(|(path, item)| (path.clone(), rewritten(item, &renamed)))
        .collect();
    add(document, "paths", paths);
}

fn rewritten(value: &Value, renamed: &BTreeMap<String, String>) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, value)| {
                let new = value.as_str().filter(|_| key == "$ref");
                let new = new.and_then(|name| renamed.get(name.strip_prefix(DEFINITIONS)?));
                let value = match new {
                    Some(new) => Value::from(format!("{DEFINITIONS}{new}")),
                    None => rewritten(value, renamed),
                };
                (key.clone(), value)
            });
            Value::Object(fields.collect())
        }
        Value::Array(items) => items.iter().map(|value| rewritten(value, renamed)).collect(),
        other => other.clone(),
    }
}

fn without_words(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields
                .iter()
                .filter(|(key, value)| !(*key == "description" && value.is_string()));
            Value::Object(fields.map(|(key, value)| (key.clone(), without_words(value))).collect())
        }
        Value::Array(items) => items.iter().map(without_words).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn reference(name: &str) -> Value {
        json!({ "$ref": format!("{DEFINITIONS}{name}") })
    }

    #[test]
    fn only_what_is_asked_for_and_what_that_needs() {
        let document = json!({
            "swagger": "2.0",
            "paths": {
                "/apis/a/v1/things": { "get": { "schema": reference("Thing") } },
                "/apis/": {},
                "/apis/b/v1/others": { "get": { "schema": reference("Other") } },
            },
            "definitions": {
                "Thing": { "properties": { "meta": reference("Meta"), "self": reference("Thing") } },
                "Meta": {}, "Other": {}, "Unused": {},
            },
        });
        let part = part(document.clone(), "/apis/a/v1/").unwrap();
        assert_eq!(part["paths"].as_object().unwrap().len(), 1);
        let names: Vec<&String> = part["definitions"].as_object().unwrap().keys().collect();
        assert_eq!(names, ["Meta", "Thing"]);
        assert_eq!(super::part(document, "/apis/c/v1/"), None);
    }

    #[test]
    fn what_is_called_the_same_and_is_not_is_renamed() {
        let mut document = json!({
            "paths": { "/a": { "is": "ours" } },
            "definitions": { "Meta": { "type": "object" }, "Same": { "description": "ours", "type": "string" }, "Meta_v2": {} },
        });
        let part = json!({
            "paths": { "/a": { "is": "theirs" }, "/b": { "schema": reference("Thing") } },
            "definitions": {
                "Meta": { "type": "array", "items": reference("Meta") },
                "Same": { "description": "theirs", "type": "string" },
                "Thing": { "properties": { "meta": reference("Meta"), "same": reference("Same") } },
            },
        });
        add(&mut document, &part);
        assert_eq!(
            document,
            json!({
                "paths": { "/a": { "is": "ours" }, "/b": { "schema": reference("Thing") } },
                "definitions": {
                    "Meta": { "type": "object" },
                    "Meta_v2": {},
                    "Meta_v3": { "type": "array", "items": reference("Meta_v3") },
                    "Same": { "description": "ours", "type": "string" },
                    "Thing": { "properties": { "meta": reference("Meta_v3"), "same": reference("Same") } },
                },
            })
        );
    }
}
