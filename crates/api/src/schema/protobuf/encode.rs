//! JSON of our answers as protobuf, in one pass over the bytes: no tree is built of an object that is only handed out.
//!
//! The length of a message stands before it, and is known behind it. A byte is left free for it; where that is too little, the
//! message moves up.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::plan::{Form, Plan, Slot};
use super::{Either, MAGIC, message_of};

/// Writes objects of one kind, or lists of them.
#[derive(Clone, Copy)]
pub struct Encoder<'k> {
    api_version: &'k str,
    kind: &'k str,
    message: usize,
}

/// The type an object says it has. `APIVersions` has no version.
#[derive(Deserialize)]
struct TypeMeta<'j> {
    #[serde(borrow, default, rename = "apiVersion")]
    api_version: Cow<'j, str>,
    #[serde(borrow)]
    kind: Cow<'j, str>,
}

/// An object or a list, with the marker and the envelope in front. `None`: its kind has no protobuf form.
pub fn encode(object: &Value) -> Option<Vec<u8>> {
    encode_json(&serde_json::to_vec(object).ok()?)
}

/// The same from bytes. They say of what kind they are.
pub fn encode_json(json: &[u8]) -> Option<Vec<u8>> {
    let own: TypeMeta<'_> = serde_json::from_slice(json).ok()?;
    Encoder::of(&own.api_version, &own.kind)?.object(json).ok()
}

/// What a watch sends: the event in a frame of its own (four bytes of length, most significant first), the object within
/// with marker and envelope.
pub fn encode_event(event: &str, object: &Value) -> Option<Vec<u8>> {
    Some(framed(&event_of(event, &encode(object)?)))
}

/// An event whose object is encoded already.
pub fn event_of(event: &str, object: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(object.len() + event.len() + 16);
    put_bytes(&mut message, 1, event.as_bytes());
    put_tag(&mut message, 2, LENGTH);
    let mut head = Vec::with_capacity(8);
    put_tag(&mut head, 1, LENGTH);
    put_varint(&mut head, object.len() as u64);
    put_varint(&mut message, (head.len() + object.len()) as u64);
    message.extend_from_slice(&head);
    message.extend_from_slice(object);
    message
}

/// With its length in front. No object is so long that four bytes do not say how long.
pub fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], message].concat()
}

/// Behind the object in the envelope: neither an encoding nor a type of the content.
pub const ENVELOPE_END: &[u8] = &[3 << 3 | 2, 0, 4 << 3 | 2, 0];

impl<'k> Encoder<'k> {
    /// `None`: the kind has no protobuf form.
    pub fn of(api_version: &'k str, kind: &'k str) -> Option<Self> {
        let message = Plan::get().find(&message_of(api_version, kind))?;
        Some(Encoder {
            api_version,
            kind,
            message,
        })
    }

    /// The object in its envelope.
    ///
    /// # Errors
    /// For what is no JSON.
    pub fn object(&self, json: &[u8]) -> serde_json::Result<Vec<u8>> {
        let mut raw = Vec::with_capacity(json.len());
        self.message(json, &mut raw)?;
        let mut out = self.envelope(raw.len());
        out.extend_from_slice(&raw);
        out.extend_from_slice(ENVELOPE_END);
        Ok(out)
    }

    /// Appends only the message, as it stands in a list.
    ///
    /// # Errors
    /// For what is no JSON.
    pub fn message(&self, json: &[u8], out: &mut Vec<u8>) -> serde_json::Result<()> {
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        Fields {
            message: self.message,
            out,
        }
        .deserialize(&mut deserializer)
    }

    /// All that is before a message of `length` bytes: the marker, the type, and how long it is.
    pub fn envelope(&self, length: usize) -> Vec<u8> {
        let mut type_meta = Vec::with_capacity(64);
        put_bytes(&mut type_meta, 1, self.api_version.as_bytes());
        put_bytes(&mut type_meta, 2, self.kind.as_bytes());
        let mut out = MAGIC.to_vec();
        out.reserve(length + 96);
        put_bytes(&mut out, 1, &type_meta);
        put_tag(&mut out, 2, LENGTH);
        put_varint(&mut out, length as u64);
        out
    }
}

/// Before an item of a list that is `length` bytes long.
pub fn put_item_head(out: &mut Vec<u8>, length: usize) {
    put_tag(out, 2, LENGTH);
    put_varint(out, length as u64);
}

