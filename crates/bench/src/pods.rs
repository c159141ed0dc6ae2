//! P1 to P4: pods through the API, from the request to what a watch shows.

use crate::cluster::{Cluster, LINUX_IMAGE, WASM_IMAGE};
use crate::row::{Peer, Row, Samples, Target};
use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use std::collections::HashSet;
use std::path::Path;
use std::pin::pin;
use std::time::{Duration, Instant};

const SEQUENTIAL: usize = 50;
const WARM_UP: usize = 3;
const BURST: usize = 100;
/// Requests under way at once while a burst is created or deleted.
const CONNECTIONS: usize = 16;
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Clone, Copy)]
enum Hull {
    Linux,
    Wasm,
}

impl Hull {
    fn pod(self, name: &str) -> Result<Pod> {
        let container = match self {
            // `wait` is the one builtin that a signal interrupts whenever it comes.
            Hull::Linux => json!({"name": "c", "image": LINUX_IMAGE, "command": ["/bin/bash", "-c",
                "trap 'exit 0' TERM; sleep infinity & echo up; wait"]}),
            Hull::Wasm => json!({"name": "c", "image": WASM_IMAGE, "ports": [{"containerPort": 8080}]}),
        };
        let pod =
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [container]}});
        Ok(serde_json::from_value(pod)?)
    }

    fn name(self) -> &'static str {
        match self {
            Hull::Linux => "linux",
            Hull::Wasm => "wasm",
        }
    }

    /// The row of one pod after the other.
    fn alone(self) -> &'static str {
        match self {
            Hull::Linux => "P1",
            Hull::Wasm => "P2",
        }
    }

    fn ready_target(self) -> f64 {
        match self {
            Hull::Linux => 40.0,
            Hull::Wasm => 25.0,
        }
    }
}

pub(crate) async fn rows(cata: &Path, chosen: &dyn Fn(&str) -> bool, report: &dyn Fn(Vec<Row>)) -> Result<()> {
    let cluster = Cluster::start(cata).await?;
    cluster.pack_images().await?;
    cluster.node_ready().await?;
    let at = Place {
        pods: Api::default_namespaced(cluster.client.clone()),
        cluster: &cluster,
    };
    for hull in [Hull::Linux, Hull::Wasm] {
        if chosen(hull.alone()) || chosen("P4") {
            report(sequential(&at, hull).await?);
        }
        if chosen("P3") || chosen("P4") {
            report(burst(&at, hull, BURST / 10).await?);
            report(burst(&at, hull, BURST).await?);
        }
    }
    cluster.stop().await
}

fn figure(hull: Hull, value: f64) -> Peer {
    match hull {
        Hull::Linux => Peer::Figure("Kubernetes", value),
        Hull::Wasm => Peer::None,
    }
}

async fn sequential(at: &Place<'_>, hull: Hull) -> Result<Vec<Row>> {
    let (mut ready, mut gone) = several(at, hull, "one", SEQUENTIAL).await?;
    let (row, name, target) = (hull.alone(), hull.name(), hull.ready_target());
    // The whole again among others: does a pod wait for pods that only exist?
    let crowd = Crowd::create(at, hull, BURST / 2).await?;
    let (mut among, _) = several(at, hull, "among", SEQUENTIAL / 2).await?;
    crowd.delete(at, hull).await?;
    let what = |percent: usize| format!("{name} pod, create → Ready, p{percent} of {SEQUENTIAL}");
    Ok(vec![
        Row::new(format!("{row}.p50"), what(50), ready.percentile(50), "ms")
            .peer(figure(hull, 994.0))
            .target(Target::AtMost(target)),
        Row::new(format!("{row}.p99"), what(99), ready.percentile(99), "ms").peer(figure(hull, 1051.0)),
        Row::new(
            format!("{row}.among"),
            format!("the same, {} others running, p50", BURST / 2),
            among.percentile(50),
            "ms",
        ),
        Row::new(
            format!("P4.{name}"),
            format!("{name} pod, delete → gone, p50 of {SEQUENTIAL}"),
            gone.percentile(50),
            "ms",
        )
        .peer(figure(hull, 1810.0))
        .target(Target::AtMost(40.0)),
        Row::new(
            format!("P4.{name}.p99"),
            format!("{name} pod, delete → gone, p99"),
            gone.percentile(99),
            "ms",
        ),
    ])
}

