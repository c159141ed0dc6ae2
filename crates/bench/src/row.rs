//! One line of the report.

use serde_json::json;
use std::fmt;
use std::process::Command;
use std::time::Duration;

/// What a row is measured against.
#[derive(Clone)]
pub(crate) enum Peer {
    /// Measured in this run: name and value.
    Measured(&'static str, f64),
    /// A figure from the plan, measured elsewhere.
    Figure(&'static str, f64),
    /// There ought to be one, and why there is not: the row counts as missed.
    Missing(String),
    /// Nobody does this.
    None,
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
    /// Shown beside another row, to see how that one grows.
    Growth,
}

pub(crate) struct Row {
    /// `<budget>.<metric>`
    pub(crate) id: String,
    pub(crate) what: String,
    pub(crate) ours: f64,
    pub(crate) unit: &'static str,
    pub(crate) peer: Peer,
    pub(crate) target: Target,
}

impl Row {
    pub(crate) fn new(id: impl Into<String>, what: impl Into<String>, ours: f64, unit: &'static str) -> Self {
        Self {
            id: id.into(),
            what: what.into(),
            ours,
            unit,
            peer: Peer::None,
            target: Target::Growth,
        }
    }

    pub(crate) fn peer(self, peer: Peer) -> Self {
        Self { peer, ..self }
    }

    pub(crate) fn target(self, target: Target) -> Self {
        Self { target, ..self }
    }

    /// The row of the budgets it belongs to.
    pub(crate) fn budget(&self) -> &str {
        self.id.split('.').next().unwrap_or_default()
    }

    fn peer_value(&self) -> Option<f64> {
        match &self.peer {
            Peer::Measured(_, value) | Peer::Figure(_, value) => Some(*value),
            Peer::Missing(_) | Peer::None => None,
        }
    }

    fn ratio(&self) -> Option<f64> {
        self.peer_value()
            .filter(|peer| *peer > 0.0)
            .map(|peer| self.ours / peer)
    }

    /// `None` where nothing is asked.
    fn met(&self) -> Option<bool> {
        if matches!(self.peer, Peer::Missing(_)) {
            return Some(false);
        }
        match self.target {
            Target::AtMost(value) => Some(self.ours <= value),
            Target::AtMostTimesPeer(factor) => Some(self.ratio().is_some_and(|ratio| ratio <= factor)),
            Target::AtLeastTimesPeer(factor) => Some(self.ratio().is_some_and(|ratio| ratio >= factor)),
            Target::Growth => None,
        }
    }

    fn target_text(&self) -> String {
        match self.target {
            Target::AtMost(value) => format!("≤ {value} {}", self.unit),
            Target::AtMostTimesPeer(factor) => format!("≤ {factor} × peer"),
            Target::AtLeastTimesPeer(factor) => format!("≥ {factor} × peer"),
            Target::Growth => "growth".to_owned(),
        }
    }

    fn peer_text(&self) -> String {
        match &self.peer {
            Peer::Measured(name, value) => format!("{name} {value:.2}"),
            Peer::Figure(name, value) => format!("{name} {value} (plan)"),
            Peer::Missing(why) => why.clone(),
            Peer::None => "–".to_owned(),
        }
    }

    pub(crate) fn headers() -> String {
        format!(
            "{:<16}{:<44}{:>10} {:<5}{:<28}{:>7}  {:<14}{}",
            "row", "", "ours", "", "peer", "ratio", "target", "met"
        )
    }

    pub(crate) fn json(&self, conditions: &str) -> String {
        let (name, measured) = match &self.peer {
            Peer::Measured(name, _) => (Some(*name), true),
            Peer::Figure(name, _) => (Some(*name), false),
            Peer::Missing(_) | Peer::None => (None, false),
        };
        let missing = match &self.peer {
            Peer::Missing(why) => Some(why),
            _ => None,
        };
        json!({
            "row": self.id, "what": self.what, "ours": self.ours, "peer": self.peer_value(), "peerName": name,
            "peerMeasuredHere": measured, "peerMissing": missing, "unit": self.unit, "ratio": self.ratio(),
            "target": self.target_text(), "met": self.met(), "conditions": conditions,
        })
        .to_string()
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ratio = self.ratio().map(|ratio| format!("{ratio:.3}")).unwrap_or_default();
        write!(
            f,
            "{:<16}{:<44}{:>10.2} {:<5}{:<28}{ratio:>7}  {:<14}{}",
            self.id,
            self.what,
            self.ours,
            self.unit,
            self.peer_text(),
            self.target_text(),
            match self.met() {
                Some(true) => "yes",
                Some(false) => "NO",
                None => "",
            }
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

    pub(crate) fn extend(&mut self, durations: impl IntoIterator<Item = Duration>) {
        self.0.extend(durations);
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

/// Cores, load and versions: what a reader needs to judge absolute numbers. The load is that of the last minute.
pub(crate) fn conditions() -> String {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let version = |program: &str| {
        let output = Command::new(program).arg("--version").output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().next().map(str::to_owned)
    };
    let peers: Vec<String> = ["crun", "runc", "etcd"].into_iter().filter_map(version).collect();
    format!("{cores} cores, load {}, Linux {kernel}; {}", load(), peers.join(", "))
}

/// Average number of runnable processes over the last minute.
pub(crate) fn load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split_whitespace().next().unwrap_or("?").to_owned()
}