/// The fields of one message.
struct Fields<'o> {
    message: usize,
    out: &'o mut Vec<u8>,
}

/// One value.
struct One<'o> {
    form: &'o Form,
    number: u64,
    out: &'o mut Vec<u8>,
}

/// The fields of messages that JSON does not know, until all are there.
#[derive(Default)]
struct Groups(Vec<Group>);

struct Group {
    number: u64,
    content: Vec<u8>,
    within: Groups,
}

impl Groups {
    fn at(&mut self, number: u64, path: &[u64]) -> &mut Vec<u8> {
        let index = self.0.iter().position(|group| group.number == number);
        let index = index.unwrap_or_else(|| {
            self.0.push(Group {
                number,
                content: Vec::new(),
                within: Groups::default(),
            });
            self.0.len() - 1
        });
        let group = &mut self.0[index];
        match path {
            [] => &mut group.content,
            [next, rest @ ..] => group.within.at(*next, rest),
        }
    }

    fn put(self, out: &mut Vec<u8>) {
        for mut group in self.0 {
            group.within.put(&mut group.content);
            put_bytes(out, group.number, &group.content);
        }
    }
}

impl<'de> DeserializeSeed<'de> for Fields<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut groups = Groups::default();
        while let Some(slot) = map.next_key_seed(Key(self.message))? {
            let Some(slot) = slot else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let out = match &*slot.path {
                [] => &mut *self.out,
                [first, rest @ ..] => groups.at(*first, rest),
            };
            map.next_value_seed(One {
                form: &slot.form,
                number: slot.number,
                out,
            })?;
        }
        groups.put(self.out);
        Ok(())
    }
}

/// Which field of a message a key is.
struct Key(usize);

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Option<&'static Slot>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = Option<&'static Slot>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(Plan::get().slot(self.0, key))
    }
}

impl One<'_> {
    fn integer(self, value: i64) {
        let bits = value.cast_unsigned();
        match self.form {
            Form::Integer => put_number(self.out, self.number, bits),
            #[expect(
                clippy::cast_precision_loss,
                reason = "so it is in every JSON reader that knows only doubles"
            )]
            Form::Double => put_double(self.out, self.number, value as f64),
            Form::Quantity => put_within(self.out, self.number, |out| {
                put_bytes(out, 1, value.to_string().as_bytes());
            }),
            Form::IntOrString => put_within(self.out, self.number, |out| {
                put_number(out, 1, 0);
                put_number(out, 2, bits);
            }),
            _ => {}
        }
    }
}

