//! What the caches have forgotten, or never knew because they are younger: read from the store's history.

use super::{Caches, KindCache, Record, Step};
use crate::registry::resource::{Change, Resource};
use catamaran_api::Status;
use catamaran_store::{Error, Event, Revision};
use std::sync::Arc;

impl Caches {
    /// Changes of a kind after `seen`, and up to which revision they reach: further than `seen`, and not further than
    /// the caches, so that the tail can take over.
    ///
    /// # Errors
    /// An expired version if the store has forgotten them too.
    pub(crate) async fn past(
        &self,
        kind: &KindCache,
        prefix: &str,
        seen: Revision,
    ) -> Result<(Vec<Arc<Step>>, Revision), Status> {
        let stretch = match self.store.changes(prefix, seen, self.applied()).await {
            Ok(stretch) => stretch,
            Err(Error::Compacted { oldest, .. }) => return Err(Status::too_old_resource_version(seen, oldest)),
            Err(Error::Closed) => return Err(Status::service_unavailable("the server is shutting down")),
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the store's history cannot be read"
                );
                return Err(Status::internal(error));
            }
        };
        let steps = stretch.events.iter().filter_map(|event| step(&kind.resource, event));
        Ok((steps.map(Arc::new).collect(), stretch.reached))
    }
}

/// What an event of the store means, without knowing what was there before but by the event itself.
fn step(resource: &Resource, event: &Event) -> Option<Step> {
    let readable = |record: Record| record.failure().is_none().then(|| Arc::new(record));
    match event {
        Event::Put { entry, previous } => {
            let old = previous
                .as_ref()
                .and_then(|previous| readable(Record::read(resource, previous)));
            let new = Record::read(resource, entry);
            let change = match (&old, new.failure()) {
                (_, Some(_)) => Change::Deleted,
                (Some(_), None) => Change::Modified,
                (None, None) => Change::Added,
            };
            let new = Arc::new(new);
            Some(Step { change, old, new })
        }
        Event::Delete { previous, revision } => {
            let old = readable(Record::read(resource, previous))?;
            let new = old.deleted(resource, &previous.value, *revision).ok()?;
            Some(Step {
                change: Change::Deleted,
                old: Some(old),
                new: Arc::new(new),
            })
        }
    }
}
