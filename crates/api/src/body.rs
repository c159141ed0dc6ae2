//! Request bodies, JSON, YAML or protobuf, into untyped objects.
//!
//! A generic parser keeps the last of two equal keys and says nothing; Kubernetes reports them. So trees are built key by key,
//! here for JSON and in [`crate::yaml`] for YAML, and the paths of duplicates are part of the result.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::schema::protobuf;
use crate::{Status, yaml};

/// The languages of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Yaml,
    /// Kubernetes' own envelope; see [`protobuf`].
    Protobuf,
}

impl Format {
    /// What to say to a client that sent something else.
    pub const MEDIA_TYPES: &[&str] = &[
        "application/json",
        "application/yaml",
        "application/vnd.kubernetes.protobuf",
    ];

    /// From a `Content-Type`; no type at all means JSON. `None` for what is not understood.
    pub fn from_content_type(content_type: &str) -> Option<Self> {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        match essence.to_ascii_lowercase().as_str() {
            "" | "application/json" | "*/*" | "application/*" => Some(Self::Json),
            "application/yaml" | "application/x-yaml" | "text/yaml" | "text/x-yaml" => Some(Self::Yaml),
            "application/vnd.kubernetes.protobuf" => Some(Self::Protobuf),
            _ => None,
        }
    }
}

/// A parsed body.
#[derive(Clone, Debug, PartialEq)]
pub struct Body {
    pub value: Value,
    /// Paths of keys that came twice, `spec.containers[0].name`; the last one won.
    pub duplicates: Vec<String>,
}

/// The body is not in the language it claims to be in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{language} parse error: {reason}")]
pub struct ParseError {
    language: &'static str,
    reason: String,
}

impl From<ParseError> for Status {
    fn from(error: ParseError) -> Self {
        Self::bad_request(format!(
            "the object provided is unrecognized: couldn't get version/kind; {error}"
        ))
    }
}

/// Reads one document. Of a YAML stream only the first one counts, as in Kubernetes.
pub fn parse(format: Format, bytes: &[u8]) -> Result<Body, ParseError> {
    match format {
        Format::Json => parse_json(bytes),
        Format::Yaml => parse_yaml(bytes),
        Format::Protobuf => match protobuf::decode(bytes) {
            Ok(value) => Ok(Body::of(value)),
            Err(error) => Err(ParseError::new("protobuf", error)),
        },
    }
}

impl Body {
    const fn of(value: Value) -> Self {
        Self {
            value,
            duplicates: Vec::new(),
        }
    }
}

impl ParseError {
    fn new(language: &'static str, reason: impl fmt::Display) -> Self {
        Self {
            language,
            reason: reason.to_string(),
        }
    }
}

fn parse_json(bytes: &[u8]) -> Result<Body, ParseError> {
    let error = |reason: serde_json::Error| ParseError::new("json", reason);
    let mut trail = Trail::default();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Seed(&mut trail).deserialize(&mut deserializer).map_err(error)?;
    deserializer.end().map_err(error)?;
    Ok(Body {
        value,
        duplicates: trail.duplicates,
    })
}

fn parse_yaml(bytes: &[u8]) -> Result<Body, ParseError> {
    let text = std::str::from_utf8(bytes).map_err(|error| ParseError::new("yaml", error))?;
    match yaml::documents(text).next() {
        Some(document) => document.map_err(|error| ParseError::new("yaml", error)),
        None => Ok(Body::of(Value::Null)),
    }
}

/// Duplicate keys that are reported; a body of nonsense should not be answered at length.
const MAX_DUPLICATES: usize = 100;

/// Where a parser is, and where it met a key for the second time.
#[derive(Default)]
pub(crate) struct Trail {
    path: String,
    pub(crate) duplicates: Vec<String>,
}

impl Trail {
    /// Returns what [`Trail::leave`] wants to have back.
    pub(crate) fn enter_key(&mut self, key: &str) -> usize {
        let length = self.path.len();
        if length > 0 {
            self.path.push('.');
        }
        self.path.push_str(key);
        length
    }

