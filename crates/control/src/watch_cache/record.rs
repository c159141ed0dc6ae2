//! One version of one object, as it is served.

use crate::encryption::unreadable;
use crate::registry::facts::Facts;
use crate::registry::resource::{CLOSING, Change, Resource, Stamped, split_key};
use bytes::{BufMut, Bytes, BytesMut};
use catamaran_store::{Entry, Revision};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The bytes of an object and what selectors ask for. The bytes are those of a line of a watch; the object is a part of
/// them, so that GET, LIST and WATCH share one allocation.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) key: Arc<str>,
    pub(crate) revision: Revision,
    pub(crate) facts: Arc<Facts>,
    /// The version the bytes are in.
    pub(crate) api_version: Arc<str>,
    /// What is stored is of another version, or from before its schema changed: a write that changes nothing brings it up to
    /// date.
    pub(crate) outdated: bool,
    namespaced: bool,
    change: Change,
    line: Bytes,
    json: Range<usize>,
    /// How long it is in another language, once somebody asked: whole, and its metadata alone. 0: nobody did.
    translated: [AtomicU32; 2],
}

/// A stored value that cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadRecord {
    #[error("unable to transform key \"{key}\": {reason}")]
    Sealed { key: Arc<str>, reason: String },
    #[error("unable to decode key \"{key}\"")]
    Head {
        key: Arc<str>,
        #[source]
        source: crate::registry::resource::Malformed,
    },
    #[error("unable to decode key \"{key}\" as JSON")]
    Json {
        key: Arc<str>,
        #[source]
        source: serde_json::Error,
    },
}

impl Record {
    /// What a store entry became by its last write.
    pub(crate) fn of_entry(resource: &Resource, entry: &Entry) -> Result<Record, BadRecord> {
        let change = if entry.created == entry.modified {
            Change::Added
        } else {
            Change::Modified
        };
        if let Some(reason) = unreadable(&entry.value) {
            return Err(BadRecord::Sealed {
                key: Arc::clone(&entry.key),
                reason: reason.to_owned(),
            });
        }
        let stored = resource.as_read(&entry.value);
        let mut record = Self::new(resource, Arc::clone(&entry.key), &stored, entry.modified, change)?;
        record.outdated = matches!(stored, Cow::Owned(_)) || *record.api_version != *resource.api_version;
        Ok(record)
    }

    pub(crate) fn new(
        resource: &Resource,
        key: Arc<str>,
        stored: &[u8],
        revision: Revision,
        change: Change,
    ) -> Result<Record, BadRecord> {
        let Stamped {
            line,
            json,
            api_version,
        } = match resource.stamp(stored, revision, change) {
            Ok(stamped) => stamped,
            Err(source) => return Err(BadRecord::Head { key, source }),
        };
        let facts = match Facts::read(&line[json.clone()], &resource.field_paths) {
            Ok(facts) => Arc::new(facts),
            Err(source) => return Err(BadRecord::Json { key, source }),
        };
        Ok(Record {
            key,
            revision,
            facts,
            api_version,
            outdated: false,
            namespaced: resource.info.namespaced,
            change,
            line,
            json,
            translated: <[AtomicU32; 2]>::default(),
        })
    }

    /// A store entry, whatever is in it. Bytes this program cannot read are left alone in the store: one damaged object must not
    /// take the server down, and whoever wrote it may still need it. What stands for it says why it is not served.
    pub(crate) fn read(resource: &Resource, entry: &Entry) -> Record {
        Self::of_entry(resource, entry)
            .unwrap_or_else(|error| Self::broken(resource, &entry.key, entry.modified, &error))
    }

