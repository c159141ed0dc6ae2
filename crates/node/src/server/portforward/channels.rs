//! Port-forward over WebSocket channels: for every port of the request a channel for data and one for its error. The first
//! message on each is the port, in two bytes, low one first.
//!
//! Nothing tells a client to wait with one port and go on with the others: while a pod does not read and what fits is full, the
//! whole socket waits, for at most [`STALL`].

use super::{BLOCK, Forwarder, FromClient, Gone, STALL, ToClient, relay};
use crate::server::upgrade::IDLE;
use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use parking_lot::Mutex;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

pub(super) const BINARY: &str = "v4.channel.k8s.io";
pub(super) const BASE64: &str = "v4.base64.channel.k8s.io";
/// Messages that wait for the client.
const WAITING: usize = 8;
/// Bytes that wait for each port.
const HELD: usize = 64 << 10;
const FAREWELL: Duration = Duration::from_secs(2);

/// How a message carries its channel and bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// A byte, and the bytes.
    Binary,
    /// A digit, and base64. The digits go on as ASCII does after 9, up to its end.
    Base64,
}

impl Encoding {
    /// Ports of one request, with two channels each.
    pub(super) fn most_ports(self) -> usize {
        match self {
            Self::Binary => 100,
            Self::Base64 => usize::from((0x80 - b'0') / 2),
        }
    }

    pub(super) fn wrap(self, channel: u8, bytes: &[u8]) -> Message {
        match self {
            Self::Binary => {
                let mut message = BytesMut::with_capacity(bytes.len() + 1);
                message.put_u8(channel);
                message.put_slice(bytes);
                Message::Binary(message.freeze())
            }
            Self::Base64 => {
                let mut message = String::from(char::from(b'0' + channel));
                STANDARD.encode_string(bytes, &mut message);
                Message::Text(message.into())
            }
        }
    }

    /// `None` for what no channel's message looks like.
    pub(super) fn unwrap(self, message: Message) -> Option<(u8, Bytes)> {
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => Bytes::copy_from_slice(text.as_bytes()),
            _ => return None,
        };
        let (channel, _) = bytes.split_first()?;
        match self {
            Self::Binary => Some((*channel, bytes.slice(1..))),
            Self::Base64 => Some((channel.checked_sub(b'0')?, STANDARD.decode(&bytes[1..]).ok()?.into())),
        }
    }
}

/// Serves until every port is done, the client leaves, or nothing is said for long.
pub(super) async fn serve(socket: WebSocket, ports: &[u16], encoding: Encoding, forwarder: Forwarder) {
    let (mut sink, mut stream) = socket.split();
    let (out, mut messages) = mpsc::channel(WAITING);
    let (mut inputs, mut forwards) = (Vec::new(), JoinSet::new());
    for (index, port) in ports.iter().enumerate() {
        let (input, from, gone) = input();
        inputs.push(Some(input));
        // There are no more than fit.
        let to = To {
            out: out.clone(),
            channel: u8::try_from(2 * index).unwrap_or(u8::MAX),
            encoding,
        };
        forwards.spawn(forward(*port, from, gone, to, forwarder.clone()));
    }
    drop(out);
    let active = Mutex::new(Instant::now());
    let outwards = async {
        while let Some(message) = messages.recv().await {
            if sink.send(message).await.is_err() {
                return;
            }
            *active.lock() = Instant::now();
        }
        let close = CloseFrame {
            code: close_code::NORMAL,
            reason: "".into(),
        };
        let _ = sink.send(Message::Close(Some(close))).await;
    };
    let inwards = async {
        while let Some(Ok(message)) = stream.next().await {
            *active.lock() = Instant::now();
            if matches!(message, Message::Close(_)) {
                return;
            }
            let Some((channel, bytes)) = encoding.unwrap(message) else {
                continue;
            };
            // Errors go one way only.
            let slot = inputs.get_mut(usize::from(channel / 2)).filter(|_| channel % 2 == 0);
            if let Some(slot) = slot
                && let Some(input) = slot
                && input.say(&bytes, STALL).await.is_err()
            {
                *slot = None;
            }
        }
    };
    let silence = async {
        loop {
            let until = *active.lock() + IDLE;
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    };
    tokio::pin!(inwards);
    tokio::select! {
        () = &mut inwards => {}
        () = silence => {}
        () = outwards => {
            let _ = tokio::time::timeout(FAREWELL, inwards).await;
        }
    }
    // Without the client nothing of this is of use.
    forwards.shutdown().await;
}

async fn forward(port: u16, from: From, gone: impl Future<Output = ()>, to: To, forwarder: Forwarder) {
    let error = To {
        channel: to.channel + 1,
        ..to.clone()
    };
    let announced = port.to_le_bytes();
    if to.send(&announced).await.is_err() || error.send(&announced).await.is_err() {
        return;
    }
    let message = match forwarder.connect(port).await {
        Ok(pod) => match relay(pod, from, to, gone).await {
            Ok(()) => return,
            // Only a client that is still there hears of it.
            Err(Gone) => format!("the connection to port {port} was ended: the pod read nothing of it for long"),
        },
        Err(message) => message,
    };
    tracing::debug!(message, "a port was not forwarded, or not to its end");
    let _ = error.send(message.as_bytes()).await;
}

/// What a client says to one port, as far as its pod takes it. Dropped, the port is given up.
pub(super) struct Input {
    bytes: DuplexStream,
    _given_up: oneshot::Sender<()>,
}

/// The two ends of what a client says, and what returns when the first of them is dropped.
pub(super) fn input() -> (Input, From, impl Future<Output = ()> + Send + use<>) {
    let (bytes, from) = tokio::io::duplex(HELD);
    let (given_up, gone) = oneshot::channel();
    let input = Input {
        bytes,
        _given_up: given_up,
    };
    let gone = async move {
        let _ = gone.await;
    };
    (input, From(from), gone)
}

impl Input {
    /// Waits until the port has taken all but what fits.
    ///
    /// # Errors
    /// It is gone, or has taken nothing for `patience`.
    pub(super) async fn say(&mut self, mut bytes: &[u8], patience: Duration) -> Result<(), Gone> {
        while !bytes.is_empty() {
            match tokio::time::timeout(patience, self.bytes.write(bytes)).await {
                Ok(Ok(said @ 1..)) => bytes = &bytes[said..],
                _ => return Err(Gone),
            }
        }
        Ok(())
    }
}

pub(super) struct From(DuplexStream);

impl FromClient for From {
    async fn read(&mut self) -> Result<Option<Bytes>, Gone> {
        let mut block = BytesMut::with_capacity(BLOCK);
        match self.0.read_buf(&mut block).await {
            Ok(1..) => Ok(Some(block.freeze())),
            _ => Err(Gone),
        }
    }
}

#[derive(Clone)]
struct To {
    out: mpsc::Sender<Message>,
    channel: u8,
    encoding: Encoding,
}

impl To {
    async fn send(&self, bytes: &[u8]) -> Result<(), Gone> {
        let message = self.encoding.wrap(self.channel, bytes);
        self.out.send(message).await.map_err(|_| Gone)
    }
}

impl ToClient for To {
    async fn write(&mut self, bytes: Bytes) -> Result<(), Gone> {
        self.send(&bytes).await
    }

    /// There is no way to say it but to end.
    async fn finish(&mut self) {}
}
