use crate::golden;
use expect_test::expect;
use serde_json::{Value, json};

const SCHEMAS: &str = "flowschemas.flowcontrol.apiserver.k8s.io";
const LEVELS: &str = "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io";

fn named(name: &str, spec: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": spec})
}

#[test]
fn flow_schemas() {
    golden::create(
        SCHEMAS,
        json!({}),
        &expect![[r#"
        spec.matchingPrecedence: Invalid value: 0: must be a positive value
        spec.priorityLevelConfiguration.name: Required value: must reference a priority level"#]],
    );
    golden::create(
        SCHEMAS,
        named(
            "a",
            json!({"priorityLevelConfiguration": {"name": "A"}, "matchingPrecedence": 1, "distinguisherMethod": {"type": "ByColour"}, "rules": [
                {},
                {"subjects": [{"kind": "Robot"}, {"kind": "User"}, {"kind": "Group", "group": {"name": ""}, "user": {"name": "u"}},
                        {"kind": "ServiceAccount", "serviceAccount": {"name": "A", "namespace": ""}}],
                    "resourceRules": [{"verbs": [], "apiGroups": [], "resources": []},
                        {"verbs": ["*", "get"], "apiGroups": ["*", "a"], "resources": ["*", "a"], "namespaces": ["*", "a"]},
                        {"verbs": ["fly"], "apiGroups": ["a"], "resources": ["a"], "namespaces": ["A"]}],
                    "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": []}, {"verbs": ["get"], "nonResourceURLs": ["*", "/a"]},
                        {"verbs": ["get"], "nonResourceURLs": ["", "/", "a", "/a b", "/a//b", "/a*", "/a/*"]}]},
            ]}),
        ),
        &expect![[r#"
            spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1
            spec.distinguisherMethod.type: Unsupported value: {"Type":"ByColour"}: supported values: "ByNamespace", "ByUser"
            spec.priorityLevelConfiguration.name: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            spec.rules[0].subjects: Required value: subjects must contain at least one value
            spec.rules[0]: Required value: at least one of resourceRules and nonResourceRules has to be non-empty
            spec.rules[1].subjects[0].kind: Unsupported value: "Robot": supported values: "Group", "ServiceAccount", "User"
            spec.rules[1].subjects[1].user: Required value: user is required when subject kind is 'User'
            spec.rules[1].subjects[2].group.name: Required value
            spec.rules[1].subjects[2].user: Forbidden: user is forbidden when subject kind is not 'User'
            spec.rules[1].subjects[3].serviceAccount.name: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            spec.rules[1].subjects[3].serviceAccount.namespace: Required value: must specify namespace for service account
            spec.rules[1].resourceRules[0].verbs: Required value: verbs must contain at least one value
            spec.rules[1].resourceRules[0].apiGroups: Required value: resource rules must supply at least one api group
            spec.rules[1].resourceRules[0].resources: Required value: resource rules must supply at least one resource
            spec.rules[1].resourceRules[0].namespaces: Required value: resource rules that are not cluster scoped must supply at least one namespace
            spec.rules[1].resourceRules[1].verbs: Invalid value: ["*","get"]: if '*' is present, must not specify other verbs
            spec.rules[1].resourceRules[1].apiGroups: Invalid value: ["*","a"]: if '*' is present, must not specify other api groups
            spec.rules[1].resourceRules[1].resources: Invalid value: ["*","a"]: if '*' is present, must not specify other resources
            spec.rules[1].resourceRules[1].namespaces: Invalid value: ["*","a"]: if '*' is present, must not specify other namespaces
            spec.rules[1].resourceRules[2].verbs: Unsupported value: ["fly"]: supported values: "create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"
            spec.rules[1].resourceRules[2].namespaces[0]: Invalid value: "A": each member of this list must be '*' or a DNS-1123 label; a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            spec.rules[1].nonResourceRules[0].nonResourceURLs: Required value: nonResourceURLs must contain at least one value
            spec.rules[1].nonResourceRules[1].nonResourceURLs: Invalid value: ["*","/a"]: if '*' is present, must not specify other non-resource URLs
            spec.rules[1].nonResourceRules[2].nonResourceURLs[0]: Invalid value: "": must not be empty
            spec.rules[1].nonResourceRules[2].nonResourceURLs[2]: Invalid value: "a": must start with slash
            spec.rules[1].nonResourceRules[2].nonResourceURLs[3]: Invalid value: "/a b": must not contain white-space
            spec.rules[1].nonResourceRules[2].nonResourceURLs[4]: Invalid value: "/a//b": must not contain double slash
            spec.rules[1].nonResourceRules[2].nonResourceURLs[5]: Invalid value: "/a*": wildcard can only do suffix matching"#]],
    );
    let exempt = json!({"priorityLevelConfiguration": {"name": "exempt"}, "matchingPrecedence": 1, "rules": [{
        "subjects": [{"kind": "Group", "group": {"name": "system:masters"}}],
        "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"]}],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]}]});
    golden::create(SCHEMAS, named("exempt", exempt), &expect![""]);
    golden::create(
        SCHEMAS,
        named("catch-all", json!({"priorityLevelConfiguration": {"name": "a"}})),
        &expect![[
            r#"spec: Invalid value: {"matchingPrecedence":1000,"priorityLevelConfiguration":{"name":"a"}}: spec of 'catch-all' must equal the fixed value"#
        ]],
    );
    golden::status(
        SCHEMAS,
        json!({}),
        json!({"status": {"conditions": [{"type": "a"}, {"type": "a"}, {}]}}),
        &expect![[r#"
        status.conditions[1].type: Duplicate value: "a"
        status.conditions[2].type: Required value: must not be empty"#]],
    );
    golden::row(
        SCHEMAS,
        named("a", json!({"priorityLevelConfiguration": {"name": "l"}})),
        &expect![[r#"
        Name: "a"
        PriorityLevel: "l"
        MatchingPrecedence: 1000
        DistinguisherMethod: "<none>"
        Age: "<unknown>"
        MissingPL: "?""#]],
    );
}

#[test]
fn priority_levels() {
    let limited = |limited: Value| named("a", json!({"type": "Limited", "limited": limited}));
    golden::defaults(
        LEVELS,
        limited(json!({"limitResponse": {"type": "Queue", "queuing": {}}})),
        &expect![[r#"
        {
          "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
          "kind": "PriorityLevelConfiguration",
          "metadata": {
            "name": "a"
          },
          "spec": {
            "limited": {
              "lendablePercent": 0,
              "limitResponse": {
                "queuing": {
                  "handSize": 8,
                  "queueLengthLimit": 50,
                  "queues": 64
                },
                "type": "Queue"
              },
              "nominalConcurrencyShares": 30
            },
            "type": "Limited"
          }
        }"#]],
    );
    golden::create(
        LEVELS,
        json!({}),
        &expect![[r#"spec.type: Unsupported value: "": supported values: "Exempt", "Limited""#]],
    );
    golden::create(
        LEVELS,
        named(
            "a",
            json!({"type": "Exempt", "exempt": {"lendablePercent": 101}, "limited": {}}),
        ),
        &expect![[r#"
        spec.type: Invalid value: "Exempt": type must be 'Exempt' if and only if name is 'exempt'
        spec.limited: Forbidden: must be nil if the type is not Limited
        spec.exempt.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive"#]],
    );
    golden::create(
        LEVELS,
        named("a", json!({"type": "Limited", "exempt": {}})),
        &expect![[r#"
        spec.exempt: Forbidden: must be nil if the type is Limited
        spec.limited: Required value: must not be empty when type is Limited"#]],
    );
    golden::create(
        LEVELS,
        limited(
            json!({"nominalConcurrencyShares": -1, "lendablePercent": -1, "borrowingLimitPercent": -1, "limitResponse": {"type": "Queue"}}),
        ),
        &expect![[r#"
            spec.limited.nominalConcurrencyShares: Invalid value: -1: must be a non-negative integer
            spec.limited.lendablePercent: Invalid value: -1: must be between 0 and 100, inclusive
            spec.limited.borrowingLimitPercent: Invalid value: -1: if specified, must be a non-negative integer
            spec.limited.limitResponse.queuing: Required value: must not be empty if limited.limitResponse.type is Limited"#]],
    );
    golden::create(
        LEVELS,
        limited(json!({"limitResponse": {"type": "Reject", "queuing": {}}})),
        &expect![
            "spec.limited.limitResponse.queuing: Forbidden: must be nil if limited.limitResponse.type is not Limited"
        ],
    );
    let queuing = |queues: i32, hand: i32| {
        limited(
            json!({"limitResponse": {"type": "Queue", "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": -1}}}),
        )
    };
    golden::create(
        LEVELS,
        queuing(4, 8),
        &expect![[r#"
        spec.limited.limitResponse.queuing.queueLengthLimit: Invalid value: -1: must be positive
        spec.limited.limitResponse.queuing.handSize: Invalid value: 8: should not be greater than queues (4)"#]],
    );
    golden::create(
        LEVELS,
        queuing(1024, 7),
        &expect![[r#"
        spec.limited.limitResponse.queuing.queueLengthLimit: Invalid value: -1: must be positive
        spec.limited.limitResponse.queuing.handSize: Invalid value: 7: required entropy bits of deckSize 1024 and handSize 7 should not be greater than 60"#]],
    );
    golden::create(
        LEVELS,
        queuing(10_000_001, -1),
        &expect![[r#"
        spec.limited.limitResponse.queuing.queueLengthLimit: Invalid value: -1: must be positive
        spec.limited.limitResponse.queuing.queues: Invalid value: 10000001: must not be greater than 10000000
        spec.limited.limitResponse.queuing.handSize: Invalid value: -1: must be positive"#]],
    );
    golden::create(
        LEVELS,
        named(
            "exempt",
            json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 7}}),
        ),
        &expect![""],
    );
    golden::create(
        LEVELS,
        named(
            "catch-all",
            json!({"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}}),
        ),
        &expect![[
            r#"spec: Invalid value: {"limited":{"lendablePercent":0,"limitResponse":{"type":"Reject"},"nominalConcurrencyShares":30},"type":"Limited"}: spec of 'catch-all' must equal the fixed value"#
        ]],
    );
    golden::row(
        LEVELS,
        limited(json!({"limitResponse": {"type": "Queue", "queuing": {}}})),
        &expect![[r#"
        Name: "a"
        Type: "Limited"
        NominalConcurrencyShares: 30
        Queues: 64
        HandSize: 8
        QueueLengthLimit: 50
        Age: "<unknown>""#]],
    );
    golden::row(
        LEVELS,
        named("exempt", json!({"type": "Exempt"})),
        &expect![[r#"
        Name: "exempt"
        Type: "Exempt"
        NominalConcurrencyShares: "<none>"
        Queues: "<none>"
        HandSize: "<none>"
        QueueLengthLimit: "<none>"
        Age: "<unknown>""#]],
    );
}
