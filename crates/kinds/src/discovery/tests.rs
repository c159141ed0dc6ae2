use crate::golden;
use expect_test::expect;
use serde_json::{Value, json};

const SLICES: &str = "endpointslices.discovery.k8s.io";

fn slice(kind: &str, endpoints: Value, ports: Value) -> Value {
    json!({"metadata": {"name": "s"}, "addressType": kind, "endpoints": endpoints, "ports": ports})
}

#[test]
fn endpoint_slices() {
    golden::create(
        SLICES,
        slice(
            "IPv4",
            json!([
                {"addresses": []},
                {"addresses": ["a", "::1", "127.0.0.1", "169.254.0.1", "0.0.0.0", "224.0.0.1", "10.0.0.1"]},
                {"addresses": ["10.0.0.1"], "nodeName": "N", "hostname": "a.b", "deprecatedTopology": {"a b": "c"},
                    "hints": {"forZones": [{"name": "z"}, {"name": "z"}, {"name": "a b"}], "forNodes": [{"name": "N"}]}},
            ]),
            json!([{"name": "A"}, {"name": ""}, {}, {"name": "a", "protocol": "ICMP", "appProtocol": "a b"}]),
        ),
        &expect![[r#"
            endpoints[0].addresses: Required value: must contain at least 1 address
            endpoints[1].addresses[0]: Invalid value: "a": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
            endpoints[1].addresses[1]: Invalid value: "::1": must be an IPv4 address
            endpoints[1].addresses[2]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)
            endpoints[1].addresses[3]: Invalid value: "169.254.0.1": may not be in the link-local range (169.254.0.0/16, fe80::/10)
            endpoints[1].addresses[4]: Invalid value: "0.0.0.0": may not be unspecified (0.0.0.0)
            endpoints[1].addresses[5]: Invalid value: "224.0.0.1": may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)
            endpoints[2].nodeName: Invalid value: "N": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            endpoints[2].deprecatedTopology: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            endpoints[2].hostname: Invalid value: "a.b": must not contain dots
            endpoints[2].hints.forZones[1].name: Duplicate value: "z"
            endpoints[2].hints.forZones[2].name: Invalid value: "a b": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')
            endpoints[2].hints.forNodes[0].name: Invalid value: "N": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            ports[0].name: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            ports[2].name: Duplicate value: ""
            ports[3].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"
            ports[3].appProtocol: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"#]],
    );
    golden::create(
        SLICES,
        slice(
            "IPv6",
            json!([{"addresses": ["10.0.0.1", "fe80::1", "2001:db8::1"]}]),
            json!([]),
        ),
        &expect![[r#"
        endpoints[0].addresses[0]: Invalid value: "10.0.0.1": must be an IPv6 address
        endpoints[0].addresses[1]: Invalid value: "fe80::1": may not be in the link-local range (169.254.0.0/16, fe80::/10)"#]],
    );
    golden::create(
        SLICES,
        slice("FQDN", json!([{"addresses": ["a", "a.b.", "A.b"]}]), json!([])),
        &expect![[r#"
        endpoints[0].addresses[0]: Invalid value: "a": should be a domain with at least two segments separated by dots
        endpoints[0].addresses[2]: Invalid value: "A.b": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"#]],
    );
    golden::create(
        SLICES,
        slice("", json!([]), json!([])),
        &expect!["addressType: Required value"],
    );
    golden::create(
        SLICES,
        slice("IP", json!([]), json!([])),
        &expect![[r#"addressType: Unsupported value: "IP": supported values: "FQDN", "IPv4", "IPv6""#]],
    );
    let empty = |kind: &str| slice(kind, json!([]), json!([]));
    golden::update(
        SLICES,
        empty("IPv4"),
        empty("IPv6"),
        &expect![[r#"addressType: Invalid value: "IPv6": field is immutable"#]],
    );
    let full = slice(
        "IPv4",
        json!([{"addresses": ["10.0.0.1", "10.0.0.2"]}, {"addresses": ["10.0.0.3", "10.0.0.4"]}]),
        json!([{"port": 80}, {"name": "any"}]),
    );
    golden::row(
        SLICES,
        full,
        &expect![[r#"
        Name: "s"
        AddressType: "IPv4"
        Ports: "80,any"
        Endpoints: "10.0.0.1,10.0.0.2,10.0.0.3 + 1 more..."
        Age: "<unknown>""#]],
    );
    golden::row(
        SLICES,
        empty("IPv6"),
        &expect![[r#"
        Name: "s"
        AddressType: "IPv6"
        Ports: "<unset>"
        Endpoints: "<unset>"
        Age: "<unknown>""#]],
    );
}
