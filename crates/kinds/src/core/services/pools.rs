//! What there is to choose from for services: blocks of cluster addresses, and ports of the nodes.

use crate::addresses::Cidr;
use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

/// A block out of which services get addresses: an IPv4 network, or an IPv6 one of at most 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Block {
    network: IpAddr,
    /// Length of the prefix.
    bits: u32,
}

impl Block {
    /// Reads `10.96.0.0/16`; bits behind the prefix do not count. `None` if it is no network, or too large a one.
    pub fn parse(text: &str) -> Option<Self> {
        let cidr = Cidr::parse(text)?;
        let network = cidr.network();
        (network.is_ipv4() || cidr.bits >= 64).then_some(Block {
            network,
            bits: cidr.bits,
        })
    }

    /// `IPv4` or `IPv6`.
    pub fn family(&self) -> &'static str {
        if self.network.is_ipv4() { "IPv4" } else { "IPv6" }
    }

    /// The address behind that of the network: in the default block, that of the API itself.
    pub fn first(&self) -> IpAddr {
        self.at(1)
    }

    /// How many addresses can be given away: neither that of the network nor the broadcast address of IPv4.
    fn size(&self) -> u128 {
        let (width, kept) = if self.network.is_ipv4() { (32, 2) } else { (128, 1) };
        (1_u128 << (width - self.bits)).saturating_sub(kept)
    }

    fn at(&self, offset: u128) -> IpAddr {
        let number = number_of(self.network) + offset;
        match self.network {
            IpAddr::V4(_) => Ipv4Addr::from_bits(u32::try_from(number).unwrap_or(u32::MAX)).into(),
            IpAddr::V6(_) => Ipv6Addr::from_bits(number).into(),
        }
    }

    /// Can it be given away out of this block?
    pub fn contains(&self, address: IpAddr) -> bool {
        let offset = number_of(address).wrapping_sub(number_of(self.network));
        address.is_ipv4() == self.network.is_ipv4() && (1..=self.size()).contains(&offset)
    }

    /// The address of the network, which stands for any where nothing is really given.
    pub(super) fn network(&self) -> IpAddr {
        self.network
    }

    /// Does it lie in this block, or is it the same?
    pub fn is_within(&self, other: &Block) -> bool {
        let outer = Cidr {
            address: other.network,
            bits: other.bits,
        };
        other.bits <= self.bits && outer.contains(self.network)
    }

    /// How many of the first addresses are left to those who ask for a certain one, as long as there are others.
    fn reserved(&self) -> u128 {
        let size = self.size();
        if size <= 16 { 0 } else { (size / 16).clamp(16, 256) }
    }

    /// Any free address, of the upper part while that has one.
    pub(super) fn choose(&self, is_taken: &dyn Fn(IpAddr) -> bool, random: &mut dyn FnMut() -> u64) -> Option<IpAddr> {
        let (size, reserved) = (self.size(), self.reserved());
        let mut first_free = |from: u128, to: u128| {
            let count = (to + 1).checked_sub(from).filter(|count| *count > 0)?;
            let start = u128::from(random()) % count;
            let mut candidates = (0..count).map(|step| self.at(from + (start + step) % count));
            candidates.find(|address| !is_taken(*address))
        };
        first_free(reserved + 1, size).or_else(|| first_free(1, reserved))
    }
}

fn number_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.bits)
    }
}

/// What there is to choose from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pools {
    /// Families of which the cluster gives addresses; the first is that of services that do not say.
    pub families: Vec<&'static str>,
    /// Blocks of addresses. The earlier ones are filled first.
    pub blocks: Vec<Block>,
    /// Ports of the nodes.
    pub node_ports: RangeInclusive<u16>,
}

impl Pools {
    pub(super) fn has(&self, family: &str) -> bool {
        self.families.contains(&family)
    }

    pub(super) fn blocks_of(&self, family: &str) -> impl Iterator<Item = &Block> {
        self.blocks.iter().filter(move |block| block.family() == family)
    }

