//! Schemas and objects, and what is said about them.

use expect_test::{Expect, expect};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;
use serde_json::{Value, json};

use super::*;
use crate::field::{Errors, Path};

fn schema(value: Value) -> Schema {
    let props: JSONSchemaProps = serde_json::from_value(value).unwrap();
    Schema::new(&props).unwrap()
}

fn lines(errors: &Errors) -> String {
    let lines: Vec<String> = errors.iter().map(|e| format!("{} {e}", e.reason.as_str())).collect();
    lines.join("\n")
}

#[allow(clippy::needless_pass_by_value, reason = "literals read best in place")]
fn checked(value: Value, expected: Expect) {
    let mut errors = Errors::new();
    check(&Path::new("openAPIV3Schema"), &schema(value), &mut errors);
    expected.assert_eq(&lines(&errors));
}

#[test]
fn schemas_that_are_not_structural() {
    checked(
        json!({"type": "object", "properties": {"spec": {"type": "object"}}}),
        expect![""],
    );
    checked(
        json!({
            "properties": {
                "a": {}, "b": {"type": "array"}, "c": {"type": "array", "items": {}},
                "metadata": {"type": "object", "properties": {"name": {"type": "string"}, "labels": {"type": "object"}}},
                "kind": {"type": "integer"},
                "d": {"type": "string", "anyOf": [{"type": "string", "default": 1, "nullable": true, "title": "x", "description": "y"}]},
                "e": {"x-kubernetes-int-or-string": true, "x-kubernetes-preserve-unknown-fields": true},
                "f": {"type": "object", "x-kubernetes-embedded-resource": true, "additionalProperties": true},
                "g": {"type": "object", "oneOf": [{"properties": {"h": {"minimum": 1}}}]},
                "i": {"type": "string", "pattern": "["},
                "j": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
            },
            "additionalProperties": {"type": "string"},
        }),
        expect![[r#"
            FieldValueForbidden openAPIV3Schema.additionalProperties: Forbidden: must not be used at the root
            FieldValueRequired openAPIV3Schema.properties[a].type: Required value: must not be empty for specified object fields
            FieldValueRequired openAPIV3Schema.properties[b].items: Required value: must be specified
            FieldValueRequired openAPIV3Schema.properties[c].items.type: Required value: must not be empty for specified array items
            FieldValueForbidden openAPIV3Schema.properties[d].anyOf[0].default: Forbidden: must be undefined to be structural
            FieldValueForbidden openAPIV3Schema.properties[d].anyOf[0].description: Forbidden: must be empty to be structural
            FieldValueForbidden openAPIV3Schema.properties[d].anyOf[0].nullable: Forbidden: must be false to be structural
            FieldValueForbidden openAPIV3Schema.properties[d].anyOf[0].title: Forbidden: must be empty to be structural
            FieldValueForbidden openAPIV3Schema.properties[d].anyOf[0].type: Forbidden: must be empty to be structural
            FieldValueInvalid openAPIV3Schema.properties[e].x-kubernetes-preserve-unknown-fields: Invalid value: true: must be false if x-kubernetes-int-or-string is true
            FieldValueForbidden openAPIV3Schema.properties[f].additionalProperties: Forbidden: must not be used if x-kubernetes-embedded-resource is set
            FieldValueRequired openAPIV3Schema.properties[f].properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields
            FieldValueInvalid openAPIV3Schema.properties[i].pattern: Invalid value: "[": must be a valid regular expression, but isn't: regex parse error:
                [
                ^
            error: unclosed character class
            FieldValueInvalid openAPIV3Schema.properties[kind].type: Invalid value: "integer": must be string
            FieldValueForbidden openAPIV3Schema.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified
            FieldValueRequired openAPIV3Schema.type: Required value: must not be empty at the root"#]],
    );
}

#[test]
fn unsupported_keywords() {
    for (keyword, value) in [
        ("$ref", json!("x")),
        ("id", json!("x")),
        ("definitions", json!({"a": {}})),
    ] {
        let props: JSONSchemaProps = serde_json::from_value(json!({ keyword: value })).unwrap();
        let error = Schema::new(&props).unwrap_err().to_string();
        assert_eq!(error, format!("OpenAPIV3Schema '{keyword}' is not supported"));
    }
}

#[test]
fn unknown_fields_go() {
    let schema = schema(json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "known": {"type": "string"},
            "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                "properties": {"closed": {"type": "object", "properties": {"a": {"type": "string"}}}}},
            "list": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}}},
            "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"a": {"type": "string"}}}},
            "pod": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
        }},
    }}));
    let mut object = json!({
        "apiVersion": "a/v1", "kind": "K", "metadata": {"name": "x", "labels": {"a": "b"}}, "other": 1,
        "spec": {"known": "k", "unknown": 1, "open": {"any": 1, "closed": {"a": "", "b": 1}},
            "list": [{"a": "", "b": 1}], "map": {"x": {"a": "", "b": 1}},
            "pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": {}}},
    });
    let pruned = prune(&mut object, &schema, true);
    assert_eq!(
        pruned,
        [
            "other",
            "spec.list[0].b",
            "spec.map.x.b",
            "spec.open.closed.b",
            "spec.unknown"
        ]
    );
    assert_eq!(
        object,
        json!({
            "apiVersion": "a/v1", "kind": "K", "metadata": {"name": "x", "labels": {"a": "b"}},
            "spec": {"known": "k", "open": {"any": 1, "closed": {"a": ""}}, "list": [{"a": ""}], "map": {"x": {"a": ""}},
                "pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": {}}},
        })
    );
}

