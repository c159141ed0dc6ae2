//! Connections to the loopback of a pod, made from outside: what port-forward needs.
//!
//! A socket belongs to the namespace of the thread that makes it, wherever it is used later. So one dedicated thread does
//! nothing but to step into a namespace, make a socket, and step out again; connecting and everything after is the caller's.

use crate::sys;
use parking_lot::Mutex;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;

/// How long a server on the loopback may take to accept.
const CONNECT: Duration = Duration::from_secs(10);

struct Order {
    namespace: Arc<OwnedFd>,
    family: AddressFamily,
    reply: oneshot::Sender<io::Result<OwnedFd>>,
}

/// Why neither loopback address took a connection.
#[derive(Debug, thiserror::Error)]
#[error("nothing listens on port {port} of either loopback address")]
pub struct Refused {
    pub port: u16,
    pub v4: io::Error,
    pub v6: io::Error,
}

/// Connects into namespaces. The thread starts with the first connection.
#[derive(Default)]
pub struct Dialer {
    orders: Mutex<Option<mpsc::Sender<Order>>>,
}

impl Dialer {
    /// Connects to a port on the loopback of a network namespace: IPv4 first, then IPv6.
    ///
    /// # Errors
    /// What either address said.
    pub async fn connect(&self, namespace: OwnedFd, port: u16) -> Result<TcpStream, Refused> {
        let namespace = Arc::new(namespace);
        let v4 = match self.try_one(&namespace, Ipv4Addr::LOCALHOST.into(), port).await {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        let v6 = self.try_one(&namespace, Ipv6Addr::LOCALHOST.into(), port).await;
        v6.map_err(|v6| Refused { port, v4, v6 })
    }

    async fn try_one(&self, namespace: &Arc<OwnedFd>, address: IpAddr, port: u16) -> io::Result<TcpStream> {
        let family = match address {
            IpAddr::V4(_) => AddressFamily::INET,
            IpAddr::V6(_) => AddressFamily::INET6,
        };
        let socket = self.socket(namespace.clone(), family).await?;
        let socket = TcpSocket::from_std_stream(std::net::TcpStream::from(socket));
        let connecting = socket.connect(SocketAddr::new(address, port));
        let stream = tokio::time::timeout(CONNECT, connecting).await??;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn socket(&self, namespace: Arc<OwnedFd>, family: AddressFamily) -> io::Result<OwnedFd> {
        let (reply, made) = oneshot::channel();
        let order = Order {
            namespace,
            family,
            reply,
        };
        self.order(order)?;
        made.await
            .map_err(|_| io::Error::other("the thread that enters namespaces has died"))?
    }

    fn order(&self, order: Order) -> io::Result<()> {
        let mut orders = self.orders.lock();
        let order = match &*orders {
            Some(thread) => match thread.send(order) {
                Ok(()) => return Ok(()),
                // It could not get out of some namespace: the next one starts in the right place.
                Err(mpsc::SendError(order)) => order,
            },
            None => order,
        };
        let (sender, receiver) = mpsc::channel();
        // Where this thread is, and every other of the process but the dedicated ones.
        let home = sys::own_network_namespace()?;
        std::thread::Builder::new()
            .name("cata-dial".to_owned())
            .spawn(move || serve(&home, &receiver))?;
        let sent = sender.send(order);
        *orders = Some(sender);
        sent.map_err(|_| io::Error::other("the thread that enters namespaces has died"))
    }
}

fn serve(home: &File, orders: &mpsc::Receiver<Order>) {
    for Order {
        namespace,
        family,
        reply,
    } in orders
    {
        let made = make(&namespace, family);
        // Before anybody hears of it: a namespace lives as long as somebody is in it.
        let returned = enter(home.as_fd());
        let _ = reply.send(made);
        if returned.is_err() {
            return;
        }
    }
}

fn make(namespace: &OwnedFd, family: AddressFamily) -> io::Result<OwnedFd> {
    enter(namespace.as_fd())?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(family, SocketType::STREAM, flags, None)?)
}

fn enter(namespace: std::os::fd::BorrowedFd<'_>) -> io::Result<()> {
    Ok(move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?)
}
