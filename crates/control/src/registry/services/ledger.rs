//! What is taken, by whom, and what there is to choose from. No IO: changes are told by the followers of the caches.

use super::{MANAGED_LABEL, MANAGER};
use crate::kinds::services::{Block, Occupied, Pools, addresses};
use crate::registry::resource::Change;
use crate::service_network::ServiceNetwork;
use crate::watch_cache::{Follower, News, Position, Record};
use catamaran_store::Revision;
use k8s_openapi::api::core::v1::Service;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

/// What one service has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    pub(super) addresses: BTreeSet<IpAddr>,
    pub(super) node_ports: BTreeSet<i32>,
}

impl Needs {
    pub(super) fn of(service: &Service) -> Self {
        let spec = service.spec.as_ref();
        let ports = spec.iter().flat_map(|spec| spec.ports.iter().flatten());
        let ports = ports.filter_map(|port| port.node_port);
        let health = spec.and_then(|spec| spec.health_check_node_port);
        Needs {
            addresses: addresses(service).into_iter().collect(),
            node_ports: ports.chain(health).filter(|port| *port != 0).collect(),
        }
    }

    pub(super) fn without(&self, other: &Needs) -> Needs {
        Needs {
            addresses: self.addresses.difference(&other.addresses).copied().collect(),
            node_ports: self.node_ports.difference(&other.node_ports).copied().collect(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.node_ports.is_empty()
    }
}

/// The IPAddress object of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Registered {
    pub(super) key: Arc<str>,
    pub(super) revision: Revision,
    /// Namespace and name of the service it names.
    parent: Option<(String, String)>,
    /// It is one of ours, and not one that somebody made by hand.
    is_ours: bool,
}

/// Who has an address.
#[derive(Default)]
struct Use {
    /// Keys of services.
    services: Vec<Arc<str>>,
    object: Option<Registered>,
}

/// Something that a write under way wants, or gives back.
struct Reservation {
    needs: Needs,
    /// When the caches show this, they show what came of it.
    until: Option<Revision>,
}

/// What of services and addresses does not fit together.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// A service has an address, and nothing says so.
    Missing {
        address: IpAddr,
        namespace: String,
        service: String,
    },
    /// What says that an address is taken is wrong.
    Wrong { address: IpAddr, object: Registered },
}

impl Flaw {
    pub(super) fn address(&self) -> IpAddr {
        match self {
            Flaw::Missing { address, .. } | Flaw::Wrong { address, .. } => *address,
        }
    }
}

/// See the module.
pub(super) struct Ledger {
    pools: Pools,
    seen_blocks: Position,
    seen_services: Position,
    seen_objects: Position,
    /// By the key of the service.
    services: HashMap<Arc<str>, Needs>,
    addresses: HashMap<IpAddr, Use>,
    /// How many services have a port.
    node_ports: HashMap<i32, usize>,
    reserved: BTreeMap<u64, Reservation>,
    next_id: u64,
    /// Addresses about which something changed that nobody judged yet.
    touched: HashSet<IpAddr>,
}

impl Occupied for Ledger {
    fn address(&self, address: IpAddr) -> bool {
        self.addresses.contains_key(&address)
            || self.reserved.values().any(|one| one.needs.addresses.contains(&address))
    }

    fn node_port(&self, port: i32) -> bool {
        self.node_ports.contains_key(&port) || self.reserved.values().any(|one| one.needs.node_ports.contains(&port))
    }
}

impl Ledger {
    pub(super) fn new(network: &ServiceNetwork) -> Self {
        let mut families = Vec::new();
        for block in network.cluster_ips.blocks() {
            families.push(block.family());
        }
        Ledger {
            pools: Pools {
                families,
                blocks: Vec::new(),
                node_ports: network.node_ports.ports(),
            },
            seen_blocks: Position::default(),
            seen_services: Position::default(),
            seen_objects: Position::default(),
            services: HashMap::new(),
            addresses: HashMap::new(),
            node_ports: HashMap::new(),
            reserved: BTreeMap::new(),
            next_id: 0,
            touched: HashSet::new(),
        }
    }

    pub(super) fn pools(&self) -> &Pools {
        &self.pools
    }

