//! Addresses, without any IO: which block this node uses, and who holds which address of it.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// An IPv4 block in CIDR notation (RFC 4632), stored with its host bits cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ipv4Net {
    base: u32,
    prefix: u8,
}

/// Why a text is no IPv4 block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an IPv4 block such as 10.42.0.0/20")]
pub struct ParseNetError {
    text: String,
}

impl Ipv4Net {
    /// The block of `prefix` bits (0 to 32) that holds `address`.
    pub const fn new(address: Ipv4Addr, prefix: u8) -> Self {
        let prefix = if prefix > 32 { 32 } else { prefix };
        Self {
            base: address.to_bits() & Self::mask_of(prefix),
            prefix,
        }
    }

    const fn mask_of(prefix: u8) -> u32 {
        if prefix == 0 { 0 } else { u32::MAX << (32 - prefix) }
    }

    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    pub const fn network(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base)
    }

    pub const fn mask(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(Self::mask_of(self.prefix))
    }

    pub const fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & Self::mask_of(self.prefix) == self.base
    }

    pub const fn overlaps(self, other: Self) -> bool {
        let shorter = if self.prefix < other.prefix {
            self.prefix
        } else {
            other.prefix
        };
        (self.base ^ other.base) & Self::mask_of(shorter) == 0
    }

    /// Addresses in the block, network and broadcast address included.
    pub const fn size(self) -> u64 {
        1 << (32 - self.prefix)
    }

    fn nth(self, n: u64) -> Ipv4Addr {
        // n < size() ≤ 2^32, so that the sum stays inside the block.
        Ipv4Addr::from_bits(self.base | u32::try_from(n).unwrap_or(u32::MAX))
    }
}

impl fmt::Display for Ipv4Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network(), self.prefix)
    }
}

impl FromStr for Ipv4Net {
    type Err = ParseNetError;

    fn from_str(text: &str) -> Result<Self, ParseNetError> {
        let error = || ParseNetError { text: text.to_owned() };
        let (address, prefix) = text.split_once('/').ok_or_else(error)?;
        let address: Ipv4Addr = address.parse().map_err(|_| error())?;
        match prefix.parse() {
            Ok(prefix) if prefix <= 32 => Ok(Self::new(address, prefix)),
            _ => Err(error()),
        }
    }
}

/// The private /16 that node blocks are cut from when the user names none.
const CLUSTER_BLOCK: Ipv4Net = Ipv4Net::new(Ipv4Addr::new(10, 42, 0, 0), 16);
/// 4,093 pod addresses each, 16 blocks: as many clusters fit on one machine.
const NODE_PREFIX: u8 = 20;

/// The first block of ours that overlaps nothing the host can already reach.
pub(crate) fn first_free_block(taken: &[Ipv4Net]) -> Option<Ipv4Net> {
    let step = 1_u64 << (32 - NODE_PREFIX);
    (0..CLUSTER_BLOCK.size())
        .step_by(usize::try_from(step).unwrap_or(usize::MAX))
        .map(|offset| Ipv4Net::new(CLUSTER_BLOCK.nth(offset), NODE_PREFIX))
        .find(|candidate| !taken.iter().any(|net| net.prefix > 0 && net.overlaps(*candidate)))
}

/// Hands out the addresses of one block, the least recently released last: peers and conntrack entries that still
/// remember a pod's address have time to forget it before the address comes round again.
#[derive(Debug)]
pub(crate) struct Pool {
    block: Ipv4Net,
    held: BTreeSet<Ipv4Addr>,
    cursor: u64,
}

/// Network address, gateway, broadcast.
const RESERVED: u64 = 3;

impl Pool {
    /// `held` are addresses that running pods have; those outside the block are ignored.
    pub(crate) fn new(block: Ipv4Net, held: impl IntoIterator<Item = Ipv4Addr>) -> Self {
        let held = held.into_iter().filter(|address| block.contains(*address)).collect();
        Self { block, held, cursor: 0 }
    }

    pub(crate) fn gateway(&self) -> Ipv4Addr {
        self.block.nth(1)
    }

    /// How many pods the block can address.
    pub(crate) fn capacity(&self) -> u64 {
        self.block.size().saturating_sub(RESERVED)
    }

    pub(crate) fn take(&mut self) -> Option<Ipv4Addr> {
        let capacity = self.capacity();
        for _ in 0..capacity {
            let address = self.block.nth(2 + self.cursor);
            self.cursor = (self.cursor + 1) % capacity;
            if self.held.insert(address) {
                return Some(address);
            }
        }
        None
    }

    pub(crate) fn give_back(&mut self, address: Ipv4Addr) {
        self.held.remove(&address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().expect("a block")
    }

    #[test]
    fn blocks_parse_and_print() {
        for (text, printed) in [
            ("10.42.0.0/20", "10.42.0.0/20"),
            ("10.42.7.9/20", "10.42.0.0/20"),
            ("0.0.0.0/0", "0.0.0.0/0"),
        ] {
            assert_eq!(net(text).to_string(), printed);
        }
        for text in [
            "",
            "10.42.0.0",
            "10.42.0.0/33",
            "10.42.0/8",
            "::/0",
            "a/1",
            "10.0.0.0/-1",
        ] {
            assert!(text.parse::<Ipv4Net>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_first_free_block_avoids_what_the_host_reaches() {
        assert_eq!(first_free_block(&[]), Some(net("10.42.0.0/20")));
        assert_eq!(
            first_free_block(&[net("0.0.0.0/0")]),
            Some(net("10.42.0.0/20")),
            "a default route takes nothing"
        );
        assert_eq!(
            first_free_block(&[net("10.42.3.1/32"), net("10.42.16.0/24")]),
            Some(net("10.42.32.0/20"))
        );
        assert_eq!(first_free_block(&[net("10.0.0.0/8")]), None);
    }

    #[test]
    fn a_full_pool_refuses_and_a_returned_address_comes_last() {
        let mut pool = Pool::new(
            net("10.0.0.0/29"),
            [Ipv4Addr::new(10, 0, 0, 3), Ipv4Addr::new(10, 9, 9, 9)],
        );
        assert_eq!(pool.gateway(), Ipv4Addr::new(10, 0, 0, 1));
        let taken: Vec<_> = std::iter::from_fn(|| pool.take()).map(|a| a.octets()[3]).collect();
        assert_eq!(taken, [2, 4, 5, 6]);
        pool.give_back(Ipv4Addr::new(10, 0, 0, 4));
        assert_eq!(pool.take(), Some(Ipv4Addr::new(10, 0, 0, 4)));
        assert_eq!(pool.take(), None);
    }

    proptest! {
        #[test]
        fn no_address_is_held_twice(prefix in 24_u8..=30, moves in prop::collection::vec(any::<Option<prop::sample::Index>>(), 0..200)) {
            let block = Ipv4Net::new(Ipv4Addr::new(192, 168, 7, 0), prefix);
            let mut pool = Pool::new(block, []);
            let mut held: Vec<Ipv4Addr> = Vec::new();
            for step in moves {
                match step {
                    Some(index) if !held.is_empty() => pool.give_back(held.swap_remove(index.index(held.len()))),
                    _ => match pool.take() {
                        Some(address) => {
                            prop_assert!(block.contains(address) && !held.contains(&address) && address != pool.gateway());
                            held.push(address);
                        }
                        None => prop_assert_eq!(held.len() as u64, pool.capacity()),
                    },
                }
            }
        }
    }
}
