//! A connection with its streams, for either side.
//!
//! ```text
//!   peer ──▶ read loop ──▶ one bounded queue per stream ──▶ Reader
//!   peer ◀── write loop ◀── one bounded queue of frames ◀── Writer (waits for windows where the peer has some)
//! ```
//!
//! The read loop waits for a stream whose queue is full, and the other streams with it: peers without flow control leave nothing
//! else, but to hold any amount. Peers that count are told of room as a stream is read, and never meet this.

mod stream;

use crate::frame::{self, Decoder, Encoder, Frame, INITIAL_WINDOW_SIZE, LONGEST_DATA, reset};
use crate::headers::Headers;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

pub use stream::{Offer, Reader, Stream, Writer};

/// Streams a peer may have open at once; more are refused.
pub const MAX_STREAMS: usize = 1000;
/// Pieces of data that wait for the reader of a stream.
const WAITING_PIECES: usize = 8;
/// New streams that wait to be taken.
const WAITING_STREAMS: usize = 16;
/// Frames that wait to be written.
const WAITING_FRAMES: usize = 32;
/// Bytes encoded before they are written.
const BATCH: usize = 64 << 10;
/// What both sides may send before they are told of more room; the draft's number.
const WINDOW: i64 = 64 << 10;
/// The peer is told of room when this much was taken.
const WINDOW_STEP: u32 = 32 << 10;
/// How long a peer may take to answer for a new stream; client-go's number.
const REPLY: Duration = Duration::from_secs(30);
/// How long the peer may take to hang up.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long streams may stay open after this side said goodbye. Go's clients forget what they have not handled yet when the
/// connection closes, so it is theirs to close.
const GOODBYE: Duration = Duration::from_secs(30);

/// Why a connection ended, if not by either side's wish.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("the connection broke")]
    Io(#[from] io::Error),
    #[error("the peer does not speak SPDY as it should")]
    Frame(#[from] frame::Error),
    #[error("nothing was said for {0:?}")]
    Idle(Duration),
}

/// The stream or its connection is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stream was reset")]
pub struct Reset;

/// Which side opens streams with odd numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Client,
    Server,
}

/// The caller's hold on a connection. Cheap to clone.
#[derive(Clone)]
pub struct Session(Arc<Shared>);

/// The streams that the peer opens.
pub struct Incoming(mpsc::Receiver<Offer>);

impl Incoming {
    /// The next one; `None` when the connection is over.
    pub async fn next(&mut self) -> Option<Offer> {
        self.0.recv().await
    }
}

struct Shared {
    out: mpsc::Sender<Frame>,
    state: Mutex<State>,
    /// Windows, streams or the connection changed.
    changed: Notify,
    /// [`State::cancelled`] or [`State::owed`] has something for the write loop.
    wake: Notify,
    /// Streams go out in the order of their numbers.
    opening: tokio::sync::Mutex<()>,
}

struct State {
    open: HashMap<u32, Entry>,
    next_own: u32,
    last_of_peer: u32,
    /// No new streams: one of the sides said goodbye.
    leaving: bool,
    closed: bool,
    /// The peer has shown that it keeps windows.
    peer_counts: bool,
    initial_window: i64,
    /// What may be sent on the connection as a whole.
    window: i64,
    /// Taken by readers and not yet told to the peer.
    taken: u32,
    /// Streams that were dropped and whose reset has to be told. No more than there were streams.
    cancelled: Vec<u32>,
    /// Room that the peer has to be told of, one entry per stream; 0 is the connection.
    owed: HashMap<u32, u32>,
    active: Instant,
}

struct Entry {
    /// `None` once the peer has finished.
    incoming: Option<mpsc::Sender<Bytes>>,
    /// This side has finished.
    finished: bool,
    window: i64,
    taken: u32,
    reply: Option<oneshot::Sender<()>>,
}

impl Entry {
    fn over(&self) -> bool {
        self.finished && self.incoming.is_none()
    }
}

