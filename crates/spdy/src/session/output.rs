//! The writing side of a connection.

use super::{Error, MOST_HELD, Shared, WINDOW};
use crate::frame::{Encoder, Frame};
use bytes::{Buf, BytesMut};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Bytes encoded before they are written.
const BATCH: usize = 64 << 10;

/// Encodes and writes until this side has said goodbye, nothing is open any more, and all that was said has been written.
pub(super) async fn run(
    shared: &Shared,
    io: &mut (impl AsyncWrite + Unpin),
    mut frames: mpsc::Receiver<Frame>,
    idle: Duration,
) -> Result<(), Error> {
    let (mut encoder, mut batch) = (Encoder::default(), BytesMut::new());
    let mut said_goodbye = false;
    // Before anything else, so that a peer which counts knows that we do when it sends its first bytes.
    let (stream, delta) = (0, MOST_HELD as u32 - WINDOW);
    encoder.encode(&Frame::WindowUpdate { stream, delta }, &mut batch);
    loop {
        write(shared, io, &mut batch, idle).await?;
        let changed = shared.changed.notified();
        if said_goodbye && nothing_left(shared, &frames) {
            return Ok(());
        }
        let mut next = tokio::select! {
            frame = frames.recv() => frame,
            () = shared.wake.notified() => frames.try_recv().ok(),
            () = changed, if said_goodbye => frames.try_recv().ok(),
        };
        let (cancelled, owed) = {
            let mut state = shared.state.lock();
            (std::mem::take(&mut state.cancelled), std::mem::take(&mut state.owed))
        };
        // A stream's reset comes after what was said on it, and that is in the queue already.
        let mut before_resets = if cancelled.is_empty() { 0 } else { frames.len() };
        while let Some(frame) = next {
            said_goodbye |= matches!(frame, Frame::GoAway { .. });
            encoder.encode(&frame, &mut batch);
            next = match batch.len() >= BATCH && before_resets == 0 {
                true => None,
                false => frames.try_recv().ok(),
            };
            before_resets = before_resets.saturating_sub(1);
        }
        for (stream, delta) in owed {
            encoder.encode(&Frame::WindowUpdate { stream, delta }, &mut batch);
        }
        for (stream, status) in cancelled {
            encoder.encode(&Frame::RstStream { stream, status }, &mut batch);
        }
    }
}

fn nothing_left(shared: &Shared, frames: &mpsc::Receiver<Frame>) -> bool {
    let state = shared.state.lock();
    state.open.is_empty() && state.cancelled.is_empty() && state.owed.is_empty() && frames.is_empty()
}

/// Writes all of a batch, as long as the peer takes some of it once in `idle`.
async fn write(
    shared: &Shared,
    io: &mut (impl AsyncWrite + Unpin),
    batch: &mut BytesMut,
    idle: Duration,
) -> Result<(), Error> {
    let late = |_| Error::Idle(idle);
    while batch.has_remaining() {
        let written = tokio::time::timeout(idle, io.write_buf(batch)).await.map_err(late)??;
        if written == 0 {
            return Err(io::Error::from(io::ErrorKind::WriteZero).into());
        }
        shared.state.lock().active = Instant::now();
    }
    tokio::time::timeout(idle, io.flush()).await.map_err(late)??;
    Ok(())
}
