//! Counters, gauges and histograms by labels, and their text form
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
//!
//! Labels are handled as the text they are shown as, `a="x",b="y"`; who makes it sees to it that values are few and need no
//! escaping. A family that has too many all the same stops taking in new ones: memory is worth more than a number.

use parking_lot::RwLock;
use std::collections::HashMap;
use std::fmt::{Display, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// At most so many different labels are kept in one family.
const MOST_SERIES: usize = 10_000;
/// Sums are kept in millionths.
const SCALE: f64 = 1e6;

struct Family<T> {
    series: RwLock<HashMap<Box<str>, Arc<T>>>,
}

impl<T> Default for Family<T> {
    fn default() -> Self {
        Family {
            series: RwLock::default(),
        }
    }
}

impl<T> Family<T> {
    fn with(&self, labels: &str, make: impl FnOnce() -> T, use_it: impl FnOnce(&Arc<T>)) {
        if let Some(series) = self.series.read().get(labels) {
            return use_it(series);
        }
        let mut all = self.series.write();
        if all.len() < MOST_SERIES || all.contains_key(labels) {
            use_it(all.entry(labels.into()).or_insert_with(|| Arc::new(make())));
        }
    }

    /// One series, to be used again and again without being looked up; `None` if there are too many.
    fn series(&self, labels: &str, make: impl FnOnce() -> T) -> Option<Arc<T>> {
        let mut found = None;
        self.with(labels, make, |series| found = Some(Arc::clone(series)));
        found
    }

    fn clear(&self) {
        self.series.write().clear();
    }

    fn sorted(&self) -> Vec<(Box<str>, Arc<T>)> {
        let all = self.series.read();
        let mut sorted: Vec<_> = all
            .iter()
            .map(|(labels, series)| (labels.clone(), Arc::clone(series)))
            .collect();
        sorted.sort_by(|(a, _), (b, _)| a.cmp(b));
        sorted
    }
}

#[derive(Default)]
pub(super) struct Counters(Family<AtomicU64>);

impl Counters {
    pub(super) fn add(&self, labels: &str, count: u64) {
        self.0.with(labels, AtomicU64::default, |counter| {
            counter.fetch_add(count, Ordering::Relaxed);
        });
    }

    /// Forgets all.
    pub(super) fn clear(&self) {
        self.0.clear();
    }

    /// The counter with these labels, for whoever adds to it often.
    pub(super) fn series(&self, labels: &str) -> Option<Arc<AtomicU64>> {
        self.0.series(labels, AtomicU64::default)
    }
}

#[derive(Default)]
pub(super) struct Gauges(Family<AtomicI64>);

impl Gauges {
    pub(super) fn add(&self, labels: &str, count: i64) {
        self.0.with(labels, AtomicI64::default, |gauge| {
            gauge.fetch_add(count, Ordering::Relaxed);
        });
    }

    pub(super) fn set(&self, labels: &str, value: i64) {
        self.0.with(labels, AtomicI64::default, |gauge| {
            gauge.store(value, Ordering::Relaxed);
        });
    }

    /// Forgets all.
    pub(super) fn clear(&self) {
        self.0.clear();
    }
}

pub(super) struct Histograms {
    bounds: &'static [f64],
    family: Family<Histogram>,
}

pub(super) struct Histogram {
    bounds: &'static [f64],
    /// How many were within a bound and not within the one before; the last one is for those beyond all.
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histograms {
    pub(super) fn new(bounds: &'static [f64]) -> Self {
        Histograms {
            bounds,
            family: Family::default(),
        }
    }

    pub(super) fn observe(&self, labels: &str, value: f64) {
        let make = || Histogram::new(self.bounds);
        self.family.with(labels, make, |histogram| histogram.observe(value));
    }

    /// The histogram with these labels, for whoever adds to it often.
    pub(super) fn series(&self, labels: &str) -> Option<Arc<Histogram>> {
        self.family.series(labels, || Histogram::new(self.bounds))
    }
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Self {
        Histogram {
            bounds,
            buckets: (0..=bounds.len()).map(|_| AtomicU64::default()).collect(),
            sum: AtomicU64::default(),
        }
    }

    pub(super) fn observe(&self, value: f64) {
        let index = self.bounds.partition_point(|bound| *bound < value);
        self.buckets[index].fetch_add(1, Ordering::Relaxed);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "times and lengths are neither negative nor as large as that"
        )]
        self.sum.fetch_add((value * SCALE) as u64, Ordering::Relaxed);
    }
}

/// An exposition in the making.
#[derive(Default)]
pub(super) struct Text(String);

impl Text {
    fn head(&mut self, name: &str, help: &str, kind: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &str, value: impl Display) {
        let _ = match labels {
            "" => writeln!(self.0, "{name} {value}"),
            labels => writeln!(self.0, "{name}{{{labels}}} {value}"),
        };
    }

    pub(super) fn counters(&mut self, name: &str, help: &str, counters: &Counters) {
        self.head(name, help, "counter");
        for (labels, counter) in counters.0.sorted() {
            self.line(name, &labels, counter.load(Ordering::Relaxed));
        }
    }

    pub(super) fn gauges(&mut self, name: &str, help: &str, gauges: &Gauges) {
        self.head(name, help, "gauge");
        for (labels, gauge) in gauges.0.sorted() {
            self.line(name, &labels, gauge.load(Ordering::Relaxed));
        }
    }

    /// Counters that somebody else keeps.
    pub(super) fn counts(&mut self, name: &str, help: &str, values: impl Iterator<Item = (String, u64)>) {
        self.head(name, help, "counter");
        for (labels, value) in values {
            self.line(name, &labels, value);
        }
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str, values: &[(String, f64)]) {
        self.head(name, help, "gauge");
        for (labels, value) in values {
            self.line(name, labels, value);
        }
    }

    pub(super) fn counter(&mut self, name: &str, help: &str, value: f64) {
        self.head(name, help, "counter");
        self.line(name, "", value);
    }

    pub(super) fn histograms(&mut self, name: &str, help: &str, histograms: &Histograms) {
        self.head(name, help, "histogram");
        for (labels, histogram) in histograms.family.sorted() {
            let comma = if labels.is_empty() { "" } else { "," };
            let mut count = 0;
            for (index, bucket) in histogram.buckets.iter().enumerate() {
                count += bucket.load(Ordering::Relaxed);
                let bound = match histograms.bounds.get(index) {
                    Some(bound) => bound.to_string(),
                    None => "+Inf".to_owned(),
                };
                self.line(
                    &format!("{name}_bucket"),
                    &format!("{labels}{comma}le=\"{bound}\""),
                    count,
                );
            }
            #[expect(clippy::cast_precision_loss, reason = "a sum need not be exact")]
            let sum = histogram.sum.load(Ordering::Relaxed) as f64 / SCALE;
            self.line(&format!("{name}_sum"), &labels, sum);
            self.line(&format!("{name}_count"), &labels, count);
        }
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}
