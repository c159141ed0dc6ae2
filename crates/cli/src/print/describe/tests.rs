//! Golden pages.

use super::{Facts, page};
use expect_test::expect;
use serde_json::json;

#[test]
fn a_pod_page() {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web", "namespace": "default", "labels": {"app": "web", "tier": "front"}},
        "spec": {"serviceAccountName": "default", "nodeName": "n1",
            "containers": [{"name": "main", "image": "x:v1", "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "env": [{"name": "A", "value": "b"}, {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
                "resources": {"limits": {"cpu": "1"}},
                "volumeMounts": [{"name": "v", "mountPath": "/v", "readOnly": true}]}],
            "volumes": [{"name": "v", "emptyDir": {}}],
            "tolerations": [{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}]},
        "status": {"phase": "Running", "hostIP": "10.0.0.1", "podIP": "10.42.0.2", "podIPs": [{"ip": "10.42.0.2"}],
            "qosClass": "Burstable", "startTime": "2026-11-21T13:00:00Z",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "main", "ready": true, "restartCount": 1, "containerID": "catamaran://1",
                "imageID": "sha256:2", "state": {"running": {"startedAt": "2026-11-21T13:00:01Z"}},
                "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]},
    });
    let events = [
        json!({"type": "Normal", "reason": "Pulled", "source": {"component": "kubelet"}, "message": "done", "count": 3,
        "firstTimestamp": "2026-11-21T13:00:00Z", "lastTimestamp": "2026-11-21T13:01:50Z"}),
    ];
    let now = "2026-11-21T13:02:00Z".parse().expect("time");
    let facts = Facts {
        object: &pod,
        events: &events,
        pods: &[],
        now,
    };
    expect![[r#"
        Name:             web
        Namespace:        default
        Service Account:  default
        Node:             n1/10.0.0.1
        Start Time:       Sat, 21 Nov 2026 13:00:00 +0000
        Labels:           app=web
                          tier=front
        Annotations:      <none>
        Status:           Running
        IP:               10.42.0.2
        IPs:
          IP:  10.42.0.2
        Containers:
          main:
            Container ID:   catamaran://1
            Image:          x:v1
            Image ID:       sha256:2
            Port:           80/TCP
            Host Port:      0/TCP
            State:          Running
              Started:      Sat, 21 Nov 2026 13:00:01 +0000
            Last State:     Terminated
              Reason:       OOMKilled
              Exit Code:    137
            Ready:          True
            Restart Count:  1
            Limits:
              cpu:  1
            Environment:
              A:  b
              S:  <set to the key 'k' of secret 's'>  Optional: false
            Mounts:
              /v from v (ro)
        Conditions:
          Type   Status
          Ready  True
        Volumes:
          v:
            Type:        EmptyDir (a temporary directory that shares a pod's lifetime)
            Medium:
            SizeLimit:
        QoS Class:       Burstable
        Node-Selectors:  <none>
        Tolerations:     k:NoExecute op=Exists for 300s
        Events:
          Type    Reason  Age               From     Message
          ----    ------  ----              ----     -------
          Normal  Pulled  10s (x3 over 2m)  kubelet  done
    "#]]
    .assert_eq(&page(&facts));
}

#[test]
fn secrets_show_sizes_only() {
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "default"},
        "type": "Opaque", "data": {"password": "aHVudGVyMg=="}});
    let now = "2026-11-21T13:02:00Z".parse().expect("time");
    let text = page(&Facts {
        object: &secret,
        events: &[],
        pods: &[],
        now,
    });
    assert!(
        text.contains("password:  7 bytes") && !text.contains("aHVudGVy"),
        "{text}"
    );
}

#[test]
fn config_maps_show_their_data_as_it_is() {
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "default"},
        "data": {"appMode": "fast", "file.conf": "a = 1\nb = 2\n"}});
    let now = "2026-11-21T13:02:00Z".parse().expect("time");
    let text = page(&Facts {
        object: &map,
        events: &[],
        pods: &[],
        now,
    });
    expect![[r#"
        Name:         c
        Namespace:    default
        Labels:       <none>
        Annotations:  <none>

        Data
        ====
        appMode:
        ----
        fast

        file.conf:
        ----
        a = 1
        b = 2



        BinaryData
        ====

        Events:  <none>
    "#]]
    .assert_eq(&text);
}
