//! Objects in protobuf, which Go clients prefer for built-in kinds: `kubectl create namespace` sends nothing else.
//!
//! The JSON schema already says what type each field has; all that protobuf adds is its number. So there is a table of numbers
//! (`protobuf_fields.txt`) and one walk that writes the same JSON the client would have sent, which then goes the way of all
//! bodies. Answers go the other way, by the same table ([`Encoder`]); what has none (custom resources, tables) stays JSON.
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding>

use std::collections::HashMap;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::{Schemas, Type};

mod answers;
mod encode;
mod plan;

pub use encode::{ENVELOPE_END, Encoder, encode, encode_event, encode_json, event_of, framed, put_item_head};

/// Before every body: four bytes that are no text.
const MAGIC: &[u8] = b"k8s\0";

/// Messages within messages; deeper than any type of Kubernetes is.
const MAX_DEPTH: usize = 64;

static TABLE: LazyLock<HashMap<&'static str, Message>> =
    LazyLock::new(|| read_table(include_str!("protobuf_fields.txt")));

type Message = HashMap<u64, Field>;

#[derive(Clone, Copy)]
struct Field {
    name: &'static str,
    /// Its zero value is not the same as none.
    optional: bool,
    /// Its fields belong to the outer object.
    inlined: Option<&'static str>,
    special: Option<Special>,
}

/// What the type of a field does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Special {
    /// It is a message that stands for one of two types.
    Either(Either),
    /// It is a list in a message of its own.
    Wrapped,
    /// It is a message without fields.
    Empty,
}

/// A schema of a custom resource, or something simpler in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Either {
    /// … or a list of schemas.
    Array,
    /// … or whether anything is allowed.
    Bool,
    /// … or names of fields.
    Strings,
}

impl Either {
    /// Numbers of the schema and of what is simpler.
    const fn numbers(self) -> (u64, u64) {
        match self {
            Either::Array | Either::Strings => (1, 2),
            Either::Bool => (2, 1),
        }
    }
}

/// The only type that [`Either`] stands for.
const JSON_SCHEMA: &str = "apiextensions.v1.JSONSchemaProps";

fn read_table(text: &'static str) -> HashMap<&'static str, Message> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| {
            let mut words = line.split(' ');
            let message = words.next()?;
            Some((message, words.filter_map(read_field).collect()))
        })
        .collect()
}

fn read_field(word: &'static str) -> Option<(u64, Field)> {
    let (name, rest) = word.split_once('=')?;
    let (rest, special) = rest.split_once('@').unwrap_or((rest, ""));
    let special = match special {
        "array" => Some(Special::Either(Either::Array)),
        "bool" => Some(Special::Either(Either::Bool)),
        "strings" => Some(Special::Either(Either::Strings)),
        "list" => Some(Special::Wrapped),
        "empty" => Some(Special::Empty),
        _ => None,
    };
    let (rest, inlined) = rest
        .split_once(':')
        .map_or((rest, None), |(rest, message)| (rest, Some(message)));
    let (number, optional) = rest.strip_suffix('*').map_or((rest, false), |number| (number, true));
    Some((
        number.parse().ok()?,
        Field {
            name,
            optional,
            inlined,
            special,
        },
    ))
}

/// Why bytes are no object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    #[error("the body does not begin with the Kubernetes protobuf marker")]
    NoMagic,
    #[error("the body ends in the middle of a field")]
    Truncated,
    #[error("a field is not of its type")]
    WrongType,
    #[error("messages are nested too deeply")]
    TooDeep,
    #[error("the object within the envelope has an encoding, and none is understood")]
    Encoded,
    #[error("the kind is not known in protobuf form; send it as JSON")]
    UnknownKind,
}

