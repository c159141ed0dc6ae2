use super::super::pools::{Block, Taken};
use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

const FOUR: &[&str] = &["10.96.0.0/16"];
const SIX: &[&str] = &["fd00:10::/112"];
const BOTH: &[&str] = &["10.96.0.0/16", "fd00:10::/112"];
const SIX_FIRST: &[&str] = &["fd00:10::/112", "10.96.0.0/16"];

fn pools(blocks: &[&str]) -> Pools {
    let blocks: Vec<Block> = blocks.iter().filter_map(|text| Block::parse(text)).collect();
    Pools {
        families: blocks.iter().map(Block::family).collect(),
        blocks,
        node_ports: 30_000..=32_767,
    }
}

fn service(spec: Value) -> Service {
    let mut service: Service = serde_json::from_value(json!({"metadata": {"name": "s"}, "spec": spec})).unwrap();
    crate::Kind::default(&super::super::Services, &mut service);
    crate::Kind::prepare_create(&super::super::Services, &mut service);
    service
}

fn taken_by(service: &Service) -> Taken {
    let spec = service.spec.as_ref().unwrap();
    let ports = spec.ports.iter().flatten().filter_map(|port| port.node_port);
    Taken {
        addresses: addresses(service).into_iter().collect(),
        node_ports: ports.chain(spec.health_check_node_port).collect(),
    }
}

fn give(old: Option<&Service>, new: &mut Service, blocks: &[&str], taken: &Taken) -> Result<(), String> {
    let mut next = 0;
    let mut random = || {
        next += 1;
        next
    };
    let mut choice = Choice {
        pools: &pools(blocks),
        taken,
        random: &mut random,
        dry_run: false,
    };
    allocate(old, new, &mut choice).map_err(|refusal| match refusal {
        Refusal::Invalid(errors) => errors.message(),
        Refusal::Internal(text) => text,
    })
}

/// Policy, families and addresses.
fn stack(service: &Service) -> String {
    let spec = service.spec.as_ref().unwrap();
    let list = |texts: &Option<Vec<String>>| texts.clone().unwrap_or_default().join(",");
    format!(
        "{} {} {} ({})",
        spec.ip_family_policy.as_deref().unwrap_or("-"),
        list(&spec.ip_families),
        list(&spec.cluster_ips),
        spec.cluster_ip.as_deref().unwrap_or("-")
    )
}

fn created(spec: Value, blocks: &[&str]) -> String {
    let mut new = service(spec);
    match give(None, &mut new, blocks, &Taken::default()) {
        Ok(()) => stack(&new),
        Err(text) => text,
    }
}

#[test]
fn what_is_given() {
    let mut web = service(json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local",
        "ports": [{"name": "dns", "port": 53}, {"name": "dns-udp", "port": 53, "protocol": "UDP"}]}));
    give(None, &mut web, FOUR, &Taken::default()).unwrap();
    assert_eq!(stack(&web), "SingleStack IPv4 10.96.1.2 (10.96.1.2)");
    let spec = web.spec.clone().unwrap();
    let ports: Vec<_> = spec.ports.iter().flatten().map(|port| port.node_port).collect();
    assert_eq!(ports, [Some(30_088), Some(30_088)]);
    assert_eq!(spec.health_check_node_port, Some(30_089));
}

#[test]
fn a_port_of_the_nodes_is_given_once() {
    let spec = |health: i32| {
        json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": health,
            "ports": [{"name": "dns", "port": 53, "nodePort": 30_100},
                {"name": "dns-udp", "port": 53, "protocol": "UDP", "nodePort": 30_100}]})
    };
    let given = |health| give(None, &mut service(spec(health)), FOUR, &Taken::default());
    assert_eq!(given(30_101), Ok(()));
    let refused = "failed to allocate requested HealthCheck NodePort 30100: provided port is already allocated";
    assert_eq!(given(30_100), Err(refused.to_owned()));
}

