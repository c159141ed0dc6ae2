//! The anchor: a bridge without ports that carries the gateway address of the node's block.
//!
//! Pods do not hang on it (they are /32-routed); it exists so that the address has a home that shows up in `ip address`,
//! is seen by other clusters looking for a free block, and vanishes with one link deletion.

use crate::Error;
use crate::ipam::Ipv4Net;
use crate::netlink::{Request, RouteSocket};
use crate::veth::{address_on, link_up};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

pub(crate) fn anchor_name(instance: &str) -> String {
    format!("cata{instance}")
}

/// Makes sure that the anchor exists, is up and has the gateway address. Idempotent.
pub(crate) fn ensure_anchor(
    socket: &mut RouteSocket,
    instance: &str,
    gateway: Ipv4Addr,
    block: Ipv4Net,
) -> Result<(), Error> {
    let name = anchor_name(instance);
    let mut link = LinkMessage::default();
    link.attributes = vec![
        LinkAttribute::IfName(name.clone()),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]),
    ];
    let created = socket.run(vec![Request::create(
        "create the anchor bridge",
        RouteNetlinkMessage::NewLink(link),
    )]);
    match created {
        Err(Error::Netlink { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {}
        other => other?,
    }
    let index = link_index(&look_up_socket()?, &name)?;
    socket.run(vec![
        Request::put(
            "give the anchor the gateway address",
            address_on(index, gateway, block.prefix()),
        ),
        Request::change("bring the anchor up", link_up(index)),
    ])
}

/// A socket to look links up with, in the calling thread's network namespace.
pub(crate) fn look_up_socket() -> Result<OwnedFd, Error> {
    rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None).map_err(|source| {
        Error::Netlink {
            step: "open a look-up socket",
            source: source.into(),
        }
    })
}

pub(crate) fn link_index(socket: &OwnedFd, name: &str) -> Result<u32, Error> {
    rustix::net::netdevice::name_to_index(socket, name).map_err(|source| Error::Netlink {
        step: "look up a link",
        source: source.into(),
    })
}

/// Names of the links that start with `prefix`.
pub(crate) fn links_with_prefix(socket: &mut RouteSocket, prefix: &str) -> Result<Vec<String>, Error> {
    let listed = socket.dump("list links", RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
    let names = listed.into_iter().filter_map(|message| match message {
        RouteNetlinkMessage::NewLink(link) => link.attributes.into_iter().find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) if name.starts_with(prefix) => Some(name),
            _ => None,
        }),
        _ => None,
    });
    Ok(names.collect())
}

/// What the host can already reach: the destinations of its IPv4 routes of every table (local addresses included).
pub(crate) fn reachable_blocks(socket: &mut RouteSocket) -> Result<Vec<Ipv4Net>, Error> {
    let mut query = RouteMessage::default();
    query.header.address_family = AddressFamily::Inet;
    let listed = socket.dump("list routes", RouteNetlinkMessage::GetRoute(query))?;
    Ok(listed.iter().filter_map(route_destination).collect())
}

fn route_destination(message: &RouteNetlinkMessage) -> Option<Ipv4Net> {
    let RouteNetlinkMessage::NewRoute(route) = message else {
        return None;
    };
    if matches!(route.header.kind, RouteType::Broadcast | RouteType::Multicast) {
        return None;
    }
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(destination)) => {
            Some(Ipv4Net::new(*destination, route.header.destination_prefix_length))
        }
        _ => None,
    })
}

/// The MTU of the link the default route leaves by; Ethernet's 1500 when there is none.
pub(crate) fn egress_mtu(socket: &mut RouteSocket) -> Result<u32, Error> {
    const ETHERNET_MTU: u32 = 1500;
    let mut query = RouteMessage::default();
    query.header.address_family = AddressFamily::Inet;
    let routes = socket.dump("list routes", RouteNetlinkMessage::GetRoute(query))?;
    let egress = routes.iter().find_map(|message| {
        let RouteNetlinkMessage::NewRoute(route) = message else {
            return None;
        };
        if route.header.destination_prefix_length != 0 || route.header.kind != RouteType::Unicast {
            return None;
        }
        route.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Oif(index) => Some(*index),
            _ => None,
        })
    });
    let Some(egress) = egress else { return Ok(ETHERNET_MTU) };
    let links = socket.dump("list links", RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
    let mtu = links.iter().find_map(|message| {
        let RouteNetlinkMessage::NewLink(link) = message else {
            return None;
        };
        if link.header.index != egress {
            return None;
        }
        link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Mtu(mtu) => Some(*mtu),
            _ => None,
        })
    });
    Ok(mtu.unwrap_or(ETHERNET_MTU))
}
