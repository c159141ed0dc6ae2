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
fn what_only_servers_say() {
    survives(
        &json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "code": 404, "reason": "NotFound",
        "message": "m", "details": {"name": "n", "causes": [{"field": "f", "message": "m", "reason": "r"}], "retryAfterSeconds": 3}}),
    );
    survives(
        &json!({"apiVersion": "v1", "kind": "PodList", "metadata": {"resourceVersion": "7", "continue": "c", "remainingItemCount": 0},
        "items": [{"metadata": {"name": "a"}}, {"metadata": {"name": "b"}}]}),
    );
    survives(
        &json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {},
        "items": [{"metadata": {"name": "a", "labels": {"k": "v"}}}]}),
    );
    survives(
        &json!({"apiVersion": "v1", "kind": "APIGroupList", "groups": [{"name": "apps",
        "versions": [{"groupVersion": "apps/v1", "version": "v1"}], "preferredVersion": {"groupVersion": "apps/v1", "version": "v1"}}]}),
    );
    survives(
        &json!({"apiVersion": "v1", "kind": "APIResourceList", "groupVersion": "v1", "resources": [
        {"name": "pods", "singularName": "pod", "namespaced": true, "kind": "Pod", "verbs": ["get", "list"], "shortNames": ["po"],
         "categories": ["all"], "storageVersionHash": "h"}]}),
    );
    survives(
        &json!({"apiVersion": "apidiscovery.k8s.io/v2", "kind": "APIGroupDiscoveryList", "metadata": {}, "items": [
        {"metadata": {"name": "apps"}, "versions": [{"version": "v1", "freshness": "Current", "resources": [
            {"resource": "deployments", "responseKind": {"kind": "Deployment"}, "scope": "Namespaced", "verbs": ["get"],
             "subresources": [{"subresource": "status", "responseKind": {"kind": "Deployment"}, "verbs": ["get"]}]}]}]}]}),
    );
    survives(
        &json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "a.b"},
        "spec": {"group": "b", "versions": [{"name": "v1", "subresources": {"status": {}}}]}}),
    );
}

/// Of what JSON does not know, protobuf has a message around: all of it in one.
#[test]
fn inlined_messages_are_written_once() {
    let policy = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "p"},
        "spec": {"matchConstraints": {"resourceRules": [{"operations": ["CREATE"], "apiGroups": [""], "resourceNames": ["x"],
            "apiVersions": ["v1"], "resources": ["pods"]}]}}});
    survives(&policy);
    let encoder = Encoder::of("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy").unwrap();
    let mut message = Vec::new();
    encoder
        .message(&serde_json::to_vec(&policy).unwrap(), &mut message)
        .unwrap();
    // resourceNames, ruleWithOperations { operations, rule { apiGroups, apiVersions, resources } }
    let rule = [&[1 << 3 | 2, 0, 2 << 3 | 2, 2][..], b"v1", &[3 << 3 | 2, 4], b"pods"].concat();
    let with_operations = [&[1 << 3 | 2, 6][..], b"CREATE", &[2 << 3 | 2, 12], &rule].concat();
    let named = [&[1 << 3 | 2, 1][..], b"x", &[2 << 3 | 2, 22], &with_operations].concat();
    assert!(message.ends_with(&named), "{message:?}");
}

/// Lengths of messages stand before them and are known behind: all widths of them.
#[test]
fn lengths_of_all_widths() {
    for length in [
        0, 1, 100, 117, 118, 119, 127, 128, 200, 16_370, 16_384, 70_000, 2_100_000,
    ] {
        survives(
            &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"k": "x".repeat(length)}}),
        );
    }
}

#[test]
fn events_are_framed() {
    assert!(encode(&json!({"apiVersion": "example.com/v1", "kind": "Thing"})).is_none());
    assert!(encode(&json!({"apiVersion": "example.com/v1", "kind": "ThingList", "items": []})).is_none());
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {}});
    let event = encode_event("ADDED", &pod).unwrap();
    assert_eq!(event[..4], u32::try_from(event.len() - 4).unwrap().to_be_bytes());
    // type, object { raw }
    let object = encode(&pod).unwrap();
    let length = u8::try_from(object.len()).unwrap();
    let expected = [
        &[1 << 3 | 2, 5][..],
        b"ADDED",
        &[2 << 3 | 2, length + 2, 1 << 3 | 2, length],
        &object,
    ]
    .concat();
    assert_eq!(event[4..], expected);
}

/// Objects of every kind with values in any of their fields, made out of the schemas: what the table or the walk would lose is
/// missed by the reader.
mod every_kind {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::super::super::{
        Either, JSON_SCHEMA, Special, TABLE, decode, definition_of, encode, message_for, schemas_of,
    };
    use crate::schema::{Schemas, Type};

