//! Egress masquerade as one nf_tables table, written over netlink (no `nft` binary at run time).
//!
//! ```text
//! table ip catamaran-<instance> {
//!     chain postrouting {
//!         type nat hook postrouting priority srcnat;
//!         ip saddr <block> ip daddr != <block> masquerade
//!     }
//! }
//! ```
//!
//! The encoder knows just the messages this needs. Formats: Linux `include/uapi/linux/netfilter/nf_tables.h` and
//! `nfnetlink.h`; attribute payloads are big-endian. A whole batch is one transaction of the kernel's.

use crate::Error;
use crate::ipam::Ipv4Net;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use std::io;

const NFPROTO_UNSPEC: u8 = 0;
const NFPROTO_IPV4: u8 = 2;
const SUBSYSTEM_NFTABLES: u16 = 10;
const MSG_BATCH_BEGIN: u16 = 0x10;
const MSG_BATCH_END: u16 = 0x11;
const MSG_NEW_TABLE: u16 = SUBSYSTEM_NFTABLES << 8;
const MSG_DELETE_TABLE: u16 = (SUBSYSTEM_NFTABLES << 8) | 2;
const MSG_NEW_CHAIN: u16 = (SUBSYSTEM_NFTABLES << 8) | 3;
const MSG_NEW_RULE: u16 = (SUBSYSTEM_NFTABLES << 8) | 6;

const FLAG_REQUEST: u16 = 1;
const FLAG_ACK: u16 = 4;
const FLAG_CREATE: u16 = 0x400;
const FLAG_APPEND: u16 = 0x800;
const NESTED: u16 = 0x8000;

const HOOK_POSTROUTING: u32 = 4;
const PRIORITY_SRCNAT: u32 = 100;
const REGISTER_1: u32 = 1;
const PAYLOAD_NETWORK_HEADER: u32 = 1;
const IPV4_SOURCE_OFFSET: u32 = 12;
const IPV4_DESTINATION_OFFSET: u32 = 16;
const COMPARE_EQUAL: u32 = 0;
const COMPARE_NOT_EQUAL: u32 = 1;

fn table_name(instance: &str) -> String {
    format!("catamaran-{instance}")
}

/// Replaces the instance's table in one transaction.
pub(crate) fn install_masquerade(instance: &str, block: Ipv4Net) -> Result<(), Error> {
    run(&masquerade_batch(&table_name(instance), block)).map_err(|source| Error::Nftables { source })
}

/// Removes the instance's table; fine when there is none.
pub(crate) fn remove(instance: &str) -> Result<(), Error> {
    let table = table_name(instance);
    let mut batch = Batch::new();
    // Adding first makes the deletion succeed whether or not the table exists.
    batch.table(MSG_NEW_TABLE, FLAG_CREATE, &table);
    batch.table(MSG_DELETE_TABLE, 0, &table);
    run(&batch).map_err(|source| Error::Nftables { source })
}

fn masquerade_batch(table: &str, block: Ipv4Net) -> Batch {
    const CHAIN: &str = "postrouting";
    let mut batch = Batch::new();
    batch.table(MSG_NEW_TABLE, FLAG_CREATE, table);
    batch.table(MSG_DELETE_TABLE, 0, table);
    batch.table(MSG_NEW_TABLE, FLAG_CREATE, table);
    batch.message(MSG_NEW_CHAIN, FLAG_CREATE, NFPROTO_IPV4, 0, |attributes| {
        attributes.text(1, table);
        attributes.text(3, CHAIN);
        attributes.nested(4, |hook| {
            hook.number(1, HOOK_POSTROUTING);
            hook.number(2, PRIORITY_SRCNAT);
        });
        attributes.text(7, "nat");
    });
    batch.message(MSG_NEW_RULE, FLAG_CREATE | FLAG_APPEND, NFPROTO_IPV4, 0, |attributes| {
        attributes.text(1, table);
        attributes.text(2, CHAIN);
        attributes.nested(4, |expressions| {
            match_block(expressions, IPV4_SOURCE_OFFSET, block, COMPARE_EQUAL);
            match_block(expressions, IPV4_DESTINATION_OFFSET, block, COMPARE_NOT_EQUAL);
            expression(expressions, "masq", |_| {});
        });
    });
    batch
}

/// `register 1 = 4 bytes of the IPv4 header & mask; compare with the block's base`.
fn match_block(expressions: &mut Attributes<'_>, header_offset: u32, block: Ipv4Net, operator: u32) {
    expression(expressions, "payload", |data| {
        data.number(1, REGISTER_1);
        data.number(2, PAYLOAD_NETWORK_HEADER);
        data.number(3, header_offset);
        data.number(4, 4);
    });
    expression(expressions, "bitwise", |data| {
        data.number(1, REGISTER_1);
        data.number(2, REGISTER_1);
        data.number(3, 4);
        data.nested(4, |mask| mask.bytes(1, &block.mask().octets()));
        data.nested(5, |xor| xor.bytes(1, &[0; 4]));
    });
    expression(expressions, "cmp", |data| {
        data.number(1, REGISTER_1);
        data.number(2, operator);
        data.nested(3, |value| value.bytes(1, &block.network().octets()));
    });
}

