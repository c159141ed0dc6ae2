//! The walk of an object along its schema.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::{Definition, Node, Schemas, Type, Unknown, presence};
use crate::quantity::Quantity;
use crate::{GroupVersionKind, Status};

/// A value that is not of its field's type, in the words of Kubernetes' JSON decoder.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TypeError(String);

impl TypeError {
    /// 400, naming the kind.
    pub fn into_status(self, kind: &GroupVersionKind) -> Status {
        Status::bad_request(format!(
            "{name} in version \"{version}\" cannot be handled as a {name}: {self}",
            name = kind.kind,
            version = kind.version,
        ))
    }
}

/// Unknown fields that are reported; a body of nonsense should not be answered at length.
const MAX_UNKNOWN: usize = 100;

struct Walk<'s> {
    schemas: &'s Schemas,
    path: String,
    /// The innermost type with a name, for errors.
    within: &'s str,
    unknown: Vec<String>,
}

pub(super) fn normalise(node: Node<'_>, value: &mut Value) -> Result<Vec<String>, TypeError> {
    let mut walk = Walk {
        schemas: node.schemas,
        path: String::new(),
        within: "",
        unknown: Vec::new(),
    };
    match (node.described(), node.at) {
        (Some(definition), _) => walk.object(definition, value)?,
        (None, super::At::Type(ty)) => walk.value(ty, value)?,
        (None, super::At::Definition(_)) => {}
    }
    Ok(walk.unknown)
}

