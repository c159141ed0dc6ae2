//! Events posted to a server of the operator's, as lists: many in one request, not more requests than it was said, and each
//! request again for a while if the server cannot take it.
//! <https://kubernetes.io/docs/tasks/debug/debug-cluster/audit/#webhook-backend>

use super::{Error, Mode};
use crate::metrics::Metrics;
use crate::webhook_client;
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Requests at a time.
const MOST_REQUESTS: usize = 16;
/// How long the server may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long all of the last events together may take when this server ends.
const LAST_PATIENCE: Duration = Duration::from_secs(3);
/// How often a list is posted before it is given up, and how much longer each pause is than the one before.
const ATTEMPTS: u32 = 5;
const GROWTH: f64 = 1.5;
/// Of an answer, which says nothing that matters, so much is read to keep the connection.
const LONGEST_ANSWER: usize = 64 << 10;

/// Which server, and how it is called. Flags of kube-apiserver: `--audit-webhook-…`.
#[derive(Clone, Debug)]
pub struct WebhookConfig {
    /// A kubeconfig: its current context says where and as whom.
    pub kubeconfig: PathBuf,
    /// Blocking: every request waits until its event is told.
    pub mode: Mode,
    /// Events that may wait; more are lost, and counted.
    pub buffer_size: usize,
    /// Events in one request.
    pub max_batch_size: usize,
    /// After which a request is made although it could have more.
    pub max_batch_wait: Duration,
    /// Requests a second, on average; `None`: as many as there are.
    pub throttle_qps: Option<f32>,
    /// Requests at once, if there were fewer before.
    pub throttle_burst: u32,
    /// The pause before the second attempt.
    pub initial_backoff: Duration,
}

impl WebhookConfig {
    /// As Kubernetes has it if nothing is said.
    pub fn new(kubeconfig: PathBuf) -> Self {
        WebhookConfig {
            kubeconfig,
            mode: Mode::Batch,
            buffer_size: 10_000,
            max_batch_size: 400,
            max_batch_wait: Duration::from_secs(30),
            throttle_qps: Some(10.0),
            throttle_burst: 15,
            initial_backoff: Duration::from_secs(10),
        }
    }
}

pub(super) struct Webhook {
    way: Way,
    tasks: TaskTracker,
    /// Nothing more will be told.
    drained: CancellationToken,
    /// What is not posted by now is lost.
    over: CancellationToken,
}

/// How events get to the poster.
enum Way {
    /// Through a queue, many at a time.
    Batch(mpsc::Sender<Vec<u8>>),
    /// Each by a task of its own, which goes on when the request that waits for it does not.
    Blocking(Direct),
}

pub(super) struct Direct {
    poster: Arc<Poster>,
    /// Events that may be on their way or wait for it.
    places: Arc<Semaphore>,
    tasks: TaskTracker,
    /// Events are told wherever something is dropped, also outside of the runtime.
    runtime: Handle,
}

/// A place for one event.
pub(super) enum Room<'a> {
    Queue(mpsc::Permit<'a, Vec<u8>>),
    Direct(&'a Direct, OwnedSemaphorePermit),
}

impl Room<'_> {
    /// Hands an event over, at once. What is returned is ready when nobody has to wait for it any more.
    pub(super) fn post(self, event: Vec<u8>) -> impl Future<Output = ()> + Send + 'static {
        let posted = match self {
            Room::Queue(place) => {
                place.send(event);
                None
            }
            Room::Direct(direct, place) => {
                let poster = Arc::clone(&direct.poster);
                let post = async move {
                    let _place = place;
                    poster.post(&[event]).await;
                };
                Some(direct.tasks.spawn_on(post, &direct.runtime))
            }
        };
        async move {
            if let Some(posted) = posted {
                // It says itself what goes wrong.
                let _ = posted.await;
            }
        }
    }
}

impl Webhook {
    pub(super) async fn open(
        config: &WebhookConfig,
        metrics: &Arc<Metrics>,
        shutdown: &CancellationToken,
    ) -> Result<Self, Error> {
        let (tasks, drained, over) = (TaskTracker::new(), CancellationToken::new(), CancellationToken::new());
        let poster = Poster::new(config, metrics, shutdown.clone(), over.clone());
        let poster = poster.await.map_err(|source| Error::Webhook {
            path: config.kubeconfig.clone(),
            source,
        })?;
        let poster = Arc::new(poster);
        let way = match config.mode {
            Mode::Blocking => Way::Blocking(Direct {
                poster,
                places: Arc::new(Semaphore::new(config.buffer_size.clamp(1, Semaphore::MAX_PERMITS))),
                tasks: tasks.clone(),
                runtime: Handle::current(),
            }),
            Mode::Batch => {
                let (sender, receiver) = mpsc::channel(config.buffer_size.clamp(1, Semaphore::MAX_PERMITS));
                let batches = Batches {
                    queue: receiver,
                    batch: Vec::new(),
                    due: Instant::now(),
                    throttle: config.throttle_qps.map(|qps| Throttle::new(qps, config.throttle_burst)),
                    size: config.max_batch_size.max(1),
                    wait: config.max_batch_wait,
                };
                tasks.spawn(batches.run(poster, tasks.clone(), drained.clone()));
                Way::Batch(sender)
            }
        };
        Ok(Webhook {
            way,
            tasks,
            drained,
            over,
        })
    }

