//! What the system chooses for a service while it is written: families, cluster addresses, ports of the nodes.
//!
//! Nothing is kept but the services themselves: an address is taken if another service has it. Whoever calls must see to it that
//! no two services are written from the same view of what is taken. Chance is an argument.

use super::{has_cluster_ip, has_health_check, has_node_ports, is_headless, kind, validate};
use catamaran_api::{Errors, Path};
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;

/// What there is to choose from. One family: IPv4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pools {
    /// The network of cluster addresses.
    pub network: Ipv4Addr,
    /// Length of its prefix, in bits.
    pub prefix: u8,
    /// Ports of the nodes.
    pub node_ports: RangeInclusive<u16>,
}

impl Default for Pools {
    fn default() -> Self {
        Pools {
            network: Ipv4Addr::new(10, 96, 0, 0),
            prefix: 16,
            node_ports: 30_000..=32_767,
        }
    }
}

impl Pools {
    /// The address of the API itself.
    pub fn first(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network.to_bits() + 1)
    }

    fn size(&self) -> u32 {
        1u32.checked_shl(u32::from(32 - self.prefix)).unwrap_or(u32::MAX)
    }

    fn contains(&self, address: Ipv4Addr) -> bool {
        address.to_bits().wrapping_sub(self.network.to_bits()) < self.size()
    }

    /// Neither the network itself nor its broadcast address.
    fn is_usable(&self, address: Ipv4Addr) -> bool {
        let offset = address.to_bits().wrapping_sub(self.network.to_bits());
        offset > 0 && offset < self.size() - 1
    }
}

/// What the other services have.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    pub addresses: HashSet<IpAddr>,
    /// Ports of the nodes, health checks included, of whatever protocol.
    pub node_ports: HashSet<i32>,
}

impl Taken {
    /// Notes what a service has.
    pub fn add(&mut self, service: &Service) {
        let Some(spec) = &service.spec else { return };
        let ips = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
        self.addresses.extend(ips.filter_map(|ip| ip.parse::<IpAddr>().ok()));
        let ports = spec.ports.iter().flatten().filter_map(|port| port.node_port);
        self.node_ports
            .extend(ports.chain(spec.health_check_node_port).filter(|port| *port != 0));
    }
}

/// Why a service cannot have what it asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// The fault is the client's.
    Invalid(Errors),
    /// There is none left.
    Internal(String),
}

/// Fills in what the service needs and checks what it asks for. `old` is what it replaces, `taken` is what all others have;
/// `random` gives any number.
pub fn allocate(
    old: Option<&Service>,
    new: &mut Service,
    pools: &Pools,
    taken: &Taken,
    random: &mut dyn FnMut() -> u64,
) -> Result<(), Refusal> {
    let no_spec = ServiceSpec::default();
    let old = old.map(|old| old.spec.as_ref().unwrap_or(&no_spec));
    let spec = new.spec.get_or_insert_default();
    settle_families(spec, old)?;
    cluster_ips(spec, old, pools, taken, random)?;
    node_ports(spec, old, pools, taken, random)?;
    health_check_port(spec, old, pools, taken, random)
}

fn refused(build: impl FnOnce(&mut Errors)) -> Result<(), Refusal> {
    let mut errors = Errors::new();
    build(&mut errors);
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Refusal::Invalid(errors))
    }
}

fn ips(spec: &ServiceSpec) -> &[String] {
    spec.cluster_ips.as_deref().unwrap_or_default()
}

fn families(spec: &ServiceSpec) -> &[String] {
    spec.ip_families.as_deref().unwrap_or_default()
}

