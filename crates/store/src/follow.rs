//! One watch: history first, then the tail, without a seam.
//!
//! A watcher that starts far back must not be cut off for being slow while it still reads history, so it takes its
//! place in the tail only when it is near the end. From that moment the tail keeps everything newer, and history is
//! read up to exactly the revision at which it took its place.
//!
//! ```text
//!   Past ──(near the end: register)──► Joining ──(history read up to the seam)──► Live
//!     └───────── Compacted ───────────────┴────────── Lagged, Closed ───────────────┘──► ended
//! ```

use crate::tail::{Registration, Tail};
use crate::{Error, Event, Revision, Watch};
use async_trait::async_trait;
use futures::{StreamExt, stream};
use std::future::poll_fn;
use std::sync::Arc;

/// A watcher this close to the end takes its place in the tail.
const NEAR: Revision = 256;

/// A stretch of history.
#[derive(Debug)]
pub struct Stretch {
    pub events: Vec<Event>,
    /// Everything up to here is contained, as far as it matches.
    pub reached: Revision,
}

/// Where a backend keeps events after they were published.
#[async_trait]
pub(crate) trait History: Send + Sync + 'static {
    /// Events with revisions in `(after, until]` on keys that start with `prefix`, as many as are convenient at once
    /// (`reached` tells how far it got, at least one revision further). `Error::Compacted` when `after` is too old.
    async fn stretch(&self, prefix: &str, after: Revision, until: Revision) -> Result<Stretch, Error>;
}

enum Phase {
    Past,
    Joining(Registration, Revision),
    Live(Registration),
    Ended,
}

struct Follow {
    tail: Arc<Tail>,
    history: Arc<dyn History>,
    prefix: Arc<str>,
    reached: Revision,
    phase: Phase,
}

/// Every event after `after` below `prefix`, for ever.
pub(crate) fn follow(tail: Arc<Tail>, history: Arc<dyn History>, prefix: &str, after: Revision) -> Watch {
    let follow = Follow {
        tail,
        history,
        prefix: prefix.into(),
        reached: after,
        phase: Phase::Past,
    };
    stream::unfold(follow, |mut follow| async move {
        if matches!(follow.phase, Phase::Ended) {
            return None;
        }
        let item = follow.next().await;
        if item.is_err() {
            follow.phase = Phase::Ended;
        }
        Some((item, follow))
    })
    .boxed()
}

impl Follow {
    async fn next(&mut self) -> Result<Vec<Event>, Error> {
        loop {
            let events = match std::mem::replace(&mut self.phase, Phase::Past) {
                Phase::Past => {
                    let published = self.tail.published();
                    if published.saturating_sub(self.reached) > NEAR {
                        self.stretch(published).await?
                    } else {
                        let (registration, seam) = self.tail.register(Arc::clone(&self.prefix), self.reached);
                        self.phase = Phase::Joining(registration, seam);
                        continue;
                    }
                }
                Phase::Joining(registration, seam) if self.reached < seam => {
                    let events = self.stretch(seam).await?;
                    self.phase = Phase::Joining(registration, seam);
                    events
                }
                Phase::Joining(registration, _) => {
                    self.phase = Phase::Live(registration);
                    continue;
                }
                // Put back before waiting: the caller may drop this future and poll a new one.
                Phase::Live(registration) => {
                    self.phase = Phase::Live(registration);
                    return self.live().await;
                }
                Phase::Ended => return Err(Error::Closed),
            };
            if !events.is_empty() {
                return Ok(events);
            }
        }
    }

    async fn stretch(&mut self, until: Revision) -> Result<Vec<Event>, Error> {
        let stretch = self.history.stretch(&self.prefix, self.reached, until).await?;
        self.reached = stretch.reached;
        Ok(stretch.events)
    }

    async fn live(&mut self) -> Result<Vec<Event>, Error> {
        match &mut self.phase {
            Phase::Live(registration) => poll_fn(|context| registration.poll_read(context)).await,
            _ => Err(Error::Closed),
        }
    }
}
