//! The layer around a store that seals what goes in and opens what comes out.

use super::rules::{Opened, Rules};
use async_trait::async_trait;
use bytes::Bytes;
use catamaran_store::{Entry, Error, Event, Page, Revision, Store, Stretch, Watch};
use futures::StreamExt as _;
use parking_lot::RwLock;
use ring::rand::SystemRandom;
use std::path::Path;
use std::sync::Arc;

/// A store whose values are encrypted below some prefixes. Revisions, keys and refusals are those of the store inside.
pub(crate) struct Sealed {
    inner: Arc<dyn Store>,
    rules: Arc<RwLock<Arc<Rules>>>,
    /// Held shared from the sealing of a value until it is stored, so that new rules come between writes, not into one.
    writing: tokio::sync::RwLock<()>,
    random: SystemRandom,
}

impl Sealed {
    pub(super) fn new(inner: Arc<dyn Store>, rules: Rules) -> Sealed {
        Sealed {
            inner,
            rules: Arc::new(RwLock::new(Arc::new(rules))),
            writing: tokio::sync::RwLock::new(()),
            random: SystemRandom::new(),
        }
    }

    /// From the next value on: what was sealed by the rules before is stored when this returns.
    pub(super) async fn set_rules(&self, rules: Rules) -> Result<(), Error> {
        let none = self.writing.write().await;
        *self.rules.write() = Arc::new(rules);
        drop(none);
        // A caller may have given up after its write was queued. What is asked of the store last is done last.
        self.inner.compact(self.inner.compacted()).await
    }

    pub(super) fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read())
    }

    pub(super) fn inner(&self) -> &Arc<dyn Store> {
        &self.inner
    }

    pub(super) fn seal(&self, key: &str, value: Bytes) -> Result<Bytes, Error> {
        self.rules()
            .seal(&self.random, key, value)
            .map_err(|failure| Error::Sealed {
                key: key.to_owned(),
                reason: failure.to_string(),
            })
    }
}

/// Opens one entry.
pub(super) fn opened(rules: &Rules, key: &str, value: Bytes) -> Result<Opened, Error> {
    rules.open(key, value).map_err(|failure| Error::Sealed {
        key: key.to_owned(),
        reason: failure.to_string(),
    })
}

/// What takes the place of a value that cannot be opened, with the reason behind it. Nothing that is stored starts like this.
const UNREADABLE: &[u8] = b"\0unreadable\0";

/// Why a value that was read could not be opened; `None` if it was.
pub(crate) fn unreadable(value: &[u8]) -> Option<&str> {
    let reason = value.strip_prefix(UNREADABLE)?;
    Some(std::str::from_utf8(reason).unwrap_or("unknown"))
}

/// One value that cannot be opened must not keep others from being read: it is handed on as such.
fn open_entry(rules: &Rules, entry: Entry) -> Entry {
    let value = match rules.open(&entry.key, entry.value) {
        Ok(opened) => opened.value,
        Err(failure) => [UNREADABLE, failure.to_string().as_bytes()].concat().into(),
    };
    Entry { value, ..entry }
}

fn open_event(rules: &Rules, event: Event) -> Event {
    match event {
        Event::Put { entry, previous } => Event::Put {
            entry: open_entry(rules, entry),
            previous: previous.map(|previous| open_entry(rules, previous)),
        },
        Event::Delete { previous, revision } => Event::Delete {
            previous: open_entry(rules, previous),
            revision,
        },
    }
}

#[async_trait]
impl Store for Sealed {
    async fn create(&self, key: &str, value: Bytes) -> Result<Entry, Error> {
        let _writing = self.writing.read().await;
        let sealed = self.seal(key, value.clone())?;
        let entry = self.inner.create(key, sealed).await?;
        Ok(Entry { value, ..entry })
    }

    async fn update(&self, key: &str, value: Bytes, expected: Revision) -> Result<Entry, Error> {
        let _writing = self.writing.read().await;
        let sealed = self.seal(key, value.clone())?;
        let entry = self.inner.update(key, sealed, expected).await?;
        Ok(Entry { value, ..entry })
    }

    async fn delete(&self, key: &str, expected: Option<Revision>) -> Result<(Entry, Revision), Error> {
        let (entry, revision) = self.inner.delete(key, expected).await?;
        Ok((open_entry(&self.rules(), entry), revision))
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        let entry = self.inner.get(key).await?;
        Ok(entry.map(|entry| open_entry(&self.rules(), entry)))
    }

    async fn range(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        at: Option<Revision>,
    ) -> Result<Page, Error> {
        let page = self.inner.range(prefix, after, limit, at).await?;
        let rules = self.rules();
        let entries = page.entries.into_iter().map(|entry| open_entry(&rules, entry));
        Ok(Page {
            entries: entries.collect(),
            ..page
        })
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Watch, Error> {
        let rules = Arc::clone(&self.rules);
        let watch = self.inner.watch(prefix, after).await?;
        let opened = watch.map(move |batch| {
            let rules = Arc::clone(&rules.read());
            Ok(batch?.into_iter().map(|event| open_event(&rules, event)).collect())
        });
        Ok(opened.boxed())
    }

    async fn changes(&self, prefix: &str, after: Revision, until: Revision) -> Result<Stretch, Error> {
        let stretch = self.inner.changes(prefix, after, until).await?;
        let rules = self.rules();
        let events = stretch.events.into_iter().map(|event| open_event(&rules, event));
        Ok(Stretch {
            events: events.collect(),
            ..stretch
        })
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.inner.compact(revision).await
    }

    async fn backup(&self, to: &Path) -> Result<Revision, Error> {
        self.inner.backup(to).await
    }

    fn revision(&self) -> Revision {
        self.inner.revision()
    }

    fn compacted(&self) -> Revision {
        self.inner.compacted()
    }
}
