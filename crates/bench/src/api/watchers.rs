//! A3: how soon many watchers hear of a change.
//!
//! The watchers share the machine with the server, so they do as little as a client can while events come: they take what TLS
//! hands them and note the time. What it was is read when all of them have all.

use super::connection::Connection;
use super::{CONFIG_MAPS, against, config_map, name};
use crate::row::{Row, Samples, Target};
use crate::server::Server;
use anyhow::{Context, Result, ensure};
use http::Method;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

const WATCHERS: usize = 100;
const GROWTH: usize = 10;
const OBJECTS: usize = 100;
const GAP: Duration = Duration::from_millis(20);
/// Writers of the burst.
const WRITERS: usize = 16;

pub(super) async fn rows(cata: &Path, peer: Option<&Server>) -> Result<Vec<Row>> {
    let theirs = match peer {
        Some(peer) => {
            super::clear(peer).await?;
            Some(FanOut::of(peer).await?)
        }
        None => None,
    };
    let server = Server::start(cata).await?;
    let ours = FanOut::of(&server).await?;
    let mut crowd = fan_out(&server, WATCHERS * GROWTH, 2, Some(GAP)).await?;
    server.stop().await?;
    let target = Target::AtMostTimesPeer(0.3);
    let theirs = theirs.as_ref();
    Ok(vec![
        Row::new(
            "A3.p50",
            "100 watchers × 100 objects, 20 ms gaps, p50",
            ours.paced.p50,
            "ms",
        ),
        Row::new("A3.p99", "the same, p99", ours.paced.p99, "ms")
            .peer(against(theirs.map(|theirs| theirs.paced.p99), 6.9))
            .target(target),
        Row::new(
            "A3.cpu",
            "the same, server CPU for each event sent, connecting and writing included",
            ours.cpu,
            "µs",
        ),
        Row::new("A3.burst.p50", "all 100 objects at once, p50", ours.burst.p50, "ms"),
        Row::new("A3.burst", "the same, p99", ours.burst.p99, "ms")
            .peer(against(theirs.map(|theirs| theirs.burst.p99), 101.0))
            .target(target),
        Row::new(
            "A3.p50.x10",
            "1,000 watchers, 20 ms gaps, p50",
            crowd.percentile(50),
            "ms",
        ),
        Row::new("A3.p99.x10", "the same, p99", crowd.percentile(99), "ms"),
    ])
}

/// What 100 watchers see of 100 objects.
struct FanOut {
    paced: Percentiles,
    burst: Percentiles,
    /// Microseconds of the server's CPU time for each event sent, with gaps.
    cpu: f64,
}

/// In milliseconds.
struct Percentiles {
    p50: f64,
    p99: f64,
}

impl FanOut {
    async fn of(server: &Server) -> Result<Self> {
        let before = server.cpu()?;
        let paced = fan_out(server, WATCHERS, 0, Some(GAP)).await?;
        let cpu = (server.cpu()? - before) * 1e6 / (WATCHERS * OBJECTS) as f64;
        let burst = fan_out(server, WATCHERS, 1, None).await?;
        let percentiles = |mut samples: Samples| Percentiles {
            p50: samples.percentile(50),
            p99: samples.percentile(99),
        };
        Ok(Self {
            paced: percentiles(paced),
            burst: percentiles(burst),
            cpu,
        })
    }
}

/// Times from the sending of a create to each watcher's sight of it.
async fn fan_out(server: &Server, watchers: usize, round: usize, gap: Option<Duration>) -> Result<Samples> {
    let selector = format!("{CONFIG_MAPS}?watch=1&labelSelector=shard&resourceVersion=");
    let mut connection = Connection::open(server).await?;
    let list = connection
        .ok(Method::GET, &format!("{CONFIG_MAPS}?limit=1"), bytes::Bytes::new())
        .await?;
    let list: serde_json::Value = serde_json::from_slice(&list)?;
    let version = list["metadata"]["resourceVersion"].as_str().context("a version")?;
    let path = format!("{selector}{version}");
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..watchers {
        running.spawn(Watcher::open(server, &path).await?.read(OBJECTS));
    }
    let first = round * OBJECTS;
    let mut sent = Vec::with_capacity(OBJECTS);
    if let Some(gap) = gap {
        for index in first..first + OBJECTS {
            sent.push((name(index), Instant::now()));
            connection
                .ok(Method::POST, CONFIG_MAPS, config_map(index, "watched"))
                .await?;
            tokio::time::sleep(gap).await;
        }
    } else {
        let mut connections = Vec::new();
        for _ in 0..WRITERS {
            connections.push(Connection::open(server).await?);
        }
        let start = Instant::now();
        let writers = connections
            .into_iter()
            .enumerate()
            .map(|(writer, mut connection)| async move {
                for index in (first + writer..first + OBJECTS).step_by(WRITERS) {
                    connection
                        .ok(Method::POST, CONFIG_MAPS, config_map(index, "watched"))
                        .await?;
                }
                Ok::<(), anyhow::Error>(())
            });
        futures::future::try_join_all(writers).await?;
        sent.extend((first..first + OBJECTS).map(|index| (name(index), start)));
    }
    let sent: std::collections::HashMap<String, Instant> = sent.into_iter().collect();
    let mut watchers = Vec::new();
    while let Some(watcher) = running.join_next().await {
        watchers.push(watcher??);
    }
    let mut samples = Samples::default();
    for watcher in watchers {
        for (object, at) in watcher.seen()? {
            samples.add(at.duration_since(*sent.get(&object).context("an object nobody made")?));
        }
    }
    Ok(samples)
}

