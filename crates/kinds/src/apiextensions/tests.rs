use crate::golden;
use expect_test::expect;
use serde_json::{Value, json};

const DEFINITIONS: &str = "customresourcedefinitions.apiextensions.k8s.io";

fn definition(schema: Value) -> Value {
    json!({
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
        },
    })
}

fn odd() -> Value {
    let mut odd = definition(json!({"type": "object"}));
    odd["metadata"]["name"] = json!("other");
    odd["spec"]["group"] = json!("k8s.io");
    odd["spec"]["names"]["shortNames"] = json!(["A"]);
    odd["spec"]["names"]["listKind"] = json!("Widget");
    odd["spec"]["conversion"] = json!({
        "strategy": "Webhook",
        "webhook": {"conversionReviewVersions": ["v2", "v2"], "clientConfig": {"url": "http://a/?b"}},
    });
    let version = &mut odd["spec"]["versions"][0];
    version["deprecationWarning"] = json!("old");
    version["additionalPrinterColumns"] = json!([{"name": "", "type": "text", "jsonPath": "spec"}]);
    version["subresources"] = json!({"scale": {"specReplicasPath": ".replicas", "statusReplicasPath": ""}});
    version["selectableFields"] = json!([{"jsonPath": ".spec.nope"}]);
    odd
}

