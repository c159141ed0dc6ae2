//! A1 to A4: the API server alone, over TLS, as a crowd of clients sees it.
//!
//! The load comes from this process over plain HTTP/1.1 connections, one request at a time on each, so that what is measured
//! is the server and not a client library. Pods name a scheduler nobody is: they stay where they were put.

mod connection;
mod watchers;

use crate::row::{Peer, Row, Samples, Target};
use crate::server::Server;
use anyhow::{Result, ensure};
use bytes::Bytes;
use connection::Connection;
use http::Method;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

const CONNECTIONS: usize = 16;
/// Objects of each kind at 1×.
const OBJECTS: usize = 5_000;
/// How much larger the same is made to see how it grows.
const GROWTH: usize = 10;
const LISTS: usize = 15;

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";

/// Measures `cata`, and the peer first where there is one; without it the plan's figures stand for Kubernetes.
pub(crate) async fn rows(
    cata: &Path,
    peer: Option<&Server>,
    chosen: &dyn Fn(&str) -> bool,
    report: &dyn Fn(Vec<Row>),
) -> Result<()> {
    if ["A1", "A2", "A4"].into_iter().any(chosen) {
        requests(cata, peer, chosen, report).await?;
    }
    if chosen("A3") {
        report(watchers::rows(cata, peer).await?);
    }
    Ok(())
}

/// What the peer was measured to do, or what the plan says that Kubernetes does.
fn against(measured: Option<f64>, planned: f64) -> Peer {
    measured.map_or(Peer::Figure("Kubernetes", planned), |value| {
        Peer::Measured("Kubernetes", value)
    })
}

async fn requests(
    cata: &Path,
    peer: Option<&Server>,
    chosen: &dyn Fn(&str) -> bool,
    report: &dyn Fn(Vec<Row>),
) -> Result<()> {
    let theirs = match peer {
        Some(peer) => {
            clear(peer).await?;
            Some((Loads::run(peer).await?, Lists::of(peer).await?))
        }
        None => None,
    };
    let server = Server::start(cata).await?;
    let ours = Loads::run(&server).await?;
    if chosen("A1") {
        report(ours.rows(theirs.as_ref().map(|(loads, _)| loads)));
    }
    if chosen("A2") {
        let lists = Lists::of(&server).await?;
        let [all, page, size] = lists.rows("");
        let peer = |value: fn(&Lists) -> f64, planned| against(theirs.as_ref().map(|(_, lists)| value(lists)), planned);
        let target = Target::AtMostTimesPeer(0.2);
        report(vec![
            all.peer(peer(|lists| lists.all, 163.0)).target(target),
            page.peer(peer(|lists| lists.page, 21.0)).target(target),
            size.peer(peer(|lists| lists.megabytes, 10.6)),
        ]);
    }
    if chosen("A4") {
        report(vec![
            Row::new(
                "A4.rss",
                "server RSS after 5,000 ConfigMaps + 5,000 pods",
                ours.memory,
                "MB",
            )
            .peer(against(theirs.as_ref().map(|(loads, _)| loads.memory), 1086.0))
            .target(Target::AtMost(150.0)),
        ]);
    }
    if chosen("A2") || chosen("A4") {
        create(&server, CONFIG_MAPS, OBJECTS..OBJECTS * GROWTH, config_map).await?;
        let grown = create(&server, PODS, OBJECTS..OBJECTS * GROWTH, pod).await?;
        report(vec![
            Row::new("A1.pod.x10", "Pod creates, on top of up to 50,000", grown.rate, "/s"),
            Row::new(
                "A4.rss.x10",
                "server RSS after ten times as many of each",
                server.memory()?,
                "MB",
            ),
        ]);
        report(Lists::of(&server).await?.rows(".x10").into());
    }
    server.stop().await
}

/// Deletes what an earlier run left on a server that is not ours.
async fn clear(server: &Server) -> Result<()> {
    let mut connection = Connection::open(server).await?;
    for collection in [CONFIG_MAPS, PODS] {
        let path = format!("{collection}?labelSelector=app%3Dbench&gracePeriodSeconds=0");
        connection.ok(Method::DELETE, &path, Bytes::new()).await?;
    }
    Ok(())
}

/// A1's requests, and the memory with everything made.
struct Loads {
    config_maps: Load,
    pods: Load,
    get: Load,
    put: Load,
    memory: f64,
}

impl Loads {
    async fn run(server: &Server) -> Result<Self> {
        let config_maps = create(server, CONFIG_MAPS, 0..OBJECTS, config_map).await?;
        let pods = create(server, PODS, 0..OBJECTS, pod).await?;
        let memory = server.memory()?;
        let path = |index| format!("{CONFIG_MAPS}/{}", name(index));
        let get = Load::run(server, OBJECTS, |index| (Method::GET, path(index), Bytes::new())).await?;
        let put = Load::run(server, OBJECTS, |index| {
            (Method::PUT, path(index), config_map(index, "changed"))
        });
        Ok(Self {
            config_maps,
            pods,
            get,
            put: put.await?,
            memory,
        })
    }

