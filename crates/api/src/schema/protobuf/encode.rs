//! JSON of our answers as protobuf: the walk of the decoder, backwards.

use std::collections::HashMap;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::super::{Schemas, Type};
use super::{Either, Field, JSON_SCHEMA, MAGIC, TABLE, definition_of, message_for, message_of};

/// The fields of each message in the order of their numbers.
static ORDERED: LazyLock<HashMap<&'static str, Vec<(u64, Field)>>> = LazyLock::new(|| {
    let sorted = |fields: &super::Message| {
        let mut fields: Vec<(u64, Field)> = fields.iter().map(|(number, field)| (*number, *field)).collect();
        fields.sort_by_key(|(number, _)| *number);
        fields
    };
    TABLE.iter().map(|(name, fields)| (*name, sorted(fields))).collect()
});

const OBJECT_META: &str = "meta.v1.ObjectMeta";
const LIST_META: &str = "meta.v1.ListMeta";

/// An object or a list, with the marker and the envelope in front. `None`: its kind has no protobuf form.
pub fn encode(object: &Value) -> Option<Vec<u8>> {
    let fields = object.as_object()?;
    let text = |key: &str| fields.get(key).and_then(Value::as_str);
    let (api_version, kind) = (text("apiVersion")?, text("kind")?);
    let mut out = Out::default();
    Walk::new().top(api_version, kind, fields, &mut out)?;
    Some(envelope(api_version, kind, &out.0))
}

/// What a watch sends: the event in a frame of its own (four bytes of length, most significant first), the object within
/// with marker and envelope.
pub fn encode_event(event: &str, object: &Value) -> Option<Vec<u8>> {
    let object = encode(object)?;
    let mut raw = Out::default();
    raw.bytes(1, &object);
    let mut message = Out::default();
    message.bytes(1, event.as_bytes());
    message.bytes(2, &raw.0);
    let length = u32::try_from(message.0.len()).ok()?;
    Some([&length.to_be_bytes()[..], &message.0].concat())
}

fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let mut type_meta = Out::default();
    type_meta.bytes(1, api_version.as_bytes());
    type_meta.bytes(2, kind.as_bytes());
    let mut out = Out(MAGIC.to_vec());
    out.bytes(1, &type_meta.0);
    out.bytes(2, raw);
    out.bytes(3, b"");
    out.bytes(4, b"");
    out.0
}

struct Walk {
    schemas: &'static Schemas,
}

impl Walk {
    fn new() -> Self {
        Walk {
            schemas: Schemas::builtin(),
        }
    }

    fn top(&self, api_version: &str, kind: &str, fields: &Map<String, Value>, out: &mut Out) -> Option<()> {
        match (api_version, kind) {
            ("v1", "Status") => self.named("meta.v1.Status", fields, out),
            ("meta.k8s.io/v1", "PartialObjectMetadata") => {
                self.part(OBJECT_META, fields.get("metadata"), 1, out);
                Some(())
            }
            _ => match message_of(api_version, kind) {
                Some(message) => self.named(message, fields, out),
                None => self.list(api_version, kind.strip_suffix("List")?, fields, out),
            },
        }
    }

    fn list(&self, api_version: &str, kind: &str, fields: &Map<String, Value>, out: &mut Out) -> Option<()> {
        let known = message_of(api_version, kind).is_some() || kind == "PartialObjectMetadata";
        if !known {
            return None;
        }
        self.part(LIST_META, fields.get("metadata"), 1, out);
        for item in fields.get("items").and_then(Value::as_array).into_iter().flatten() {
            let mut inner = Out::default();
            self.top(api_version, kind, item.as_object()?, &mut inner)?;
            out.bytes(2, &inner.0);
        }
        Some(())
    }

    fn named(&self, message: &str, fields: &Map<String, Value>, out: &mut Out) -> Option<()> {
        let definition = self.schemas.by_name.get(&definition_of(message))?;
        self.message(*definition, message, fields, out);
        Some(())
    }

    fn part(&self, message: &str, value: Option<&Value>, number: u64, out: &mut Out) {
        let mut inner = Out::default();
        if let Some(fields) = value.and_then(Value::as_object) {
            self.named(message, fields, &mut inner);
        }
        out.bytes(number, &inner.0);
    }