    pub(crate) fn enter_index(&mut self, index: usize) -> usize {
        let length = self.path.len();
        let _ = fmt::Write::write_fmt(&mut self.path, format_args!("[{index}]"));
        length
    }

    pub(crate) fn leave(&mut self, length: usize) {
        self.path.truncate(length);
    }

    /// The key just entered was there before.
    pub(crate) fn note_duplicate(&mut self) {
        if self.duplicates.len() < MAX_DUPLICATES && !self.duplicates.contains(&self.path) {
            self.duplicates.push(self.path.clone());
        }
    }
}

struct Seed<'b>(&'b mut Trail);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("a number must be finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let trail = self.0;
        let mut list = Vec::new();
        loop {
            let length = trail.enter_index(list.len());
            let item = items.next_element_seed(Seed(trail))?;
            trail.leave(length);
            match item {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let trail = self.0;
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let length = trail.enter_key(&key);
            if object.contains_key(&key) {
                trail.note_duplicate();
            }
            let value = entries.next_value_seed(Seed(trail))?;
            trail.leave(length);
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    use super::*;

    #[allow(clippy::needless_pass_by_value, reason = "a golden reads best in place")]
    fn check(format: Format, text: &str, expected: Expect) {
        let actual = match parse(format, text.as_bytes()) {
            Ok(body) => format!("{} {:?}", body.value, body.duplicates),
            Err(error) => error.to_string(),
        };
        expected.assert_eq(&actual);
    }

    #[test]
    fn duplicates_are_found_where_they_are() {
        check(
            Format::Json,
            r#"{"a": 1, "spec": {"list": [{"x": 1}, {"x": 1, "x": 2, "x": 3}], "b": null, "b": {"c": 1.5}}, "a": -2}"#,
            expect![[r#"{"a":-2,"spec":{"b":{"c":1.5},"list":[{"x":1},{"x":3}]}} ["spec.list[1].x", "spec.b", "a"]"#]],
        );
    }

    #[test]
    fn yaml_is_read_as_json() {
        check(
            Format::Yaml,
            "a: 1\nb: [x, 'y', 1.5, true, ~]\n1: {true: no}\na: 2\nt: 2026-01-01\n---\nc: 3\n",
            expect![[r#"{"1":{"true":false},"a":2,"b":["x","y",1.5,true,null],"t":"2026-01-01"} ["a"]"#]],
        );
        check(Format::Yaml, "", expect!["null []"]);
    }

    #[test]
    fn malformed() {
        check(
            Format::Json,
            "{\"a\": }",
            expect!["json parse error: expected value at line 1 column 7"],
        );
        check(
            Format::Json,
            "{} {}",
            expect!["json parse error: trailing characters at line 1 column 4"],
        );
        check(
            Format::Json,
            "",
            expect!["json parse error: EOF while parsing a value at line 1 column 0"],
        );
        check(
            Format::Yaml,
            "a: [1\nb: 2",
            expect!["yaml parse error: illegal placement of ':' indicator at line 2 column 2"],
        );
        check(
            Format::Yaml,
            "a: .nan",
            expect!["yaml parse error: a number must be finite at line 1 column 4"],
        );
        let deep = "[".repeat(100_000);
        assert!(parse(Format::Json, deep.as_bytes()).is_err());
        assert!(parse(Format::Yaml, "[".repeat(5_000).as_bytes()).is_err());
        assert!(parse(Format::Yaml, b"a: \xff").is_err());
    }

    #[test]
    fn content_types() {
        assert_eq!(
            Format::from_content_type("application/json; charset=utf-8"),
            Some(Format::Json)
        );
        assert_eq!(Format::from_content_type("application/yaml"), Some(Format::Yaml));
        assert_eq!(
            Format::from_content_type("application/vnd.kubernetes.protobuf"),
            Some(Format::Protobuf)
        );
    }

    proptest! {
        #[test]
        fn json_reads_as_serde_json_reads_it(text in "[\\[\\]{}:,\"a0-9 .]{0,30}") {
            let ours = parse(Format::Json, text.as_bytes()).ok().map(|body| body.value);
            prop_assert_eq!(ours, serde_json::from_str(&text).ok());
        }
    }
}