/// Runs SPDY on a connection that was upgraded to it. The future is the connection: it has to be polled, and ends with it, or when
/// nothing was said for `idle`.
pub fn start<T>(
    io: T,
    role: Role,
    idle: Duration,
) -> (
    Session,
    Incoming,
    impl Future<Output = Result<(), Error>> + Send + use<T>,
)
where
    T: AsyncRead + AsyncWrite + Send + 'static,
{
    let (out, frames) = mpsc::channel(WAITING_FRAMES);
    let (offers, incoming) = mpsc::channel(WAITING_STREAMS);
    let state = State {
        open: HashMap::new(),
        next_own: if role == Role::Client { 1 } else { 2 },
        last_of_peer: 0,
        leaving: false,
        closed: false,
        peer_counts: false,
        initial_window: WINDOW,
        window: WINDOW,
        taken: 0,
        cancelled: Vec::new(),
        owed: HashMap::new(),
        active: Instant::now(),
    };
    let shared = Arc::new(Shared {
        out,
        state: Mutex::new(state),
        changed: Notify::new(),
        wake: Notify::new(),
        opening: tokio::sync::Mutex::new(()),
    });
    let session = Session(shared.clone());
    let connection = async move {
        let _ended = Ended(shared.clone());
        let (mut reader, mut writer) = tokio::io::split(io);
        let mut input = Input {
            shared: &shared,
            role,
            offers,
            decoder: Decoder::default(),
            buffer: BytesMut::new(),
        };
        let ended = tokio::select! {
            ended = input.run(&mut reader, idle) => ended,
            ended = write(&shared, &mut writer, frames) => ended.map_err(Error::from),
        };
        drop(input);
        shared.end();
        // A peer that still sends would lose what it has not read yet to our hanging up on it.
        let farewell = async {
            let _ = writer.shutdown().await;
            let mut rest = [0; 1024];
            while matches!(reader.read(&mut rest).await, Ok(1..)) {}
        };
        let _ = tokio::time::timeout(FAREWELL, farewell).await;
        ended
    };
    (session, Incoming(incoming), connection)
}

/// Wakes whoever waits when the connection's future is dropped.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Session {
    /// Opens a stream and waits for the peer's answer.
    ///
    /// # Errors
    /// The peer refuses, does not answer, or the connection is over.
    pub async fn open(&self, headers: Headers) -> Result<Stream, Reset> {
        let (reply, replied) = oneshot::channel();
        let turn = self.0.opening.lock().await;
        let (id, incoming) = {
            let mut state = self.0.state.lock();
            if state.leaving || state.closed {
                return Err(Reset);
            }
            let id = state.next_own;
            state.next_own = id.checked_add(2).filter(|next| *next < 1 << 31).ok_or(Reset)?;
            (id, state.enter(id, Some(reply)))
        };
        let stream = Stream::new(id, headers.clone(), self.0.clone(), incoming);
        let frame = Frame::SynStream {
            stream: id,
            associated: 0,
            priority: 0,
            fin: false,
            unidirectional: false,
            headers,
        };
        self.0.send(frame).await?;
        drop(turn);
        match tokio::time::timeout(REPLY, replied).await {
            Ok(Ok(())) => Ok(stream),
            _ => Err(Reset),
        }
    }

    /// Says goodbye: no new streams. The connection ends when the peer hangs up or every stream has come to its end.
    pub async fn close(&self) {
        let last_good_stream = {
            let mut state = self.0.state.lock();
            state.leaving = true;
            state.last_of_peer
        };
        let goodbye = Frame::GoAway {
            last_good_stream,
            status: 0,
        };
        let _ = self.0.send(goodbye).await;
    }

    /// Returns when the connection is over.
    pub async fn closed(&self) {
        loop {
            let changed = self.0.changed.notified();
            if self.0.state.lock().closed {
                return;
            }
            changed.await;
        }
    }
}

impl State {
    fn enter(&mut self, id: u32, reply: Option<oneshot::Sender<()>>) -> mpsc::Receiver<Bytes> {
        let (incoming, receiver) = mpsc::channel(WAITING_PIECES);
        let entry = Entry {
            incoming: Some(incoming),
            finished: false,
            window: self.initial_window,
            taken: 0,
            reply,
        };
        self.open.insert(id, entry);
        receiver
    }

    fn change(&mut self, id: u32, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.open.get_mut(&id) {
            change(entry);
            if entry.over() {
                self.open.remove(&id);
            }
        }
    }
}

impl Shared {
    async fn send(&self, frame: Frame) -> Result<(), Reset> {
        self.out.send(frame).await.map_err(|_| Reset)
    }

    fn end(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.open.clear();
        drop(state);
        self.changed.notify_waiters();
    }

    /// Forgets a stream and has the peer told so.
    fn cancel(&self, id: u32) {
        let mut state = self.state.lock();
        if state.open.remove(&id).is_some() {
            state.cancelled.push(id);
            drop(state);
            self.wake.notify_one();
        }
    }

    /// Bytes of a stream were taken: the peer may send as much again.
    fn taken(&self, id: u32, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let mut state = self.state.lock();
        let of_all = step(&mut state.taken, bytes);
        let of_stream = state.open.get_mut(&id).map_or(0, |entry| step(&mut entry.taken, bytes));
        for (stream, delta) in [(id, of_stream), (0, of_all)] {
            if delta > 0 {
                let owed = state.owed.entry(stream).or_default();
                *owed = owed.saturating_add(delta);
                self.wake.notify_one();
            }
        }
    }
}

/// Adds to what was taken; the sum, when it is time to tell.
fn step(taken: &mut u32, bytes: u32) -> u32 {
    *taken = taken.saturating_add(bytes);
    if *taken < WINDOW_STEP { 0 } else { std::mem::take(taken) }
}

