//! Rules in CEL: over changes, with messages of their own, and within bounds.

use crate::common::Cluster;
use crate::{DEFINITIONS, WIDGETS, widget, with_spec};
use expect_test::expect;
use serde_json::json;

#[tokio::test]
async fn changes_are_judged_by_what_was_before() {
    let cluster = Cluster::start().await;
    let definition = with_spec(&json!({"type": "object",
    "x-kubernetes-validations": [
        {"rule": "self.size >= oldSelf.size", "messageExpression": "'size may not ' + 'shrink'",
            "reason": "FieldValueForbidden", "fieldPath": ".size"},
        {"rule": "!has(oldSelf.color) || has(self.color)", "message": "color stays"},
    ],
    "properties": {
        "size": {"type": "integer"},
        "color": {"type": "string", "maxLength": 10,
            "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "color is for ever"}]},
    }}));
    cluster.post(DEFINITIONS, &definition).await.ok();
    cluster.post(WIDGETS, &widget("a", 4)).await.ok();
    let path = format!("{WIDGETS}/a");
    cluster
        .patch(&path, "merge", &json!({"spec": {"size": 6, "color": "red"}}))
        .await
        .ok();
    let mut texts = Vec::new();
    for spec in [
        json!({"size": 5}),
        json!({"color": "blue"}),
        json!({"color": null}),
        json!({"size": 1, "color": "x"}),
    ] {
        let refused = cluster.patch(&path, "merge", &json!({"spec": spec})).await;
        texts.push(refused.failure());
    }
    expect![[r#"
        422 Invalid: Widget.example.com "a" is invalid: spec.size: Forbidden: size may not shrink
        422 Invalid: Widget.example.com "a" is invalid: spec.color: Invalid value: "blue": color is for ever
        422 Invalid: Widget.example.com "a" is invalid: spec: Invalid value: color stays
        422 Invalid: Widget.example.com "a" is invalid: [spec.size: Forbidden: size may not shrink, spec.color: Invalid value: "x": color is for ever]"#]].assert_eq(&texts.join("\n"));
}

#[tokio::test]
async fn rules_that_could_cost_too_much_are_refused() {
    let cluster = Cluster::start().await;
    let strings = |limits: bool| {
        let mut list = json!({"type": "array", "items": {"type": "string"},
            "x-kubernetes-validations": [{"rule": "self.all(x, self.all(y, x == y || !x.contains(y)))"}]});
        if limits {
            list["maxItems"] = json!(5);
            list["items"]["maxLength"] = json!(5);
        }
        with_spec(&json!({"type": "object", "properties": {"list": list}}))
    };
    let refused = cluster.post(DEFINITIONS, &strings(false)).await;
    let bad = with_spec(&json!({"type": "object", "properties": {"size": {"type": "integer"}},
        "x-kubernetes-validations": [{"rule": "self.sise > 1", "messageExpression": "1 + 'a'"}]}));
    let unknown = cluster.post(DEFINITIONS, &bad).await;
    expect![[r#"
        422 Invalid: CustomResourceDefinition.apiextensions.k8s.io "widgets.example.com" is invalid: [spec.validation.openAPIV3Schema.properties[spec].properties[list].x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds budget by factor of more than 100x (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared), spec.validation.openAPIV3Schema.properties[spec].properties[list].x-kubernetes-validations[0].rule: Forbidden: contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema, spec.validation.openAPIV3Schema: Forbidden: x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget by factor of more than 100x (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)]

        422 Invalid: CustomResourceDefinition.apiextensions.k8s.io "widgets.example.com" is invalid: spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule: Invalid value: {"Rule":"self.sise \u003e 1","Message":"","MessageExpression":"1 + 'a'","Reason":null,"FieldPath":"","OptionalOldSelf":null}: compilation failed: ERROR: <input>:1:5: undefined field 'sise'
         | self.sise > 1
         | ....^"#]].assert_eq(&format!("{}\n\n{}", refused.failure(), unknown.failure()));
    cluster.post(DEFINITIONS, &strings(true)).await.ok();
}
