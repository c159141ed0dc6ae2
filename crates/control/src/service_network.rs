//! The networks of services, as the flags of the server say them.

use crate::kinds::services::Block;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// What services get addresses and ports from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceNetwork {
    /// `--service-cluster-ip-range`.
    pub cluster_ips: ClusterIpRange,
    /// `--service-node-port-range`.
    pub node_ports: NodePortRange,
}

impl ServiceNetwork {
    /// The address of the API itself.
    pub(crate) fn first(&self) -> IpAddr {
        self.cluster_ips.0[0].first()
    }
}

/// One block of addresses, or one of each family. The first says which family services have that do not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterIpRange(Vec<Block>);

impl ClusterIpRange {
    pub(crate) fn blocks(&self) -> &[Block] {
        &self.0
    }
}

impl Default for ClusterIpRange {
    fn default() -> Self {
        ClusterIpRange(Block::parse("10.96.0.0/16").into_iter().collect())
    }
}

/// Why a range cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RangeError {
    #[error("{text:?} is no block of addresses (10.96.0.0/16, fd00:10:96::/112), or an IPv6 one larger than /64")]
    Block { text: String },
    #[error("must contain one block of addresses, or one of IPv4 and one of IPv6")]
    Count,
    #[error("the two blocks must be of different IP family")]
    Families,
    #[error("{text:?} is no range of ports (30000-32767)")]
    Ports { text: String },
}

impl FromStr for ClusterIpRange {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let block = |text: &str| {
            Block::parse(text.trim()).ok_or_else(|| RangeError::Block {
                text: text.trim().to_owned(),
            })
        };
        let blocks = text.split(',').map(block).collect::<Result<Vec<Block>, RangeError>>()?;
        match blocks.as_slice() {
            [_] => Ok(ClusterIpRange(blocks)),
            [a, b] if a.family() == b.family() => Err(RangeError::Families),
            [_, _] => Ok(ClusterIpRange(blocks)),
            _ => Err(RangeError::Count),
        }
    }
}

/// Ports of the nodes, both ends included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePortRange(RangeInclusive<u16>);

impl NodePortRange {
    pub(crate) fn ports(&self) -> RangeInclusive<u16> {
        self.0.clone()
    }
}

impl Default for NodePortRange {
    fn default() -> Self {
        NodePortRange(30_000..=32_767)
    }
}

impl FromStr for NodePortRange {
    type Err = RangeError;

    /// `30000-32767`, `30000+2767` (so many more), or one port.
    fn from_str(text: &str) -> Result<Self, RangeError> {
        let number = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0);
        let range = if let Some((first, last)) = text.split_once('-') {
            number(first).zip(number(last))
        } else if let Some((first, more)) = text.split_once('+') {
            let first = number(first);
            first.and_then(|first| Some((first, first.checked_add(more.trim().parse().ok()?)?)))
        } else {
            number(text).map(|port| (port, port))
        };
        match range {
            Some((first, last)) if first <= last => Ok(NodePortRange(first..=last)),
            _ => Err(RangeError::Ports { text: text.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_or_refused() {
        let addresses = |text: &str| match text.parse::<ClusterIpRange>() {
            Ok(range) => range.0.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            Err(error) => error.to_string(),
        };
        let ports = |text: &str| match text.parse::<NodePortRange>() {
            Ok(range) => format!("{:?}", range.0),
            Err(error) => error.to_string(),
        };
        let texts = [
            addresses("10.96.0.0/16"),
            addresses("fd00:10:96::/112, 10.96.0.0/16"),
            addresses("10.96.0.0/16,10.97.0.0/16"),
            addresses("10.96.0.0/16,fd00::/64,10.97.0.0/16"),
            addresses("fd00::/48"),
            addresses(""),
            ports("30000-32767"),
            ports("30000+10"),
            ports("8080"),
            ports("9-1"),
            ports("0-9"),
            ports("60000+60000"),
        ];
        expect_test::expect![[r#"
            10.96.0.0/16
            fd00:10:96::/112 10.96.0.0/16
            the two blocks must be of different IP family
            must contain one block of addresses, or one of IPv4 and one of IPv6
            "fd00::/48" is no block of addresses (10.96.0.0/16, fd00:10:96::/112), or an IPv6 one larger than /64
            "" is no block of addresses (10.96.0.0/16, fd00:10:96::/112), or an IPv6 one larger than /64
            30000..=32767
            30000..=30010
            8080..=8080
            "9-1" is no range of ports (30000-32767)
            "0-9" is no range of ports (30000-32767)
            "60000+60000" is no range of ports (30000-32767)"#]]
        .assert_eq(&texts.join("\n"));
    }
}
