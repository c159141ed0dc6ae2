//! Agents that are connected to the shim: normally one, for a moment two, sometimes none.

use super::nonblocking;
use crate::message::FromShim;
use crate::wire::{self, Packet};
use rustix::net::{RecvFlags, SocketFlags, accept_with};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Messages kept for an agent that does not read. One further behind is hung up on; it connects again and is told all.
const QUEUE_MAX: usize = 256;
/// More connections than any agent makes. A further one is hung up on: those of dead agents are gone already.
const CLIENTS_MAX: usize = 8;

#[derive(Debug)]
pub(super) struct Client {
    pub(super) key: u64,
    socket: OwnedFd,
    queue: VecDeque<Packet>,
    broken: bool,
}

impl Client {
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.queue.is_empty()
    }

    pub(super) fn send(&mut self, message: &FromShim, fds: Vec<OwnedFd>) {
        match wire::encode(message, fds) {
            Ok(packet) if self.queue.len() < QUEUE_MAX => {
                self.queue.push_back(packet);
                self.flush();
            }
            _ => self.broken = true,
        }
    }

    pub(super) fn flush(&mut self) {
        while let Some(packet) = self.queue.front() {
            match wire::send(&self.socket, packet) {
                Ok(()) => drop(self.queue.pop_front()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.broken = true;
                    return;
                }
            }
        }
    }

    /// The next request, if one is there. A client that ended or talks nonsense is marked.
    pub(super) fn receive(&mut self) -> Option<Packet> {
        match wire::receive(&self.socket, RecvFlags::DONTWAIT) {
            Ok(Some(packet)) => Some(packet),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Ok(None) | Err(_) => {
                self.broken = true;
                None
            }
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Clients {
    list: Vec<Client>,
    next_key: u64,
}

impl Clients {
    /// Adds a connection and greets it.
    pub(super) fn add(&mut self, socket: OwnedFd, hello: &FromShim) {
        if self.list.len() >= CLIENTS_MAX || nonblocking(&socket).is_err() {
            return;
        }
        self.next_key += 1;
        let mut client = Client {
            key: self.next_key,
            socket,
            queue: VecDeque::new(),
            broken: false,
        };
        client.send(hello, Vec::new());
        self.list.push(client);
    }

    /// One waiting connection.
    pub(super) fn accept(listener: &OwnedFd) -> Option<OwnedFd> {
        accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK).ok()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Client> {
        self.list.iter()
    }

    pub(super) fn get(&mut self, key: u64) -> Option<&mut Client> {
        self.list.iter_mut().find(|client| client.key == key)
    }

    pub(super) fn tell_all(&mut self, message: impl Fn() -> FromShim) {
        for client in &mut self.list {
            client.send(&message(), Vec::new());
        }
    }

    /// Forgets the broken ones; their keys.
    pub(super) fn sweep(&mut self) -> Vec<u64> {
        let gone = self
            .list
            .iter()
            .filter(|client| client.broken)
            .map(|client| client.key)
            .collect();
        self.list.retain(|client| !client.broken);
        gone
    }
}
