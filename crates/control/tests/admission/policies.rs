use crate::common::Cluster;
use serde_json::{Value, json};

const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
const BINDINGS: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn policy(name: &str, fields: &Value) -> Value {
    let mut policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name},
        "spec": {"matchConstraints": {"resourceRules": [
            {"operations": ["CREATE", "UPDATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]}},
    });
    for (key, value) in fields.as_object().into_iter().flatten() {
        policy["spec"][key] = value.clone();
    }
    policy
}

fn binding(name: &str, policy: &str, fields: &Value) -> Value {
    let mut binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name},
        "spec": {"policyName": policy, "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}}}},
    });
    for (key, value) in fields.as_object().into_iter().flatten() {
        binding["spec"][key] = value.clone();
    }
    binding
}

fn map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

#[tokio::test]
async fn a_policy_denies_warns_or_does_nothing_without_a_binding() {
    let cluster = Cluster::start().await;
    let spec = json!({"validations": [{"expression": "object.data['size'] != 'big'", "message": "too big", "reason": "Forbidden"}]});
    cluster.post(POLICIES, &policy("p", &spec)).await.ok();
    cluster.post(MAPS, &map("a", json!({"size": "big"}))).await.ok();
    cluster.post(BINDINGS, &binding("b", "p", &json!({}))).await.ok();
    let refused = cluster.post(MAPS, &map("b", json!({"size": "big"}))).await;
    let message =
        "configmaps \"b\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: too big";
    assert_eq!(refused.failure(), format!("403 Forbidden: {message}"));
    let cause = json!([{"message": "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: too big"}]);
    assert_eq!(refused.json()["details"]["causes"], cause);
    cluster.post(MAPS, &map("c", json!({"size": "small"}))).await.ok();

    let warn = binding("b", "p", &json!({"validationActions": ["Warn", "Audit"]}));
    cluster.patch(&format!("{BINDINGS}/b"), "merge", &warn).await.ok();
    let warned = cluster.post(MAPS, &map("b", json!({"size": "big"}))).await;
    warned.ok();
    assert_eq!(
        warned.warnings,
        ["299 - \"Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': too big\""]
    );
}

#[tokio::test]
async fn without_a_reason_a_denial_is_invalid_and_says_which_expression_failed() {
    let cluster = Cluster::start().await;
    let spec = json!({"validations": [{"expression": "size(object.data) < 2"}]});
    cluster.post(POLICIES, &policy("p", &spec)).await.ok();
    cluster.post(BINDINGS, &binding("b", "p", &json!({}))).await.ok();
    assert_eq!(
        cluster
            .post(MAPS, &map("a", json!({"x": "1", "y": "2"})))
            .await
            .failure(),
        "422 Invalid: configmaps \"a\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: failed \
         expression: size(object.data) < 2"
    );
    assert_eq!(
        cluster.post(MAPS, &json!({"metadata": {"name": "a"}})).await.failure(),
        "422 Invalid: configmaps \"a\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: expression \
         'size(object.data) < 2' resulted in error: no such key: data"
    );
}

#[tokio::test]
async fn parameters_come_from_objects() {
    let cluster = Cluster::start().await;
    let spec = json!({
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConditions": [{"name": "not-params", "expression": "!object.metadata.name.startsWith('params')"}],
        "variables": [{"name": "most", "expression": "int(params.data.most)"}],
        "validations": [{"expression": "size(object.data) <= variables.most", "messageExpression": "'at most ' + string(variables.most)"}],
    });
    cluster.post(POLICIES, &policy("p", &spec)).await.ok();
    let by_name = json!({"paramRef": {"name": "params", "parameterNotFoundAction": "Deny"}});
    cluster.post(BINDINGS, &binding("b", "p", &by_name)).await.ok();
    let denied = "ValidatingAdmissionPolicy 'p' with binding 'b' denied request";
    assert_eq!(
        cluster.post(MAPS, &map("a", json!({}))).await.failure(),
        format!(
            "422 Invalid: configmaps \"a\" is forbidden: {denied}: failed to configure binding: no params found for policy binding \
             with `Deny` parameterNotFoundAction"
        )
    );
    let without = binding("early", "none", &json!({}));
    cluster.post(BINDINGS, &without).await.ok();
    // The parameters themselves are config maps too: made while nothing binds the policy.
    cluster.delete(&format!("{BINDINGS}/b"), &Value::Null).await.ok();
    cluster.post(MAPS, &map("params", json!({"most": "1"}))).await.ok();
    cluster.post(BINDINGS, &binding("b", "p", &by_name)).await.ok();
    cluster.post(MAPS, &map("a", json!({"x": "1"}))).await.ok();
    assert_eq!(
        cluster
            .post(MAPS, &map("b", json!({"x": "1", "y": "1"})))
            .await
            .failure(),
        format!("422 Invalid: configmaps \"b\" is forbidden: {denied}: at most 1")
    );
    let by_label =
        json!({"paramRef": {"selector": {"matchLabels": {"role": "none"}}, "parameterNotFoundAction": "Allow"}});
    cluster.patch(&format!("{BINDINGS}/b"), "merge", &json!({"spec": {"paramRef": {"name": null, "selector": by_label["paramRef"]["selector"], "parameterNotFoundAction": "Allow"}}}))
        .await
        .ok();
    cluster.post(MAPS, &map("b", json!({"x": "1", "y": "1"}))).await.ok();
}

#[tokio::test]
async fn expressions_know_the_request_its_namespace_and_what_users_may() {
    let cluster = Cluster::start().await;
    let expression = "request.userInfo.username == 'tester' && namespaceObject.metadata.name == 'default' && request.operation == \
                      'CREATE' && authorizer.group('').resource('configmaps').namespace('default').check('create').allowed()";
    let spec = json!({"validations": [{"expression": expression, "message": "unknown"}]});
    cluster.post(POLICIES, &policy("p", &spec)).await.ok();
    cluster.post(BINDINGS, &binding("b", "p", &json!({}))).await.ok();
    cluster.post(MAPS, &map("a", json!({}))).await.ok();
    let update = cluster
        .patch(&format!("{MAPS}/a"), "merge", &json!({"data": {"x": "y"}}))
        .await;
    assert_eq!(update.code, 422);
}

#[tokio::test]
async fn wrong_expressions_are_refused_when_they_are_written() {
    let cluster = Cluster::start().await;
    let spec = json!({
        "variables": [{"name": "a", "expression": "request.nothing"}],
        "validations": [{"expression": "object.x", "messageExpression": "1"}],
    });
    let refused = cluster.post(POLICIES, &policy("p", &spec)).await;
    assert_eq!(refused.code, 422, "{}", refused.text);
    let fields: Vec<(String, String)> = refused.json()["details"]["causes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cause| {
            (
                cause["field"].as_str().unwrap().to_owned(),
                cause["message"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    assert_eq!(fields[0].0, "spec.variables[0].expression");
    assert!(fields[0].1.contains("undefined field 'nothing'"), "{}", fields[0].1);
    assert_eq!(fields[1].0, "spec.validations[0].expression");
    assert!(
        fields[1].1.ends_with("must evaluate to bool but got dyn"),
        "{}",
        fields[1].1
    );
    assert_eq!(fields[2].0, "spec.validations[0].messageExpression");
    assert!(
        fields[2].1.ends_with("must evaluate to string but got int"),
        "{}",
        fields[2].1
    );
}
