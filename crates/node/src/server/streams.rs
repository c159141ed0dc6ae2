//! Remote command streams over WebSocket: `v5.channel.k8s.io` and `v4.channel.k8s.io`.
//!
//! Every binary message is a channel number and data: 0 stdin, 1 stdout, 2 stderr, 3 the final `Status`, 4 terminal sizes;
//! version 5 adds 255, which closes another channel. Bytes flow only as fast as the other side takes them: output is
//! read when the socket took the last piece, input is taken from the socket when the process took the last piece.

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use bytes::{BufMut, Bytes, BytesMut};
use catamaran_shim::runtime::Stdio;
use catamaran_shim::spec::Exit;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use rustix::io::Errno;
use serde::Deserialize;
use serde_json::{Value, json};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// Read from a process at once.
const BLOCK: usize = 32 * 1024;
/// Terminal sizes that may wait.
const SIZES: usize = 4;
/// How long output may go on after the process has ended: something it left behind may hold the pipe.
const DRAIN: Duration = Duration::from_secs(2);

/// A pipe end or pty master, used asynchronously.
#[derive(Debug)]
pub(super) struct Stream(AsyncFd<OwnedFd>);

impl Stream {
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        let flags = rustix::fs::fcntl_getfl(&fd)?;
        rustix::fs::fcntl_setfl(&fd, flags | rustix::fs::OFlags::NONBLOCK)?;
        crate::sys::watch(fd).map(Self)
    }

    /// Reads some bytes; none at the end. A pty whose other side is closed is at its end.
    async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.0.readable().await?;
            let read = ready.try_io(|fd| match rustix::io::read(fd, &mut *buffer) {
                Err(Errno::IO) => Ok(0),
                other => other.map_err(io::Error::from),
            });
            if let Ok(done) = read {
                return done;
            }
        }
    }

    async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut ready = self.0.writable().await?;
            match ready.try_io(|fd| rustix::io::write(fd, bytes).map_err(io::Error::from)) {
                Ok(written) => bytes = &bytes[written?..],
                Err(_would_block) => {}
            }
        }
        Ok(())
    }
}

/// What a client asked for, in the kubelet's or the API server's words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) command: Vec<String>,
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) tty: bool,
}

impl Wanted {
    pub(super) fn parse(pairs: Vec<(String, String)>) -> Self {
        let mut wanted = Self::default();
        for (name, value) in pairs {
            let yes = matches!(value.as_str(), "1" | "true");
            match name.as_str() {
                "command" => wanted.command.push(value),
                "input" | "stdin" => wanted.stdin |= yes,
                "output" | "stdout" => wanted.stdout |= yes,
                "error" | "stderr" => wanted.stderr |= yes,
                "tty" => wanted.tty |= yes,
                _ => {}
            }
        }
        // A terminal has one output.
        wanted.stderr &= !wanted.tty;
        wanted
    }
}

/// Our ends of a process's streams. With a terminal `stdin` and `stdout` are both its master.
#[derive(Debug, Default)]
pub(super) struct Ends {
    pub(super) stdin: Option<Stream>,
    pub(super) stdout: Option<Stream>,
    pub(super) stderr: Option<Stream>,
}

/// A terminal's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Size {
    pub(super) width: u16,
    pub(super) height: u16,
}

/// The protocol, if the client offers one we speak.
pub(super) fn negotiate(upgrade: WebSocketUpgrade) -> Result<(WebSocketUpgrade, bool), super::Refusal> {
    let upgrade = upgrade.protocols(["v5.channel.k8s.io", "v4.channel.k8s.io"]);
    let selected = upgrade
        .selected_protocol()
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    match selected.as_deref() {
        Some("v5.channel.k8s.io") => Ok((upgrade, true)),
        Some(_) => Ok((upgrade, false)),
        None => Err(super::Refusal::bad_request(
            "unable to upgrade: v5.channel.k8s.io or v4.channel.k8s.io is needed",
        )),
    }
}

/// The WebSocket of one session.
pub(super) struct Channels {
    sink: SplitSink<WebSocket, Message>,
    stream: SplitStream<WebSocket>,
    closing: bool,
}

/// How a session ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Exited(Exit),
    /// All output was sent and there is no exit to wait for.
    Drained,
    /// The client went away, or the shim.
    Lost,
}

