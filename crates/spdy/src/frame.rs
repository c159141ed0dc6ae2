//! The wire format: bytes to frames and back. Pure.
//!
//! ```text
//!   control  1 version:15 type:16 │ flags:8 length:24 │ …          data  0 stream:31 │ flags:8 length:24 │ …
//! ```
//!
//! Data is given out as it comes, in pieces, so that no frame is ever held whole; what control frames may need is bounded.

use crate::headers::{self, Headers};
use bytes::{Buf, BufMut, Bytes, BytesMut};

const VERSION: u16 = 3;
const CONTROL: u32 = 1 << 31;
const STREAM_ID: u32 = CONTROL - 1;
const LENGTH: u32 = 0x00ff_ffff;
const HEAD: usize = 8;
const FIN: u8 = 1;
const UNIDIRECTIONAL: u8 = 2;
const PRIORITY_SHIFT: u8 = 5;

/// The longest control frame that is taken, in bytes after its head.
pub const LONGEST_CONTROL: usize = 64 << 10;
// What was read can be written again, and read by a peer like this one.
const _: () = assert!(headers::LONGEST_BLOCK + headers::OVERHEAD + BEFORE_HEADERS <= LONGEST_CONTROL);
/// Of a frame that opens a stream, what stands between its head and its headers.
const BEFORE_HEADERS: usize = 10;
/// The longest piece of data that is given out, or written as one frame.
pub const LONGEST_DATA: usize = 16 << 10;

/// Why bytes are not SPDY. Nothing after them can be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("frames of SPDY/{0} came, not of SPDY/3")]
    Version(u16),
    #[error("a control frame of {0} bytes is too long")]
    TooLong(usize),
    #[error("a frame of type {0} is malformed")]
    Malformed(u16),
    #[error("stream 0 does not exist")]
    NoStream,
    #[error("headers cannot be read")]
    Headers(#[from] headers::Error),
}

/// Why a stream was reset: the draft's numbers.
pub mod reset {
    pub const PROTOCOL_ERROR: u32 = 1;
    pub const INVALID_STREAM: u32 = 2;
    pub const REFUSED_STREAM: u32 = 3;
    pub const CANCEL: u32 = 5;
    pub const FLOW_CONTROL_ERROR: u32 = 7;
}

/// The setting that says how much may be sent on a new stream before any `WindowUpdate`.
pub const INITIAL_WINDOW_SIZE: u32 = 7;

mod kind {
    pub(super) const SYN_STREAM: u16 = 1;
    pub(super) const SYN_REPLY: u16 = 2;
    pub(super) const RST_STREAM: u16 = 3;
    pub(super) const SETTINGS: u16 = 4;
    pub(super) const PING: u16 = 6;
    pub(super) const GOAWAY: u16 = 7;
    pub(super) const HEADERS: u16 = 8;
    pub(super) const WINDOW_UPDATE: u16 = 9;
}

/// One frame, or a piece of a data frame. `fin`: the sender has nothing more for the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    SynStream {
        stream: u32,
        associated: u32,
        /// 0 (the highest) to 7.
        priority: u8,
        fin: bool,
        unidirectional: bool,
        headers: Headers,
    },
    SynReply {
        stream: u32,
        fin: bool,
        headers: Headers,
    },
    RstStream {
        stream: u32,
        status: u32,
    },
    /// Identifiers and values.
    Settings {
        values: Vec<(u32, u32)>,
    },
    Ping {
        id: u32,
    },
    GoAway {
        last_good_stream: u32,
        status: u32,
    },
    Headers {
        stream: u32,
        fin: bool,
        headers: Headers,
    },
    /// Stream 0 is the connection as a whole.
    WindowUpdate {
        stream: u32,
        delta: u32,
    },
    Data {
        stream: u32,
        fin: bool,
        bytes: Bytes,
    },
}

/// What is left of a frame whose head has been read.
#[derive(Clone, Copy, Debug)]
enum Rest {
    Data {
        stream: u32,
        fin: bool,
        left: usize,
    },
    /// Of a kind nobody here knows.
    Skipped {
        left: usize,
    },
}

/// Turns the bytes of one direction into frames.
#[derive(Debug, Default)]
pub struct Decoder {
    headers: headers::Reader,
    rest: Option<Rest>,
}

