//! Goldens of the small kinds; pods have their own.

use super::*;

mod apps;
mod autoscaling;
mod batch;
mod services;
mod storage_and_quotas;

use catamaran_api::Errors;
use expect_test::{Expect, expect};
use serde_json::json;

pub(super) fn kind(name: &str) -> &'static dyn ErasedKind {
    *ALL.iter().find(|kind| kind.info().kind == name).expect("a kind")
}

pub(super) fn decode(kind: &dyn ErasedKind, value: Value) -> Box<dyn Object> {
    let mut object = kind.decode(value).expect("an object");
    kind.default(&mut *object);
    object
}

/// Errors of an object, then those of a change if there is a second one.
pub(super) fn check(name: &str, versions: &[Value], expected: &Expect) {
    let kind = kind(name);
    let mut errors = Errors::new();
    let objects: Vec<_> = versions.iter().map(|value| decode(kind, value.clone())).collect();
    match &objects[..] {
        [object] => kind.validate(&**object, &mut errors),
        [old, new] => kind.validate_update(&**new, &**old, &mut errors),
        _ => panic!("one object or two"),
    }
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    expected.assert_eq(&lines.join("\n"));
}

pub(super) fn check_row(name: &str, value: Value, expected: &Expect) {
    let kind = kind(name);
    let now: Timestamp = "2026-01-02T00:00:00Z".parse().expect("a time");
    let object = decode(kind, value);
    let cells = kind.row(&*object, now);
    assert_eq!(cells.len(), kind.columns().len());
    let pairs = kind.columns().iter().zip(cells);
    let lines: Vec<String> = pairs
        .map(|(column, cell)| {
            format!(
                "{}{}: {cell}",
                column.name,
                if column.priority > 0 { " (wide)" } else { "" }
            )
        })
        .collect();
    expected.assert_eq(&lines.join("\n"));
}