    fn rows(&self, peer: Option<&Loads>) -> Vec<Row> {
        let mut rows = Vec::new();
        for (id, what, load, rate, cpu) in [
            (
                "configmap",
                "ConfigMap creates",
                (|loads| &loads.config_maps) as fn(&Loads) -> &Load,
                1210.0,
                1.45,
            ),
            ("pod", "Pod creates", |loads| &loads.pods, 811.0, 2.28),
            ("get", "ConfigMap GETs", |loads| &loads.get, 2617.0, 0.64),
            ("put", "ConfigMap PUTs", |loads| &loads.put, 1236.0, 1.47),
        ] {
            let (ours, peer) = (load(self), peer.map(load));
            rows.push(
                Row::new(
                    format!("A1.{id}"),
                    format!("{what}, {CONNECTIONS} connections"),
                    ours.rate,
                    "/s",
                )
                .peer(against(peer.map(|load| load.rate), rate))
                .target(Target::AtLeastTimesPeer(3.0)),
            );
            rows.push(
                Row::new(
                    format!("A1.{id}.cpu"),
                    "the same, server CPU of each",
                    ours.cpu_ms,
                    "ms",
                )
                .peer(against(peer.map(|load| load.cpu_ms), cpu))
                .target(Target::AtMostTimesPeer(0.25)),
            );
        }
        rows
    }
}

/// Lists of all pods there are: whole, and the first page.
struct Lists {
    /// p50, in milliseconds.
    all: f64,
    page: f64,
    /// Of the whole list.
    megabytes: f64,
}

impl Lists {
    async fn of(server: &Server) -> Result<Self> {
        let mut connection = Connection::open(server).await?;
        let (mut whole, mut page, mut bytes) = (Samples::default(), Samples::default(), 0);
        for _ in 0..LISTS {
            let start = Instant::now();
            bytes = connection.ok(Method::GET, PODS, Bytes::new()).await?.len();
            whole.add(start.elapsed());
            let start = Instant::now();
            connection
                .ok(Method::GET, &format!("{PODS}?limit=500"), Bytes::new())
                .await?;
            page.add(start.elapsed());
        }
        Ok(Self {
            all: whole.percentile(50),
            page: page.percentile(50),
            megabytes: bytes as f64 / 1e6,
        })
    }

    fn rows(&self, suffix: &str) -> [Row; 3] {
        let id = |metric: &str| format!("A2.{metric}{suffix}");
        [
            Row::new(id("list"), "LIST of all pods, p50", self.all, "ms"),
            Row::new(id("page"), "LIST with limit=500, p50", self.page, "ms"),
            Row::new(id("bytes"), "size of that list", self.megabytes, "MB"),
        ]
    }
}

async fn create(
    server: &Server,
    collection: &str,
    range: std::ops::Range<usize>,
    body: fn(usize, &str) -> Bytes,
) -> Result<Load> {
    let first = range.start;
    Load::run(server, range.len(), move |index| {
        (Method::POST, collection.to_owned(), body(first + index, "made"))
    })
    .await
}

/// What a number of requests cost.
struct Load {
    /// Requests per second.
    rate: f64,
    /// Milliseconds of the server's CPU time for each.
    cpu_ms: f64,
}

impl Load {
    async fn run(
        server: &Server,
        total: usize,
        request: impl Fn(usize) -> (Method, String, Bytes) + Send + Sync,
    ) -> Result<Self> {
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.push(Connection::open(server).await?);
        }
        let next = Arc::new(AtomicUsize::new(0));
        let before = server.cpu()?;
        let start = Instant::now();
        let request = &request;
        let workers = connections.into_iter().map(|mut connection| {
            let next = Arc::clone(&next);
            async move {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= total {
                        return Ok::<(), anyhow::Error>(());
                    }
                    let (method, path, body) = request(index);
                    connection.ok(method, &path, body).await?;
                }
            }
        });
        futures::future::try_join_all(workers).await?;
        let seconds = start.elapsed().as_secs_f64();
        ensure!(seconds > 0.0, "nothing was measured");
        Ok(Load {
            rate: total as f64 / seconds,
            cpu_ms: (server.cpu()? - before) * 1e3 / total as f64,
        })
    }
}

fn name(index: usize) -> String {
    format!("object-{index:06}")
}

fn config_map(index: usize, word: &str) -> Bytes {
    let body = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name(index), "labels": {"app": "bench", "shard": (index % 10).to_string()}},
        "data": {"word": word, "settings": "level=info\nlisten=0.0.0.0:8080\ntimeout=30s\n".repeat(4)},
    });
    Bytes::from(body.to_string())
}

/// A pod such as a Deployment makes.
fn pod(index: usize, word: &str) -> Bytes {
    let probe = json!({"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 10});
    let body = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name(index),
            "labels": {"app": "bench", "pod-template-hash": "5d4f8c7b9", "shard": (index % 10).to_string()},
            "annotations": {"word": word},
        },
        "spec": {
            "schedulerName": "nobody",
            "containers": [{
                "name": "web",
                "image": "registry.example.com/team/web:v1.2.3",
                "ports": [{"name": "http", "containerPort": 8080}],
                "env": [{"name": "LEVEL", "value": "info"}, {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
                "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
                "readinessProbe": probe,
                "livenessProbe": probe,
                "volumeMounts": [{"name": "conf", "mountPath": "/etc/web"}],
            }],
            "volumes": [{"name": "conf", "configMap": {"name": "web"}}],
        },
    });
    Bytes::from(body.to_string())
}
