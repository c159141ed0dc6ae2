//! Whether a connection is of use to anybody. One on which nothing happens is ended, so that connections that ask nothing cannot
//! take the places of others.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{Request, header};
use http_body::{Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tower::Service;

/// The place a connection takes: one of those there are, and one more for which the end of the server waits.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) _permit: OwnedSemaphorePermit,
    pub(super) _counted: TaskTrackerToken,
}

/// The requests of one connection. Nobody is woken up when there are more or fewer: who waits looks now and then.
#[derive(Debug)]
pub(super) struct Activity {
    start: Instant,
    under_way: AtomicUsize,
    /// When the last one ended: milliseconds since the start; 0 if there was none.
    ended: AtomicU64,
    /// Given back with the connection, or whatever a request made of it.
    _place: Place,
}

/// The connection of a request that wants to make something else of it.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    _activity: Arc<Activity>,
}

impl Activity {
    pub(super) fn new(place: Place) -> Self {
        Activity {
            _place: place,
            start: Instant::now(),
            under_way: AtomicUsize::new(0),
            ended: AtomicU64::new(0),
        }
    }

    /// Was there ever a request?
    pub(super) fn was_used(&self) -> bool {
        self.under_way.load(Ordering::Acquire) > 0 || self.ended.load(Ordering::Acquire) > 0
    }

    /// Waits until there was no request for `idle`, or none at all for `first`.
    pub(super) async fn ceased(&self, first: Duration, idle: Duration) {
        let mut look = self.start + first;
        loop {
            tokio::time::sleep_until(look).await;
            let now = Instant::now();
            look = match (
                self.under_way.load(Ordering::Acquire),
                self.ended.load(Ordering::Acquire),
            ) {
                (0, 0) => return,
                (0, ended) => self.start + Duration::from_millis(ended) + idle,
                _ => now + idle,
            };
            if look <= now {
                return;
            }
        }
    }

    fn begin(self: &Arc<Self>) -> UnderWay {
        self.under_way.fetch_add(1, Ordering::AcqRel);
        UnderWay(Arc::clone(self))
    }
}

/// A request, until the last byte of its answer is sent.
struct UnderWay(Arc<Activity>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        let since = u64::try_from(self.0.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.ended.store(since.max(1), Ordering::Release);
        self.0.under_way.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A service whose requests are counted.
#[derive(Clone)]
pub(super) struct Counted<S> {
    inner: S,
    activity: Arc<Activity>,
}

impl<S> Counted<S> {
    pub(super) fn new(inner: S, activity: Arc<Activity>) -> Self {
        Counted { inner, activity }
    }
}

impl<S, B> Service<Request<B>> for Counted<S>
where
    S: Service<Request<B>, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if request.headers().contains_key(header::UPGRADE) {
            request.extensions_mut().insert(Connection {
                _activity: Arc::clone(&self.activity),
            });
        }
        let under_way = self.activity.begin();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let response = answer.await?;
            Ok(response.map(|inner| {
                Body::new(Sending {
                    inner,
                    _under_way: under_way,
                })
            }))
        })
    }
}

struct Sending {
    inner: Body,
    _under_way: UnderWay,
}

impl http_body::Body for Sending {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::Semaphore;
    use tokio::time::timeout;
    use tokio_util::task::TaskTracker;

    const SOON: Duration = Duration::from_millis(1);

    #[tokio::test]
    async fn connections_that_do_nothing_cease() {
        let places = Arc::new(Semaphore::new(1));
        let tasks = TaskTracker::new();
        let activity = Arc::new(Activity::new(Place {
            _permit: places.try_acquire_owned().unwrap(),
            _counted: tasks.token(),
        }));
        activity.ceased(SOON, SOON).await;
        assert!(!activity.was_used());
        let (first, second) = (activity.begin(), activity.begin());
        assert!(timeout(SOON * 20, activity.ceased(SOON, SOON)).await.is_err());
        drop(first);
        assert!(timeout(SOON * 20, activity.ceased(SOON, SOON)).await.is_err());
        let ceased = tokio::spawn({
            let activity = Arc::clone(&activity);
            async move { activity.ceased(SOON, SOON).await }
        });
        drop(second);
        ceased.await.unwrap();
        assert!(activity.was_used());
    }
}
