//! Port-forward over SPDY: the client opens a pair of streams for every connection it accepts.

use super::{Forwarder, FromClient, Gone, STALL, ToClient, port, relay};
use crate::server::upgrade::{IDLE, STREAM_CREATION};
use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use bytes::{Bytes, BytesMut};
use catamaran_spdy::session::{Offer, Patience, Reader, Writer, start};
use catamaran_spdy::{Role, Stream};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use std::collections::HashMap;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Bytes between the WebSocket and SPDY inside it.
const TUNNEL: usize = 64 << 10;
/// The longest message we send.
const MESSAGE: usize = 32 << 10;
/// How long a client may take to answer our goodbye.
const FAREWELL: Duration = Duration::from_secs(2);

/// SPDY inside a WebSocket's messages.
pub(super) async fn tunnel(socket: WebSocket, forwarder: Forwarder) {
    let (near, far) = tokio::io::duplex(TUNNEL);
    let (sink, stream) = socket.split();
    let (reader, writer) = tokio::io::split(near);
    let messages = async { tokio::join!(inwards(stream, writer), outwards(sink, reader)) };
    tokio::pin!(messages);
    tokio::select! {
        _ = &mut messages => {}
        () = serve(far, forwarder) => {
            // What is left is a goodbye, for which a silent client has no more time than others.
            let _ = tokio::time::timeout(FAREWELL, messages).await;
        }
    }
}

/// What the client says, until it or the SPDY session ends.
async fn inwards(mut stream: SplitStream<WebSocket>, mut tunnel: WriteHalf<DuplexStream>) {
    while let Some(Ok(message)) = stream.next().await {
        match message {
            Message::Binary(bytes) => {
                if tunnel.write_all(&bytes).await.is_err() {
                    // Our goodbye is on its way; the client's answers it.
                    let rest = async { while let Some(Ok(_)) = stream.next().await {} };
                    let _ = tokio::time::timeout(FAREWELL, rest).await;
                    return;
                }
            }
            Message::Ping(_) | Message::Pong(_) => {}
            Message::Text(_) | Message::Close(_) => break,
        }
    }
    let _ = tunnel.shutdown().await;
}

async fn outwards(mut sink: SplitSink<WebSocket, Message>, mut tunnel: ReadHalf<DuplexStream>) {
    loop {
        let mut message = BytesMut::with_capacity(MESSAGE);
        match tunnel.read_buf(&mut message).await {
            Ok(1..) => {
                if sink.send(Message::Binary(message.freeze())).await.is_err() {
                    return;
                }
            }
            Ok(0) | Err(_) => break,
        }
    }
    let close = CloseFrame {
        code: close_code::NORMAL,
        reason: "".into(),
    };
    let _ = sink.send(Message::Close(Some(close))).await;
}

/// Serves a connection until the client leaves or has been silent for long.
pub(super) async fn serve(io: impl AsyncRead + AsyncWrite + Send + 'static, forwarder: Forwarder) {
    let patience = Patience {
        idle: IDLE,
        stall: Some(STALL),
    };
    let (session, mut incoming, connection) = start(io, Role::Server, patience);
    let accepting = async {
        let mut forwards = JoinSet::new();
        let mut waiting = Waiting::default();
        loop {
            let overdue = waiting.deadline();
            tokio::select! {
                offer = incoming.next() => {
                    let Some(offer) = offer else { break };
                    if let Some(pair) = waiting.take(offer).await {
                        forwards.spawn(forward(pair, forwarder.clone()));
                    }
                }
                Some(_) = forwards.join_next(), if !forwards.is_empty() => {}
                () = tokio::time::sleep_until(overdue.unwrap_or_else(Instant::now)), if overdue.is_some() => {
                    waiting.forget_overdue().await;
                }
            }
        }
    };
    let (_, ended) = tokio::join!(accepting, connection);
    drop(session);
    if let Err(error) = ended {
        tracing::debug!(error = crate::chain(&error), "a port-forward connection ended badly");
    }
}

