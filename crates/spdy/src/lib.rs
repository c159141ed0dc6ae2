//! SPDY/3.1: many streams over one upgraded connection, for `exec`, `attach` and `port-forward`.
//!
//! The web has moved on to HTTP/2, but Kubernetes' own clients have not: kubectl forwards ports by SPDY frames inside WebSocket
//! messages, and what is older than 1.31 speaks SPDY for everything. [`frame`] is the wire format, pure; [`session`] runs a
//! connection for either side.
//!
//! Go's implementation, the peer that matters, has no flow control: it announces no windows and heeds none. Windows are
//! therefore kept towards peers that show they count, and everywhere else a stream that is not read holds up the connection once
//! it has taken its share of what one may hold.

#![forbid(unsafe_code)]

mod dictionary;
pub mod frame;
pub mod headers;
pub mod session;

pub use headers::Headers;
pub use session::{Incoming, Role, Session, Stream};
