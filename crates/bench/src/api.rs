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

pub(crate) async fn rows(cata: &Path, chosen: &dyn Fn(&str) -> bool, report: &dyn Fn(Vec<Row>)) -> Result<()> {
    if ["A1", "A2", "A4"].into_iter().any(chosen) {
        requests(cata, chosen, report).await?;
    }
    if chosen("A3") {
        report(watchers::rows(cata).await?);
    }
    Ok(())
}

async fn requests(cata: &Path, chosen: &dyn Fn(&str) -> bool, report: &dyn Fn(Vec<Row>)) -> Result<()> {
    let server = Server::start(cata).await?;
    let config_maps = create(&server, CONFIG_MAPS, 0..OBJECTS, config_map).await?;
    let pods = create(&server, PODS, 0..OBJECTS, pod).await?;
    let memory = server.memory()?;
    if chosen("A1") {
        let get = Load::run(&server, OBJECTS, |index| {
            (Method::GET, format!("{CONFIG_MAPS}/{}", name(index)), Bytes::new())
        });
        let get = get.await?;
        let put = Load::run(&server, OBJECTS, |index| {
            (
                Method::PUT,
                format!("{CONFIG_MAPS}/{}", name(index)),
                config_map(index, "changed"),
            )
        });
        let put = put.await?;
        let mut rows = Vec::new();
        for (id, what, load, rate, cpu) in [
            ("configmap", "ConfigMap creates", &config_maps, 1210.0, 1.45),
            ("pod", "Pod creates", &pods, 811.0, 2.28),
            ("get", "ConfigMap GETs", &get, 2617.0, 0.64),
            ("put", "ConfigMap PUTs", &put, 1236.0, 1.47),
        ] {
            rows.push(
                Row::new(
                    format!("A1.{id}"),
                    format!("{what}, {CONNECTIONS} connections"),
                    load.rate,
                    "/s",
                )
                .peer(Peer::Figure("Kubernetes", rate))
                .target(Target::AtLeastTimesPeer(3.0)),
            );
            rows.push(
                Row::new(
                    format!("A1.{id}.cpu"),
                    "the same, server CPU of each",
                    load.cpu_ms,
                    "ms",
                )
                .peer(Peer::Figure("Kubernetes", cpu))
                .target(Target::AtMostTimesPeer(0.25)),
            );
        }
        report(rows);
    }
    if chosen("A2") {
        report(lists(&server, "", true).await?);
    }
    if chosen("A4") {
        report(vec![
            Row::new("A4.rss", "server RSS after 5,000 ConfigMaps + 5,000 pods", memory, "MB")
                .peer(Peer::Figure("Kubernetes", 1086.0))
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
        report(lists(&server, ".x10", false).await?);
    }
    server.stop().await
}

/// Lists of all pods there are: whole, and the first page.
async fn lists(server: &Server, suffix: &str, budgeted: bool) -> Result<Vec<Row>> {
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
    let id = |metric: &str| format!("A2.{metric}{suffix}");
    let mut all = Row::new(id("list"), "LIST of all pods, p50", whole.percentile(50), "ms");
    let mut first = Row::new(id("page"), "LIST with limit=500, p50", page.percentile(50), "ms");
    if budgeted {
        let target = Target::AtMostTimesPeer(0.2);
        all = all.peer(Peer::Figure("Kubernetes", 163.0)).target(target);
        first = first.peer(Peer::Figure("Kubernetes", 21.0)).target(target);
    }
    let size = Row::new(id("bytes"), "size of that list", bytes as f64 / 1e6, "MB");
    Ok(vec![
        all,
        first,
        if budgeted {
            size.peer(Peer::Figure("Kubernetes", 10.6))
        } else {
            size
        },
    ])
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
