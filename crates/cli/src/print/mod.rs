//! How objects are shown.

pub(crate) mod describe;
pub(crate) mod jsonpath;
pub(crate) mod order;
pub(crate) mod table;
mod tabwriter;

use anyhow::{Result, bail};
use serde_json::Value;

/// What `-o` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Table {
        wide: bool,
    },
    Json,
    Yaml,
    Name,
    JsonPath(jsonpath::Template),
    /// `custom-columns=HEADER:.path,…`
    CustomColumns(Vec<(String, jsonpath::Template)>),
}

impl Output {
    /// Reads `-o`'s value.
    ///
    /// # Errors
    /// An unknown format, or a template that cannot be read.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let (format, argument) = text
            .split_once('=')
            .map_or((text, None), |(format, rest)| (format, Some(rest)));
        Ok(match (format, argument) {
            ("" | "table", None) => Self::Table { wide: false },
            ("wide", None) => Self::Table { wide: true },
            ("json", None) => Self::Json,
            ("yaml", None) => Self::Yaml,
            ("name", None) => Self::Name,
            ("jsonpath", Some(template)) => Self::JsonPath(jsonpath::Template::parse(template)?),
            ("jsonpath-file", Some(path)) => {
                Self::JsonPath(jsonpath::Template::parse(&std::fs::read_to_string(path)?)?)
            }
            ("custom-columns", Some(columns)) => Self::CustomColumns(custom_columns(columns)?),
            _ => bail!(
                "unable to match a printer for output format {text:?}; \
                 allowed formats are: custom-columns=…,json,jsonpath=…,jsonpath-file=…,name,wide,yaml"
            ),
        })
    }

    /// Tables are made by the server; every other format is made here from the object itself.
    pub(crate) fn is_table(&self) -> bool {
        matches!(self, Self::Table { .. })
    }

    /// One object (or a `List`) as text, for every format but tables.
    pub(crate) fn render(&self, object: &Value, qualified_name: &dyn Fn(&Value) -> String) -> Result<String> {
        Ok(match self {
            Self::Table { .. } => bail!("a table cannot be made of one object"),
            Self::Json => format!("{}\n", serde_json::to_string_pretty(object)?),
            Self::Yaml => catamaran_api::yaml::to_string(object)?,
            Self::Name => items(object)
                .iter()
                .map(|item| format!("{}\n", qualified_name(item)))
                .collect(),
            Self::JsonPath(template) => template.render(object),
            Self::CustomColumns(columns) => custom_table(object, columns),
        })
    }
}

/// The objects of a list, or the object alone.
pub(crate) fn items(object: &Value) -> Vec<&Value> {
    match object.get("items").and_then(Value::as_array) {
        Some(items) if object["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) => items.iter().collect(),
        _ => vec![object],
    }
}

fn custom_columns(text: &str) -> Result<Vec<(String, jsonpath::Template)>> {
    text.split(',')
        .map(|column| match column.split_once(':') {
            Some((header, path)) => {
                let path = path.trim().trim_start_matches('{').trim_end_matches('}');
                let path = if path.starts_with('.') {
                    path.to_owned()
                } else {
                    format!(".{path}")
                };
                Ok((header.to_owned(), jsonpath::Template::parse(&format!("{{{path}}}"))?))
            }
            None => bail!("custom-columns wants HEADER:PATH pairs, unlike {column:?}"),
        })
        .collect()
}

fn custom_table(object: &Value, columns: &[(String, jsonpath::Template)]) -> String {
    let headers: Vec<String> = columns.iter().map(|(header, _)| header.clone()).collect();
    let mut rows = Vec::new();
    for item in items(object) {
        let cells = columns.iter().map(|(_, path)| {
            let found: Vec<String> = path.values(item).into_iter().map(jsonpath::show).collect();
            let text = found.join(",");
            if text.is_empty() { "<none>".to_owned() } else { text }
        });
        rows.push(cells.collect());
    }
    table::align(&headers, &rows, true)
}

/// Hides what only machines read, as kubectl does unless told `--show-managed-fields`.
pub(crate) fn without_managed_fields(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    if let Some(items) = object.get_mut("items").and_then(Value::as_array_mut) {
        items.iter_mut().for_each(without_managed_fields);
    }
}
