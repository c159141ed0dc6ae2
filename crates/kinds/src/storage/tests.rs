use crate::golden;
use expect_test::expect;
use serde_json::json;

#[test]
fn storage_classes() {
    const CLASSES: &str = "storageclasses.storage.k8s.io";
    golden::create(
        CLASSES,
        json!({"parameters": {"": "x"}, "reclaimPolicy": "Recycle", "volumeBindingMode": "Later", "allowedTopologies": [
            {"matchLabelExpressions": [{"key": "zone", "values": ["a", "a"]}, {"key": "zone", "values": []}]},
            {"matchLabelExpressions": [{"key": "zone", "values": []}]},
        ]}),
        &expect![[r#"
            provisioner: Required value
            parameters: Invalid value: "": field can not be empty.
            reclaimPolicy: Unsupported value: "Recycle": supported values: "Delete", "Retain"
            volumeBindingMode: Unsupported value: "Later": supported values: "Immediate", "WaitForFirstConsumer"
            allowedTopologies[0].matchLabelExpressions[0].values[1]: Duplicate value: "a"
            allowedTopologies[0].matchLabelExpressions[1].values: Required value
            allowedTopologies[0].matchLabelExpressions[1].key: Duplicate value: "zone"
            allowedTopologies[1].matchLabelExpressions[0].values: Required value
            allowedTopologies[1].matchLabelExpressions: Duplicate value: """#]],
    );
    golden::create(
        CLASSES,
        json!({"provisioner": "Example.com/x y"}),
        &expect![[
            r#"provisioner: Invalid value: "example.com/x y": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"#
        ]],
    );
    golden::update(
        CLASSES,
        json!({"provisioner": "a"}),
        json!({"provisioner": "b", "parameters": {"a": "b"}, "reclaimPolicy": "Retain", "volumeBindingMode": "WaitForFirstConsumer"}),
        &expect![[r#"
            parameters: Forbidden: updates to parameters are forbidden.
            provisioner: Forbidden: updates to provisioner are forbidden.
            reclaimPolicy: Forbidden: updates to reclaimPolicy are forbidden.
            volumeBindingMode: Invalid value: "WaitForFirstConsumer": field is immutable"#]],
    );
    let default = json!({"storageclass.kubernetes.io/is-default-class": "true"});
    golden::row(
        CLASSES,
        json!({"metadata": {"name": "a", "annotations": default}, "provisioner": "p"}),
        &expect![[r#"
        Name: "a (default)"
        Provisioner: "p"
        ReclaimPolicy: "Delete"
        VolumeBindingMode: "Immediate"
        AllowVolumeExpansion: false
        Age: "<unknown>""#]],
    );
}

#[test]
fn volume_attributes_classes() {
    const CLASSES: &str = "volumeattributesclasses.storage.k8s.io";
    golden::create(
        CLASSES,
        json!({"driverName": ""}),
        &expect![[r#"
        driverName: Required value
        parameters: Required value: must contain at least one key/value pair"#]],
    );
    golden::update(
        CLASSES,
        json!({"driverName": "a", "parameters": {"a": "b"}}),
        json!({"driverName": "b", "parameters": {"a": "c"}}),
        &expect![[r#"
            driverName: Forbidden: updates to driverName are forbidden.
            parameters: Forbidden: updates to parameters are forbidden."#]],
    );
    golden::row(
        CLASSES,
        json!({"metadata": {"name": "a"}, "driverName": "d"}),
        &expect![[r#"
        Name: "a"
        DriverName: "d"
        Age: "<unknown>""#]],
    );
}

#[test]
fn volume_attachments() {
    const ATTACHMENTS: &str = "volumeattachments.storage.k8s.io";
    golden::create(
        ATTACHMENTS,
        json!({"spec": {"nodeName": "N"}}),
        &expect![[r#"
        spec.attacher: Required value
        spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName
        spec.nodeName: Invalid value: "N": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
        spec.attacher: Required value
        spec.attacher: Invalid value: "": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"#]],
    );
    let spec = json!({"attacher": "a", "nodeName": "n", "source": {"persistentVolumeName": "v"}});
    let other = json!({"attacher": "a", "nodeName": "m", "source": {"persistentVolumeName": "v"}});
    golden::update(
        ATTACHMENTS,
        json!({"spec": spec}),
        json!({"spec": other}),
        &expect![[
            r#"spec: Invalid value: {"attacher":"a","nodeName":"m","source":{"persistentVolumeName":"v"}}: field is immutable"#
        ]],
    );
    let failed = json!({"attached": false, "attachError": {"errorCode": -1}});
    golden::status(
        ATTACHMENTS,
        json!({"spec": spec}),
        json!({"spec": other, "status": failed}),
        &expect!["status.attachError.errorCode: Invalid value: -1: must be between 0 and 2147483647, inclusive"],
    );
    let attached = json!({"metadata": {"name": "a"}, "spec": spec, "status": {"attached": true}});
    golden::row(
        ATTACHMENTS,
        attached,
        &expect![[r#"
        Name: "a"
        Attacher: "a"
        PV: "v"
        Node: "n"
        Attached: true
        Age: "<unknown>""#]],
    );
}

#[test]
fn csi_nodes() {
    const NODES: &str = "csinodes.storage.k8s.io";
    let drivers = |drivers: serde_json::Value| json!({"metadata": {"name": "n"}, "spec": {"drivers": drivers}});
    golden::create(
        NODES,
        drivers(json!([
            {"name": "", "nodeID": ""},
            {"name": "a", "nodeID": "n", "allocatable": {"count": -1}, "topologyKeys": ["z", "z", "a b"]},
            {"name": "a", "nodeID": "n"},
        ])),
        &expect![[r#"
            spec.drivers[0].name: Required value
            spec.drivers[0].name: Invalid value: "": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            spec.drivers[0].nodeID: Required value
            spec.drivers[1].allocatable.count: Invalid value: -1: must be greater than or equal to 0
            spec.drivers[1]: Duplicate value: "z"
            spec.drivers[1]: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            spec.drivers[2].name: Duplicate value: "a""#]],
    );
    golden::update(
        NODES,
        drivers(json!([{"name": "a", "nodeID": "n", "allocatable": {"count": 1}}])),
        drivers(json!([{"name": "a", "nodeID": "m", "allocatable": {"count": 2}}])),
        &expect![[r#"spec.drivers: Invalid value: {"name":"a","nodeID":"m"}: field is immutable"#]],
    );
    golden::row(
        NODES,
        drivers(json!([{"name": "a", "nodeID": "n"}])),
        &expect![[r#"
        Name: "n"
        Drivers: 1
        Age: "<unknown>""#]],
    );
}

#[test]
fn csi_drivers() {
    const DRIVERS: &str = "csidrivers.storage.k8s.io";
    golden::defaults(
        DRIVERS,
        json!({"spec": {}}),
        &expect![[r#"
        {
          "apiVersion": "storage.k8s.io/v1",
          "kind": "CSIDriver",
          "metadata": {},
          "spec": {
            "attachRequired": true,
            "fsGroupPolicy": "ReadWriteOnceWithFSType",
            "podInfoOnMount": false,
            "requiresRepublish": false,
            "seLinuxMount": false,
            "storageCapacity": false,
            "volumeLifecycleModes": [
              "Persistent"
            ]
          }
        }"#]],
    );
    golden::create(
        DRIVERS,
        json!({"spec": {"fsGroupPolicy": "All", "volumeLifecycleModes": ["Eternal"], "nodeAllocatableUpdatePeriodSeconds": 9,
            "tokenRequests": [{"audience": "a", "expirationSeconds": 1}, {"audience": "a"}, {"audience": "b", "expirationSeconds": 4294967297_i64}]}}),
        &expect![[r#"
            spec.fsGroupPolicy: Unsupported value: "All": supported values: "File", "None", "ReadWriteOnceWithFSType"
            spec.tokenRequests[0].expirationSeconds: Invalid value: 1: may not specify a duration less than 10 minutes
            spec.tokenRequests[1].audience: Duplicate value: "a"
            spec.tokenRequests[2].expirationSeconds: Invalid value: 4294967297: may not specify a duration larger than 2^32 seconds
            spec.volumeLifecycleModes: Unsupported value: "Eternal": supported values: "Persistent", "Ephemeral"
            spec.nodeAllocatableUpdatePeriodSeconds: Invalid value: 9: must be greater than or equal to 10 seconds"#]],
    );
    let spec = json!({"spec": {"attachRequired": false, "volumeLifecycleModes": ["Ephemeral"]}});
    golden::update(
        DRIVERS,
        json!({"spec": {}}),
        spec,
        &expect![[r#"
        spec.attachedRequired: Invalid value: false: field is immutable
        spec.volumeLifecycleModes: Invalid value: ["Ephemeral"]: field is immutable"#]],
    );
    let tokens = json!({"metadata": {"name": "d"}, "spec": {"tokenRequests": [{"audience": "a"}, {"audience": "b"}]}});
    golden::row(
        DRIVERS,
        tokens,
        &expect![[r#"
        Name: "d"
        AttachRequired: true
        PodInfoOnMount: false
        StorageCapacity: false
        TokenRequests: "a,b"
        RequiresRepublish: false
        Modes: "Persistent"
        Age: "<unknown>""#]],
    );
}

#[test]
fn csi_storage_capacities() {
    const CAPACITIES: &str = "csistoragecapacities.storage.k8s.io";
    let bad = json!({"storageClassName": "A", "capacity": "-1Gi", "nodeTopology": {"matchExpressions": [{"key": "a", "operator": "Is"}]}});
    golden::create(
        CAPACITIES,
        bad,
        &expect![[r#"
        nodeTopology.matchExpressions[0].operator: Invalid value: "Is": not a valid selector operator
        storageClassName: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
        capacity: Invalid value: "-1Gi": must be greater than or equal to 0"#]],
    );
    golden::update(
        CAPACITIES,
        json!({"storageClassName": "a"}),
        json!({"storageClassName": "b", "nodeTopology": {"matchLabels": {"a": "b"}}}),
        &expect![[r#"
            nodeTopology: Invalid value: {"matchLabels":{"a":"b"}}: field is immutable
            storageClassName: Invalid value: "b": field is immutable"#]],
    );
    golden::row(
        CAPACITIES,
        json!({"metadata": {"name": "a"}, "storageClassName": "a"}),
        &expect![[r#"
        Name: "a"
        StorageClassName: "a"
        Capacity: "<unset>""#]],
    );
}