impl<'s> Walk<'s> {
    fn value(&mut self, ty: &'s Type, value: &mut Value) -> Result<(), TypeError> {
        match ty {
            Type::Any => {}
            _ if self.schemas.lenient && !is_container(ty, value) => {}
            Type::Object(index) => self.object(&self.schemas.definitions[*index], value)?,
            Type::Map(values, _) => self.map(ty, values, value)?,
            Type::List(items, _) => self.list(ty, items, value)?,
            Type::String if value.is_string() => {}
            Type::Boolean if value.is_boolean() => {}
            Type::Number if value.is_number() => {}
            Type::Int64 if value.is_i64() => {}
            Type::Int32 if value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()) => {}
            Type::IntOrString if value.is_string() => {}
            Type::IntOrString if value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()) => {}
            Type::Quantity => self.quantity(value)?,
            Type::Time => self.time(value)?,
            Type::Bytes => self.bytes(value)?,
            Type::String | Type::Boolean | Type::Number | Type::Int64 | Type::Int32 | Type::IntOrString => {
                return Err(self.mismatch(ty, value));
            }
        }
        Ok(())
    }

    fn object(&mut self, definition: &'s Definition, value: &mut Value) -> Result<(), TypeError> {
        let Value::Object(fields) = value else {
            return Err(self.wrong(&short(&definition.name), value));
        };
        let outer = std::mem::replace(&mut self.within, &definition.name);
        self.drop_unknown(definition, fields);
        if !self.schemas.lenient {
            presence::complete(definition, fields);
        }
        for (name, value) in fields.iter_mut() {
            if let Some(ty) = definition.fields.get(name.as_str()) {
                self.below(name, |walk| walk.value(ty, value))?;
            }
        }
        if !self.schemas.lenient {
            presence::reduce(definition, fields);
        }
        self.within = outer;
        Ok(())
    }

    fn drop_unknown(&mut self, definition: &Definition, fields: &mut Map<String, Value>) {
        if definition.unknown == Unknown::Kept {
            return;
        }
        let path = &self.path;
        let unknown = &mut self.unknown;
        let lenient = self.schemas.lenient;
        fields.retain(|name, value| {
            let known = definition.fields.contains_key(name.as_str());
            if !known && unknown.len() < MAX_UNKNOWN {
                let dot = if path.is_empty() { "" } else { "." };
                unknown.push(format!("{path}{dot}{name}"));
            }
            known && (lenient || !value.is_null())
        });
    }

    fn map(&mut self, ty: &'s Type, values: &'s Type, value: &mut Value) -> Result<(), TypeError> {
        let Value::Object(entries) = value else {
            return Err(self.mismatch(ty, value));
        };
        for (key, value) in entries.iter_mut() {
            if value.is_null() && !self.schemas.lenient {
                *value = zero(values);
            }
            self.below(key, |walk| walk.value(values, value))?;
        }
        Ok(())
    }

    fn list(&mut self, ty: &'s Type, items: &'s Type, value: &mut Value) -> Result<(), TypeError> {
        let Value::Array(list) = value else {
            return Err(self.mismatch(ty, value));
        };
        for (index, item) in list.iter_mut().enumerate() {
            if item.is_null() && !self.schemas.lenient {
                *item = zero(items);
            }
            let length = self.path.len();
            let _ = write!(self.path, "[{index}]");
            self.value(items, item)?;
            self.path.truncate(length);
        }
        Ok(())
    }

    fn quantity(&mut self, value: &mut Value) -> Result<(), TypeError> {
        let text = match &*value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            other => return Err(self.mismatch(&Type::Quantity, other)),
        };
        let quantity = Quantity::parse(&text)
            .map_err(|error| TypeError(error.to_string()))?
            .to_string();
        if value.as_str() != Some(quantity.as_str()) {
            *value = Value::String(quantity);
        }
        Ok(())
    }

    fn time(&mut self, value: &Value) -> Result<(), TypeError> {
        let Some(text) = value.as_str() else {
            return Err(self.mismatch(&Type::Time, value));
        };
        match text.parse::<jiff::Timestamp>() {
            Ok(_) => Ok(()),
            Err(_) => {
                let text = crate::field::quote(text);
                Err(TypeError(format!(
                    "parsing time {text} as \"2006-01-02T15:04:05Z07:00\": cannot parse {text}"
                )))
            }
        }
    }

    fn bytes(&mut self, value: &Value) -> Result<(), TypeError> {
        let Some(text) = value.as_str() else {
            return Err(self.mismatch(&Type::Bytes, value));
        };
        match STANDARD.decode(text.replace(['\n', '\r'], "")) {
            Ok(_) => Ok(()),
            Err(base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _)) => {
                Err(TypeError(format!("illegal base64 data at input byte {at}")))
            }
            Err(_) => Err(TypeError(format!("illegal base64 data at input byte {}", text.len()))),
        }
    }

    fn below(&mut self, name: &str, visit: impl FnOnce(&mut Self) -> Result<(), TypeError>) -> Result<(), TypeError> {
        let length = self.path.len();
        if length > 0 {
            self.path.push('.');
        }
        self.path.push_str(name);
        visit(self)?;
        self.path.truncate(length);
        Ok(())
    }

    fn mismatch(&self, expected: &Type, actual: &Value) -> TypeError {
        self.wrong(&self.go_type(expected), actual)
    }

    fn wrong(&self, expected: &str, actual: &Value) -> TypeError {
        let actual = match actual {
            Value::Null => "null".to_owned(),
            Value::Bool(_) => "bool".to_owned(),
            Value::Number(number) if expected.starts_with("int") => format!("number {number}"),
            Value::Number(_) => "number".to_owned(),
            Value::String(_) => "string".to_owned(),
            Value::Array(_) => "array".to_owned(),
            Value::Object(_) => "object".to_owned(),
        };
        if self.path.is_empty() {
            return TypeError(format!(
                "json: cannot unmarshal {actual} into Go value of type {expected}"
            ));
        }
        let within = self.within.rsplit('.').next().unwrap_or_default();
        let path = without_indices(&self.path);
        TypeError(format!(
            "json: cannot unmarshal {actual} into Go struct field {within}.{path} of type {expected}"
        ))
    }

    fn go_type(&self, ty: &Type) -> String {
        match ty {
            Type::Any => "interface {}".to_owned(),
            Type::Object(index) => short(&self.schemas.definitions[*index].name),
            Type::Map(values, _) => format!("map[string]{}", self.go_type(values)),
            Type::List(items, _) => format!("[]{}", self.go_type(items)),
            Type::String => "string".to_owned(),
            Type::Bytes => "[]uint8".to_owned(),
            Type::Time => "v1.Time".to_owned(),
            Type::Quantity => "resource.Quantity".to_owned(),
            Type::IntOrString => "intstr.IntOrString".to_owned(),
            Type::Int32 => "int32".to_owned(),
            Type::Int64 => "int64".to_owned(),
            Type::Number => "float64".to_owned(),
            Type::Boolean => "bool".to_owned(),
        }
    }
}

/// Is the value an object or list, and of a type that has something below it?
fn is_container(ty: &Type, value: &Value) -> bool {
    match ty {
        Type::Object(_) | Type::Map(..) => value.is_object(),
        Type::List(..) => value.is_array(),
        _ => false,
    }
}

/// `io.k8s.api.core.v1.PodSpec` as `v1.PodSpec`.
fn short(definition: &str) -> String {
    let mut parts = definition.rsplit('.');
    let kind = parts.next().unwrap_or_default();
    let version = parts.next().unwrap_or_default();
    format!("{version}.{kind}")
}