#[test]
fn defaults_fill_what_is_missing_or_null() {
    let schema = schema(json!({"type": "object", "properties": {
        "a": {"type": "string", "default": "x"},
        "b": {"type": "string", "default": "x", "nullable": true},
        "c": {"type": "object", "default": {}, "properties": {"d": {"type": "integer", "default": 3}}},
        "e": {"type": "object", "properties": {"f": {"type": "integer", "default": 3}}},
        "g": {"type": "array", "items": {"type": "object", "properties": {"h": {"type": "integer", "default": 1}}}},
        "i": {"type": "string"},
        "j": {"type": "object", "additionalProperties": {"type": "string", "default": "y"}},
    }}));
    let mut object = json!({"a": null, "b": null, "g": [{}], "i": null, "j": {"k": null}});
    drop_nulls(&mut object, Some(&schema));
    apply_defaults(&mut object, &schema);
    assert_eq!(
        object,
        json!({"a": "x", "b": null, "c": {"d": 3}, "g": [{"h": 1}], "j": {"k": "y"}})
    );
}

fn widget() -> Schema {
    schema(
        json!({"type": "object", "properties": {"spec": {"type": "object", "required": ["name"], "properties": {
            "name": {"type": "string", "maxLength": 3, "minLength": 1, "pattern": "^[a-z]+$"},
            "replicas": {"type": "integer", "minimum": 0, "maximum": 10, "format": "int32"},
            "ratio": {"type": "number", "exclusiveMaximum": true, "maximum": 1, "multipleOf": 0.25},
            "mode": {"type": "string", "enum": ["On", "Off"]},
            "level": {"type": "integer", "enum": [1, 2]},
            "port": {"x-kubernetes-int-or-string": true},
            "tags": {"type": "array", "maxItems": 2, "minItems": 1, "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
            "unique": {"type": "array", "uniqueItems": true, "items": {"type": "string"}},
            "ports": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}, "n": {"type": "integer", "minimum": 1}}},
                "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
            "labels": {"type": "object", "maxProperties": 1, "minProperties": 1, "additionalProperties": {"type": "string"}},
            "time": {"type": "string", "format": "date-time"},
            "maybe": {"type": "string", "nullable": true},
            "either": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
            "some": {"type": "integer", "anyOf": [{"minimum": 5}, {"maximum": 1}], "not": {"enum": [7]}},
            "all": {"type": "integer", "allOf": [{"minimum": 5}, {"maximum": 6}]},
        }}}}),
    )
}