    /// A place; in blocking mode, as soon as there is one. `None` if there is none.
    pub(super) async fn room(&self) -> Option<Room<'_>> {
        match &self.way {
            Way::Batch(_) => self.room_now(),
            Way::Blocking(direct) => {
                let place = Arc::clone(&direct.places).acquire_owned().await.ok()?;
                Some(Room::Direct(direct, place))
            }
        }
    }

    pub(super) fn room_now(&self) -> Option<Room<'_>> {
        match &self.way {
            Way::Batch(queue) => queue.try_reserve().ok().map(Room::Queue),
            Way::Blocking(direct) => {
                let place = Arc::clone(&direct.places).try_acquire_owned().ok()?;
                Some(Room::Direct(direct, place))
            }
        }
    }

    /// Takes no more, and waits until everything is posted, but not for ever.
    pub(super) async fn finish(&self) {
        self.drained.cancel();
        if let Way::Blocking(direct) = &self.way {
            direct.places.close();
        }
        self.tasks.close();
        if tokio::time::timeout(LAST_PATIENCE, self.tasks.wait()).await.is_err() {
            self.over.cancel();
            self.tasks.wait().await;
        }
    }
}

/// The queue, and how it is to be emptied.
struct Batches {
    queue: mpsc::Receiver<Vec<u8>>,
    /// What the next request will have, as far as it was taken out of the queue.
    batch: Vec<Vec<u8>>,
    /// When it is made at the latest.
    due: Instant,
    throttle: Option<Throttle>,
    size: usize,
    wait: Duration,
}

impl Batches {
    /// Until `drained`, or the last that could put something into the queue is gone.
    async fn run(mut self, poster: Arc<Poster>, tasks: TaskTracker, drained: CancellationToken) {
        let room = Arc::new(Semaphore::new(MOST_REQUESTS));
        loop {
            let place = tokio::select! {
                place = self.next(&room) => place,
                () = drained.cancelled() => break,
            };
            let Some(place) = place else { return };
            let (poster, batch) = (Arc::clone(&poster), std::mem::take(&mut self.batch));
            tasks.spawn(async move {
                let _place = place;
                poster.post(&batch).await;
            });
        }
        // What was told before the end is told all the same.
        self.queue.close();
        loop {
            let batch = std::mem::take(&mut self.batch);
            if !batch.is_empty() {
                poster.post(&batch).await;
            }
            if self.queue.recv_many(&mut self.batch, self.size).await == 0 {
                return;
            }
        }
    }

    /// Waits until `batch` is complete and may be sent; `None` when there will be no more. May be dropped and called again.
    async fn next(&mut self, room: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
        while self.batch.len() < self.size {
            let event = match self.batch.len() {
                0 => {
                    let event = self.queue.recv().await?;
                    self.due = Instant::now() + self.wait;
                    Some(event)
                }
                _ => tokio::time::timeout_at(self.due, self.queue.recv())
                    .await
                    .unwrap_or_default(),
            };
            match event {
                Some(event) => self.batch.push(event),
                None => break,
            }
        }
        if let Some(throttle) = &mut self.throttle {
            throttle.take().await;
        }
        Arc::clone(room).acquire_owned().await.ok()
    }
}

/// Requests that may be made: so many a second, and some more after a rest.
struct Throttle {
    every: Duration,
    /// How far behind the clock may be: a burst.
    most: Duration,
    /// When all that were made so far would have been made evenly.
    next: Instant,
}

impl Throttle {
    fn new(per_second: f32, burst: u32) -> Self {
        let every = Duration::from_secs_f32(1.0 / per_second.max(0.001));
        Throttle {
            every,
            most: every * burst.saturating_sub(1),
            next: Instant::now(),
        }
    }

    async fn take(&mut self) {
        let at = self.reserve(Instant::now());
        tokio::time::sleep_until(at).await;
    }

    /// When the next request may be made.
    fn reserve(&mut self, now: Instant) -> Instant {
        let even = self.next.max(now.checked_sub(self.most).unwrap_or(now));
        self.next = even + self.every;
        even.max(now)
    }
}

