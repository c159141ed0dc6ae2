//! A3: how soon many watchers hear of a change.

use super::connection::Connection;
use super::{CONFIG_MAPS, config_map, name};
use crate::row::{Peer, Row, Samples, Target};
use crate::server::Server;
use anyhow::{Context, Result};
use http::Method;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc};

const WATCHERS: usize = 100;
const GROWTH: usize = 10;
const OBJECTS: usize = 100;
const GAP: Duration = Duration::from_millis(20);
/// Writers of the burst.
const WRITERS: usize = 16;

pub(super) async fn rows(cata: &Path) -> Result<Vec<Row>> {
    let server = Server::start(cata).await?;
    let mut paced = fan_out(&server, WATCHERS, 0, Some(GAP)).await?;
    let mut burst = fan_out(&server, WATCHERS, 1, None).await?;
    let mut crowd = fan_out(&server, WATCHERS * GROWTH, 2, Some(GAP)).await?;
    server.stop().await?;
    let target = Target::AtMostTimesPeer(0.3);
    let figure = |value| Peer::Figure("Kubernetes", value);
    Ok(vec![
        Row::new(
            "A3.p50",
            "100 watchers × 100 objects, 20 ms gaps, p50",
            paced.percentile(50),
            "ms",
        ),
        Row::new("A3.p99", "the same, p99", paced.percentile(99), "ms")
            .peer(figure(6.9))
            .target(target),
        Row::new(
            "A3.burst.p50",
            "all 100 objects at once, p50",
            burst.percentile(50),
            "ms",
        ),
        Row::new("A3.burst", "the same, p99", burst.percentile(99), "ms")
            .peer(figure(101.0))
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

/// Times from the sending of a create to each watcher's sight of it.
async fn fan_out(server: &Server, watchers: usize, round: usize, gap: Option<Duration>) -> Result<Samples> {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let selector = format!("{CONFIG_MAPS}?watch=1&labelSelector=shard&resourceVersion=");
    let mut connection = Connection::open(server).await?;
    let list = connection
        .ok(Method::GET, &format!("{CONFIG_MAPS}?limit=1"), bytes::Bytes::new())
        .await?;
    let list: serde_json::Value = serde_json::from_slice(&list)?;
    let version = list["metadata"]["resourceVersion"].as_str().context("a version")?;
    let path = format!("{selector}{version}");
    let done = Arc::new(Notify::new());
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..watchers {
        let mut own = Connection::open(server).await?;
        let response = own.send(Method::GET, &path, bytes::Bytes::new()).await?;
        let (sender, done) = (sender.clone(), Arc::clone(&done));
        running.spawn(async move {
            tokio::select! {
                result = read(response.into_body(), sender) => result,
                () = done.notified() => Ok(()),
            }
        });
    }
    drop(sender);
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
    let mut samples = Samples::default();
    for _ in 0..watchers * OBJECTS {
        let (object, at): (String, Instant) = receiver.recv().await.context("the watches ended early")?;
        samples.add(at.duration_since(*sent.get(&object).context("an object nobody made")?));
    }
    done.notify_waiters();
    running.abort_all();
    Ok(samples)
}

/// Tells of every object that is seen, with the moment.
async fn read(mut body: Incoming, sender: mpsc::UnboundedSender<(String, Instant)>) -> Result<()> {
    let mut rest = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        let now = Instant::now();
        rest.extend_from_slice(&data);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            let event: Event = serde_json::from_slice(&line)?;
            if event.kind == "ADDED" && sender.send((event.object.metadata.name, now)).is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
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
    #[serde(default)]
    name: String,
}
