use crate::golden;
use expect_test::expect;
use serde_json::{Value, json};

const CLAIMS: &str = "resourceclaims.resource.k8s.io";
const TEMPLATES: &str = "resourceclaimtemplates.resource.k8s.io";
const CLASSES: &str = "deviceclasses.resource.k8s.io";
const SLICES: &str = "resourceslices.resource.k8s.io";

fn claim(devices: Value) -> Value {
    json!({"metadata": {"name": "c"}, "spec": {"devices": devices}})
}

fn good() -> Value {
    claim(
        json!({"requests": [{"name": "r", "exactly": {"deviceClassName": "gpu"}},
        {"name": "s", "firstAvailable": [{"name": "a", "deviceClassName": "gpu", "allocationMode": "All"}]}]}),
    )
}

#[test]
fn claims() {
    golden::defaults(
        CLAIMS,
        good(),
        &expect![[r#"
        {
          "apiVersion": "resource.k8s.io/v1",
          "kind": "ResourceClaim",
          "metadata": {
            "name": "c"
          },
          "spec": {
            "devices": {
              "requests": [
                {
                  "exactly": {
                    "allocationMode": "ExactCount",
                    "count": 1,
                    "deviceClassName": "gpu"
                  },
                  "name": "r"
                },
                {
                  "firstAvailable": [
                    {
                      "allocationMode": "All",
                      "deviceClassName": "gpu",
                      "name": "a"
                    }
                  ],
                  "name": "s"
                }
              ]
            }
          }
        }"#]],
    );
    golden::create(CLAIMS, good(), &expect![""]);
    golden::create(
        CLAIMS,
        claim(json!({
            "requests": [
                {"name": "R"}, {"name": "r", "exactly": {"deviceClassName": ""}, "firstAvailable": [{"name": "a", "deviceClassName": "gpu"}]},
                {"name": "r", "exactly": {"deviceClassName": "A", "selectors": [{}], "allocationMode": "All", "count": 1,
                    "tolerations": [{"key": "a b", "operator": "Exists", "value": "x", "effect": "Fall"}, {"operator": "Is"}]}},
                {"name": "s", "exactly": {"deviceClassName": "gpu", "allocationMode": "Some"}},
            ],
            "constraints": [{"requests": ["r", "x", "r/y", "a/b/c", "r"], "matchAttribute": "model"}, {"distinctAttribute": "/"}, {}],
            "config": [{"requests": ["r"]}, {"opaque": {"driver": "A", "parameters": 7}}, {"opaque": {"driver": "", "parameters": null}}],
        })),
        &expect![[r#"
            spec.devices.requests[0].name: Invalid value: "R": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required
            spec.devices.requests[1]: Invalid value: null: exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set
            spec.devices.requests[2].exactly.deviceClassName: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            spec.devices.requests[2].exactly.selectors[0].cel: Required value
            spec.devices.requests[2].exactly.count: Invalid value: 1: must not be specified when allocationMode is 'All'
            spec.devices.requests[2].exactly.tolerations[0].key: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            spec.devices.requests[2].exactly.tolerations[0].value: Invalid value: "x": must be empty for operator `Exists`
            spec.devices.requests[2].exactly.tolerations[0].effect: Unsupported value: "Fall": supported values: "NoExecute", "NoSchedule", "None"
            spec.devices.requests[2].exactly.tolerations[1].operator: Unsupported value: "Is": supported values: "Equal", "Exists"
            spec.devices.requests[3].exactly.allocationMode: Unsupported value: "Some": supported values: "All", "ExactCount"
            spec.devices.requests[2]: Duplicate value: "r"
            spec.devices.constraints[0].requests[1]: Invalid value: "x": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'
            spec.devices.constraints[0].requests[2]: Invalid value: "r/y": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'
            spec.devices.constraints[0].requests[3]: Invalid value: "a/b/c": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'
            spec.devices.constraints[0].requests[4]: Duplicate value: "r"
            spec.devices.constraints[0].matchAttribute: Invalid value: "model": a fully qualified name must be a domain and a name separated by a slash
            spec.devices.constraints[1].distinctAttribute: Invalid value: "": the domain must not be empty
            spec.devices.constraints[1].distinctAttribute: Invalid value: "": the name must not be empty
            spec.devices.constraints[2].matchAttribute: Required value
            spec.devices.config[0].opaque: Required value
            spec.devices.config[1].opaque.parameters: Invalid value: "<value omitted>": must be a valid JSON object
            spec.devices.config[2].opaque.driver: Required value
            spec.devices.config[2].opaque.driver: Invalid value: "": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            spec.devices.config[2].opaque.parameters: Required value"#]],
    );
    golden::update(
        CLAIMS,
        good(),
        claim(json!({})),
        &expect![[r#"spec: Invalid value: {"devices":{}}: field is immutable"#]],
    );
    golden::create(
        TEMPLATES,
        json!({"spec": {"metadata": {"labels": {"a b": ""}}, "spec": {"devices": {"requests": [{"name": "r"}]}}}}),
        &expect![[r#"
        spec.metadata.labels: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        spec.spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required"#]],
    );
}

#[test]
fn statuses() {
    let with = |status: Value| {
        let mut claim = good();
        claim["status"] = status;
        claim
    };
    let allocation = json!({"devices": {"results": [{"request": "r", "driver": "d", "pool": "p", "device": "x"}]}});
    golden::status(
        CLAIMS,
        good(),
        with(json!({"allocation": allocation, "reservedFor": [{"resource": "pods", "name": "p", "uid": "1"}]})),
        &expect![""],
    );
    golden::status(
        CLAIMS,
        good(),
        with(json!({
            "reservedFor": [{}, {"resource": "pods", "name": "p", "uid": "1"}, {"resource": "pods", "name": "q", "uid": "1"}],
            "devices": [{"driver": "d", "pool": "", "device": "X", "shareID": "1", "data": 7,
                "networkData": {"ips": ["10.0.0.1/24", "10.0.0.1/24", "10.0.0.1"]}}],
        })),
        &expect![[r#"
            status.reservedFor[0].resource: Required value
            status.reservedFor[0].name: Required value
            status.reservedFor[0].uid: Required value
            status.reservedFor[2]: Duplicate value: "1"
            status.devices[0].pool: Required value
            status.devices[0].device: Invalid value: "X": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            status.devices[0].shareID: Invalid value: "1": error validating uid: invalid UUID length: 1
            status.devices[0]: Invalid value: {"Device":"X","Driver":"d","Pool":"","ShareID":"1"}: must be an allocated device in the claim
            status.devices[0].data: Invalid value: "<value omitted>": must be a valid JSON object
            status.devices[0].networkData.ips[2]: Invalid value: "10.0.0.1": must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)
            status.devices[0].networkData.ips[1]: Duplicate value: "10.0.0.1/24"
            status.reservedFor: Forbidden: may not be specified when `allocated` is not set"#]],
    );
    golden::status(
        CLAIMS,
        good(),
        with(json!({"allocation": {"devices": {
            "results": [{"request": "t", "driver": "", "pool": "a/B", "device": "", "bindingConditions": ["a b"]}],
            "config": [{"source": ""}, {"source": "FromAbove", "opaque": {"driver": "d", "parameters": {}}}]}}})),
        &expect![[r#"
            status.allocation.devices.results[0].request: Invalid value: "t": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'
            status.allocation.devices.results[0].driver: Required value
            status.allocation.devices.results[0].driver: Invalid value: "": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            status.allocation.devices.results[0].pool: Invalid value: "B": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            status.allocation.devices.results[0].device: Invalid value: "": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            status.allocation.devices.results[0].bindingConditions[0]: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            status.allocation.devices.results[0].bindingFailureConditions: Invalid value: null: bindingFailureConditions are required to use bindingConditions
            status.allocation.devices.config[0].source: Required value
            status.allocation.devices.config[0].opaque: Required value
            status.allocation.devices.config[1].source: Unsupported value: "FromAbove": supported values: "FromClaim", "FromClass""#]],
    );
    let other = json!({"devices": {"results": [{"request": "s/a", "driver": "d", "pool": "p", "device": "y"}]}});
    golden::status(
        CLAIMS,
        with(json!({"allocation": allocation})),
        with(json!({"allocation": other})),
        &expect![[
            r#"status.allocation: Invalid value: {"devices":{"results":[{"device":"y","driver":"d","pool":"p","request":"s/a"}]}}: field is immutable"#
        ]],
    );
    golden::row(
        CLAIMS,
        good(),
        &expect![[r#"
        Name: "c"
        State: "pending"
        Age: "<unknown>""#]],
    );
    golden::row(
        CLAIMS,
        with(json!({"allocation": allocation, "reservedFor": [{"resource": "pods", "name": "p", "uid": "1"}]})),
        &expect![[r#"
        Name: "c"
        State: "allocated,reserved"
        Age: "<unknown>""#]],
    );
}

#[test]
fn classes() {
    golden::create(
        CLASSES,
        json!({"spec": {"selectors": [{}, {"cel": {"expression": "e".repeat(10_241)}}], "config": [{}], "extendedResourceName": "cpu"}}),
        &expect![[r#"
        spec.selectors[0].cel: Required value
        spec.selectors[1].cel.expression: Too long: may not be more than 10240 bytes
        spec.config[0].opaque: Required value
        spec.extendedResourceName: Invalid value: "cpu": must be a valid extended resource name"#]],
    );
    golden::create(
        CLASSES,
        json!({"spec": {"extendedResourceName": "example.com/gpu"}}),
        &expect![""],
    );
    golden::row(
        CLASSES,
        json!({"metadata": {"name": "gpu"}}),
        &expect![[r#"
        Name: "gpu"
        Age: "<unknown>""#]],
    );
}

#[test]
fn slices() {
    let slice = |spec: Value| {
        let mut whole = json!({"driver": "d", "pool": {"name": "p", "resourceSliceCount": 1}});
        whole
            .as_object_mut()
            .expect("an object")
            .extend(spec.as_object().cloned().unwrap_or_default());
        json!({"metadata": {"name": "s"}, "spec": whole})
    };
    golden::create(
        SLICES,
        slice(json!({"nodeName": "n", "devices": [{"name": "a"}]})),
        &expect![""],
    );
    golden::create(
        SLICES,
        json!({"spec": {"driver": "", "pool": {"name": "", "generation": -1}, "nodeName": "", "allNodes": false}}),
        &expect![[r#"
        spec.driver: Required value
        spec.driver: Invalid value: "": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
        spec.pool.name: Required value
        spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero
        spec.pool.generation: Invalid value: -1: must be greater than or equal to zero
        spec.nodeName: Invalid value: "": must be either unset or set to a non-empty string
        spec.allNodes: Invalid value: false: must be either unset or set to true
        spec: Required value: exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"#]],
    );
    golden::create(
        SLICES,
        slice(
            json!({"nodeName": "N", "allNodes": true, "nodeSelector": {"nodeSelectorTerms": []}, "sharedCounters": [{"name": "", "counters": {}}], "devices": [
                {"name": "A", "allNodes": true,
                    "attributes": {"a b": {"bool": true}, "/": {"int": 1}, "e.com/x": {}, "two": {"int": 1, "bool": true}, "v": {"version": "1.2"}, "w": {"version": "1.2.3-rc.1+b"}},
                    "taints": [{"key": "", "effect": ""}, {"key": "k", "effect": "Fall"}],
                    "consumesCounters": [{"counterSet": "", "counters": {}}],
                    "bindingConditions": ["a", "a"], "capacity": {"m": {"value": "1", "requestPolicy": {}}}},
                {"name": "a", "bindingFailureConditions": ["a"]}, {"name": "a"},
            ]}),
        ),
        &expect![[r#"
            spec.nodeName: Invalid value: "N": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            spec.nodeSelector.nodeSelectorTerms: Required value: must have at least one node selector term
            spec.nodeSelector.nodeSelectorTerms: Invalid value: []: must have exactly one node selector term
            spec: Invalid value: "{`nodeName`, `nodeSelector`, `allNodes`}": exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, but multiple fields are set
            spec: Invalid value: "": only one of `sharedCounters` or `devices` is allowed
            spec.devices[0].name: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            spec.devices[0].attributes[/]: Invalid value: "": the domain must not be empty
            spec.devices[0].attributes[/]: Invalid value: "": the name must not be empty
            spec.devices[0].attributes[a b]: Invalid value: "a b": a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')
            spec.devices[0].attributes[e.com/x]: Invalid value: "": exactly one value must be specified
            spec.devices[0].attributes[two]: Invalid value: {"bool":true,"int":1}: exactly one value must be specified
            spec.devices[0].attributes[v].version: Invalid value: "1.2": must be a string compatible with semver.org spec 2.0.0
            spec.devices[0].capacity[m].requestPolicy: Forbidden: allowMultipleAllocations must be true
            spec.devices[0].taints[0].key: Invalid value: "": name part must be non-empty
            spec.devices[0].taints[0].key: Invalid value: "": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            spec.devices[0].taints[0].effect: Required value
            spec.devices[0].taints[1].effect: Unsupported value: "Fall": supported values: "NoExecute", "NoSchedule", "None"
            spec.devices[0].consumesCounters[0].counterSet: Required value
            spec.devices[0].consumesCounters[0].counters: Required value
            spec.devices[0]: Invalid value: null: `nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec
            spec.devices[0].bindingConditions[1]: Duplicate value: "a"
            spec.devices[0].bindingFailureConditions: Invalid value: null: bindingFailureConditions are required to use bindingConditions
            spec.devices[1].bindingConditions: Invalid value: null: bindingConditions are required to use bindingFailureConditions
            spec.devices[2]: Duplicate value: "a"
            spec.sharedCounters[0].name: Required value
            spec.sharedCounters[0].counters: Required value"#]],
    );
    let shared = |policy: Value| {
        slice(json!({"perDeviceNodeSelection": true, "devices": [
        {"name": "a", "allowMultipleAllocations": true, "nodeName": "n", "allNodes": true, "capacity": {"m": {"value": "10", "requestPolicy": policy}}}]}))
    };
    golden::create(
        SLICES,
        shared(json!({"default": "3", "validValues": ["4", "2", "20"]})),
        &expect![[r#"
        spec.devices[0].capacity[m].requestPolicy.validValues[1]: Invalid value: "2": values must be sorted in ascending order
        spec.devices[0].capacity[m].requestPolicy.validValues[2]: Invalid value: "20": option is larger than capacity value: 10
        spec.devices[0].capacity[m].requestPolicy.validValues: Invalid value: "3": default value is not valid according to the requestPolicy
        spec.devices[0]: Invalid value: "{`nodeName`, `allNodes`}": exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec"#]],
    );
    golden::create(
        SLICES,
        shared(json!({"default": "3", "validRange": {"min": "4", "max": "20", "step": "7"}})),
        &expect![[r#"
        spec.devices[0].capacity[m].requestPolicy.validRange.min: Invalid value: "3": default is less than min: 4
        spec.devices[0].capacity[m].requestPolicy.validRange.max: Invalid value: "20": max is larger than capacity value: 10
        spec.devices[0].capacity[m].requestPolicy.validRange.step: Invalid value: "7": one step 11 is larger than capacity value: 10
        spec.devices[0].capacity[m].requestPolicy.validRange.step: Invalid value: "3": value is not a multiple of a given step (7) from (4)
        spec.devices[0].capacity[m].requestPolicy.validRange.step: Invalid value: "20": value is not a multiple of a given step (7) from (4)
        spec.devices[0]: Invalid value: "{`nodeName`, `allNodes`}": exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec"#]],
    );
    golden::create(
        SLICES,
        shared(json!({"validValues": ["1"]})),
        &expect![[r#"
        spec.devices[0].capacity[m].requestPolicy.default: Required value: required when validValues is defined
        spec.devices[0]: Invalid value: "{`nodeName`, `allNodes`}": exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec"#]],
    );
    golden::create(
        SLICES,
        shared(json!({"validValues": ["1"], "validRange": {"min": "1"}})),
        &expect![[r#"
        spec.devices[0].capacity[m].requestPolicy: Forbidden: exactly one policy can be specified, cannot specify "validValues" and "validRange" at the same time
        spec.devices[0]: Invalid value: "{`nodeName`, `allNodes`}": exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec"#]],
    );
    golden::update(
        SLICES,
        slice(json!({"nodeName": "n"})),
        slice(json!({"nodeName": "m", "driver": "e"})),
        &expect![[r#"
        spec.driver: Invalid value: "e": field is immutable
        spec.nodeName: Invalid value: "m": field is immutable"#]],
    );
    golden::row(
        SLICES,
        slice(json!({"nodeName": "n"})),
        &expect![[r#"
        Name: "s"
        Node: "n"
        Driver: "d"
        Pool: "p"
        Age: "<unknown>""#]],
    );
}
