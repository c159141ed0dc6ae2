//! Goldens of services.

use super::{check, check_created, check_row, check_status, check_warnings, decode, kind};
use expect_test::expect;
use serde_json::{Value, json};

fn service(spec: Value) -> Value {
    json!({"metadata": {"name": "s", "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": spec})
}

#[test]
fn defaults() {
    check_created(
        "Service",
        service(json!({"ports": [{"port": 80}]})),
        &expect![[r#"
        {
          "metadata": {
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "name": "s"
          },
          "spec": {
            "internalTrafficPolicy": "Cluster",
            "ports": [
              {
                "port": 80,
                "protocol": "TCP",
                "targetPort": 80
              }
            ],
            "sessionAffinity": "None",
            "type": "ClusterIP"
          },
          "status": {
            "loadBalancer": {}
          }
        }"#]],
    );
    check_created(
        "Service",
        service(
            json!({"type": "LoadBalancer", "sessionAffinity": "ClientIP", "clusterIP": "10.96.0.9",
            "ports": [{"port": 80, "targetPort": "web"}]}),
        ),
        &expect![[r#"
            {
              "metadata": {
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "name": "s"
              },
              "spec": {
                "allocateLoadBalancerNodePorts": true,
                "clusterIP": "10.96.0.9",
                "clusterIPs": [
                  "10.96.0.9"
                ],
                "externalTrafficPolicy": "Cluster",
                "internalTrafficPolicy": "Cluster",
                "ports": [
                  {
                    "port": 80,
                    "protocol": "TCP",
                    "targetPort": "web"
                  }
                ],
                "sessionAffinity": "ClientIP",
                "sessionAffinityConfig": {
                  "clientIP": {
                    "timeoutSeconds": 10800
                  }
                },
                "type": "LoadBalancer"
              },
              "status": {
                "loadBalancer": {}
              }
            }"#]],
    );
}

#[test]
fn refusals() {
    check("Service", &[service(json!({}))], &expect!["spec.ports: Required value"]);
    check(
        "Service",
        &[service(
            json!({"type": "Magic", "sessionAffinity": "Often", "clusterIP": "10.0.0.1", "externalTrafficPolicy": "Local",
            "ports": [{"port": 0, "nodePort": 30000}, {"port": 80, "name": "a", "protocol": "ICMP"}, {"port": 80, "name": "a", "targetPort": "A"}],
            "externalIPs": ["127.0.0.1", "x"], "loadBalancerSourceRanges": ["10.0.0.0/33"], "selector": {"a b": "c"},
            "internalTrafficPolicy": "Mine", "trafficDistribution": "Far", "healthCheckNodePort": 5, "loadBalancerClass": "x"}),
        )],
        &expect![[r#"
            spec.ports[0].name: Required value
            spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive
            spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive
            spec.ports[1].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"
            spec.ports[2].name: Duplicate value: "a"
            spec.ports[2].targetPort: Invalid value: "A": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)
            spec.ports[2].targetPort: Invalid value: "A": must contain at least one letter (a-z)
            spec.selector: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            spec.sessionAffinity: Unsupported value: "Often": supported values: "ClientIP", "None"
            spec.clusterIPs: Required value
            spec.externalIPs[0]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)
            spec.externalIPs[1]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
            spec.type: Unsupported value: "Magic": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"
            spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'
            spec.LoadBalancerSourceRanges[0]: Invalid value: "10.0.0.0/33": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)
            spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'
            spec.externalTrafficPolicy: Invalid value: "Local": may only be set for externally-accessible services
            spec.healthCheckNodePort: Invalid value: 5: may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'
            spec.internalTrafficPolicy: Unsupported value: "Mine": supported values: "Cluster", "Local"
            spec.trafficDistribution: Unsupported value: "Far": supported values: "PreferClose", "PreferSameZone", "PreferSameNode""#]],
    );
    check(
        "Service",
        &[service(
            json!({"type": "ClusterIP", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "10.0.0.2"],
            "ipFamilies": ["IPv4", "IPv4", "IPv7"], "ipFamilyPolicy": "Any", "ports": [{"port": 80, "nodePort": 30000}, {"port": 80, "name": "b"}]}),
        )],
        &expect![[r#"
            spec.ports[0].name: Required value
            spec.ipFamilies[1]: Duplicate value: "IPv4"
            spec.ipFamilies[2]: Unsupported value: "IPv7": supported values: "IPv4", "IPv6"
            spec.ipFamilyPolicy: Unsupported value: "Any": supported values: "PreferDualStack", "RequireDualStack", "SingleStack"
            spec.clusterIPs: Invalid value: ["10.0.0.1","10.0.0.2"]: may specify no more than one IP for each IP family
            spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'
            spec.ports[1]: Duplicate value: {"Name":"","Protocol":"TCP","AppProtocol":null,"Port":80,"TargetPort":0,"NodePort":0}"#]],
    );
    check(
        "Service",
        &[service(
            json!({"type": "ExternalName", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"}),
        )],
        &expect![[r#"
            spec.clusterIPs: Forbidden: may not be set for ExternalName services
            spec.ipFamilies: Forbidden: may not be set for ExternalName services
            spec.ipFamilyPolicy: Forbidden: may not be set for ExternalName services
            spec.externalName: Required value"#]],
    );
    check(
        "Service",
        &[service(
            json!({"type": "NodePort", "clusterIP": "None", "clusterIPs": ["None"], "ports": [{"port": 1}],
            "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 100_000}}}),
        )],
        &expect![[r#"
            spec.clusterIPs[0]: Invalid value: "None": may not be set to 'None' for NodePort services
            spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 100000: must be greater than 0 and less than 86400"#]],
    );
}

fn kept(kind: &dyn crate::ErasedKind, old: Value, new: Value) -> Value {
    let old = decode(kind, service(old));
    let mut new = decode(kind, service(new));
    kind.prepare_update(&mut *new, &*old);
    new.to_value().unwrap()["spec"].clone()
}

/// People apply the file they wrote, again and again.
#[test]
fn updates_keep_what_was_allocated() {
    let kind = kind("Service");
    let old = json!({"type": "NodePort", "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
        "ports": [{"name": "a", "port": 80, "nodePort": 30001}, {"name": "b", "port": 81, "nodePort": 30002}]});
    let spec = kept(
        kind,
        old.clone(),
        json!({"type": "NodePort", "ports": [{"name": "b", "port": 82}, {"name": "c", "port": 83}]}),
    );
    assert_eq!(spec["clusterIP"], "10.96.0.7");
    assert_eq!(spec["clusterIPs"], json!(["10.96.0.7"]));
    assert_eq!(spec["ports"][0]["nodePort"], 30002);
    assert_eq!(spec["ports"][1].get("nodePort"), None);

    let mut as_cluster_ip = old.clone();
    as_cluster_ip["type"] = "ClusterIP".into();
    as_cluster_ip["externalTrafficPolicy"] = "Cluster".into();
    let spec = kept(kind, old.clone(), as_cluster_ip);
    assert_eq!(spec["ports"][0].get("nodePort"), None);
    assert_eq!(spec.get("externalTrafficPolicy"), None);

    let mut as_name = old.clone();
    as_name["type"] = "ExternalName".into();
    as_name["externalName"] = "example.com".into();
    let spec = kept(kind, old, as_name);
    for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        assert_eq!(spec.get(field), None, "{field}");
    }
}

#[test]
fn what_may_not_change() {
    let at = |ip: &str| {
        service(json!({"clusterIP": ip, "clusterIPs": [ip], "ipFamilies": ["IPv4"], "ports": [{"port": 1}]}))
    };
    check(
        "Service",
        &[at("10.96.0.1"), at("10.96.0.2")],
        &expect![[r#"spec.clusterIPs[0]: Invalid value: ["10.96.0.2"]: may not change once set"#]],
    );
    check(
        "Service",
        &[at("10.96.0.1"), at("None")],
        &expect![[r#"spec.clusterIPs[0]: Invalid value: ["None"]: may not change once set"#]],
    );
    let balancer = |class: &str, port: i32| {
        service(
            json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": port, "loadBalancerClass": class,
            "ports": [{"port": 1}]}),
        )
    };
    check(
        "Service",
        &[balancer("a", 30000), balancer("b", 30001)],
        &expect![[r#"
        spec.loadBalancerClass: Invalid value: "b": may not change once set
        spec.healthCheckNodePort: Forbidden: field is immutable"#]],
    );
    let ingress = json!({"loadBalancer": {"ingress": [{"ip": "x"}, {"hostname": "10.0.0.1", "ipMode": "VIP"}]}});
    let mut lost = balancer("a", 1);
    lost["status"] = ingress.clone();
    check_status(
        "Service",
        balancer("a", 1),
        lost,
        &expect![[r#"
        status.loadBalancer.ingress[0].ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
        status.loadBalancer.ingress[1].ipMode: Forbidden: may not be specified when `ip` is not set
        status.loadBalancer.ingress[1].hostname: Invalid value: "10.0.0.1": must be a DNS name, not an IP address"#]],
    );
    let mut odd = service(json!({"ports": [{"port": 1}]}));
    odd["status"] = ingress;
    check_status(
        "Service",
        service(json!({})),
        odd,
        &expect!["status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is 'LoadBalancer'"],
    );
}

#[test]
fn rows() {
    let ports = json!([{"port": 80, "nodePort": 30080}, {"port": 53, "protocol": "UDP", "name": "d"}]);
    let mut balancer = service(
        json!({"type": "LoadBalancer", "clusterIP": "10.96.0.2", "clusterIPs": ["10.96.0.2"], "ports": ports, "selector": {"b": "1", "a": "2"}}),
    );
    check_row(
        "Service",
        balancer.clone(),
        &expect![[r#"
        Name: "s"
        Type: "LoadBalancer"
        Cluster-IP: "10.96.0.2"
        External-IP: "<pending>"
        Port(s): "80:30080/TCP,53/UDP"
        Age: "24h"
        Selector (wide): "a=2,b=1""#]],
    );
    balancer["status"] = json!({"loadBalancer": {"ingress": [{"ip": "2.2.2.2"}, {"hostname": "a.example"}]}});
    balancer["spec"]["externalIPs"] = json!(["3.3.3.3"]);
    check_row(
        "Service",
        balancer,
        &expect![[r#"
        Name: "s"
        Type: "LoadBalancer"
        Cluster-IP: "10.96.0.2"
        External-IP: "2.2.2.2,a.example,3.3.3.3"
        Port(s): "80:30080/TCP,53/UDP"
        Age: "24h"
        Selector (wide): "a=2,b=1""#]],
    );
    check_row(
        "Service",
        service(json!({"type": "ExternalName", "externalName": "example.com"})),
        &expect![[r#"
        Name: "s"
        Type: "ExternalName"
        Cluster-IP: "<none>"
        External-IP: "example.com"
        Port(s): "<none>"
        Age: "24h"
        Selector (wide): "<none>""#]],
    );
}

#[test]
fn warnings() {
    check_warnings(
        "Service",
        json!({"metadata": {"name": "s", "annotations": {"service.kubernetes.io/topology-aware-hints": "Auto"}},
            "spec": {"clusterIP": "None", "clusterIPs": ["None"], "externalIPs": ["2001:db8:0:0::1"], "loadBalancerSourceRanges": ["10.0.0.1/8"],
                "externalName": "x"}}),
        &expect![[r#"
            annotation service.kubernetes.io/topology-aware-hints is deprecated, please use service.kubernetes.io/topology-mode instead
            spec.externalIPs is ignored for headless services
            spec.SessionAffinity is ignored for headless services
            spec.externalIPs[0]: IPv6 address "2001:db8:0:0::1" should be in RFC 5952 canonical format ("2001:db8::1")
            spec.loadBalancerSourceRanges[0]: CIDR value "10.0.0.1/8" is ambiguous in this context (should be "10.0.0.0/8" or "10.0.0.1/32"?)
            spec.externalName is ignored when spec.type is not "ExternalName""#]],
    );
}
