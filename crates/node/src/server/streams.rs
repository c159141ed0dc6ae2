//! Streams of remote commands: between the ends of a process and a client, over WebSocket or SPDY.
//!
//! Bytes flow only as fast as the other side takes them: output is read when the client took the last piece, input is taken
//! from the client when the process took the last piece. How either protocol says which stream bytes belong to is in the files
//! below.

mod spdy;
mod web;

use super::Refusal;
use super::upgrade::{Switch, Wish};
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use catamaran_shim::runtime::Stdio;
use catamaran_shim::spec::Exit;
use rustix::io::Errno;
use serde::Deserialize;
use serde_json::{Value, json};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};

const STDOUT: u8 = 1;
const STDERR: u8 = 2;

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

/// Something a client says.
#[derive(Debug, PartialEq, Eq)]
enum Input {
    Stdin(Bytes),
    StdinEnd,
    Size(Size),
}

/// Upgrades a request and has `conversation` with the client.
pub(super) async fn upgrade<F>(
    request: Request,
    wanted: Wanted,
    conversation: impl FnOnce(Channels, Wanted) -> F + Send + 'static,
) -> Result<Response, Refusal>
where
    F: Future<Output = ()> + Send,
{
    match Wish::of(request).await? {
        Wish::WebSocket(upgrade) => {
            let (upgrade, version) = web::negotiate(upgrade)?;
            Ok(upgrade.on_upgrade(async move |socket| {
                let channels = web::open(socket, &wanted, version).await;
                conversation(channels, wanted).await;
            }))
        }
        Wish::Spdy(mut parts) => {
            let switch = Switch::new(&mut parts, spdy::PROTOCOLS)?;
            let protocol = switch.protocol;
            let (response, upgraded) = switch.into_parts();
            tokio::spawn(async move {
                let Some(io) = upgraded.await else { return };
                match spdy::open(io, &wanted, protocol).await {
                    Some(channels) => conversation(channels, wanted).await,
                    None => tracing::debug!("a client did not open its streams"),
                }
            });
            Ok(response)
        }
    }
}

/// One session with a client.
pub(super) struct Channels {
    source: Source,
    sink: Sink,
}

enum Source {
    Web(web::Source),
    Spdy(spdy::Source),
}

enum Sink {
    Web(web::Sink),
    Spdy(spdy::Sink),
}

/// The client is gone.
#[derive(Debug)]
struct Gone;

impl Source {
    /// What comes next; `None` when the client has left.
    async fn next(&mut self) -> Option<Input> {
        match self {
            Self::Web(source) => source.next().await,
            Self::Spdy(source) => source.next().await,
        }
    }
}

impl Sink {
    async fn send(&mut self, channel: u8, data: &[u8]) -> Result<(), Gone> {
        match self {
            Self::Web(sink) => sink.send(channel, data).await,
            Self::Spdy(sink) => sink.send(channel, data).await,
        }
    }
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
    /// Moves bytes until the process ends (if there is one to wait for), else until output ends or the client leaves.
    pub(super) async fn pump(
        &mut self,
        ends: Ends,
        sizes: mpsc::Sender<Size>,
        exited: Option<oneshot::Receiver<Exit>>,
    ) -> Outcome {
        let Ends { stdin, stdout, stderr } = ends;
        let input = input(&mut self.source, stdin, sizes);
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
                        Err(Gone) => return Outcome::Lost,
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
    pub(super) async fn finish(self, status: &Value) {
        match (self.source, self.sink) {
            (Source::Web(source), Sink::Web(sink)) => sink.finish(status, source).await,
            (_, Sink::Spdy(sink)) => sink.finish(status).await,
            // The two come from one connection.
            (Source::Spdy(_), Sink::Web(_)) => {}
        }
    }
}

/// Takes stdin and sizes from the client; ends when the client leaves.
async fn input(source: &mut Source, mut stdin: Option<Stream>, sizes: mpsc::Sender<Size>) {
    while let Some(input) = source.next().await {
        match input {
            Input::Stdin(bytes) => {
                let failed = match &stdin {
                    Some(pipe) => pipe.write_all(&bytes).await.is_err(),
                    None => false,
                };
                if failed {
                    stdin = None;
                }
            }
            Input::StdinEnd => stdin = None,
            Input::Size(size) => {
                let _ = sizes.send(size).await;
            }
        }
    }
}

async fn output(sink: &mut Sink, stdout: Option<&Stream>, stderr: Option<&Stream>) -> Result<(), Gone> {
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
            (STDOUT, count) => sink.send(STDOUT, &out[..count]).await?,
            (_, count) => sink.send(STDERR, &err[..count]).await?,
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
