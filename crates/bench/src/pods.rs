//! P1 to P4: pods through the API, from the request to what a watch shows.

use crate::cluster::{Cluster, LINUX_IMAGE, WASM_IMAGE};
use crate::row::{Peer, Row, Samples, Target};
use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::pin::pin;
use std::time::{Duration, Instant};

const SEQUENTIAL: usize = 50;
const WARM_UP: usize = 3;
const BURST: usize = 100;
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Clone, Copy)]
enum Hull {
    Linux,
    Wasm,
}

impl Hull {
    fn pod(self, name: &str) -> Result<Pod> {
        let container = match self {
            Hull::Linux => json!({"name": "c", "image": LINUX_IMAGE, "command": ["/bin/bash", "-c",
                "trap 'exit 0' TERM; while true; do read -rt 100 <> <(:); done"]}),
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
}

pub(crate) async fn rows(cata: &Path) -> Result<Vec<Row>> {
    let cluster = Cluster::start(cata).await?;
    cluster.pack_images().await?;
    let pods: Api<Pod> = Api::default_namespaced(cluster.client.clone());
    let mut rows = Vec::new();
    for hull in [Hull::Linux, Hull::Wasm] {
        rows.extend(sequential(&pods, hull).await?);
        rows.extend(burst(&pods, hull).await?);
    }
    cluster.stop().await?;
    Ok(rows)
}

fn figure(hull: Hull, value: f64) -> Peer {
    match hull {
        Hull::Linux => Peer::Figure("Kubernetes", value),
        Hull::Wasm => Peer::Missing("no peer runs wasm in-process".to_owned()),
    }
}

async fn sequential(pods: &Api<Pod>, hull: Hull) -> Result<Vec<Row>> {
    let (mut ready, mut gone) = (Samples::default(), Samples::default());
    for round in 0..SEQUENTIAL + WARM_UP {
        let name = format!("one-{}-{round}", hull.name());
        let (up, down) = one(pods, hull, &name).await.with_context(|| format!("pod {name}"))?;
        if round >= WARM_UP {
            ready.add(up);
            gone.add(down);
        }
    }
    let (row, target) = match hull {
        Hull::Linux => ("P1", 40.0),
        Hull::Wasm => ("P2", 25.0),
    };
    Ok(vec![
        Row {
            name: format!("{row} {} pod create→Ready p50", hull.name()),
            ours: ready.percentile(50),
            unit: "ms",
            peer: figure(hull, 994.0),
            target: Target::AtMost(target),
        },
        Row {
            name: format!("{row} {} pod create→Ready p99", hull.name()),
            ours: ready.percentile(99),
            unit: "ms",
            peer: figure(hull, 1051.0),
            target: Target::AtMost(target * 2.0),
        },
        Row {
            name: format!("P4 {} pod delete→gone p50", hull.name()),
            ours: gone.percentile(50),
            unit: "ms",
            peer: figure(hull, 1810.0),
            target: Target::AtMost(40.0),
        },
    ])
}

/// One pod: how long until Ready, and how long from deletion until gone.
async fn one(pods: &Api<Pod>, hull: Hull, name: &str) -> Result<(Duration, Duration)> {
    let list = pods.list_metadata(&ListParams::default().limit(1)).await?;
    let revision = list.metadata.resource_version.context("resourceVersion")?;
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

async fn burst(pods: &Api<Pod>, hull: Hull) -> Result<Vec<Row>> {
    let list = pods.list_metadata(&ListParams::default().limit(1)).await?;
    let revision = list.metadata.resource_version.context("resourceVersion")?;
    let mut events = pin!(pods.watch(&WatchParams::default(), &revision).await?);
    let names: Vec<String> = (0..BURST)
        .map(|number| format!("many-{}-{number}", hull.name()))
        .collect();
    let start = Instant::now();
    let mut pending: HashSet<&str> = names.iter().map(String::as_str).collect();
    let creating = futures::stream::iter(&names)
        .map(|name| async move {
            pods.create(&PostParams::default(), &hull.pod(name)?)
                .await
                .map_err(anyhow::Error::from)
        })
        .buffer_unordered(16)
        .try_for_each(|_| async { Ok(()) });
    let mut latest = HashMap::new();
    let watching = async {
        while !pending.is_empty() {
            let event = events.try_next().await?.context("the watch ended early")?;
            if let WatchEvent::Added(pod) | WatchEvent::Modified(pod) = event {
                if is_ready(&pod) {
                    pending.remove(pod.name_any().as_str());
                }
                latest.insert(pod.name_any(), pod);
            }
        }
        anyhow::Ok(())
    };
    let both = async { tokio::try_join!(creating, watching) };
    if tokio::time::timeout(PATIENCE, both).await.is_err() {
        bail!(
            "{} of {BURST} {} pods never became Ready",
            pending_count(&names, &latest),
            hull.name()
        );
    }
    let ready = start.elapsed();

    let start = Instant::now();
    let deleting = futures::stream::iter(&names)
        .map(|name| async move {
            pods.delete(name, &DeleteParams::default())
                .await
                .map_err(anyhow::Error::from)
        })
        .buffer_unordered(16)
        .try_for_each(|_| async { Ok(()) });
    let mut left: HashSet<&str> = names.iter().map(String::as_str).collect();
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
    let gone = start.elapsed();
    let target = match hull {
        Hull::Linux => 1.5,
        Hull::Wasm => 0.8,
    };
    Ok(vec![
        Row {
            name: format!("P3 {BURST} {} pods → all Ready", hull.name()),
            ours: ready.as_secs_f64(),
            unit: "s",
            peer: figure(hull, 15.8),
            target: Target::AtMost(target),
        },
        Row {
            name: format!("P4 {BURST} {} pods → all gone", hull.name()),
            ours: gone.as_secs_f64(),
            unit: "s",
            peer: figure(hull, 15.3),
            target: Target::AtMost(1.0),
        },
    ])
}

fn pending_count(names: &[String], latest: &HashMap<String, Pod>) -> usize {
    names
        .iter()
        .filter(|name| !latest.get(*name).is_some_and(is_ready))
        .count()
}
