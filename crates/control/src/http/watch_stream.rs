//! A watch as a stream of events: lines of JSON, or protobuf messages with their lengths in front.

use super::negotiate::{self, Language, Shape};
use super::protobuf::{self, Frames};
use super::render::{self, Style};
use crate::metrics::WatchMeter;
use crate::registry::resource::{CLOSING, Change, Resource, around_owners};
use crate::registry::{Tick, Watching};
use crate::watch_cache::Record;
use axum::body::Body;
use axum::response::Response;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use catamaran_api::Status;
use catamaran_api::table::{Table, partial_metadata};
use catamaran_store::Revision;
use futures::stream;
use http::{HeaderValue, header};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// A watch on its way to a client.
pub(super) struct WatchStream {
    watching: Watching,
    writer: Writer,
    content_type: &'static str,
    /// Given back at the end.
    _room: OwnedSemaphorePermit,
    meter: WatchMeter,
}

impl WatchStream {
    /// `bare`: without the owners of fields.
    pub(super) fn new(
        watching: Watching,
        style: Style,
        bare: bool,
        frames: Arc<Frames>,
        room: OwnedSemaphorePermit,
        meter: WatchMeter,
    ) -> Result<Self, Status> {
        let content_type = style.form.stream_type().ok_or_else(negotiate::no_stream)?;
        let (is_protobuf, is_whole) = (
            style.form.language == Language::Protobuf,
            style.form.shape == Shape::Whole,
        );
        if is_protobuf && is_whole && !protobuf::is_known(watching.resource()) {
            return Err(negotiate::not_acceptable());
        }
        let writer = Writer {
            style,
            bare: bare && style.form.language == Language::Json,
            frames,
            resource: Arc::clone(watching.resource()),
            first_table: true,
            over: false,
        };
        Ok(WatchStream {
            watching,
            writer,
            content_type,
            _room: room,
            meter,
        })
    }

    /// When it ends, if nothing else ends it.
    pub(super) fn deadline(&self) -> tokio::time::Instant {
        self.watching.deadline()
    }

    /// Are its events text?
    pub(super) fn is_text(&self) -> bool {
        self.writer.style.form.language != Language::Protobuf
    }

    /// The next events, as they stand in the body of an answer; `None` at the end of the watch.
    async fn next(&mut self) -> Option<Bytes> {
        let ticks = self.next_ticks().await?;
        let bytes = self.writer.write(&ticks);
        self.meter.sent(ticks.len(), bytes.len());
        Some(bytes)
    }

    /// The next events, each a message of its own: without a length in front.
    pub(super) async fn next_messages(&mut self) -> Option<Vec<Bytes>> {
        let ticks = self.next_ticks().await?;
        let mut messages = Vec::with_capacity(ticks.len());
        for tick in &ticks {
            messages.push(self.message(tick));
            if self.writer.over {
                break;
            }
        }
        self.meter.sent(messages.len(), messages.iter().map(Bytes::len).sum());
        Some(messages)
    }

    async fn next_ticks(&mut self) -> Option<Vec<Tick>> {
        match self.writer.over {
            true => None,
            false => self.watching.next().await,
        }
    }

    fn message(&mut self, tick: &Tick) -> Bytes {
        let mut bytes = self.writer.write(std::slice::from_ref(tick));
        if !self.is_text() {
            bytes.advance(protobuf::FRAME_HEAD.min(bytes.len()));
        }
        bytes
    }

    /// The answer that carries it.
    pub(super) fn response(self) -> Response {
        let content_type = HeaderValue::from_static(self.content_type);
        let events = stream::unfold(self, |mut stream| async move {
            let bytes = stream.next().await?;
            Some((Ok::<Bytes, Infallible>(bytes), stream))
        });
        let mut response = Response::new(Body::from_stream(events));
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
        response
    }
}

struct Writer {
    style: Style,
    /// JSON without the owners of fields.
    bare: bool,
    frames: Arc<Frames>,
    resource: Arc<Resource>,
    /// The first table of a watch has the columns, the others go without.
    first_table: bool,
    /// An event could not be said, which was the last thing to say.
    over: bool,
}

