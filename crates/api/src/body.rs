//! Request bodies, JSON, YAML or protobuf, into untyped objects.
//!
//! A generic parser keeps the last of two equal keys and says nothing; Kubernetes reports them. So trees are built key by key,
//! here for JSON and in [`crate::yaml`] for YAML, and the paths of duplicates are part of the result.

mod syntax;

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
            "" | "application/json" => Some(Self::Json),
            "application/yaml" => Some(Self::Yaml),
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
        Self::bad_request(error.recognising())
    }
}

impl ParseError {
    /// The reason alone, where the language goes without saying.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// What could not be done with it first.
    fn recognising(&self) -> String {
        match self.language {
            "yaml" => self.reason.clone(),
            _ => format!("couldn't get version/kind; {self}"),
        }
    }
}

/// The refusal of a body that is no object of any kind. `kind` is what it should have been.
pub fn unrecognized(kind: &str, why: &str, bytes: &[u8]) -> Status {
    Status::bad_request(format!(
        "the object provided is unrecognized (must be of type {kind}): {why} ({})",
        syntax::summary(bytes)
    ))
}

/// Reads the body of a request for an object of a kind. What cannot even be asked for its type is refused here.
///
/// # Errors
/// 400 with the complaint and the start of the body.
pub fn parse_object(kind: &str, format: Format, bytes: &[u8]) -> Result<Body, Status> {
    let body = parse(format, bytes).map_err(|error| unrecognized(kind, &error.recognising(), bytes))?;
    let refused = |sort: &str, place: &str| {
        let why = format!("couldn't get version/kind; json parse error: json: cannot unmarshal {sort} into Go {place}");
        Err(unrecognized(kind, &why, bytes))
    };
    let sort = |value: &Value| match value {
        Value::Null | Value::Object(_) => None,
        Value::Bool(_) => Some("bool"),
        Value::Number(_) => Some("number"),
        Value::String(_) => Some("string"),
        Value::Array(_) => Some("array"),
    };
    if let Some(sort) = sort(&body.value) {
        return refused(
            sort,
            "value of type struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }",
        );
    }
    for field in ["apiVersion", "kind"] {
        let sort = match body.value.get(field) {
            None | Some(Value::Null | Value::String(_)) => continue,
            Some(Value::Object(_)) => "object",
            Some(other) => sort(other).unwrap_or_default(),
        };
        return refused(sort, &format!("struct field .{field} of type string"));
    }
    let api_version = body.value.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    if api_version.matches('/').count() > 1 {
        let why = format!("unexpected GroupVersion string: {api_version}");
        return Err(unrecognized(kind, &why, bytes));
    }
    Ok(body)
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
    let error = |reason: serde_json::Error| match syntax::complaint(bytes) {
        Some(complaint) => ParseError::new("json", complaint),
        None => ParseError::new("json", reason),
    };
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
        Some(document) => document.map_err(|error| ParseError::new("yaml", as_go(&error.to_string()))),
        None => Ok(Body::of(Value::Null)),
    }
}

/// A complaint about YAML in the words of Go's parser: which line comes first, and not on the first one.
fn as_go(complaint: &str) -> String {
    let Some((text, place)) = complaint.rsplit_once(" at line ") else {
        return format!("yaml: {complaint}");
    };
    let line: usize = place.split(' ').next().and_then(|line| line.parse().ok()).unwrap_or(1);
    let (is_grammar, text) = match text.split_once(", ") {
        Some((context, problem)) if context.starts_with("while parsing") => (true, problem),
        _ => (text.starts_with("did not find"), text),
    };
    // A line counts from zero where the grammar, not a character, is wrong.
    match line - 1 {
        0 => format!("yaml: {text}"),
        zero_based => format!("yaml: line {}: {text}", zero_based + usize::from(!is_grammar)),
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
            expect!["json parse error: invalid character '}' looking for beginning of value"],
        );
        check(
            Format::Json,
            "{} {}",
            expect!["json parse error: invalid character '{' after top-level value"],
        );
        check(
            Format::Json,
            "",
            expect!["json parse error: unexpected end of JSON input"],
        );
        check(
            Format::Yaml,
            "a: [1\nb: 2",
            expect!["yaml parse error: yaml: line 2: illegal placement of ':' indicator"],
        );
        check(
            Format::Yaml,
            "a: .nan",
            expect!["yaml parse error: yaml: a number must be finite"],
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
