//! Port-forward over WebSocket channels: for every port of the request a channel for data and one for its error. The first
//! message on each is the port, in two bytes, low one first.

use super::{Forwarder, FromClient, Gone, ToClient, relay};
use crate::server::upgrade::IDLE;
use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub(super) const BINARY: &str = "v4.channel.k8s.io";
pub(super) const BASE64: &str = "v4.base64.channel.k8s.io";
/// Channels are numbered in one byte; in text they have one digit, but for these too there are 128 characters.
pub(super) const MAX_PORTS: usize = 100;
/// Messages that wait for the client, and for each port.
const WAITING: usize = 8;
const FAREWELL: Duration = Duration::from_secs(2);

/// How a message carries its channel and bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// A byte, and the bytes.
    Binary,
    /// A digit, and base64.
    Base64,
}

impl Encoding {
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

/// Serves until every port is done, or the client leaves.
pub(super) async fn serve(socket: WebSocket, ports: &[u16], encoding: Encoding, forwarder: Forwarder) {
    let (mut sink, mut stream) = socket.split();
    let (out, mut messages) = mpsc::channel(WAITING);
    let (mut inputs, mut forwards) = (Vec::new(), JoinSet::new());
    for (index, port) in ports.iter().enumerate() {
        let (input, from) = mpsc::channel(WAITING);
        inputs.push(Some(input));
        // There are no more than fit.
        let to = To {
            out: out.clone(),
            channel: u8::try_from(2 * index).unwrap_or(u8::MAX),
            encoding,
        };
        forwards.spawn(forward(*port, From(from), to, forwarder.clone()));
    }
    drop(out);
    let outwards = async {
        while let Some(message) = messages.recv().await {
            if sink.send(message).await.is_err() {
                return;
            }
        }
        let close = CloseFrame {
            code: close_code::NORMAL,
            reason: "".into(),
        };
        let _ = sink.send(Message::Close(Some(close))).await;
    };
    let inwards = async {
        while let Ok(Some(Ok(message))) = tokio::time::timeout(IDLE, stream.next()).await {
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
                && input.send(bytes).await.is_err()
            {
                *slot = None;
            }
        }
    };
    tokio::pin!(inwards);
    tokio::select! {
        () = &mut inwards => {}
        () = outwards => {
            let _ = tokio::time::timeout(FAREWELL, inwards).await;
        }
    }
    // Without the client nothing of this is of use.
    forwards.shutdown().await;
}

async fn forward(port: u16, from: From, to: To, forwarder: Forwarder) {
    let error = To {
        channel: to.channel + 1,
        ..to.clone()
    };
    let announced = port.to_le_bytes();
    if to.send(&announced).await.is_err() || error.send(&announced).await.is_err() {
        return;
    }
    match forwarder.connect(port).await {
        Ok(pod) => relay(pod, from, to).await,
        Err(message) => {
            tracing::debug!(message, "a port was not forwarded");
            let _ = error.send(message.as_bytes()).await;
        }
    }
}

struct From(mpsc::Receiver<Bytes>);

impl FromClient for From {
    async fn read(&mut self) -> Result<Option<Bytes>, Gone> {
        self.0.recv().await.map(Some).ok_or(Gone)
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
