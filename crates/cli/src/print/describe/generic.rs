//! The page of kinds without one of their own: names as titles, values as they are.

use super::{Facts, Page, scalar, text};
use serde_json::Value;

pub(super) fn write(page: &mut Page, facts: &Facts<'_>) {
    let object = facts.object;
    page.heading(&object["metadata"]);
    if object["kind"] == "Secret" {
        secret(page, object);
        return;
    }
    for (name, value) in object.as_object().into_iter().flatten() {
        match name.as_str() {
            "apiVersion" => page.field(0, "API Version", text(value)),
            "metadata" => write_metadata(page, value),
            _ => value_lines(page, 0, &title(name), value),
        }
    }
}

/// What the heading has not said.
fn write_metadata(page: &mut Page, metadata: &Value) {
    page.line(0, "Metadata:");
    for (name, field) in [
        ("Creation Timestamp", "creationTimestamp"),
        ("Deletion Timestamp", "deletionTimestamp"),
        ("Generation", "generation"),
        ("Resource Version", "resourceVersion"),
        ("UID", "uid"),
    ] {
        page.optional(1, name, &metadata[field]);
    }
}

/// Sizes, never contents.
fn secret(page: &mut Page, secret: &Value) {
    page.field(0, "\nType", text(&secret["type"]));
    page.line(0, "\nData\n====");
    for (key, value) in secret["data"].as_object().into_iter().flatten() {
        let encoded = text(value).trim_end_matches('=').len();
        page.line(0, format!("{key}:\t{} bytes", encoded * 3 / 4));
    }
    page.line(0, "");
}

fn value_lines(page: &mut Page, level: usize, name: &str, value: &Value) {
    match value {
        Value::Object(map) => {
            page.line(level, format!("{name}:"));
            for (key, inner) in map {
                value_lines(page, level + 1, &title(key), inner);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            page.line(level, format!("{name}:"));
            for item in items {
                for (key, inner) in item.as_object().into_iter().flatten() {
                    value_lines(page, level + 1, &title(key), inner);
                }
            }
        }
        Value::Array(items) => {
            page.list(level, name, &items.iter().filter_map(scalar).collect::<Vec<_>>());
        }
        Value::String(text) if text.contains('\n') => {
            page.line(level, format!("{name}:"));
            text.lines().for_each(|line| page.line(level + 1, line));
        }
        other => page.field(level, name, scalar(other).unwrap_or_default()),
    }
}

/// `observedGeneration` → `Observed Generation`. Keys that are data (`app.conf`) stay as they are.
fn title(name: &str) -> String {
    if !name.chars().all(|c| c.is_ascii_alphanumeric()) || name.starts_with(char::is_uppercase) {
        return name.to_owned();
    }
    let mut title = String::new();
    let mut previous_lower = false;
    for (index, character) in name.chars().enumerate() {
        if index == 0 {
            title.extend(character.to_uppercase());
        } else {
            if character.is_uppercase() && previous_lower {
                title.push(' ');
            }
            title.push(character);
        }
        previous_lower = character.is_lowercase();
    }
    title
}