    /// Keeps others from having this. What is given back stays taken until that is done.
    pub(super) fn reserve(&mut self, claimed: &Needs, released: &Needs) -> u64 {
        let mut needs = claimed.clone();
        needs.addresses.extend(&released.addresses);
        let id = self.next_id;
        self.next_id += 1;
        self.reserved.insert(id, Reservation { needs, until: None });
        id
    }

    /// It did not come to a write, or nothing of the write is left.
    pub(super) fn give_back(&mut self, id: u64) {
        if let Some(reservation) = self.reserved.remove(&id) {
            self.touched.extend(reservation.needs.addresses);
        }
    }

    /// It was written: the caches show it from `revision` on.
    pub(super) fn written(&mut self, id: u64, revision: Revision) {
        if let Some(reservation) = self.reserved.get_mut(&id) {
            reservation.until = Some(revision);
        }
    }

    /// Was it written, so that it ends by itself?
    pub(super) fn is_written(&self, id: u64) -> bool {
        self.reserved
            .get(&id)
            .is_none_or(|reservation| reservation.until.is_some())
    }

    /// Ends reservations whose outcome the caches show.
    pub(super) fn settle(&mut self, applied: Revision) {
        let over = |reservation: &Reservation| reservation.until.is_some_and(|until| until <= applied);
        let ended: Vec<u64> = self
            .reserved
            .iter()
            .filter(|(_, reservation)| over(reservation))
            .map(|(id, _)| *id)
            .collect();
        for id in ended {
            self.give_back(id);
        }
    }

    pub(super) fn follow_services(&mut self, services: &Follower) {
        if !services.is_behind(&self.seen_services) {
            return;
        }
        match services.news(&mut self.seen_services) {
            News::Steps(steps) => {
                for step in steps {
                    let needs = (step.change != Change::Deleted).then(|| needs_of(&step.new));
                    self.set_service(&step.new.key, needs);
                }
            }
            News::Anew(records) => {
                let present: HashSet<&Arc<str>> = records.iter().map(|record| &record.key).collect();
                let gone: Vec<Arc<str>> = self
                    .services
                    .keys()
                    .filter(|key| !present.contains(key))
                    .cloned()
                    .collect();
                for key in gone {
                    self.set_service(&key, None);
                }
                for record in &records {
                    self.set_service(&record.key, Some(needs_of(record)));
                }
            }
        }
    }

    fn set_service(&mut self, key: &Arc<str>, needs: Option<Needs>) {
        let before = self.services.remove(key).unwrap_or_default();
        let now = needs.clone().unwrap_or_default();
        for ip in before.addresses.difference(&now.addresses) {
            self.change(*ip, |own| own.services.retain(|other| other != key));
        }
        for ip in now.addresses.difference(&before.addresses) {
            self.change(*ip, |own| own.services.push(Arc::clone(key)));
        }
        for port in before.node_ports.difference(&now.node_ports) {
            if let Some(count) = self.node_ports.get_mut(port) {
                *count -= 1;
                if *count == 0 {
                    self.node_ports.remove(port);
                }
            }
        }
        for port in now.node_ports.difference(&before.node_ports) {
            *self.node_ports.entry(*port).or_default() += 1;
        }
        if let Some(needs) = needs.filter(|needs| !needs.is_empty()) {
            self.services.insert(Arc::clone(key), needs);
        }
    }

    fn change(&mut self, address: IpAddr, change: impl FnOnce(&mut Use)) {
        let own = self.addresses.entry(address).or_default();
        change(own);
        if own.services.is_empty() && own.object.is_none() {
            self.addresses.remove(&address);
        }
        self.touched.insert(address);
    }

    pub(super) fn follow_objects(&mut self, objects: &Follower) {
        if !objects.is_behind(&self.seen_objects) {
            return;
        }
        match objects.news(&mut self.seen_objects) {
            News::Steps(steps) => {
                for step in steps {
                    self.set_object(&step.new, step.change != Change::Deleted);
                }
            }
            News::Anew(records) => {
                let present: HashSet<&str> = records.iter().map(|record| record.name()).collect();
                let all: Vec<IpAddr> = self.addresses.keys().copied().collect();
                for ip in all.into_iter().filter(|ip| !present.contains(ip.to_string().as_str())) {
                    self.change(ip, |own| own.object = None);
                }
                for record in &records {
                    self.set_object(record, true);
                }
            }
        }
    }

