//! Remote command streams over SPDY/3.1: one stream each for stdin, stdout, stderr, terminal sizes and the end, all opened by
//! the client before anything is said. Version 4 ends with a `Status`, those before with the bare message of a failure.

use super::{Channels, DRAIN, Gone, Input, STDOUT, Size, Wanted};
use crate::server::upgrade::{IDLE, STREAM_CREATION};
use bytes::Bytes;
use catamaran_spdy::session::{Patience, Writer, start};
use catamaran_spdy::{Incoming, Role, Session, Stream};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};

/// Newest first.
pub(in crate::server) const PROTOCOLS: &[&str] = &[
    "v4.channel.k8s.io",
    "v3.channel.k8s.io",
    "v2.channel.k8s.io",
    "channel.k8s.io",
];
const WITH_STATUS: &str = "v4.channel.k8s.io";
const WITH_SIZES: [&str; 2] = ["v4.channel.k8s.io", "v3.channel.k8s.io"];
/// The longest text that is not yet a terminal's size.
const LONGEST_SIZE: usize = 1024;

/// Waits for the streams of a session; `None` when they do not come.
pub(in crate::server) async fn open(
    io: impl AsyncRead + AsyncWrite + Send + 'static,
    wanted: &Wanted,
    protocol: &str,
) -> Option<Channels> {
    // Input waits for its process as long as that likes.
    let patience = Patience {
        idle: IDLE,
        stall: None,
    };
    let (session, incoming, connection) = start(io, Role::Server, patience);
    // Ends with the streams and the session below.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(
                error = crate::chain(&error),
                "a remote command's connection ended badly"
            );
        }
    });
    let sizes = wanted.tty && WITH_SIZES.contains(&protocol);
    let opened = tokio::time::timeout(STREAM_CREATION, Opened::all(incoming, wanted, sizes)).await;
    let Ok(Some(opened)) = opened else {
        session.close().await;
        return None;
    };
    let source = Source {
        stdin: opened.stdin,
        sizes: opened.sizes.map(|stream| (stream, Vec::new())),
        session: session.clone(),
    };
    let sink = Sink {
        stdout: opened.stdout.map(|stream| stream.writer),
        stderr: opened.stderr.map(|stream| stream.writer),
        end: opened.end?.writer,
        with_status: protocol == WITH_STATUS,
        session,
    };
    Some(Channels {
        source: super::Source::Spdy(source),
        sink: super::Sink::Spdy(sink),
    })
}

#[derive(Default)]
struct Opened {
    stdin: Option<Stream>,
    stdout: Option<Stream>,
    stderr: Option<Stream>,
    sizes: Option<Stream>,
    end: Option<Stream>,
}

impl Opened {
    async fn all(mut incoming: Incoming, wanted: &Wanted, sizes: bool) -> Option<Self> {
        let mut opened = Self::default();
        while !opened.complete(wanted, sizes) {
            let offer = incoming.next().await?;
            let slot = match offer.headers().get("streamType") {
                Some("stdin") => &mut opened.stdin,
                Some("stdout") => &mut opened.stdout,
                Some("stderr") => &mut opened.stderr,
                Some("resize") => &mut opened.sizes,
                Some("error") => &mut opened.end,
                _ => {
                    offer.refuse();
                    continue;
                }
            };
            *slot = Some(offer.accept().await.ok()?);
        }
        Some(opened)
    }

    fn complete(&self, wanted: &Wanted, sizes: bool) -> bool {
        self.end.is_some()
            && (self.stdin.is_some() || !wanted.stdin)
            && (self.stdout.is_some() || !wanted.stdout)
            && (self.stderr.is_some() || !wanted.stderr)
            && (self.sizes.is_some() || !sizes)
    }
}

/// Whole streams: one whose writing half is dropped is reset.
pub(super) struct Source {
    stdin: Option<Stream>,
    /// With what came of the next one.
    sizes: Option<(Stream, Vec<u8>)>,
    session: Session,
}

impl Source {
    pub(super) async fn next(&mut self) -> Option<Input> {
        loop {
            let Self { stdin, sizes, session } = self;
            tokio::select! {
                bytes = read(stdin.as_mut()) => return Some(match bytes {
                    Some(bytes) => Input::Stdin(bytes),
                    None => {
                        self.stdin = None;
                        Input::StdinEnd
                    }
                }),
                bytes = read(sizes.as_mut().map(|(stream, _)| stream)) => match (bytes, sizes) {
                    (Some(bytes), Some((_, text))) => {
                        text.extend_from_slice(&bytes);
                        if let Some(size) = last_size(text) {
                            return Some(Input::Size(size));
                        }
                    }
                    _ => self.sizes = None,
                },
                () = session.closed() => return None,
            }
        }
    }
}

async fn read(stream: Option<&mut Stream>) -> Option<Bytes> {
    match stream {
        Some(stream) => stream.reader.read().await,
        None => std::future::pending().await,
    }
}

/// Sizes follow each other without separators: the last complete one counts.
fn last_size(text: &mut Vec<u8>) -> Option<Size> {
    let mut sizes = serde_json::Deserializer::from_slice(text).into_iter::<Size>();
    let mut last = None;
    while let Some(Ok(size)) = sizes.next() {
        last = Some((size, sizes.byte_offset()));
    }
    match last {
        Some((size, used)) => {
            text.drain(..used);
            Some(size)
        }
        None => {
            if text.len() > LONGEST_SIZE {
                text.clear();
            }
            None
        }
    }
}

pub(super) struct Sink {
    stdout: Option<Writer>,
    stderr: Option<Writer>,
    end: Writer,
    with_status: bool,
    session: Session,
}

impl Sink {
    pub(super) async fn send(&mut self, channel: u8, data: &[u8]) -> Result<(), Gone> {
        let writer = if channel == STDOUT {
            &mut self.stdout
        } else {
            &mut self.stderr
        };
        match writer {
            Some(writer) => writer.write(Bytes::copy_from_slice(data)).await.map_err(|_| Gone),
            None => Ok(()),
        }
    }

    pub(super) async fn finish(mut self, status: &Value) {
        let text = match (self.with_status, status["status"].as_str()) {
            (true, _) => status.to_string(),
            (false, Some("Success")) => String::new(),
            (false, _) => status["message"].as_str().unwrap_or_default().to_owned(),
        };
        let last = async {
            let _ = self.end.write(text.into()).await;
            for writer in [self.stdout, self.stderr, Some(self.end)].into_iter().flatten() {
                let _ = writer.finish().await;
            }
            self.session.close().await;
            self.session.closed().await;
        };
        let _ = tokio::time::timeout(DRAIN, last).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_complete_size_counts() {
        let mut text = b"{\"Width\":80,\"Height\":24}\n{\"Width\":100,\"Height\":30}{\"Wid".to_vec();
        let size = Size { width: 100, height: 30 };
        assert_eq!(last_size(&mut text), Some(size));
        assert_eq!(last_size(&mut text), None);
        text.extend_from_slice(b"th\":1,\"Height\":2}");
        assert_eq!(last_size(&mut text), Some(Size { width: 1, height: 2 }));
        assert_eq!(text, b"");
        text = vec![b'x'; LONGEST_SIZE + 1];
        assert_eq!((last_size(&mut text), text.len()), (None, 0));
    }
}