    fn message(&self, definition: usize, message: &str, object: &Map<String, Value>, out: &mut Out) {
        let described = &self.schemas.definitions[definition];
        for (number, field) in ORDERED.get(message).into_iter().flatten() {
            if let Some(inner) = field.inlined.filter(|_| !described.fields.contains_key(field.name)) {
                let mut own = Out::default();
                self.message(definition, inner, object, &mut own);
                if !own.0.is_empty() {
                    out.bytes(*number, &own.0);
                }
                continue;
            }
            let (Some(value), Some(ty)) = (object.get(field.name), described.fields.get(field.name)) else {
                continue;
            };
            match field.either {
                Some(either) => self.either(ty, either, *number, value, out),
                None => self.field(ty, *number, value, out),
            }
        }
    }

    fn field(&self, ty: &Type, number: u64, value: &Value, out: &mut Out) {
        match (ty, value) {
            (_, Value::Null) => {}
            (Type::List(items, _), Value::Array(list)) => {
                for item in list {
                    self.value(items, number, item, out);
                }
            }
            (Type::Map(values, _), Value::Object(map)) => {
                for (key, value) in map {
                    let mut pair = Out::default();
                    pair.bytes(1, key.as_bytes());
                    self.value(values, 2, value, &mut pair);
                    out.bytes(number, &pair.0);
                }
            }
            (ty, value) => self.value(ty, number, value, out),
        }
    }

    fn value(&self, ty: &Type, number: u64, value: &Value, out: &mut Out) {
        match (ty, value) {
            (Type::Object(index), Value::Object(fields)) => {
                let mut inner = Out::default();
                if let Some(message) = message_for(&self.schemas.definitions[*index].name) {
                    self.message(*index, message, fields, &mut inner);
                }
                out.bytes(number, &inner.0);
            }
            (Type::String, Value::String(text)) => out.bytes(number, text.as_bytes()),
            (Type::Bytes, Value::String(text)) => out.bytes(number, &STANDARD.decode(text).unwrap_or_default()),
            (Type::Quantity, Value::String(text)) => out.within(number, |inner| inner.bytes(1, text.as_bytes())),
            (Type::Quantity, amount @ Value::Number(_)) => {
                out.within(number, |inner| inner.bytes(1, amount.to_string().as_bytes()));
            }
            (Type::Time, Value::String(text)) => out.within(number, |inner| time(text, inner)),
            (Type::IntOrString, Value::String(text)) => out.within(number, |inner| {
                inner.number(1, 1);
                inner.bytes(3, text.as_bytes());
            }),
            (Type::IntOrString, amount) => out.within(number, |inner| {
                inner.number(1, 0);
                inner.number(2, amount.as_i64().unwrap_or_default().cast_unsigned());
            }),
            (Type::Any, value) => out.within(number, |inner| inner.bytes(1, value.to_string().as_bytes())),
            // A list within a map is in a message of one field.
            (Type::List(items, _), Value::Array(list)) => {
                let mut inner = Out::default();
                for item in list {
                    self.value(items, 1, item, &mut inner);
                }
                out.bytes(number, &inner.0);
            }
            (Type::Boolean, Value::Bool(truth)) => out.number(number, u64::from(*truth)),
            (Type::Int32 | Type::Int64, Value::Number(amount)) => {
                out.number(number, amount.as_i64().unwrap_or_default().cast_unsigned());
            }
            (Type::Number, Value::Number(amount)) => out.double(number, amount.as_f64().unwrap_or_default()),
            _ => {}
        }
    }

    /// A schema, or what is simpler; or a map of such.
    fn either(&self, ty: &Type, either: Either, number: u64, value: &Value, out: &mut Out) {
        let (Type::Map(..), Value::Object(map)) = (ty, value) else {
            let mut inner = Out::default();
            self.one_of(either, value, &mut inner);
            return out.bytes(number, &inner.0);
        };
        for (key, value) in map {
            let mut pair = Out::default();
            pair.bytes(1, key.as_bytes());
            let mut inner = Out::default();
            self.one_of(either, value, &mut inner);
            pair.bytes(2, &inner.0);
            out.bytes(number, &pair.0);
        }
    }

    fn one_of(&self, either: Either, value: &Value, out: &mut Out) {
        let (schema, simple) = either.numbers();
        match value {
            Value::Object(_) => self.part(JSON_SCHEMA, Some(value), schema, out),
            Value::Bool(truth) => out.number(simple, u64::from(*truth)),
            Value::Array(list) => {
                for item in list {
                    match item {
                        Value::String(text) => out.bytes(simple, text.as_bytes()),
                        item => self.part(JSON_SCHEMA, Some(item), simple, out),
                    }
                }
            }
            _ => {}
        }
        // A schema comes with a statement that it is allowed.
        if either == Either::Bool && value.is_object() {
            out.number(simple, 1);
        }
    }
}

