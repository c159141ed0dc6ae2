use crate::golden;
use expect_test::expect;
use serde_json::json;

#[test]
fn rules() {
    let rules = json!({"rules": [
        {"verbs": []},
        {"verbs": ["get"], "apiGroups": [""], "resources": ["pods", "services"], "resourceNames": ["a"]},
        {"verbs": ["get"], "nonResourceURLs": ["/healthz"]},
        {"verbs": ["get"], "nonResourceURLs": ["/healthz"], "resources": ["pods"]},
    ]});
    golden::create(
        "roles.rbac.authorization.k8s.io",
        rules.clone(),
        &expect![[r#"
            rules[0].verbs: Required value: verbs must contain at least one value
            rules[0].apiGroups: Required value: resource rules must supply at least one api group
            rules[0].resources: Required value: resource rules must supply at least one resource
            rules[2].nonResourceURLs: Invalid value: ["/healthz"]: namespaced rules cannot apply to non-resource URLs
            rules[3].nonResourceURLs: Invalid value: ["/healthz"]: namespaced rules cannot apply to non-resource URLs
            rules[3].nonResourceURLs: Invalid value: ["/healthz"]: rules cannot apply to both regular resources and non-resource URLs"#]],
    );
    golden::create(
        "clusterroles.rbac.authorization.k8s.io",
        rules,
        &expect![[r#"
            rules[0].verbs: Required value: verbs must contain at least one value
            rules[0].apiGroups: Required value: resource rules must supply at least one api group
            rules[0].resources: Required value: resource rules must supply at least one resource
            rules[3].nonResourceURLs: Invalid value: ["/healthz"]: rules cannot apply to both regular resources and non-resource URLs"#]],
    );
}

#[test]
fn subjects() {
    let binding = json!({"roleRef": {"kind": "ClusterRole", "name": "view"}, "subjects": [
        {"kind": "User", "name": ""},
        {"kind": "Group", "apiGroup": "example.com", "name": "devs"},
        {"kind": "ServiceAccount", "name": "A"},
        {"kind": "ServiceAccount", "apiGroup": "rbac.authorization.k8s.io", "name": "a", "namespace": "b"},
        {"kind": "Robot", "name": "r2"},
    ]});
    golden::create(
        "rolebindings.rbac.authorization.k8s.io",
        binding.clone(),
        &expect![[r#"
        subjects[0].name: Required value
        subjects[1].apiGroup: Unsupported value: "example.com": supported values: "rbac.authorization.k8s.io"
        subjects[2].name: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
        subjects[3].apiGroup: Unsupported value: "rbac.authorization.k8s.io": supported values: ""
        subjects[4].kind: Unsupported value: "Robot": supported values: "ServiceAccount", "User", "Group""#]],
    );
    golden::create(
        "clusterrolebindings.rbac.authorization.k8s.io",
        binding,
        &expect![[r#"
        subjects[0].name: Required value
        subjects[1].apiGroup: Unsupported value: "example.com": supported values: "rbac.authorization.k8s.io"
        subjects[2].name: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
        subjects[2].namespace: Required value
        subjects[3].apiGroup: Unsupported value: "rbac.authorization.k8s.io": supported values: ""
        subjects[4].kind: Unsupported value: "Robot": supported values: "ServiceAccount", "User", "Group""#]],
    );
}

#[test]
fn role_references() {
    let with = |role: serde_json::Value| json!({"roleRef": role});
    golden::create(
        "clusterrolebindings.rbac.authorization.k8s.io",
        with(json!({})),
        &expect![[r#"
        roleRef.kind: Unsupported value: "": supported values: "ClusterRole"
        roleRef.name: Required value"#]],
    );
    let role = json!({"apiGroup": "a", "kind": "Role", "name": "a/b"});
    golden::create(
        "clusterrolebindings.rbac.authorization.k8s.io",
        with(role),
        &expect![[r#"
        roleRef.apiGroup: Unsupported value: "a": supported values: "rbac.authorization.k8s.io"
        roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole"
        roleRef.name: Invalid value: "a/b": may not contain '/'"#]],
    );
    let binding = |name: &str| json!({"roleRef": {"kind": "ClusterRole", "name": name}});
    golden::update(
        "clusterrolebindings.rbac.authorization.k8s.io",
        binding("view"),
        binding("edit"),
        &expect![[
            r#"roleRef: Invalid value: {"APIGroup":"rbac.authorization.k8s.io","Kind":"ClusterRole","Name":"edit"}: cannot change roleRef"#
        ]],
    );
    golden::defaults(
        "rolebindings.rbac.authorization.k8s.io",
        json!({"roleRef": {"kind": "Role", "name": "a"},
            "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s"}]}),
        &expect![[r#"
            {
              "apiVersion": "rbac.authorization.k8s.io/v1",
              "kind": "RoleBinding",
              "metadata": {},
              "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "Role",
                "name": "a"
              },
              "subjects": [
                {
                  "apiGroup": "rbac.authorization.k8s.io",
                  "kind": "User",
                  "name": "u"
                },
                {
                  "kind": "ServiceAccount",
                  "name": "s"
                }
              ]
            }"#]],
    );
}

#[test]
fn tables() {
    let metadata = json!({"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z"});
    golden::row(
        "roles.rbac.authorization.k8s.io",
        json!({"metadata": metadata}),
        &expect![[r#"
            Name: "a"
            Created At: "2026-01-01T00:00:00Z""#]],
    );
    let binding = json!({"metadata": metadata, "roleRef": {"kind": "Role", "name": "r"}, "subjects": [
        {"kind": "User", "name": "u"}, {"kind": "User", "name": "v"}, {"kind": "Group", "name": "g"},
        {"kind": "ServiceAccount", "name": "s", "namespace": "n"},
    ]});
    golden::row(
        "rolebindings.rbac.authorization.k8s.io",
        binding,
        &expect![[r#"
        Name: "a"
        Role: "Role/r"
        Age: "24h"
        Users (wide): "u, v"
        Groups (wide): "g"
        ServiceAccounts (wide): "n/s""#]],
    );
}