/// One test, so that its expectations can be updated together.
#[test]
fn definitions() {
    let good = definition(json!({"type": "object", "properties": {"spec": {"type": "object"}}}));
    golden::create(DEFINITIONS, good.clone(), &expect![""]);
    golden::defaults(
        DEFINITIONS,
        good,
        &expect![[r#"
        {
          "apiVersion": "apiextensions.k8s.io/v1",
          "kind": "CustomResourceDefinition",
          "metadata": {
            "name": "widgets.example.com"
          },
          "spec": {
            "conversion": {
              "strategy": "None"
            },
            "group": "example.com",
            "names": {
              "kind": "Widget",
              "listKind": "WidgetList",
              "plural": "widgets",
              "singular": "widget"
            },
            "scope": "Namespaced",
            "versions": [
              {
                "name": "v1",
                "schema": {
                  "openAPIV3Schema": {
                    "properties": {
                      "spec": {
                        "type": "object"
                      }
                    },
                    "type": "object"
                  }
                },
                "served": true,
                "storage": true
              }
            ]
          }
        }"#]],
    );
    let nothing = json!({"metadata": {"name": "x"}, "spec": {"group": "", "scope": "", "names": {"plural": "", "kind": ""}, "versions": []}});
    golden::create(
        DEFINITIONS,
        nothing,
        &expect![[r#"
        metadata.name: Invalid value: "x": must be spec.names.plural+"."+spec.group
        spec.group: Required value
        spec.scope: Required value
        spec.versions: Invalid value: null: must have exactly one version marked as storage version
        spec.names.plural: Required value
        spec.names.singular: Required value
        spec.names.kind: Required value
        spec.names.listKind: Required value
        status.storedVersions: Invalid value: null: must have at least one stored version"#]],
    );
    golden::create(
        DEFINITIONS,
        odd(),
        &expect![[r#"
        metadata.name: Invalid value: "other": must be spec.names.plural+"."+spec.group
        spec.versions[0].deprecationWarning: Invalid value: "old": can only be set for deprecated versions
        spec.names.shortNames[0]: Invalid value: "A": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')
        spec.names.listKind: Invalid value: "Widget": kind and listKind may not be the same
        spec.subresources.scale.specReplicasPath: Invalid value: ".replicas": should be a json path under .spec
        spec.subresources.scale.statusReplicasPath: Required value
        spec.additionalPrinterColumns[0].name: Required value
        spec.additionalPrinterColumns[0].type: Invalid value: "text": must be one of boolean,date,integer,number,string
        spec.additionalPrinterColumns[0].JSONPath: Invalid value: "spec": must be a simple json path starting with .
        spec.selectableFields[0].jsonPath: Invalid value: ".spec.nope": is an invalid path: does not refer to a valid field
        spec.conversion.webhookClientConfig.url: Invalid value: "http": 'https' is the only allowed URL scheme; desired format: https://host[/path]
        spec.conversion.webhookClientConfig.url: Invalid value: "b": query parameters are not permitted in the URL
        spec.conversion.conversionReviewVersions[1]: Invalid value: "v2": duplicate version
        spec.conversion.conversionReviewVersions: Invalid value: ["v2","v2"]: must include at least one of v1, v1beta1
        metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups must have approval annotation "api-approved.kubernetes.io", see https://github.com/kubernetes/enhancements/pull/1111"#]],
    );
    golden::create(
        DEFINITIONS,
        definition(json!({"type": "object", "properties": {
            "a": {"type": "array", "items": {"type": "object", "properties": {"k": {"type": "string"}}},
                "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k", "l"]},
            "d": {"type": "array", "uniqueItems": true, "items": {"type": "string"}},
            "e": {"type": "object", "properties": {"f": {"type": "string"}}, "additionalProperties": {"type": "string"}},
            "g": {"type": "nonsense"},
        }})),
        &expect![[r#"
            spec.validation.openAPIV3Schema.properties[a].x-kubernetes-list-map-keys: Invalid value: ["k","l"]: entries must all be names of item properties
            spec.validation.openAPIV3Schema.properties[a].items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property
            spec.validation.openAPIV3Schema.properties[d].uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic
            spec.validation.openAPIV3Schema.properties[e].additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive
            spec.validation.openAPIV3Schema.properties[g].type: Unsupported value: "nonsense": supported values: "array", "boolean", "integer", "number", "object", "string""#]],
    );
    golden::create(
        DEFINITIONS,
        definition(json!({"type": "object", "properties": {
            "b": {"type": "string", "default": 1}, "c": {"type": "object", "default": {"x": 1}},
            "metadata": {"type": "object", "default": {}},
        }})),
        &expect![[r#"
            spec.validation.openAPIV3Schema.properties[b].default: Invalid value: "integer":  in body must be of type string: "integer"
            spec.validation.openAPIV3Schema.properties[c].default: Invalid value: {"x":1}: must not have unknown fields
            spec.validation.openAPIV3Schema.properties[metadata].default: Forbidden: must not be set in top-level metadata"#]],
    );
    golden::create(
        DEFINITIONS,
        definition(json!({"type": "object", "properties": {
            "spec": {"type": "object", "x-kubernetes-validations": [
                {"rule": "self.nope > 1"}, {"rule": "self.n"}, {"rule": "self.n > 0", "messageExpression": "1"},
                {"rule": "self.n > 0", "optionalOldSelf": true},
            ], "properties": {"n": {"type": "integer"}}},
            "list": {"type": "array", "items": {"type": "string", "x-kubernetes-validations": [
                {"rule": "self == oldSelf"}, {"rule": "self.contains('abc')"},
            ]}},
            "lists": {"type": "array", "x-kubernetes-validations": [{"rule": "self.all(x, self.all(y, x == y))"}],
                "items": {"type": "string"}},
        }})),
        &expect![[r#"
            spec.validation.openAPIV3Schema.properties[list].items.x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds budget by factor of more than 100x (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)
            spec.validation.openAPIV3Schema.properties[list].items.x-kubernetes-validations[0].rule: Invalid value: "self == oldSelf": oldSelf cannot be used on the uncorrelatable portion of the schema within spec.validation.openAPIV3Schema.properties[list]
            spec.validation.openAPIV3Schema.properties[list].items.x-kubernetes-validations[1].rule: Forbidden: estimated rule cost exceeds budget by factor of more than 100x (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)
            spec.validation.openAPIV3Schema.properties[lists].x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds budget by factor of more than 100x (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)
            spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule: Invalid value: {"Rule":"self.nope \u003e 1","Message":"","MessageExpression":"","Reason":null,"FieldPath":"","OptionalOldSelf":null}: compilation failed: ERROR: <input>:1:5: undefined field 'nope'
             | self.nope > 1
             | ....^
            spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[1].rule: Invalid value: {"Rule":"self.n","Message":"","MessageExpression":"","Reason":null,"FieldPath":"","OptionalOldSelf":null}: cel expression must evaluate to a bool
            spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[2].messageExpression: Invalid value: {"Rule":"self.n \u003e 0","Message":"","MessageExpression":"1","Reason":null,"FieldPath":"","OptionalOldSelf":null}: messageExpression must evaluate to a string
            spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[3].optionalOldSelf: Invalid value: true: may not be set if oldSelf is not used in rule
            spec.validation.openAPIV3Schema.properties[lists].x-kubernetes-validations[0].rule: Forbidden: contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema
            spec.validation.openAPIV3Schema.properties[list].items.x-kubernetes-validations[0].rule: Forbidden: contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema
            spec.validation.openAPIV3Schema.properties[list].items.x-kubernetes-validations[1].rule: Forbidden: contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema
            spec.validation.openAPIV3Schema: Forbidden: x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget by factor of more than 100x (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"#]],
    );
    golden::create(
        DEFINITIONS,
        definition(
            json!({"type": "object", "properties": {"spec": {"type": "object", "x-kubernetes-validations": [
                {"rule": " "}, {"rule": "a\nb"}, {"rule": "true", "message": " "}, {"rule": "true", "reason": "X"},
                {"rule": "true", "fieldPath": ".x"},
            ]}}}),
        ),
        &expect![[r#"
            spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule: Required value: rule is not specified
            spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[1].message: Required value: message must be specified if rule contains line breaks
            spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[2].message: Invalid value: " ": must be non-empty if specified
            spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[3].reason: Unsupported value: "X": supported values: "FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"
            spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[4].fieldPath: Invalid value: ".x": must be a valid path"#]],
    );
    let mut old = definition(json!({"type": "object"}));
    let mut new = old.clone();
    new["spec"]["group"] = json!("example.org");
    new["spec"]["scope"] = json!("Cluster");
    old["status"] = json!({"storedVersions": ["v1"], "conditions": [{"type": "Established", "status": "True"}]});
    golden::update(
        DEFINITIONS,
        old,
        new,
        &expect![[r#"
        spec.scope: Invalid value: "Cluster": field is immutable
        spec.group: Invalid value: "example.org": field is immutable"#]],
    );
}