/// Settles `ipFamilyPolicy` and `ipFamilies`, on a cluster that has IPv4.
fn settle_families(spec: &mut ServiceSpec, old: Option<&ServiceSpec>) -> Result<(), Refusal> {
    if kind(spec) == "ExternalName" || old.is_some_and(|old| prefers_dual_unchanged(spec, old)) {
        return Ok(());
    }
    let without_selector = spec.selector.as_ref().is_none_or(std::collections::BTreeMap::is_empty);
    let loose = spec.cluster_ip.as_deref() == Some("None") && without_selector;
    if spec.ip_family_policy.is_none() {
        let inherited = old.and_then(|old| old.ip_family_policy.clone());
        let policy = if loose { "RequireDualStack" } else { "SingleStack" };
        spec.ip_family_policy = Some(inherited.unwrap_or_else(|| policy.to_owned()));
    }
    refused(|errors| validate::cluster_ips(spec, old, errors))?;
    let single = spec.ip_family_policy.as_deref() == Some("SingleStack");
    refused(|errors| {
        if let Some(old) = old {
            release_second(spec, old, single, errors);
        }
        infer_families(spec, single, errors);
    })?;
    if loose {
        let list = spec.ip_families.get_or_insert_default();
        if list.is_empty() {
            list.push("IPv4".to_owned());
        }
        if list.len() < 2 && !single {
            let other = if list[0] == "IPv4" { "IPv6" } else { "IPv4" };
            list.push(other.to_owned());
        }
        return Ok(());
    }
    refused(|errors| configured(spec, errors))?;
    let list = spec.ip_families.get_or_insert_default();
    if list.is_empty() {
        list.push("IPv4".to_owned());
    }
    Ok(())
}

/// A service that takes what there is does not change because the cluster did.
fn prefers_dual_unchanged(new: &ServiceSpec, old: &ServiceSpec) -> bool {
    let prefers = |spec: &ServiceSpec| {
        spec.ip_family_policy
            .as_deref()
            .is_none_or(|policy| policy == "PreferDualStack")
    };
    old.ip_family_policy.is_some()
        && kind(old) == kind(new)
        && has_cluster_ip(new)
        && prefers(new)
        && prefers(old)
        && ips(new) == ips(old)
        && families(new) == families(old)
}

fn policy_error(spec: &ServiceSpec, detail: &str, errors: &mut Errors) {
    let path = Path::new("spec");
    let shown = spec.ip_family_policy.clone().unwrap_or_default();
    errors.invalid(&path.child("ipFamilyPolicy"), shown, detail);
}

fn release_second(spec: &mut ServiceSpec, old: &ServiceSpec, single: bool, errors: &mut Errors) {
    if single {
        if ips(spec) == ips(old) && ips(spec).len() > 1 {
            spec.cluster_ips.get_or_insert_default().truncate(1);
        }
        if families(spec) == families(old) && families(spec).len() > 1 {
            spec.ip_families.get_or_insert_default().truncate(1);
        }
        return;
    }
    if !ips(spec).is_empty() && ips(spec).len() < ips(old).len() {
        policy_error(
            spec,
            "must be 'SingleStack' to release the secondary cluster IP",
            errors,
        );
    }
    if !families(spec).is_empty() && families(spec).len() < families(old).len() {
        policy_error(spec, "must be 'SingleStack' to release the secondary IP family", errors);
    }
}

fn infer_families(spec: &mut ServiceSpec, single: bool, errors: &mut Errors) {
    if single {
        for (count, what) in [(ips(spec).len(), "cluster IPs"), (families(spec).len(), "IP families")] {
            if count == 2 {
                let detail =
                    format!("must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified");
                policy_error(spec, &detail, errors);
            }
        }
    }
    let path = Path::new("spec");
    let list = path.child("clusterIPs");
    for (index, ip) in ips(spec)
        .to_vec()
        .iter()
        .enumerate()
        .take_while(|(_, ip)| *ip != "None")
    {
        if index < families(spec).len() {
            continue;
        }
        match validate::family_of(ip) {
            "IPv4" => spec.ip_families.get_or_insert_default().push("IPv4".to_owned()),
            family => {
                let detail = format!("{family} is not configured on this cluster");
                errors.invalid(&list.index(index), ips(spec).to_vec(), detail);
            }
        }
    }
}

fn configured(spec: &ServiceSpec, errors: &mut Errors) {
    if spec.ip_family_policy.as_deref() == Some("RequireDualStack") {
        policy_error(spec, "this cluster is not configured for dual-stack services", errors);
    }
    let path = Path::new("spec");
    let list = path.child("ipFamilies");
    for (index, family) in families(spec)
        .iter()
        .enumerate()
        .filter(|(_, family)| *family != "IPv4")
    {
        errors.invalid(&list.index(index), family.as_str(), "not configured on this cluster");
    }
}