/// Makes the requests.
struct Poster {
    client: kube::Client,
    path: String,
    initial_backoff: Duration,
    metrics: Arc<Metrics>,
    /// From then on, a server that does not take events is not asked again.
    shutdown: CancellationToken,
    /// From then on, none is waited for.
    over: CancellationToken,
}

impl Poster {
    async fn new(
        config: &WebhookConfig,
        metrics: &Arc<Metrics>,
        shutdown: CancellationToken,
        over: CancellationToken,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let kubeconfig = Kubeconfig::read_from(&config.kubeconfig)?;
        let mut server = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        // The URL is that of the server's endpoint, not what paths are put behind.
        let mut parts = std::mem::take(&mut server.cluster_url).into_parts();
        let path = parts.path_and_query.replace(http::uri::PathAndQuery::from_static("/"));
        server.cluster_url = http::Uri::from_parts(parts)?;
        Ok(Poster {
            client: kube::Client::try_from(server)?,
            path: path.map_or_else(|| "/".to_owned(), |path| path.to_string()),
            initial_backoff: config.initial_backoff,
            metrics: Arc::clone(metrics),
            shutdown,
            over,
        })
    }

    /// Posts a list, more than once if need be; while this server ends, once.
    async fn post(&self, events: &[Vec<u8>]) {
        let body = list(events);
        let mut pause = self.initial_backoff;
        for attempt in 1..=ATTEMPTS {
            let last = attempt == ATTEMPTS || self.shutdown.is_cancelled();
            let attempted = tokio::select! {
                biased;
                () = self.over.cancelled() => return self.lost(events, "it did not answer before the end"),
                attempted = self.attempt(body.clone()) => attempted,
            };
            match attempted {
                Ok(()) => return,
                Err(Refused { why, again }) if again && !last => {
                    tracing::debug!(why, attempt, "the audit webhook does not take events now");
                }
                Err(Refused { why, .. }) => return self.lost(events, &why),
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.shutdown.cancelled() => {}
            }
            pause = pause.mul_f64(GROWTH);
        }
    }

    fn lost(&self, events: &[Vec<u8>], why: &str) {
        tracing::error!(why, events = events.len(), "the audit webhook did not take events");
        self.metrics.audit_error("webhook", events.len() as u64);
    }

    async fn attempt(&self, body: Bytes) -> Result<(), Refused> {
        let refused = |again: bool| {
            move |error: &(dyn std::error::Error + 'static)| Refused {
                why: webhook_client::detail(error),
                again,
            }
        };
        let request = Request::post(&self.path)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, */*")
            .body(Body::from(body.to_vec()))
            .map_err(|error| refused(false)(&error))?;
        let sent = tokio::time::timeout(PATIENCE, self.client.send(request)).await;
        let response = match sent {
            Ok(response) => response.map_err(|error| refused(true)(&error))?,
            Err(_) => {
                return Err(Refused {
                    why: "it does not answer".to_owned(),
                    again: true,
                });
            }
        };
        let (head, body) = response.into_parts();
        // To the end, so that the connection can be used again.
        let _ = tokio::time::timeout(PATIENCE, Limited::new(body, LONGEST_ANSWER).collect()).await;
        if head.status.is_success() {
            return Ok(());
        }
        Err(Refused {
            why: format!("it answered {}", head.status),
            again: head.status == StatusCode::TOO_MANY_REQUESTS
                || head.status == StatusCode::INTERNAL_SERVER_ERROR
                || head.headers.contains_key(header::RETRY_AFTER),
        })
    }
}

struct Refused {
    why: String,
    /// Is it worth another attempt?
    again: bool,
}

/// Events as an `EventList`. They are JSON already, each on its line.
fn list(events: &[Vec<u8>]) -> Bytes {
    let mut body = br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#.to_vec();
    for (index, event) in events.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(event.trim_ascii_end());
    }
    body.extend_from_slice(b"]}");
    body.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_evenly() {
        let now = Instant::now();
        let mut throttle = Throttle::new(10.0, 3);
        let mut waits = |at: u64| {
            let at = now + Duration::from_millis(at);
            throttle.reserve(at).duration_since(at).as_millis()
        };
        // After a rest.
        assert_eq!([0; 3].map(|_| waits(10_000)), [0, 0, 0]);
        assert_eq!([waits(10_000), waits(10_000)], [100, 200]);
        assert_eq!(waits(10_300), 0);
        assert_eq!(waits(10_300), 100);
        assert_eq!([0; 4].map(|_| waits(20_000)), [0, 0, 0, 100]);
    }

    #[test]
    fn lists_are_json() {
        let list: serde_json::Value =
            serde_json::from_slice(&list(&[b"{\"a\":1}\n".to_vec(), b"{}\n".to_vec()])).unwrap();
        assert_eq!(list["items"], serde_json::json!([{ "a": 1 }, {}]));
        assert_eq!(list["kind"], "EventList");
    }
}
