//! Server-made tables (`meta.k8s.io/v1` Table) as text, in kubectl's layout.

use serde::Deserialize;
use serde_json::Value;

/// Accept header that asks for a table, with the object's metadata in every row.
pub(crate) const ACCEPT: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Table {
    #[serde(default)]
    pub(crate) column_definitions: Vec<Column>,
    #[serde(default)]
    pub(crate) rows: Vec<Row>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// 0 is always shown; more only in wide output.
    #[serde(default)]
    pub(crate) priority: i32,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Row {
    pub(crate) cells: Vec<Value>,
    #[serde(default)]
    pub(crate) object: Value,
}

/// What the user wants to see beside the server's columns.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Layout<'a> {
    pub(crate) wide: bool,
    pub(crate) headers: bool,
    pub(crate) namespace: bool,
    /// Labels with a column of their own.
    pub(crate) label_columns: &'a [String],
    pub(crate) labels: bool,
}

impl Table {
    /// The table as text. `prefix` goes before every name (`pod/`), when several kinds are shown.
    pub(crate) fn render(&self, layout: Layout<'_>, prefix: &str) -> String {
        self.render_below(layout, prefix, &mut Vec::new())
    }

    /// The same below rows that were shown already: columns are as wide as `widths` has them from there, or wider.
    pub(crate) fn render_below(&self, layout: Layout<'_>, prefix: &str, widths: &mut Vec<usize>) -> String {
        let shown: Vec<usize> = (0..self.column_definitions.len())
            .filter(|index| layout.wide || self.column_definitions[*index].priority == 0)
            .collect();
        let mut headers: Vec<String> = shown
            .iter()
            .map(|index| self.column_definitions[*index].name.to_uppercase())
            .collect();
        if layout.namespace {
            headers.insert(0, "NAMESPACE".to_owned());
        }
        let last_part = |key: &String| key.rsplit('/').next().unwrap_or_default().to_uppercase();
        headers.extend(layout.label_columns.iter().map(last_part));
        if layout.labels {
            headers.push("LABELS".to_owned());
        }
        let rows: Vec<Vec<String>> = self.rows.iter().map(|row| row.texts(&shown, layout, prefix)).collect();
        align_below(&headers, &rows, layout.headers, widths)
    }
}

impl Row {
    fn texts(&self, shown: &[usize], layout: Layout<'_>, prefix: &str) -> Vec<String> {
        let mut texts: Vec<String> = shown
            .iter()
            .map(|index| self.cells.get(*index).map(cell_text).unwrap_or_default())
            .collect();
        if let Some(name) = texts.first_mut() {
            name.insert_str(0, prefix);
        }
        let metadata = &self.object["metadata"];
        if layout.namespace {
            texts.insert(0, metadata["namespace"].as_str().unwrap_or_default().to_owned());
        }
        let label = |key: &String| metadata["labels"][key].as_str().unwrap_or("<none>").to_owned();
        texts.extend(layout.label_columns.iter().map(label));
        if layout.labels {
            let labels = metadata["labels"].as_object().filter(|labels| !labels.is_empty());
            texts.push(labels.map_or("<none>".to_owned(), |labels| {
                let pairs = labels
                    .iter()
                    .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
                pairs.collect::<Vec<_>>().join(",")
            }));
        }
        texts
    }
}

fn cell_text(cell: &Value) -> String {
    let text = match cell {
        Value::Null => "<none>".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    // Multi-line cells would break the layout; kubectl shows the first line.
    match text.split_once('\n') {
        Some((first, _)) => format!("{first}..."),
        None => text,
    }
}

/// Columns as wide as their widest cell, three blanks apart, at least six wide with them, nothing at the end of a line:
/// kubectl's tabwriter.
pub(crate) fn align(headers: &[String], rows: &[Vec<String>], show_headers: bool) -> String {
    align_below(headers, rows, show_headers, &mut Vec::new())
}

fn align_below(headers: &[String], rows: &[Vec<String>], show_headers: bool, widths: &mut Vec<usize>) -> String {
    let lines: Vec<&[String]> = show_headers
        .then_some(headers)
        .into_iter()
        .chain(rows.iter().map(Vec::as_slice))
        .collect();
    let width = |column: usize| {
        lines
            .iter()
            .filter_map(|line| line.get(column))
            .map(|cell| cell.chars().count())
            .max()
    };
    widths.resize(headers.len(), 0);
    for (column, known) in widths.iter_mut().enumerate() {
        *known = width(column).unwrap_or(0).max(*known);
    }
    let mut text = String::new();
    for line in lines {
        let start = text.len();
        for (cell, width) in line.iter().zip(widths.iter()) {
            text.push_str(cell);
            text.extend(std::iter::repeat_n(' ', (width + 3).max(6) - cell.chars().count()));
        }
        text.truncate(start + text[start..].trim_end().len());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    fn pods() -> Table {
        serde_json::from_value(json!({
            "columnDefinitions": [{"name": "Name"}, {"name": "Ready"}, {"name": "IP", "priority": 1}],
            "rows": [
                {"cells": ["web", "1/1", "10.42.0.2"], "object": {"metadata": {"namespace": "default", "labels": {"a": "b", "c": "d"}}}},
                {"cells": ["a-longer-name", "0/1", null], "object": {"metadata": {"namespace": "kube-system"}}},
            ],
        }))
        .expect("a table")
    }

    #[test]
    fn later_rows_keep_the_columns() {
        let row = |name: &str, ready: &str, age: &str| vec![name.to_owned(), ready.to_owned(), age.to_owned()];
        let headers = row("NAME", "READY", "AGE");
        let mut widths = Vec::new();
        let mut text = align_below(&headers, &[row("a-long-name", "1/1", "1s")], true, &mut widths);
        text += &align_below(&headers, &[row("b", "0/1", "2s")], false, &mut widths);
        expect![[r#"
            NAME          READY   AGE
            a-long-name   1/1     1s
            b             0/1     2s
        "#]]
        .assert_eq(&text);
    }

    #[test]
    fn narrow_wide_and_decorated() {
        let narrow = Layout {
            headers: true,
            ..Layout::default()
        };
        expect![[r#"
            NAME            READY
            web             1/1
            a-longer-name   0/1
        "#]]
        .assert_eq(&pods().render(narrow, ""));
        let all = Layout {
            wide: true,
            headers: true,
            namespace: true,
            label_columns: &["example.org/a".to_owned(), "a".to_owned()],
            labels: true,
        };
        expect![[r#"
            NAMESPACE     NAME                READY   IP          A        A        LABELS
            default       pod/web             1/1     10.42.0.2   <none>   b        a=b,c=d
            kube-system   pod/a-longer-name   0/1     <none>      <none>   <none>   <none>
        "#]]
        .assert_eq(&pods().render(all, "pod/"));
    }
}
