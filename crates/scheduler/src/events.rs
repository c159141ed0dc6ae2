//! Events about pods: `Scheduled` and `FailedScheduling`.
//!
//! They are for people, so nothing waits for them: a burst beyond the queue's bound is dropped. A repetition raises the
//! count of the first event instead of adding another, and is written only now and then.

use crate::pod::{PodKey, PodView};
use crate::write::chain;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Events that may wait to be written.
const QUEUE: usize = 4_096;
/// Pods whose repetitions are counted. Beyond it, counting starts anew.
const SERIES: usize = 4_096;
/// How often a growing count is written.
const REWRITE: Duration = Duration::from_secs(10);

/// Takes events without ever waiting.
pub(crate) struct Events {
    queue: mpsc::Sender<Occurrence>,
    writer: JoinHandle<()>,
}

struct Occurrence {
    pod: PodKey,
    uid: Arc<str>,
    warning: bool,
    message: String,
}

impl Events {
    pub(crate) fn start(client: Client, reporter: String) -> Events {
        let (queue, occurrences) = mpsc::channel(QUEUE);
        let writer = Writer {
            client,
            reporter,
            series: HashMap::new(),
        };
        Events {
            queue,
            writer: tokio::spawn(writer.run(occurrences)),
        }
    }

    pub(crate) fn scheduled(&self, pod: &PodView, node: &str) {
        self.send(pod, false, format!("Successfully assigned {} to {node}", pod.key));
    }

    pub(crate) fn failed_scheduling(&self, pod: &PodView, message: &str) {
        self.send(pod, true, message.to_owned());
    }

    fn send(&self, pod: &PodView, warning: bool, message: String) {
        let occurrence = Occurrence {
            pod: pod.key.clone(),
            uid: Arc::clone(&pod.uid),
            warning,
            message,
        };
        if self.queue.try_send(occurrence).is_err() {
            tracing::debug!(pod = %pod.key, "an event was dropped: too many are waiting");
        }
    }

    /// Writes what is waiting, for at most `patience`.
    pub(crate) async fn finish(self, patience: Duration) {
        drop(self.queue);
        let writer = self.writer;
        let abort = writer.abort_handle();
        if tokio::time::timeout(patience, writer).await.is_err() {
            abort.abort();
        }
    }
}

struct Writer {
    client: Client,
    reporter: String,
    /// The last failure event of a pod, by uid.
    series: HashMap<Arc<str>, Series>,
}

struct Series {
    name: String,
    message: String,
    count: i32,
    written: Instant,
}

impl Series {
    /// True when the count is due to be written.
    fn count_one_more(&mut self, now: Instant) -> bool {
        self.count += 1;
        let due = now.duration_since(self.written) >= REWRITE;
        if due {
            self.written = now;
        }
        due
    }
}

impl Writer {
    async fn run(mut self, mut occurrences: mpsc::Receiver<Occurrence>) {
        while let Some(occurrence) = occurrences.recv().await {
            if let Err(error) = self.write(&occurrence).await {
                tracing::debug!(pod = %occurrence.pod, error = chain(&error), "writing an event failed");
            }
        }
    }

    async fn write(&mut self, occurrence: &Occurrence) -> Result<(), kube::Error> {
        if !occurrence.warning {
            self.series.remove(&occurrence.uid);
            return self.create(occurrence).await.map(drop);
        }
        if self.repeat(occurrence).await? {
            return Ok(());
        }
        let name = self.create(occurrence).await?;
        if self.series.len() >= SERIES {
            self.series.clear();
        }
        let series = Series {
            name,
            message: occurrence.message.clone(),
            count: 1,
            written: Instant::now(),
        };
        self.series.insert(Arc::clone(&occurrence.uid), series);
        Ok(())
    }

    /// Counts a repetition of the last event; false when it is none, or when that event is gone by now.
    async fn repeat(&mut self, occurrence: &Occurrence) -> Result<bool, kube::Error> {
        let Some(series) = self
            .series
            .get_mut(&occurrence.uid)
            .filter(|series| series.message == occurrence.message)
        else {
            return Ok(false);
        };
        if !series.count_one_more(Instant::now()) {
            return Ok(true);
        }
        let api: Api<Event> = Api::namespaced(self.client.clone(), &occurrence.pod.namespace);
        let patch = serde_json::json!({ "count": series.count, "lastTimestamp": Time(Timestamp::now()) });
        match api
            .patch(&series.name, &PatchParams::default(), &Patch::Merge(patch))
            .await
        {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn create(&self, occurrence: &Occurrence) -> Result<String, kube::Error> {
        let now = Timestamp::now();
        let name = format!("{}.{:x}", occurrence.pod.name, now.as_nanosecond());
        let (type_, reason, action) = match occurrence.warning {
            true => ("Warning", "FailedScheduling", "Scheduling"),
            false => ("Normal", "Scheduled", "Binding"),
        };
        let event = Event {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(occurrence.pod.namespace.to_string()),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference {
                api_version: Some(Pod::api_version(&()).into_owned()),
                kind: Some(Pod::kind(&()).into_owned()),
                namespace: Some(occurrence.pod.namespace.to_string()),
                name: Some(occurrence.pod.name.to_string()),
                uid: Some(occurrence.uid.to_string()),
                ..ObjectReference::default()
            },
            type_: Some(type_.to_owned()),
            reason: Some(reason.to_owned()),
            action: Some(action.to_owned()),
            message: Some(occurrence.message.clone()),
            count: Some(1),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            source: Some(EventSource {
                component: Some(self.reporter.clone()),
                host: None,
            }),
            reporting_component: Some(self.reporter.clone()),
            reporting_instance: Some(self.reporter.clone()),
            ..Event::default()
        };
        let api: Api<Event> = Api::namespaced(self.client.clone(), &occurrence.pod.namespace);
        api.create(&PostParams::default(), &event).await?;
        Ok(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_are_counted_always_and_written_now_and_then() {
        let start = Instant::now();
        let mut series = Series {
            name: "p.1".to_owned(),
            message: "no".to_owned(),
            count: 1,
            written: start,
        };
        let second = Duration::from_secs(1);
        let due: Vec<u32> = (1..=25)
            .filter(|at| series.count_one_more(start + second * *at))
            .collect();
        assert_eq!((series.count, due), (26, vec![10, 20]));
    }
}
