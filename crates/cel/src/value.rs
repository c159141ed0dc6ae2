//! Values of expressions.
//!
//! What comes from a document stays in the document: a [`Value`] holds a reference to the JSON and the declaration it is read
//! by, and converts when an element is asked for.

mod list;
mod map;
mod numbers;

use numbers::compare_numbers;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use base64::Engine as _;
use catamaran_api::quantity::Quantity;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value as Json;

use crate::decl::{DYN, Decl, KEY, ListSemantics, ObjectDecl, Shape};
use crate::library::{authorizer, cidr::Cidr, format::NamedFormat, semver::Semver, url::Url};
use crate::types::opaque;
use crate::{Budget, EvalError, library};

/// A value. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Str<'a>),
    Bytes(Arc<[u8]>),
    Timestamp(Timestamp),
    Duration(SignedDuration),
    List(List<'a>),
    Map(Map<'a>),
    /// A type, by its name.
    Type(Str<'a>),
    Optional(Option<Arc<Value<'a>>>),
    Opaque(Arc<Opaque<'a>>),
}

/// Text out of a document, or made by an expression.
#[derive(Clone)]
pub enum Str<'a> {
    Borrowed(&'a str),
    Shared(Arc<str>),
}

impl Deref for Str<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Str::Borrowed(text) => text,
            Str::Shared(text) => text,
        }
    }
}

impl fmt::Debug for Str<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// A list.
#[derive(Clone)]
pub enum List<'a> {
    /// Items of a document, how to read one, and what equality means.
    Json(&'a [Json], &'a Decl, &'a ListSemantics),
    Made(Arc<Vec<Value<'a>>>),
}

/// A map or an object.
#[derive(Clone)]
pub enum Map<'a> {
    /// A map, and how to read a value.
    Json(&'a serde_json::Map<String, Json>, &'a Decl),
    /// An object with declared fields.
    Object(&'a serde_json::Map<String, Json>, &'a ObjectDecl),
    Made(Arc<BTreeMap<Key<'a>, Value<'a>>>),
    /// Fields computed when they are asked for.
    Computed(Arc<dyn Fields<'a> + 'a>),
}

/// An object whose fields are computed: the `variables` of an admission policy.
pub trait Fields<'a>: Send + Sync {
    /// `None`: there is no such field. What computing costs goes on the account.
    fn field(&self, name: &str, budget: &mut Budget) -> Result<Option<Value<'a>>, EvalError>;
    fn names(&self) -> Vec<String>;
}

/// A key of a made map. Numbers are equal whatever their type.
#[derive(Clone, Debug)]
pub enum Key<'a> {
    Bool(bool),
    Number(i128),
    String(Str<'a>),
}

