//! One line of the report.

use serde_json::json;
use std::fmt;
use std::process::Command;
use std::time::Duration;

/// What a row is measured against.
pub(crate) enum Peer {
    /// Measured in this run: name and value.
    Measured(&'static str, f64),
    /// A figure from the plan, measured elsewhere.
    Figure(&'static str, f64),
    /// Not there, and why.
    Missing(String),
}

/// What has to hold.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    /// ours ≤ factor × peer
    AtMostTimesPeer(f64),
    /// ours ≥ factor × peer
    AtLeastTimesPeer(f64),
    /// ours ≤ value
    AtMost(f64),
}

pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) ours: f64,
    pub(crate) unit: &'static str,
    pub(crate) peer: Peer,
    pub(crate) target: Target,
}

impl Row {
    fn peer_value(&self) -> Option<f64> {
        match &self.peer {
            Peer::Measured(_, value) | Peer::Figure(_, value) => Some(*value),
            Peer::Missing(_) => None,
        }
    }

    fn ratio(&self) -> Option<f64> {
        self.peer_value()
            .filter(|peer| *peer > 0.0)
            .map(|peer| self.ours / peer)
    }

    fn met(&self) -> bool {
        match self.target {
            Target::AtMost(value) => self.ours <= value,
            Target::AtMostTimesPeer(factor) => self.ratio().is_some_and(|ratio| ratio <= factor),
            Target::AtLeastTimesPeer(factor) => self.ratio().is_some_and(|ratio| ratio >= factor),
        }
    }

    fn target_text(&self) -> String {
        match self.target {
            Target::AtMost(value) => format!("≤ {value} {}", self.unit),
            Target::AtMostTimesPeer(factor) => format!("≤ {factor} × peer"),
            Target::AtLeastTimesPeer(factor) => format!("≥ {factor} × peer"),
        }
    }

    fn peer_text(&self) -> String {
        match &self.peer {
            Peer::Measured(name, value) => format!("{name} {value:.1}"),
            Peer::Figure(name, value) => format!("{name} {value:.1} (plan)"),
            Peer::Missing(why) => why.clone(),
        }
    }

    pub(crate) fn headers() -> String {
        format!(
            "{:<34}{:>12} {:<9}{:<32}{:>8}  {:<16}{}",
            "row", "ours", "", "peer", "ratio", "target", "met"
        )
    }

    pub(crate) fn json(&self, conditions: &str) -> String {
        json!({
            "row": self.name, "ours": self.ours, "unit": self.unit, "peer": self.peer_value(), "peerName": self.peer_text(),
            "ratio": self.ratio(), "target": self.target_text(), "met": self.met(), "conditions": conditions,
        })
        .to_string()
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ratio = self.ratio().map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
        write!(
            f,
            "{:<34}{:>12.2} {:<9}{:<32}{ratio:>8}  {:<16}{}",
            self.name,
            self.ours,
            self.unit,
            self.peer_text(),
            self.target_text(),
            if self.met() { "yes" } else { "NO" }
        )
    }
}

/// Durations of one operation.
#[derive(Default)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    pub(crate) fn add(&mut self, duration: Duration) {
        self.0.push(duration);
    }

    /// In milliseconds; `percent` 50 is the median, 100 the worst.
    pub(crate) fn percentile(&mut self, percent: usize) -> f64 {
        self.0.sort_unstable();
        let last = self.0.len().saturating_sub(1);
        self.0
            .get(last * percent / 100)
            .map_or(f64::NAN, |duration| duration.as_secs_f64() * 1e3)
    }
}

/// Cores, load and kernel: what a reader needs to judge absolute numbers.
pub(crate) fn conditions() -> String {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or("?");
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let version = |program: &str| {
        let output = Command::new(program).arg("--version").output().ok()?;
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .next()
            .map(str::to_owned)
    };
    let peers: Vec<String> = ["crun", "runc", "etcd"].into_iter().filter_map(version).collect();
    format!("{cores} cores, load {load}, Linux {kernel}; {}", peers.join(", "))
}
