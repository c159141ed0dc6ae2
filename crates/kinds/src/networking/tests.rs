use crate::{ALL, golden};
use expect_test::expect;
use serde_json::{Value, json};

const INGRESSES: &str = "ingresses.networking.k8s.io";
const POLICIES: &str = "networkpolicies.networking.k8s.io";
const CLASSES: &str = "ingressclasses.networking.k8s.io";
const CIDRS: &str = "servicecidrs.networking.k8s.io";
const ADDRESSES: &str = "ipaddresses.networking.k8s.io";

fn service(name: &str, port: Value) -> Value {
    json!({"service": {"name": name, "port": port}})
}

#[test]
fn ingresses() {
    golden::create(
        INGRESSES,
        json!({"spec": {}}),
        &expect!["spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"],
    );
    golden::create(
        INGRESSES,
        json!({"metadata": {"annotations": {"kubernetes.io/ingress.class": "a"}}, "spec": {
        "ingressClassName": "b_",
        "defaultBackend": service("1a", json!({"name": "http", "number": 80})),
        "tls": [{"hosts": ["*.a.b", "*", "A"], "secretName": "S"}],
        "rules": [{"host": "10.0.0.1", "http": {"paths": []}}, {"host": "a.*", "http": {"paths": [
            {"path": "a//b/../c/.", "pathType": "Prefix", "backend": service("a", json!({}))},
            {"path": "a", "pathType": "ImplementationSpecific", "backend": {}},
            {"pathType": "Regex", "backend": {"resource": {"kind": "", "name": "a/b", "apiGroup": "A"}}},
            {"backend": service("a", json!({"number": 1}))},
        ]}}]}}),
        &expect![[r#"
            spec.defaultBackend.service.name: Invalid value: "1a": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')
            spec.defaultBackend: Invalid value: "": cannot set both port name & port number
            spec.rules[0].host: Invalid value: "10.0.0.1": must be a DNS name, not an IP address
            spec.rules[0].http.paths: Required value
            spec.rules[1].host: Invalid value: "a.*": a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\*\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            spec.rules[1].http.paths[0].path: Invalid value: "a//b/../c/.": must be an absolute path
            spec.rules[1].http.paths[0].path: Invalid value: "a//b/../c/.": must not contain '//'
            spec.rules[1].http.paths[0].path: Invalid value: "a//b/../c/.": must not contain '/../'
            spec.rules[1].http.paths[0].path: Invalid value: "a//b/../c/.": cannot end with '/.'
            spec.rules[1].http.paths[0].backend: Required value: port name or number is required
            spec.rules[1].http.paths[1].path: Invalid value: "a": must be an absolute path
            spec.rules[1].http.paths[1].backend: Invalid value: "": resource or service backend is required
            spec.rules[1].http.paths[2].pathType: Unsupported value: "Regex": supported values: "Exact", "ImplementationSpecific", "Prefix"
            spec.rules[1].http.paths[2].backend.resource.apiGroup: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            spec.rules[1].http.paths[2].backend.resource.kind: Required value
            spec.rules[1].http.paths[2].backend.resource.name: Invalid value: "a/b": may not contain '/'
            spec.rules[1].http.paths[3].pathType: Required value: pathType must be specified
            spec.tls[0].hosts[1]: Invalid value: "*": a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\*\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            spec.tls[0].hosts[2]: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            spec.tls[0].secretName: Invalid value: "S": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            spec.ingressClassName: Invalid value: "b_": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            annotations.kubernetes.io/ingress.class: Invalid value: "a": must match `ingressClassName` when both are specified"#]],
    );
    golden::status(
        INGRESSES,
        json!({}),
        json!({"status": {"loadBalancer": {"ingress": [{"ip": "a"}, {"hostname": "10.0.0.1"}, {"hostname": "A"}]}}}),
        &expect![[r#"
            status.loadBalancer.ingress[0].ip: Invalid value: "a": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
            status.loadBalancer.ingress[1].hostname: Invalid value: "10.0.0.1": must be a DNS name, not an IP address
            status.loadBalancer.ingress[2].hostname: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"#]],
    );
    let rule = |host: &str| json!({"host": host});
    let ingress = |rules: Value| {
        json!({"metadata": {"name": "i"}, "spec": {"rules": rules, "tls": [{}]},
            "status": {"loadBalancer": {"ingress": [{"hostname": "b"}, {"ip": "10.0.0.1"}]}}})
    };
    golden::row(
        INGRESSES,
        ingress(json!([rule("a"), rule("b"), rule("c"), rule("d"), rule("e")])),
        &expect![[r#"
        Name: "i"
        Class: "<none>"
        Hosts: "a,b,c + 2 more..."
        Address: "10.0.0.1,b"
        Ports: "80, 443"
        Age: "<unknown>""#]],
    );
    golden::row(
        INGRESSES,
        json!({"spec": {"ingressClassName": "c", "rules": [{}]}}),
        &expect![[r#"
        Name: ""
        Class: "c"
        Hosts: "*"
        Address: ""
        Ports: "80"
        Age: "<unknown>""#]],
    );
}

#[test]
fn ingress_classes() {
    golden::create(CLASSES, json!({}), &expect!["spec.controller: Required value"]);
    let class =
        |controller: &str, parameters: Value| json!({"spec": {"controller": controller, "parameters": parameters}});
    golden::create(
        CLASSES,
        class("a", json!({"kind": "K", "name": "n", "scope": "Galaxy"})),
        &expect![[r#"
        spec.controller: Invalid value: "a": must be a domain-prefixed path (such as "acme.io/foo")
        spec.parameters.scope: Unsupported value: "Galaxy": supported values: "Cluster", "Namespace""#]],
    );
    golden::create(
        CLASSES,
        class("a.b/c d", json!({"kind": "K", "name": "n", "namespace": "n"})),
        &expect![[r#"
        spec.controller: Invalid value: "c d": Invalid path (regex used for validation is '[A-Za-z0-9/\-._~%!$&'()*+,;=:]+')
        spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'"#]],
    );
    golden::create(
        CLASSES,
        class("A/b", json!({"kind": "", "name": "", "scope": "Namespace"})),
        &expect![[r#"
        spec.controller: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
        spec.parameters.kind: Required value
        spec.parameters.name: Required value
        spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'"#]],
    );
    golden::update(
        CLASSES,
        class("a/b", json!(null)),
        class("a/c", json!(null)),
        &expect![[r#"spec.controller: Invalid value: "a/c": field is immutable"#]],
    );
    golden::row(
        CLASSES,
        class("a/b", json!({"kind": "K", "apiGroup": "g", "name": "n"})),
        &expect![[r#"
        Name: ""
        Controller: "a/b"
        Parameters: "K.g/n"
        Age: "<unknown>""#]],
    );
}

#[test]
fn network_policies() {
    golden::defaults(
        POLICIES,
        json!({"spec": {"egress": [{"ports": [{"port": 1}]}]}}),
        &expect![[r#"
            {
              "apiVersion": "networking.k8s.io/v1",
              "kind": "NetworkPolicy",
              "metadata": {},
              "spec": {
                "egress": [
                  {
                    "ports": [
                      {
                        "port": 1,
                        "protocol": "TCP"
                      }
                    ]
                  }
                ],
                "podSelector": {},
                "policyTypes": [
                  "Ingress",
                  "Egress"
                ]
              }
            }"#]],
    );
    golden::create(
        POLICIES,
        json!({"spec": {"podSelector": {"matchLabels": {"a b": "c d"}}, "policyTypes": ["In"],
            "ingress": [{"ports": [
                {"port": 0, "endPort": 70000, "protocol": "ICMP"}, {"port": "Http", "endPort": 1}, {"endPort": 1}, {"port": 5, "endPort": 4}],
                "from": [{}, {"ipBlock": {"cidr": ""}, "podSelector": {}}]}],
            "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "11.0.0.0/16", "10.0.0.0/8", "x"]}}]}]}}),
        &expect![[r#"
            spec.podSelector.matchLabels: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            spec.podSelector.matchLabels: Invalid value: "c d": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')
            spec.ingress[0].ports[0].protocol: Unsupported value: "ICMP": supported values: "TCP", "UDP", "SCTP"
            spec.ingress[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive
            spec.ingress[0].ports[0].endPort: Invalid value: 70000: must be between 1 and 65535, inclusive
            spec.ingress[0].ports[1].endPort: Invalid value: 1: may not be specified when `port` is non-numeric
            spec.ingress[0].ports[1].port: Invalid value: "Http": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)
            spec.ingress[0].ports[2].endPort: Invalid value: 1: may not be specified when `port` is not specified
            spec.ingress[0].ports[3].endPort: Invalid value: 4: must be greater than or equal to `port`
            spec.ingress[0].from[0]: Required value: must specify a peer
            spec.ingress[0].from[1].ipBlock.cidr: Required value
            spec.ingress[0].from[1]: Forbidden: may not specify both ipBlock and another peer
            spec.egress[0].to[0].ipBlock.except[1]: Invalid value: "11.0.0.0/16": must be a strict subset of `cidr`
            spec.egress[0].to[0].ipBlock.except[2]: Invalid value: "10.0.0.0/8": must be a strict subset of `cidr`
            spec.egress[0].to[0].ipBlock.except[3]: Invalid value: "x": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)
            spec.policyTypes[0]: Unsupported value: "In": supported values: "Ingress", "Egress""#]],
    );
    let policy = json!({"metadata": {"name": "p"}, "spec": {"podSelector": {"matchLabels": {"a": "b"}}}});
    golden::row(
        POLICIES,
        policy,
        &expect![[r#"
        Name: "p"
        Pod-Selector: "a=b"
        Age: "<unknown>""#]],
    );
}

#[test]
fn service_cidrs_and_addresses() {
    let cidrs = |cidrs: Value| json!({"metadata": {"name": "c"}, "spec": {"cidrs": cidrs}});
    golden::create(
        CIDRS,
        cidrs(json!([])),
        &expect!["spec.cidrs: Required value: at least one CIDR required"],
    );
    golden::create(
        CIDRS,
        cidrs(json!(["10.0.0.0/8", "11.0.0.1/8"])),
        &expect![[r#"
        spec.cidrs[1]: Invalid value: "11.0.0.1/8": must not have bits set beyond the prefix length
        spec.cidrs: Invalid value: ["10.0.0.0/8","11.0.0.1/8"]: may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"#]],
    );
    golden::create(
        CIDRS,
        cidrs(json!(["10.0.0.0/8", "2001:DB8::/64"])),
        &expect![[r#"spec.cidrs[1]: Invalid value: "2001:DB8::/64": must be in canonical form ("2001:db8::/64")"#]],
    );
    golden::create(
        CIDRS,
        cidrs(json!(["a", "b", "c"])),
        &expect![[r#"spec.cidrs: Invalid value: {"CIDRs":["a","b","c"]}: may only hold up to 2 values"#]],
    );
    let one = || cidrs(json!(["10.0.0.0/8"]));
    golden::update(
        CIDRS,
        one(),
        cidrs(json!(["11.0.0.0/8"])),
        &expect![[r#"spec.cidrs[0]: Invalid value: "11.0.0.0/8": field is immutable"#]],
    );
    golden::update(CIDRS, one(), cidrs(json!(["10.0.0.0/8", "fd00::/64"])), &expect![""]);
    golden::update(
        CIDRS,
        one(),
        cidrs(json!([])),
        &expect!["spec.cidrs: Invalid value: []: field is immutable"],
    );
    golden::row(
        CIDRS,
        cidrs(json!(["10.0.0.0/8", "fd00::/64"])),
        &expect![[r#"
        Name: "c"
        CIDRs: "10.0.0.0/8,fd00::/64"
        Age: "<unknown>""#]],
    );

    let address = |parent: Value| json!({"metadata": {"name": "10.0.0.1"}, "spec": {"parentRef": parent}});
    golden::create(
        ADDRESSES,
        address(json!({})),
        &expect!["spec.parentRef: Required value"],
    );
    golden::create(
        ADDRESSES,
        address(json!({"group": "A", "namespace": "a/b", "name": "", "resource": "r"})),
        &expect![[r#"
        spec.parentRef.group: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
        spec.parentRef.name: Required value
        spec.parentRef.namespace: Invalid value: "a/b": may not contain '/'"#]],
    );
    let parent = json!({"resource": "services", "namespace": "n", "name": "s"});
    golden::update(
        ADDRESSES,
        address(parent.clone()),
        address(json!({"resource": "r", "name": "n"})),
        &expect![[r#"spec.parentRef: Invalid value: {"name":"n","resource":"r"}: field is immutable"#]],
    );
    golden::row(
        ADDRESSES,
        address(parent),
        &expect![[r#"
        Name: "10.0.0.1"
        ParentRef: "services/n/s""#]],
    );
    let rule = golden::kind(ADDRESSES).info().name_rule;
    assert_eq!(rule("10.0.0.1"), Vec::<String>::new());
    assert_eq!(rule("10.0.0.01"), ["must not have leading 0s"]);
}

/// Nothing here depends on what happens to be set.
#[test]
fn empty_objects_have_rows() {
    let now = "2026-01-02T00:00:00Z".parse().expect("a time");
    for kind in ALL {
        let object = golden::decode(*kind, json!({}));
        assert_eq!(
            kind.row(&*object, now).len(),
            kind.columns().len(),
            "{}",
            kind.info().kind
        );
        let mut errors = catamaran_api::Errors::new();
        kind.validate(&*object, &mut errors);
        kind.warnings(&*object, Some(&*object));
    }
}
