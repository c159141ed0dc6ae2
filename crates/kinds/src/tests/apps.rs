//! Goldens of workloads.

use super::{check, check_created, check_row, check_status, check_warnings, decode, errors_of, kind};
use expect_test::expect;
use serde_json::{Value, json};

fn workload() -> Value {
    json!({"metadata": {"name": "w", "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"selector": {"matchLabels": {"app": "w"}},
        "template": {"metadata": {"labels": {"app": "w"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}}})
}

/// [`workload`] with the value at a pointer replaced.
fn with(pointer: &str, value: Value) -> Value {
    let mut object = workload();
    let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
    object.pointer_mut(parent).expect("a parent")[field] = value;
    object
}

#[test]
fn deployments() {
    check_created(
        "Deployment",
        workload(),
        &expect![[r#"
        {
          "metadata": {
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "name": "w"
          },
          "spec": {
            "progressDeadlineSeconds": 600,
            "replicas": 1,
            "revisionHistoryLimit": 10,
            "selector": {
              "matchLabels": {
                "app": "w"
              }
            },
            "strategy": {
              "rollingUpdate": {
                "maxSurge": "25%",
                "maxUnavailable": "25%"
              },
              "type": "RollingUpdate"
            },
            "template": {
              "metadata": {
                "labels": {
                  "app": "w"
                }
              },
              "spec": {
                "containers": [
                  {
                    "image": "i:1",
                    "imagePullPolicy": "IfNotPresent",
                    "name": "c",
                    "resources": {},
                    "terminationMessagePath": "/dev/termination-log",
                    "terminationMessagePolicy": "File"
                  }
                ],
                "dnsPolicy": "ClusterFirst",
                "restartPolicy": "Always",
                "schedulerName": "default-scheduler",
                "securityContext": {},
                "terminationGracePeriodSeconds": 30
              }
            }
          },
          "status": {}
        }"#]],
    );
    check("Deployment", &[workload()], &expect![""]);
    check(
        "Deployment",
        &[json!({"metadata": {"name": "w"}})],
        &expect![[r#"
        spec.selector: Required value
        spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`
        spec.template.spec.containers: Required value"#]],
    );
    let mut bad = with("/spec/strategy", json!({"type": "Sometimes"}));
    bad["spec"]["replicas"] = (-1).into();
    bad["spec"]["progressDeadlineSeconds"] = 5.into();
    bad["spec"]["minReadySeconds"] = 5.into();
    bad["spec"]["selector"]["matchLabels"]["app"] = "other".into();
    bad["spec"]["template"]["spec"]["restartPolicy"] = "Never".into();
    bad["spec"]["template"]["spec"]["activeDeadlineSeconds"] = 5.into();
    check(
        "Deployment",
        &[bad],
        &expect![[r#"
        spec.replicas: Invalid value: -1: must be greater than or equal to 0
        spec.template.metadata.labels: Invalid value: {"app":"w"}: `selector` does not match template `labels`
        spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"
        spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicaSet is not Supported
        spec.strategy: Unsupported value: {"RollingUpdate":null,"Type":"Sometimes"}: supported values: "Recreate", "RollingUpdate"
        spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds"#]],
    );
    let errors = [
        json!({"maxSurge": 0, "maxUnavailable": "0%"}),
        json!({"maxSurge": "x", "maxUnavailable": "101%"}),
        json!({"maxSurge": -1}),
    ]
    .map(|rolling| {
        let strategy = json!({"type": "RollingUpdate", "rollingUpdate": rolling});
        errors_of("Deployment", &with("/spec/strategy", strategy))
    });
    expect![[r#"
        spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "0%": may not be 0 when `maxSurge` is 0
        spec.strategy.rollingUpdate.maxSurge: Invalid value: "x": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')
        spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "101%": must not be greater than 100%
        spec.strategy.rollingUpdate.maxSurge: Invalid value: -1: must be greater than or equal to 0"#]].assert_eq(&errors.join("\n"));
    let mut moved = workload();
    moved["spec"]["selector"]["matchLabels"]["tier"] = "x".into();
    check(
        "Deployment",
        &[workload(), moved],
        &expect![[r#"spec.selector: Invalid value: {"matchLabels":{"app":"w","tier":"x"}}: field is immutable"#]],
    );
    check_row(
        "Deployment",
        {
            let mut object = with(
                "/status",
                json!({"replicas": 3, "readyReplicas": 2, "updatedReplicas": 1, "availableReplicas": 2}),
            );
            object["spec"]["replicas"] = 3.into();
            object
        },
        &expect![[r#"
            Name: "w"
            Ready: "2/3"
            Up-to-date: 1
            Available: 2
            Age: "24h"
            Containers (wide): "c"
            Images (wide): "i:1"
            Selector (wide): "app=w""#]],
    );
    let old = with("/status", json!({"collisionCount": 2}));
    let new = with(
        "/status",
        json!({"collisionCount": 1, "replicas": 1, "readyReplicas": 2, "availableReplicas": 3}),
    );
    check_status(
        "Deployment",
        old,
        new,
        &expect![[r#"
        status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas
        status.availableReplicas: Invalid value: 3: cannot be greater than status.replicas
        status.availableReplicas: Invalid value: 3: cannot be greater than readyReplicas
        status.collisionCount: Invalid value: 1: cannot be decremented"#]],
    );
    let mut surprising = with("/metadata/name", "a.b".into());
    surprising["spec"]["template"]["spec"] = json!({"nodeSelector": {"beta.kubernetes.io/os": "linux"},
        "containers": [{"name": "c", "image": "i", "env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}],
            "resources": {"limits": {"memory": "1m"}}, "ports": [{"containerPort": 80, "name": "web"}, {"containerPort": 80}]}]});
    check_warnings(
        "Deployment",
        surprising,
        &expect![[r#"
        metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: [must not contain dots]
        spec.template.spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead
        spec.template.spec.containers[0].resources.limits[memory]: fractional byte value "1m" is invalid, must be an integer
        spec.template.spec.containers[0].env[1]: hides previous definition of "A", which may be dropped when using apply
        spec.template.spec.containers[0].ports[1]: duplicate port definition with spec.template.spec.containers[0].ports[0]"#]],
    );
}

/// Of a deployment annotations count as well, since they are copied to replica sets.
#[test]
fn generations() {
    for (name, expected) in [
        ("Deployment", true),
        ("ReplicaSet", false),
        ("StatefulSet", false),
        ("DaemonSet", false),
    ] {
        let kind = kind(name);
        let old = decode(kind, workload());
        let noted = decode(kind, with("/metadata/annotations", json!({"a": "b"})));
        let grown = decode(kind, with("/spec/minReadySeconds", 1.into()));
        assert_eq!(kind.spec_changed(&*noted, &*old), Some(expected), "{name}");
        assert_eq!(kind.spec_changed(&*grown, &*old), Some(true), "{name}");
    }
}

#[test]
fn replica_sets() {
    check_created(
        "ReplicaSet",
        workload(),
        &expect![[r#"
        {
          "metadata": {
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "name": "w"
          },
          "spec": {
            "replicas": 1,
            "selector": {
              "matchLabels": {
                "app": "w"
              }
            },
            "template": {
              "metadata": {
                "labels": {
                  "app": "w"
                }
              },
              "spec": {
                "containers": [
                  {
                    "image": "i:1",
                    "imagePullPolicy": "IfNotPresent",
                    "name": "c",
                    "resources": {},
                    "terminationMessagePath": "/dev/termination-log",
                    "terminationMessagePolicy": "File"
                  }
                ],
                "dnsPolicy": "ClusterFirst",
                "restartPolicy": "Always",
                "schedulerName": "default-scheduler",
                "securityContext": {},
                "terminationGracePeriodSeconds": 30
              }
            }
          },
          "status": {
            "replicas": 0
          }
        }"#]],
    );
    check(
        "ReplicaSet",
        &[json!({"metadata": {"name": "w"}, "spec": {"replicas": -1}})],
        &expect![[r#"
        spec.replicas: Invalid value: -1: must be greater than or equal to 0
        spec.selector: Required value
        spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`
        spec.template.spec.containers: Required value"#]],
    );
    let mut moved = workload();
    moved["spec"]["selector"]["matchLabels"]["tier"] = "x".into();
    check(
        "ReplicaSet",
        &[workload(), moved],
        &expect![[r#"spec.selector: Invalid value: {"matchLabels":{"app":"w","tier":"x"}}: field is immutable"#]],
    );
    check_row(
        "ReplicaSet",
        with("/status", json!({"replicas": 1})),
        &expect![[r#"
        Name: "w"
        Desired: 1
        Current: 1
        Ready: 0
        Age: "24h"
        Containers (wide): "c"
        Images (wide): "i:1"
        Selector (wide): "app=w""#]],
    );
}

#[test]
fn stateful_sets() {
    let mut object = with("/spec/serviceName", "db".into());
    object["spec"]["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}}}}]);
    object["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "data", "mountPath": "/data"}]);
    check_created(
        "StatefulSet",
        object.clone(),
        &expect![[r#"
        {
          "metadata": {
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "name": "w"
          },
          "spec": {
            "persistentVolumeClaimRetentionPolicy": {
              "whenDeleted": "Retain",
              "whenScaled": "Retain"
            },
            "podManagementPolicy": "OrderedReady",
            "replicas": 1,
            "revisionHistoryLimit": 10,
            "selector": {
              "matchLabels": {
                "app": "w"
              }
            },
            "serviceName": "db",
            "template": {
              "metadata": {
                "labels": {
                  "app": "w"
                }
              },
              "spec": {
                "containers": [
                  {
                    "image": "i:1",
                    "imagePullPolicy": "IfNotPresent",
                    "name": "c",
                    "resources": {},
                    "terminationMessagePath": "/dev/termination-log",
                    "terminationMessagePolicy": "File",
                    "volumeMounts": [
                      {
                        "mountPath": "/data",
                        "name": "data"
                      }
                    ]
                  }
                ],
                "dnsPolicy": "ClusterFirst",
                "restartPolicy": "Always",
                "schedulerName": "default-scheduler",
                "securityContext": {},
                "terminationGracePeriodSeconds": 30
              }
            },
            "updateStrategy": {
              "rollingUpdate": {
                "maxUnavailable": 1,
                "partition": 0
              },
              "type": "RollingUpdate"
            },
            "volumeClaimTemplates": [
              {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {
                  "name": "data"
                },
                "spec": {
                  "accessModes": [
                    "ReadWriteOnce"
                  ],
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
              }
            ]
          },
          "status": {
            "availableReplicas": 0,
            "replicas": 0
          }
        }"#]],
    );
    check("StatefulSet", &[object.clone()], &expect![""]);
    let mut bad = object.clone();
    bad["spec"]["podManagementPolicy"] = "Any".into();
    bad["spec"]["serviceName"] = "1".into();
    bad["spec"]["updateStrategy"] = json!({"type": "OnDelete", "rollingUpdate": {"partition": 1}});
    bad["spec"]["persistentVolumeClaimRetentionPolicy"] = json!({"whenDeleted": "Maybe"});
    bad["spec"]["ordinals"] = json!({"start": -1});
    bad["spec"]["volumeClaimTemplates"][0]["spec"]["accessModes"] = json!([]);
    check(
        "StatefulSet",
        &[bad],
        &expect![[r#"
        spec.podManagementPolicy: Invalid value: "Any": must be 'OrderedReady' or 'Parallel'
        spec.updateStrategy.rollingUpdate: Invalid value: {"partition":1}: only allowed for updateStrategy 'RollingUpdate'
        spec.persistentVolumeClaimRetentionPolicy.whenDeleted: Unsupported value: "Maybe": supported values: "Retain", "Delete"
        spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0
        spec.serviceName: Invalid value: "1": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')
        spec.volumeClaimTemplates[0].spec.accessModes: Required value: at least 1 access mode is required"#]],
    );
    let mut grown = object.clone();
    grown["spec"]["replicas"] = 5.into();
    grown["spec"]["updateStrategy"] = json!({"type": "OnDelete"});
    check("StatefulSet", &[object.clone(), grown], &expect![""]);
    let mut moved = object.clone();
    moved["spec"]["serviceName"] = "other".into();
    check(
        "StatefulSet",
        &[object.clone(), moved],
        &expect![
            "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
        ],
    );
    check_row(
        "StatefulSet",
        object,
        &expect![[r#"
        Name: "w"
        Ready: "0/1"
        Age: "24h"
        Containers (wide): "c"
        Images (wide): "i:1""#]],
    );
}

#[test]
fn daemon_sets() {
    check_created(
        "DaemonSet",
        workload(),
        &expect![[r#"
        {
          "metadata": {
            "annotations": {
              "deprecated.daemonset.template.generation": "1"
            },
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "name": "w"
          },
          "spec": {
            "revisionHistoryLimit": 10,
            "selector": {
              "matchLabels": {
                "app": "w"
              }
            },
            "template": {
              "metadata": {
                "labels": {
                  "app": "w"
                }
              },
              "spec": {
                "containers": [
                  {
                    "image": "i:1",
                    "imagePullPolicy": "IfNotPresent",
                    "name": "c",
                    "resources": {},
                    "terminationMessagePath": "/dev/termination-log",
                    "terminationMessagePolicy": "File"
                  }
                ],
                "dnsPolicy": "ClusterFirst",
                "restartPolicy": "Always",
                "schedulerName": "default-scheduler",
                "securityContext": {},
                "terminationGracePeriodSeconds": 30
              }
            },
            "updateStrategy": {
              "rollingUpdate": {
                "maxSurge": 0,
                "maxUnavailable": 1
              },
              "type": "RollingUpdate"
            }
          },
          "status": {
            "currentNumberScheduled": 0,
            "desiredNumberScheduled": 0,
            "numberMisscheduled": 0,
            "numberReady": 0
          }
        }"#]],
    );
    let errors = [
        json!({"type": "Never"}),
        json!({"rollingUpdate": {"maxSurge": 1}}),
        json!({"rollingUpdate": {"maxUnavailable": 0}}),
        json!({"rollingUpdate": {"maxUnavailable": 0, "maxSurge": "200%"}}),
    ]
    .map(|strategy| errors_of("DaemonSet", &with("/spec/updateStrategy", strategy)));
    expect![[r#"
        spec.updateStrategy: Unsupported value: {"RollingUpdate":null,"Type":"Never"}: supported values: "RollingUpdate", "OnDelete"
        spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero
        spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0
        spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: "200%": must not be greater than 100%"#]].assert_eq(&errors.join("\n"));
    check_row(
        "DaemonSet",
        with("/spec/template/spec/nodeSelector", json!({"disk": "ssd"})),
        &expect![[r#"
            Name: "w"
            Desired: 0
            Current: 0
            Ready: 0
            Up-to-date: 0
            Available: 0
            Node Selector: "disk=ssd"
            Age: "24h"
            Containers (wide): "c"
            Images (wide): "i:1"
            Selector (wide): "app=w""#]],
    );
}

#[test]
fn the_number_of_a_daemon_sets_template() {
    let kind = kind("DaemonSet");
    let mut old = decode(kind, workload());
    kind.prepare_create(&mut *old);
    let number = |object: &dyn crate::Object| {
        let annotations = object.meta().annotations.clone().unwrap_or_default();
        annotations["deprecated.daemonset.template.generation"].clone()
    };
    assert_eq!(number(&*old), "1");
    let mut same = decode(kind, with("/spec/minReadySeconds", 1.into()));
    kind.prepare_update(&mut *same, &*old);
    assert_eq!(number(&*same), "1");
    let mut changed = decode(kind, with("/spec/template/spec/hostNetwork", true.into()));
    kind.prepare_update(&mut *changed, &*old);
    assert_eq!(number(&*changed), "2");
}

#[test]
fn controller_revisions() {
    check(
        "ControllerRevision",
        &[json!({"revision": -1})],
        &expect![[r#"
        data: Required value: data is mandatory
        revision: Invalid value: -1: must be greater than or equal to 0"#]],
    );
    check(
        "ControllerRevision",
        &[
            json!({"data": {"a": 1}, "revision": 1}),
            json!({"data": {"a": 2}, "revision": 1}),
        ],
        &expect![[r#"data: Invalid value: {"a":2}: field is immutable"#]],
    );
    check_row(
        "ControllerRevision",
        json!({"metadata": {"name": "r", "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db",
            "uid": "u", "controller": true}]}, "data": {}, "revision": 3}),
        &expect![[r#"
            Name: "r"
            Controller: "statefulset.apps/db"
            Revision: 3
            Age: "<unknown>""#]],
    );
}

#[test]
fn replication_controllers_and_pod_templates() {
    let object = json!({"metadata": {"name": "w"}, "spec": {"template": workload()["spec"]["template"]}});
    check_created(
        "ReplicationController",
        object.clone(),
        &expect![[r#"
        {
          "metadata": {
            "labels": {
              "app": "w"
            },
            "name": "w"
          },
          "spec": {
            "replicas": 1,
            "selector": {
              "app": "w"
            },
            "template": {
              "metadata": {
                "labels": {
                  "app": "w"
                }
              },
              "spec": {
                "containers": [
                  {
                    "image": "i:1",
                    "imagePullPolicy": "IfNotPresent",
                    "name": "c",
                    "resources": {},
                    "terminationMessagePath": "/dev/termination-log",
                    "terminationMessagePolicy": "File"
                  }
                ],
                "dnsPolicy": "ClusterFirst",
                "restartPolicy": "Always",
                "schedulerName": "default-scheduler",
                "securityContext": {},
                "terminationGracePeriodSeconds": 30
              }
            }
          },
          "status": {
            "replicas": 0
          }
        }"#]],
    );
    check(
        "ReplicationController",
        &[json!({"spec": {"replicas": -1}})],
        &expect![[r#"
        spec.replicas: Invalid value: -1: must be greater than or equal to 0
        spec.selector: Required value
        spec.template: Required value"#]],
    );
    check_row(
        "ReplicationController",
        object,
        &expect![[r#"
        Name: "w"
        Desired: 1
        Current: 0
        Ready: 0
        Age: "<unknown>"
        Containers (wide): "c"
        Images (wide): "i:1"
        Selector (wide): "app=w""#]],
    );
    let object = json!({"metadata": {"name": "w"}, "template": workload()["spec"]["template"]});
    check("PodTemplate", std::slice::from_ref(&object), &expect![""]);
    check(
        "PodTemplate",
        &[json!({"template": {"metadata": {"labels": {"a b": "c"}}}})],
        &expect![[r#"
        template.labels: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        template.spec.containers: Required value"#]],
    );
    check_row(
        "PodTemplate",
        object,
        &expect![[r#"
        Name: "w"
        Containers: "c"
        Images: "i:1"
        Pod Labels: "app=w""#]],
    );
}
