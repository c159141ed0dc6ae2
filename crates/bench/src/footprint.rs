//! F1 and F3: what an idle cluster costs, how big the program is, how soon it answers.

use crate::cluster::Cluster;
use crate::row::{Peer, Row, Samples, Target};
use anyhow::{Context, Result};
use std::path::Path;
use std::time::Duration;

const IDLE: Duration = Duration::from_secs(60);
/// The start, and what it leaves to be done, is not what is measured.
const SETTLE: Duration = Duration::from_secs(10);
const STARTS: usize = 7;

pub(crate) async fn start_rows(cata: &Path) -> Result<Vec<Row>> {
    let (mut first, mut again) = (Samples::default(), Samples::default());
    for _ in 0..STARTS {
        let cluster = Cluster::start(cata).await?;
        first.add(cluster.ready_after);
        let directory = cluster.stop_keeping().await?;
        let cluster = Cluster::start_in(cata, directory).await?;
        again.add(cluster.ready_after);
        cluster.stop().await?;
    }
    let size = std::fs::metadata(cata)?.len() as f64 / 1e6;
    Ok(vec![
        Row::new("F3.size", "program, stripped", size, "MB")
            .peer(Peer::Figure("single-binary peers", 75.0))
            .target(Target::AtMost(60.0)),
        Row::new(
            "F3.start",
            "process start → /readyz, new data directory, p50",
            first.percentile(50),
            "ms",
        )
        .peer(Peer::Figure("kube-apiserver", 2200.0))
        .target(Target::AtMost(300.0)),
        Row::new(
            "F3.restart",
            "the same on an existing one, p50",
            again.percentile(50),
            "ms",
        )
        .peer(Peer::Figure("kube-apiserver", 2200.0))
        .target(Target::AtMost(300.0)),
    ])
}

pub(crate) async fn idle_rows(cata: &Path) -> Result<Vec<Row>> {
    let cluster = Cluster::start(cata).await?;
    let pid = cluster.pid()?;
    tokio::time::sleep(SETTLE).await;
    let before = Usage::of(pid)?;
    tokio::time::sleep(IDLE).await;
    let after = Usage::of(pid)?;
    cluster.stop().await?;
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let cpu = (after.ticks - before.ticks) as f64 / ticks / IDLE.as_secs_f64() * 100.0;
    let megabytes = |kilobytes: u64| kilobytes as f64 * 1024.0 / 1e6;
    let kubernetes = |value| Peer::Figure("Kubernetes", value);
    let written = (after.written - before.written) as f64 / 1e3 * 60.0 / IDLE.as_secs_f64();
    Ok(vec![
        Row::new("F1.rss", "idle: RSS, launcher included", megabytes(after.rss), "MB")
            .peer(kubernetes(734.0))
            .target(Target::AtMost(60.0)),
        Row::new(
            "F1.pss",
            "idle: RSS, what both share counted once",
            megabytes(after.pss),
            "MB",
        ),
        Row::new("F1.private", "idle: private memory", megabytes(after.private), "MB"),
        Row::new("F1.dirty", "idle: private dirty memory", megabytes(after.dirty), "MB"),
        Row::new("F1.cpu", "idle: CPU of one core", cpu, "%")
            .peer(kubernetes(1.7))
            .target(Target::AtMost(0.5)),
        Row::new("F1.written", "idle: bytes written per minute", written, "kB"),
    ])
}

/// Of a process and its launcher (its only child).
#[derive(Default)]
struct Usage {
    /// Kilobytes, as are the next three.
    rss: u64,
    pss: u64,
    private: u64,
    dirty: u64,
    ticks: u64,
    written: u64,
}

impl Usage {
    fn of(pid: u32) -> Result<Self> {
        let mut usage = Self::default();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|child| child.parse().ok());
        for pid in std::iter::once(pid).chain(children) {
            let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
            usage.rss += field(&rollup, "Rss:");
            usage.pss += field(&rollup, "Pss:");
            usage.private += field(&rollup, "Private_Clean:") + field(&rollup, "Private_Dirty:");
            usage.dirty += field(&rollup, "Private_Dirty:");
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
