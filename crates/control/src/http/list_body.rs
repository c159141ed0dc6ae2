//! The body of a list: written piece by piece as the connection takes it.
//!
//! A list of ten thousand objects is no reason for ten megabytes of memory, nor for a worker thread to be away for half a
//! second. So only the records are collected at once (they are shared), and each piece of the body is made when there is
//! room for it: by copying bytes where the objects are wanted whole, by rendering where they are not.

use crate::watch_cache::Record;
use bytes::{BufMut, Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Size of the pieces.
const CHUNK: usize = 64 << 10;

/// Appends one item.
pub(super) type WriteItem = Box<dyn FnMut(&Record, &mut BytesMut) + Send>;

pub(super) struct ListBody {
    head: Vec<u8>,
    items: std::vec::IntoIter<Arc<Record>>,
    write: WriteItem,
    separator: &'static [u8],
    end: &'static [u8],
    started: bool,
    done: bool,
    /// What is still to come, if that is known.
    left: Option<u64>,
}

impl ListBody {
    /// Items as they are: the length is known.
    pub(super) fn whole(head: Vec<u8>, records: Vec<Arc<Record>>, end: &'static [u8]) -> Self {
        let bytes: usize = records.iter().map(|record| record.bytes().len()).sum();
        let left = head.len() + bytes + records.len().saturating_sub(1) + end.len();
        let write = |record: &Record, out: &mut BytesMut| out.put_slice(record.bytes());
        ListBody {
            left: Some(left as u64),
            ..Self::rendered(head, records, end, Box::new(write))
        }
    }

    /// Items as `write` renders them, one behind the other, `length` bytes with everything around them.
    pub(super) fn sized(
        head: Vec<u8>,
        records: Vec<Arc<Record>>,
        end: &'static [u8],
        write: WriteItem,
        length: usize,
    ) -> Self {
        ListBody {
            separator: b"",
            left: Some(length as u64),
            ..Self::rendered(head, records, end, write)
        }
    }

    /// Items as `write` renders them.
    pub(super) fn rendered(head: Vec<u8>, records: Vec<Arc<Record>>, end: &'static [u8], write: WriteItem) -> Self {
        ListBody {
            head,
            items: records.into_iter(),
            write,
            separator: b",",
            end,
            started: false,
            done: false,
            left: None,
        }
    }
}

impl http_body::Body for ListBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        if this.done {
            return Poll::Ready(None);
        }
        let most = this
            .left
            .map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX));
        let mut chunk = BytesMut::with_capacity(most.min(CHUNK + CHUNK / 4));
        chunk.put_slice(&std::mem::take(&mut this.head));
        while chunk.len() < CHUNK {
            let Some(item) = this.items.next() else {
                chunk.put_slice(this.end);
                this.done = true;
                break;
            };
            if this.started {
                chunk.put_slice(this.separator);
            }
            this.started = true;
            (this.write)(&item, &mut chunk);
        }
        if let Some(left) = &mut this.left {
            *left = left.saturating_sub(chunk.len() as u64);
        }
        Poll::Ready(Some(Ok(Frame::data(chunk.freeze()))))
    }

    fn is_end_stream(&self) -> bool {
        self.done
    }

    fn size_hint(&self) -> SizeHint {
        match self.left {
            Some(left) => SizeHint::with_exact(left),
            None => SizeHint::new(),
        }
    }
}