/// Reads a body into the JSON form of the object.
///
/// # Errors
/// A body that is malformed, or of a kind without a table.
pub fn decode(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let envelope = bytes.strip_prefix(MAGIC).ok_or(ProtobufError::NoMagic)?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for field in Fields(envelope) {
        match field? {
            (1, Wire::Bytes(type_meta)) => {
                for field in Fields(type_meta) {
                    match field? {
                        (1, Wire::Bytes(text)) => api_version = utf8(text)?,
                        (2, Wire::Bytes(text)) => kind = utf8(text)?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(object)) => raw = object,
            (3, Wire::Bytes(encoding)) if !encoding.is_empty() => return Err(ProtobufError::Encoded),
            _ => {}
        }
    }
    let name = message_of(&api_version, &kind);
    let mut object = match (schemas_of(&name), name.strip_suffix("List")) {
        (Some((schemas, definition)), _) => {
            let mut object = Map::new();
            Walk { schemas }.message(definition, &name, raw, &mut object, 0)?;
            object
        }
        (None, Some(item)) => list(item, raw)?,
        (None, None) => return Err(ProtobufError::UnknownKind),
    };
    object.insert("apiVersion".to_owned(), api_version.into());
    object.insert("kind".to_owned(), kind.into());
    Ok(Value::Object(object))
}

/// A list of what `item` is the message of. All lists have the same numbers.
fn list(item: &str, bytes: &[u8]) -> Result<Map<String, Value>, ProtobufError> {
    let (schemas, definition) = schemas_of(item).ok_or(ProtobufError::UnknownKind)?;
    let (meta_schemas, meta) = schemas_of(LIST_META).ok_or(ProtobufError::UnknownKind)?;
    let (mut metadata, mut items) = (Map::new(), Vec::new());
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Bytes(bytes)) => {
                Walk { schemas: meta_schemas }.message(meta, LIST_META, bytes, &mut metadata, 1)?;
            }
            (2, Wire::Bytes(bytes)) => {
                let mut object = Map::new();
                Walk { schemas }.message(definition, item, bytes, &mut object, 1)?;
                items.push(Value::Object(object));
            }
            _ => {}
        }
    }
    Ok([
        ("metadata".to_owned(), metadata.into()),
        ("items".to_owned(), items.into()),
    ]
    .into_iter()
    .collect())
}

const LIST_META: &str = "meta.v1.ListMeta";

/// The message of a kind, if there is one. Some kinds of `meta` are in any version, or in `v1` alone.
fn message_of(api_version: &str, kind: &str) -> String {
    const OF_V1: [&str; 5] = ["APIGroup", "APIGroupList", "APIResourceList", "APIVersions", "Status"];
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let package = match group.split('.').next() {
        _ if kind.ends_with("Options") || (matches!(api_version, "" | "v1") && OF_V1.contains(&kind)) => {
            return format!("meta.v1.{kind}");
        }
        None | Some("") => "core",
        Some(package) => package,
    };
    format!("{package}.{version}.{kind}")
}

/// Where a message is described: with the types of the stable API, or with those of answers only.
fn schemas_of(message: &str) -> Option<(&'static Schemas, usize)> {
    TABLE.get(message)?;
    let name = definition_of(message);
    [Schemas::builtin, answers::schemas]
        .into_iter()
        .find_map(|schemas| Some((schemas(), *schemas().by_name.get(&name)?)))
}

fn definition_of(message: &str) -> String {
    match message.strip_prefix("meta.") {
        Some(rest) => format!("io.k8s.apimachinery.pkg.apis.meta.{rest}"),
        None if message.starts_with("apiextensions.") => format!("{EXTENSIONS}{message}"),
        None if message.starts_with("apiregistration.") => format!("{AGGREGATOR}{message}"),
        None => format!("io.k8s.api.{message}"),
    }
}

const EXTENSIONS: &str = "io.k8s.apiextensions-apiserver.pkg.apis.";
const AGGREGATOR: &str = "io.k8s.kube-aggregator.pkg.apis.";

/// The message of a definition, the inverse of [`definition_of`].
fn message_for(definition: &str) -> Option<&'static str> {
    let short = definition
        .strip_prefix("io.k8s.api.")
        .or_else(|| definition.strip_prefix("io.k8s.apimachinery.pkg.apis."))
        .or_else(|| definition.strip_prefix(EXTENSIONS))
        .or_else(|| definition.strip_prefix(AGGREGATOR))?;
    TABLE.get_key_value(short).map(|(name, _)| *name)
}

struct Walk {
    schemas: &'static Schemas,
}

