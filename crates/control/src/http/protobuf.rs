//! Answers in protobuf, made out of the JSON that lies in memory while they are sent.

use super::list_body::ListBody;
use super::negotiate;
use super::render::put_partial;
use crate::registry::resource::{Change, Resource, metadata_of};
use crate::watch_cache::Record;
use bytes::{BufMut as _, Bytes, BytesMut};
use catamaran_api::Status;
use catamaran_api::schema::protobuf::{ENVELOPE_END, Encoder, encode_json, event_of, framed, put_item_head};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, OnceLock, Weak};

const META: &str = "meta.k8s.io/v1";
/// Bytes before each event of a stream: its length.
pub(super) const FRAME_HEAD: usize = 4;
/// A list that is shorter is made at once, and not measured first.
const SHORT: usize = 256 << 10;
/// JSON that is measured before other requests have a turn.
const TURN: usize = 256 << 10;

/// One object, which says what it is.
pub(super) fn object(json: &[u8]) -> Result<Bytes, Status> {
    encode_json(json).map(Bytes::from).ok_or_else(negotiate::not_acceptable)
}

/// The lists of one kind.
struct Lists {
    api_version: String,
    list_kind: String,
    kind: String,
    /// Only of their metadata?
    metadata: bool,
}

impl Lists {
    fn of(resource: &Resource, metadata: bool) -> Self {
        let (api_version, kind, list_kind) = match metadata {
            true => (META, "PartialObjectMetadata", "PartialObjectMetadataList"),
            false => (
                resource.api_version.as_str(),
                &*resource.info.kind,
                &*resource.info.list_kind,
            ),
        };
        Lists {
            api_version: api_version.to_owned(),
            list_kind: list_kind.to_owned(),
            kind: kind.to_owned(),
            metadata,
        }
    }

