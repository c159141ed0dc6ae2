//! What nobody asks for: events expire. (History is bounded by the store itself.)

use super::Registry;
use crate::watch_cache::Record;
use k8s_openapi::jiff::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long an event is kept after it last happened.
const EVENT_TTL_SECONDS: i64 = 60 * 60;
/// How often expired events are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// At most this many events are removed by one sweep; the next one goes on.
const SWEEP_AT_MOST: usize = 5000;
/// Removals under way at a time, so that the store commits them together.
const SWEEP_TOGETHER: usize = 64;

impl Registry {
    /// Removes expired events until `shutdown`.
    pub(crate) async fn sweep_events(self: Arc<Self>, shutdown: CancellationToken) {
        while pause(SWEEP_EVERY, &shutdown).await {
            self.sweep_events_once(Timestamp::now()).await;
        }
    }

    pub(crate) async fn sweep_events_once(&self, now: Timestamp) {
        let Some(events) = self.resource("v1", "events") else {
            return;
        };
        let Some(cache) = self.caches.of(&events) else { return };
        if cache.len() == 0 {
            return;
        }
        let prefix = events.prefix(None);
        let mut expired = cache.select(&prefix, None, 0, |record| is_expired(record, now)).records;
        expired.truncate(SWEEP_AT_MOST);
        let removals = expired.into_iter().map(|record| async move {
            // At the revision that was judged: an event that happened again in between stays.
            if let Err(error) = self.store.delete(&record.key, Some(record.revision)).await {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    event = record.name(),
                    "kept an event"
                );
            }
        });
        let running = futures::StreamExt::buffer_unordered(futures::stream::iter(removals), SWEEP_TOGETHER);
        futures::StreamExt::collect::<Vec<()>>(running).await;
    }
}

/// False at shutdown.
async fn pause(time: Duration, shutdown: &CancellationToken) -> bool {
    tokio::select! {
        () = shutdown.cancelled() => false,
        () = tokio::time::sleep(time) => true,
    }
}

fn is_expired(record: &Record, now: Timestamp) -> bool {
    let Ok(event) = serde_json::from_slice::<Times>(&record.json()) else {
        return false;
    };
    let times = [
        event.metadata.creation_timestamp,
        event.last_timestamp,
        event.event_time,
        event.series.and_then(|series| series.last_observed_time),
    ];
    // A time that is still to come is a clock that is wrong: it does not keep the event for ever.
    match times.into_iter().flatten().map(|time| time.min(now)).max() {
        Some(last) => now.as_second() - last.as_second() > EVENT_TTL_SECONDS,
        None => false,
    }
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Times {
    metadata: Metadata,
    last_timestamp: Option<Timestamp>,
    event_time: Option<Timestamp>,
    series: Option<Series>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    creation_timestamp: Option<Timestamp>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Series {
    last_observed_time: Option<Timestamp>,
}