fn expression(list: &mut Attributes<'_>, name: &str, data: impl FnOnce(&mut Attributes<'_>)) {
    list.nested(1, |element| {
        element.text(1, name);
        element.nested(2, data);
    });
}

/// Netlink messages between a batch begin and a batch end.
struct Batch {
    bytes: Vec<u8>,
    messages: u32,
}

impl Batch {
    fn new() -> Self {
        let mut batch = Self {
            bytes: Vec::with_capacity(1024),
            messages: 0,
        };
        batch.message(MSG_BATCH_BEGIN, 0, NFPROTO_UNSPEC, SUBSYSTEM_NFTABLES, |_| {});
        batch
    }

    fn table(&mut self, kind: u16, flags: u16, name: &str) {
        self.message(kind, flags, NFPROTO_IPV4, 0, |attributes| attributes.text(1, name));
    }

    fn message(
        &mut self,
        kind: u16,
        flags: u16,
        family: u8,
        resource: u16,
        attributes: impl FnOnce(&mut Attributes<'_>),
    ) {
        let start = self.bytes.len();
        let acknowledge = if kind >> 8 == SUBSYSTEM_NFTABLES { FLAG_ACK } else { 0 };
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((FLAG_REQUEST | flags | acknowledge).to_ne_bytes());
        self.bytes.extend(self.messages.to_ne_bytes());
        self.bytes.extend([0; 4]);
        self.bytes.extend([family, 0]);
        self.bytes.extend(resource.to_be_bytes());
        attributes(&mut Attributes { bytes: &mut self.bytes });
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        self.messages += 1;
    }

    /// The finished datagram and the number of acknowledgements the kernel owes for it.
    fn finish(&self) -> (Vec<u8>, u32) {
        let mut whole = Self {
            bytes: self.bytes.clone(),
            messages: self.messages,
        };
        whole.message(MSG_BATCH_END, 0, NFPROTO_UNSPEC, SUBSYSTEM_NFTABLES, |_| {});
        (whole.bytes, whole.messages - 2)
    }
}

struct Attributes<'a> {
    bytes: &'a mut Vec<u8>,
}

impl Attributes<'_> {
    fn bytes(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    fn text(&mut self, kind: u16, value: &str) {
        let mut terminated = value.as_bytes().to_vec();
        terminated.push(0);
        self.bytes(kind, &terminated);
    }

    fn nested(&mut self, kind: u16, content: impl FnOnce(&mut Attributes<'_>)) {
        let start = self.bytes.len();
        self.bytes.extend([0; 4]);
        content(&mut Attributes { bytes: self.bytes });
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.bytes[start + 2..start + 4].copy_from_slice(&(kind | NESTED).to_ne_bytes());
    }
}

/// Sends a batch and waits until every message is acknowledged or the transaction is refused.
fn run(batch: &Batch) -> io::Result<()> {
    let (datagram, mut pending) = batch.finish();
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.set_cap_ack(true)?;
    socket.send(&datagram, 0)?;
    while pending > 0 {
        let mut reply = Vec::with_capacity(16 * 1024);
        socket.recv(&mut reply, 0)?;
        let mut rest = &reply[..];
        while rest.len() >= 20 {
            let length = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
            let kind = u16::from_ne_bytes([rest[4], rest[5]]);
            const NLMSG_ERROR: u16 = 2;
            if kind == NLMSG_ERROR {
                let code = i32::from_ne_bytes([rest[16], rest[17], rest[18], rest[19]]);
                if code != 0 {
                    return Err(io::Error::from_raw_os_error(-code));
                }
                pending -= 1;
            }
            rest = &rest[length.max(20).next_multiple_of(4).min(rest.len())..];
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_aligned_and_their_lengths_add_up() {
        let (bytes, acknowledgements) =
            masquerade_batch("catamaran-test", "10.42.0.0/20".parse().expect("block")).finish();
        assert_eq!(acknowledgements, 5);
        let mut kinds = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let length = u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("4 bytes")) as usize;
            kinds.push(u16::from_ne_bytes(bytes[at + 4..at + 6].try_into().expect("2 bytes")));
            assert_eq!(length % 4, 0);
            at += length;
        }
        assert_eq!(at, bytes.len());
        assert_eq!(
            kinds,
            [
                MSG_BATCH_BEGIN,
                MSG_NEW_TABLE,
                MSG_DELETE_TABLE,
                MSG_NEW_TABLE,
                MSG_NEW_CHAIN,
                MSG_NEW_RULE,
                MSG_BATCH_END
            ]
        );
    }
}
