//! Printer columns: JSON paths, evaluated over an object.

use catamaran_api::table::{self, Column};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinitionVersion,
};
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;
use serde_json_path::JsonPath;
use std::borrow::Cow;

/// The columns of a version; the first is always the name.
pub(super) struct Columns {
    pub(super) headers: Vec<Column>,
    /// One for each header after the name; `None` for a path that cannot be read.
    paths: Vec<Option<JsonPath>>,
}

impl Columns {
    pub(super) fn of(version: &CustomResourceDefinitionVersion) -> Self {
        let age = CustomResourceColumnDefinition {
            name: "Age".to_owned(),
            type_: "date".to_owned(),
            json_path: ".metadata.creationTimestamp".to_owned(),
            description: Some(
                "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata"
                    .to_owned(),
            ),
            ..CustomResourceColumnDefinition::default()
        };
        let stated = version.additional_printer_columns.as_deref().unwrap_or_default();
        let columns = if stated.is_empty() {
            std::slice::from_ref(&age)
        } else {
            stated
        };
        let mut headers = vec![Column::NAME];
        headers.extend(columns.iter().map(header));
        let paths = columns
            .iter()
            .map(|column| JsonPath::parse(&standard(&column.json_path)).ok());
        Columns {
            headers,
            paths: paths.collect(),
        }
    }

    /// The cells of a row.
    pub(super) fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let name = object.pointer("/metadata/name").cloned().unwrap_or_default();
        let mut cells = vec![name];
        for (path, header) in self.paths.iter().zip(&self.headers[1..]) {
            let found = path.as_ref().and_then(|path| path.query(object).first());
            cells.push(match (header.kind, found) {
                ("date", found) => date(found, now),
                (_, None) => Value::Null,
                (kind, Some(found)) => cell(kind, found),
            });
        }
        cells
    }
}

fn header(column: &CustomResourceColumnDefinition) -> Column {
    let description = column.description.clone().filter(|text| !text.is_empty());
    let described = description.unwrap_or_else(|| {
        format!(
            "Custom resource definition column (in JSONPath format): {}",
            column.json_path
        )
    });
    Column {
        name: Cow::Owned(column.name.clone()),
        kind: match column.type_.as_str() {
            "integer" => "integer",
            "number" => "number",
            "boolean" => "boolean",
            "date" => "date",
            _ => "string",
        },
        format: match column.format.as_deref().unwrap_or_default() {
            "int32" => "int32",
            "int64" => "int64",
            "float" => "float",
            "double" => "double",
            "byte" => "byte",
            "date" => "date",
            "date-time" => "date-time",
            "password" => "password",
            "name" => "name",
            _ => "",
        },
        description: Cow::Owned(described),
        priority: column.priority.unwrap_or(0),
    }
}

/// What does not fit its column is left out.
fn cell(kind: &str, found: &Value) -> Value {
    match (kind, found) {
        (_, Value::Null) => Value::Null,
        ("integer", Value::Number(number)) => match number.as_i64() {
            Some(whole) => Value::from(whole),
            #[allow(
                clippy::cast_possible_truncation,
                reason = "a fraction is cut off, and casts saturate"
            )]
            None => number.as_f64().map_or(Value::Null, |number| Value::from(number as i64)),
        },
        ("number", Value::Number(number)) => Value::from(number.as_f64()),
        ("boolean", Value::Bool(_)) => found.clone(),
        ("string", Value::String(_)) => found.clone(),
        ("string", other) => Value::from(other.to_string()),
        _ => Value::Null,
    }
}

fn date(found: Option<&Value>, now: Timestamp) -> Value {
    match found {
        None | Some(Value::Null) => Value::Null,
        Some(Value::String(text)) => match text.parse::<Timestamp>() {
            Ok(time) => Value::from(table::age(time, now)),
            Err(_) => Value::from("<invalid>"),
        },
        Some(_) => Value::Null,
    }
}

/// From Kubernetes' dialect to the standard's: a root, and quotes around names that need them.
fn standard(path: &str) -> String {
    let mut standard = String::from("$");
    let mut rest = path.trim_start_matches('$');
    while let Some(c) = rest.chars().next() {
        match c {
            '[' => {
                let end = closing(rest);
                standard.push_str(&rest[..end]);
                rest = &rest[end..];
            }
            '.' if rest.starts_with("..") => {
                standard.push_str("..");
                rest = &rest[2..];
            }
            '.' => rest = &rest[1..],
            _ => {
                let (name, after) = plain_name(rest);
                if name == "*" {
                    standard.push_str("[*]");
                } else {
                    standard.push_str("['");
                    standard.push_str(&name.replace('\'', "\\'"));
                    standard.push_str("']");
                }
                rest = after;
            }
        }
    }
    standard
}

/// A name up to the next dot or bracket; a backslash takes away their meaning.
fn plain_name(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '\\' => name.extend(characters.next().map(|(_, c)| c)),
            '.' | '[' => return (name, &text[at..]),
            c => name.push(c),
        }
    }
    (name, "")
}

/// Behind the bracket that closes the first one.
fn closing(text: &str) -> usize {
    let (mut depth, mut quote) = (0_usize, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_find_what_kubernetes_finds() {
        let object = json!({"metadata": {"labels": {"a.b/c": "x"}}, "spec": {"foo-bar": 1, "list": [{"n": "a"}, {"n": "b"}]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        let find = |path: &str| {
            JsonPath::parse(&standard(path))
                .ok()
                .and_then(|p| p.query(&object).first().cloned())
        };
        assert_eq!(find(".spec.foo-bar"), Some(json!(1)));
        assert_eq!(find(r".metadata.labels.a\.b/c"), Some(json!("x")));
        assert_eq!(
            find(r#".status.conditions[?(@.type=="Ready")].status"#),
            Some(json!("True"))
        );
        assert_eq!(find(".spec.list[1].n"), Some(json!("b")));
        assert_eq!(find(".spec.list[*].n"), Some(json!("a")));
        assert_eq!(find(".spec.nothing"), None);
    }

    #[test]
    fn cells_are_of_their_columns_type() {
        assert_eq!(cell("integer", &json!(1.5)), json!(1));
        assert_eq!(cell("integer", &json!("1")), Value::Null);
        assert_eq!(cell("string", &json!({"a": 1})), json!(r#"{"a":1}"#));
        assert_eq!(cell("number", &json!(2)), json!(2.0));
        let now: Timestamp = "2024-01-02T00:00:00Z".parse().unwrap();
        assert_eq!(date(Some(&json!("2024-01-01T00:00:00Z")), now), json!("24h"));
        assert_eq!(date(Some(&json!("soon")), now), json!("<invalid>"));
        assert_eq!(date(None, now), Value::Null);
    }
}
