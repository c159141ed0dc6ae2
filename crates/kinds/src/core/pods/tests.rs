use super::*;
use expect_test::{Expect, expect};
use serde_json::json;

#[allow(clippy::needless_pass_by_value, reason = "literals read best in place")]
fn decode(spec: Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
}

fn defaulted(spec: Value) -> Pod {
    let mut pod = decode(spec);
    Kind::default(&Pods, &mut pod);
    pod
}

fn lines(errors: &Errors) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Errors of a spec after defaulting.
fn check(spec: Value, expected: &Expect) {
    let mut errors = Errors::new();
    let pod = defaulted(spec);
    Pods.validate(&pod, &mut errors);
    Pods.validate_create(&pod, &mut errors);
    expected.assert_eq(&lines(&errors));
}

/// Errors of one container.
#[allow(clippy::needless_pass_by_value, reason = "literals read best in place")]
fn check_container(fields: Value, expected: &Expect) {
    let mut container = json!({"name": "c", "image": "i"});
    container
        .as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    check(json!({"containers": [container], "volumes": [{"name": "v"}]}), expected);
}

#[test]
fn defaults() {
    let pod = defaulted(json!({
        "serviceAccount": "robot",
        "volumes": [{"name": "a"}, {"name": "b", "secret": {"secretName": "s"}}, {"name": "c", "hostPath": {"path": "/"}}],
        "containers": [{"name": "c", "image": "i:1", "ports": [{"containerPort": 80}],
            "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
            "resources": {"limits": {"cpu": "1"}, "requests": {"memory": "1Mi"}},
            "livenessProbe": {"httpGet": {"port": 80}}}]}));
    expect![[r#"
        {
          "containers": [
            {
              "env": [
                {
                  "name": "IP",
                  "valueFrom": {
                    "fieldRef": {
                      "apiVersion": "v1",
                      "fieldPath": "status.podIP"
                    }
                  }
                }
              ],
              "image": "i:1",
              "imagePullPolicy": "IfNotPresent",
              "livenessProbe": {
                "failureThreshold": 3,
                "httpGet": {
                  "path": "/",
                  "port": 80,
                  "scheme": "HTTP"
                },
                "periodSeconds": 10,
                "successThreshold": 1,
                "timeoutSeconds": 1
              },
              "name": "c",
              "ports": [
                {
                  "containerPort": 80,
                  "protocol": "TCP"
                }
              ],
              "resources": {
                "limits": {
                  "cpu": "1"
                },
                "requests": {
                  "cpu": "1",
                  "memory": "1Mi"
                }
              },
              "terminationMessagePath": "/dev/termination-log",
              "terminationMessagePolicy": "File"
            }
          ],
          "dnsPolicy": "ClusterFirst",
          "enableServiceLinks": true,
          "restartPolicy": "Always",
          "schedulerName": "default-scheduler",
          "securityContext": {},
          "serviceAccount": "robot",
          "serviceAccountName": "robot",
          "terminationGracePeriodSeconds": 30,
          "volumes": [
            {
              "emptyDir": {},
              "name": "a"
            },
            {
              "name": "b",
              "secret": {
                "defaultMode": 420,
                "secretName": "s"
              }
            },
            {
              "hostPath": {
                "path": "/",
                "type": ""
              },
              "name": "c"
            }
          ]
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&pod.spec).unwrap());
    let mut again = pod.clone();
    Kind::default(&Pods, &mut again);
    assert_eq!(again, pod);
    check(serde_json::to_value(&pod.spec).unwrap(), &expect![""]);
}

#[test]
fn a_new_pod_is_pending_and_has_its_class() {
    for (resources, expected) in [
        (json!({}), "BestEffort"),
        (json!({"requests": {"cpu": "1"}}), "Burstable"),
        (json!({"limits": {"cpu": "1"}}), "Burstable"),
        (json!({"limits": {"cpu": "1", "memory": "1Gi"}}), "Guaranteed"),
    ] {
        let mut pod = defaulted(
            json!({"containers": [{"name": "c", "image": "i", "resources": resources}],
            "terminationGracePeriodSeconds": -5}),
        );
        Pods.prepare_create(&mut pod);
        let status = pod.status.unwrap();
        assert_eq!(
            (status.phase.as_deref(), status.qos_class.as_deref()),
            (Some("Pending"), Some(expected))
        );
        assert_eq!(pod.spec.unwrap().termination_grace_period_seconds, Some(1));
    }
}

#[test]
fn pods() {
    check(json!({"containers": []}), &expect!["spec.containers: Required value"]);
    check(
        json!({
            "restartPolicy": "Sometimes", "dnsPolicy": "None", "hostname": "A.b", "activeDeadlineSeconds": 0,
            "serviceAccountName": "_", "shareProcessNamespace": true, "hostPID": true,
            "hostAliases": [{"ip": "x", "hostnames": ["a_b"]}],
            "containers": [{"name": "a", "image": "i"}, {"name": "a", "image": " i"}, {"name": "", "image": ""}],
            "initContainers": [{"name": "a", "image": "i", "readinessProbe": {"tcpSocket": {"port": 1}}}],
            "ephemeralContainers": [{"name": "e", "image": "i"}],
            "securityContext": {"runAsUser": -1, "sysctls": [{"name": "A B", "value": ""}], "seccompProfile": {"type": "Localhost"}}}),
        &expect![[r#"
            spec.containers[1].name: Duplicate value: "a"
            spec.containers[2].name: Required value
            spec.containers[2].image: Required value
            spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always
            spec.initContainers[0].name: Duplicate value: "a"
            spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"
            spec.securityContext.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be enabled
            spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive
            spec.securityContext.sysctls[0].name: Invalid value: "A B": must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$
            spec.securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost
            spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None
            spec.hostname: Invalid value: "A.b": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            spec.hostAliases[0].ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
            spec.hostAliases[0].hostnames[0]: Invalid value: "a_b": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive
            spec.serviceAccountName: Invalid value: "_": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            spec.containers[1].image: Invalid value: " i": must not have leading or trailing whitespace
            spec.ephemeralContainers: Forbidden: cannot be set on create"#]],
    );
}

#[test]
fn ports() {
    check_container(
        json!({"ports": [{"containerPort": 0}, {"containerPort": 70000, "name": "UP", "protocol": "ICMP"},
            {"containerPort": 1, "name": "a", "hostPort": 5}, {"containerPort": 2, "name": "a", "hostPort": 5, "hostIP": "x"},
            {"containerPort": 3, "hostPort": 5}]}),
        &expect![[r#"
            spec.containers[0].ports[0].containerPort: Required value
            spec.containers[0].ports[1].name: Invalid value: "UP": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)
            spec.containers[0].ports[1].name: Invalid value: "UP": must contain at least one letter (a-z)
            spec.containers[0].ports[1].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive
            spec.containers[0].ports[1].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"
            spec.containers[0].ports[3].name: Duplicate value: "a"
            spec.containers[0].ports[4].hostPort: Duplicate value: "TCP//5""#]],
    );
}

#[test]
fn variables() {
    check_container(
        json!({"env": [{"name": ""}, {"name": "a=b"}, {"name": "A", "valueFrom": {}},
            {"name": "B", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "status.phase"}}},
            {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "m", "key": ""}, "secretKeyRef": {"name": "S", "key": "k"}}},
            {"name": "D", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a/b/c']"}}},
            {"name": "E", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "2"}}}],
            "envFrom": [{}, {"configMapRef": {"name": ""}}]}),
        &expect![[r#"
            spec.containers[0].env[0].name: Required value
            spec.containers[0].env[1].name: Invalid value: "a=b": a valid environment variable name must consist only of printable ASCII characters other than '='
            spec.containers[0].env[2].valueFrom: Invalid value: "": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`
            spec.containers[0].env[3].valueFrom.fieldRef.fieldPath: Unsupported value: "status.phase": supported values: "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"
            spec.containers[0].env[3].valueFrom: Invalid value: "": may not be specified when `value` is not empty
            spec.containers[0].env[4].valueFrom.configMapKeyRef.key: Required value
            spec.containers[0].env[4].valueFrom.secretKeyRef.name: Invalid value: "S": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            spec.containers[0].env[4].valueFrom: Invalid value: "": may not have more than one field specified at a time
            spec.containers[0].env[5].valueFrom.fieldRef: Invalid value: "a/b/c": a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')
            spec.containers[0].env[6].valueFrom.resourceFieldRef.divisor: Invalid value: "limits.cpu": only divisor's values 1m and 1 are supported with the cpu resource
            spec.containers[0].envFrom: Invalid value: "": must specify one of: `configMapRef` or `secretRef`
            spec.containers[0].envFrom[1].configMapRef.name: Required value"#]],
    );
}

#[test]
fn mounts_and_volumes() {
    check_container(
        json!({"volumeMounts": [{"name": "v", "mountPath": "/a", "subPath": "../x"}, {"name": "w", "mountPath": "/a"},
            {"name": "v", "mountPath": "", "mountPropagation": "Bidirectional"}]}),
        &expect![[r#"
            spec.containers[0].volumeMounts.subPath: Invalid value: "../x": must not contain '..'
            spec.containers[0].volumeMounts[1].name: Not found: "w"
            spec.containers[0].volumeMounts[1].mountPath: Invalid value: "/a": must be unique
            spec.containers[0].volumeMounts[2].mountPath: Required value
            spec.containers[0].volumeMounts.mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers"#]],
    );
    check(
        json!({"containers": [{"name": "c", "image": "i"}], "volumes": [
            {"name": "a"}, {"name": "a"}, {"name": "B"}, {"name": ""},
            {"name": "c", "emptyDir": {}, "hostPath": {"path": "/a/../b", "type": "Odd"}},
            {"name": "d", "configMap": {"name": "", "defaultMode": 1000, "items": [{"key": "", "path": "/x"}]}},
            {"name": "e", "secret": {"items": [{"key": "k", "path": "..x"}]}},
            {"name": "f", "downwardAPI": {"items": [{"path": "p"}]}}]}),
        &expect![[r#"
            spec.volumes[1].name: Duplicate value: "a"
            spec.volumes[2].name: Invalid value: "B": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            spec.volumes[3].name: Required value
            spec.volumes[4].hostPath: Forbidden: may not specify more than 1 volume type
            spec.volumes[5].configMap.name: Required value
            spec.volumes[5].configMap.defaultMode: Invalid value: 1000: must be a number between 0 and 0777 (octal), both inclusive
            spec.volumes[5].configMap.items[0].key: Required value
            spec.volumes[5].configMap.items[0].path: Invalid value: "/x": must be a relative path
            spec.volumes[6].secret.secretName: Required value
            spec.volumes[6].secret.items[0].path: Invalid value: "..x": must not start with '..'
            spec.volumes[7].downwardAPI: Required value: one of fieldRef and resourceFieldRef is required"#]],
    );
}

#[test]
fn resources() {
    check_container(
        json!({"resources": {"limits": {"cpu": "500m", "example.com/gpu": "1", "memory": "-1"},
            "requests": {"cpu": "1", "example.com/gpu": "0.5", "disk": "1"}}}),
        &expect![[r#"
            spec.containers[0].resources.limits[memory]: Invalid value: "-1": must be greater than or equal to 0
            spec.containers[0].resources.requests: Invalid value: "1": must be less than or equal to cpu limit of 500m
            spec.containers[0].resources.requests[disk]: Invalid value: "disk": must be a standard resource type or fully qualified
            spec.containers[0].resources.requests[disk]: Invalid value: "disk": must be a standard resource for containers
            spec.containers[0].resources.requests[example.com/gpu]: Invalid value: "0.5": must be an integer
            spec.containers[0].resources.requests: Invalid value: "0.5": must be equal to example.com/gpu limit of 1
            spec.containers[0].resources.requests[memory]: Invalid value: "-1": must be greater than or equal to 0"#]],
    );
}

#[test]
fn handlers() {
    check_container(
        json!({"livenessProbe": {"successThreshold": 2, "periodSeconds": -1}, "readinessProbe": {"exec": {}, "tcpSocket": {"port": 0}},
            "startupProbe": {"httpGet": {"port": "UP", "scheme": "FTP", "httpHeaders": [{"name": "a b", "value": ""}]}},
            "lifecycle": {"preStop": {}}}),
        &expect![[r#"
            spec.containers[0].lifecycle.preStop: Required value: must specify a handler type
            spec.containers[0].livenessProbe: Required value: must specify a handler type
            spec.containers[0].livenessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0
            spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1
            spec.containers[0].readinessProbe.exec.command: Required value
            spec.containers[0].readinessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type
            spec.containers[0].startupProbe.httpGet.port: Invalid value: "UP": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)
            spec.containers[0].startupProbe.httpGet.port: Invalid value: "UP": must contain at least one letter (a-z)
            spec.containers[0].startupProbe.httpGet.scheme: Unsupported value: "FTP": supported values: "HTTP", "HTTPS"
            spec.containers[0].startupProbe.httpGet.httpHeaders: Invalid value: "a b": a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')"#]],
    );
}

#[test]
fn scheduling() {
    check(
        json!({"containers": [{"name": "c", "image": "i"}], "nodeSelector": {"a b": "c"},
            "tolerations": [{"value": "x"}, {"key": "a", "operator": "Exists", "value": "x"}, {"key": "a", "operator": "Is"},
                {"key": "a", "effect": "Later", "tolerationSeconds": 1}],
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []},
                "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 0, "preference": {
                    "matchExpressions": [{"key": "a", "operator": "In"}, {"key": "b", "operator": "Like"}, {"key": "c", "operator": "Gt"}],
                    "matchFields": [{"key": "spec.x", "operator": "In", "values": ["a"]}]}}]},
              "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": ""}]}},
            "topologySpreadConstraints": [{"maxSkew": 0, "topologyKey": "z", "whenUnsatisfiable": "Maybe"}]}),
        &expect![[r#"
            spec.nodeSelector: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must have at least one node selector term
            spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 0: must be in the range 1-100
            spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'
            spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[1].operator: Invalid value: "Like": not a valid selector operator
            spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[2].values: Required value: must be specified single value when `operator` is 'Lt' or 'Gt'
            spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchFields[0].key: Invalid value: "spec.x": not a valid field selector key
            spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Required value: can not be empty
            spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Invalid value: "": name part must be non-empty
            spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Invalid value: "": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            spec.tolerations[0].operator: Invalid value: "": operator must be Exists when `key` is empty, which means "match all values and all keys"
            spec.tolerations[1].operator: Invalid value: "x": value must be empty when `operator` is 'Exists'
            spec.tolerations[2].operator: Unsupported value: "Is": supported values: "Equal", "Exists"
            spec.tolerations[3].effect: Invalid value: "Later": effect must be 'NoExecute' when `tolerationSeconds` is set
            spec.tolerations[3].effect: Unsupported value: "Later": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"
            spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero
            spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: "Maybe": supported values: "DoNotSchedule", "ScheduleAnyway""#]],
    );
}

#[test]
fn security_contexts() {
    check_container(
        json!({"securityContext": {"privileged": true, "allowPrivilegeEscalation": false, "runAsGroup": 3_000_000_000_u64,
            "seccompProfile": {"type": "Unconfined", "localhostProfile": "x"}, "procMount": "Some"}}),
        &expect![[r#"
            spec.containers[0].securityContext.runAsGroup: Invalid value: 3000000000: must be between 0 and 2147483647, inclusive
            spec.containers[0].securityContext.procMount: Unsupported value: "Some": supported values: "Default", "Unmasked"
            spec.containers[0].securityContext.seccompProfile.localhostProfile: Invalid value: {"Type":"Unconfined","LocalhostProfile":"x"}: can only be set when seccomp type is Localhost
            spec.containers[0].securityContext: Invalid value: {"Capabilities":null,"Privileged":true,"SELinuxOptions":null,"WindowsOptions":null,"RunAsUser":null,"RunAsGroup":3000000000,"RunAsNonRoot":null,"ReadOnlyRootFilesystem":null,"AllowPrivilegeEscalation":false,"ProcMount":"Some","SeccompProfile":{"Type":"Unconfined","LocalhostProfile":"x"},"AppArmorProfile":null}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true"#]],
    );
}

#[test]
fn updates() {
    let base = || {
        json!({"containers": [{"name": "c", "image": "i"}], "tolerations": [{"key": "a", "operator": "Exists"}],
        "activeDeadlineSeconds": 10})
    };
    let check = |change: &dyn Fn(&mut Value), expected: &Expect| {
        let old = defaulted(base());
        let mut spec = serde_json::to_value(&old.spec).unwrap();
        change(&mut spec);
        let mut errors = Errors::new();
        Pods.validate_update(&defaulted(spec), &old, &mut errors);
        expected.assert_eq(&lines(&errors));
    };
    check(
        &|spec| {
            spec["containers"][0]["image"] = "j".into();
            spec["activeDeadlineSeconds"] = 5.into();
            spec["tolerations"]
                .as_array_mut()
                .unwrap()
                .push(json!({"key": "b", "operator": "Exists"}));
        },
        &expect![""],
    );
    check(
        &|spec| spec["containers"][0]["args"] = json!(["x"]),
        &expect![[r#"
        spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)
          spec.containers[0].args: null -> ["x"]
    "#]],
    );
    check(
        &|spec| spec["containers"] = json!([]),
        &expect!["spec.containers: Forbidden: pod updates may not add or remove containers"],
    );
    check(
        &|spec| {
            spec["tolerations"] = json!([]);
            spec["activeDeadlineSeconds"] = 50.into();
            spec["schedulingGates"] = json!([{"name": "g"}]);
        },
        &expect![[r#"
            spec.activeDeadlineSeconds: Invalid value: 50: must be less than or equal to previous value
            spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds
            spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'g'
            spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)
              spec.schedulingGates: null -> [{"name":"g"}]
        "#]],
    );
}

#[test]
fn warnings_name_what_will_surprise() {
    let pod = decode(
        json!({"hostNetwork": true, "containers": [{"name": "c", "readinessProbe": {},
        "env": [{"name": "A"}, {"name": "A"}], "resources": {"requests": {"memory": "100m"}}}]}),
    );
    expect![[r#"
        spec.containers[0].resources.requests[memory]: fractional byte value "100m" is invalid, must be an integer
        spec.containers[0].env[1]: hides previous definition of "A", which may be dropped when using apply"#]]
    .assert_eq(&Pods.warnings(&pod, None).join("\n"));
    assert!(Pods.warnings(&pod, Some(&pod)).is_empty());
}

#[test]
fn statuses() {
    let pod = |status: Value| -> Pod {
        let mut pod = defaulted(json!({"containers": [{"name": "c", "image": "i"}]}));
        pod.status = Some(serde_json::from_value(status).unwrap());
        pod
    };
    let old = pod(json!({"qosClass": "BestEffort", "podIPs": [{"ip": "odd"}]}));
    let new = pod(
        json!({"qosClass": "Burstable", "conditions": [{"type": "Ready", "status": "True"}, {"type": "a b", "status": "True"}],
        "nominatedNodeName": "N", "podIPs": [{"ip": "odd"}, {"ip": "1.2.3"}], "hostIP": "1.1.1.1", "hostIPs": [{"ip": "2.2.2.2"}]}),
    );
    let mut errors = Errors::new();
    Pods.validate_status(&new, &old, &mut errors);
    expect![[r#"
        status.conditions[1].Type: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        status.nominatedNodeName: Invalid value: "N": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
        status.qosClass: Invalid value: "Burstable": field is immutable
        status.podIPs[1]: Invalid value: "1.2.3": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
        status.podIPs: Invalid value: [{"IP":"odd"},{"IP":"1.2.3"}]: may specify no more than one IP for each IP family
        status.hostIPs[0].ip: Invalid value: "2.2.2.2": must be equal to `hostIP`"#]]
    .assert_eq(&lines(&errors));
}

#[test]
fn volumes_that_are_wrong_cannot_be_mounted() {
    check_container(
        json!({"volumeMounts": [{"name": "block", "mountPath": "/dev/x"}, {"name": "", "mountPath": "/a", "recursiveReadOnly": "Often"}],
            "volumeDevices": [{"name": "block", "devicePath": "/dev/x"}, {"name": "block", "devicePath": "../y"}],
            "ports": [{"containerPort": 1, "hostIP": "anything"}],
            "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.color"}}}]}),
        &expect![[r#"
            spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: "spec.color": error converting fieldPath: field label not supported: spec.color
            spec.containers[0].volumeMounts[0].name: Not found: "block"
            spec.containers[0].volumeMounts[0].name: Invalid value: "block": must not already exist in volumeDevices
            spec.containers[0].volumeMounts[0].mountPath: Invalid value: "/dev/x": must not already exist as a path in volumeDevices
            spec.containers[0].volumeMounts[1].name: Required value
            spec.containers[0].volumeMounts[1].name: Not found: ""
            spec.containers[0].volumeMounts.recursiveReadOnly: Unsupported value: "Often": supported values: "Disabled", "Enabled", "IfPossible"
            spec.containers[0].volumeDevices[0].name: Not found: "block"
            spec.containers[0].volumeDevices[0].name: Invalid value: "block": must not already exist in volumeMounts
            spec.containers[0].volumeDevices[0].devicePath: Invalid value: "/dev/x": must not already exist as a path in volumeMounts
            spec.containers[0].volumeDevices[1].name: Invalid value: "block": must be unique
            spec.containers[0].volumeDevices[1].name: Not found: "block"
            spec.containers[0].volumeDevices[1].devicePath: Invalid value: "../y": can not contain backsteps ('..')
            spec.containers[0].volumeDevices[1].name: Invalid value: "block": must not already exist in volumeMounts"#]],
    );
}
