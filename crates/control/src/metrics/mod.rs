//! What the server tells about itself, under the names Kubernetes' dashboards and alerts ask for.
//! <https://kubernetes.io/docs/reference/instrumentation/metrics/>
//!
//! The families are our own (`family.rs`, a few lines of atomics) rather than a library's: a request should cost one look-up
//! and three additions, with labels that are rendered once, when they are first seen, and never again.
//!
//! | file | its one concern |
//! |---|---|
//! | `admission.rs` | steps, plugins, webhooks and policies of admission |
//! | `family.rs` | counters, gauges and histograms by labels, and their text form |
//! | `process.rs` | what the kernel knows of this process |
//! | `slis.rs` | what came of health checks |
//! | `store.rs` | a layer around the store that times it |

mod admission;
mod family;
mod process;
mod slis;
mod store;

pub(crate) use admission::{Admission, WebhookCall};
pub(crate) use store::Measured;

use crate::flow::{LevelStats, Refusal, Schema};
use crate::http::Class;
use family::{Counters, Gauges, Histogram, Histograms, Text};
use slis::Slis;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const REQUEST_SECONDS: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
];
const STORE_SECONDS: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
];
const RESPONSE_BYTES: &[f64] = &[1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
const EVENT_BYTES: &[f64] = &[1024.0, 2048.0, 4096.0, 8192.0, 16384.0, 32768.0, 65536.0, 131_072.0];
const WAIT_SECONDS: &[f64] = &[0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0];

/// A number a level has.
type OfLevel = fn(&LevelStats) -> f64;

/// Everything that is counted.
pub(crate) struct Metrics {
    started: std::time::SystemTime,
    requests: Counters,
    durations: Histograms,
    response_bytes: Histograms,
    terminations: Counters,
    read_only: AtomicI64,
    mutating: AtomicI64,
    long_running: Gauges,
    watch_events: Counters,
    watch_bytes: Histograms,
    dispatched: Counters,
    rejected: Counters,
    waits: Histograms,
    store_seconds: Histograms,
    store_requests: Counters,
    store_errors: Counters,
    audit_events: Counters,
    audit_errors: Counters,
    pub(crate) slis: Slis,
}

impl Metrics {
    pub(crate) fn new() -> Arc<Metrics> {
        Arc::new(Metrics {
            started: std::time::SystemTime::now(),
            requests: Counters::default(),
            durations: Histograms::new(REQUEST_SECONDS),
            response_bytes: Histograms::new(RESPONSE_BYTES),
            terminations: Counters::default(),
            read_only: AtomicI64::new(0),
            mutating: AtomicI64::new(0),
            long_running: Gauges::default(),
            watch_events: Counters::default(),
            watch_bytes: Histograms::new(EVENT_BYTES),
            dispatched: Counters::default(),
            rejected: Counters::default(),
            waits: Histograms::new(WAIT_SECONDS),
            store_seconds: Histograms::new(STORE_SECONDS),
            store_requests: Counters::default(),
            store_errors: Counters::default(),
            audit_events: Counters::default(),
            audit_errors: Counters::default(),
            slis: Slis::default(),
        })
    }

    /// A request begins. What is returned counts it as under way until it is dropped.
    pub(crate) fn begin(self: &Arc<Self>, class: &Arc<Class>, dry_run: bool) -> Underway {
        if class.long_running {
            self.long_running.add(&long_running_labels(class), 1);
        } else {
            self.inflight(class).fetch_add(1, Ordering::Relaxed);
        }
        Underway {
            metrics: Arc::clone(self),
            class: Arc::clone(class),
            dry_run,
            since: Instant::now(),
        }
    }

    fn inflight(&self, class: &Class) -> &AtomicI64 {
        match is_read_only(class.verb) {
            true => &self.read_only,
            false => &self.mutating,
        }
    }

    pub(crate) fn dispatched(&self, schema: &Schema, waited: Duration) {
        let labels = flow_labels(schema);
        self.dispatched.add(&labels, 1);
        self.waits
            .observe(&format!("execute=\"true\",{labels}"), waited.as_secs_f64());
    }

    pub(crate) fn rejected(&self, schema: &Schema, refusal: Refusal) {
        let labels = format!("{},reason=\"{}\"", flow_labels(schema), refusal.reason());
        self.rejected.add(&labels, 1);
    }

    /// Counts the events of one watch; labels are rendered once.
    pub(crate) fn watch(self: &Arc<Self>, group: &str, version: &str, resource: &str) -> WatchMeter {
        let labels = format!("group=\"{group}\",resource=\"{resource}\",version=\"{version}\"");
        WatchMeter {
            metrics: Arc::clone(self),
            labels,
            series: None,
        }
    }

    pub(crate) fn store(&self, operation: &str, key: &str, failed: bool, took: Duration) {
        let (group, resource) = store::resource_of(key);
        let labels = format!("group=\"{group}\",operation=\"{operation}\",resource=\"{resource}\"");
        self.store_requests.add(&labels, 1);
        self.store_seconds.observe(&labels, took.as_secs_f64());
        if failed {
            self.store_errors.add(&labels, 1);
        }
    }

    pub(crate) fn audit_event(&self) {
        self.audit_events.add("", 1);
    }

    /// Events that a part of the audit log (`log`, `buffered`, `webhook`) could not pass on.
    pub(crate) fn audit_error(&self, plugin: &str, count: u64) {
        self.audit_errors.add(&format!("plugin=\"{plugin}\""), count);
    }

    /// The text form. `objects` are counts by group and resource, and so are `decode_errors`; `levels` is what priority levels
    /// are doing.
    pub(crate) fn render(
        &self,
        objects: &[(String, String, u64)],
        decode_errors: &[(String, String, u64)],
        levels: &[LevelStats],
        store_bytes: u64,
        admission: &Admission,
    ) -> String {
        let mut text = Text::default();
        admission.render(&mut text);
        self.render_requests(&mut text);
        self.render_flow(&mut text, levels);
        self.render_store(&mut text, objects, store_bytes);
        text.counts(
            "apiserver_storage_decode_errors_total",
            "Stored objects that could not be read, by group and resource.",
            decode_errors
                .iter()
                .map(|(group, resource, count)| (format!("group=\"{group}\",resource=\"{resource}\""), *count)),
        );
        text.counters(
            "apiserver_audit_event_total",
            "Audit events made and handed to the log.",
            &self.audit_events,
        );
        text.counters(
            "apiserver_audit_error_total",
            "Audit events that were not told, by what failed to.",
            &self.audit_errors,
        );
        text.gauge(
            "kubernetes_build_info",
            "A constant 1, labelled with what was built.",
            &[(
                format!(
                    "compiler=\"rustc\",git_version=\"{}\",major=\"1\",minor=\"35\"",
                    crate::http::GIT_VERSION
                ),
                1.0,
            )],
        );
        process::render(&mut text, self.started);
        text.finish()
    }

    /// The text form of [`Slis`].
    pub(crate) fn render_slis(&self) -> String {
        self.slis.render(self.started)
    }

    fn render_requests(&self, text: &mut Text) {
        text.counters(
            "apiserver_request_total",
            "Requests by verb, resource and HTTP code.",
            &self.requests,
        );
        text.histograms(
            "apiserver_request_duration_seconds",
            "Time to the answer, by verb and resource.",
            &self.durations,
        );
        text.histograms(
            "apiserver_response_sizes",
            "Length of answers in bytes, by verb and resource.",
            &self.response_bytes,
        );
        text.counters(
            "apiserver_request_terminations_total",
            "Requests that the server ended to protect itself.",
            &self.terminations,
        );
        let number = |gauge: &AtomicI64| {
            let value = gauge.load(Ordering::Relaxed);
            i32::try_from(value).map_or(f64::MAX, f64::from)
        };
        text.gauge(
            "apiserver_current_inflight_requests",
            "Requests being worked on, by kind.",
            &[
                ("request_kind=\"mutating\"".to_owned(), number(&self.mutating)),
                ("request_kind=\"readOnly\"".to_owned(), number(&self.read_only)),
            ],
        );
        text.gauges(
            "apiserver_longrunning_requests",
            "Requests that are meant to last, by verb and resource.",
            &self.long_running,
        );
        text.counters(
            "apiserver_watch_events_total",
            "Events sent to watchers.",
            &self.watch_events,
        );
        text.histograms(
            "apiserver_watch_events_sizes",
            "Length of what was sent to watchers at a time, in bytes.",
            &self.watch_bytes,
        );
    }

    fn render_flow(&self, text: &mut Text, levels: &[LevelStats]) {
        text.counters(
            "apiserver_flowcontrol_dispatched_requests_total",
            "Requests whose turn came.",
            &self.dispatched,
        );
        text.counters(
            "apiserver_flowcontrol_rejected_requests_total",
            "Requests whose turn never came.",
            &self.rejected,
        );
        text.histograms(
            "apiserver_flowcontrol_request_wait_duration_seconds",
            "How long requests waited for their turn.",
            &self.waits,
        );
        let by_level = |value: OfLevel| -> Vec<(String, f64)> {
            let labels = |level: &LevelStats| format!("priority_level=\"{}\"", level.name);
            levels.iter().map(|level| (labels(level), value(level))).collect()
        };
        #[expect(clippy::cast_precision_loss, reason = "nobody has so many requests")]
        let gauges: [(&str, &str, OfLevel); 4] = [
            (
                "apiserver_flowcontrol_nominal_limit_seats",
                "Seats a level has.",
                |level| f64::from(level.nominal_seats),
            ),
            (
                "apiserver_flowcontrol_current_executing_seats",
                "Seats in use.",
                |level| f64::from(level.executing_seats),
            ),
            (
                "apiserver_flowcontrol_current_executing_requests",
                "Requests being worked on.",
                |level| level.executing as f64,
            ),
            (
                "apiserver_flowcontrol_current_inqueue_requests",
                "Requests that wait for their turn.",
                |level| level.waiting as f64,
            ),
        ];
        for (name, help, value) in gauges {
            text.gauge(name, help, &by_level(value));
        }
    }

    fn render_store(&self, text: &mut Text, objects: &[(String, String, u64)], store_bytes: u64) {
        #[expect(clippy::cast_precision_loss, reason = "nobody has so many objects")]
        let counts = |labels: fn(&str, &str) -> String| -> Vec<(String, f64)> {
            let count = |(group, resource, count): &(String, String, u64)| (labels(group, resource), *count as f64);
            objects.iter().map(count).collect()
        };
        text.gauge(
            "apiserver_resource_objects",
            "Stored objects, by group and resource.",
            &counts(|group, resource| format!("group=\"{group}\",resource=\"{resource}\"")),
        );
        text.gauge(
            "apiserver_storage_objects",
            "Stored objects, by resource.",
            &counts(|group, resource| match group {
                "" => format!("resource=\"{resource}\""),
                group => format!("resource=\"{resource}.{group}\""),
            }),
        );
        #[expect(clippy::cast_precision_loss, reason = "nobody has so large a disk")]
        text.gauge(
            "apiserver_storage_size_bytes",
            "Size of the state database's file.",
            &[("storage_cluster_id=\"default\"".to_owned(), store_bytes as f64)],
        );
        text.histograms(
            "etcd_request_duration_seconds",
            "Time the store took, by operation and resource.",
            &self.store_seconds,
        );
        text.counters(
            "etcd_requests_total",
            "Requests to the store, by operation and resource.",
            &self.store_requests,
        );
        text.counters(
            "etcd_request_errors_total",
            "Requests the store refused or failed, by operation and resource.",
            &self.store_errors,
        );
    }
}

/// A request under way.
pub(crate) struct Underway {
    metrics: Arc<Metrics>,
    class: Arc<Class>,
    dry_run: bool,
    since: Instant,
}

impl Underway {
    /// The answer is there. Streams go on being counted as long as this lives.
    pub(crate) fn answered(&self, code: u16, length: Option<u64>) {
        let labels = request_labels(&self.class);
        let dry_run = if self.dry_run { "All" } else { "" };
        self.metrics
            .requests
            .add(&format!("code=\"{code}\",dry_run=\"{dry_run}\",{labels}"), 1);
        let took = self.since.elapsed().as_secs_f64();
        self.metrics
            .durations
            .observe(&format!("dry_run=\"{dry_run}\",{labels}"), took);
        if let (Some(length), "get" | "list") = (length, self.class.verb) {
            #[expect(clippy::cast_precision_loss, reason = "no answer is so long")]
            self.metrics.response_bytes.observe(&labels, length as f64);
        }
        if matches!(code, 429 | 504) {
            self.metrics.terminations.add(&format!("code=\"{code}\",{labels}"), 1);
        }
    }

    pub(crate) fn is_long_running(&self) -> bool {
        self.class.long_running
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        if self.class.long_running {
            self.metrics.long_running.add(&long_running_labels(&self.class), -1);
        } else {
            self.metrics.inflight(&self.class).fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Counts what one watch sends.
pub(crate) struct WatchMeter {
    metrics: Arc<Metrics>,
    labels: String,
    /// Looked up when the first event is sent: a watch without any makes no series.
    series: Option<WatchSeries>,
}

/// Those of events and of their lengths, if there is room for them.
type WatchSeries = (Option<Arc<AtomicU64>>, Option<Arc<Histogram>>);

impl WatchMeter {
    pub(crate) fn sent(&mut self, events: usize, bytes: usize) {
        let WatchMeter {
            metrics,
            labels,
            series,
        } = self;
        let find = || (metrics.watch_events.series(labels), metrics.watch_bytes.series(labels));
        let (counter, lengths) = series.get_or_insert_with(find);
        if let Some(counter) = counter {
            counter.fetch_add(events as u64, Ordering::Relaxed);
        }
        if let Some(lengths) = lengths {
            #[expect(clippy::cast_precision_loss, reason = "no event is so long")]
            lengths.observe(bytes as f64);
        }
    }
}

fn is_read_only(verb: &str) -> bool {
    matches!(verb, "get" | "list" | "watch" | "head" | "options")
}

/// As Kubernetes has them: `GET`, `LIST`, `WATCH`, `POST`, …
fn metric_verb(class: &Class) -> &'static str {
    match class.verb {
        "get" | "head" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        "create" | "post" => "POST",
        "update" | "put" => "PUT",
        "patch" => "PATCH",
        "delete" => "DELETE",
        "deletecollection" => "DELETECOLLECTION",
        _ => "OTHER",
    }
}

fn request_labels(class: &Class) -> String {
    let mut labels = String::with_capacity(160);
    let (resource, subresource) = known(class);
    let _ = write!(
        labels,
        "component=\"apiserver\",group=\"{}\",resource=\"{resource}\",scope=\"{}\",subresource=\"{subresource}\",verb=\"{}\",\
         version=\"{}\"",
        if resource.is_empty() { "" } else { class.group() },
        class.scope(),
        metric_verb(class),
        if resource.is_empty() { "" } else { class.version() },
    );
    labels
}

/// Only what is served may become a label, or anybody could make as many as they like.
fn known(class: &Class) -> (&str, &str) {
    match (&class.info, class.served) {
        (Some(info), true) if class.declared => (&info.plural, &info.subresource),
        (Some(info), true) => (&info.plural, ""),
        (None, _) => ("", ""),
        (Some(_), false) => ("", ""),
    }
}

fn long_running_labels(class: &Class) -> String {
    request_labels(class)
}

fn flow_labels(schema: &Schema) -> String {
    format!(
        "flow_schema=\"{}\",priority_level=\"{}\"",
        schema.name, schema.level_name
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exposition_can_be_read() {
        let metrics = Metrics::new();
        metrics.store("get", "/registry/apps/deployments/a/b", false, Duration::from_millis(7));
        metrics.audit_event();
        let objects = [("apps".to_owned(), "deployments".to_owned(), 3)];
        let text = metrics.render(&objects, &objects, &[], 4096, &Admission::default());
        for line in [
            "# TYPE apiserver_request_total counter",
            "apiserver_storage_objects{resource=\"deployments.apps\"} 3",
            "apiserver_storage_decode_errors_total{group=\"apps\",resource=\"deployments\"} 3",
            "apiserver_storage_size_bytes{storage_cluster_id=\"default\"} 4096",
            "apiserver_audit_event_total 1",
            "etcd_request_duration_seconds_bucket{group=\"apps\",operation=\"get\",resource=\"deployments\",le=\"0.005\"} 0",
            "etcd_request_duration_seconds_bucket{group=\"apps\",operation=\"get\",resource=\"deployments\",le=\"0.025\"} 1",
            "etcd_request_duration_seconds_bucket{group=\"apps\",operation=\"get\",resource=\"deployments\",le=\"+Inf\"} 1",
            "etcd_request_duration_seconds_count{group=\"apps\",operation=\"get\",resource=\"deployments\"} 1",
        ] {
            assert!(text.lines().any(|own| own == line), "{line} is not in\n{text}");
        }
        assert!(text.contains("process_resident_memory_bytes "));
    }
}