impl<'de> DeserializeSeed<'de> for One<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.form {
            Form::Any => {
                let raw = <&RawValue>::deserialize(deserializer)?.get();
                if raw != "null" {
                    put_within(self.out, self.number, |out| put_bytes(out, 1, raw.as_bytes()));
                }
                Ok(())
            }
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for One<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, truth: bool) -> Result<(), E> {
        match self.form {
            Form::Boolean => put_number(self.out, self.number, truth.into()),
            Form::Either(either) => {
                let (_, simple) = either.numbers();
                put_within(self.out, self.number, |out| put_number(out, simple, truth.into()));
            }
            _ => {}
        }
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.integer(value);
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.integer(value.cast_signed());
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        match self.form {
            Form::Double => put_double(self.out, self.number, value),
            #[expect(clippy::cast_possible_truncation, reason = "a whole number written with a point")]
            Form::Integer => self.integer(value as i64),
            Form::Quantity => put_within(self.out, self.number, |out| {
                put_bytes(out, 1, value.to_string().as_bytes());
            }),
            _ => {}
        }
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        let number = self.number;
        match self.form {
            Form::Text => put_bytes(self.out, number, text.as_bytes()),
            Form::Bytes => put_bytes(self.out, number, &STANDARD.decode(text).unwrap_or_default()),
            Form::Quantity => put_within(self.out, number, |out| put_bytes(out, 1, text.as_bytes())),
            Form::Time => put_within(self.out, number, |out| put_time(out, text)),
            Form::IntOrString => put_within(self.out, number, |out| {
                put_number(out, 1, 1);
                put_bytes(out, 3, text.as_bytes());
            }),
            _ => {}
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        match self.form {
            Form::List(items) => items_of(list, items, self.number, self.out),
            Form::Wrapped(items) => within(self.out, self.number, |out| items_of(list, items, 1, out)),
            Form::Either(either) => {
                let (_, simple) = either.numbers();
                let items = match either {
                    Either::Strings => Form::Text,
                    Either::Array | Either::Bool => Form::Message(Plan::get().json_schema),
                };
                within(self.out, self.number, |out| items_of(list, &items, simple, out))
            }
            _ => {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(())
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        match self.form {
            Form::Message(message) => within(self.out, self.number, |out| {
                Fields { message: *message, out }.visit_map(map)
            }),
            Form::Map(values) => {
                while let Some(at) = map.next_key_seed(PairKey(self.number, self.out))? {
                    map.next_value_seed(One {
                        form: values,
                        number: 2,
                        out: self.out,
                    })?;
                    close(self.out, at);
                }
                Ok(())
            }
            Form::Either(either) => {
                let (schema, simple) = either.numbers();
                let either = *either;
                within(self.out, self.number, |out| {
                    within(out, schema, |out| {
                        Fields {
                            message: Plan::get().json_schema,
                            out,
                        }
                        .visit_map(map)
                    })?;
                    // A schema comes with a statement that it is allowed.
                    if either == Either::Bool {
                        put_number(out, simple, 1);
                    }
                    Ok(())
                })
            }
            other => {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                if matches!(other, Form::Empty) {
                    put_bytes(self.out, self.number, b"");
                }
                Ok(())
            }
        }
    }
}

/// Opens the message of a pair, as there is one, and writes its key.
struct PairKey<'o>(u64, &'o mut Vec<u8>);

impl<'de> DeserializeSeed<'de> for PairKey<'_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for PairKey<'_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<usize, E> {
        let PairKey(number, out) = self;
        let at = open(out, number);
        put_bytes(out, 1, key.as_bytes());
        Ok(at)
    }
}

fn items_of<'de, A: SeqAccess<'de>>(mut list: A, form: &Form, number: u64, out: &mut Vec<u8>) -> Result<(), A::Error> {
    while list.next_element_seed(One { form, number, out })?.is_some() {}
    Ok(())
}

/// Begins a message whose length is not known yet: returns where it is to stand.
fn open(out: &mut Vec<u8>, number: u64) -> usize {
    put_tag(out, number, LENGTH);
    out.push(0);
    out.len() - 1
}

/// Ends the message whose length stands at `at`.
fn close(out: &mut Vec<u8>, at: usize) {
    let length = out.len() - at - 1;
    match u8::try_from(length) {
        Ok(length) if length < 0x80 => out[at] = length,
        _ => {
            let mut varint = Vec::with_capacity(4);
            put_varint(&mut varint, length as u64);
            out.splice(at..=at, varint);
        }
    }
}

/// A message around what `write` writes.
fn within<E>(out: &mut Vec<u8>, number: u64, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
    let at = open(out, number);
    write(out)?;
    close(out, at);
    Ok(())
}

/// The same, where nothing can go wrong.
fn put_within(out: &mut Vec<u8>, number: u64, write: impl FnOnce(&mut Vec<u8>)) {
    let at = open(out, number);
    write(out);
    close(out, at);
}

/// Seconds and nanoseconds since 1970.
fn put_time(out: &mut Vec<u8>, text: &str) {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        put_number(out, 1, time.as_second().cast_unsigned());
        put_number(out, 2, i64::from(time.subsec_nanosecond()).cast_unsigned());
    }
}

// How the bytes of a field are: <https://protobuf.dev/programming-guides/encoding/>.
const VARINT: u64 = 0;
const DOUBLE: u64 = 1;
const LENGTH: u64 = 2;

fn put_tag(out: &mut Vec<u8>, field: u64, wire: u64) {
    put_varint(out, field << 3 | wire);
}

fn put_number(out: &mut Vec<u8>, field: u64, value: u64) {
    put_tag(out, field, VARINT);
    put_varint(out, value);
}

fn put_double(out: &mut Vec<u8>, field: u64, value: f64) {
    put_tag(out, field, DOUBLE);
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_tag(out, field, LENGTH);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[expect(clippy::cast_possible_truncation, reason = "seven bits at a time")]
fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests;