impl Walk {
    fn message(
        &self,
        definition: usize,
        message: &str,
        bytes: &[u8],
        object: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), ProtobufError> {
        if depth > MAX_DEPTH {
            return Err(ProtobufError::TooDeep);
        }
        let (Some(described), Some(numbers)) = (self.schemas.definitions.get(definition), TABLE.get(message)) else {
            return Ok(());
        };
        for field in Fields(bytes) {
            let (number, wire) = field?;
            let Some(field) = numbers.get(&number) else { continue };
            match (described.fields.get(field.name), field.inlined, wire) {
                (Some(ty), _, wire) => self.field(ty, *field, wire, object, depth)?,
                (None, Some(inner), Wire::Bytes(bytes)) => self.message(definition, inner, bytes, object, depth + 1)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn field(
        &self,
        ty: &Type,
        field: Field,
        wire: Wire<'_>,
        object: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), ProtobufError> {
        match field.special {
            Some(Special::Either(either)) => return self.either(ty, either, field.name, wire, object, depth),
            Some(Special::Wrapped) => {
                let list = self.value(ty, wire, depth)?;
                object.insert(field.name.to_owned(), list);
                return Ok(());
            }
            Some(Special::Empty) => {
                object.insert(field.name.to_owned(), Map::new().into());
                return Ok(());
            }
            None => {}
        }
        match (ty, wire) {
            (Type::List(items, _), Wire::Bytes(packed)) if is_number(items) => {
                let list = entry(object, field.name, Value::Array(Vec::new()));
                let Value::Array(list) = list else { return Ok(()) };
                let mut rest = packed;
                while !rest.is_empty() {
                    list.push(number(items, varint(&mut rest)?));
                }
            }
            (Type::List(items, _), wire) => {
                let item = self.value(items, wire, depth)?;
                if let Value::Array(list) = entry(object, field.name, Value::Array(Vec::new())) {
                    list.push(item);
                }
            }
            (Type::Map(values, _), Wire::Bytes(pair)) => {
                let (key, value) = self.pair(values, pair, depth)?;
                if let Value::Object(map) = entry(object, field.name, Value::Object(Map::new())) {
                    map.insert(key, value);
                }
            }
            (ty, wire) => {
                let value = self.value(ty, wire, depth)?;
                let zero = value.is_null() || value == 0 || value == "" || value == false;
                if !zero || (field.optional && !value.is_null()) {
                    object.insert(field.name.to_owned(), value);
                }
            }
        }
        Ok(())
    }

    /// A schema, or what is simpler; or a map of such.
    #[expect(
        clippy::too_many_arguments,
        reason = "one field of a message: what it is, its bytes, where it goes"
    )]
    fn either(
        &self,
        ty: &Type,
        either: Either,
        name: &str,
        wire: Wire<'_>,
        object: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), ProtobufError> {
        let Wire::Bytes(bytes) = wire else {
            return Err(ProtobufError::WrongType);
        };
        if !matches!(ty, Type::Map(..)) {
            let value = self.one_of(either, bytes, depth)?;
            object.insert(name.to_owned(), value);
            return Ok(());
        }
        let (mut key, mut value) = (String::new(), Value::Null);
        for field in Fields(bytes) {
            match field? {
                (1, Wire::Bytes(text)) => key = utf8(text)?,
                (2, Wire::Bytes(bytes)) => value = self.one_of(either, bytes, depth)?,
                _ => {}
            }
        }
        if let Value::Object(map) = entry(object, name, Value::Object(Map::new())) {
            map.insert(key, value);
        }
        Ok(())
    }

    fn one_of(&self, either: Either, bytes: &[u8], depth: usize) -> Result<Value, ProtobufError> {
        let (schema, simple) = either.numbers();
        let mut value = if either == Either::Bool {
            Value::Bool(false)
        } else {
            Value::Array(Vec::new())
        };
        for field in Fields(bytes) {
            match (field?, either) {
                ((number, Wire::Bytes(bytes)), _) if number == schema => return self.schema(bytes, depth),
                ((number, Wire::Bytes(bytes)), Either::Array) if number == simple => {
                    let item = self.schema(bytes, depth)?;
                    value
                        .as_array_mut()
                        .into_iter()
                        .for_each(|list| list.push(item.clone()));
                }
                ((number, Wire::Bytes(text)), Either::Strings) if number == simple => {
                    let text = utf8(text)?;
                    value
                        .as_array_mut()
                        .into_iter()
                        .for_each(|list| list.push(text.clone().into()));
                }
                ((number, Wire::Number(bits)), Either::Bool) if number == simple => value = (bits != 0).into(),
                _ => {}
            }
        }
        Ok(value)
    }

    fn schema(&self, bytes: &[u8], depth: usize) -> Result<Value, ProtobufError> {
        let mut object = Map::new();
        if let Some(index) = self.schemas.by_name.get(&definition_of(JSON_SCHEMA)) {
            self.message(*index, JSON_SCHEMA, bytes, &mut object, depth + 1)?;
        }
        Ok(Value::Object(object))
    }

    fn pair(&self, values: &Type, bytes: &[u8], depth: usize) -> Result<(String, Value), ProtobufError> {
        let mut key = String::new();
        let mut value = super::walk::zero(values);
        for field in Fields(bytes) {
            match field? {
                (1, Wire::Bytes(text)) => key = utf8(text)?,
                (2, wire) => value = self.value(values, wire, depth)?,
                _ => {}
            }
        }
        Ok((key, value))
    }