impl Decoder {
    /// The next frame, taken off the beginning of `buffer`; `None` when more bytes are needed.
    ///
    /// # Errors
    /// See [`Error`]; the connection cannot go on.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, Error> {
        loop {
            match self.rest.take() {
                Some(Rest::Data { stream, fin, left }) => return Ok(self.data(stream, fin, left, buffer)),
                Some(Rest::Skipped { left }) => {
                    let now = left.min(buffer.len());
                    buffer.advance(now);
                    if now < left {
                        self.rest = Some(Rest::Skipped { left: left - now });
                        return Ok(None);
                    }
                }
                None => {
                    let Some(head) = buffer.first_chunk::<HEAD>() else {
                        return Ok(None);
                    };
                    let mut head = &head[..];
                    let (first, second) = (head.get_u32(), head.get_u32());
                    let (flags, length) = ((second >> 24) as u8, (second & LENGTH) as usize);
                    if first & CONTROL == 0 {
                        let stream = existing(first)?;
                        buffer.advance(HEAD);
                        let fin = flags & FIN != 0;
                        if length == 0 {
                            let bytes = Bytes::new();
                            return Ok(Some(Frame::Data { stream, fin, bytes }));
                        }
                        self.rest = Some(Rest::Data {
                            stream,
                            fin,
                            left: length,
                        });
                        continue;
                    }
                    let (version, kind) = ((first >> 16) as u16 & 0x7fff, first as u16);
                    if version != VERSION {
                        return Err(Error::Version(version));
                    }
                    if !is_known(kind) {
                        buffer.advance(HEAD);
                        self.rest = Some(Rest::Skipped { left: length });
                        continue;
                    }
                    if length > LONGEST_CONTROL {
                        return Err(Error::TooLong(length));
                    }
                    if buffer.len() < HEAD + length {
                        return Ok(None);
                    }
                    buffer.advance(HEAD);
                    let payload = buffer.split_to(length);
                    return self.control(kind, flags, &payload).map(Some);
                }
            }
        }
    }

    fn data(&mut self, stream: u32, fin: bool, left: usize, buffer: &mut BytesMut) -> Option<Frame> {
        let now = left.min(buffer.len()).min(LONGEST_DATA);
        if now == 0 {
            self.rest = Some(Rest::Data { stream, fin, left });
            return None;
        }
        let bytes = buffer.split_to(now).freeze();
        let left = left - now;
        if left > 0 {
            self.rest = Some(Rest::Data { stream, fin, left });
        }
        let fin = fin && left == 0;
        Some(Frame::Data { stream, fin, bytes })
    }

    fn control(&mut self, kind: u16, flags: u8, mut payload: &[u8]) -> Result<Frame, Error> {
        let short = |_| Error::Malformed(kind);
        let fin = flags & FIN != 0;
        match kind {
            kind::SYN_STREAM => {
                let stream = existing(payload.try_get_u32().map_err(short)?)?;
                let associated = payload.try_get_u32().map_err(short)? & STREAM_ID;
                let priority = payload.try_get_u8().map_err(short)? >> PRIORITY_SHIFT;
                let _slot = payload.try_get_u8().map_err(short)?;
                Ok(Frame::SynStream {
                    stream,
                    associated,
                    priority,
                    fin,
                    unidirectional: flags & UNIDIRECTIONAL != 0,
                    headers: self.headers.read(payload)?,
                })
            }
            kind::SYN_REPLY => {
                let stream = existing(payload.try_get_u32().map_err(short)?)?;
                let headers = self.headers.read(payload)?;
                Ok(Frame::SynReply { stream, fin, headers })
            }
            kind::HEADERS => {
                let stream = existing(payload.try_get_u32().map_err(short)?)?;
                let headers = self.headers.read(payload)?;
                Ok(Frame::Headers { stream, fin, headers })
            }
            kind::RST_STREAM => {
                let stream = existing(payload.try_get_u32().map_err(short)?)?;
                let status = payload.try_get_u32().map_err(short)?;
                Ok(Frame::RstStream { stream, status })
            }
            kind::SETTINGS => {
                let count = payload.try_get_u32().map_err(short)? as usize;
                if payload.len() / 8 < count {
                    return Err(Error::Malformed(kind));
                }
                let values = (0..count).map(|_| (payload.get_u32() & LENGTH, payload.get_u32()));
                Ok(Frame::Settings {
                    values: values.collect(),
                })
            }
            kind::PING => Ok(Frame::Ping {
                id: payload.try_get_u32().map_err(short)?,
            }),
            kind::GOAWAY => Ok(Frame::GoAway {
                last_good_stream: payload.try_get_u32().map_err(short)? & STREAM_ID,
                status: payload.try_get_u32().map_err(short)?,
            }),
            _ => Ok(Frame::WindowUpdate {
                stream: payload.try_get_u32().map_err(short)? & STREAM_ID,
                delta: payload.try_get_u32().map_err(short)? & STREAM_ID,
            }),
        }
    }
}

