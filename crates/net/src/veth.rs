//! One pod's wire: a veth pair, its far end `eth0` in the pod's network namespace, both ends routed with /32.
//!
//! ```text
//!   pod namespace                                host
//!   eth0  10.42.0.5/32  ═════════════════════  cv<instance><address>     route 10.42.0.5/32 → this link
//!   default via 10.42.0.1                       gateway 10.42.0.1 sits on the anchor bridge
//! ```
//!
//! Neighbours are permanent entries, because both MAC addresses are known beforehand: no ARP on the first packet, no
//! bridge in the path, and therefore no need for `br_netfilter` when services rewrite addresses later.

use crate::netlink::Request;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Every host end answers to the same locally administered MAC; the link is point to point, so nobody can confuse them.
const HOST_MAC: [u8; 6] = [0xee; 6];
/// In a new network namespace `lo` is 1; we choose 2 for `eth0`, so that nothing needs to be read back.
const LOOPBACK_INDEX: u32 = 1;
const POD_LINK_INDEX: u32 = 2;

/// The prefix of every host link of this instance.
pub(crate) fn link_prefix(instance: &str) -> String {
    format!("cv{instance}")
}

/// At most 15 bytes (`IFNAMSIZ`): `cv`, 8 of the instance, 4 of the address (blocks are never larger than /16).
pub(crate) fn link_name(instance: &str, address: Ipv4Addr) -> String {
    format!("{}{:04x}", link_prefix(instance), address.to_bits() & 0xffff)
}

fn pod_mac(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x0a, 0x58, a, b, c, d]
}

/// Creates the pair with the far end already inside the pod's namespace.
pub(crate) fn create_pair(name: &str, address: Ipv4Addr, mtu: u32, namespace: BorrowedFd<'_>) -> Request {
    let mut peer = LinkMessage::default();
    peer.header.index = POD_LINK_INDEX;
    peer.attributes = vec![
        LinkAttribute::IfName("eth0".to_owned()),
        LinkAttribute::Address(pod_mac(address).to_vec()),
        LinkAttribute::Mtu(mtu),
        LinkAttribute::NetNsFd(namespace.as_raw_fd()),
    ];
    let mut link = LinkMessage::default();
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
    link.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::Address(HOST_MAC.to_vec()),
        LinkAttribute::Mtu(mtu),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]),
    ];
    Request::create("create a veth pair", RouteNetlinkMessage::NewLink(link))
}

/// Host side: how to reach the pod.
pub(crate) fn host_side(link: u32, address: Ipv4Addr, gateway: Ipv4Addr) -> Vec<Request> {
    let mut route = route_to(address, 32, link, RouteScope::Link);
    route
        .attributes
        .push(RouteAttribute::PrefSource(RouteAddress::Inet(gateway)));
    vec![
        Request::put(
            "add the pod's neighbour entry",
            permanent_neighbour(link, address, pod_mac(address)),
        ),
        Request::put("add the pod's route", RouteNetlinkMessage::NewRoute(route)),
    ]
}

/// Pod side, sent from a socket inside the pod's namespace.
pub(crate) fn pod_side(address: Ipv4Addr, gateway: Ipv4Addr) -> Vec<Request> {
    let mut default_route = route_to(Ipv4Addr::UNSPECIFIED, 0, POD_LINK_INDEX, RouteScope::Universe);
    default_route
        .attributes
        .push(RouteAttribute::Gateway(RouteAddress::Inet(gateway)));
    vec![
        Request::change("bring lo up", link_up(LOOPBACK_INDEX)),
        Request::create("give eth0 its address", address_on(POD_LINK_INDEX, address, 32)),
        Request::change("bring eth0 up", link_up(POD_LINK_INDEX)),
        Request::put(
            "add the gateway's neighbour entry",
            permanent_neighbour(POD_LINK_INDEX, gateway, HOST_MAC),
        ),
        Request::create(
            "add the route to the gateway",
            RouteNetlinkMessage::NewRoute(route_to(gateway, 32, POD_LINK_INDEX, RouteScope::Link)),
        ),
        Request::create("add the default route", RouteNetlinkMessage::NewRoute(default_route)),
    ]
}

pub(crate) fn link_up(index: u32) -> RouteNetlinkMessage {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
    RouteNetlinkMessage::SetLink(link)
}

pub(crate) fn delete_link(name: &str) -> Request {
    let mut link = LinkMessage::default();
    link.attributes = vec![LinkAttribute::IfName(name.to_owned())];
    Request::change("delete a link", RouteNetlinkMessage::DelLink(link))
}

pub(crate) fn address_on(link: u32, address: Ipv4Addr, prefix: u8) -> RouteNetlinkMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = prefix;
    message.header.index = link;
    message.attributes = vec![
        AddressAttribute::Local(address.into()),
        AddressAttribute::Address(address.into()),
    ];
    RouteNetlinkMessage::NewAddress(message)
}

fn route_to(destination: Ipv4Addr, prefix: u8, link: u32, scope: RouteScope) -> RouteMessage {
    let mut route = RouteMessage::default();
    route.header.address_family = AddressFamily::Inet;
    route.header.destination_prefix_length = prefix;
    route.header.table = RouteHeader::RT_TABLE_MAIN;
    route.header.protocol = RouteProtocol::Static;
    route.header.scope = scope;
    route.header.kind = RouteType::Unicast;
    route.attributes.push(RouteAttribute::Oif(link));
    if prefix > 0 {
        route
            .attributes
            .push(RouteAttribute::Destination(RouteAddress::Inet(destination)));
    }
    route
}

fn permanent_neighbour(link: u32, address: Ipv4Addr, mac: [u8; 6]) -> RouteNetlinkMessage {
    let mut neighbour = NeighbourMessage::default();
    neighbour.header.family = AddressFamily::Inet;
    neighbour.header.ifindex = link;
    neighbour.header.state = NeighbourState::Permanent;
    neighbour.attributes = vec![
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)),
        NeighbourAttribute::LinkLayerAddress(mac.to_vec()),
    ];
    RouteNetlinkMessage::NewNeighbour(neighbour)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_names_fit_the_kernel_and_tell_addresses_apart() {
        let name = link_name("1a2b3c4d", Ipv4Addr::new(10, 42, 15, 255));
        assert_eq!(name, "cv1a2b3c4d0fff");
        assert!(name.len() <= 15);
        assert_ne!(name, link_name("1a2b3c4d", Ipv4Addr::new(10, 42, 15, 254)));
    }
}
