//! Server-side tables: what `kubectl get` prints is decided here, once, for every client.
//!
//! A client that asks for `as=Table;g=meta.k8s.io;v=v1` gets columns and cells instead of objects
//! (<https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables>). Columns with a priority above 0
//! are shown with `-o wide` only.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use std::borrow::Cow;

/// A column, as `TableColumnDefinition`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Column {
    pub name: Cow<'static, str>,
    /// OpenAPI type of the cells: `string`, `integer`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// OpenAPI format; `name` marks the column that names the object.
    pub format: &'static str,
    pub description: Cow<'static, str>,
    pub priority: i32,
}

impl Column {
    pub const NAME: Self = Self {
        name: Cow::Borrowed("Name"),
        kind: "string",
        format: "name",
        description: Cow::Borrowed(
            "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a \
             client to request the generation of an appropriate name automatically. Name is primarily intended for creation \
             idempotence and configuration definition. Cannot be updated. More info: \
             https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names",
        ),
        priority: 0,
    };

    pub const AGE: Self = Self::string("Age", "Time since the object was created, to two significant units.");

    /// A column that is always shown.
    pub const fn string(name: &'static str, description: &'static str) -> Self {
        Self {
            name: Cow::Borrowed(name),
            kind: "string",
            format: "",
            description: Cow::Borrowed(description),
            priority: 0,
        }
    }

    pub const fn integer(name: &'static str, description: &'static str) -> Self {
        Self {
            name: Cow::Borrowed(name),
            kind: "integer",
            format: "",
            description: Cow::Borrowed(description),
            priority: 0,
        }
    }

    pub const fn boolean(name: &'static str, description: &'static str) -> Self {
        Self {
            name: Cow::Borrowed(name),
            kind: "boolean",
            format: "",
            description: Cow::Borrowed(description),
            priority: 0,
        }
    }

    /// The same column with cells of another OpenAPI type: `boolean`, `date`.
    #[must_use]
    pub const fn of_type(mut self, kind: &'static str) -> Self {
        self.kind = kind;
        self
    }

    /// The same column with another OpenAPI format of its cells.
    #[must_use]
    pub const fn of_format(mut self, format: &'static str) -> Self {
        self.format = format;
        self
    }

    /// The same column, for `-o wide` only.
    #[must_use]
    pub const fn wide(mut self) -> Self {
        self.priority = 1;
        self
    }
}

/// What accompanies each row (`includeObject`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IncludeObject {
    None,
    #[default]
    Metadata,
    Object,
}

impl IncludeObject {
    /// Reads the query parameter; empty is the default.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "Metadata" => Some(Self::Metadata),
            "None" => Some(Self::None),
            "Object" => Some(Self::Object),
            _ => None,
        }
    }
}

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    pub cells: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<Value>,
}

impl Row {
    /// `object` is the whole object in its JSON form.
    pub fn new(cells: Vec<Value>, object: &Value, include: IncludeObject) -> Self {
        let object = match include {
            IncludeObject::None => None,
            IncludeObject::Metadata => Some(partial_metadata(object)),
            IncludeObject::Object => Some(object.clone()),
        };
        Self { cells, object }
    }
}

/// Only the metadata of an object, as `PartialObjectMetadata`.
pub fn partial_metadata(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object.get("metadata").cloned().unwrap_or_else(|| json!({})),
    })
}

/// A list, or one watch event, as a `Table`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Table {
    kind: &'static str,
    api_version: &'static str,
    /// `ListMeta`: `resourceVersion`, `continue`, `remainingItemCount`.
    pub metadata: Value,
    /// Empty in all events of a watch but the first.
    pub column_definitions: Vec<Column>,
    pub rows: Vec<Row>,
}

impl Table {
    pub fn new(metadata: Value, columns: &[Column], rows: Vec<Row>) -> Self {
        let column_definitions = columns.to_vec();
        Self {
            kind: "Table",
            api_version: "meta.k8s.io/v1",
            metadata,
            column_definitions,
            rows,
        }
    }
}

/// The `Age` cell: time from `since` to `now` in `kubectl`'s notation.
pub fn age(since: Timestamp, now: Timestamp) -> String {
    human_duration(now.as_second() - since.as_second())
}

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;

/// Seconds with two or three significant figures: `5s`, `3m12s`, `47h`, `3d4h`. Up to two seconds into the future count as now,
/// because clocks of machines differ.
pub fn human_duration(seconds: i64) -> String {
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => pair(seconds, (MINUTE, "m"), (1, "s")),
        600..10_800 => format!("{}m", seconds / MINUTE),
        10_800..28_800 => pair(seconds, (HOUR, "h"), (MINUTE, "m")),
        28_800..172_800 => format!("{}h", seconds / HOUR),
        172_800..691_200 => pair(seconds, (DAY, "d"), (HOUR, "h")),
        691_200..63_072_000 => format!("{}d", seconds / DAY),
        63_072_000..252_288_000 => pair(seconds, (YEAR, "y"), (DAY, "d")),
        _ => format!("{}y", seconds / YEAR),
    }
}

fn pair(seconds: i64, (large, large_unit): (i64, &str), (small, small_unit): (i64, &str)) -> String {
    let rest = seconds % large / small;
    if rest == 0 {
        format!("{}{large_unit}", seconds / large)
    } else {
        format!("{}{large_unit}{rest}{small_unit}", seconds / large)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_kubectl_prints_them() {
        let table = [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (192, "3m12s"),
            (599, "9m59s"),
            (600, "10m"),
            (3 * HOUR - 1, "179m"),
            (3 * HOUR, "3h"),
            (3 * HOUR + 61, "3h1m"),
            (8 * HOUR - 1, "7h59m"),
            (8 * HOUR, "8h"),
            (47 * HOUR, "47h"),
            (2 * DAY, "2d"),
            (3 * DAY + 4 * HOUR + 5, "3d4h"),
            (8 * DAY, "8d"),
            (2 * YEAR - 1, "729d"),
            (2 * YEAR, "2y"),
            (3 * YEAR + DAY, "3y1d"),
            (8 * YEAR + DAY, "8y"),
        ];
        for (seconds, expected) in table {
            assert_eq!(human_duration(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn rows_carry_what_was_asked_for() {
        let pod = json!({"kind": "Pod", "metadata": {"name": "web"}, "spec": {}});
        let row = |include| Row::new(vec!["web".into()], &pod, include);
        assert_eq!(row(IncludeObject::None).object, None);
        assert_eq!(row(IncludeObject::Object).object, Some(pod.clone()));
        let partial = row(IncludeObject::parse("").unwrap()).object.unwrap();
        assert_eq!(partial["kind"], "PartialObjectMetadata");
        assert_eq!(partial["metadata"]["name"], "web");
        let table = Table::new(
            json!({"resourceVersion": "5"}),
            &[Column::NAME, Column::AGE.wide()],
            vec![],
        );
        let json = serde_json::to_value(table).unwrap();
        assert_eq!(json["columnDefinitions"][1]["priority"], 1);
        assert_eq!(json["columnDefinitions"][0]["type"], "string");
    }
}