    fn set_object(&mut self, record: &Record, is_there: bool) {
        let Ok(address) = record.name().parse::<IpAddr>() else {
            return;
        };
        let object = is_there.then(|| Registered::of(record));
        self.change(address, |own| own.object = object);
    }

    pub(super) fn follow_blocks(&mut self, blocks: &Follower) {
        if !blocks.is_behind(&self.seen_blocks) {
            return;
        }
        // Few, and they change seldom.
        drop(blocks.news(&mut self.seen_blocks));
        let mut ready: Vec<Block> = Vec::new();
        for block in blocks.records().iter().flat_map(|record| ready_blocks(record)) {
            if !ready.contains(&block) {
                ready.push(block);
            }
        }
        self.pools.blocks = ready;
        // What was outside of all blocks may be inside now.
        self.touched.extend(self.addresses.keys());
    }

    /// What does not fit together, of all that changed since the last call and nobody is changing right now.
    pub(super) fn flaws(&mut self) -> Vec<Flaw> {
        let touched = std::mem::take(&mut self.touched);
        let mut flaws = Vec::new();
        for address in touched {
            if self.reserved.values().any(|one| one.needs.addresses.contains(&address)) {
                self.touched.insert(address);
                continue;
            }
            if let Some(own) = self.addresses.get(&address) {
                let in_block = self.pools.blocks.iter().any(|block| block.contains(address));
                flaws.extend(own.flaw(address, in_block));
            }
        }
        flaws
    }

    /// Looks at this once more.
    pub(super) fn touch(&mut self, address: IpAddr) {
        self.touched.insert(address);
    }
}

impl Use {
    fn flaw(&self, address: IpAddr, in_block: bool) -> Option<Flaw> {
        let wrong = |object: &Registered| Flaw::Wrong {
            address,
            object: object.clone(),
        };
        let owners: Vec<(&str, &str)> = self.services.iter().filter_map(|key| owner(key)).collect();
        match (&self.object, owners.first()) {
            (None, Some((namespace, service))) if in_block => Some(Flaw::Missing {
                address,
                namespace: (*namespace).to_owned(),
                service: (*service).to_owned(),
            }),
            (Some(object), None) if object.is_ours => Some(wrong(object)),
            (Some(object), Some(_)) => {
                let parent = object.parent.as_ref();
                let fits = parent.is_some_and(|(namespace, name)| owners.contains(&(namespace, name)));
                (!fits || !object.is_ours).then(|| wrong(object))
            }
            _ => None,
        }
    }
}

fn owner(key: &str) -> Option<(&str, &str)> {
    let (namespace, name) = crate::registry::resource::split_key(key, true);
    Some((namespace?, name))
}

impl Registered {
    fn of(record: &Record) -> Self {
        let read: Address = serde_json::from_slice(record.bytes()).unwrap_or_default();
        let parent = read.spec.parent_ref;
        let is_service = parent.group.is_empty() && parent.resource == "services";
        Registered {
            key: Arc::clone(&record.key),
            revision: record.revision,
            parent: is_service.then_some((parent.namespace, parent.name)),
            is_ours: record.facts.label(MANAGED_LABEL) == Some(MANAGER),
        }
    }
}

fn needs_of(record: &Record) -> Needs {
    let read: Result<Service, _> = serde_json::from_slice(record.bytes());
    read.map(|service| Needs::of(&service)).unwrap_or_default()
}