impl Channels {
    /// Takes the socket; tells the client that the session stands.
    pub(super) async fn open(socket: WebSocket, wanted: &Wanted, v5: bool) -> Self {
        let (sink, stream) = socket.split();
        let mut channels = Self {
            sink,
            stream,
            closing: v5,
        };
        let first = match (wanted.stdout, wanted.stderr) {
            (true, _) => STDOUT,
            (_, true) => STDERR,
            _ => ERROR,
        };
        let _ = send(&mut channels.sink, first, b"").await;
        channels
    }

    /// Moves bytes until the process ends (if there is one to wait for), else until output ends or the client leaves.
    pub(super) async fn pump(
        &mut self,
        ends: Ends,
        sizes: mpsc::Sender<Size>,
        exited: Option<oneshot::Receiver<Exit>>,
    ) -> Outcome {
        let Ends { stdin, stdout, stderr } = ends;
        let closing = self.closing;
        let input = input(&mut self.stream, stdin, sizes, closing);
        let waits = exited.is_some();
        let exit = async {
            match exited {
                Some(exited) => exited.await.ok(),
                None => std::future::pending().await,
            }
        };
        let mut output = std::pin::pin!(output(&mut self.sink, stdout.as_ref(), stderr.as_ref()));
        let mut output_done = false;
        tokio::pin!(exit, input);
        let exit = loop {
            tokio::select! {
                exit = &mut exit => break exit,
                done = &mut output, if !output_done => {
                    match done {
                        Ok(()) if waits => output_done = true,
                        Ok(()) => return Outcome::Drained,
                        Err(_) => return Outcome::Lost,
                    }
                }
                () = &mut input => return Outcome::Lost,
            }
        };
        if !output_done {
            // What the process wrote before its end is in the pipes; the client may still leave.
            tokio::select! {
                _ = tokio::time::timeout(DRAIN, &mut output) => {}
                () = &mut input => return Outcome::Lost,
            }
        }
        exit.map_or(Outcome::Lost, Outcome::Exited)
    }

    /// Says how it ended and closes.
    pub(super) async fn finish(mut self, status: &Value) {
        let _ = send(&mut self.sink, ERROR, status.to_string().as_bytes()).await;
        // Without a code clients take the end for a broken connection.
        let close = CloseFrame {
            code: close_code::NORMAL,
            reason: "".into(),
        };
        let _ = self.sink.send(Message::Close(Some(close))).await;
        // The client's close completes the hand-shake; without it the connection would be reset under the last bytes.
        let _ = tokio::time::timeout(DRAIN, async { while let Some(Ok(_)) = self.stream.next().await {} }).await;
    }
}

/// Takes stdin and sizes from the client; ends when the client leaves.
async fn input(
    stream: &mut SplitStream<WebSocket>,
    mut stdin: Option<Stream>,
    sizes: mpsc::Sender<Size>,
    closing: bool,
) {
    while let Some(Ok(message)) = stream.next().await {
        let data = match message {
            Message::Binary(data) => data,
            Message::Text(text) => Bytes::copy_from_slice(text.as_bytes()),
            Message::Close(_) => return,
            Message::Ping(_) | Message::Pong(_) => continue,
        };
        match data.split_first() {
            Some((&STDIN, bytes)) => {
                let failed = match &stdin {
                    Some(pipe) => pipe.write_all(bytes).await.is_err(),
                    None => false,
                };
                if failed {
                    stdin = None;
                }
            }
            Some((&RESIZE, bytes)) => {
                if let Ok(size) = serde_json::from_slice::<Size>(bytes) {
                    let _ = sizes.send(size).await;
                }
            }
            Some((&CLOSE, bytes)) if closing && bytes == [STDIN] => stdin = None,
            _ => {}
        }
    }
}