impl Writer {
    fn write(&mut self, ticks: &[Tick]) -> Bytes {
        // Most often it is one change of one whole object: its line exists already and all watchers share it.
        if let ([Tick::Object(change, record)], Shape::Whole, false) = (ticks, self.style.form.shape, self.bare) {
            if self.style.form.language != Language::Protobuf {
                return record.line(*change);
            }
            if let Some(frame) = self.frames.get(record, *change) {
                return frame;
            }
        }
        let mut lines = BytesMut::with_capacity(ticks.iter().map(size).sum());
        for tick in ticks {
            self.line(&mut lines, tick);
            if self.over {
                break;
            }
        }
        lines.freeze()
    }

    fn line(&mut self, lines: &mut BytesMut, tick: &Tick) {
        let protobuf = self.style.form.language == Language::Protobuf;
        match tick {
            Tick::Object(change, record) if protobuf && self.style.form.shape == Shape::PartialMetadata => {
                if !protobuf::put_partial_event(lines, *change, record) {
                    self.fail(lines);
                }
            }
            Tick::Object(change, record) if protobuf => match self.frames.get(record, *change) {
                Some(frame) => lines.put_slice(&frame),
                None => self.fail(lines),
            },
            Tick::Object(change, record) if self.bare && self.put_bare(lines, *change, record) => {}
            Tick::Object(change, record) if self.style.form.shape == Shape::Whole => {
                lines.put_slice(change.opening());
                lines.put_slice(record.bytes());
                lines.put_slice(CLOSING);
            }
            // As the garbage collector sees every change of every object: cut out, not taken apart.
            Tick::Object(change, record) if self.style.form.shape == Shape::PartialMetadata => {
                lines.put_slice(change.opening());
                render::put_partial(lines, record.bytes());
                lines.put_slice(CLOSING);
            }
            Tick::Object(change, record) => self.shaped(lines, *change, record, None),
            Tick::Left(record, revision) => self.shaped(lines, Change::Deleted, record, Some(*revision)),
            Tick::Bookmark {
                revision,
                initial_events_end,
            } => {
                let object = self.bookmark(*revision, *initial_events_end);
                self.put(lines, "BOOKMARK", &object);
            }
            Tick::Error(status) => self.put(lines, "ERROR", &status.to_value()),
        }
    }

    /// Without the owners of fields, if there are any.
    fn put_bare(&self, lines: &mut BytesMut, change: Change, record: &Record) -> bool {
        let Some((before, after)) = around_owners(record.bytes()) else {
            return false;
        };
        match self.style.form.shape {
            Shape::Whole => {
                lines.put_slice(change.opening());
                lines.put_slice(before);
                lines.put_slice(after);
            }
            Shape::PartialMetadata => {
                lines.put_slice(change.opening());
                render::put_partial(lines, &[before, after].concat());
            }
            Shape::Table | Shape::Discovery => return false,
        }
        lines.put_slice(CLOSING);
        true
    }

