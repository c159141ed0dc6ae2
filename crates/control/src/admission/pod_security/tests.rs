use super::policy::Version;
use super::*;
use expect_test::{Expect, expect};
use serde_json::{Value, json};

fn restricted_pod() -> Value {
    json!({
        "metadata": {},
        "spec": {
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "a", "securityContext": {
                "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
        },
    })
}

/// A pod as the strictest level wants it, with some fields put at their JSON pointers.
fn pod_with(changes: &[(&str, Value)]) -> Pod {
    let mut pod = restricted_pod();
    for (pointer, value) in changes {
        let mut at = &mut pod;
        for segment in pointer.trim_start_matches('/').split('/') {
            let segment = segment.replace("~1", "/");
            at = match segment.parse::<usize>() {
                Ok(index) => {
                    if at.is_null() {
                        *at = json!([]);
                    }
                    let list = at.as_array_mut().unwrap();
                    while list.len() <= index {
                        list.push(json!({"name": format!("n{}", list.len())}));
                    }
                    &mut list[index]
                }
                Err(_) => &mut at[segment.as_str()],
            };
        }
        *at = value.clone();
    }
    serde_json::from_value(pod).unwrap()
}

fn found(level: Level, version: Version, pod: &Pod) -> String {
    let none = BTreeMap::new();
    let subject = Subject {
        annotations: pod.metadata.annotations.as_ref().unwrap_or(&none),
        spec: pod.spec.as_ref().unwrap(),
    };
    in_detail(&violations(LevelVersion { level, version }, &subject))
}

/// What baseline and restricted say, one line each; empty where they allow it.
fn check(changes: &[(&str, Value)], expected: &Expect) {
    let pod = pod_with(changes);
    let baseline = found(Level::Baseline, Version::Latest, &pod);
    let restricted = found(Level::Restricted, Version::Latest, &pod);
    assert_eq!(found(Level::Privileged, Version::Latest, &pod), "");
    expected.assert_eq(&format!("{baseline}\n{restricted}"));
}

fn assert_fine(changes: &[(&str, Value)]) {
    let pod = pod_with(changes);
    assert_eq!(found(Level::Baseline, Version::Latest, &pod), "");
    assert_eq!(found(Level::Restricted, Version::Latest, &pod), "");
}

const CONTEXT: &str = "/spec/containers/0/securityContext";

fn in_context(field: &str) -> String {
    format!("{CONTEXT}/{field}")
}

#[test]
fn a_plain_pod_is_baseline_but_not_restricted() {
    assert_fine(&[]);
    check(
        &[
            (CONTEXT, json!({})),
            ("/spec/securityContext", json!({})),
            ("/spec/containers/1", json!({"name": "b"})),
        ],
        &expect![[r#"

            allowPrivilegeEscalation != false (containers "a", "b" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (containers "a", "b" must set securityContext.capabilities.drop=["ALL"]), runAsNonRoot != true (pod or containers "a", "b" must set securityContext.runAsNonRoot=true), seccompProfile (pod or containers "a", "b" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")"#]],
    );
}

#[test]
fn what_is_shared_with_the_host() {
    check(
        &[
            ("/spec/hostNetwork", json!(true)),
            ("/spec/hostPID", json!(true)),
            ("/spec/hostIPC", json!(true)),
        ],
        &expect![[r#"
            host namespaces (hostNetwork=true, hostPID=true, hostIPC=true)
            host namespaces (hostNetwork=true, hostPID=true, hostIPC=true)"#]],
    );
    check(
        &[
            (
                "/spec/containers/0/ports",
                json!([{"containerPort": 1, "hostPort": 80}, {"containerPort": 1, "hostPort": 443}]),
            ),
            (
                "/spec/volumes",
                json!([{"name": "v", "hostPath": {"path": "/"}}, {"name": "n", "nfs": {"path": "/", "server": "s"}}]),
            ),
        ],
        &expect![[r#"
            hostPath volumes (volume "v"), hostPort (container "a" uses hostPorts 443, 80)
            hostPort (container "a" uses hostPorts 443, 80), restricted volume types (volumes "v", "n" use restricted volume types "hostPath", "nfs")"#]],
    );
    check(
        &[
            (
                "/spec/containers/0/livenessProbe",
                json!({"httpGet": {"host": "h", "port": 1}}),
            ),
            (
                "/spec/containers/0/lifecycle",
                json!({"preStop": {"tcpSocket": {"host": "g", "port": 1}}}),
            ),
        ],
        &expect![[r#"
            probe or lifecycle host (container "a" uses probe or lifecycle hosts "g", "h")
            probe or lifecycle host (container "a" uses probe or lifecycle hosts "g", "h")"#]],
    );
    check(
        &[("/spec/securityContext/windowsOptions", json!({"hostProcess": true}))],
        &expect![[r#"
            hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)
            hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)"#]],
    );
}

#[test]
fn privileges_and_capabilities() {
    check(
        &[
            (&in_context("privileged"), json!(true)),
            (&in_context("allowPrivilegeEscalation"), json!(true)),
        ],
        &expect![[r#"
            privileged (container "a" must not set securityContext.privileged=true)
            privileged (container "a" must not set securityContext.privileged=true), allowPrivilegeEscalation != false (container "a" must set securityContext.allowPrivilegeEscalation=false)"#]],
    );
    check(
        &[(&in_context("capabilities"), json!({"add": ["NET_RAW", "CHOWN", "BPF"]}))],
        &expect![[r#"
            non-default capabilities (container "a" must not include "BPF", "NET_RAW" in securityContext.capabilities.add)
            unrestricted capabilities (container "a" must set securityContext.capabilities.drop=["ALL"]; container "a" must not include "BPF", "CHOWN", "NET_RAW" in securityContext.capabilities.add)"#]],
    );
    assert_fine(&[(
        &in_context("capabilities"),
        json!({"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}),
    )]);
    check(
        &[(
            "/spec/securityContext/sysctls",
            json!([{"name": "net.ipv4.tcp_rmem", "value": ""}, {"name": "kernel.msgmax", "value": ""}]),
        )],
        &expect![[r#"
            forbidden sysctls (kernel.msgmax)
            forbidden sysctls (kernel.msgmax)"#]],
    );
}

#[test]
fn users() {
    check(
        &[
            ("/spec/securityContext/runAsUser", json!(0)),
            (&in_context("runAsUser"), json!(0)),
            (&in_context("runAsNonRoot"), json!(false)),
        ],
        &expect![[r#"

            runAsNonRoot != true (container "a" must not set securityContext.runAsNonRoot=false), runAsUser=0 (pod and container "a" must not set runAsUser=0)"#]],
    );
    // A user namespace of its own makes root harmless.
    check(
        &[
            ("/spec/hostUsers", json!(false)),
            (&in_context("runAsUser"), json!(0)),
            (&in_context("procMount"), json!("Unmasked")),
        ],
        &expect![[r#"

            procMount (container "a" must not set securityContext.procMount to "Unmasked")"#]],
    );
    check(
        &[(&in_context("procMount"), json!("Unmasked"))],
        &expect![[r#"
            procMount (container "a" must not set securityContext.procMount to "Unmasked")
            procMount (container "a" must not set securityContext.procMount to "Unmasked")"#]],
    );
}

#[test]
fn profiles() {
    check(
        &[
            ("/spec/securityContext/seccompProfile", json!({"type": "Unconfined"})),
            ("/spec/securityContext/appArmorProfile", json!({"type": "Unconfined"})),
            (
                "/spec/securityContext/seLinuxOptions",
                json!({"type": "spc_t", "user": "u"}),
            ),
            (
                &in_context("seLinuxOptions"),
                json!({"role": "r", "type": "container_engine_t"}),
            ),
            (
                "/metadata/annotations/container.apparmor.security.beta.kubernetes.io~1a",
                json!("unconfined"),
            ),
        ],
        &expect![[r#"
            forbidden AppArmor profiles (pod and annotation must not set AppArmor profile type to "Unconfined", "container.apparmor.security.beta.kubernetes.io/a="unconfined""), seLinuxOptions (pod and container "a" set forbidden securityContext.seLinuxOptions: type "spc_t"; user may not be set; role may not be set), seccompProfile (pod must not set securityContext.seccompProfile.type to "Unconfined")
            forbidden AppArmor profiles (pod and annotation must not set AppArmor profile type to "Unconfined", "container.apparmor.security.beta.kubernetes.io/a="unconfined""), seLinuxOptions (pod and container "a" set forbidden securityContext.seLinuxOptions: type "spc_t"; user may not be set; role may not be set), seccompProfile (pod must not set securityContext.seccompProfile.type to "Unconfined")"#]],
    );
}

#[test]
fn ephemeral_and_init_containers_count_too() {
    check(
        &[
            (
                "/spec/initContainers",
                json!([{"name": "i", "securityContext": {"privileged": true}}]),
            ),
            (
                "/spec/ephemeralContainers",
                json!([{"name": "e", "securityContext": {"privileged": true}}]),
            ),
        ],
        &expect![[r#"
            privileged (containers "i", "e" must not set securityContext.privileged=true)
            privileged (containers "i", "e" must not set securityContext.privileged=true), allowPrivilegeEscalation != false (containers "i", "e" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (containers "i", "e" must set securityContext.capabilities.drop=["ALL"])"#]],
    );
}

#[test]
fn older_versions_demand_less() {
    let plain = pod_with(&[
        (CONTEXT, json!({})),
        (
            "/spec/securityContext",
            json!({"sysctls": [{"name": "net.ipv4.tcp_rmem", "value": ""}]}),
        ),
    ]);
    let restricted = |minor| found(Level::Restricted, Version::Minor(minor), &plain);
    expect![[r#"forbidden sysctls (net.ipv4.tcp_rmem), runAsNonRoot != true (pod or container "a" must set securityContext.runAsNonRoot=true)"#]].assert_eq(&restricted(7));
    expect![[r#"forbidden sysctls (net.ipv4.tcp_rmem), allowPrivilegeEscalation != false (container "a" must set securityContext.allowPrivilegeEscalation=false), runAsNonRoot != true (pod or container "a" must set securityContext.runAsNonRoot=true)"#]].assert_eq(&restricted(8));
    assert_eq!(restricted(35), restricted(99));
    assert!(!restricted(32).contains("sysctls"));
    let windows = pod_with(&[(CONTEXT, json!({})), ("/spec/os", json!({"name": "windows"}))]);
    assert_eq!(found(Level::Restricted, Version::Latest, &windows), "");
    assert!(found(Level::Restricted, Version::Minor(24), &windows).contains("allowPrivilegeEscalation"));
}

#[test]
fn labels_say_what_is_demanded() {
    let read = |labels: &[(&str, &str)]| {
        let labels: BTreeMap<String, String> = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let mut errors = Errors::new();
        let policy = Policy::of_labels(&labels, &Policy::PRIVILEGED, &mut errors);
        format!(
            "{} {} {} {}",
            policy.enforce,
            policy.audit,
            policy.warn,
            errors.message()
        )
    };
    assert_eq!(read(&[]), "privileged:latest privileged:latest privileged:latest ");
    assert_eq!(
        read(&[(policy::ENFORCE, "restricted"), (policy::ENFORCE_VERSION, "v1.25")]),
        "restricted:v1.25 privileged:latest restricted:v1.25 "
    );
    assert_eq!(
        read(&[
            (policy::ENFORCE, "baseline"),
            (policy::WARN, "privileged"),
            (policy::AUDIT, "restricted")
        ]),
        "baseline:latest restricted:latest privileged:latest "
    );
    assert_eq!(
        read(&[(policy::ENFORCE, "x"), (policy::WARN_VERSION, "1.5")]),
        "restricted:latest privileged:latest privileged:latest [metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"x\": must be one of privileged, baseline, restricted, metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: \"1.5\": must be \"latest\" or \"v1.x\"]"
    );
}
