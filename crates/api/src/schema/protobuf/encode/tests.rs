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
