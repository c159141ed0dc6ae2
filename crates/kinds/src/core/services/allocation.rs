//! What the system chooses for a service while it is written: families, cluster addresses, ports of the nodes.
//!
//! Pure: what others have is an argument, and so is chance. Whoever calls must see to it that no two services are written from
//! the same view of what is taken. Of a write that is only tried, nothing is kept: it gets what stands for any address or port,
//! as in Kubernetes.

use super::pools::{Occupied, Pools};
use super::{has_cluster_ip, has_health_check, has_node_ports, is_headless, kind, validate};
use catamaran_api::{Errors, Path};
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use std::collections::HashSet;
use std::net::IpAddr;

/// The first port that stands for any.
const ANY_PORT: i32 = 32_769;

/// Why a service cannot have what it asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// The fault is the client's.
    Invalid(Errors),
    /// There is none left.
    Internal(String),
}

/// How to choose.
pub struct Choice<'c> {
    pub pools: &'c Pools,
    /// What all services have.
    pub taken: &'c dyn Occupied,
    /// Gives any number.
    pub random: &'c mut dyn FnMut() -> u64,
    /// The service is not going to be written.
    pub dry_run: bool,
}

/// Fills in what the service needs and checks what it asks for. `old` is what it replaces.
pub fn allocate(old: Option<&Service>, new: &mut Service, choice: &mut Choice<'_>) -> Result<(), Refusal> {
    let no_spec = ServiceSpec::default();
    let old = old.map(|old| old.spec.as_ref().unwrap_or(&no_spec));
    let spec = new.spec.get_or_insert_default();
    if !old.is_some_and(|old| prefers_dual_unchanged(spec, old)) {
        settle_families(spec, old, choice.pools)?;
        cluster_ips(spec, old, choice)?;
    }
    let mut ports = Ports {
        choice,
        own: HashSet::new(),
    };
    ports.of_nodes(spec, old)?;
    ports.of_health_check(spec, old)
}

