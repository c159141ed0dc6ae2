use super::super::compiled;
use super::*;
use crate::admission::expressions::Inputs;
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicySpec;
use serde_json::json;

fn check(spec: &Json, object: &Json, params: &Json) -> Outcome {
    let spec: ValidatingAdmissionPolicySpec = serde_json::from_value(spec.clone()).unwrap();
    let policy = Policy {
        name: "p".to_owned(),
        criteria: crate::admission::matching::Criteria::of_policy(None),
        ignores_failures: spec.failure_policy.as_deref() == Some("Ignore"),
        param_kind: spec
            .param_kind
            .as_ref()
            .map(|_| ("v1".to_owned(), "ConfigMap".to_owned())),
        expressions: compiled::compile(&spec),
    };
    let request = json!({"operation": "CREATE", "userInfo": {"username": "u", "groups": ["g"]}, "dryRun": false});
    let namespace = json!({"metadata": {"name": "ns", "labels": {"env": "prod"}}});
    let inputs = Inputs::of(object.clone(), Json::Null, request, namespace);
    decide(&policy, &inputs, params)
}

fn message(outcome: &Outcome) -> String {
    let each: Vec<String> = outcome
        .verdicts
        .iter()
        .map(|verdict| match verdict {
            Verdict::Admitted => "admitted".to_owned(),
            Verdict::Denied { reason, message } => format!("{}: {message}", reason.as_deref().unwrap_or("-")),
        })
        .collect();
    each.join("; ")
}

#[test]
fn validations_decide_and_explain() {
    let spec = json!({"validations": [
        {"expression": "object.spec.replicas <= 5"},
        {"expression": "object.spec.replicas <= 2", "message": " too many ", "reason": "Forbidden"},
        {"expression": "object.spec.replicas <= 2", "message": "x", "messageExpression": "'has ' + string(object.spec.replicas)"},
        {"expression": "object.spec.replicas <= 2", "message": "fallback", "messageExpression": "'line\\nline'"},
        {"expression": "  object.spec.replicas == 4  "},
        {"expression": "object.spec.missing == 4"},
        {"expression": "request.userInfo.username == 'u' && namespaceObject.metadata.labels['env'] == 'prod' && oldObject == null"},
    ]});
    let outcome = check(&spec, &json!({"spec": {"replicas": 3}}), &Json::Null);
    assert_eq!(
        message(&outcome),
        "admitted; Forbidden: too many; Invalid: has 3; Invalid: fallback; Invalid: failed expression: object.spec.replicas == 4; \
         -: expression 'object.spec.missing == 4' resulted in error: no such key: missing; admitted"
    );
}

#[test]
fn variables_are_computed_from_each_other() {
    let spec = json!({
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "variables": [
            {"name": "most", "expression": "int(params.data.most)"},
            {"name": "double", "expression": "variables.most * 2"},
            {"name": "broken", "expression": "object.nothing"},
        ],
        "validations": [
            {"expression": "object.spec.replicas <= variables.double", "messageExpression": "'at most ' + string(variables.double)"},
            {"expression": "variables.broken == 1"},
        ],
    });
    let params = json!({"data": {"most": "2"}});
    let outcome = check(&spec, &json!({"spec": {"replicas": 5}}), &params);
    assert_eq!(
        message(&outcome),
        "Invalid: at most 4; -: expression 'variables.broken == 1' resulted in error: composited variable \"broken\" fails to \
         evaluate: no such key: nothing"
    );
}

#[test]
fn conditions_and_failure_policies() {
    let with = |condition: &str, failure_policy: &str| {
        let spec = json!({"failurePolicy": failure_policy, "matchConditions": [{"name": "c", "expression": condition}],
            "validations": [{"expression": "false", "message": "no"}]});
        message(&check(&spec, &json!({}), &Json::Null))
    };
    assert_eq!(with("true", "Fail"), "Invalid: no");
    assert_eq!(with("false", "Fail"), "");
    assert_eq!(
        with("object.x", "Fail"),
        "-: compilation error: must evaluate to bool but got dyn"
    );
    assert_eq!(
        with("object.x == 1", "Fail"),
        "-: expression 'object.x == 1' resulted in error: no such key: x"
    );
    assert_eq!(with("object.x == 1", "Ignore"), "");
    let broken = json!({"failurePolicy": "Ignore", "validations": [{"expression": "object.x == 1"}]});
    assert_eq!(message(&check(&broken, &json!({}), &Json::Null)), "admitted");
}

#[test]
fn annotations_are_published_or_deny() {
    let spec = json!({
        "validations": [{"expression": "true"}],
        "auditAnnotations": [
            {"key": "a", "valueExpression": "'name: ' + object.name"},
            {"key": "b", "valueExpression": "null"},
            {"key": "c", "valueExpression": "' '"},
            {"key": "d", "valueExpression": "string(object.missing)"},
        ],
    });
    let outcome = check(&spec, &json!({"name": "x"}), &Json::Null);
    assert_eq!(outcome.annotations, [("a".to_owned(), "name: x".to_owned())]);
    assert_eq!(
        outcome.failed_annotations,
        ["expression 'string(object.missing)' resulted in error: no such key: missing"]
    );
}

#[test]
fn a_policy_cannot_cost_more_than_its_budget() {
    let spec = json!({"validations": [
        {"expression": "object.list.all(a, object.list.all(b, object.list.all(c, a + b + c >= 0)))"},
    ]});
    let list: Vec<i64> = (0..200).collect();
    let outcome = check(&spec, &json!({ "list": list }), &Json::Null);
    assert!(
        message(&outcome).contains("cost limit exceeded"),
        "{}",
        message(&outcome)
    );
}