/// A watch on a connection of its own.
struct Watcher {
    stream: TlsStream<TcpStream>,
    /// What came, and when how much of it was there.
    text: Vec<u8>,
    marks: Vec<(usize, Instant)>,
}

impl Watcher {
    /// Asks for it; it has begun when this returns.
    async fn open(server: &Server, path: &str) -> Result<Self> {
        let stream = TcpStream::connect(server.address).await?;
        stream.set_nodelay(true)?;
        let name = rustls::pki_types::ServerName::from(server.address.ip());
        let mut stream = server.tls.connect(name, stream).await.context("TLS handshake")?;
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nAccept: application/json\r\nUser-Agent: catamaran-bench\r\n\r\n",
            server.address
        );
        stream.write_all(head.as_bytes()).await?;
        let mut answer = Vec::new();
        let end = loop {
            ensure!(stream.read_buf(&mut answer).await? > 0, "the server hung up");
            if let Some(end) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let text = answer.split_off(end);
        let head = String::from_utf8_lossy(&answer).to_ascii_lowercase();
        ensure!(head.starts_with("http/1.1 200 "), "a watch was refused: {head}");
        ensure!(
            head.contains("transfer-encoding: chunked"),
            "a watch in another form: {head}"
        );
        Ok(Self {
            stream,
            text,
            marks: Vec::new(),
        })
    }

    /// Reads until `count` events came.
    async fn read(mut self, count: usize) -> Result<Self> {
        // Every event is a line; JSON has no line ends within.
        let mut lines = 0;
        while lines < count {
            let before = self.text.len().saturating_sub(1);
            ensure!(self.stream.read_buf(&mut self.text).await? > 0, "the watch ended early");
            self.marks.push((self.text.len(), Instant::now()));
            lines += self.text[before..].windows(2).filter(|bytes| bytes == b"}\n").count();
        }
        Ok(self)
    }

    /// Which objects came, and when.
    fn seen(&self) -> Result<Vec<(String, Instant)>> {
        let mut seen = Vec::new();
        let mut line = Vec::new();
        let mut at = 0;
        while at < self.text.len() {
            let head = self.text[at..]
                .windows(2)
                .position(|bytes| bytes == b"\r\n")
                .context("a chunk's head")?;
            let length = usize::from_str_radix(std::str::from_utf8(&self.text[at..at + head])?, 16)?;
            let begin = at + head + 2;
            let chunk = self.text.get(begin..begin + length).context("a chunk")?;
            for (index, byte) in chunk.iter().enumerate() {
                line.push(*byte);
                if *byte == b'\n' {
                    let event: Event = serde_json::from_slice(&line)?;
                    ensure!(event.kind == "ADDED", "an event of another sort: {}", event.kind);
                    seen.push((event.object.metadata.name, self.when(begin + index)?));
                    line.clear();
                }
            }
            at = begin + length + 2;
        }
        Ok(seen)
    }

    /// When the byte at this place was there.
    fn when(&self, at: usize) -> Result<Instant> {
        let mark = self.marks.partition_point(|(length, _)| *length <= at);
        Ok(self.marks.get(mark).context("what came")?.1)
    }
}

#[derive(serde::Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    object: Object,
}

#[derive(serde::Deserialize)]
struct Object {
    metadata: Metadata,
}

#[derive(serde::Deserialize)]
struct Metadata {
    name: String,
}
