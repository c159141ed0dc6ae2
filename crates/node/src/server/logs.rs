//! `GET /containerLogs/{namespace}/{pod}/{container}`: CRI log files, as `kubectl logs` wants them.
//!
//! A log is its rotated files and the current one, in order. Following waits for inotify events of the log's directory,
//! continues in the next file when the current one is rotated away, and ends when the container has ended and all of its
//! output was sent.

mod reader;

use super::{Refusal, Server, Target};
use crate::rotate;
use axum::Extension;
use axum::body::Body;
use axum::extract::{Path as UrlPath, Query, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use reader::{Filter, LogFile};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Chunks that may wait for a slow client.
const CHUNKS: usize = 16;
/// Without any event a follower looks again after this: the end of a container is not an event of its log's directory.
const RECHECK: Duration = Duration::from_secs(1);

/// The kubelet's parameters.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Parameters {
    follow: Option<String>,
    previous: Option<String>,
    timestamps: Option<String>,
    tail_lines: Option<i64>,
    since_seconds: Option<i64>,
    since_time: Option<String>,
    limit_bytes: Option<u64>,
}

fn truthy(value: Option<&str>) -> bool {
    matches!(value, Some("true" | "1" | ""))
}

impl Parameters {
    fn filter(&self, now: Timestamp) -> Result<Filter, Refusal> {
        let since = match (&self.since_time, self.since_seconds) {
            (Some(text), _) => {
                let parsed = text.parse::<Timestamp>();
                Some(parsed.map_err(|error| Refusal::bad_request(format!("invalid sinceTime: {error}")))?)
            }
            (None, Some(seconds)) => Some(now - SignedDuration::from_secs(seconds.clamp(0, 1 << 31))),
            (None, None) => None,
        };
        Ok(Filter {
            since,
            timestamps: truthy(self.timestamps.as_deref()),
            tail: self.tail_lines.and_then(|lines| usize::try_from(lines).ok()),
            limit: self.limit_bytes,
        })
    }
}