    fn put(&mut self, lines: &mut BytesMut, event: &str, object: &Value) {
        let json = object.to_string();
        if self.style.form.language == Language::Protobuf {
            if !protobuf::put_event(lines, event, json.as_bytes()) {
                self.fail(lines);
            }
            return;
        }
        lines.put_slice(format!(r#"{{"type":"{event}","object":"#).as_bytes());
        lines.put_slice(json.as_bytes());
        lines.put_slice(CLOSING);
    }

    /// Ends the watch at an event that has no form in its language. A client that missed one without knowing would go on with
    /// what is not true; one that is told lists anew.
    fn fail(&mut self, lines: &mut BytesMut) {
        tracing::error!(kind = %self.resource.info.kind, "an event of a watch has no protobuf form");
        self.over = true;
        let status = Status::internal("an event of this watch has no protobuf form");
        protobuf::put_event(lines, "ERROR", status.to_value().to_string().as_bytes());
    }

    /// An object that has to be taken apart: for its shape, or because it is shown with another version than its own.
    fn shaped(&mut self, lines: &mut BytesMut, change: Change, record: &Record, revision: Option<Revision>) {
        match self.shape(record, revision) {
            Ok(value) => self.put(lines, change.name(), &value),
            Err(status) => self.put(lines, "ERROR", &status.to_value()),
        }
    }

    fn shape(&mut self, record: &Record, revision: Option<Revision>) -> Result<Value, Status> {
        let json = record.json();
        let mut value = render::parse(&json)?;
        if let Some(revision) = revision {
            value["metadata"]["resourceVersion"] = json!(revision.to_string());
        }
        match self.style.form.shape {
            Shape::Whole | Shape::Discovery => Ok(value),
            Shape::PartialMetadata => Ok(partial_metadata(&value)),
            Shape::Table => {
                let version = value["metadata"]["resourceVersion"].clone();
                let row = render::row(&self.resource, &json, &value, self.style.include, Timestamp::now())?;
                self.table(&version, vec![row])
            }
        }
    }

    fn table(&mut self, version: &Value, rows: Vec<catamaran_api::table::Row>) -> Result<Value, Status> {
        let columns = if std::mem::take(&mut self.first_table) {
            self.resource.kind.columns()
        } else {
            &[]
        };
        serde_json::to_value(Table::new(json!({ "resourceVersion": version }), columns, rows)).map_err(Status::internal)
    }

    fn bookmark(&mut self, revision: Revision, initial_events_end: bool) -> Value {
        let version = json!(revision.to_string());
        let mut metadata = json!({ "resourceVersion": version });
        if initial_events_end {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let info = &self.resource.info;
        match self.style.form.shape {
            Shape::Table => self.table(&version, Vec::new()).unwrap_or_default(),
            Shape::PartialMetadata => {
                json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata })
            }
            Shape::Whole | Shape::Discovery => {
                json!({ "kind": info.kind, "apiVersion": self.resource.api_version, "metadata": metadata })
            }
        }
    }
}

fn size(tick: &Tick) -> usize {
    match tick {
        Tick::Object(_, record) | Tick::Left(record, _) => record.len() + 16,
        Tick::Bookmark { .. } | Tick::Error(_) => 512,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use catamaran_api::table::IncludeObject;

    #[test]
    fn an_event_that_cannot_be_said_is_the_last() {
        let kind = crate::kinds::ALL.iter().find(|kind| kind.info().kind == "ConfigMap");
        let resource = Arc::new(Resource::builtin(*kind.unwrap()));
        let tick = |kind: &str| {
            let json = json!({ "kind": kind, "apiVersion": "v1", "metadata": { "name": "a" } }).to_string();
            let record = Record::computed(&resource, "/registry/core/configmaps/default/a".into(), json.into());
            Tick::Object(Change::Added, Arc::new(record.unwrap()))
        };
        let writer = || Writer {
            style: Style {
                form: negotiate::Form {
                    language: Language::Protobuf,
                    shape: Shape::Whole,
                },
                include: IncludeObject::Metadata,
            },
            bare: false,
            frames: Arc::default(),
            resource: Arc::clone(&resource),
            first_table: true,
            over: false,
        };
        let has = |bytes: &[u8], text: &str| {
            bytes
                .windows(text.len())
                .filter(|part| *part == text.as_bytes())
                .count()
        };
        let mut whole = writer();
        let bytes = whole.write(&[tick("ConfigMap")]);
        assert_eq!((has(&bytes, "ADDED"), whole.over), (1, false));
        for ticks in [&[tick("Nonsense")][..], &[tick("Nonsense"), tick("ConfigMap")][..]] {
            let mut broken = writer();
            let bytes = broken.write(ticks);
            assert_eq!((has(&bytes, "ERROR"), has(&bytes, "ADDED")), (1, 0), "{bytes:?}");
            assert_eq!(
                has(
                    &bytes,
                    "Internal error occurred: an event of this watch has no protobuf form"
                ),
                1
            );
            assert!(broken.over);
        }
    }
}