/// Values of the library's types.
#[derive(Debug)]
pub enum Opaque<'a> {
    Url(Url),
    Ip(IpAddr),
    Cidr(Cidr),
    Quantity(Quantity),
    Semver(Semver),
    Format(&'static NamedFormat),
    Authorizer(authorizer::Subject<'a>),
    PathCheck(authorizer::PathCheck<'a>),
    GroupCheck(authorizer::GroupCheck<'a>),
    ResourceCheck(Box<authorizer::ResourceCheck<'a>>),
    Decision(authorizer::Decision),
}

impl Opaque<'_> {
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Opaque::Url(_) => opaque::URL,
            Opaque::Ip(_) => opaque::IP,
            Opaque::Cidr(_) => opaque::CIDR,
            Opaque::Quantity(_) => opaque::QUANTITY,
            Opaque::Semver(_) => opaque::SEMVER,
            Opaque::Format(_) => opaque::FORMAT,
            Opaque::Authorizer(_) => opaque::AUTHORIZER,
            Opaque::PathCheck(_) => opaque::PATH_CHECK,
            Opaque::GroupCheck(_) => opaque::GROUP_CHECK,
            Opaque::ResourceCheck(_) => opaque::RESOURCE_CHECK,
            Opaque::Decision(_) => opaque::DECISION,
        }
    }
}

impl<'a> Value<'a> {
    pub fn string(text: impl Into<Arc<str>>) -> Self {
        Value::String(Str::Shared(text.into()))
    }

    pub fn list(items: Vec<Value<'a>>) -> Self {
        Value::List(List::Made(Arc::new(items)))
    }

    pub fn some(value: Value<'a>) -> Self {
        Value::Optional(Some(Arc::new(value)))
    }

    pub(crate) fn opaque(value: Opaque<'a>) -> Self {
        Value::Opaque(Arc::new(value))
    }

    /// The value of a JSON document that is of a declared type.
    ///
    /// # Errors
    /// JSON of another type, or text that is not in the declared format.
    pub fn from_json(json: &'a Json, decl: &'a Decl) -> Result<Self, EvalError> {
        if json.is_null() {
            return Ok(Value::Null);
        }
        let mismatch = || EvalError::new(format!("invalid data, expected {}, got {}", decl.ty(), kind_of(json)));
        let text = || json.as_str().ok_or_else(mismatch);
        Ok(match &decl.shape {
            Shape::Dyn | Shape::Native(_) => Self::untyped(json),
            Shape::Bool => Value::Bool(json.as_bool().ok_or_else(mismatch)?),
            Shape::Int => Value::Int(integer(json).ok_or_else(mismatch)?),
            Shape::Double => Value::Double(json.as_f64().ok_or_else(mismatch)?),
            Shape::String => Value::String(Str::Borrowed(text()?)),
            Shape::Bytes => {
                let decoded = base64::engine::general_purpose::STANDARD.decode(text()?);
                Value::Bytes(decoded.map_err(|error| EvalError::new(error.to_string()))?.into())
            }
            Shape::Timestamp => Value::Timestamp(library::time::parse_timestamp(text()?)?),
            Shape::Date => Value::Timestamp(library::time::parse_date(text()?)?),
            Shape::Duration => Value::Duration(library::time::parse_duration(text()?)?),
            Shape::List(items, semantics) => {
                Value::List(List::Json(json.as_array().ok_or_else(mismatch)?, items, semantics))
            }
            Shape::Map(values) => Value::Map(Map::Json(json.as_object().ok_or_else(mismatch)?, values)),
            Shape::Object(object) => Value::Map(Map::Object(json.as_object().ok_or_else(mismatch)?, object)),
        })
    }

    /// The value of JSON of which nothing is declared.
    pub fn untyped(json: &'a Json) -> Self {
        match json {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(value), _) => Value::Int(value),
                (None, Some(value)) => Value::Uint(value),
                (None, None) => Value::Double(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Value::String(Str::Borrowed(text)),
            Json::Array(items) => Value::List(List::Json(items, &DYN, &ListSemantics::Atomic)),
            Json::Object(entries) => Value::Map(Map::Json(entries, &DYN)),
        }
    }

    /// The name that `type()` gives, and errors use.
    pub fn type_name(&self) -> &str {
        match self {
            Value::Null => "null_type",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Uint(_) => "uint",
            Value::Double(_) => "double",
            Value::String(_) => "string",
            Value::Bytes(_) => "bytes",
            Value::Timestamp(_) => "google.protobuf.Timestamp",
            Value::Duration(_) => "google.protobuf.Duration",
            Value::List(_) => "list",
            Value::Map(Map::Object(_, object)) => &object.name,
            Value::Map(_) => "map",
            Value::Type(_) => "type",
            Value::Optional(_) => "optional_type",
            Value::Opaque(value) => value.type_name(),
        }
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(value) => Some(*value),
            _ => None,
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// What `size()` gives: characters, bytes, items, entries. `None` for what has no size.
    pub(crate) fn size(&self) -> Option<usize> {
        match self {
            Value::String(text) => Some(text.chars().count()),
            Value::Bytes(bytes) => Some(bytes.len()),
            Value::List(list) => Some(list.len()),
            Value::Map(Map::Object(..) | Map::Computed(_)) => None,
            Value::Map(map) => Some(map.len()),
            _ => None,
        }
    }

    /// The size that prices are calculated from: 1 for what has none.
    pub(crate) fn priced_size(&self) -> u64 {
        match self {
            Value::Optional(Some(inner)) => inner.priced_size(),
            Value::Map(Map::Object(entries, _)) => entries.len() as u64,
            other => other.size().map_or(1, |size| size as u64),
        }
    }

    /// Equality as `==` has it: numbers by value, everything else only within its type.
    pub(crate) fn equals(&self, other: &Value<'a>, budget: &mut Budget) -> Result<bool, EvalError> {
        budget.work(1)?;
        Ok(match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::String(a), Value::String(b)) | (Value::Type(a), Value::Type(b)) => **a == **b,
            (Value::Bytes(a), Value::Bytes(b)) => a == b,
            (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
            (Value::Duration(a), Value::Duration(b)) => a == b,
            (Value::List(a), Value::List(b)) => a.equals(b, budget)?,
            (Value::Map(a), Value::Map(b)) => a.equals(b, budget)?,
            (Value::Optional(None), Value::Optional(None)) => true,
            (Value::Optional(Some(a)), Value::Optional(Some(b))) => a.equals(b, budget)?,
            (Value::Opaque(a), Value::Opaque(b)) => library::opaque_equals(a, b),
            (a, b) => compare_numbers(a, b) == Some(Ordering::Equal),
        })
    }

    /// Order as `<` has it. `None`: these two have none.
    pub(crate) fn compare(&self, other: &Value<'a>) -> Option<Ordering> {
        match (self, other) {
            (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
            (Value::String(a), Value::String(b)) => Some(a.as_bytes().cmp(b.as_bytes())),
            (Value::Bytes(a), Value::Bytes(b)) => Some(a.cmp(b)),
            (Value::Timestamp(a), Value::Timestamp(b)) => Some(a.cmp(b)),
            (Value::Duration(a), Value::Duration(b)) => Some(a.cmp(b)),
            (a, b) => compare_numbers(a, b),
        }
    }

    pub(crate) fn is_number(&self) -> bool {
        matches!(self, Value::Int(_) | Value::Uint(_) | Value::Double(_))
    }

    /// Is it what its type has by default? For `optional.ofNonZeroValue`.
    pub(crate) fn is_zero(&self) -> bool {
        match self {
            Value::Null | Value::Optional(None) => true,
            Value::Bool(value) => !value,
            Value::Int(value) => *value == 0,
            Value::Uint(value) => *value == 0,
            Value::Double(value) => *value == 0.0,
            Value::Duration(value) => value.is_zero(),
            Value::Timestamp(value) => *value == Timestamp::UNIX_EPOCH,
            other => other.size() == Some(0),
        }
    }
}

fn kind_of(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "boolean",
        Json::Number(_) => "number",
        Json::String(_) => "string",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    }
}

fn integer(json: &Json) -> Option<i64> {
    #[allow(
        clippy::cast_possible_truncation,
        reason = "only whole numbers within the range get here"
    )]
    json.as_i64().or_else(|| {
        let value = json.as_f64()?;
        (value.fract() == 0.0 && value.abs() < 9.2e18).then_some(value as i64)
    })
}