    /// Deterministic dice.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, sides: u64) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (mixed ^ (mixed >> 31)) % sides
        }
    }

    struct Maker<'d> {
        schemas: &'static Schemas,
        dice: &'d mut Dice,
    }

    impl Maker<'_> {
        fn message(&mut self, definition: usize, message: &str, depth: u32) -> Map<String, Value> {
            let mut object = Map::new();
            self.fill(definition, message, depth, &mut object);
            object
        }

        fn fill(&mut self, definition: usize, message: &str, depth: u32, object: &mut Map<String, Value>) {
            let mut fields: Vec<_> = TABLE[message].iter().collect();
            fields.sort_by_key(|(number, _)| **number);
            for (_, field) in fields {
                if self.dice.roll(4) == 0 {
                    continue;
                }
                match (
                    self.schemas.definitions[definition].fields.get(field.name),
                    field.inlined,
                ) {
                    (Some(ty), _) => {
                        let value = match field.special {
                            Some(Special::Either(either)) => self.either(ty, either, depth),
                            Some(Special::Empty) => Some(json!({})),
                            Some(Special::Wrapped) | None => self.value(ty, depth),
                        };
                        let zero = [json!(0), json!(false)];
                        if let Some(value) = value.filter(|value| field.optional || !zero.contains(value)) {
                            object.insert(field.name.to_owned(), value);
                        }
                    }
                    (None, Some(inner)) => self.fill(definition, inner, depth, object),
                    (None, None) => {}
                }
            }
        }

        fn schema(&mut self, depth: u32) -> Value {
            let definition = self.schemas.by_name[&definition_of(JSON_SCHEMA)];
            Value::Object(self.message(definition, JSON_SCHEMA, depth + 3))
        }

        fn either(&mut self, ty: &Type, either: Either, depth: u32) -> Option<Value> {
            if depth > 6 {
                return None;
            }
            let one = match (self.dice.roll(2), either) {
                (0, _) => self.schema(depth),
                (_, Either::Array) => json!([self.schema(depth), self.schema(depth)]),
                (_, Either::Bool) => json!(self.dice.roll(2) == 0),
                (_, Either::Strings) => json!(["a", "b"]),
            };
            Some(match ty {
                Type::Map(..) => json!({ "k": one }),
                _ => one,
            })
        }

        fn value(&mut self, ty: &Type, depth: u32) -> Option<Value> {
            Some(match ty {
                Type::Object(_) if depth > 7 => return None,
                Type::Object(index) => {
                    let message = message_for(&self.schemas.definitions[*index].name)?;
                    Value::Object(self.message(*index, message, depth + 1))
                }
                Type::Map(values, _) => {
                    let pairs = (0..=self.dice.roll(2))
                        .map(|index| Some((format!("k{index}"), self.value(values, depth + 1)?)));
                    Value::Object(pairs.collect::<Option<_>>()?)
                }
                Type::List(items, _) => {
                    let items = (0..=self.dice.roll(2)).map(|_| self.value(items, depth + 1));
                    Value::Array(items.collect::<Option<_>>()?)
                }
                Type::Any => json!({ "any": [1, "x", null] }),
                Type::String => json!(["é", "a\"\\\n", "text"][self.dice.roll(3) as usize]),
                Type::Bytes => json!(["AA==", "/wA=", "aGVsbG8="][self.dice.roll(3) as usize]),
                Type::Time => json!(["2026-02-03T04:05:06Z", "1969-12-31T23:59:59Z"][self.dice.roll(2) as usize]),
                Type::Quantity => json!(["500m", "1Gi"][self.dice.roll(2) as usize]),
                Type::IntOrString if self.dice.roll(2) == 0 => json!("http"),
                Type::Int32 | Type::IntOrString => json!([-1, 0, 2_147_483_647][self.dice.roll(3) as usize]),
                Type::Int64 => json!([i64::MIN, 0, i64::MAX][self.dice.roll(3) as usize]),
                Type::Number => json!([1.5, -2.25][self.dice.roll(2) as usize]),
                Type::Boolean => json!(self.dice.roll(2) == 0),
            })
        }
    }

    /// Whole objects, by the version and kind that they state.
    fn kinds() -> Vec<(&'static str, String)> {
        let mut kinds = Vec::new();
        for name in TABLE.keys() {
            let Some((schemas, definition)) = schemas_of(name) else {
                continue;
            };
            let fields = &schemas.definitions[definition].fields;
            let mut parts = name.split('.');
            let (package, version) = (parts.next().unwrap(), parts.next().unwrap());
            if fields.contains_key("metadata") && fields.contains_key("kind") && package != "meta" {
                let group = if package == "core" {
                    String::new()
                } else {
                    format!("{package}.k8s.io/")
                };
                kinds.push((*name, format!("{group}{version}")));
            }
        }
        kinds.sort_unstable();
        assert!(kinds.len() > 65, "{}", kinds.len());
        kinds
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn nothing_is_lost(seed in any::<u64>()) {
            let mut dice = Dice(seed);
            for (name, api_version) in kinds() {
                let (schemas, definition) = schemas_of(name).unwrap();
                let mut object = Maker { schemas, dice: &mut dice }.message(definition, name, 0);
                object.insert("apiVersion".to_owned(), json!(api_version));
                object.insert("kind".to_owned(), json!(name.rsplit('.').next().unwrap()));
                let object = Value::Object(object);
                let read = decode(&encode(&object).unwrap()).unwrap();
                prop_assert_eq!(read, object, "{}", name);
            }
        }
    }
}