/// Seconds and nanoseconds since 1970.
fn time(text: &str, out: &mut Out) {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        out.number(1, time.as_second().cast_unsigned());
        out.number(2, i64::from(time.subsec_nanosecond()).cast_unsigned());
    }
}

/// The bytes of a message. <https://protobuf.dev/programming-guides/encoding/>
#[derive(Default)]
struct Out(Vec<u8>);

impl Out {
    fn number(&mut self, field: u64, value: u64) {
        self.varint(field << 3);
        self.varint(value);
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn double(&mut self, field: u64, value: f64) {
        self.varint(field << 3 | 1);
        self.0.extend_from_slice(&value.to_bits().to_le_bytes());
    }

    fn within(&mut self, field: u64, write: impl FnOnce(&mut Out)) {
        let mut inner = Out::default();
        write(&mut inner);
        self.bytes(field, &inner.0);
    }

    #[expect(clippy::cast_possible_truncation, reason = "seven bits at a time")]
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::decode;
    use super::*;

    /// The decoder was tested against bytes written by hand.
    #[track_caller]
    fn survives(object: &Value) {
        assert_eq!(decode(&encode(object).unwrap()).unwrap(), *object);
    }

    #[test]
    fn what_is_written_can_be_read() {
        survives(
            &json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"k": "/wA="}, "immutable": false}),
        );
        survives(
            &json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "creationTimestamp": "2026-01-01T00:00:00Z",
                "managedFields": [{"manager": "m", "fieldsV1": {"f:spec": {}}}]},
            "spec": {"volumes": [{"name": "v", "emptyDir": {}}], "terminationGracePeriodSeconds": -1,
                "containers": [{"name": "c", "resources": {"limits": {"cpu": "500m"}}, "livenessProbe": {"httpGet": {"port": "http"}}}]}}),
        );
        survives(
            &json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"},
            "spec": {"renewTime": "2026-01-01T00:00:00.000001Z", "leaseDurationSeconds": 40}}),
        );
        survives(
            &json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "metadata": {},
            "spec": {"extra": {"k": ["a", "b"]}, "user": "u"}}),
        );
        survives(
            &json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "a.b"},
            "spec": {"group": "b", "versions": [{"name": "v1", "schema": {"openAPIV3Schema": {
                "type": "object", "maximum": 1.5, "default": {"a": 1}, "enum": ["x", 1],
                "items": {"type": "string"}, "additionalProperties": true, "additionalItems": {"type": "string"},
                "properties": {"p": {"items": [{"type": "string"}], "additionalProperties": {"nullable": true}}},
                "dependencies": {"a": ["b"], "c": {"type": "string"}},
                "x-kubernetes-validations": [{"rule": "true"}]}}}]}}),
        );
    }

    #[test]
    fn lists_statuses_and_events() {
        let list = json!({"apiVersion": "v1", "kind": "PodList", "metadata": {"resourceVersion": "7"},
            "items": [{"metadata": {"name": "p"}}]});
        let bytes = encode(&list).unwrap();
        // metadata { resourceVersion }, items { metadata { name } }
        assert!(bytes.ends_with(&[
            2 << 3 | 2,
            12,
            1 << 3 | 2,
            3,
            2 << 3 | 2,
            1,
            b'7',
            2 << 3 | 2,
            5,
            1 << 3 | 2,
            3,
            1 << 3 | 2,
            1,
            b'p',
            3 << 3 | 2,
            0,
            4 << 3 | 2,
            0
        ]));
        assert!(encode(&json!({"apiVersion": "v1", "kind": "Status", "code": 404})).is_some());
        assert!(encode(&json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "items": [{"metadata": {"name": "a"}}]})).is_some());
        assert!(encode(&json!({"apiVersion": "example.com/v1", "kind": "Thing"})).is_none());
        let event = encode_event("ADDED", &json!({"apiVersion": "v1", "kind": "Pod", "metadata": {}})).unwrap();
        assert_eq!(event[..4], u32::try_from(event.len() - 4).unwrap().to_be_bytes());
    }
}