/// The declared key type of maps, for the cost estimate.
pub(crate) fn key_decl() -> &'static Decl {
    &KEY
}

/// JSON of a value, for messages, annotations and mutations. `None` for what JSON cannot say.
pub fn to_json(value: &Value<'_>) -> Option<Json> {
    Some(match value {
        Value::Null | Value::Optional(None) => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Int(value) => Json::from(*value),
        Value::Uint(value) => Json::from(*value),
        Value::Double(value) => Json::from(*value),
        Value::String(text) => Json::from(&**text),
        Value::Bytes(bytes) => Json::from(base64::engine::general_purpose::STANDARD.encode(bytes)),
        Value::Timestamp(time) => Json::from(library::time::show_timestamp(*time)),
        Value::Duration(duration) => Json::from(library::time::show_duration(*duration)),
        Value::List(List::Json(items, ..)) => Json::from(items.to_vec()),
        Value::List(List::Made(items)) => Json::Array(items.iter().map(to_json).collect::<Option<_>>()?),
        Value::Map(Map::Json(entries, _) | Map::Object(entries, _)) => Json::Object((*entries).clone()),
        Value::Map(map) => {
            let mut budget = Budget::default();
            let mut entries = serde_json::Map::new();
            for key in map.keys() {
                let entry = map.get(&key, &mut budget).ok()??;
                entries.insert(key.as_str()?.to_owned(), to_json(&entry)?);
            }
            Json::Object(entries)
        }
        Value::Optional(Some(inner)) => to_json(inner)?,
        Value::Type(_) | Value::Opaque(_) => return None,
    })
}

/// The values of the variables of one evaluation.
#[derive(Clone, Debug, Default)]
pub struct Bindings<'a> {
    values: Vec<(&'a str, Value<'a>)>,
}

impl<'a> Bindings<'a> {
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn with(mut self, name: &'a str, value: Value<'a>) -> Self {
        self.set(name, value);
        self
    }

    pub fn set(&mut self, name: &'a str, value: Value<'a>) {
        match self.values.iter_mut().find(|(known, _)| *known == name) {
            Some((_, slot)) => *slot = value,
            None => self.values.push((name, value)),
        }
    }

    /// Binds the `authorizer` variable.
    #[must_use]
    pub fn with_authorizer(self, name: &'a str, authorizer: &'a dyn crate::Authorizer) -> Self {
        self.with(name, authorizer::authorizer(authorizer))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Value<'a>> {
        self.values
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value)
    }
}