/// The cluster addresses of a service; none if it is headless.
pub fn addresses(service: &Service) -> Vec<IpAddr> {
    let spec = service.spec.iter().filter(|spec| kind(spec) != "ExternalName");
    let ips = spec.flat_map(|spec| spec.cluster_ips.iter().flatten());
    ips.filter_map(|ip| crate::addresses::parse(ip)).collect()
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

/// Settles `ipFamilyPolicy` and `ipFamilies`.
fn settle_families(spec: &mut ServiceSpec, old: Option<&ServiceSpec>, pools: &Pools) -> Result<(), Refusal> {
    if kind(spec) == "ExternalName" {
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
        infer_families(spec, single, pools, errors);
    })?;
    if !loose {
        refused(|errors| configured(spec, pools, errors))?;
    }
    let list = spec.ip_families.get_or_insert_default();
    if list.is_empty() {
        list.extend(pools.families.first().map(|family| (*family).to_owned()));
    }
    // Who has neither address nor selector may name a family that the cluster does not have.
    if !single && list.len() == 1 && (loose || pools.families.len() == 2) {
        let other = if list[0] == "IPv4" { "IPv6" } else { "IPv4" };
        list.push(other.to_owned());
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

fn infer_families(spec: &mut ServiceSpec, single: bool, pools: &Pools, errors: &mut Errors) {
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
        let family = validate::family_of(ip);
        if pools.has(family) {
            spec.ip_families.get_or_insert_default().push(family.to_owned());
        } else {
            let detail = format!("{family} is not configured on this cluster");
            errors.invalid(&list.index(index), ips(spec).to_vec(), detail);
        }
    }
}

fn configured(spec: &ServiceSpec, pools: &Pools, errors: &mut Errors) {
    if spec.ip_family_policy.as_deref() == Some("RequireDualStack") && pools.families.len() < 2 {
        policy_error(spec, "this cluster is not configured for dual-stack services", errors);
    }
    let path = Path::new("spec");
    let list = path.child("ipFamilies");
    for (index, family) in families(spec)
        .iter()
        .enumerate()
        .filter(|(_, family)| !pools.has(family))
    {
        errors.invalid(&list.index(index), family.as_str(), "not configured on this cluster");
    }
}

/// Gives addresses to a service that had none, and a second one to a service that grows. What it has it keeps.
fn cluster_ips(spec: &mut ServiceSpec, old: Option<&ServiceSpec>, choice: &mut Choice<'_>) -> Result<(), Refusal> {
    if kind(spec) == "ExternalName" || is_headless(spec) {
        return Ok(());
    }
    let from = match old {
        None => 0,
        Some(old) if kind(old) == "ExternalName" => 0,
        Some(old) if is_headless(old) => return Ok(()),
        Some(old) if families(old).len() == 1 && families(spec).len() == 2 => 1,
        Some(_) => return Ok(()),
    };
    let families = families(spec).to_vec();
    // Places for those that are to come.
    let ips = spec.cluster_ips.get_or_insert_default();
    ips.resize(ips.len().max(families.len()), String::new());
    for (index, family) in families.iter().enumerate().skip(from) {
        let ip = address(spec, index, family, choice)?;
        if index == 0 {
            spec.cluster_ip = Some(ip.clone());
        }
        spec.cluster_ips.get_or_insert_default()[index] = ip;
    }
    Ok(())
}

fn address(spec: &ServiceSpec, index: usize, family: &str, choice: &mut Choice<'_>) -> Result<String, Refusal> {
    let wanted = ips(spec)[index].as_str();
    if !wanted.is_empty() {
        if let Err(why) = check_address(wanted, family, choice) {
            refused(|errors| {
                let path = Path::new("spec");
                let detail = format!("failed to allocate IP {wanted}: {why}");
                errors.invalid(&path.child("clusterIPs"), ips(spec).to_vec(), detail);
            })?;
        }
        return Ok(wanted.to_owned());
    }
    let (pools, taken) = (choice.pools, choice.taken);
    let mut blocks = pools.blocks_of(family);
    let chosen = if choice.dry_run {
        blocks.next().map(super::pools::Block::network)
    } else {
        blocks.find_map(|block| block.choose(&|ip| taken.address(ip), choice.random))
    };
    match chosen {
        Some(ip) => Ok(ip.to_string()),
        None => Err(Refusal::Internal(
            "failed to allocate a serviceIP: range is full".to_owned(),
        )),
    }
}

fn check_address(ip: &str, family: &str, choice: &Choice<'_>) -> Result<(), &'static str> {
    let address = crate::addresses::parse(ip);
    let in_block = |address: &IpAddr| choice.pools.blocks_of(family).any(|block| block.contains(*address));
    match address.filter(in_block) {
        None => Err("the provided network does not match the current range"),
        Some(address) if !choice.dry_run && choice.taken.address(address) => Err("provided IP is already allocated"),
        Some(_) => Ok(()),
    }
}

/// Ports of the nodes for one service.
struct Ports<'p, 'c> {
    choice: &'p mut Choice<'c>,
    /// Those it got or asked for.
    own: HashSet<i32>,
}

impl Ports<'_, '_> {
    fn of_nodes(&mut self, spec: &mut ServiceSpec, old: Option<&ServiceSpec>) -> Result<(), Refusal> {
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
                && let Err(why) = self.claim(number)
            {
                return refused(|errors| errors.invalid(&list.index(index).child("nodePort"), number, why));
            }
        }
        if !wants {
            return Ok(());
        }
        self.own.extend(kept);
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
                None => self
                    .choose()
                    .ok_or_else(|| Refusal::Internal("failed to allocate a nodePort: range is full".to_owned()))?,
            };
            ports[index].node_port = Some(number);
        }
        Ok(())
    }

    fn of_health_check(&mut self, spec: &mut ServiceSpec, old: Option<&ServiceSpec>) -> Result<(), Refusal> {
        if !has_health_check(spec) || old.is_some_and(has_health_check) {
            return Ok(());
        }
        let numbers = spec.ports.iter().flatten().filter_map(|port| port.node_port);
        self.own.extend(numbers.filter(|port| *port != 0));
        match spec.health_check_node_port.filter(|port| *port != 0) {
            Some(port) => self.claim(port).map_err(|why| {
                Refusal::Internal(format!(
                    "failed to allocate requested HealthCheck NodePort {port}: {why}"
                ))
            }),
            None => {
                spec.health_check_node_port = Some(self.choose().ok_or_else(|| {
                    Refusal::Internal("failed to allocate a HealthCheck NodePort 0: range is full".to_owned())
                })?);
                Ok(())
            }
        }
    }

    /// A port that is asked for. One that is only tried may be any that nobody has.
    fn claim(&mut self, port: i32) -> Result<(), String> {
        let pools = self.choice.pools;
        let range = &pools.node_ports;
        if !self.choice.dry_run && !u16::try_from(port).is_ok_and(|port| range.contains(&port)) {
            return Err(format!(
                "provided port is not in the valid range. The range of valid ports is {}-{}",
                range.start(),
                range.end()
            ));
        }
        if self.choice.taken.node_port(port) || self.own.contains(&port) {
            return Err("provided port is already allocated".to_owned());
        }
        self.own.insert(port);
        Ok(())
    }

    fn choose(&mut self) -> Option<i32> {
        let number = if self.choice.dry_run {
            self.own.iter().max().map_or(ANY_PORT, |last| last + 1)
        } else {
            let (pools, taken, own) = (self.choice.pools, self.choice.taken, &self.own);
            let is_taken = |port: i32| taken.node_port(port) || own.contains(&port);
            pools.choose_port(&is_taken, self.choice.random)?
        };
        self.own.insert(number);
        Some(number)
    }
}

#[cfg(test)]
mod tests;
