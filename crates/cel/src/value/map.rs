//! Maps and objects, and the keys of maps.

use super::{Key, Map, Str, Value};
use crate::{Budget, EvalError};
use std::cmp::Ordering;
use std::fmt;

impl<'a> Map<'a> {
    pub fn len(&self) -> usize {
        match self {
            Map::Json(entries, _) | Map::Object(entries, _) => entries.len(),
            Map::Made(entries) => entries.len(),
            Map::Computed(fields) => fields.names().len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of a field, by the name that expressions use.
    ///
    /// # Errors
    /// The value is not of the declared type, or computing it failed.
    pub fn field(&self, name: &str, budget: &mut Budget) -> Result<Option<Value<'a>>, EvalError> {
        match self {
            Map::Json(entries, decl) => entries.get(name).map(|json| Value::from_json(json, decl)).transpose(),
            Map::Object(entries, object) => {
                let Some(field) = object.find(name) else {
                    return Ok(None);
                };
                let json = entries.get(&*field.property).filter(|json| !json.is_null());
                json.map(|json| Value::from_json(json, &field.decl)).transpose()
            }
            Map::Made(entries) => Ok(entries.get(&Key::String(Str::Shared(name.into()))).cloned()),
            Map::Computed(fields) => fields.field(name, budget),
        }
    }

    pub(crate) fn get(&self, key: &Value<'a>, budget: &mut Budget) -> Result<Option<Value<'a>>, EvalError> {
        match (self, key) {
            (Map::Made(entries), key) => Ok(Key::of(key).and_then(|key| entries.get(&key).cloned())),
            (_, Value::String(name)) => self.field(name, budget),
            _ => Ok(None),
        }
    }

    pub(crate) fn keys(&self) -> Vec<Value<'a>> {
        match self {
            Map::Json(entries, _) => entries.keys().map(|name| Value::String(Str::Borrowed(name))).collect(),
            Map::Object(entries, object) => {
                let present = object
                    .fields
                    .iter()
                    .filter(|(_, field)| entries.contains_key(&*field.property));
                present.map(|(name, _)| Value::String(Str::Borrowed(name))).collect()
            }
            Map::Made(entries) => entries.keys().map(Key::to_value).collect(),
            Map::Computed(fields) => fields.names().into_iter().map(Value::string).collect(),
        }
    }

    pub(super) fn equals(&self, other: &Map<'a>, budget: &mut Budget) -> Result<bool, EvalError> {
        let keys = self.keys();
        if keys.len() != other.keys().len() {
            return Ok(false);
        }
        for key in keys {
            match (self.get(&key, budget)?, other.get(&key, budget)?) {
                (Some(a), Some(b)) if a.equals(&b, budget)? => {}
                _ => return Ok(false),
            }
        }
        Ok(true)
    }
}

impl fmt::Debug for Map<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Map::Json(entries, _) | Map::Object(entries, _) => f.debug_map().entries(*entries).finish(),
            Map::Made(entries) => entries.fmt(f),
            Map::Computed(fields) => f.debug_set().entries(fields.names()).finish(),
        }
    }
}

impl<'a> Key<'a> {
    pub(crate) fn of(value: &Value<'a>) -> Option<Self> {
        Some(match value {
            Value::Bool(value) => Key::Bool(*value),
            Value::Int(value) => Key::Number(i128::from(*value)),
            Value::Uint(value) => Key::Number(i128::from(*value)),
            #[allow(
                clippy::cast_possible_truncation,
                reason = "only whole numbers within the range get here"
            )]
            Value::Double(value) if value.fract() == 0.0 && value.abs() < 1.8e19 => Key::Number(*value as i128),
            Value::String(text) => Key::String(text.clone()),
            _ => return None,
        })
    }

    fn to_value(&self) -> Value<'a> {
        match self {
            Key::Bool(value) => Value::Bool(*value),
            Key::Number(value) => i64::try_from(*value)
                .map_or_else(|_| Value::Uint(u64::try_from(*value).unwrap_or_default()), Value::Int),
            Key::String(text) => Value::String(text.clone()),
        }
    }
}

impl Ord for Key<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Key::Bool(a), Key::Bool(b)) => a.cmp(b),
            (Key::Number(a), Key::Number(b)) => a.cmp(b),
            (Key::String(a), Key::String(b)) => (**a).cmp(&**b),
            (Key::Bool(_), _) | (Key::Number(_), Key::String(_)) => Ordering::Less,
            _ => Ordering::Greater,
        }
    }
}

impl PartialOrd for Key<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Key<'_> {}