/// Encodes and writes until this side has said goodbye and nothing is open any more.
async fn write(
    shared: &Shared,
    io: &mut (impl AsyncWrite + Unpin),
    mut frames: mpsc::Receiver<Frame>,
) -> io::Result<()> {
    let (mut encoder, mut batch) = (Encoder::default(), BytesMut::new());
    let mut goodbye: Option<Instant> = None;
    loop {
        let changed = shared.changed.notified();
        if goodbye.is_some() && shared.state.lock().open.is_empty() {
            return Ok(());
        }
        let mut next = tokio::select! {
            frame = frames.recv() => frame,
            () = shared.wake.notified() => frames.try_recv().ok(),
            () = changed, if goodbye.is_some() => None,
            () = tokio::time::sleep_until(goodbye.unwrap_or_else(Instant::now)), if goodbye.is_some() => return Ok(()),
        };
        while let Some(frame) = next {
            if matches!(frame, Frame::GoAway { .. }) {
                goodbye = Some(Instant::now() + GOODBYE);
            }
            encoder.encode(&frame, &mut batch);
            next = match batch.len() >= BATCH {
                true => None,
                false => frames.try_recv().ok(),
            };
        }
        let (cancelled, owed) = {
            let mut state = shared.state.lock();
            // A stream's reset comes after what was said on it.
            let cancelled = match frames.is_empty() {
                true => std::mem::take(&mut state.cancelled),
                false => Vec::new(),
            };
            (cancelled, std::mem::take(&mut state.owed))
        };
        for (stream, delta) in owed {
            encoder.encode(&Frame::WindowUpdate { stream, delta }, &mut batch);
        }
        for stream in cancelled {
            let status = reset::CANCEL;
            encoder.encode(&Frame::RstStream { stream, status }, &mut batch);
        }
        io.write_all(&batch).await?;
        io.flush().await?;
        batch.clear();
        shared.state.lock().active = Instant::now();
    }
}

/// The reading side of a connection.
struct Input<'a> {
    shared: &'a Arc<Shared>,
    role: Role,
    offers: mpsc::Sender<Offer>,
    decoder: Decoder,
    buffer: BytesMut,
}

impl Input<'_> {
    async fn run(&mut self, io: &mut (impl AsyncRead + Unpin), idle: Duration) -> Result<(), Error> {
        loop {
            while let Some(frame) = self.decoder.decode(&mut self.buffer)? {
                self.take(frame).await;
            }
            self.buffer.reserve(LONGEST_DATA);
            if self.read(io, idle).await? == 0 {
                return Ok(());
            }
        }
    }

    /// Reads; what is written meanwhile is a sign of life too.
    async fn read(&mut self, io: &mut (impl AsyncRead + Unpin), idle: Duration) -> Result<usize, Error> {
        self.shared.state.lock().active = Instant::now();
        loop {
            let until = self.shared.state.lock().active + idle;
            match tokio::time::timeout_at(until, io.read_buf(&mut self.buffer)).await {
                Ok(read) => return Ok(read?),
                Err(_) if self.shared.state.lock().active + idle > until => {}
                Err(_) => return Err(Error::Idle(idle)),
            }
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
                    if fin {
                        entry.incoming = None;
                    }
                });
            }
            Frame::Headers { stream, fin: true, .. } => self.finished(stream),
            Frame::Headers { .. } => {}
            Frame::RstStream { stream, .. } => {
                self.shared.state.lock().open.remove(&stream);
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
                let full = state.leaving || state.open.len() >= MAX_STREAMS;
                full.then_some(reset::REFUSED_STREAM)
            }
        };
        if let Some(status) = refused {
            let _ = self.shared.send(Frame::RstStream { stream, status }).await;
            return;
        }
        let incoming = {
            let mut state = self.shared.state.lock();
            let incoming = state.enter(stream, None);
            state.change(stream, |entry| {
                entry.finished = unidirectional;
                if fin {
                    entry.incoming = None;
                }
            });
            incoming
        };
        let offer = Offer(Stream::new(stream, headers, self.shared.clone(), incoming));
        // Nobody takes streams any more: dropping the offer resets it.
        let _ = self.offers.send(offer).await;
    }

    async fn data(&mut self, stream: u32, bytes: Bytes) {
        let length = bytes.len();
        let incoming = self
            .shared
            .state
            .lock()
            .open
            .get(&stream)
            .and_then(|entry| entry.incoming.clone());
        let taken = match incoming {
            Some(incoming) => incoming.send(bytes).await.is_err(),
            // Of a stream that was reset a moment ago.
            None => true,
        };
        if taken {
            self.shared.taken(stream, length);
        }
    }

    fn finished(&self, stream: u32) {
        self.shared.state.lock().change(stream, |entry| entry.incoming = None);
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

#[cfg(test)]
mod tests;