fn cluster_ips(
    spec: &mut ServiceSpec,
    old: Option<&ServiceSpec>,
    pools: &Pools,
    taken: &Taken,
    random: &mut dyn FnMut() -> u64,
) -> Result<(), Refusal> {
    let had = old.is_some_and(has_cluster_ip);
    if !has_cluster_ip(spec) || is_headless(spec) || had {
        return Ok(());
    }
    let ip = match ips(spec).first() {
        Some(ip) => {
            if let Err(why) = check_address(ip, pools, taken) {
                return refused(|errors| {
                    let path = Path::new("spec");
                    let detail = format!("failed to allocate IP {ip}: {why}");
                    errors.invalid(&path.child("clusterIPs"), ips(spec).to_vec(), detail);
                });
            }
            return Ok(());
        }
        None => choose_address(pools, taken, random)
            .ok_or_else(|| Refusal::Internal("failed to allocate a serviceIP: range is full".to_owned()))?,
    };
    spec.cluster_ip = Some(ip.to_string());
    spec.cluster_ips = Some(vec![ip.to_string()]);
    Ok(())
}

fn check_address(ip: &str, pools: &Pools, taken: &Taken) -> Result<(), String> {
    let parsed: Option<IpAddr> = ip.parse().ok();
    let Some(IpAddr::V4(address)) = parsed.filter(|ip| matches!(ip, IpAddr::V4(ip) if pools.contains(*ip))) else {
        return Err("the provided network does not match the current range".to_owned());
    };
    if !pools.is_usable(address) {
        return Err(format!(
            "the provided IP ({address}) is not in the valid range. The range of valid IPs is {}/{}",
            pools.network, pools.prefix
        ));
    }
    if taken.addresses.contains(&IpAddr::V4(address)) {
        return Err("provided IP is already allocated".to_owned());
    }
    Ok(())
}

/// Any free one. The lower part is left to those who ask for a certain address, until the upper part is full.
fn choose_address(pools: &Pools, taken: &Taken, random: &mut dyn FnMut() -> u64) -> Option<Ipv4Addr> {
    let size = pools.size();
    let reserved = (size / 16).clamp(16, 256).min(size);
    let first_free = |from: u32, to: u32, random: &mut dyn FnMut() -> u64| {
        let count = to.checked_sub(from).filter(|count| *count > 0)?;
        let start = u32::try_from(random() % u64::from(count)).ok()?;
        let candidates = (0..count).map(|step| pools.network.to_bits() + from + (start + step) % count);
        let mut candidates = candidates.map(Ipv4Addr::from_bits);
        candidates.find(|address| pools.is_usable(*address) && !taken.addresses.contains(&IpAddr::V4(*address)))
    };
    first_free(reserved, size, random).or_else(|| first_free(1, reserved, random))
}

fn node_ports(
    spec: &mut ServiceSpec,
    old: Option<&ServiceSpec>,
    pools: &Pools,
    taken: &Taken,
    random: &mut dyn FnMut() -> u64,
) -> Result<(), Refusal> {
    if !has_node_ports(spec) {
        return Ok(());
    }
    let wants = kind(spec) == "NodePort" || spec.allocate_load_balancer_node_ports != Some(false);
    let mut kept: HashSet<i32> = old
        .iter()
        .flat_map(|old| old.ports.iter().flatten())
        .filter_map(|port| port.node_port)
        .collect();
    let path = Path::new("spec");
    let list = path.child("ports");
    // Those that are asked for come first, so that none of them is given away.
    for (index, port) in spec.ports.iter().flatten().enumerate() {
        let Some(number) = port.node_port.filter(|port| *port != 0) else {
            continue;
        };
        if kept.insert(number)
            && let Err(why) = check_port(number, pools, taken)
        {
            return refused(|errors| errors.invalid(&list.index(index).child("nodePort"), number, why));
        }
    }
    if !wants {
        return Ok(());
    }
    let mut own: HashSet<i32> = kept;
    let ports = spec.ports.get_or_insert_default();
    for index in 0..ports.len() {
        if ports[index].node_port.unwrap_or(0) != 0 {
            continue;
        }
        // One port of the service in several protocols has one port of the nodes.
        let twin = ports
            .iter()
            .filter(|other| other.port == ports[index].port && other.protocol != ports[index].protocol)
            .find_map(|other| other.node_port.filter(|port| *port != 0));
        let is_free_in_protocol = |number: i32| {
            !ports
                .iter()
                .any(|other| other.protocol == ports[index].protocol && other.node_port == Some(number))
        };
        let number = match twin.filter(|number| is_free_in_protocol(*number)) {
            Some(number) => number,
            None => choose_port(pools, taken, &own, random)
                .ok_or_else(|| Refusal::Internal("failed to allocate a nodePort: range is full".to_owned()))?,
        };
        own.insert(number);
        ports[index].node_port = Some(number);
    }
    Ok(())
}

