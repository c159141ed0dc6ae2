//! Rules of schemas, and objects that break them.

use catamaran_api::field::{Errors, Path};
use catamaran_api::structural::Schema;
use expect_test::{Expect, expect};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;
use serde_json::{Value, json};

use super::RuleSet;
use crate::Budget;

fn rules(schema: Value) -> RuleSet {
    let props: JSONSchemaProps = serde_json::from_value(schema).unwrap();
    RuleSet::new(&Schema::new(&props).unwrap(), true).unwrap()
}

#[allow(clippy::needless_pass_by_value, reason = "literals read best in place")]
fn check(rules: &RuleSet, value: Value, old: Option<Value>, expected: Expect) {
    let mut errors = Errors::new();
    let warnings = rules.check(&Path::ROOT, &value, old.as_ref(), &mut Budget::default(), &mut errors);
    let mut lines: Vec<String> = errors.iter().map(|e| format!("{} {e}", e.reason.as_str())).collect();
    lines.extend(warnings.iter().map(|warning| format!("warning: {warning}")));
    expected.assert_eq(&lines.join("\n"));
}

fn widget() -> RuleSet {
    rules(json!({
        "type": "object",
        "x-kubernetes-validations": [
            {"rule": "self.metadata.name.startsWith('w')", "message": "names start with w"},
        ],
        "properties": {"spec": {
            "type": "object",
            "x-kubernetes-validations": [
                {"rule": "self.min <= self.max"},
                {"rule": "self.min >= 0", "messageExpression": "'min is ' + string(self.min)", "reason": "FieldValueForbidden", "fieldPath": ".min"},
                {"rule": "!has(self.fixed) || !has(oldSelf.fixed) || self.fixed == oldSelf.fixed", "message": "fixed is fixed"},
                {"rule": "oldSelf.hasValue() || self.max < 100", "optionalOldSelf": true, "message": "born small"},
            ],
            "properties": {
                "min": {"type": "integer"}, "max": {"type": "integer"},
                "fixed": {"type": "string", "maxLength": 10},
                "list": {"type": "array", "maxItems": 5, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                    "items": {"type": "object", "properties": {"name": {"type": "string"}, "n": {"type": "integer"}},
                        "x-kubernetes-validations": [{"rule": "self.n >= oldSelf.n", "message": "n never shrinks"}]}},
                "map": {"type": "object", "additionalProperties": {"type": "string", "x-kubernetes-validations": [{"rule": "self != ''"}]}},
            },
        }},
    }))
}

#[test]
fn objects_that_break_rules() {
    let rules = widget();
    let good = json!({"metadata": {"name": "web"}, "spec": {"min": 1, "max": 2}});
    check(&rules, good.clone(), None, expect![""]);
    check(
        &rules,
        json!({"metadata": {"name": "x"}, "spec": {"min": -1, "max": -2, "map": {"a": ""}}}),
        None,
        expect![[r#"
            FieldValueInvalid <nil>: Invalid value: names start with w
            FieldValueInvalid spec: Invalid value: failed rule: self.min <= self.max
            FieldValueForbidden spec.min: Forbidden: min is -1
            FieldValueInvalid spec.map[a]: Invalid value: "": failed rule: self != ''"#]],
    );
    check(
        &rules,
        json!({"metadata": {"name": "w"}, "spec": {"max": 200}}),
        None,
        expect![[r#"
        FieldValueInvalid spec: Invalid value: "object": no such key: min evaluating rule: self.min <= self.max
        FieldValueInvalid spec: Invalid value: "object": no such key: min evaluating rule: self.min >= 0
        FieldValueInvalid spec: Invalid value: born small"#]],
    );
    let old =
        json!({"metadata": {"name": "w"}, "spec": {"min": 1, "max": 2, "fixed": "a", "list": [{"name": "a", "n": 2}]}});
    let mut new = old.clone();
    new["spec"]["fixed"] = json!("b");
    new["spec"]["max"] = json!(200);
    new["spec"]["list"] = json!([{"name": "b", "n": 0}, {"name": "a", "n": 1}]);
    check(
        &rules,
        new,
        Some(old),
        expect![[r#"
        FieldValueInvalid spec: Invalid value: fixed is fixed
        FieldValueInvalid spec.list[1]: Invalid value: n never shrinks"#]],
    );
}

#[test]
fn what_was_wrong_before_is_a_warning() {
    let rules = widget();
    let old = json!({"metadata": {"name": "x"}, "spec": {"min": 3, "max": 2}});
    let mut new = old.clone();
    new["metadata"]["labels"] = json!({"a": "b"});
    check(
        &rules,
        new,
        Some(old),
        expect![[r#"
        FieldValueInvalid <nil>: Invalid value: names start with w
        warning: spec: Invalid value: failed rule: self.min <= self.max"#]],
    );
}