    /// Appends the message of an item.
    fn item(&self, record: &Record, out: &mut Vec<u8>) -> Result<(), Status> {
        let encoder = Encoder::of(&self.api_version, &self.kind).ok_or_else(negotiate::not_acceptable)?;
        let json = record.bytes();
        if self.metadata {
            let part = [&br#"{"metadata":"#[..], metadata_of(json), b"}"].concat();
            return encoder.message(&part, out).map_err(Status::internal);
        }
        encoder.message(json, out).map_err(Status::internal)
    }
}

/// A list. How long it is stands at its beginning, so that long ones are measured first, which objects remember: written twice
/// is better than kept in memory as a whole.
pub(super) async fn list(
    resource: &Arc<Resource>,
    metadata: bool,
    list_meta: &Value,
    records: Vec<Arc<Record>>,
) -> Result<ListBody, Status> {
    let lists = Lists::of(resource, metadata);
    let encoder = Encoder::of(&lists.api_version, &lists.list_kind).ok_or_else(negotiate::not_acceptable)?;
    let mut content = Vec::new();
    let list_meta = json!({ "metadata": list_meta }).to_string();
    encoder
        .message(list_meta.as_bytes(), &mut content)
        .map_err(Status::internal)?;
    let short = records.iter().map(|record| record.len()).sum::<usize>() < SHORT;
    if short {
        let mut item = Vec::new();
        for record in &records {
            item.clear();
            lists.item(record, &mut item)?;
            put_item_head(&mut content, item.len());
            content.extend_from_slice(&item);
        }
        let mut whole = encoder.envelope(content.len());
        whole.extend_from_slice(&content);
        let length = whole.len() + ENVELOPE_END.len();
        let nothing = Box::new(|_: &Record, _: &mut BytesMut| {});
        return Ok(ListBody::sized(whole, Vec::new(), ENVELOPE_END, nothing, length));
    }
    let items = measure(&lists, &records).await?;
    let mut head = encoder.envelope(content.len() + items);
    head.extend_from_slice(&content);
    let length = head.len() + items + ENVELOPE_END.len();
    let mut item = Vec::new();
    let write = move |record: &Record, out: &mut BytesMut| {
        item.clear();
        if lists.item(record, &mut item).is_ok() {
            let mut head = Vec::with_capacity(8);
            put_item_head(&mut head, item.len());
            out.put_slice(&head);
            out.put_slice(&item);
        }
    };
    Ok(ListBody::sized(head, records, ENVELOPE_END, Box::new(write), length))
}

/// The length of all items together.
async fn measure(lists: &Lists, records: &[Arc<Record>]) -> Result<usize, Status> {
    let (mut total, mut since, mut scratch) = (0, 0, Vec::new());
    for record in records {
        total += record.translated_len(lists.metadata, || {
            since += record.len();
            scratch.clear();
            lists.item(record, &mut scratch)?;
            let length = scratch.len();
            scratch.clear();
            put_item_head(&mut scratch, length);
            Ok::<usize, Status>(length + scratch.len())
        })?;
        if since > TURN {
            since = 0;
            tokio::task::yield_now().await;
        }
    }
    Ok(total)
}

/// Does the kind have a protobuf form?
pub(super) fn is_known(resource: &Resource) -> bool {
    Encoder::of(&resource.api_version, &resource.info.kind).is_some()
}

/// Events that several watches send, for as long as they are likely to: an object that changed is made into protobuf once.
#[derive(Default)]
pub(super) struct Frames([Mutex<Shard>; SHARDS]);

/// The newest of them. They keep no object alive, and are forgotten with theirs.
#[derive(Default)]
struct Shard {
    frames: VecDeque<Frame>,
    /// About how long all of them are together.
    length: usize,
}

struct Frame {
    record: Weak<Record>,
    change: Change,
    /// That of the object: its protobuf is hardly ever longer.
    length: usize,
    bytes: Arc<Made>,
}

/// Made by whoever needs it first. Others who want the same wait, but nobody else does. Nothing, if it cannot be made.
type Made = OnceLock<Option<Bytes>>;

const SHARDS: usize = 16;
/// Events in each …
const DEPTH: usize = 8;
/// … and how long they may be together. The newest one is kept, however long.
const MOST_BYTES: usize = 256 << 10;

impl Frames {
    /// The event of a whole object, with its length in front; `None` if it cannot be said in protobuf.
    pub(super) fn get(&self, record: &Arc<Record>, change: Change) -> Option<Bytes> {
        // Records are allocated: their lowest bits say nothing.
        let shard = (Arc::as_ptr(record).addr() >> 6) % SHARDS;
        let made = self.0[shard].lock().frame(record, change);
        let make = || {
            let object = encode_json(record.bytes())?;
            Some(Bytes::from(framed(&event_of(change.name(), &object))))
        };
        made.get_or_init(make).clone()
    }
}

impl Shard {
    fn frame(&mut self, record: &Arc<Record>, change: Change) -> Arc<Made> {
        // What a weak reference points to is not used for anything else as long as there is one.
        let is_it = |frame: &&Frame| frame.record.as_ptr() == Arc::as_ptr(record) && frame.change == change;
        if let Some(frame) = self.frames.iter().find(is_it) {
            return Arc::clone(&frame.bytes);
        }
        let length = record.len();
        self.frames.retain(|frame| frame.record.strong_count() > 0);
        self.length = self.frames.iter().map(|frame| frame.length).sum();
        while self.frames.len() >= DEPTH || self.length + length > MOST_BYTES {
            let Some(oldest) = self.frames.pop_front() else { break };
            self.length -= oldest.length;
        }
        let bytes = Arc::<Made>::default();
        self.length += length;
        self.frames.push_back(Frame {
            record: Arc::downgrade(record),
            change,
            length,
            bytes: Arc::clone(&bytes),
        });
        bytes
    }
}

/// The event of an object's metadata. False, and nothing, if it cannot be said in protobuf.
pub(super) fn put_partial_event(out: &mut BytesMut, change: Change, record: &Record) -> bool {
    let mut json = BytesMut::new();
    put_partial(&mut json, record.bytes());
    put_event(out, change.name(), &json)
}

/// An event, with its length in front. False, and nothing, if it cannot be said in protobuf.
pub(super) fn put_event(out: &mut BytesMut, event: &str, json: &[u8]) -> bool {
    let object = encode_json(json);
    if let Some(object) = &object {
        out.put_slice(&framed(&event_of(event, object)));
    }
    object.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str, length: usize) -> Arc<Record> {
        let kind = crate::kinds::ALL.iter().find(|kind| kind.info().kind == "ConfigMap");
        let resource = Resource::builtin(*kind.unwrap());
        let text = "x".repeat(length);
        let json =
            json!({ "kind": "ConfigMap", "apiVersion": "v1", "metadata": { "name": name }, "data": { "k": text } });
        let key = resource.key(Some("default"), name);
        Arc::new(Record::computed(&resource, key.into(), json.to_string().into()).unwrap())
    }

    #[test]
    fn events_are_made_once_and_kept_within_bounds() {
        let frames = Frames::default();
        let one = record("one", 10);
        let first = frames.get(&one, Change::Added).unwrap();
        assert_eq!(first.as_ptr(), frames.get(&one, Change::Added).unwrap().as_ptr());
        assert_ne!(first, frames.get(&one, Change::Modified).unwrap());

        let mut shard = Shard::default();
        let large: Vec<_> = (0..4).map(|index| record(&index.to_string(), MOST_BYTES / 3)).collect();
        for record in &large {
            shard.frame(record, Change::Added);
        }
        assert!(
            shard.length <= MOST_BYTES && shard.frames.len() == 2,
            "{}",
            shard.length
        );
        let whole = record("whole", MOST_BYTES);
        shard.frame(&whole, Change::Added);
        assert_eq!(shard.frames.len(), 1, "the newest is kept");
        drop(whole);
        assert!(shard.frames[0].record.upgrade().is_none(), "no object is kept alive");
        shard.frame(&one, Change::Added);
        assert_eq!((shard.frames.len(), shard.length), (1, one.len()));
        let small: Vec<_> = (0..20).map(|index| record(&index.to_string(), 1)).collect();
        for record in &small {
            shard.frame(record, Change::Added);
        }
        assert_eq!(shard.frames.len(), DEPTH);
    }
}