/// Errors of an object on its own, one a line.
pub(super) fn errors_of(name: &str, value: &Value) -> String {
    let kind = kind(name);
    let mut errors = Errors::new();
    kind.validate(&*decode(kind, value.clone()), &mut errors);
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// What is kept of a new object: its JSON after defaulting and preparing, less `apiVersion` and `kind`.
#[allow(clippy::needless_pass_by_value, reason = "literals read best in place")]
pub(super) fn check_created(name: &str, value: Value, expected: &Expect) {
    let kind = kind(name);
    let mut object = decode(kind, value);
    kind.prepare_create(&mut *object);
    let mut json = object.to_value().expect("JSON");
    let fields = json.as_object_mut().expect("an object");
    fields.remove("apiVersion");
    fields.remove("kind");
    expected.assert_eq(&serde_json::to_string_pretty(&json).expect("JSON"));
}

/// Errors of a change of status.
pub(super) fn check_status(name: &str, old: Value, new: Value, expected: &Expect) {
    let kind = kind(name);
    let mut errors = Errors::new();
    kind.validate_status(&*decode(kind, new), &*decode(kind, old), &mut errors);
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    expected.assert_eq(&lines.join("\n"));
}

pub(super) fn check_warnings(name: &str, value: Value, expected: &Expect) {
    let kind = kind(name);
    expected.assert_eq(&kind.warnings(&*decode(kind, value), None).join("\n"));
}

#[test]
fn config_maps() {
    check(
        "ConfigMap",
        &[json!({"data": {"a b": "", "both": ""}, "binaryData": {"both": "", "..": ""}})],
        &expect![[r#"
            data[a b]: Invalid value: "a b": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')
            data[both]: Invalid value: "both": duplicate of key present in binaryData
            binaryData[..]: Invalid value: "..": must not be '..'"#]],
    );
    check(
        "ConfigMap",
        &[json!({"data": {"a": "x".repeat(2_000_000)}})],
        &expect![": Too long: may not be more than 1048576 bytes"],
    );
    let locked = json!({"immutable": true, "data": {"a": "1"}});
    check("ConfigMap", &[locked.clone(), locked.clone()], &expect![""]);
    check(
        "ConfigMap",
        &[locked, json!({"data": {"a": "2"}})],
        &expect![[r#"
        immutable: Forbidden: field is immutable when `immutable` is set
        data: Forbidden: field is immutable when `immutable` is set"#]],
    );
}

#[test]
fn secrets() {
    check("Secret", &[json!({"stringData": {"a": "1"}})], &expect![""]);
    for (kind, expected) in [
        (
            "kubernetes.io/tls",
            expect![[r#"
            data[tls.crt]: Required value
            data[tls.key]: Required value"#]],
        ),
        (
            "kubernetes.io/dockerconfigjson",
            expect!["data[.dockerconfigjson]: Required value"],
        ),
        (
            "kubernetes.io/basic-auth",
            expect![[r#"
            data[username]: Required value
            data[password]: Required value"#]],
        ),
        (
            "kubernetes.io/ssh-auth",
            expect!["data[ssh-privatekey]: Required value"],
        ),
        (
            "kubernetes.io/service-account-token",
            expect!["metadata.annotations[kubernetes.io/service-account.name]: Required value"],
        ),
        ("example.com/mine", expect![""]),
    ] {
        check("Secret", &[json!({"type": kind})], &expected);
    }
    let text = json!({"type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": "{"}});
    check(
        "Secret",
        &[text],
        &expect![[
            r#"data[.dockerconfigjson]: Invalid value: "<secret contents redacted>": EOF while parsing an object at line 1 column 1"#
        ]],
    );
    check(
        "Secret",
        &[json!({}), json!({"type": "other"})],
        &expect![[r#"type: Invalid value: "other": field is immutable"#]],
    );
}

#[test]
fn nodes() {
    let taint = json!({"key": "a", "effect": "NoSchedule"});
    check(
        "Node",
        &[
            json!({"spec": {"taints": [taint, taint, {"key": "b c", "effect": ""}, {"key": "d", "effect": "Later"}],
            "podCIDRs": ["10.0.0.0/40"]}, "status": {"capacity": {"cpu": "-1"}}}),
        ],
        &expect![[r#"
            metadata.taints[1]: Duplicate value: {"Key":"a","Value":"","Effect":"NoSchedule","TimeAdded":null}: taints must be unique by key and effect pair
            metadata.taints[2].key: Invalid value: "b c": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            metadata.taints[2].effect: Required value
            metadata.taints[3].effect: Unsupported value: "Later": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"
            status.capacity.cpu: Invalid value: "-1": must be greater than or equal to 0
            status.allocatable.cpu: Invalid value: "-1": must be greater than or equal to 0
            spec.podCIDRs[0]: Invalid value: "10.0.0.0/40": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"#]],
    );
    check(
        "Node",
        &[
            json!({"spec": {"podCIDRs": ["10.0.0.0/24"], "providerID": "a"}}),
            json!({"spec": {"providerID": "b"}}),
        ],
        &expect![[r#"
            spec.podCIDRs: Forbidden: node updates may not change podCIDR except from "" to valid
            spec.providerID: Forbidden: node updates may not change providerID except from "" to valid"#]],
    );
    check_row(
        "Node",
        json!({"metadata": {"name": "n", "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": {"node-role.kubernetes.io/worker": "", "kubernetes.io/role": "edge"}},
            "spec": {"unschedulable": true},
            "status": {"conditions": [{"type": "Ready", "status": "True"}],
                "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
                "nodeInfo": {"kubeletVersion": "v1.35.0+catamaran", "osImage": "Debian", "kernelVersion": "6",
                    "containerRuntimeVersion": "catamaran://0.1", "architecture": "", "bootID": "", "kubeProxyVersion": "",
                    "machineID": "", "operatingSystem": "", "systemUUID": ""}}}),
        &expect![[r#"
            Name: "n"
            Status: "Ready,SchedulingDisabled"
            Roles: "edge,worker"
            Age: "24h"
            Version: "v1.35.0+catamaran"
            Internal-IP (wide): "10.0.0.1"
            External-IP (wide): "<none>"
            OS-Image (wide): "Debian"
            Kernel-Version (wide): "6"
            Container-Runtime (wide): "catamaran://0.1""#]],
    );
}

#[test]
fn events() {
    check(
        "Event",
        &[
            json!({"metadata": {"namespace": "a"}, "involvedObject": {"namespace": "b"}, "eventTime": "2026-01-01T00:00:00Z"}),
        ],
        &expect![[r#"
            reportingComponent: Required value
            reportingComponent: Invalid value: "": name part must be non-empty
            reportingComponent: Invalid value: "": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            reportingInstance: Required value
            action: Required value
            reason: Required value"#]],
    );
    check_row(
        "Event",
        json!({"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec.containers{a}"},
            "type": "Warning", "reason": "BackOff", "message": " text\n", "eventTime": "2026-01-01T00:00:00Z",
            "series": {"count": 7, "lastObservedTime": "2026-01-01T23:59:00Z"},
            "reportingComponent": "agent", "reportingInstance": "n1"}),
        &expect![[r#"
            Last Seen: "60s"
            Type: "Warning"
            Reason: "BackOff"
            Object: "pod/p"
            Subobject (wide): "spec.containers{a}"
            Source (wide): "agent, n1"
            Message: "text"
            First Seen (wide): "24h"
            Count (wide): 7
            Name (wide): "e""#]],
    );
}

#[test]
fn leases_and_runtime_classes() {
    check(
        "Lease",
        &[json!({"spec": {"leaseDurationSeconds": 0, "leaseTransitions": -1, "preferredHolder": "x"}})],
        &expect![[r#"
            spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0
            spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0
            spec.preferredHolder: Forbidden: may only be specified if `strategy` is defined"#]],
    );
    check_row(
        "Lease",
        json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "me"}}),
        &expect![[r#"
        Name: "l"
        Holder: "me"
        Age: "<unknown>""#]],
    );
    check(
        "RuntimeClass",
        &[json!({"handler": "A.b", "scheduling": {"nodeSelector": {"a b": "c"}}})],
        &expect![[r#"
        handler: Invalid value: "A.b": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
        scheduling.nodeSelector: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"#]],
    );
    check(
        "RuntimeClass",
        &[json!({"handler": "a"}), json!({"handler": "b"})],
        &expect![[r#"handler: Invalid value: "b": field is immutable"#]],
    );
}

/// Filling in defaults is done on every write, so the second time must change nothing.
#[test]
fn defaults_are_stable() {
    for kind in ALL {
        let name = kind.info().kind;
        let once = decode(*kind, json!({"metadata": {"name": "a"}, "spec": {}, "handler": "h"}));
        let mut twice = once.boxed_clone();
        kind.default(&mut *twice);
        assert_eq!(once.to_value().unwrap(), twice.to_value().unwrap(), "{name}");
    }
}