/// The blocks of a ServiceCIDR out of which may be given.
fn ready_blocks(record: &Record) -> Vec<Block> {
    let read: ServiceCidr = serde_json::from_slice(record.bytes()).unwrap_or_default();
    let ready = read.status.conditions.iter().find(|condition| condition.ty == "Ready");
    let is_ready = ready.is_none_or(|condition| condition.status == "True");
    if read.metadata.deletion_timestamp.is_some() || !is_ready {
        return Vec::new();
    }
    read.spec.cidrs.iter().filter_map(|text| Block::parse(text)).collect()
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Address {
    spec: AddressSpec,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AddressSpec {
    parent_ref: Parent,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Parent {
    group: String,
    resource: String,
    namespace: String,
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ServiceCidr {
    metadata: CidrMeta,
    spec: CidrSpec,
    status: CidrStatus,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct CidrMeta {
    deletion_timestamp: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CidrSpec {
    cidrs: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CidrStatus {
    conditions: Vec<Condition>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    ty: String,
    status: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "/registry/core/services/default/";

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 96, 0, last])
    }

    fn needs(addresses: &[u8], ports: &[i32]) -> Needs {
        Needs {
            addresses: addresses.iter().map(|last| ip(*last)).collect(),
            node_ports: ports.iter().copied().collect(),
        }
    }

    fn ledger() -> Ledger {
        let mut ledger = Ledger::new(&ServiceNetwork::default());
        ledger.pools.blocks = Block::parse("10.96.0.0/24").into_iter().collect();
        ledger
    }

    fn service(ledger: &mut Ledger, name: &str, needs: Option<Needs>) {
        ledger.set_service(&format!("{KEY}{name}").into(), needs);
    }

    fn object(ledger: &mut Ledger, last: u8, parent: Option<&str>, is_ours: bool) {
        let object = Registered {
            key: ip(last).to_string().into(),
            revision: 1,
            parent: parent.map(|name| ("default".to_owned(), name.to_owned())),
            is_ours,
        };
        ledger.change(ip(last), |own| own.object = Some(object));
    }

    #[test]
    fn a_reservation_lasts_until_the_caches_show_what_came_of_it() {
        let mut ledger = ledger();
        let dropped = ledger.reserve(&needs(&[1], &[30_001]), &Needs::default());
        let written = ledger.reserve(&needs(&[2], &[30_002]), &needs(&[3], &[30_003]));
        let taken = |ledger: &Ledger| -> Vec<bool> {
            let addresses = (1..=3).map(|last| ledger.address(ip(last)));
            let ports = (30_001..=30_003).map(|port| ledger.node_port(port));
            addresses.chain(ports).collect()
        };
        // Ports that are given back are those of the service until it is written.
        assert_eq!(taken(&ledger), [true, true, true, true, true, false]);
        ledger.give_back(dropped);
        assert!(!ledger.is_written(written));
        ledger.written(written, 7);
        ledger.settle(6);
        assert!(ledger.is_written(written));
        assert_eq!(taken(&ledger), [false, true, true, false, true, false]);
        service(&mut ledger, "a", Some(needs(&[2], &[30_002])));
        ledger.settle(7);
        assert_eq!(taken(&ledger), [false, true, false, false, true, false]);
        service(&mut ledger, "b", Some(needs(&[], &[30_002])));
        service(&mut ledger, "a", None);
        assert_eq!(taken(&ledger), [false, false, false, false, true, false]);
        service(&mut ledger, "b", None);
        assert_eq!(taken(&ledger), [false; 6]);
    }

    #[test]
    fn what_does_not_fit_together_is_found_once_and_not_while_it_is_written() {
        let mut ledger = ledger();
        for (last, name) in [(1, "a"), (2, "b"), (3, "c"), (4, "d")] {
            service(&mut ledger, name, Some(needs(&[last], &[])));
        }
        object(&mut ledger, 1, Some("a"), true);
        object(&mut ledger, 3, Some("other"), true);
        object(&mut ledger, 4, Some("d"), false);
        object(&mut ledger, 5, Some("gone"), true);
        object(&mut ledger, 6, None, false);
        let under_way = ledger.reserve(&needs(&[5], &[]), &Needs::default());
        let texts = |ledger: &mut Ledger| {
            let mut texts: Vec<String> = ledger
                .flaws()
                .into_iter()
                .map(|flaw| match flaw {
                    Flaw::Missing { address, service, .. } => format!("{address} of {service} is missing"),
                    Flaw::Wrong { address, .. } => format!("{address} is wrong"),
                })
                .collect();
            texts.sort();
            texts
        };
        let found = texts(&mut ledger);
        let expected = ["10.96.0.2 of b is missing", "10.96.0.3 is wrong", "10.96.0.4 is wrong"];
        assert_eq!(found, expected);
        assert_eq!(texts(&mut ledger), Vec::<String>::new(), "nothing changed");
        ledger.give_back(under_way);
        assert_eq!(texts(&mut ledger), ["10.96.0.5 is wrong"]);
        // An address outside of all blocks is nobody's to register.
        ledger.pools.blocks.clear();
        ledger.touch(ip(2));
        assert_eq!(texts(&mut ledger), Vec::<String>::new());
    }
}
