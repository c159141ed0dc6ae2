use crate::golden;
use expect_test::expect;
use serde_json::{Value, json};

const VALIDATING: &str = "validatingwebhookconfigurations.admissionregistration.k8s.io";
const MUTATING: &str = "mutatingwebhookconfigurations.admissionregistration.k8s.io";
const POLICIES: &str = "validatingadmissionpolicies.admissionregistration.k8s.io";
const BINDINGS: &str = "validatingadmissionpolicybindings.admissionregistration.k8s.io";

fn rule() -> Value {
    json!({"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]})
}

#[test]
fn defaults() {
    let hook = json!({"webhooks": [{"name": "a.b.c", "clientConfig": {"service": {"name": "n", "namespace": "s"}}, "rules": [rule()],
        "sideEffects": "None", "admissionReviewVersions": ["v1"]}]});
    golden::defaults(
        MUTATING,
        hook.clone(),
        &expect![[r#"
        {
          "apiVersion": "admissionregistration.k8s.io/v1",
          "kind": "MutatingWebhookConfiguration",
          "metadata": {},
          "webhooks": [
            {
              "admissionReviewVersions": [
                "v1"
              ],
              "clientConfig": {
                "service": {
                  "name": "n",
                  "namespace": "s",
                  "port": 443
                }
              },
              "failurePolicy": "Fail",
              "matchPolicy": "Equivalent",
              "name": "a.b.c",
              "namespaceSelector": {},
              "objectSelector": {},
              "reinvocationPolicy": "Never",
              "rules": [
                {
                  "apiGroups": [
                    ""
                  ],
                  "apiVersions": [
                    "v1"
                  ],
                  "operations": [
                    "CREATE"
                  ],
                  "resources": [
                    "pods"
                  ],
                  "scope": "*"
                }
              ],
              "sideEffects": "None",
              "timeoutSeconds": 10
            }
          ]
        }"#]],
    );
    golden::create(MUTATING, hook.clone(), &expect![""]);
    golden::create(VALIDATING, hook, &expect![""]);
}

#[test]
fn webhooks() {
    golden::create(
        MUTATING,
        json!({"webhooks": [{}]}),
        &expect![[r#"
        webhooks[0].name: Required value
        webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun
        webhooks[0].clientConfig: Required value: exactly one of url or service is required
        webhooks[0].admissionReviewVersions: Required value: must specify one of v1, v1beta1"#]],
    );
    golden::create(
        MUTATING,
        json!({"webhooks": [
            {"name": "a.b", "failurePolicy": "Hope", "matchPolicy": "Vague", "reinvocationPolicy": "Often", "sideEffects": "Some",
                "timeoutSeconds": 31, "admissionReviewVersions": ["v2", "v2", "V3"],
                "clientConfig": {"url": "http://user@/path?query#fragment"},
                "namespaceSelector": {"matchLabels": {"a b": ""}},
                "matchConditions": [{"name": "", "expression": " "}, {"name": "a", "expression": "true"}, {"name": "a", "expression": "true"}],
                "rules": [
                    {},
                    {"operations": ["*", "GET"], "apiGroups": ["*", "a"], "apiVersions": ["*", ""], "resources": ["a/*", "a/b", "*/c", "d/c", "", "*/*"], "scope": "Galaxy"},
                    {"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*", "pods"]},
                ]},
            {"name": "a.b.c", "sideEffects": "None", "admissionReviewVersions": ["v1"], "clientConfig": {"service": {"name": "", "namespace": "n", "path": "a//B/", "port": 0}}},
            {"name": "a.b.c", "sideEffects": "None", "admissionReviewVersions": ["v1"], "clientConfig": {"url": "https://a", "service": {"name": "n", "namespace": "n"}}},
        ]}),
        &expect![[r#"
            webhooks[0].name: Invalid value: "a.b": should be a domain with at least three segments separated by dots
            webhooks[0].rules[0].operations: Required value
            webhooks[0].rules[0].apiGroups: Required value
            webhooks[0].rules[0].apiVersions: Required value
            webhooks[0].rules[0].resources: Required value
            webhooks[0].rules[1].operations: Invalid value: ["*","GET"]: if '*' is present, must not specify other operations
            webhooks[0].rules[1].operations[1]: Unsupported value: "GET": supported values: "*", "CONNECT", "CREATE", "DELETE", "UPDATE"
            webhooks[0].rules[1].apiGroups: Invalid value: ["*","a"]: if '*' is present, must not specify other API groups
            webhooks[0].rules[1].apiVersions: Invalid value: ["*",""]: if '*' is present, must not specify other API versions
            webhooks[0].rules[1].apiVersions[1]: Required value
            webhooks[0].rules[1].resources[1]: Invalid value: "a/b": if 'a/*' is present, must not specify a/b
            webhooks[0].rules[1].resources[3]: Invalid value: "d/c": if '*/c' is present, must not specify d/c
            webhooks[0].rules[1].resources[4]: Required value
            webhooks[0].rules[1].resources: Invalid value: ["a/*","a/b","*/c","d/c","","*/*"]: if '*/*' is present, must not specify other resources
            webhooks[0].rules[1].scope: Unsupported value: "Galaxy": supported values: "*", "Cluster", "Namespaced"
            webhooks[0].rules[2].resources: Invalid value: ["*","pods"]: if '*' is present, must not specify other resources without subresources
            webhooks[0].failurePolicy: Unsupported value: "Hope": supported values: "Fail", "Ignore"
            webhooks[0].matchPolicy: Unsupported value: "Vague": supported values: "Equivalent", "Exact"
            webhooks[0].sideEffects: Unsupported value: "Some": supported values: "None", "NoneOnDryRun"
            webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds
            webhooks[0].namespaceSelector.matchLabels: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            webhooks[0].reinvocationPolicy: Unsupported value: "Often": supported values: "IfNeeded", "Never"
            webhooks[0].clientConfig.url: Invalid value: "http": 'https' is the only allowed URL scheme; desired format: https://host[/path]
            webhooks[0].clientConfig.url: Invalid value: "": host must be specified; desired format: https://host[/path]
            webhooks[0].clientConfig.url: Invalid value: "user": user information is not permitted in the URL
            webhooks[0].clientConfig.url: Invalid value: "fragment": fragments are not permitted in the URL
            webhooks[0].clientConfig.url: Invalid value: "query": query parameters are not permitted in the URL
            webhooks[0].matchConditions[0].expression: Required value
            webhooks[0].matchConditions[0].name: Required value
            webhooks[0].matchConditions[2].name: Duplicate value: "a"
            webhooks[0].admissionReviewVersions[1]: Invalid value: "v2": duplicate version
            webhooks[0].admissionReviewVersions[2]: Invalid value: "V3": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')
            webhooks[0].admissionReviewVersions: Invalid value: ["v2","v2","V3"]: must include at least one of v1, v1beta1
            webhooks[1].clientConfig.service.namespace: Required value
            webhooks[1].clientConfig.service.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive
            webhooks[1].clientConfig.service.path: Invalid value: "a//B/": must start with a '/'
            webhooks[1].clientConfig.service.path: Invalid value: "a//B/": segment[0] may not be empty
            webhooks[1].clientConfig.service.path: Invalid value: "a//B/": segment[1] may not be empty
            webhooks[1].clientConfig.service.path: Invalid value: "a//B/": segment[2]: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            webhooks[2].clientConfig: Required value: exactly one of url or service is required
            webhooks[2].name: Duplicate value: "a.b.c""#]],
    );
    golden::row(
        VALIDATING,
        json!({"metadata": {"name": "a"}, "webhooks": [{}]}),
        &expect![[r#"
        Name: "a"
        Webhooks: 1
        Age: "<unknown>""#]],
    );
}

#[test]
fn policies() {
    let policy = |spec: Value| json!({"metadata": {"name": "p"}, "spec": spec});
    golden::defaults(
        POLICIES,
        policy(json!({"matchConstraints": {"resourceRules": [rule()]}})),
        &expect![[r#"
        {
          "apiVersion": "admissionregistration.k8s.io/v1",
          "kind": "ValidatingAdmissionPolicy",
          "metadata": {
            "name": "p"
          },
          "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
              "matchPolicy": "Equivalent",
              "namespaceSelector": {},
              "objectSelector": {},
              "resourceRules": [
                {
                  "apiGroups": [
                    ""
                  ],
                  "apiVersions": [
                    "v1"
                  ],
                  "operations": [
                    "CREATE"
                  ],
                  "resources": [
                    "pods"
                  ],
                  "scope": "*"
                }
              ]
            }
          }
        }"#]],
    );
    golden::create(
        POLICIES,
        json!({}),
        &expect![[r#"
        spec.failurePolicy: Required value
        spec.matchConstraints: Required value
        spec.validations: Required value: validations or auditAnnotations must contain at least one item
        spec.auditAnnotations: Required value: validations or auditAnnotations must contain at least one item"#]],
    );
    golden::create(
        POLICIES,
        policy(json!({
            "paramKind": {"apiVersion": "A/V", "kind": "a b"},
            "matchConstraints": {"excludeResourceRules": [{"resourceNames": ["a/b", "x", "x"]}]},
            "variables": [{"name": "", "expression": ""}, {"name": "true", "expression": "1"}, {"name": "a-b", "expression": "1"}],
            "validations": [{"expression": " ", "message": " ", "messageExpression": " ", "reason": "Mood"}, {"expression": "true", "message": "a\nb"}],
            "auditAnnotations": [{"key": "a b", "valueExpression": ""}, {"key": "k", "valueExpression": "'x'"}, {"key": "k", "valueExpression": "'y'"}],
        })),
        &expect![[r#"
            spec.paramKind.apiVersion: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            spec.paramKind.apiVersion: Invalid value: "V": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')
            spec.paramKind.kind: Invalid value: "a b": may have mixed case, but should otherwise match: a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')
            spec.matchConstraints.excludeResourceRules[0].resourceNames[0]: Invalid value: "a/b": may not contain '/'
            spec.matchConstraints.excludeResourceRules[0].resourceNames[2]: Duplicate value: "x"
            spec.matchConstraints.excludeResourceRules[0].operations: Required value
            spec.matchConstraints.excludeResourceRules[0].apiGroups: Required value
            spec.matchConstraints.excludeResourceRules[0].apiVersions: Required value
            spec.matchConstraints.excludeResourceRules[0].resources: Required value
            spec.matchConstraints.resourceRules: Required value
            spec.variables[0].name: Required value: name is not specified
            spec.variables[0].expression: Required value: expression is not specified
            spec.variables[1].name: Invalid value: "true": name is not a valid CEL identifier
            spec.variables[2].name: Invalid value: "a-b": name is not a valid CEL identifier
            spec.validations[0].expression: Required value: expression is not specified
            spec.validations[0].messageExpression: Invalid value: " ": must be non-empty if specified
            spec.validations[0].message: Invalid value: " ": message must be non-empty if specified
            spec.validations[0].reason: Unsupported value: "Mood": supported values: "Forbidden", "Invalid", "RequestEntityTooLarge"
            spec.validations[1].message: Invalid value: "a\nb": message must not contain line breaks
            spec.auditAnnotations[0].key: Invalid value: "p/a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            spec.auditAnnotations[0].valueExpression: Required value: valueExpression is not specified
            spec.auditAnnotations[2].key: Duplicate value: "k""#]],
    );
    let good = policy(
        json!({"failurePolicy": "Ignore", "matchConstraints": {"resourceRules": [rule()]}, "validations": [{"expression": "true"}],
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}}),
    );
    golden::create(POLICIES, good.clone(), &expect![""]);
    golden::row(
        POLICIES,
        good.clone(),
        &expect![[r#"
        Name: "p"
        Validations: 1
        ParamKind: "v1/ConfigMap"
        Age: "<unknown>""#]],
    );
    let mut checked = good.clone();
    checked["status"] = json!({"typeChecking": {"expressionWarnings": [{"fieldRef": " ", "warning": ""}]},
        "conditions": [{"type": "a b", "status": "Maybe", "reason": "1", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
    golden::status(
        POLICIES,
        good,
        checked,
        &expect![[r#"
        status.typeChecking.expressionWarnings[0].warning: Required value
        status.typeChecking.expressionWarnings[0].fieldRef: Required value
        status.conditions[0].type: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        status.conditions[0].status: Unsupported value: "Maybe": supported values: "False", "True", "Unknown"
        status.conditions[0].reason: Invalid value: "1": a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')"#]],
    );
}

#[test]
fn bindings() {
    let binding = |spec: Value| json!({"metadata": {"name": "b"}, "spec": spec});
    golden::create(
        BINDINGS,
        json!({}),
        &expect![[r#"
        spec.policyName: Required value
        spec.validationActions: Required value: at least one validation action is required"#]],
    );
    golden::create(
        BINDINGS,
        binding(
            json!({"policyName": "P", "paramRef": {"name": "a/b", "selector": {}}, "validationActions": ["Deny", "Warn", "Warn", "Shout"]}),
        ),
        &expect![[r#"
            spec.policyName: Invalid value: "P": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            spec.paramRef.name: Invalid value: "a/b": may not contain '/'
            spec.paramRef.name: Forbidden: name and selector are mutually exclusive
            spec.paramRef.selector: Forbidden: name and selector are mutually exclusive
            spec.paramRef.parameterNotFoundAction: Required value
            spec.validationActions[2]: Duplicate value: "Warn"
            spec.validationActions[3]: Unsupported value: "Shout": supported values: "Audit", "Deny", "Warn"
            spec.validationActions: Invalid value: ["Deny","Warn","Warn","Shout"]: must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)"#]],
    );
    golden::create(
        BINDINGS,
        binding(
            json!({"policyName": "p", "paramRef": {"parameterNotFoundAction": "Cry"}, "validationActions": ["Audit"]}),
        ),
        &expect![[r#"
        spec.paramRef: Required value: one of name or selector must be specified
        spec.paramRef.parameterNotFoundAction: Unsupported value: "Cry": supported values: "Deny", "Allow""#]],
    );
    let selector =
        json!({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "k", "operator": "In", "values": ["x", "y"]}]});
    golden::row(
        BINDINGS,
        binding(json!({"policyName": "p", "paramRef": {"selector": selector}})),
        &expect![[r#"
        Name: "b"
        PolicyName: "p"
        ParamRef: "&LabelSelector{MatchLabels:map[string]string{a: b,},MatchExpressions:[]LabelSelectorRequirement{LabelSelectorRequirement{Key:k,Operator:In,Values:[x y],},},}"
        Age: "<unknown>""#]],
    );
    golden::row(
        BINDINGS,
        binding(json!({"policyName": "p", "paramRef": {"name": "n"}})),
        &expect![[r#"
        Name: "b"
        PolicyName: "p"
        ParamRef: "*/n"
        Age: "<unknown>""#]],
    );
}
