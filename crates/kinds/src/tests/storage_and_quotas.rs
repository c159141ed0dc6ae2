//! Goldens of volumes, claims, limits, quotas, endpoints.

use super::{check, check_created, check_row, check_status, check_warnings};
use crate::golden;
use expect_test::expect;
use serde_json::{Value, json};

fn claim(spec: Value) -> Value {
    let mut object = json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let fields = object["spec"].as_object_mut().expect("a spec");
    fields.extend(spec.as_object().expect("fields").clone());
    object
}

#[test]
fn claims() {
    check_created(
        "PersistentVolumeClaim",
        claim(json!({"dataSource": {"kind": "PersistentVolumeClaim", "name": "old"}})),
        &expect![[r#"
            {
              "metadata": {
                "name": "c"
              },
              "spec": {
                "accessModes": [
                  "ReadWriteOnce"
                ],
                "dataSource": {
                  "kind": "PersistentVolumeClaim",
                  "name": "old"
                },
                "dataSourceRef": {
                  "kind": "PersistentVolumeClaim",
                  "name": "old"
                },
                "resources": {
                  "requests": {
                    "storage": "1Gi"
                  }
                },
                "volumeMode": "Filesystem"
              },
              "status": {
                "phase": "Pending"
              }
            }"#]],
    );
    check(
        "PersistentVolumeClaim",
        &[
            json!({"spec": {"accessModes": ["ReadWriteOncePod", "ReadOnlyMany", "All"], "storageClassName": "A", "volumeMode": "Tape",
            "resources": {"requests": {"storage": "0"}}, "dataSource": {"kind": "X", "name": ""}, "dataSourceRef": {"kind": "Y", "name": "z", "apiGroup": "a b"}}}),
        ],
        &expect![[r#"
            spec.accessModes: Unsupported value: "All": supported values: "ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"
            spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes
            spec.resources[storage]: Invalid value: "0": must be greater than zero
            spec.storageClassName: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            spec.volumeMode: Unsupported value: "Tape": supported values: "Block", "Filesystem"
            spec.dataSource.name: Required value
            spec.dataSource: Invalid value: "X": must be 'PersistentVolumeClaim' when referencing the default apiGroup
            spec.dataSourceRef.apiGroup: Invalid value: "a b": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            spec: Invalid value: "spec.dataSource": must match dataSourceRef"#]],
    );
    check(
        "PersistentVolumeClaim",
        &[json!({})],
        &expect![[r#"
        spec.accessModes: Required value: at least 1 access mode is required
        spec.resources[storage]: Required value"#]],
    );
    let bound = |spec: Value| {
        let mut object = claim(spec);
        object["status"] = json!({"phase": "Bound", "capacity": {"storage": "1Gi"}});
        object
    };
    check(
        "PersistentVolumeClaim",
        &[
            bound(json!({})),
            bound(json!({"resources": {"requests": {"storage": "2Gi"}}})),
        ],
        &expect![""],
    );
    check(
        "PersistentVolumeClaim",
        &[
            bound(json!({})),
            bound(
                json!({"resources": {"requests": {"storage": "1Mi"}}, "storageClassName": "x", "volumeMode": "Block", "accessModes": ["ReadOnlyMany"]}),
            ),
        ],
        &expect![[r#"
            spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims
              spec.accessModes[0]: "ReadWriteOnce" -> "ReadOnlyMany"
              spec.volumeMode: "Filesystem" -> "Block"

            spec.resources.requests.storage: Forbidden: field can not be less than status.capacity
            volumeMode: Invalid value: "Block": field is immutable"#]],
    );
    check_status(
        "PersistentVolumeClaim",
        claim(json!({})),
        {
            let mut object = claim(json!({}));
            object["status"] = json!({"capacity": {"storage": "-1"}, "allocatedResourceStatuses": {"cpu": "Odd"}});
            object
        },
        &expect![[r#"
            status.capacity[storage]: Invalid value: "-1": must be greater than or equal to 0
            status.allocatedResourceStatuses: Unsupported value: "cpu": supported values: "storage"
            status.allocatedResourceStatuses: Unsupported value: "cpu": supported values: "ControllerResizeInProgress", "ControllerResizeInfeasible", "NodeResizeInProgress", "NodeResizeInfeasible", "NodeResizePending""#]],
    );
    let mut shown = bound(json!({"volumeName": "pv-1", "storageClassName": "fast"}));
    shown["status"]["accessModes"] = json!(["ReadOnlyMany", "ReadWriteOnce"]);
    check_row(
        "PersistentVolumeClaim",
        shown,
        &expect![[r#"
        Name: "c"
        Status: "Bound"
        Volume: "pv-1"
        Capacity: "1Gi"
        Access Modes: "RWO,ROX"
        StorageClass: "fast"
        VolumeAttributesClass: "<unset>"
        Age: "<unknown>"
        VolumeMode (wide): "Filesystem""#]],
    );
}

fn volume(spec: Value) -> Value {
    let mut object =
        json!({"metadata": {"name": "v"}, "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}}});
    let fields = object["spec"].as_object_mut().expect("a spec");
    fields.extend(spec.as_object().expect("fields").clone());
    object
}

#[test]
fn volumes() {
    let nfs = json!({"nfs": {"server": "s", "path": "/a"}});
    check_created(
        "PersistentVolume",
        volume(nfs.clone()),
        &expect![[r#"
        {
          "metadata": {
            "name": "v"
          },
          "spec": {
            "accessModes": [
              "ReadWriteOnce"
            ],
            "capacity": {
              "storage": "1Gi"
            },
            "nfs": {
              "path": "/a",
              "server": "s"
            },
            "persistentVolumeReclaimPolicy": "Retain",
            "volumeMode": "Filesystem"
          },
          "status": {
            "phase": "Pending"
          }
        }"#]],
    );
    check(
        "PersistentVolume",
        &[json!({"spec": {}})],
        &expect![[r#"
        spec.accessModes: Required value
        spec.capacity: Required value
        spec.capacity: Unsupported value: null: supported values: "storage"
        spec: Required value: must specify a volume type"#]],
    );
    check(
        "PersistentVolume",
        &[volume(
            json!({"capacity": {"cpu": "0"}, "hostPath": {"path": "/"}, "nfs": {"server": "", "path": "a"}, "persistentVolumeReclaimPolicy": "Recycle",
            "volumeAttributesClassName": "", "storageClassName": "A"}),
        )],
        &expect![[r#"
            spec.capacity: Unsupported value: {"cpu":"0"}: supported values: "storage"
            spec.capacity[cpu]: Invalid value: "0": must be greater than zero
            spec.nfs: Forbidden: may not specify more than 1 volume type
            spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'
            spec.storageClassName: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            spec.volumeAttributesClassName: Required value: an empty string is disallowed
            spec.csi: Required value: has to be specified when using volumeAttributesClassName"#]],
    );
    for (spec, expected) in [
        (
            json!({"local": {"path": "/a/../b"}}),
            expect![[r#"
            spec.local.path: Invalid value: "/a/../b": must not contain '..'
            spec.nodeAffinity: Required value: Local volume requires node affinity"#]],
        ),
        (
            json!({"csi": {"driver": "A b", "volumeHandle": "", "nodePublishSecretRef": {"name": "x"}}}),
            expect![[r#"
            spec.csi.driver: Invalid value: "A b": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            spec.csi.volumeHandle: Required value
            spec.csi.nodePublishSecretRef.namespace: Required value"#]],
        ),
        (
            json!({"iscsi": {"targetPortal": "p", "iqn": "iqn.2001-04.com.example:x y", "lun": 300}}),
            expect![[r#"
            spec.iscsi.iqn: Invalid value: "iqn.2001-04.com.example:x y": must be valid format
            spec.iscsi.lun: Invalid value: 300: must be between 0 and 255, inclusive"#]],
        ),
        (
            json!({"fc": {"targetWWNs": ["a"], "wwids": ["b"]}}),
            expect![[r#"
            spec.fc.targetWWNs: Invalid value: ["a"]: targetWWNs and wwids can not be specified simultaneously
            spec.fc.lun: Required value: lun is required if targetWWNs is specified"#]],
        ),
        (
            json!({"flexVolume": {"driver": "", "options": {"kubernetes.io/x": "y"}}}),
            expect![[r#"
            spec.flexVolume.driver: Required value
            spec.flexVolume.options[kubernetes.io/x]: Invalid value: "kubernetes.io/x": kubernetes.io and k8s.io namespaces are reserved"#]],
        ),
    ] {
        check("PersistentVolume", &[volume(spec)], &expected);
    }
    check(
        "PersistentVolume",
        &[
            volume(nfs.clone()),
            volume(json!({"nfs": {"server": "t", "path": "/a"}})),
        ],
        &expect![[r#"
        spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation
          spec.nfs.server: "s" -> "t"
    "#]],
    );
    let mut bound = volume(nfs);
    bound["spec"]["claimRef"] = json!({"namespace": "a", "name": "b"});
    bound["status"] = json!({"phase": "Bound"});
    check_row(
        "PersistentVolume",
        bound,
        &expect![[r#"
        Name: "v"
        Capacity: "1Gi"
        Access Modes: "RWO"
        Reclaim Policy: "Retain"
        Status: "Bound"
        Claim: "a/b"
        StorageClass: ""
        VolumeAttributesClass: "<unset>"
        Reason: ""
        Age: "<unknown>"
        VolumeMode (wide): "Filesystem""#]],
    );
    check_warnings(
        "PersistentVolume",
        volume(json!({"persistentVolumeReclaimPolicy": "Recycle", "rbd": {"monitors": ["a"], "image": "b"}})),
        &expect![[r#"
            spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.
            spec.rbd: deprecated in v1.28, non-functional in v1.31+"#]],
    );
}

#[test]
fn limits() {
    check_created(
        "LimitRange",
        json!({"metadata": {"name": "l"}, "spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}, "default": {"memory": "2Mi"}}]}}),
        &expect![[r#"
            {
              "metadata": {
                "name": "l"
              },
              "spec": {
                "limits": [
                  {
                    "default": {
                      "cpu": "2",
                      "memory": "2Mi"
                    },
                    "defaultRequest": {
                      "cpu": "2",
                      "memory": "2Mi"
                    },
                    "max": {
                      "cpu": "2"
                    },
                    "min": {
                      "memory": "1Mi"
                    },
                    "type": "Container"
                  }
                ]
              }
            }"#]],
    );
    check(
        "LimitRange",
        &[json!({"spec": {"limits": [
            {"type": "Pod", "default": {"cpu": "1"}, "min": {"cpu": "3", "storage": "1"}, "max": {"cpu": "2"}, "maxLimitRequestRatio": {"cpu": "0.5"}},
            {"type": "Pod"}, {"type": "Thing"}, {"type": "PersistentVolumeClaim"},
            {"type": "Container", "max": {"cpu": "4"}, "min": {"cpu": "2"}, "default": {"cpu": "5", "example.com/gpu": "2"},
                "defaultRequest": {"cpu": "1", "example.com/gpu": "1"}, "maxLimitRequestRatio": {"cpu": "4"}}]}})],
        &expect![[r#"
            spec.limits[0].min[storage]: Invalid value: "storage": must be a standard resource for containers
            spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'
            spec.limits[0].min[cpu]: Invalid value: "3": min value 3 is greater than max value 2
            spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: "500m": ratio 500m is less than 1
            spec.limits[1].type: Duplicate value: "Pod"
            spec.limits[2].type: Invalid value: "Thing": must be a standard limit type or fully qualified
            spec.limits[3].limits: Required value: either minimum or maximum storage value is required, but neither was provided
            spec.limits[4].defaultRequest[cpu]: Invalid value: "1": min value 2 is greater than default request value 1
            spec.limits[4].default[cpu]: Invalid value: "4": default value 5 is greater than max value 4
            spec.limits[4].maxLimitRequestRatio[cpu]: Invalid value: "4": ratio 4 is greater than max/min = 2.000000
            spec.limits[4].defaultRequest[example.com/gpu]: Invalid value: "1": default value 2 must equal to defaultRequest value 1 in example.com/gpu"#]],
    );
}

#[test]
fn quotas() {
    check_created(
        "ResourceQuota",
        json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "1"}}}),
        &expect![[r#"
        {
          "metadata": {
            "name": "q"
          },
          "spec": {
            "hard": {
              "pods": "1"
            }
          },
          "status": {}
        }"#]],
    );
    check(
        "ResourceQuota",
        &[
            json!({"spec": {"hard": {"pods": "1.5", "cows": "1", "cpu": "-1", "count/deployments.apps": "2"}, "scopes": ["BestEffort", "NotBestEffort", "Odd"],
            "scopeSelector": {"matchExpressions": [{"scopeName": "Terminating", "operator": "In", "values": []}, {"scopeName": "PriorityClass", "operator": "Exists", "values": ["x"]}]}}}),
        ],
        &expect![[r#"
            spec.hard[cows]: Invalid value: "cows": must be a standard resource type or fully qualified
            spec.hard[cows]: Invalid value: "cows": must be a standard resource for quota
            spec.hard[cpu]: Invalid value: "-1": must be greater than or equal to 0
            spec.hard[pods]: Invalid value: "1.5": must be an integer
            spec.scopes: Invalid value: ["BestEffort","NotBestEffort","Odd"]: unsupported scope applied to resource
            spec.scopes: Invalid value: ["BestEffort","NotBestEffort","Odd"]: unsupported scope
            spec.scopes: Invalid value: ["BestEffort","NotBestEffort","Odd"]: conflicting scopes
            spec.scopeSelector.matchExpressions.operator: Invalid value: "In": must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity
            spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector
            spec.scopeSelector.matchExpressions.values: Invalid value: ["x"]: must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"#]],
    );
    check(
        "ResourceQuota",
        &[
            json!({"spec": {"scopes": ["Terminating"]}}),
            json!({"spec": {"scopes": ["BestEffort"]}}),
        ],
        &expect![[r#"spec.scopes: Invalid value: ["BestEffort"]: field is immutable"#]],
    );
    check_row(
        "ResourceQuota",
        json!({"metadata": {"name": "q"}, "status": {"hard": {"pods": "2", "limits.cpu": "4", "cpu": "3"}, "used": {"pods": "1"}}}),
        &expect![[r#"
            Name: "q"
            Request: "cpu: 0/3, pods: 1/2"
            Limit: "limits.cpu: 0/4"
            Age: "<unknown>""#]],
    );
}

#[test]
fn endpoints() {
    check(
        "Endpoints",
        &[
            json!({"subsets": [{}, {"addresses": [{"ip": "127.0.0.1", "nodeName": "A"}, {"ip": "x"}], "ports": [{"port": 0}, {"port": 1, "name": "A", "protocol": "X"}]}]}),
        ],
        &expect![[r#"
            subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`
            subsets[1].addresses[0].nodeName: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            subsets[1].addresses[0].ip: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)
            subsets[1].addresses[1].ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
            subsets[1].addresses[1].ip: Invalid value: "x": must be a valid IP address
            subsets[1].ports[0].name: Required value
            subsets[1].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive
            subsets[1].ports[1].name: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            subsets[1].ports[1].protocol: Unsupported value: "X": supported values: "SCTP", "TCP", "UDP""#]],
    );
    let addresses: Vec<Value> = (1..=4).map(|index| json!({"ip": format!("10.0.0.{index}")})).collect();
    check_row(
        "Endpoints",
        json!({"metadata": {"name": "e"}, "subsets": [{"addresses": addresses, "ports": [{"port": 80}]}]}),
        &expect![[r#"
            Name: "e"
            Endpoints: "10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 1 more..."
            Age: "<unknown>""#]],
    );
    check_row(
        "Endpoints",
        json!({"metadata": {"name": "e"}}),
        &expect![[r#"
        Name: "e"
        Endpoints: "<none>"
        Age: "<unknown>""#]],
    );
    check_row(
        "ComponentStatus",
        json!({"metadata": {"name": "scheduler"}, "conditions": [{"type": "Healthy", "status": "True", "message": "ok"}]}),
        &expect![[r#"
            Name: "scheduler"
            Status: "Healthy"
            Message: "ok"
            Error: """#]],
    );
}

#[test]
fn rare_refusals() {
    golden::create(
        "namespaces",
        json!({"metadata": {"name": "a"}, "spec": {"finalizers": ["kubernetes", "example.com/x", "mine"]}}),
        &expect![[
            r#"spec.finalizers: Invalid value: "mine": name is neither a standard finalizer name nor is it fully qualified"#
        ]],
    );
    golden::create(
        "persistentvolumes",
        json!({"metadata": {"name": "a"}, "spec": {"capacity": {"storage": "-1"}, "accessModes": ["ReadWriteOnce"], "volumeMode": "",
            "gcePersistentDisk": {"pdName": ""}}}),
        &expect![[r#"
            spec.capacity[storage]: Invalid value: -1: must be a valid resource quantity
            spec.capacity[storage]: Invalid value: "-1": must be greater than zero
            spec.persistentDisk.pdName: Required value
            spec.volumeMode: Unsupported value: "": supported values: "Block", "Filesystem""#]],
    );
    golden::create(
        "clusterroles.rbac.authorization.k8s.io",
        json!({"metadata": {"name": "a"}, "aggregationRule": {}}),
        &expect![[
            r#"aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if aggregationRule is non-nil"#
        ]],
    );
    golden::defaults(
        "nodes",
        json!({"metadata": {"name": "a"}, "spec": {"podCIDRs": ["10.0.0.0/24"]}}),
        &expect![[r#"
            {
              "apiVersion": "v1",
              "kind": "Node",
              "metadata": {
                "name": "a"
              },
              "spec": {
                "podCIDR": "10.0.0.0/24",
                "podCIDRs": [
                  "10.0.0.0/24"
                ]
              }
            }"#]],
    );
    golden::defaults(
        "pods",
        json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "Upper", "resources":
            {"requests": {"cpu": "100m"}, "limits": {"hugepages-2Mi": "2Mi"}}}], "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
            "volumes": [{"name": "r", "rbd": {"monitors": ["m"], "image": "i"}}]}}),
        &expect![[r#"
            {
              "apiVersion": "v1",
              "kind": "Pod",
              "metadata": {
                "name": "a"
              },
              "spec": {
                "containers": [
                  {
                    "image": "Upper",
                    "imagePullPolicy": "IfNotPresent",
                    "name": "c",
                    "resources": {
                      "limits": {
                        "hugepages-2Mi": "2Mi"
                      },
                      "requests": {
                        "cpu": "100m",
                        "hugepages-2Mi": "2Mi"
                      }
                    },
                    "terminationMessagePath": "/dev/termination-log",
                    "terminationMessagePolicy": "File"
                  }
                ],
                "dnsPolicy": "ClusterFirst",
                "enableServiceLinks": true,
                "resources": {
                  "limits": {
                    "cpu": "1",
                    "hugepages-2Mi": "2Mi",
                    "memory": "1Gi"
                  },
                  "requests": {
                    "cpu": "100m",
                    "hugepages-2Mi": "2Mi",
                    "memory": "1Gi"
                  }
                },
                "restartPolicy": "Always",
                "schedulerName": "default-scheduler",
                "securityContext": {},
                "terminationGracePeriodSeconds": 30,
                "volumes": [
                  {
                    "name": "r",
                    "rbd": {
                      "image": "i",
                      "keyring": "/etc/ceph/keyring",
                      "monitors": [
                        "m"
                      ],
                      "pool": "rbd",
                      "user": "admin"
                    }
                  }
                ]
              }
            }"#]],
    );
}