#[test]
fn families_of_new_services() {
    let ports = json!([{"port": 80}]);
    let with = |fields: Value| {
        let mut spec = json!({"ports": ports, "selector": {"a": "b"}});
        spec.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        spec
    };
    let cases = [
        json!({}),
        json!({"ipFamilyPolicy": "PreferDualStack"}),
        json!({"ipFamilyPolicy": "RequireDualStack"}),
        json!({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6"]}),
        json!({"ipFamilies": ["IPv6"]}),
        json!({"ipFamilies": ["IPv6", "IPv4"]}),
        json!({"clusterIP": "fd00:10::9"}),
        json!({"clusterIP": "fd00:10::9", "ipFamilyPolicy": "PreferDualStack"}),
        json!({"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9", "fd00:10::9"]}),
        json!({"clusterIP": "None"}),
        json!({"clusterIP": "None", "ipFamilyPolicy": "PreferDualStack"}),
        json!({"clusterIP": "None", "selector": null}),
        json!({"type": "ExternalName", "externalName": "a.b"}),
    ];
    let mut text = String::new();
    for case in &cases {
        text += &format!("{case}\n");
        for (name, blocks) in [("v4", FOUR), ("v6", SIX), ("v4,v6", BOTH), ("v6,v4", SIX_FIRST)] {
            text += &format!("    {name}: {}\n", created(with(case.clone()), blocks));
        }
    }
    expect_test::expect![[r#"
        {}
            v4: SingleStack IPv4 10.96.1.2 (10.96.1.2)
            v6: SingleStack IPv6 fd00:10::102 (fd00:10::102)
            v4,v6: SingleStack IPv4 10.96.1.2 (10.96.1.2)
            v6,v4: SingleStack IPv6 fd00:10::102 (fd00:10::102)
        {"ipFamilyPolicy":"PreferDualStack"}
            v4: PreferDualStack IPv4 10.96.1.2 (10.96.1.2)
            v6: PreferDualStack IPv6 fd00:10::102 (fd00:10::102)
            v4,v6: PreferDualStack IPv4,IPv6 10.96.1.2,fd00:10::103 (10.96.1.2)
            v6,v4: PreferDualStack IPv6,IPv4 fd00:10::102,10.96.1.3 (fd00:10::102)
        {"ipFamilyPolicy":"RequireDualStack"}
            v4: spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services
            v6: spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services
            v4,v6: RequireDualStack IPv4,IPv6 10.96.1.2,fd00:10::103 (10.96.1.2)
            v6,v4: RequireDualStack IPv6,IPv4 fd00:10::102,10.96.1.3 (fd00:10::102)
        {"ipFamilies":["IPv6"],"ipFamilyPolicy":"RequireDualStack"}
            v4: [spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services, spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster]
            v6: spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services
            v4,v6: RequireDualStack IPv6,IPv4 fd00:10::102,10.96.1.3 (fd00:10::102)
            v6,v4: RequireDualStack IPv6,IPv4 fd00:10::102,10.96.1.3 (fd00:10::102)
        {"ipFamilies":["IPv6"]}
            v4: spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster
            v6: SingleStack IPv6 fd00:10::102 (fd00:10::102)
            v4,v6: SingleStack IPv6 fd00:10::102 (fd00:10::102)
            v6,v4: SingleStack IPv6 fd00:10::102 (fd00:10::102)
        {"ipFamilies":["IPv6","IPv4"]}
            v4: spec.ipFamilyPolicy: Invalid value: "SingleStack": must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified
            v6: spec.ipFamilyPolicy: Invalid value: "SingleStack": must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified
            v4,v6: spec.ipFamilyPolicy: Invalid value: "SingleStack": must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified
            v6,v4: spec.ipFamilyPolicy: Invalid value: "SingleStack": must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified
        {"clusterIP":"fd00:10::9"}
            v4: spec.clusterIPs[0]: Invalid value: ["fd00:10::9"]: IPv6 is not configured on this cluster
            v6: SingleStack IPv6 fd00:10::9 (fd00:10::9)
            v4,v6: SingleStack IPv6 fd00:10::9 (fd00:10::9)
            v6,v4: SingleStack IPv6 fd00:10::9 (fd00:10::9)
        {"clusterIP":"fd00:10::9","ipFamilyPolicy":"PreferDualStack"}
            v4: spec.clusterIPs[0]: Invalid value: ["fd00:10::9"]: IPv6 is not configured on this cluster
            v6: PreferDualStack IPv6 fd00:10::9 (fd00:10::9)
            v4,v6: PreferDualStack IPv6,IPv4 fd00:10::9,10.96.1.2 (fd00:10::9)
            v6,v4: PreferDualStack IPv6,IPv4 fd00:10::9,10.96.1.2 (fd00:10::9)
        {"clusterIP":"10.96.0.9","clusterIPs":["10.96.0.9","fd00:10::9"]}
            v4: [spec.ipFamilyPolicy: Invalid value: "SingleStack": must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified, spec.clusterIPs[1]: Invalid value: ["10.96.0.9","fd00:10::9"]: IPv6 is not configured on this cluster]
            v6: [spec.ipFamilyPolicy: Invalid value: "SingleStack": must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified, spec.clusterIPs[0]: Invalid value: ["10.96.0.9","fd00:10::9"]: IPv4 is not configured on this cluster]
            v4,v6: spec.ipFamilyPolicy: Invalid value: "SingleStack": must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified
            v6,v4: spec.ipFamilyPolicy: Invalid value: "SingleStack": must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified
        {"clusterIP":"None"}
            v4: SingleStack IPv4 None (None)
            v6: SingleStack IPv6 None (None)
            v4,v6: SingleStack IPv4 None (None)
            v6,v4: SingleStack IPv6 None (None)
        {"clusterIP":"None","ipFamilyPolicy":"PreferDualStack"}
            v4: PreferDualStack IPv4 None (None)
            v6: PreferDualStack IPv6 None (None)
            v4,v6: PreferDualStack IPv4,IPv6 None (None)
            v6,v4: PreferDualStack IPv6,IPv4 None (None)
        {"clusterIP":"None","selector":null}
            v4: RequireDualStack IPv4,IPv6 None (None)
            v6: RequireDualStack IPv6,IPv4 None (None)
            v4,v6: RequireDualStack IPv4,IPv6 None (None)
            v6,v4: RequireDualStack IPv6,IPv4 None (None)
        {"externalName":"a.b","type":"ExternalName"}
            v4: -   (-)
            v6: -   (-)
            v4,v6: -   (-)
            v6,v4: -   (-)
    "#]].assert_eq(&text);
}

#[test]
fn services_grow_and_shrink() {
    let mut single = service(json!({"ports": [{"port": 80}]}));
    give(None, &mut single, BOTH, &Taken::default()).unwrap();
    let grown = |policy: &str, blocks: &[&str]| {
        let mut new = single.clone();
        new.spec.as_mut().unwrap().ip_family_policy = Some(policy.to_owned());
        let result = give(Some(&single), &mut new, blocks, &taken_by(&single));
        result.map(|()| new)
    };
    let dual = grown("RequireDualStack", BOTH).unwrap();
    let shrunk = |change: &dyn Fn(&mut ServiceSpec)| {
        let mut new = dual.clone();
        change(new.spec.as_mut().unwrap());
        match give(Some(&dual), &mut new, BOTH, &taken_by(&dual)) {
            Ok(()) => stack(&new),
            Err(text) => text,
        }
    };
    let mut external = service(json!({"type": "ExternalName", "externalName": "a.b"}));
    give(None, &mut external, BOTH, &Taken::default()).unwrap();
    let mut back = service(json!({"ports": [{"port": 80}], "ipFamilyPolicy": "PreferDualStack"}));
    give(Some(&external), &mut back, BOTH, &taken_by(&dual)).unwrap();
    let all = [
        stack(&dual),
        stack(&grown("PreferDualStack", BOTH).unwrap()),
        stack(&grown("PreferDualStack", FOUR).unwrap()),
        grown("RequireDualStack", FOUR).unwrap_err(),
        shrunk(&|spec| spec.ip_family_policy = Some("SingleStack".to_owned())),
        shrunk(&|spec| spec.cluster_ips.as_mut().unwrap().truncate(1)),
        shrunk(&|spec| spec.ip_families.as_mut().unwrap().truncate(1)),
        stack(&external),
        stack(&back),
    ];
    expect_test::expect![[r#"
        RequireDualStack IPv4,IPv6 10.96.1.2,fd00:10::102 (10.96.1.2)
        PreferDualStack IPv4,IPv6 10.96.1.2,fd00:10::102 (10.96.1.2)
        PreferDualStack IPv4 10.96.1.2 (10.96.1.2)
        spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services
        SingleStack IPv4 10.96.1.2 (10.96.1.2)
        spec.ipFamilyPolicy: Invalid value: "RequireDualStack": must be 'SingleStack' to release the secondary cluster IP
        spec.ipFamilyPolicy: Invalid value: "RequireDualStack": must be 'SingleStack' to release the secondary IP family
        -   (-)
        PreferDualStack IPv4,IPv6 10.96.1.3,fd00:10::103 (10.96.1.3)"#]].assert_eq(&all.join("\n"));
}

#[test]
fn a_service_that_takes_what_there_is_stays_as_it_is() {
    let mut old = service(json!({"ports": [{"port": 80}], "ipFamilyPolicy": "PreferDualStack"}));
    give(None, &mut old, FOUR, &Taken::default()).unwrap();
    let mut new = old.clone();
    give(Some(&old), &mut new, BOTH, &taken_by(&old)).unwrap();
    assert_eq!(stack(&new), "PreferDualStack IPv4 10.96.1.2 (10.96.1.2)");
}

#[test]
fn what_is_refused() {
    let taken = taken_by(&service(
        json!({"type": "NodePort", "clusterIP": "10.96.0.10", "ports": [{"port": 1, "nodePort": 30_001}]}),
    ));
    let refusal = |spec: Value| give(None, &mut service(spec), FOUR, &taken).unwrap_err();
    let with_ip = |ip: &str| refusal(json!({"clusterIP": ip, "ports": [{"port": 1}]}));
    let with_port = |port: i32| refusal(json!({"type": "NodePort", "ports": [{"port": 1, "nodePort": port}]}));
    let dual = give(
        None,
        &mut service(json!({"clusterIP": "10.96.0.10", "ipFamilyPolicy": "PreferDualStack", "ports": [{"port": 1}]})),
        BOTH,
        &taken,
    );
    let all = [
        with_ip("10.96.0.10"),
        with_ip("10.97.0.1"),
        with_ip("10.96.0.0"),
        with_ip("fd00::1"),
        with_port(30_001),
        with_port(80),
        refusal(json!({"ipFamilyPolicy": "RequireDualStack", "ports": [{"port": 1}]})),
        refusal(json!({"ipFamilies": ["IPv6"], "ports": [{"port": 1}]})),
        dual.unwrap_err(),
    ];
    expect_test::expect![[r#"
        spec.clusterIPs: Invalid value: ["10.96.0.10"]: failed to allocate IP 10.96.0.10: provided IP is already allocated
        spec.clusterIPs: Invalid value: ["10.97.0.1"]: failed to allocate IP 10.97.0.1: the provided network does not match the current range
        spec.clusterIPs: Invalid value: ["10.96.0.0"]: failed to allocate IP 10.96.0.0: the provided network does not match the current range
        spec.clusterIPs[0]: Invalid value: ["fd00::1"]: IPv6 is not configured on this cluster
        spec.ports[0].nodePort: Invalid value: 30001: provided port is already allocated
        spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767
        spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services
        spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster
        spec.clusterIPs: Invalid value: ["10.96.0.10",""]: failed to allocate IP 10.96.0.10: provided IP is already allocated"#]]
    .assert_eq(&all.join("\n"));
}

#[test]
fn what_is_only_tried_takes_nothing() {
    let mut one = service(json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local",
        "ports": [{"name": "a", "port": 1, "nodePort": 80}, {"name": "b", "port": 2}]}));
    let mut choice = Choice {
        pools: &pools(FOUR),
        taken: &Taken::default(),
        random: &mut || panic!("nothing is chosen"),
        dry_run: true,
    };
    allocate(None, &mut one, &mut choice).unwrap();
    assert_eq!(stack(&one), "SingleStack IPv4 10.96.0.0 (10.96.0.0)");
    let spec = one.spec.unwrap();
    let ports: Vec<_> = spec.ports.iter().flatten().map(|port| port.node_port).collect();
    assert_eq!(
        (ports, spec.health_check_node_port),
        (vec![Some(80), Some(81)], Some(82))
    );
}

proptest! {
    /// However many services there are, no two have one address or port until there are none left.
    #[test]
    fn nothing_is_given_twice(seeds in proptest::collection::vec(any::<u64>(), 1..40)) {
        let pools = Pools { node_ports: 30_000..=30_031, ..pools(&["10.0.0.0/28", "10.0.1.0/28"]) };
        let mut taken = Taken::default();
        let (mut given, mut full) = (0, false);
        for mut seed in seeds {
            let mut one = service(json!({"type": "NodePort", "ports": [{"port": 1}]}));
            let mut random = || { seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1); seed >> 8 };
            let mut choice = Choice { pools: &pools, taken: &taken, random: &mut random, dry_run: false };
            match allocate(None, &mut one, &mut choice) {
                Ok(()) => {
                    prop_assert!(!full);
                    let before = (taken.addresses.len(), taken.node_ports.len());
                    let own = taken_by(&one);
                    taken.addresses.extend(own.addresses);
                    taken.node_ports.extend(own.node_ports);
                    prop_assert_eq!((before.0 + 1, before.1 + 1), (taken.addresses.len(), taken.node_ports.len()));
                    given += 1;
                }
                Err(refusal) => {
                    prop_assert_eq!(refusal, Refusal::Internal("failed to allocate a serviceIP: range is full".to_owned()));
                    prop_assert_eq!(given, 28);
                    full = true;
                }
            }
        }
    }
}
