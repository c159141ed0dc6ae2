//! Messages on `SOCK_SEQPACKET` sockets: JSON with descriptors attached.
//!
//! One message is one packet, so it arrives whole or not at all and neither end ever holds half of one. A message too big
//! for a packet travels in a memory file whose descriptor comes first; the packet says so in its first byte.

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, IoSlice, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Largest message that travels in its packet; well below the kernel's default socket buffer.
const INLINE_MAX: usize = 32 << 10;
/// Largest message at all: an exec with all the environment the kernel would take fits.
pub(crate) const MESSAGE_MAX: usize = 16 << 20;
/// Descriptors per message, including a memory file's.
pub(crate) const FDS_MAX: usize = 5;

const INLINE: u8 = b'i';
const IN_FILE: u8 = b'f';

/// One message as it is sent.
#[derive(Debug)]
pub(crate) struct Packet {
    pub(crate) bytes: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
}

/// Turns a message into a packet. `fds` come out of [`decode`] in the same order.
///
/// # Errors
/// `InvalidInput` for a message over a bound.
pub(crate) fn encode<T: Serialize>(message: &T, mut fds: Vec<OwnedFd>) -> io::Result<Packet> {
    let mut bytes = vec![INLINE];
    serde_json::to_writer(&mut bytes, message)?;
    if bytes.len() > MESSAGE_MAX || fds.len() >= FDS_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "message too large"));
    }
    if bytes.len() > INLINE_MAX {
        let file = memfd_create(c"catamaran-message", MemfdFlags::CLOEXEC)?;
        let mut file = std::fs::File::from(file);
        file.write_all(&bytes[1..])?;
        fds.insert(0, file.into());
        bytes = vec![IN_FILE];
    }
    Ok(Packet { bytes, fds })
}

/// The message of a packet, and its descriptors.
///
/// # Errors
/// `InvalidData` for anything that [`encode`] does not produce.
pub(crate) fn decode<T: DeserializeOwned>(packet: Packet) -> io::Result<(T, Vec<OwnedFd>)> {
    let (bytes, fds) = unpack(packet)?;
    Ok((serde_json::from_slice(&bytes)?, fds))
}

/// The bare JSON text of a packet, and its descriptors.
pub(crate) fn unpack(packet: Packet) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let bad = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    let Packet { mut bytes, mut fds } = packet;
    match bytes.first() {
        Some(&INLINE) => {
            bytes.remove(0);
            Ok((bytes, fds))
        }
        Some(&IN_FILE) if !fds.is_empty() => {
            let file = fds.remove(0);
            let size = usize::try_from(rustix::fs::fstat(&file)?.st_size).unwrap_or(usize::MAX);
            if size > MESSAGE_MAX {
                return Err(bad("message too large"));
            }
            Ok((read_file(&file, size)?, fds))
        }
        _ => Err(bad("unknown packet")),
    }
}

fn read_file(file: &OwnedFd, size: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; size];
    let mut done = 0;
    while done < size {
        match rustix::io::pread(file, &mut bytes[done..], done as u64)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => done += count,
        }
    }
    Ok(bytes)
}

/// Sends without waiting and without SIGPIPE.
///
/// # Errors
/// `WouldBlock` when the peer is slow; then nothing was sent.
pub(crate) fn send(socket: impl AsFd, packet: &Packet) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<_> = packet.fds.iter().map(AsFd::as_fd).collect();
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    rustix::io::retry_on_intr(|| sendmsg(&socket, &[IoSlice::new(&packet.bytes)], &mut control, flags))?;
    Ok(())
}

/// Receives one packet, with `flags` such as `DONTWAIT`. `None` when the peer has gone.
///
/// # Errors
/// `InvalidData` for a packet that no peer of ours sends (truncated, or with too many descriptors).
pub(crate) fn receive(socket: impl AsFd, flags: RecvFlags) -> io::Result<Option<Packet>> {
    // Not zeroed and not shared: pages that no packet reaches are never touched.
    let mut bytes: Vec<u8> = Vec::new();
    let waiting = peek(&socket, flags)?;
    bytes.resize(waiting.min(INLINE_MAX), 0);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        recvmsg(
            &socket,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut control,
            flags | RecvFlags::CMSG_CLOEXEC,
        )
    })?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "packet too large"));
    }
    bytes.truncate(received.bytes);
    Ok(Some(Packet { bytes, fds }))
}

/// Length of the next packet; 0 when the peer has gone.
fn peek(socket: impl AsFd, flags: RecvFlags) -> io::Result<usize> {
    let peek = flags | RecvFlags::PEEK | RecvFlags::TRUNC;
    let empty: &mut [u8] = &mut [];
    let (_, length) = rustix::io::retry_on_intr(|| rustix::net::recv(&socket, &mut *empty, peek))?;
    Ok(length)
}

/// A socket's address holds 108 bytes, a state directory's path may be longer: go through a descriptor of it.
pub(crate) fn short_address(dir: &OwnedFd) -> io::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new(format!(
        "/proc/self/fd/{}/shim.sock",
        dir.as_raw_fd()
    ))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use std::io::{Read as _, Seek as _};

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
    }

    fn file_with(text: &str) -> OwnedFd {
        let mut file = std::fs::File::from(memfd_create(c"test", MemfdFlags::CLOEXEC).unwrap());
        file.write_all(text.as_bytes()).unwrap();
        file.rewind().unwrap();
        file.into()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_is_sent_arrives(text in prop_oneof![".{0,40}", "[a-z\u{1F600}]{20000,60000}"], files in 0..FDS_MAX) {
            let (left, right) = pair();
            let fds = (0..files).map(|index| file_with(&format!("file {index}"))).collect();
            send(&left, &encode(&text, fds).unwrap()).unwrap();
            let packet = receive(&right, RecvFlags::DONTWAIT).unwrap().unwrap();
            let (back, fds) = decode::<String>(packet).unwrap();
            prop_assert_eq!(back, text);
            prop_assert_eq!(fds.len(), files);
            for (index, fd) in fds.into_iter().enumerate() {
                let mut content = String::new();
                std::fs::File::from(fd).read_to_string(&mut content).unwrap();
                prop_assert_eq!(content, format!("file {index}"));
            }
        }

        #[test]
        fn any_packet_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 1..200)) {
            let (left, right) = pair();
            send(&left, &Packet { bytes, fds: Vec::new() }).unwrap();
            let packet = receive(&right, RecvFlags::DONTWAIT).unwrap().unwrap();
            let _ = decode::<serde_json::Value>(packet);
        }
    }

    #[test]
    fn the_end_and_the_bounds() {
        let (left, right) = pair();
        assert_eq!(
            receive(&right, RecvFlags::DONTWAIT).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        send(
            &left,
            &Packet {
                bytes: vec![INLINE; INLINE_MAX + 1],
                fds: Vec::new(),
            },
        )
        .unwrap();
        assert_eq!(
            receive(&right, RecvFlags::DONTWAIT).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
        assert!(encode(&"x".repeat(MESSAGE_MAX), Vec::new()).is_err());
        drop(left);
        assert!(receive(&right, RecvFlags::DONTWAIT).unwrap().is_none());
    }
}
