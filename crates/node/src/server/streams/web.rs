//! Remote command streams over WebSocket: `v5.channel.k8s.io` and `v4.channel.k8s.io`.
//!
//! Every binary message is a channel number and data: 0 stdin, 1 stdout, 2 stderr, 3 the final `Status`, 4 terminal sizes;
//! version 5 adds 255, which closes another channel.

use super::{Channels, DRAIN, Gone, Input, STDERR, STDOUT, Size, Wanted};
use crate::server::Refusal;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use bytes::{BufMut, Bytes, BytesMut};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use serde_json::Value;

const STDIN: u8 = 0;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// The version that was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Version {
    V4,
    V5,
}

/// The protocol, if the client offers one we speak.
pub(in crate::server) fn negotiate(upgrade: WebSocketUpgrade) -> Result<(WebSocketUpgrade, Version), Refusal> {
    let upgrade = upgrade.protocols(["v5.channel.k8s.io", "v4.channel.k8s.io"]);
    let selected = upgrade
        .selected_protocol()
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    match selected.as_deref() {
        Some("v5.channel.k8s.io") => Ok((upgrade, Version::V5)),
        Some(_) => Ok((upgrade, Version::V4)),
        None => Err(Refusal::bad_request(
            "unable to upgrade: v5.channel.k8s.io or v4.channel.k8s.io is needed",
        )),
    }
}

/// Takes the socket; tells the client that the session stands.
pub(in crate::server) async fn open(socket: WebSocket, wanted: &Wanted, version: Version) -> Channels {
    let (sink, stream) = socket.split();
    let mut sink = Sink(sink);
    let first = match (wanted.stdout, wanted.stderr) {
        (true, _) => STDOUT,
        (_, true) => STDERR,
        _ => ERROR,
    };
    let _ = sink.send(first, b"").await;
    Channels {
        source: super::Source::Web(Source { stream, version }),
        sink: super::Sink::Web(sink),
    }
}

pub(super) struct Source {
    stream: SplitStream<WebSocket>,
    version: Version,
}

impl Source {
    pub(super) async fn next(&mut self) -> Option<Input> {
        while let Some(Ok(message)) = self.stream.next().await {
            let data = match message {
                Message::Binary(data) => data,
                Message::Text(text) => Bytes::copy_from_slice(text.as_bytes()),
                Message::Close(_) => return None,
                Message::Ping(_) | Message::Pong(_) => continue,
            };
            match data.split_first() {
                Some((&STDIN, _)) => return Some(Input::Stdin(data.slice(1..))),
                Some((&RESIZE, bytes)) => {
                    if let Ok(size) = serde_json::from_slice::<Size>(bytes) {
                        return Some(Input::Size(size));
                    }
                }
                Some((&CLOSE, bytes)) if self.version == Version::V5 && bytes == [STDIN] => {
                    return Some(Input::StdinEnd);
                }
                _ => {}
            }
        }
        None
    }
}

pub(super) struct Sink(SplitSink<WebSocket, Message>);

impl Sink {
    pub(super) async fn send(&mut self, channel: u8, data: &[u8]) -> Result<(), Gone> {
        let mut message = BytesMut::with_capacity(data.len() + 1);
        message.put_u8(channel);
        message.put_slice(data);
        self.0.send(Message::Binary(message.freeze())).await.map_err(|_| Gone)
    }

    pub(super) async fn finish(mut self, status: &Value, mut source: Source) {
        let _ = self.send(ERROR, status.to_string().as_bytes()).await;
        // Without a code clients take the end for a broken connection.
        let close = CloseFrame {
            code: close_code::NORMAL,
            reason: "".into(),
        };
        let _ = self.0.send(Message::Close(Some(close))).await;
        // The client's close completes the hand-shake; without it the connection would be reset under the last bytes.
        let _ = tokio::time::timeout(DRAIN, async { while let Some(Ok(_)) = source.stream.next().await {} }).await;
    }
}
