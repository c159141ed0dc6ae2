//! The reading side of a connection.

use super::{Error, MAX_STREAMS, MOST_HELD, MOST_HELD_UNCOUNTED, Offer, Role, Shared, Stream, WINDOW};
use crate::frame::{Decoder, Frame, INITIAL_WINDOW_SIZE, LONGEST_DATA, reset};
use crate::headers::Headers;
use bytes::{Bytes, BytesMut};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;
use tokio::time::Instant;

pub(super) struct Input<'a> {
    shared: &'a Arc<Shared>,
    role: Role,
    stall: Option<Duration>,
    offers: mpsc::Sender<Offer>,
    decoder: Decoder,
    buffer: BytesMut,
}

/// There is no room for a piece of data.
#[derive(Clone, Copy, Debug)]
struct Full {
    /// The stream whose reader could make some.
    by: u32,
    /// What waits for it.
    held: usize,
}

impl<'a> Input<'a> {
    pub(super) fn new(
        shared: &'a Arc<Shared>,
        role: Role,
        stall: Option<Duration>,
        offers: mpsc::Sender<Offer>,
    ) -> Self {
        Self {
            shared,
            role,
            stall,
            offers,
            decoder: Decoder::default(),
            buffer: BytesMut::new(),
        }
    }

    pub(super) async fn run(&mut self, io: &mut (impl AsyncRead + Unpin)) -> Result<(), Error> {
        loop {
            while let Some(frame) = self.decoder.decode(&mut self.buffer)? {
                self.take(frame).await;
            }
            self.buffer.reserve(LONGEST_DATA);
            if io.read_buf(&mut self.buffer).await? == 0 {
                return Ok(());
            }
            self.shared.state.lock().active = Instant::now();
        }
    }

    async fn take(&mut self, frame: Frame) {
        match frame {
            Frame::SynStream {
                stream,
                fin,
                unidirectional,
                headers,
                ..
            } => self.opened(stream, fin, unidirectional, headers).await,
            Frame::SynReply { stream, fin, .. } => {
                self.shared.state.lock().change(stream, |entry| {
                    let _ = entry.reply.take().map(|reply| reply.send(()));
                });
                if fin {
                    self.finished(stream);
                }
            }
            Frame::Headers { stream, fin: true, .. } => self.finished(stream),
            Frame::Headers { .. } => {}
            Frame::RstStream { stream, .. } => {
                self.shared.state.lock().reset(stream);
                self.shared.wake.notify_one();
                self.shared.changed.notify_waiters();
            }
            Frame::Settings { values } => self.settings(&values),
            Frame::WindowUpdate { stream, delta } => self.window(stream, delta.into()),
            // Ours are answers; and an even number is a server's.
            Frame::Ping { id } if (id % 2 == 0) == (self.role == Role::Client) => {
                let _ = self.shared.send(Frame::Ping { id }).await;
            }
            Frame::Ping { .. } => {}
            Frame::GoAway { .. } => {
                self.shared.state.lock().leaving = true;
                self.shared.changed.notify_waiters();
            }
            Frame::Data { stream, fin, bytes } => {
                if !bytes.is_empty() {
                    self.data(stream, bytes).await;
                }
                if fin {
                    self.finished(stream);
                }
            }
        }
    }

    async fn opened(&mut self, stream: u32, fin: bool, unidirectional: bool, headers: Headers) {
        let refused = {
            let mut state = self.shared.state.lock();
            let is_peers = (stream % 2 == 1) == (self.role == Role::Server);
            if !is_peers || stream <= state.last_of_peer {
                Some(reset::PROTOCOL_ERROR)
            } else {
                state.last_of_peer = stream;
                // With those that wait to be reset: else a peer that opens and never reads has any number of them.
                let full = state.leaving || state.open.len() + state.cancelled.len() >= MAX_STREAMS;
                full.then_some(reset::REFUSED_STREAM)
            }
        };
        if let Some(status) = refused {
            let _ = self.shared.send(Frame::RstStream { stream, status }).await;
            return;
        }
        let inbox = {
            let mut state = self.shared.state.lock();
            let inbox = state.enter(stream, None);
            state.change(stream, |entry| entry.finished = unidirectional);
            if fin {
                state.hear_end(stream);
            }
            inbox
        };
        let offer = Offer(Stream::new(stream, headers, self.shared.clone(), inbox));
        // Nobody takes streams any more: dropping the offer resets it.
        let _ = self.offers.send(offer).await;
    }

    /// Hands data to its stream. While there is no room for it nothing else is read, for not to read is the only way to have
    /// a peer wait that keeps no windows.
    async fn data(&self, stream: u32, bytes: Bytes) {
        let mut stalled: Option<(Full, Instant)> = None;
        loop {
            let drained = self.shared.drained.notified();
            let Err(full) = self.place(stream, &bytes) else { return };
            let since = match stalled {
                Some((before, since)) if before.by == full.by && before.held <= full.held => since,
                _ => Instant::now(),
            };
            stalled = Some((full, since));
            let Some(stall) = self.stall else {
                drained.await;
                continue;
            };
            if tokio::time::timeout_at(since + stall, drained).await.is_err() {
                self.shared.cancel(full.by, reset::CANCEL);
            }
        }
    }

    /// Puts data where its reader finds it, or throws it away when there is none.
    fn place(&self, stream: u32, bytes: &Bytes) -> Result<(), Full> {
        let length = bytes.len();
        let mut state = self.shared.state.lock();
        let (counts, of_all) = (state.peer_counts, state.held);
        // Of a stream that is there, and was not reset or finished a moment ago.
        let entry = state.open.get(&stream).filter(|entry| !entry.heard);
        if let Some(entry) = entry {
            let held = entry.inbox.held();
            if counts && held + length > WINDOW as usize {
                drop(state);
                self.shared.cancel(stream, reset::FLOW_CONTROL_ERROR);
                state = self.shared.state.lock();
            } else if held > 0 && held + length > MOST_HELD_UNCOUNTED {
                return Err(Full { by: stream, held });
            } else if of_all > 0 && of_all + length > MOST_HELD {
                let others = state.open.iter().map(|(id, entry)| (entry.inbox.held(), *id));
                // It may be that none of those is open any more whose bytes still wait.
                let (held, by) = others.max().filter(|(held, _)| *held > 0).unwrap_or((held, stream));
                return Err(Full { by, held });
            } else if entry.inbox.push(bytes.clone()) {
                state.held += length;
                return Ok(());
            }
        }
        if state.taken(stream, length) {
            self.shared.wake.notify_one();
        }
        Ok(())
    }

    fn finished(&self, stream: u32) {
        self.shared.state.lock().hear_end(stream);
        self.shared.changed.notify_waiters();
    }

    fn settings(&self, values: &[(u32, u32)]) {
        let window = values.iter().find(|(id, _)| *id == INITIAL_WINDOW_SIZE);
        let Some((_, window)) = window else { return };
        let mut state = self.shared.state.lock();
        state.peer_counts = true;
        let change = i64::from(*window) - state.initial_window;
        state.initial_window = (*window).into();
        for entry in state.open.values_mut() {
            entry.window += change;
        }
        drop(state);
        self.shared.changed.notify_waiters();
    }

    fn window(&self, stream: u32, delta: i64) {
        let mut state = self.shared.state.lock();
        state.peer_counts = true;
        match stream {
            0 => state.window += delta,
            stream => {
                if let Some(entry) = state.open.get_mut(&stream) {
                    entry.window += delta;
                }
            }
        }
        drop(state);
        self.shared.changed.notify_waiters();
    }
}