pub(crate) async fn logs(
    State(server): State<Server>,
    Extension(shutdown): Extension<CancellationToken>,
    UrlPath((namespace, pod, container)): UrlPath<(String, String, String)>,
    Query(parameters): Query<Parameters>,
) -> Result<Response, Refusal> {
    let target = server.target(&namespace, &pod, &container)?;
    let filter = parameters.filter(Timestamp::now())?;
    let log = find(&server, &target, truthy(parameters.previous.as_deref())).await?;
    let follow = truthy(parameters.follow.as_deref());
    let (sender, receiver) = mpsc::channel(CHUNKS);
    tokio::spawn(async move {
        let mut stream = Stream {
            server,
            target,
            log,
            filter,
            sender,
            shutdown,
        };
        if let Err(error) = stream.run(follow).await {
            tracing::debug!(log = %stream.log.display(), %error, "a log stream ended");
        }
    });
    let chunks = tokio_stream(receiver);
    let headers = [(http::header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    Ok((headers, Body::from_stream(chunks)).into_response())
}

fn tokio_stream(receiver: mpsc::Receiver<Bytes>) -> impl futures::Stream<Item = Result<Bytes, std::io::Error>> {
    futures::stream::unfold(receiver, async |mut receiver| {
        receiver.recv().await.map(|chunk| (Ok(chunk), receiver))
    })
}

/// The log of the latest attempt, or of the one before it.
async fn find(server: &Server, target: &Target, previous: bool) -> Result<PathBuf, Refusal> {
    let (layout, key, container) = (server.layout.clone(), target.key.clone(), target.container.clone());
    let latest = tokio::task::spawn_blocking(move || rotate::latest_attempt(&layout, &key, &container)).await;
    let latest = latest.unwrap_or_default();
    let name = &target.container;
    let attempt = match (latest, previous) {
        (Some(latest), false) => latest,
        (Some(latest), true) if latest > 0 => latest - 1,
        (_, true) => {
            let pod = &target.key.name;
            return Err(Refusal::bad_request(format!(
                "previous terminated container \"{name}\" in pod \"{pod}\" not found"
            )));
        }
        (None, false) => {
            let reason = waiting_reason(target).unwrap_or_else(|| "ContainerCreating".to_owned());
            let pod = &target.key.name;
            return Err(Refusal::bad_request(format!(
                "container \"{name}\" in pod \"{pod}\" is waiting to start: {reason}"
            )));
        }
    };
    let path = server.layout.log_file(&target.key, name, attempt);
    if !tokio::fs::try_exists(&path).await.unwrap_or(false) {
        return Err(Refusal::not_found(format!(
            "the log of container \"{name}\" is not there any more"
        )));
    }
    Ok(path)
}

fn waiting_reason(target: &Target) -> Option<String> {
    let status = target.pod.status.as_ref()?;
    let all = status
        .container_statuses
        .iter()
        .chain(&status.init_container_statuses)
        .chain(&status.ephemeral_container_statuses)
        .flatten();
    let own = all.into_iter().find(|status| status.name == target.container)?;
    own.state.as_ref()?.waiting.as_ref()?.reason.clone()
}

struct Stream {
    server: Server,
    target: Target,
    log: PathBuf,
    filter: Filter,
    sender: mpsc::Sender<Bytes>,
    shutdown: CancellationToken,
}

impl Stream {
    async fn run(&mut self, follow: bool) -> std::io::Result<()> {
        // Watching begins before reading, so that nothing written in between is missed.
        let mut events = if follow { Some(watch(&self.log)?) } else { None };
        let (log, filter) = (self.log.clone(), self.filter.clone());
        let opened = tokio::task::spawn_blocking(move || reader::open_at_tail(&log, &filter)).await;
        let mut files = opened.map_err(std::io::Error::other)??;
        while files.len() > 1 {
            let mut file = files.remove(0);
            if !self.drain(&mut file).await? {
                return Ok(());
            }
        }
        let Some(mut file) = files.pop() else { return Ok(()) };
        loop {
            // Whether it ended is asked before reading: what it wrote last is then read for sure.
            let ended = follow && self.ended().await;
            if !self.drain(&mut file).await? || !follow {
                return Ok(());
            }
            if file.was_rotated(&self.log) {
                self.drain(&mut file).await?;
                match LogFile::open(&self.log) {
                    Ok(next) => file = next,
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound && ended => return Ok(()),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
                continue;
            }
            if ended {
                return Ok(());
            }
            let Some(events) = &mut events else { return Ok(()) };
            tokio::select! {
                _ = futures::StreamExt::next(events) => {}
                () = tokio::time::sleep(RECHECK) => {}
                () = self.sender.closed() => return Ok(()),
                () = self.shutdown.cancelled() => return Ok(()),
            }
        }
    }

    /// Sends everything a file has now. False when the client has enough.
    async fn drain(&mut self, file: &mut LogFile) -> std::io::Result<bool> {
        loop {
            let mut taken = std::mem::replace(file, LogFile::empty());
            let mut filter = self.filter.clone();
            let read = tokio::task::spawn_blocking(move || {
                let chunk = taken.read(&mut filter);
                (taken, filter, chunk)
            });
            let (back, filter, chunk) = read.await.map_err(std::io::Error::other)?;
            *file = back;
            self.filter = filter;
            let chunk = chunk?;
            if chunk.is_empty() {
                return Ok(self.filter.limit != Some(0));
            }
            if self.sender.send(Bytes::from(chunk)).await.is_err() || self.filter.limit == Some(0) {
                return Ok(false);
            }
        }
    }

    /// Whether the attempt this log belongs to will write no more.
    async fn ended(&self) -> bool {
        let Some(sandboxed) = self.server.sandboxes.get(&self.target.key.uid) else {
            return true;
        };
        let states = sandboxed.attempts(&self.target.container).await;
        let own = states
            .into_iter()
            .find(|state| state.config.log_path.as_deref() == Some(self.log.as_path()));
        own.is_none_or(|state| state.exit.is_some())
    }
}

fn watch(log: &Path) -> std::io::Result<inotify::EventStream<Vec<u8>>> {
    let inotify = inotify::Inotify::init()?;
    let directory = log.parent().unwrap_or(Path::new("/"));
    let mask = inotify::WatchMask::MODIFY | inotify::WatchMask::CREATE | inotify::WatchMask::MOVED_FROM;
    inotify.watches().add(
        directory,
        mask | inotify::WatchMask::CLOSE_WRITE | inotify::WatchMask::DELETE,
    )?;
    inotify.into_event_stream(vec![0; 4096])
}