#[allow(clippy::needless_pass_by_value, reason = "literals read best in place")]
fn validated(spec: Value, old: Option<Value>, expected: Expect) {
    let schema = widget();
    let object = json!({ "spec": spec });
    let old = old.map(|old| json!({ "spec": old }));
    let mut errors = Errors::new();
    validate(&Path::ROOT, &schema, &object, old.as_ref(), &mut errors);
    check_lists(&Path::ROOT, &schema, &object, &mut errors);
    expected.assert_eq(&lines(&errors));
}

#[test]
fn values_that_break_rules() {
    validated(
        json!({"name": "abc", "port": "http", "maybe": null, "ratio": 0.5, "level": 2}),
        None,
        expect![""],
    );
    validated(json!({}), None, expect!["FieldValueRequired spec.name: Required value"]);
    validated(
        json!({
            "name": "ABCD", "replicas": -1, "ratio": 1.1, "mode": "on", "level": 3, "port": true, "tags": ["a", "a", "b"],
            "unique": ["a", "a"], "ports": [{"name": "a"}, {"name": "a"}], "labels": {"a": "b", "c": 1}, "time": "now",
            "maybe": 1, "either": {}, "some": 3, "all": 9,
        }),
        None,
        expect![[r#"
            FieldValueInvalid spec.all: Invalid value: 9: spec.all in body should be less than or equal to 6
            FieldValueInvalid <nil>: Invalid value: "": "spec.all" must validate all the schemas (allOf)
            FieldValueInvalid <nil>: Invalid value: "": "spec.either" must validate one and only one schema (oneOf). Found none valid
            FieldValueRequired spec.either.a: Required value
            FieldValueTooMany spec.labels: Too many: 2: must have at most 1 item
            FieldValueTypeInvalid spec.labels.c: Invalid value: "integer": spec.labels.c in body must be of type string: "integer"
            FieldValueNotSupported spec.level: Unsupported value: 3: supported values: "1", "2"
            FieldValueTypeInvalid spec.maybe: Invalid value: "integer": spec.maybe in body must be of type string: "integer"
            FieldValueNotSupported spec.mode: Unsupported value: "on": supported values: "On", "Off"
            FieldValueTooLong spec.name: Too long: may not be more than 3 bytes
            FieldValueTypeInvalid spec.port: Invalid value: "boolean": spec.port in body must be of type integer,string: "boolean"
            FieldValueInvalid spec.ratio: Invalid value: 1.1: spec.ratio in body should be a multiple of 0.25
            FieldValueInvalid spec.ratio: Invalid value: 1.1: spec.ratio in body should be less than 1
            FieldValueInvalid spec.replicas: Invalid value: -1: spec.replicas in body should be greater than or equal to 0
            FieldValueInvalid <nil>: Invalid value: "": "spec.some" must validate at least one schema (anyOf)
            FieldValueInvalid spec.some: Invalid value: 3: spec.some in body should be greater than or equal to 5
            FieldValueTooMany spec.tags: Too many: 3: must have at most 2 items
            FieldValueTypeInvalid spec.time: Invalid value: "now": spec.time in body must be of type date-time: "now"
            FieldValueInvalid spec.unique: Invalid value: "": spec.unique in body shouldn't contain duplicates
            FieldValueDuplicate spec.ports[1]: Duplicate value: {"name":"a"}
            FieldValueDuplicate spec.tags[1]: Duplicate value: "a""#]],
    );
    validated(
        json!({"name": "", "replicas": "3", "tags": [], "labels": {}, "either": {"a": "", "b": ""}, "some": 7, "mode": null}),
        None,
        expect![[r#"
            FieldValueInvalid <nil>: Invalid value: "": "spec.either" must validate one and only one schema (oneOf). Found 2 valid alternatives
            FieldValueInvalid spec.labels: Invalid value: 0: spec.labels in body should have at least 1 properties
            FieldValueTypeInvalid spec.mode: Invalid value: "null": spec.mode in body must be of type string: "null"
            FieldValueNotSupported spec.mode: Unsupported value: null: supported values: "On", "Off"
            FieldValueInvalid spec.name: Invalid value: "": spec.name in body should be at least 1 chars long
            FieldValueTypeInvalid spec.replicas: Invalid value: "string": spec.replicas in body must be of type integer: "string"
            FieldValueInvalid <nil>: Invalid value: "": "spec.some" must not validate the schema (not)
            FieldValueInvalid spec.tags: Invalid value: 0: spec.tags in body should have at least 1 items"#]],
    );
}

#[test]
fn what_was_wrong_before_may_stay() {
    let old = json!({"name": "ABCD", "replicas": -1, "ports": [{"name": "a", "n": 0}, {"name": "b", "n": 1}], "tags": ["x", "y", "z"]});
    validated(old.clone(), Some(old.clone()), expect![""]);
    let mut new = old.clone();
    new["replicas"] = json!(-2);
    new["ports"] = json!([{"name": "c", "n": 0}, {"name": "a", "n": 0}]);
    validated(
        new,
        Some(old),
        expect![[r#"
        FieldValueInvalid spec.ports[0].n: Invalid value: 0: spec.ports[0].n in body should be greater than or equal to 1
        FieldValueInvalid spec.replicas: Invalid value: -2: spec.replicas in body should be greater than or equal to 0"#]],
    );
}

#[test]
fn paths_are_followed() {
    let schema = widget();
    for (path, expected) in [
        (".spec.name", Ok("spec.name")),
        (".spec['name']", Ok("spec.name")),
        (".spec.labels['a.b']", Ok("spec.labels[a.b]")),
        (".spec.nope", Err("does not refer to a valid field")),
        ("spec", Err("expected [ or . but got: spec")),
        (".spec[name]", Err("expected single quoted string but got name")),
        (".", Err("unexpected end of JSON path")),
    ] {
        let found = paths::follow(path, &schema, true)
            .map(|(shown, _)| shown)
            .map_err(|error| error.to_string());
        assert_eq!(found.as_deref().map_err(String::as_str), expected, "{path}");
    }
    assert_eq!(
        paths::segments(".metadata.labels['a.b'].c"),
        ["metadata", "labels", "a.b", "c"]
    );
}

#[test]
fn formats_of_strings() {
    let table = [
        ("date-time", "2024-05-01T10:00:00Z", "yesterday"),
        ("date", "2024-05-01", "2024-5-1"),
        ("duration", "1h30m", "soon"),
        ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123"),
        (
            "uuid4",
            "123e4567-e89b-42d3-a456-426614174000",
            "123e4567-e89b-12d3-a456-426614174000",
        ),
        ("ipv4", "10.0.0.1", "10.0.0"),
        ("ipv6", "::1", "10.0.0.1"),
        ("cidr", "10.0.0.0/8", "10.0.0.0"),
        ("mac", "01:23:45:67:89:ab", "01:23"),
        ("uri", "https://example.com/a", "not a uri"),
        ("email", "a@example.com", "a"),
        ("hostname", "example.com", "-a_"),
        ("byte", "aGk=", "%"),
        ("hexcolor", "#fff", "red"),
        ("rgbcolor", "rgb(1, 2, 3)", "1,2,3"),
        ("isbn", "978-3-16-148410-0", "123"),
        ("creditcard", "4111 1111 1111 1111", "4111"),
        ("ssn", "111-11-1111", "1"),
        ("bsonobjectid", "507f1f77bcf86cd799439011", "507f"),
    ];
    for (format, good, bad) in table {
        assert_eq!(formats::check(format, good), Some(true), "{format} {good}");
        assert_eq!(formats::check(format, bad), Some(false), "{format} {bad}");
    }
    assert_eq!(formats::check("nonsense", "x"), None);
}
