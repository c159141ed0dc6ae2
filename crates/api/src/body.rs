//! Request bodies, JSON, YAML or protobuf, into untyped objects.
//!
//! A generic parser keeps the last of two equal keys and says nothing; Kubernetes reports them. So the tree is built here, key by
//! key, by one visitor for both languages, and the paths of duplicates are part of the result.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::Status;
use crate::schema::protobuf;

/// The languages of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Yaml,
    /// Kubernetes' own envelope; see [`protobuf`].
    Protobuf,
}

impl Format {
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
    let mut builder = Builder::default();
    let value = match format {
        Format::Json => parse_json(&mut builder, bytes)?,
        Format::Yaml => parse_yaml(&mut builder, bytes)?,
        Format::Protobuf => protobuf::decode(bytes).map_err(|error| ParseError {
            language: "protobuf",
            reason: error.to_string(),
        })?,
    };
    Ok(Body {
        value,
        duplicates: builder.duplicates,
    })
}

fn parse_json(builder: &mut Builder, bytes: &[u8]) -> Result<Value, ParseError> {
    let error = |reason: serde_json::Error| ParseError {
        language: "json",
        reason: reason.to_string(),
    };
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Seed(builder).deserialize(&mut deserializer).map_err(error)?;
    deserializer.end().map_err(error)?;
    Ok(value)
}

fn parse_yaml(builder: &mut Builder, bytes: &[u8]) -> Result<Value, ParseError> {
    let Some(document) = serde_yaml::Deserializer::from_slice(bytes).next() else {
        return Ok(Value::Null);
    };
    Seed(builder).deserialize(document).map_err(|reason| ParseError {
        language: "yaml",
        reason: reason.to_string(),
    })
}

#[derive(Default)]
struct Builder {
    path: String,
    duplicates: Vec<String>,
}

impl Builder {
    fn below<T>(&mut self, segment: fmt::Arguments<'_>, visit: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        let _ = fmt::Write::write_fmt(&mut self.path, segment);
        let result = visit(self);
        self.path.truncate(length);
        result
    }
}

struct Seed<'b>(&'b mut Builder);

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
        let builder = self.0;
        let mut list = Vec::new();
        loop {
            let index = list.len();
            let item = builder.below(format_args!("[{index}]"), |builder| {
                items.next_element_seed(Seed(builder))
            })?;
            match item {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let builder = self.0;
        let mut object = Map::new();
        while let Some(Key(key)) = entries.next_key()? {
            let dot = if builder.path.is_empty() { "" } else { "." };
            let duplicate = object.contains_key(&key);
            let value = builder.below(format_args!("{dot}{key}"), |builder| {
                if duplicate && !builder.duplicates.contains(&builder.path) {
                    builder.duplicates.push(builder.path.clone());
                }
                entries.next_value_seed(Seed(builder))
            })?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

/// A key. YAML has keys that are not strings; they become their text, as on the way from YAML to JSON everywhere.
struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Seed(&mut Builder::default()).deserialize(deserializer)? {
            Value::String(text) => Ok(Self(text)),
            value @ (Value::Bool(_) | Value::Number(_)) => Ok(Self(value.to_string())),
            Value::Null => Ok(Self("null".to_owned())),
            Value::Array(_) | Value::Object(_) => Err(D::Error::custom("a key must be a scalar")),
        }
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
            expect![[r#"{"1":{"true":"no"},"a":2,"b":["x","y",1.5,true,null],"t":"2026-01-01"} ["a"]"#]],
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
            expect![
                "yaml parse error: did not find expected ',' or ']' at line 2 column 2, while parsing a flow sequence at line 1 column 4"
            ],
        );
        check(
            Format::Yaml,
            "a: .nan",
            expect!["yaml parse error: a: a number must be finite at line 1 column 4"],
        );
        check(
            Format::Yaml,
            "a: !tag x",
            expect!["yaml parse error: a: invalid type: enum, expected a JSON value at line 1 column 4"],
        );
        let deep = "[".repeat(100_000);
        assert!(parse(Format::Json, deep.as_bytes()).is_err());
        assert!(parse(Format::Yaml, "[".repeat(5_000).as_bytes()).is_err());
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..10 {
            let below = format!("*a{},", level - 1).repeat(10);
            bomb += &format!("a{level}: &a{level} [{below}]\n");
        }
        assert!(parse(Format::Yaml, bomb.as_bytes()).is_err());
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
