//! Blocking rtnetlink requests (RFC 3549, `rtnetlink(7)`), several in one datagram.
//!
//! Wiring a pod is about ten requests whose replies nobody reads but for errors: sending them together costs two system
//! calls instead of twenty. Sockets keep the network namespace they were opened in.

use crate::Error;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// One request, with the words to name it by when the kernel refuses.
pub(crate) struct Request {
    pub(crate) step: &'static str,
    pub(crate) message: RouteNetlinkMessage,
    flags: u16,
}

impl Request {
    /// Creates; refused when it exists.
    pub(crate) fn create(step: &'static str, message: RouteNetlinkMessage) -> Self {
        Self {
            step,
            message,
            flags: NLM_F_CREATE | NLM_F_EXCL,
        }
    }

    /// Creates or replaces.
    pub(crate) fn put(step: &'static str, message: RouteNetlinkMessage) -> Self {
        Self {
            step,
            message,
            flags: NLM_F_CREATE | NLM_F_REPLACE,
        }
    }

    /// Changes or deletes what exists.
    pub(crate) fn change(step: &'static str, message: RouteNetlinkMessage) -> Self {
        Self {
            step,
            message,
            flags: 0,
        }
    }
}

pub(crate) struct RouteSocket {
    socket: Socket,
    sequence: u32,
}

/// Room for one datagram of replies; the kernel sends dumps in pieces of at most 32 KiB.
const REPLY_BYTES: usize = 64 * 1024;

impl RouteSocket {
    /// A socket in the calling thread's network namespace.
    pub(crate) fn open() -> Result<Self, Error> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            socket.set_cap_ack(true)?;
            Ok(socket)
        };
        let socket = open().map_err(|source| Error::Netlink {
            step: "open a route socket",
            source,
        })?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Sends all requests at once. The kernel carries out every one of them, in order, also after one failed; the error
    /// returned is the first.
    pub(crate) fn run(&mut self, requests: Vec<Request>) -> Result<(), Error> {
        let first = self.sequence + 1;
        let mut steps = Vec::with_capacity(requests.len());
        let mut datagram = Vec::with_capacity(1024);
        for Request { step, message, flags } in requests {
            self.append(&mut datagram, message, flags | NLM_F_ACK);
            steps.push(step);
        }
        self.send(&datagram)?;

        let mut outcome = Ok(());
        let mut pending = steps.len();
        while pending > 0 {
            for reply in self.receive()? {
                let index = reply.header.sequence_number.wrapping_sub(first) as usize;
                let NetlinkPayload::Error(error) = reply.payload else {
                    continue;
                };
                let Some(step) = steps.get(index) else { continue };
                pending -= 1;
                if error.code.is_some() && outcome.is_ok() {
                    outcome = Err(Error::Netlink {
                        step,
                        source: error.to_io(),
                    });
                }
            }
        }
        outcome
    }

    /// Everything the kernel lists for a `Get…` request.
    pub(crate) fn dump(
        &mut self,
        step: &'static str,
        message: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, Error> {
        let mut datagram = Vec::with_capacity(128);
        self.append(&mut datagram, message, NLM_F_DUMP);
        self.send(&datagram)?;
        let mut listed = Vec::new();
        loop {
            for reply in self.receive()? {
                if reply.header.sequence_number != self.sequence {
                    continue;
                }
                match reply.payload {
                    NetlinkPayload::InnerMessage(message) => listed.push(message),
                    NetlinkPayload::Done(_) => return Ok(listed),
                    NetlinkPayload::Error(error) => {
                        return Err(Error::Netlink {
                            step,
                            source: error.to_io(),
                        });
                    }
                    _ => {}
                }
            }
        }
    }

    fn append(&mut self, datagram: &mut Vec<u8>, message: RouteNetlinkMessage, flags: u16) {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let start = datagram.len();
        datagram.resize(start + message.buffer_len().next_multiple_of(4), 0);
        message.serialize(&mut datagram[start..]);
    }

    fn send(&self, datagram: &[u8]) -> Result<(), Error> {
        self.socket.send(datagram, 0).map_err(|source| Error::Netlink {
            step: "send a request",
            source,
        })?;
        Ok(())
    }

    fn receive(&self) -> Result<Vec<NetlinkMessage<RouteNetlinkMessage>>, Error> {
        let mut buffer = Vec::with_capacity(REPLY_BYTES);
        self.socket.recv(&mut buffer, 0).map_err(|source| Error::Netlink {
            step: "receive a reply",
            source,
        })?;
        let mut replies = Vec::new();
        let mut rest = &buffer[..];
        while rest.len() >= 16 {
            let length = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
            if length < 16 || length > rest.len() {
                break;
            }
            // A message of a kind this library cannot read (a link type of tomorrow) is none we asked about.
            if let Ok(reply) = NetlinkMessage::deserialize(&rest[..length]) {
                replies.push(reply);
            }
            rest = &rest[length.next_multiple_of(4).min(rest.len())..];
        }
        Ok(replies)
    }
}
