use crate::golden;
use expect_test::expect;
use serde_json::{Value, json};

const SERVICES: &str = "apiservices.apiregistration.k8s.io";

fn service(name: &str, spec: Value) -> Value {
    json!({"metadata": {"name": name, "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": spec})
}

#[test]
fn api_services() {
    let good = json!({"group": "a.b", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1, "service": {"name": "n", "namespace": "s"}});
    golden::create(SERVICES, service("v1.a.b", good.clone()), &expect![""]);
    golden::create(
        SERVICES,
        service("v1.a", good.clone()),
        &expect![[r#"metadata.name: Invalid value: "v1.a": must be `spec.version+"."+spec.group`: "v1.a.b""#]],
    );
    golden::create(
        SERVICES,
        service("a", json!({})),
        &expect![[r#"
        metadata.name: Invalid value: "a": must be `spec.version+"."+spec.group`: "."
        spec.group: Required value: only v1 may have an empty group and it better be legacy kube
        spec.version: Invalid value: "": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')
        spec.groupPriorityMinimum: Invalid value: 0: must be positive and less than 20000
        spec.versionPriority: Invalid value: 0: must be positive and less than 1000"#]],
    );
    let local = json!({"group": "A", "version": "1", "groupPriorityMinimum": 20_001, "versionPriority": 1001, "caBundle": "YQ==", "insecureSkipTLSVerify": true});
    golden::create(
        SERVICES,
        service("1.A", local),
        &expect![[r#"
        spec.group: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
        spec.version: Invalid value: "1": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')
        spec.groupPriorityMinimum: Invalid value: 20001: must be positive and less than 20000
        spec.versionPriority: Invalid value: 1001: must be positive and less than 1000
        spec.caBundle: Invalid value: "1 bytes": local APIServices may not have a caBundle
        spec.insecureSkipTLSVerify: Invalid value: true: local APIServices may not have insecureSkipTLSVerify"#]],
    );
    let remote = json!({"group": "a", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1, "caBundle": "YQ==",
        "insecureSkipTLSVerify": true, "service": {"port": 0}});
    golden::create(
        SERVICES,
        service("v1.a", remote),
        &expect![[r#"
        spec.service.namespace: Required value
        spec.service.name: Required value
        spec.service.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive
        spec.insecureSkipTLSVerify: Invalid value: true: may not be true if caBundle is present"#]],
    );
    let odd = json!({"spec": good, "status": {"conditions": [{"type": "Available", "status": "Maybe"}]}});
    golden::status(
        SERVICES,
        service("v1.a.b", good.clone()),
        odd,
        &expect![[
            r#"status.conditions[0].status: Unsupported value: "Maybe": supported values: "True", "False", "Unknown""#
        ]],
    );
    let mut failing = service("v1.a.b", good);
    failing["status"] = json!({"conditions": [{"type": "Available", "status": "False", "reason": "MissingEndpoints"}]});
    golden::row(
        SERVICES,
        failing,
        &expect![[r#"
        Name: "v1.a.b"
        Service: "s/n"
        Available: "False (MissingEndpoints)"
        Age: "24h""#]],
    );
}

#[test]
fn local_ones_are_available_at_once() {
    let kind = golden::kind(SERVICES);
    let mut object = golden::decode(kind, service("v1.a", json!({"group": "a", "version": "v1"})));
    kind.prepare_create(&mut *object);
    let object = object.to_value().expect("JSON");
    assert_eq!(object["status"]["conditions"][0]["reason"], "Local");
    assert_eq!(
        object["status"]["conditions"][0]["lastTransitionTime"],
        "2026-01-01T00:00:00Z"
    );
}