    /// How many of the first ports are left to those who ask for a certain one.
    fn reserved_ports(&self) -> i32 {
        let size = i32::from(*self.node_ports.end()) - i32::from(*self.node_ports.start()) + 1;
        if size <= 16 { 0 } else { (size / 32).clamp(16, 128) }
    }

    pub(super) fn choose_port(&self, is_taken: &dyn Fn(i32) -> bool, random: &mut dyn FnMut() -> u64) -> Option<i32> {
        let (first, last) = (i32::from(*self.node_ports.start()), i32::from(*self.node_ports.end()));
        let upper = first + self.reserved_ports();
        let mut first_free = |from: i32, to: i32| {
            let count = u64::try_from(to - from).ok().filter(|count| *count > 0)?;
            let start = random() % count;
            let mut candidates = (0..count).filter_map(|step| Some(from + i32::try_from((start + step) % count).ok()?));
            candidates.find(|port| !is_taken(*port))
        };
        first_free(upper, last + 1).or_else(|| first_free(first, upper))
    }
}

/// What others have.
pub trait Occupied {
    fn address(&self, address: IpAddr) -> bool;
    /// A port of the nodes, health checks included, of whatever protocol.
    fn node_port(&self, port: i32) -> bool;
}

/// The same, as sets.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    pub addresses: HashSet<IpAddr>,
    pub node_ports: HashSet<i32>,
}

impl Occupied for Taken {
    fn address(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address)
    }

    fn node_port(&self, port: i32) -> bool {
        self.node_ports.contains(&port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(text: &str) -> Block {
        Block::parse(text).expect("a block")
    }

    #[test]
    fn blocks_have_an_inside() {
        let parsed = [
            "10.96.0.0/16",
            "10.96.3.4/16",
            "fd00:1::/112",
            "fd00::/48",
            "x",
            "10.0.0.0/33",
        ];
        let shown = parsed.map(|text| Block::parse(text).map(|block| block.to_string()));
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            shown,
            [
                some("10.96.0.0/16"),
                some("10.96.0.0/16"),
                some("fd00:1::/112"),
                None,
                None,
                None
            ]
        );
        let has = |block: &Block, ip: &str| block.contains(ip.parse().expect("an address"));
        let small = block("10.0.0.0/30");
        let inside: Vec<bool> = (0..5).map(|last| has(&small, &format!("10.0.0.{last}"))).collect();
        assert_eq!(inside, [false, true, true, false, false]);
        let six = block("fd00::/126");
        let inside: Vec<bool> = (0..5).map(|last| has(&six, &format!("fd00::{last}"))).collect();
        assert_eq!(
            inside,
            [false, true, true, true, false],
            "IPv6 has no broadcast address"
        );
        assert!(!has(&six, "0.0.0.1") && block("10.0.0.0/32").size() == 0);
        assert!(block("10.0.1.0/24").is_within(&block("10.0.0.0/16")));
        assert!(!block("10.0.0.0/16").is_within(&block("10.0.1.0/24")));
        assert!(!block("10.0.0.0/16").is_within(&block("fd00::/64")));
    }

    /// <https://kubernetes.io/docs/concepts/services-networking/cluster-ip-allocation/>
    #[test]
    fn the_lower_part_is_left_to_those_who_ask_for_it() {
        let lowest_dynamic = |text: &str| block(text).choose(&|_| false, &mut || 0).map(|ip| ip.to_string());
        let all = [
            "10.96.0.0/24",
            "10.96.0.0/20",
            "10.96.0.0/16",
            "10.96.0.0/28",
            "fd00::/64",
        ]
        .map(lowest_dynamic);
        let expected = ["10.96.0.17", "10.96.1.0", "10.96.1.1", "10.96.0.1", "fd00::101"];
        assert_eq!(all.map(Option::unwrap_or_default), expected);
        // Where there is nothing else, the lower part is given too.
        let low = |ip: IpAddr| ip > IpAddr::from([10, 96, 0, 16]);
        assert!(block("10.96.0.0/24").choose(&low, &mut || 3).is_some());
        assert_eq!(block("10.96.0.0/24").choose(&|_| true, &mut || 3), None);
    }
}