/// The streams of one connection to a port.
struct Pair {
    port: u16,
    data: Stream,
    error: Stream,
}

async fn forward(pair: Pair, forwarder: Forwarder) {
    let Pair { port, data, mut error } = pair;
    match forwarder.connect(port).await {
        Ok(pod) => {
            let (to, gone) = (To(Some(data.writer)), data.reader.cancelled());
            if relay(pod, data.reader, to, gone).await.is_err() {
                tracing::debug!(port, "a client took back its connection to a port, or left");
            }
        }
        Err(message) => {
            tracing::debug!(message, "a port was not forwarded");
            let _ = error.writer.write(message.into()).await;
        }
    }
    // The client waits for the end of this one, whatever became of the other.
    let _ = error.writer.finish().await;
}

impl FromClient for Reader {
    async fn read(&mut self) -> Result<Option<Bytes>, Gone> {
        match Reader::read(self).await {
            None if self.was_reset() => Err(Gone),
            read => Ok(read),
        }
    }
}

struct To(Option<Writer>);

impl ToClient for To {
    async fn write(&mut self, bytes: Bytes) -> Result<(), Gone> {
        match &mut self.0 {
            Some(writer) => writer.write(bytes).await.map_err(|_| Gone),
            None => Err(Gone),
        }
    }

    async fn finish(&mut self) {
        if let Some(writer) = self.0.take() {
            let _ = writer.finish().await;
        }
    }
}

/// Streams whose counterpart has not come yet.
#[derive(Default)]
struct Waiting(HashMap<String, Half>);

struct Half {
    stream: Stream,
    is_error: bool,
    deadline: Instant,
}

impl Waiting {
    /// Takes a new stream; the pair, if it completes one.
    async fn take(&mut self, offer: Offer) -> Option<Pair> {
        let headers = offer.headers();
        let number = headers.get("port").and_then(|word| port(word).ok());
        let is_error = match headers.get("streamType") {
            Some("error") => Some(true),
            Some("data") => Some(false),
            _ => None,
        };
        let (Some(port), Some(is_error)) = (number, is_error) else {
            offer.refuse();
            return None;
        };
        let request = match headers.get("requestID") {
            Some(id) if !id.is_empty() => id.to_owned(),
            // Clients of old do not number their requests: an error stream comes right before its data stream.
            _ => (offer.id() - if is_error { 0 } else { 2.min(offer.id()) }).to_string(),
        };
        let stream = offer.accept().await.ok()?;
        let Some(mut other) = self.0.remove(&request) else {
            let half = Half {
                stream,
                is_error,
                deadline: Instant::now() + STREAM_CREATION,
            };
            self.0.insert(request, half);
            return None;
        };
        if other.is_error == is_error {
            let kind = if is_error { "error" } else { "data" };
            let message = format!("error processing stream for request {request}: {kind} stream already assigned");
            if is_error {
                let _ = other.stream.writer.write(message.into()).await;
            }
            self.0.insert(request, other);
            return None;
        }
        let (data, error) = match is_error {
            true => (other.stream, stream),
            false => (stream, other.stream),
        };
        Some(Pair { port, data, error })
    }

    fn deadline(&self) -> Option<Instant> {
        self.0.values().map(|half| half.deadline).min()
    }

    async fn forget_overdue(&mut self) {
        let now = Instant::now();
        let overdue: Vec<String> = self
            .0
            .iter()
            .filter(|(_, half)| half.deadline <= now)
            .map(|(request, _)| request.clone())
            .collect();
        for request in overdue {
            let Some(mut half) = self.0.remove(&request) else {
                continue;
            };
            if half.is_error {
                let message = format!("(request={request}) timed out waiting for streams");
                let _ = half.stream.writer.write(message.into()).await;
                let _ = half.stream.writer.finish().await;
            }
        }
    }
}
