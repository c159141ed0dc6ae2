//! A connection with its streams, for either side.
//!
//! ```text
//!   peer ──▶ read loop ──▶ one inbox per stream, bounded in bytes ──▶ Reader
//!   peer ◀── write loop ◀── one bounded queue of frames ◀── Writer (waits for windows where the peer has some)
//! ```
//!
//! What comes for a stream that nobody reads has to stay somewhere. Peers that count are told at once that we do too, of
//! `WINDOW` bytes for each stream and `MOST_HELD` for all: they hold back by themselves, and what they send in spite of it has
//! its stream reset. So one stream does not hold up another, until `MOST_HELD / WINDOW` of them stand full.
//!
//! Go's peers heed no windows (`github.com/moby/spdystream` reads such frames and drops them), and the only thing that makes them
//! wait is that the connection is not read. A stream of theirs may hold `MOST_HELD_UNCOUNTED` bytes, as far as the connection's
//! budget goes; beyond that **the read loop waits, and all streams of the connection with it**, as they do in Go's own
//! implementation after some fifty frames. [`Patience::stall`] is how long; the stream is then reset.
//!
//! A connection ends when nothing was read or written for [`Patience::idle`], whatever either loop waits for, and when the peer
//! took nothing of what is written for as long, whatever it says.

mod inbox;
mod input;
mod output;
mod stream;

use crate::frame::{self, Frame, reset};
use crate::headers::Headers;
use inbox::{End, Inbox};
use input::Input;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

pub use stream::{Offer, Reader, Stream, Writer};

/// Streams that may be open at once, with those whose reset has not been sent yet; more are refused. A connection to a port has
/// two.
pub const MAX_STREAMS: usize = 512;
/// Bytes that wait for the readers of all streams together.
const MOST_HELD: usize = 4 << 20;
/// Bytes that wait for the reader of one stream, when the peer keeps no windows.
const MOST_HELD_UNCOUNTED: usize = 1 << 20;
/// New streams that wait to be taken.
const WAITING_STREAMS: usize = 16;
/// Frames that wait to be written.
const WAITING_FRAMES: usize = 32;
/// What may be sent before anybody tells of more room, on a stream and on all together; the draft's number.
const WINDOW: u32 = 64 << 10;
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

/// How long a connection waits for its peer, and for its own streams.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// The connection ends when nothing was said for this long.
    pub idle: Duration,
    /// A stream that nobody reads, and that holds up all others, is reset after this long; `None` when the streams are of one
    /// conversation, in which each may wait for the other.
    pub stall: Option<Duration>,
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
    /// A stream has more room, or is no more: for the read loop.
    drained: Notify,
    /// [`State::goodbye_ends`] was set.
    leaving: Notify,
}

struct State {
    open: HashMap<u32, Entry>,
    next_own: u32,
    last_of_peer: u32,
    /// No new streams: one of the sides said goodbye.
    leaving: bool,
    /// Since this side said goodbye: when it has waited long enough.
    goodbye_ends: Option<Instant>,
    closed: bool,
    /// The peer has shown that it keeps windows.
    peer_counts: bool,
    initial_window: i64,
    /// What may be sent on the connection as a whole.
    window: i64,
    /// Taken by readers and not yet told to the peer.
    taken: u32,
    /// Bytes that wait in all inboxes.
    held: usize,
    /// Streams whose reset, with its status, the peer has yet to be told of. Together with the open ones no more than
    /// [`MAX_STREAMS`], but for our own.
    cancelled: Vec<(u32, u32)>,
    /// Room that the peer has to be told of, one entry per stream; 0 is the connection.
    owed: HashMap<u32, u32>,
    /// When something was read or written.
    active: Instant,
}

struct Entry {
    inbox: Arc<Inbox>,
    /// The peer has finished.
    heard: bool,
    /// This side has finished.
    finished: bool,
    window: i64,
    taken: u32,
    reply: Option<oneshot::Sender<()>>,
}

impl Entry {
    fn over(&self) -> bool {
        self.finished && self.heard
    }
}

