//! What has come for one stream and waits for its reader.
//!
//! It is counted in bytes, because windows are. So that a byte counts for what it costs, small pieces are put together: one frame
//! may have a single byte, and a piece of the connection's buffer keeps all of that buffer.

use crate::frame::LONGEST_DATA;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use std::collections::VecDeque;
use tokio::sync::Notify;

/// Shorter pieces are copied, together with their neighbours.
const SMALL: usize = LONGEST_DATA / 2;

/// Why nothing more comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The peer has nothing to add.
    Finished,
    /// The stream, or its connection, is no more.
    Reset,
}

#[derive(Debug, Default)]
pub(super) struct Inbox {
    queue: Mutex<Queue>,
    /// Something came, or the end.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    pieces: VecDeque<Bytes>,
    /// Small pieces; they come after the others.
    small: BytesMut,
    held: usize,
    end: Option<End>,
    abandoned: bool,
}

impl Queue {
    fn push(&mut self, bytes: Bytes) {
        self.held += bytes.len();
        if bytes.len() < SMALL {
            self.small.extend_from_slice(&bytes);
        } else {
            self.close_small();
            self.pieces.push_back(bytes);
        }
        if self.small.len() >= LONGEST_DATA {
            self.close_small();
        }
    }

    fn close_small(&mut self) {
        if !self.small.is_empty() {
            self.pieces.push_back(std::mem::take(&mut self.small).freeze());
        }
    }

    fn pop(&mut self) -> Option<Bytes> {
        if self.pieces.is_empty() {
            self.close_small();
        }
        let bytes = self.pieces.pop_front()?;
        self.held -= bytes.len();
        Some(bytes)
    }

    fn clear(&mut self) -> usize {
        self.pieces.clear();
        self.small = BytesMut::new();
        std::mem::take(&mut self.held)
    }
}

impl Inbox {
    /// Bytes that wait.
    pub(super) fn held(&self) -> usize {
        self.queue.lock().held
    }

    /// False when nobody will ever read them.
    pub(super) fn push(&self, bytes: Bytes) -> bool {
        let mut queue = self.queue.lock();
        if queue.abandoned || queue.end.is_some() {
            return false;
        }
        queue.push(bytes);
        drop(queue);
        self.changed.notify_waiters();
        true
    }

    /// What came before can still be read, unless it is cleared. A reset may follow the finish.
    pub(super) fn end(&self, end: End) {
        let mut queue = self.queue.lock();
        if queue.end != Some(End::Reset) {
            queue.end = Some(end);
        }
        drop(queue);
        self.changed.notify_waiters();
    }

    pub(super) fn ended(&self) -> Option<End> {
        self.queue.lock().end
    }

    /// Throws away what waits; how many bytes those were.
    pub(super) fn clear(&self) -> usize {
        self.queue.lock().clear()
    }

    /// Nobody reads any more; as [`Inbox::clear`].
    pub(super) fn abandon(&self) -> usize {
        let mut queue = self.queue.lock();
        queue.abandoned = true;
        queue.clear()
    }

    /// The next bytes; `None` when no more will come. Nothing is lost when it is dropped while it waits.
    pub(super) async fn next(&self) -> Option<Bytes> {
        loop {
            let changed = self.changed.notified();
            {
                let mut queue = self.queue.lock();
                let next = queue.pop();
                if next.is_some() || queue.end.is_some() {
                    return next;
                }
            }
            changed.await;
        }
    }

    /// Returns when the stream is no more, and not before, whatever its peer has finished.
    pub(super) async fn reset(&self) {
        loop {
            let changed = self.changed.notified();
            if self.ended() == Some(End::Reset) {
                return;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pieces_become_large_ones_and_the_order_stays() {
        let mut queue = Queue::default();
        let mut said = Vec::new();
        for number in 0..3 * LONGEST_DATA {
            let length = if number == LONGEST_DATA / 2 { SMALL } else { 1 };
            let bytes = vec![number as u8; length];
            said.extend_from_slice(&bytes);
            queue.push(bytes.into());
        }
        assert_eq!(queue.held, said.len());
        assert!(queue.pieces.len() <= 5, "{} pieces", queue.pieces.len());
        let mut heard = Vec::new();
        while let Some(bytes) = queue.pop() {
            heard.extend_from_slice(&bytes);
        }
        assert_eq!(heard, said);
        assert_eq!(queue.held, 0);
    }

    #[test]
    fn a_small_piece_does_not_keep_the_buffer_it_came_in() {
        let mut queue = Queue::default();
        let buffer = Bytes::from(vec![0; 1 << 20]);
        queue.push(buffer.slice(..100));
        assert!(buffer.is_unique());
    }
}