fn check_port(port: i32, pools: &Pools, taken: &Taken) -> Result<(), String> {
    if !u16::try_from(port).is_ok_and(|port| pools.node_ports.contains(&port)) {
        return Err(format!(
            "provided port is not in the valid range. The range of valid ports is {}-{}",
            pools.node_ports.start(),
            pools.node_ports.end()
        ));
    }
    if taken.node_ports.contains(&port) {
        return Err("provided port is already allocated".to_owned());
    }
    Ok(())
}

fn choose_port(pools: &Pools, taken: &Taken, own: &HashSet<i32>, random: &mut dyn FnMut() -> u64) -> Option<i32> {
    let (first, last) = (i32::from(*pools.node_ports.start()), i32::from(*pools.node_ports.end()));
    let size = last - first + 1;
    let reserved = (size / 32).clamp(16, 128).min(size);
    let is_free = |port: &i32| !taken.node_ports.contains(port) && !own.contains(port);
    let count = size - reserved;
    let upper = (count > 0).then(|| {
        let start = i32::try_from(random() % u64::try_from(count).unwrap_or(1)).unwrap_or(0);
        (0..count)
            .map(move |step| first + reserved + (start + step) % count)
            .find(is_free)
    });
    upper.flatten().or_else(|| (first..first + reserved).find(is_free))
}

