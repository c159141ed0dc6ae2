//! F1 and F3: what an idle cluster costs, how big the program is, how soon it answers.

use crate::cluster::Cluster;
use crate::row::{Peer, Row, Samples, Target};
use anyhow::{Context, Result};
use std::path::Path;
use std::time::Duration;

const IDLE: Duration = Duration::from_secs(60);
const STARTS: usize = 5;

pub(crate) async fn rows(cata: &Path, idle: bool) -> Result<Vec<Row>> {
    let mut starts = Samples::default();
    for _ in 0..STARTS {
        let cluster = Cluster::start(cata).await?;
        starts.add(cluster.ready_after);
        cluster.stop().await?;
    }
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    let mut rows = vec![
        Row {
            name: "F3 program size, stripped".to_owned(),
            ours: megabytes(std::fs::metadata(cata)?.len()),
            unit: "MB",
            peer: Peer::Figure("single-binary peers", 75.0),
            target: Target::AtMost(60.0),
        },
        Row {
            name: "F3 start → /readyz p50".to_owned(),
            ours: starts.percentile(50),
            unit: "ms",
            peer: Peer::Figure("kube-apiserver", 2200.0),
            target: Target::AtMost(300.0),
        },
    ];
    if idle {
        rows.extend(idle_rows(cata).await?);
    }
    Ok(rows)
}

async fn idle_rows(cata: &Path) -> Result<Vec<Row>> {
    let cluster = Cluster::start(cata).await?;
    let pid = cluster.pid()?;
    // The start is not what is measured.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = Usage::of(pid)?;
    tokio::time::sleep(IDLE).await;
    let after = Usage::of(pid)?;
    cluster.stop().await?;
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let cpu = (after.ticks - before.ticks) as f64 / ticks / IDLE.as_secs_f64() * 100.0;
    let megabytes = |kilobytes: u64| kilobytes as f64 / 1e3;
    let row = |name: &str, ours: f64, unit: &'static str, peer: Peer, target: f64| Row {
        name: name.to_owned(),
        ours,
        unit,
        peer,
        target: Target::AtMost(target),
    };
    let kubernetes = |value| Peer::Figure("Kubernetes", value);
    let none = || Peer::Missing("no figure".to_owned());
    Ok(vec![
        row("F1 idle RSS", megabytes(after.rss), "MB", kubernetes(734.0), 60.0),
        row("F1 idle private memory", megabytes(after.private), "MB", none(), 60.0),
        row("F1 idle CPU of one core", cpu, "%", kubernetes(1.7), 0.5),
        row(
            "F1 idle bytes written per minute",
            (after.written - before.written) as f64 / 1e3,
            "kB",
            none(),
            1000.0,
        ),
    ])
}

/// Of a process and its launcher (its only child).
struct Usage {
    rss: u64,
    private: u64,
    ticks: u64,
    written: u64,
}

impl Usage {
    fn of(pid: u32) -> Result<Self> {
        let mut usage = Self {
            rss: 0,
            private: 0,
            ticks: 0,
            written: 0,
        };
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|child| child.parse().ok());
        for pid in std::iter::once(pid).chain(children) {
            let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
            usage.rss += field(&rollup, "Rss:");
            usage.private += field(&rollup, "Private_Clean:") + field(&rollup, "Private_Dirty:");
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
            let after_name = stat.rsplit(')').next().context("stat")?;
            let times = after_name
                .split_whitespace()
                .skip(11)
                .take(2)
                .filter_map(|ticks| ticks.parse::<u64>().ok());
            usage.ticks += times.sum::<u64>();
            usage.written += field(&std::fs::read_to_string(format!("/proc/{pid}/io"))?, "write_bytes:");
        }
        Ok(usage)
    }
}

fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.split_whitespace().nth(1))
        .and_then(|value| value.parse().ok())
        .unwrap_or(0)
}
