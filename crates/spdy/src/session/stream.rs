//! One stream: what its owner reads and writes.

use super::inbox::{End, Inbox};
use super::{Reset, Shared};
use crate::frame::{Frame, LONGEST_DATA, reset};
use crate::headers::Headers;
use bytes::Bytes;
use std::sync::Arc;

/// A stream the peer wants to open.
pub struct Offer(pub(super) Stream);

impl Offer {
    pub fn headers(&self) -> &Headers {
        &self.0.headers
    }

    pub fn id(&self) -> u32 {
        self.0.id
    }

    /// # Errors
    /// The connection is over.
    pub async fn accept(self) -> Result<Stream, Reset> {
        let reply = Frame::SynReply {
            stream: self.0.id,
            fin: false,
            headers: Headers::default(),
        };
        self.0.writer.shared.send(reply).await?;
        Ok(self.0)
    }

    pub fn refuse(self) {
        self.0.writer.reset(reset::REFUSED_STREAM);
    }
}

/// An open stream, in both directions.
pub struct Stream {
    pub id: u32,
    pub headers: Headers,
    pub reader: Reader,
    pub writer: Writer,
}

impl Stream {
    pub(super) fn new(id: u32, headers: Headers, shared: Arc<Shared>, inbox: Arc<Inbox>) -> Self {
        let reader = Reader {
            id,
            shared: shared.clone(),
            inbox,
        };
        let finished = false;
        let writer = Writer { id, shared, finished };
        Self {
            id,
            headers,
            reader,
            writer,
        }
    }
}

/// What the peer sends. Dropped before the end, the rest is thrown away; once this side has finished as well, nobody here has an
/// interest in the stream, and it is reset.
pub struct Reader {
    id: u32,
    shared: Arc<Shared>,
    inbox: Arc<Inbox>,
}

impl Reader {
    /// The next bytes; `None` when the peer has finished, reset the stream, or is gone. Nothing is lost when it is
    /// dropped while it waits.
    pub async fn read(&mut self) -> Option<Bytes> {
        let bytes = self.inbox.next().await?;
        self.shared.taken(self.id, bytes.len());
        Some(bytes)
    }

    /// After the end: whether it came because the stream is no more, rather than because the peer has nothing to add.
    pub fn was_reset(&self) -> bool {
        self.inbox.ended() == Some(End::Reset)
    }

    /// Returns when the stream is no more: reset by either side, or gone with the connection. A stream that both sides finish
    /// comes to its end without it.
    pub fn cancelled(&self) -> impl Future<Output = ()> + Send + use<> {
        let inbox = self.inbox.clone();
        async move { inbox.reset().await }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let left = self.inbox.abandon();
        if left > 0 {
            self.shared.taken(self.id, left);
        }
        self.shared.unread(self.id);
    }
}

/// What goes to the peer. Dropped before [`Writer::finish`], it resets the stream.
pub struct Writer {
    id: u32,
    shared: Arc<Shared>,
    finished: bool,
}

impl Writer {
    /// Sends bytes as far as the peer has room for them, and waits for the rest.
    ///
    /// # Errors
    /// The stream or the connection is gone.
    pub async fn write(&mut self, mut bytes: Bytes) -> Result<(), Reset> {
        while !bytes.is_empty() {
            let room = self.room(bytes.len().min(LONGEST_DATA)).await?;
            let frame = Frame::Data {
                stream: self.id,
                fin: false,
                bytes: bytes.split_to(room),
            };
            self.shared.send(frame).await?;
        }
        Ok(())
    }

    /// Waits until something may be sent and takes up to `wanted` bytes of it.
    async fn room(&self, wanted: usize) -> Result<usize, Reset> {
        let shared = &*self.shared;
        loop {
            let changed = shared.changed.notified();
            {
                let mut state = shared.state.lock();
                let (counts, of_all) = (state.peer_counts, state.window);
                let entry = state
                    .open
                    .get_mut(&self.id)
                    .filter(|entry| !entry.finished)
                    .ok_or(Reset)?;
                let wanted = i64::try_from(wanted).unwrap_or(i64::MAX);
                let room = if counts {
                    wanted.min(entry.window).min(of_all)
                } else {
                    wanted
                };
                if room > 0 {
                    entry.window -= room;
                    state.window -= room;
                    return Ok(usize::try_from(room).unwrap_or_default());
                }
            }
            changed.await;
        }
    }

    /// There is nothing more to come from this side.
    ///
    /// # Errors
    /// The stream or the connection is gone.
    pub async fn finish(mut self) -> Result<(), Reset> {
        let place = self.shared.out.reserve().await.map_err(|_| Reset)?;
        {
            let mut state = self.shared.state.lock();
            if !state.open.contains_key(&self.id) {
                return Err(Reset);
            }
            place.send(Frame::Data {
                stream: self.id,
                fin: true,
                bytes: Bytes::new(),
            });
            self.finished = true;
            state.change(self.id, |entry| entry.finished = true);
        }
        self.shared.changed.notify_waiters();
        Ok(())
    }

    /// Ends the stream in both directions, now.
    pub fn reset(mut self, status: u32) {
        self.finished = true;
        self.shared.cancel(self.id, status);
    }

    /// Returns when the stream is gone in both directions: reset, or finished by both.
    pub async fn gone(&self) {
        loop {
            let changed = self.shared.changed.notified();
            if !self.shared.state.lock().open.contains_key(&self.id) {
                return;
            }
            changed.await;
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.finished {
            self.shared.cancel(self.id, reset::CANCEL);
        }
    }
}