    /// What stands for an object whose stored bytes cannot be served. Nothing of it but the reason is to be shown.
    pub(super) fn broken(resource: &Resource, key: &Arc<str>, revision: Revision, error: &BadRecord) -> Record {
        tracing::error!(error = error as &dyn std::error::Error, "an object cannot be served");
        let mut why = error.to_string();
        if let Some(source) = std::error::Error::source(error) {
            why = format!("{why}: {source}");
        }
        Record {
            key: Arc::clone(key),
            revision,
            facts: Arc::new(Facts {
                fields: vec![Box::default(); resource.field_paths.len()].into(),
                ..Facts::default()
            }),
            api_version: resource.api_version.as_str().into(),
            outdated: false,
            namespaced: resource.info.namespaced,
            change: Change::Deleted,
            line: Bytes::from(why),
            json: 0..0,
            translated: <[AtomicU32; 2]>::default(),
        }
    }

    /// Why the object cannot be served, if it cannot.
    pub(crate) fn failure(&self) -> Option<&str> {
        let is_broken = self.json.is_empty();
        is_broken.then(|| std::str::from_utf8(&self.line).unwrap_or_default())
    }

    /// An object that is made when it is asked for, and never stored.
    pub(crate) fn computed(resource: &Resource, key: Arc<str>, json: Bytes) -> Result<Record, serde_json::Error> {
        Ok(Record {
            key,
            revision: 0,
            facts: Arc::new(Facts::read(&json, &resource.field_paths)?),
            api_version: resource.api_version.as_str().into(),
            outdated: false,
            namespaced: resource.info.namespaced,
            change: Change::Added,
            json: 0..json.len(),
            line: json,
            translated: <[AtomicU32; 2]>::default(),
        })
    }

    /// The same object as the victim of a deletion at `revision`.
    pub(crate) fn deleted(&self, resource: &Resource, stored: &[u8], revision: Revision) -> Result<Record, BadRecord> {
        let Stamped {
            line,
            json,
            api_version,
        } = resource
            .stamp(&resource.as_read(stored), revision, Change::Deleted)
            .map_err(|source| BadRecord::Head {
                key: Arc::clone(&self.key),
                source,
            })?;
        Ok(Record {
            key: Arc::clone(&self.key),
            revision,
            facts: Arc::clone(&self.facts),
            api_version,
            outdated: self.outdated,
            namespaced: self.namespaced,
            change: Change::Deleted,
            line,
            json,
            translated: <[AtomicU32; 2]>::default(),
        })
    }

    /// The change that made this version.
    pub(crate) fn change(&self) -> Change {
        self.change
    }

    pub(crate) fn namespace(&self) -> Option<&str> {
        split_key(&self.key, self.namespaced).0
    }

    pub(crate) fn name(&self) -> &str {
        split_key(&self.key, self.namespaced).1
    }

    /// The object, with its version.
    pub(crate) fn json(&self) -> Bytes {
        self.line.slice(self.json.clone())
    }

    /// The same, only to look at.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.line[self.json.clone()]
    }

    /// The line of a watch that tells about this version.
    pub(crate) fn line(&self, change: Change) -> Bytes {
        if change == self.change {
            return self.line.clone();
        }
        let opening = change.opening();
        let json = self.bytes();
        let mut line = BytesMut::with_capacity(opening.len() + json.len() + CLOSING.len());
        line.put_slice(opening);
        line.put_slice(json);
        line.put_slice(CLOSING);
        line.freeze()
    }

    /// How long it is in protobuf, whole or its `metadata` alone; `measure` finds out if nobody asked before.
    pub(crate) fn translated_len<E>(
        &self,
        metadata: bool,
        measure: impl FnOnce() -> Result<usize, E>,
    ) -> Result<usize, E> {
        let known = &self.translated[usize::from(metadata)];
        match known.load(Ordering::Relaxed) {
            0 => {
                let length = measure()?;
                known.store(u32::try_from(length).unwrap_or(0), Ordering::Relaxed);
                Ok(length)
            }
            length => Ok(length as usize),
        }
    }

    /// Size of the served bytes.
    pub(crate) fn len(&self) -> usize {
        self.line.len()
    }
}