fn health_check_port(
    spec: &mut ServiceSpec,
    old: Option<&ServiceSpec>,
    pools: &Pools,
    taken: &Taken,
    random: &mut dyn FnMut() -> u64,
) -> Result<(), Refusal> {
    if !has_health_check(spec) || old.is_some_and(has_health_check) {
        return Ok(());
    }
    let own: HashSet<i32> = spec.ports.iter().flatten().filter_map(|port| port.node_port).collect();
    match spec.health_check_node_port.filter(|port| *port != 0) {
        Some(port) => check_port(port, pools, taken).map_err(|why| {
            Refusal::Internal(format!(
                "failed to allocate requested HealthCheck NodePort {port}: {why}"
            ))
        }),
        None => {
            let port = choose_port(pools, taken, &own, random);
            spec.health_check_node_port = Some(port.ok_or_else(|| {
                Refusal::Internal("failed to allocate a HealthCheck NodePort: range is full".to_owned())
            })?);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn service(spec: serde_json::Value) -> Service {
        let mut service: Service = serde_json::from_value(json!({"metadata": {"name": "s"}, "spec": spec})).unwrap();
        crate::Kind::default(&super::super::Services, &mut service);
        crate::Kind::prepare_create(&super::super::Services, &mut service);
        service
    }

    fn refusal(spec: serde_json::Value, taken: &Taken) -> String {
        let mut service = service(spec);
        match allocate(None, &mut service, &Pools::default(), taken, &mut || 7) {
            Ok(()) => "allowed".to_owned(),
            Err(Refusal::Invalid(errors)) => errors.message(),
            Err(Refusal::Internal(text)) => text,
        }
    }

    #[test]
    fn what_is_given() {
        let mut web = service(json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local",
            "ports": [{"name": "dns", "port": 53}, {"name": "dns-udp", "port": 53, "protocol": "UDP"}]}));
        let mut next = 0;
        let mut random = || {
            next += 1;
            next
        };
        allocate(None, &mut web, &Pools::default(), &Taken::default(), &mut random).unwrap();
        let spec = web.spec.clone().unwrap();
        assert_eq!(spec.cluster_ips, Some(vec!["10.96.1.1".to_owned()]));
        assert_eq!(spec.ip_families, Some(vec!["IPv4".to_owned()]));
        assert_eq!(spec.ip_family_policy.as_deref(), Some("SingleStack"));
        let ports: Vec<_> = spec.ports.iter().flatten().map(|port| port.node_port).collect();
        assert_eq!(ports, [Some(30_088), Some(30_088)]);
        assert_eq!(spec.health_check_node_port, Some(30_089));

        let mut headless = service(json!({"clusterIP": "None", "ports": [{"port": 1}]}));
        allocate(None, &mut headless, &Pools::default(), &Taken::default(), &mut || 0).unwrap();
        let spec = headless.spec.unwrap();
        assert_eq!(spec.ip_family_policy.as_deref(), Some("RequireDualStack"));
        assert_eq!(spec.ip_families.unwrap(), ["IPv4", "IPv6"]);
    }

    #[test]
    fn what_is_refused() {
        let mut taken = Taken::default();
        taken.add(&service(
            json!({"type": "NodePort", "clusterIP": "10.96.0.10", "ports": [{"port": 1, "nodePort": 30_001}]}),
        ));
        let with_ip = |ip: &str| refusal(json!({"clusterIP": ip, "ports": [{"port": 1}]}), &taken);
        let with_port = |port: i32| {
            refusal(
                json!({"type": "NodePort", "ports": [{"port": 1, "nodePort": port}]}),
                &taken,
            )
        };
        let all = [
            with_ip("10.96.0.10"),
            with_ip("10.97.0.1"),
            with_ip("10.96.0.0"),
            with_ip("fd00::1"),
            with_port(30_001),
            with_port(80),
            refusal(
                json!({"ipFamilyPolicy": "RequireDualStack", "ports": [{"port": 1}]}),
                &taken,
            ),
            refusal(json!({"ipFamilies": ["IPv6"], "ports": [{"port": 1}]}), &taken),
        ];
        expect_test::expect![[r#"
            spec.clusterIPs: Invalid value: ["10.96.0.10"]: failed to allocate IP 10.96.0.10: provided IP is already allocated
            spec.clusterIPs: Invalid value: ["10.97.0.1"]: failed to allocate IP 10.97.0.1: the provided network does not match the current range
            spec.clusterIPs: Invalid value: ["10.96.0.0"]: failed to allocate IP 10.96.0.0: the provided IP (10.96.0.0) is not in the valid range. The range of valid IPs is 10.96.0.0/16
            spec.clusterIPs[0]: Invalid value: ["fd00::1"]: IPv6 is not configured on this cluster
            spec.ports[0].nodePort: Invalid value: 30001: provided port is already allocated
            spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767
            spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services
            spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster"#]]
        .assert_eq(&all.join("\n"));
    }

    proptest! {
        /// However many services there are, no two have one address or port until there are none left.
        #[test]
        fn nothing_is_given_twice(seeds in proptest::collection::vec(any::<u64>(), 1..40)) {
            let pools = Pools { network: Ipv4Addr::new(10, 0, 0, 0), prefix: 27, node_ports: 30_000..=30_031 };
            let mut taken = Taken::default();
            let (mut given, mut full) = (0, false);
            for mut seed in seeds {
                let mut one = service(json!({"type": "NodePort", "ports": [{"port": 1}]}));
                let mut random = || { seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1); seed >> 8 };
                match allocate(None, &mut one, &pools, &taken, &mut random) {
                    Ok(()) => {
                        prop_assert!(!full);
                        let before = (taken.addresses.len(), taken.node_ports.len());
                        taken.add(&one);
                        prop_assert_eq!((before.0 + 1, before.1 + 1), (taken.addresses.len(), taken.node_ports.len()));
                        given += 1;
                    }
                    Err(refusal) => {
                        prop_assert_eq!(refusal, Refusal::Internal("failed to allocate a serviceIP: range is full".to_owned()));
                        prop_assert_eq!(given, 30);
                        full = true;
                    }
                }
            }
        }
    }
}