/// Runs SPDY on a connection that was upgraded to it. The future is the connection: it has to be polled, and ends with it, or when
/// its patience does.
pub fn start<T>(
    io: T,
    role: Role,
    patience: Patience,
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
        goodbye_ends: None,
        closed: false,
        peer_counts: false,
        initial_window: WINDOW.into(),
        window: WINDOW.into(),
        taken: 0,
        held: 0,
        cancelled: Vec::new(),
        owed: HashMap::new(),
        active: Instant::now(),
    };
    let shared = Arc::new(Shared {
        out,
        state: Mutex::new(state),
        changed: Notify::new(),
        wake: Notify::new(),
        drained: Notify::new(),
        leaving: Notify::new(),
    });
    let session = Session(shared.clone());
    let connection = async move {
        let _ended = Ended(shared.clone());
        let (mut reader, mut writer) = tokio::io::split(io);
        let mut input = Input::new(&shared, role, patience.stall, offers);
        let ended = tokio::select! {
            ended = input.run(&mut reader) => ended,
            ended = output::run(&shared, &mut writer, frames, patience.idle) => ended,
            ended = watch(&shared, patience.idle) => ended,
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
        // First the place in the queue: streams go out in the order of their numbers, and none has a number but not gone out.
        let place = self.0.out.reserve().await.map_err(|_| Reset)?;
        let stream = {
            let mut state = self.0.state.lock();
            if state.leaving || state.closed {
                return Err(Reset);
            }
            let id = state.next_own;
            state.next_own = id.checked_add(2).filter(|next| *next < 1 << 31).ok_or(Reset)?;
            let inbox = state.enter(id, Some(reply));
            place.send(Frame::SynStream {
                stream: id,
                associated: 0,
                priority: 0,
                fin: false,
                unidirectional: false,
                headers: headers.clone(),
            });
            Stream::new(id, headers, self.0.clone(), inbox)
        };
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
            state.goodbye_ends.get_or_insert(Instant::now() + GOODBYE);
            state.last_of_peer
        };
        self.0.leaving.notify_one();
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
    fn enter(&mut self, id: u32, reply: Option<oneshot::Sender<()>>) -> Arc<Inbox> {
        let inbox = Arc::<Inbox>::default();
        let entry = Entry {
            inbox: inbox.clone(),
            heard: false,
            finished: false,
            window: self.initial_window,
            taken: 0,
            reply,
        };
        self.open.insert(id, entry);
        inbox
    }

    fn change(&mut self, id: u32, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.open.get_mut(&id) {
            change(entry);
            if entry.over() {
                self.forget(id);
            }
        }
    }

    /// The peer has nothing to add to a stream.
    fn hear_end(&mut self, id: u32) {
        self.change(id, |entry| {
            entry.heard = true;
            entry.inbox.end(End::Finished);
        });
    }

    /// A stream is no more, before both sides have finished it; what waited for its reader goes with it. False when there is none.
    fn reset(&mut self, id: u32) -> bool {
        let Some(entry) = self.forget(id) else { return false };
        entry.inbox.end(End::Reset);
        let left = entry.inbox.clear();
        self.held = self.held.saturating_sub(left);
        self.taken(id, left);
        true
    }

    fn forget(&mut self, id: u32) -> Option<Entry> {
        self.owed.remove(&id);
        self.open.remove(&id)
    }

    /// Bytes of a stream, or of one that is no more, were taken or thrown away: the peer may send as much again. Is it to be
    /// told?
    fn taken(&mut self, id: u32, bytes: usize) -> bool {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let of_all = step(&mut self.taken, bytes);
        let of_stream = self.open.get_mut(&id).map_or(0, |entry| step(&mut entry.taken, bytes));
        for (stream, delta) in [(id, of_stream), (0, of_all)] {
            if delta > 0 {
                let owed = self.owed.entry(stream).or_default();
                *owed = owed.saturating_add(delta);
            }
        }
        of_stream > 0 || of_all > 0
    }
}

impl Shared {
    async fn send(&self, frame: Frame) -> Result<(), Reset> {
        self.out.send(frame).await.map_err(|_| Reset)
    }

    fn end(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        for (_, entry) in state.open.drain() {
            entry.inbox.end(End::Reset);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Forgets a stream and has the peer told so.
    fn cancel(&self, id: u32, status: u32) {
        let mut state = self.state.lock();
        if state.reset(id) {
            state.cancelled.push((id, status));
            drop(state);
            self.wake.notify_one();
            self.drained.notify_one();
            self.changed.notify_waiters();
        }
    }

    /// A stream's reader is gone: if this side does not write either, so is the stream.
    fn unread(&self, id: u32) {
        let open = self
            .state
            .lock()
            .open
            .get(&id)
            .map(|entry| (entry.finished, entry.heard));
        if open == Some((true, false)) {
            self.cancel(id, reset::CANCEL);
        }
    }

    /// Bytes left an inbox.
    fn taken(&self, id: u32, bytes: usize) {
        let mut state = self.state.lock();
        state.held = state.held.saturating_sub(bytes);
        let tell = state.taken(id, bytes);
        drop(state);
        self.drained.notify_one();
        if tell {
            self.wake.notify_one();
        }
    }
}

/// Adds to what was taken; the sum, when it is time to tell.
fn step(taken: &mut u32, bytes: u32) -> u32 {
    *taken = taken.saturating_add(bytes);
    if *taken < WINDOW_STEP { 0 } else { std::mem::take(taken) }
}

/// Ends the connection when its time is up, whatever its two loops wait for: an error after nothing was said for `idle`, none
/// when streams stay open for long after our goodbye.
async fn watch(shared: &Shared, idle: Duration) -> Result<(), Error> {
    loop {
        let (idle_ends, goodbye_ends) = {
            let state = shared.state.lock();
            (state.active + idle, state.goodbye_ends)
        };
        let now = Instant::now();
        if goodbye_ends.is_some_and(|ends| ends <= now) {
            return Ok(());
        }
        if idle_ends <= now {
            return Err(Error::Idle(idle));
        }
        let next = goodbye_ends.map_or(idle_ends, |ends| ends.min(idle_ends));
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            () = shared.leaving.notified() => {}
        }
    }
}

#[cfg(test)]
mod tests;