fn is_known(kind: u16) -> bool {
    matches!(kind, kind::SYN_STREAM..=kind::SETTINGS | kind::PING..=kind::WINDOW_UPDATE)
}

fn existing(stream: u32) -> Result<u32, Error> {
    match stream & STREAM_ID {
        0 => Err(Error::NoStream),
        stream => Ok(stream),
    }
}

/// Turns frames into the bytes of one direction.
#[derive(Debug, Default)]
pub struct Encoder {
    headers: headers::Writer,
}

impl Encoder {
    /// Appends a frame. Data longer than a frame may have becomes several.
    pub fn encode(&mut self, frame: &Frame, out: &mut BytesMut) {
        match frame {
            Frame::SynStream {
                stream,
                associated,
                priority,
                fin,
                unidirectional,
                headers,
            } => {
                let block = self.headers.write(headers);
                let flags = flag(*fin, FIN) | flag(*unidirectional, UNIDIRECTIONAL);
                control(out, kind::SYN_STREAM, flags, BEFORE_HEADERS + block.len());
                out.put_u32(*stream);
                out.put_u32(*associated);
                out.put_u8(priority << PRIORITY_SHIFT);
                out.put_u8(0);
                out.put_slice(&block);
            }
            Frame::SynReply { stream, fin, headers } => self.headers(out, kind::SYN_REPLY, *stream, *fin, headers),
            Frame::Headers { stream, fin, headers } => self.headers(out, kind::HEADERS, *stream, *fin, headers),
            Frame::RstStream { stream, status } => pair(out, kind::RST_STREAM, *stream, *status),
            Frame::Settings { values } => {
                control(out, kind::SETTINGS, 0, 4 + 8 * values.len());
                out.put_u32(u32::try_from(values.len()).unwrap_or(u32::MAX));
                for (id, value) in values {
                    out.put_u32(*id & LENGTH);
                    out.put_u32(*value);
                }
            }
            Frame::Ping { id } => {
                control(out, kind::PING, 0, 4);
                out.put_u32(*id);
            }
            Frame::GoAway {
                last_good_stream,
                status,
            } => pair(out, kind::GOAWAY, *last_good_stream, *status),
            Frame::WindowUpdate { stream, delta } => pair(out, kind::WINDOW_UPDATE, *stream, *delta),
            Frame::Data { stream, fin, bytes } if bytes.is_empty() => data(out, *stream, *fin, bytes),
            Frame::Data { stream, fin, bytes } => {
                let mut left = bytes.len();
                for piece in bytes.chunks(LONGEST_DATA) {
                    left -= piece.len();
                    data(out, *stream, *fin && left == 0, piece);
                }
            }
        }
    }

    fn headers(&mut self, out: &mut BytesMut, kind: u16, stream: u32, fin: bool, headers: &Headers) {
        let block = self.headers.write(headers);
        control(out, kind, flag(fin, FIN), 4 + block.len());
        out.put_u32(stream);
        out.put_slice(&block);
    }
}

fn flag(set: bool, flag: u8) -> u8 {
    if set { flag } else { 0 }
}

fn control(out: &mut BytesMut, kind: u16, flags: u8, length: usize) {
    out.put_u16(VERSION | 0x8000);
    out.put_u16(kind);
    head_end(out, flags, length);
}

fn pair(out: &mut BytesMut, kind: u16, first: u32, second: u32) {
    control(out, kind, 0, 8);
    out.put_u32(first);
    out.put_u32(second);
}

fn data(out: &mut BytesMut, stream: u32, fin: bool, bytes: &[u8]) {
    out.put_u32(stream);
    head_end(out, flag(fin, FIN), bytes.len());
    out.put_slice(bytes);
}

fn head_end(out: &mut BytesMut, flags: u8, length: usize) {
    let length = u32::try_from(length).unwrap_or(LENGTH).min(LENGTH);
    out.put_u32(u32::from(flags) << 24 | length);
}
