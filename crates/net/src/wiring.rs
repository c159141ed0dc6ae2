//! The thread that makes network namespaces.
//!
//! Entering a namespace changes the thread that does it for good, so one dedicated thread does nothing else: it opens
//! its host-side socket first and then walks from new namespace to new namespace.

use crate::bridge::{self, anchor_name, link_index, links_with_prefix, look_up_socket};
use crate::ipam::Ipv4Net;
use crate::netlink::RouteSocket;
use crate::{Error, PodNet, sys, veth};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc;
use tokio::sync::oneshot;

struct Order {
    ip: Ipv4Addr,
    reply: oneshot::Sender<Result<PodNet, Error>>,
}

pub(crate) struct Wiring {
    instance: String,
    host: RouteSocket,
    gateway: Option<Ipv4Addr>,
    orders: Option<mpsc::Sender<Order>>,
}

impl Wiring {
    pub(crate) fn start(instance: &str) -> Result<Self, Error> {
        Ok(Self {
            instance: instance.to_owned(),
            host: RouteSocket::open()?,
            gateway: None,
            orders: None,
        })
    }

    pub(crate) fn reachable_blocks(&mut self) -> Result<Vec<Ipv4Net>, Error> {
        bridge::reachable_blocks(&mut self.host)
    }

    /// Whether this instance's network is set up already (by an agent that was killed, or stopped and left pods running).
    pub(crate) fn anchor_exists(&mut self) -> Result<bool, Error> {
        Ok(!links_with_prefix(&mut self.host, &anchor_name(&self.instance))?.is_empty())
    }

    /// The node's side of the network; then the thread may make pods' sides.
    pub(crate) fn prepare_host(&mut self, gateway: Ipv4Addr, block: Ipv4Net) -> Result<(), Error> {
        bridge::ensure_anchor(&mut self.host, &self.instance, gateway, block)?;
        let mtu = bridge::egress_mtu(&mut self.host)?;
        self.gateway = Some(gateway);
        let (sender, orders) = mpsc::channel::<Order>();
        let mut worker = Worker {
            instance: self.instance.clone(),
            host: RouteSocket::open()?,
            links: look_up_socket()?,
            gateway,
            mtu,
        };
        std::thread::Builder::new()
            .name("cata-net".to_owned())
            .spawn(move || {
                for Order { ip, reply } in orders {
                    // Nobody waiting any more is fine: dropping the namespace removes it.
                    let _ = reply.send(worker.make(ip));
                }
            })
            .map_err(|source| Error::Namespace { source })?;
        self.orders = Some(sender);
        Ok(())
    }

    pub(crate) async fn make(&self, ip: Ipv4Addr) -> Result<PodNet, Error> {
        let (reply, made) = oneshot::channel();
        let orders = self.orders.as_ref().ok_or(Error::Stopped)?;
        orders.send(Order { ip, reply }).map_err(|_| Error::Stopped)?;
        made.await.map_err(|_| Error::Stopped)?
    }
}

struct Worker {
    instance: String,
    host: RouteSocket,
    /// Opened, like `host`, before the thread left the host's namespace.
    links: OwnedFd,
    gateway: Ipv4Addr,
    mtu: u32,
}

impl Worker {
    fn make(&mut self, ip: Ipv4Addr) -> Result<PodNet, Error> {
        let netns = sys::new_network_namespace().map_err(|source| Error::Namespace { source })?;
        let mut pod = RouteSocket::open()?;
        let name = veth::link_name(&self.instance, ip);
        let create = || veth::create_pair(&name, ip, self.mtu, netns.as_fd());
        match self.host.run(vec![create()]) {
            // The last holder of this address is gone, its link not yet: the kernel takes namespaces down lazily.
            Err(Error::Netlink { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
                self.host.run(vec![veth::delete_link(&name)])?;
                self.host.run(vec![create()])?;
            }
            other => other?,
        }
        pod.run(veth::pod_side(ip, self.gateway))?;
        self.host
            .run(veth::host_side(link_index(&self.links, &name)?, ip, self.gateway))?;
        Ok(PodNet { netns, ip })
    }
}

/// Removes the anchor and every host end of the instance.
pub(crate) fn remove_links(instance: &str) -> Result<(), Error> {
    let mut host = RouteSocket::open()?;
    let mut names = links_with_prefix(&mut host, &veth::link_prefix(instance))?;
    names.extend(links_with_prefix(&mut host, &anchor_name(instance))?);
    let mut outcome = Ok(());
    for name in names {
        match host.run(vec![veth::delete_link(&name)]) {
            Err(Error::Netlink { source, .. }) if source.raw_os_error() == Some(libc::ENODEV) => {}
            other => outcome = outcome.and(other),
        }
    }
    outcome
}