fn without_indices(path: &str) -> String {
    let mut plain = String::with_capacity(path.len());
    let mut inside = false;
    for c in path.chars() {
        match c {
            '[' => inside = true,
            ']' => inside = false,
            c if !inside => plain.push(c),
            _ => {}
        }
    }
    plain
}

/// What null stands for among the items of a list or the values of a map.
pub(super) fn zero(ty: &Type) -> Value {
    match ty {
        Type::Any | Type::Time => Value::Null,
        Type::Object(_) | Type::Map(..) => Value::Object(Map::new()),
        Type::List(..) => Value::Array(Vec::new()),
        Type::String | Type::Bytes => Value::from(""),
        Type::Quantity => Value::from("0"),
        Type::IntOrString | Type::Int32 | Type::Int64 | Type::Number => Value::from(0),
        Type::Boolean => Value::from(false),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    #[allow(clippy::needless_pass_by_value, reason = "a golden reads best in place")]
    fn check(mut pod: Value, expected: Expect) {
        let node = Schemas::builtin().node("io.k8s.api.core.v1.Pod").unwrap();
        let actual = match node.normalise(&mut pod) {
            Ok(unknown) => format!("{pod} {unknown:?}"),
            Err(error) => error.to_string(),
        };
        expected.assert_eq(&actual);
    }

    #[test]
    fn unknown_fields_go_and_are_reported() {
        check(
            json!({"kind": "Pod", "metadata": {"name": "a", "lables": {}, "labels": {"any": "x"}},
                "spec": {"foo": 1, "containers": [{"name": "a"}, {"name": "b", "comand": []}]}}),
            expect![[
                r#"{"kind":"Pod","metadata":{"labels":{"any":"x"},"name":"a"},"spec":{"containers":[{"name":"a","resources":{}},{"name":"b","resources":{}}]},"status":{}} ["metadata.lables", "spec.foo", "spec.containers[1].comand"]"#
            ]],
        );
    }

    #[test]
    fn normal_form() {
        check(
            json!({"metadata": {"creationTimestamp": null, "labels": {"a": null}},
                "spec": {"containers": [null, {"args": [null], "resources": {"limits": {"cpu": 0.5, "memory": "1024Mi", "x/y": 1000}}}]}}),
            expect![[
                r#"{"metadata":{"labels":{"a":""}},"spec":{"containers":[{"resources":{}},{"args":[""],"resources":{"limits":{"cpu":"500m","memory":"1Gi","x/y":"1k"}}}]},"status":{}} []"#
            ]],
        );
    }

    #[test]
    fn wrong_types() {
        let container = |value: Value| json!({"spec": {"containers": [value]}});
        check(
            container(json!({"env": [{"name": "a", "value": 1}]})),
            expect![
                "json: cannot unmarshal number into Go struct field EnvVar.spec.containers.env.value of type string"
            ],
        );
        check(
            container(json!({"ports": [{"containerPort": "80"}]})),
            expect![
                "json: cannot unmarshal string into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32"
            ],
        );
        check(
            container(json!({"ports": [{"containerPort": 3_000_000_000_u64}]})),
            expect![
                "json: cannot unmarshal number 3000000000 into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32"
            ],
        );
        check(
            json!({"spec": {"containers": {}}}),
            expect![
                "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container"
            ],
        );
        check(
            json!({"metadata": {"labels": {"a": true}}}),
            expect!["json: cannot unmarshal bool into Go struct field ObjectMeta.metadata.labels.a of type string"],
        );
        check(
            json!({"spec": "x"}),
            expect!["json: cannot unmarshal string into Go struct field Pod.spec of type v1.PodSpec"],
        );
        check(
            json!([]),
            expect!["json: cannot unmarshal array into Go value of type v1.Pod"],
        );
        check(
            container(json!({"resources": {"limits": {"cpu": "lots"}}})),
            expect!["quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"],
        );
        check(
            json!({"metadata": {"deletionTimestamp": "soon"}}),
            expect![[r#"parsing time "soon" as "2006-01-02T15:04:05Z07:00": cannot parse "soon""#]],
        );
    }

    #[test]
    fn secrets_are_base64() {
        let node = Schemas::builtin().node("io.k8s.api.core.v1.Secret").unwrap();
        assert!(node.normalise(&mut json!({"data": {"a": "aGk="}})).is_ok());
        let error = node.normalise(&mut json!({"data": {"a": "a!"}})).unwrap_err();
        let kind = GroupVersionKind::from_static("", "v1", "Secret");
        expect![[r#"400 BadRequest: Secret in version "v1" cannot be handled as a Secret: illegal base64 data at input byte 1"#]]
            .assert_eq(&format!("{:?}", error.into_status(&kind)));
    }
}