    fn value(&self, ty: &Type, wire: Wire<'_>, depth: usize) -> Result<Value, ProtobufError> {
        Ok(match (ty, wire) {
            (Type::Object(index), Wire::Bytes(bytes)) => {
                let mut object = Map::new();
                if let Some(message) = message_for(&self.schemas.definitions[*index].name) {
                    self.message(*index, message, bytes, &mut object, depth + 1)?;
                }
                Value::Object(object)
            }
            (Type::String, Wire::Bytes(bytes)) => utf8(bytes)?.into(),
            (Type::Bytes, Wire::Bytes(bytes)) => STANDARD.encode(bytes).into(),
            (Type::Time, Wire::Bytes(bytes)) => time(bytes)?,
            (Type::Quantity, Wire::Bytes(bytes)) => first_text(bytes, 1)?.into(),
            (Type::IntOrString, Wire::Bytes(bytes)) => int_or_string(bytes)?,
            // Raw JSON in a message of one field.
            (Type::Any, Wire::Bytes(bytes)) => match first_text(bytes, 1)?.as_str() {
                "" => Value::Null,
                json => serde_json::from_str(json).map_err(|_| ProtobufError::WrongType)?,
            },
            // A list where protobuf allows none, in a map, is in a message of one field.
            (Type::List(items, _), Wire::Bytes(bytes)) => {
                let mut list = Vec::new();
                for field in Fields(bytes) {
                    if let (1, wire) = field? {
                        list.push(self.value(items, wire, depth + 1)?);
                    }
                }
                Value::Array(list)
            }
            (Type::Boolean | Type::Int32 | Type::Int64, Wire::Number(bits)) => number(ty, bits),
            (Type::Number, Wire::Number(bits)) => f64::from_bits(bits).into(),
            _ => return Err(ProtobufError::WrongType),
        })
    }
}

fn entry<'o>(object: &'o mut Map<String, Value>, name: &str, empty: Value) -> &'o mut Value {
    object.entry(name).or_insert(empty)
}

const fn is_number(ty: &Type) -> bool {
    matches!(ty, Type::Int32 | Type::Int64 | Type::Boolean)
}

fn number(ty: &Type, bits: u64) -> Value {
    if *ty == Type::Boolean {
        (bits != 0).into()
    } else {
        bits.cast_signed().into()
    }
}

fn utf8(bytes: &[u8]) -> Result<String, ProtobufError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| ProtobufError::WrongType)
}

fn first_text(bytes: &[u8], wanted: u64) -> Result<String, ProtobufError> {
    for field in Fields(bytes) {
        if let (number, Wire::Bytes(text)) = field?
            && number == wanted
        {
            return utf8(text);
        }
    }
    Ok(String::new())
}

/// Seconds and nanoseconds since 1970; nothing at all is no time.
fn time(bytes: &[u8]) -> Result<Value, ProtobufError> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let (mut seconds, mut nanos) = (0_i64, 0_i32);
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Number(bits)) => seconds = bits.cast_signed(),
            (2, Wire::Number(bits)) => nanos = i32::try_from(bits).map_err(|_| ProtobufError::WrongType)?,
            _ => {}
        }
    }
    let time = jiff::Timestamp::new(seconds, nanos).map_err(|_| ProtobufError::WrongType)?;
    let text = if nanos == 0 {
        time.to_string()
    } else {
        format!("{time:.6}")
    };
    Ok(text.into())
}

fn int_or_string(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let (mut is_text, mut number, mut text) = (false, 0_i64, String::new());
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Number(kind)) => is_text = kind == 1,
            (2, Wire::Number(bits)) => number = bits.cast_signed(),
            (3, Wire::Bytes(bytes)) => text = utf8(bytes)?,
            _ => {}
        }
    }
    Ok(if is_text { text.into() } else { number.into() })
}

#[derive(Clone, Copy)]
enum Wire<'b> {
    Number(u64),
    Bytes(&'b [u8]),
}

/// The fields of a message in the order of the bytes. Ends after an error.
struct Fields<'b>(&'b [u8]);

impl<'b> Iterator for Fields<'b> {
    type Item = Result<(u64, Wire<'b>), ProtobufError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'b> Fields<'b> {
    fn read(&mut self) -> Result<(u64, Wire<'b>), ProtobufError> {
        let tag = varint(&mut self.0)?;
        let wire = match tag & 7 {
            0 => Wire::Number(varint(&mut self.0)?),
            1 => Wire::Number(u64::from_le_bytes(
                self.take(8)?.try_into().map_err(|_| ProtobufError::Truncated)?,
            )),
            2 => {
                let length = usize::try_from(varint(&mut self.0)?).map_err(|_| ProtobufError::Truncated)?;
                Wire::Bytes(self.take(length)?)
            }
            5 => Wire::Number(u64::from(u32::from_le_bytes(
                self.take(4)?.try_into().map_err(|_| ProtobufError::Truncated)?,
            ))),
            _ => return Err(ProtobufError::WrongType),
        };
        Ok((tag >> 3, wire))
    }

    fn take(&mut self, length: usize) -> Result<&'b [u8], ProtobufError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(ProtobufError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }
}

fn varint(bytes: &mut &[u8]) -> Result<u64, ProtobufError> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(ProtobufError::Truncated)?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(ProtobufError::WrongType)
}

#[cfg(test)]
mod tests;