/// Where the pods are.
struct Place<'a> {
    pods: Api<Pod>,
    cluster: &'a Cluster,
}

impl Place<'_> {
    /// Waits until the pod's program has said that it listens to SIGTERM: the first process of a pid namespace ignores
    /// signals it has not asked for, and Ready only means that it was started.
    async fn settled(&self, hull: Hull, name: &str) -> Result<()> {
        let Hull::Linux = hull else { return Ok(()) };
        let start = Instant::now();
        while !self.cluster.has_logged(name) {
            if start.elapsed() > PATIENCE {
                bail!("the program of pod {name} never said anything");
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }
}

/// Pods one after the other: times until Ready, times until gone.
async fn several(at: &Place<'_>, hull: Hull, prefix: &str, count: usize) -> Result<(Samples, Samples)> {
    let (mut ready, mut gone) = (Samples::default(), Samples::default());
    for round in 0..count + WARM_UP {
        let name = format!("{prefix}-{}-{round}", hull.name());
        let (up, down) = one(at, hull, &name).await.with_context(|| format!("pod {name}"))?;
        if round >= WARM_UP {
            ready.add(up);
            gone.add(down);
        }
    }
    Ok((ready, gone))
}

/// One pod: how long until Ready, and how long from deletion until gone.
async fn one(at: &Place<'_>, hull: Hull, name: &str) -> Result<(Duration, Duration)> {
    let pods = &at.pods;
    let revision = revision(pods).await?;
    let params = WatchParams::default().fields(&format!("metadata.name={name}"));
    let mut events = pin!(pods.watch(&params, &revision).await?);
    let start = Instant::now();
    pods.create(&PostParams::default(), &hull.pod(name)?).await?;
    until(
        events.as_mut(),
        |event| matches!(event, WatchEvent::Added(pod) | WatchEvent::Modified(pod) if is_ready(pod)),
    )
    .await?;
    let ready = start.elapsed();
    at.settled(hull, name).await?;
    let start = Instant::now();
    pods.delete(name, &DeleteParams::default()).await?;
    until(events, |event| matches!(event, WatchEvent::Deleted(_))).await?;
    Ok((ready, start.elapsed()))
}

async fn until<S>(mut events: std::pin::Pin<&mut S>, reached: impl Fn(&WatchEvent<Pod>) -> bool) -> Result<()>
where
    S: futures::Stream<Item = kube::Result<WatchEvent<Pod>>> + ?Sized,
{
    let waiting = async {
        while let Some(event) = events.try_next().await? {
            if reached(&event) {
                return Ok(());
            }
        }
        bail!("the watch ended early")
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .context("the pod never got there")?
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

async fn burst(at: &Place<'_>, hull: Hull, count: usize) -> Result<Vec<Row>> {
    let crowd = Crowd::create(at, hull, count).await?;
    let mut until_ready = Samples::default();
    until_ready.extend(crowd.ready.iter().copied());
    let ready = crowd.ready.iter().max().copied().unwrap_or_default();
    let gone = crowd.delete(at, hull).await?;
    let name = hull.name();
    let mut rows = vec![
        Row::new(
            format!("P3.{name}.{count}"),
            format!("{count} {name} pods at once → all Ready"),
            ready.as_secs_f64(),
            "s",
        ),
        Row::new(
            format!("P4.{name}.{count}"),
            format!("{count} {name} pods → all gone"),
            gone.as_secs_f64(),
            "s",
        ),
    ];
    if count == BURST {
        let target = match hull {
            Hull::Linux => 1.5,
            Hull::Wasm => 0.8,
        };
        let [all_ready, all_gone]: [Row; 2] = rows.try_into().map_err(|_| anyhow::anyhow!("two rows"))?;
        rows = vec![
            all_ready.peer(figure(hull, 15.8)).target(Target::AtMost(target)),
            Row::new(
                format!("P3.{name}.{count}.p50"),
                format!("{count} {name} pods at once, each until Ready, p50"),
                until_ready.percentile(50) / 1e3,
                "s",
            )
            .peer(figure(hull, 13.7)),
            all_gone.peer(figure(hull, 15.3)).target(Target::AtMost(1.0)),
        ];
    }
    Ok(rows)
}

/// Pods created at once, all Ready.
struct Crowd {
    names: Vec<String>,
    /// Since the first request.
    ready: Vec<Duration>,
}

impl Crowd {
    async fn create(at: &Place<'_>, hull: Hull, count: usize) -> Result<Self> {
        let pods = &at.pods;
        let names: Vec<String> = (0..count)
            .map(|number| format!("many-{}-{number}", hull.name()))
            .collect();
        let revision = revision(pods).await?;
        let mut events = pin!(pods.watch(&WatchParams::default(), &revision).await?);
        let start = Instant::now();
        let creating = futures::stream::iter(&names)
            .map(|name| async move {
                let created = pods.create(&PostParams::default(), &hull.pod(name)?).await;
                created.map_err(anyhow::Error::from)
            })
            .buffer_unordered(CONNECTIONS)
            .try_for_each(|_| async { Ok(()) });
        let mut pending: HashSet<&str> = names.iter().map(String::as_str).collect();
        let mut ready = Vec::new();
        let watching = async {
            while !pending.is_empty() {
                let event = events.try_next().await?.context("the watch ended early")?;
                if let WatchEvent::Added(pod) | WatchEvent::Modified(pod) = event
                    && is_ready(&pod)
                    && pending.remove(pod.name_any().as_str())
                {
                    ready.push(start.elapsed());
                }
            }
            anyhow::Ok(())
        };
        let both = async { tokio::try_join!(creating, watching) };
        let outcome = tokio::time::timeout(PATIENCE, both).await;
        match outcome {
            Ok(done) => drop(done?),
            Err(_) => bail!("{} of {count} {} pods never became Ready", pending.len(), hull.name()),
        }
        Ok(Self { names, ready })
    }

    /// How long until the last was gone.
    async fn delete(self, at: &Place<'_>, hull: Hull) -> Result<Duration> {
        let pods = &at.pods;
        for name in &self.names {
            at.settled(hull, name).await?;
        }
        let revision = revision(pods).await?;
        let mut events = pin!(pods.watch(&WatchParams::default(), &revision).await?);
        let start = Instant::now();
        let deleting = futures::stream::iter(&self.names)
            .map(|name| async move {
                let deleted = pods.delete(name, &DeleteParams::default()).await;
                deleted.map_err(anyhow::Error::from)
            })
            .buffer_unordered(CONNECTIONS)
            .try_for_each(|_| async { Ok(()) });
        let mut left: HashSet<&str> = self.names.iter().map(String::as_str).collect();
        let watching = async {
            while !left.is_empty() {
                if let WatchEvent::Deleted(pod) = events.try_next().await?.context("the watch ended early")? {
                    left.remove(pod.name_any().as_str());
                }
            }
            anyhow::Ok(())
        };
        let both = async { tokio::try_join!(deleting, watching) };
        tokio::time::timeout(PATIENCE, both)
            .await
            .context("pods did not go")??;
        Ok(start.elapsed())
    }
}

async fn revision(pods: &Api<Pod>) -> Result<String> {
    let list = pods.list_metadata(&ListParams::default().limit(1)).await?;
    list.metadata.resource_version.context("resourceVersion")
}