async fn output(
    sink: &mut SplitSink<WebSocket, Message>,
    stdout: Option<&Stream>,
    stderr: Option<&Stream>,
) -> Result<(), axum::Error> {
    let (mut out, mut err) = (vec![0; BLOCK], vec![0; if stderr.is_some() { BLOCK } else { 0 }]);
    let (mut stdout, mut stderr) = (stdout, stderr);
    while stdout.is_some() || stderr.is_some() {
        let (channel, count) = tokio::select! {
            count = read(stdout, &mut out), if stdout.is_some() => (STDOUT, count),
            count = read(stderr, &mut err), if stderr.is_some() => (STDERR, count),
        };
        match (channel, count) {
            (STDOUT, 0) => stdout = None,
            (_, 0) => stderr = None,
            (STDOUT, count) => send(sink, STDOUT, &out[..count]).await?,
            (_, count) => send(sink, STDERR, &err[..count]).await?,
        }
    }
    Ok(())
}

async fn read(stream: Option<&Stream>, buffer: &mut [u8]) -> usize {
    match stream {
        Some(stream) => stream.read(buffer).await.unwrap_or(0),
        None => std::future::pending().await,
    }
}

async fn send(sink: &mut SplitSink<WebSocket, Message>, channel: u8, data: &[u8]) -> Result<(), axum::Error> {
    let mut message = BytesMut::with_capacity(data.len() + 1);
    message.put_u8(channel);
    message.put_slice(data);
    sink.send(Message::Binary(message.freeze())).await
}

/// Pipes for what is wanted: our ends and the process's. Closing ours is how to detach.
pub(super) fn pipes(wanted: &Wanted) -> io::Result<(Ends, Stdio)> {
    let (mut ends, mut stdio) = (Ends::default(), Stdio::default());
    if wanted.stdin {
        let (ours, theirs) = input_pipe()?;
        (ends.stdin, stdio.stdin) = (Some(ours), Some(theirs));
    }
    if wanted.stdout {
        let (ours, theirs) = output_pipe()?;
        (ends.stdout, stdio.stdout) = (Some(ours), Some(theirs));
    }
    if wanted.stderr {
        let (ours, theirs) = output_pipe()?;
        (ends.stderr, stdio.stderr) = (Some(ours), Some(theirs));
    }
    Ok((ends, stdio))
}

/// A pipe as (ours, the process's), for a stream the process reads.
fn input_pipe() -> io::Result<(Stream, OwnedFd)> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    Ok((Stream::new(writer)?, reader))
}

/// A pipe as (ours, the process's), for a stream the process writes.
fn output_pipe() -> io::Result<(Stream, OwnedFd)> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    Ok((Stream::new(reader)?, writer))
}

pub(super) fn success() -> Value {
    json!({"metadata": {}, "status": "Success"})
}

/// The `Status` of a process that ended; a failure carries the exit code where kubectl looks for it.
pub(super) fn exit_status(exit: &Exit) -> Value {
    if exit.code == 0 {
        return success();
    }
    json!({
        "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
        "message": format!("command terminated with non-zero exit code: exit status {}", exit.code),
        "details": {"causes": [{"reason": "ExitCode", "message": exit.code.to_string()}]},
    })
}

pub(super) fn failure(message: &str) -> Value {
    json!({
        "metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
        "message": format!("Internal error occurred: {message}"),
    })
}

/// The queue of terminal sizes.
pub(super) fn sizes() -> (mpsc::Sender<Size>, mpsc::Receiver<Size>) {
    mpsc::channel(SIZES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn parameters_of_kubelet_and_api_server_mean_the_same() {
        let parse = |text: &str| {
            let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
            Wanted::parse(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
        };
        let kubelet = parse("command=sh&command=-c&input=1&output=1&error=1&tty=1");
        assert_eq!(
            kubelet,
            parse("command=sh&command=-c&stdin=true&stdout=true&stderr=true&tty=true")
        );
        assert_eq!((kubelet.command.len(), kubelet.stderr), (2, false));
    }

    #[test]
    fn exit_codes_are_where_kubectl_looks() {
        let now = jiff::Timestamp::UNIX_EPOCH;
        let exit = |code| Exit {
            code,
            signal: None,
            oom_killed: false,
            started_at: now,
            finished_at: now,
            message: String::new(),
        };
        expect![[r#"{"metadata":{},"status":"Success"}"#]].assert_eq(&exit_status(&exit(0)).to_string());
        let failed = exit_status(&exit(3));
        assert_eq!(failed["details"]["causes"][0]["message"], "3");
        assert_eq!(failed["reason"], "NonZeroExitCode");
    }
}
