//! One step of a path into an object, as `managedFields` writes it: a field (`f:`), an item of a map list by its keys (`k:`), an
//! item of a set by its value (`v:`), an item by its index (`i:`).

use std::cmp::Ordering;
use std::fmt;

use serde_json::Value;

use super::values;
use crate::field::quote;

/// Equality and order are those of [`values::compare`]: numbers compare as numbers.
#[derive(Clone, Debug)]
pub enum Element {
    Field(Box<str>),
    /// The keys of an item, sorted by name.
    Key(Box<[(Box<str>, Value)]>),
    Value(Value),
    Index(i64),
}

/// Why text is no element.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ElementError {
    #[error("key must be 2 characters long:")]
    Short,
    #[error("missing colon: {0}")]
    NoColon(String),
    #[error("{0}")]
    Content(String),
}

impl Element {
    pub fn field(name: &str) -> Self {
        Self::Field(name.into())
    }

    /// Reads the form of `FieldsV1`. `None` is a sort of element that a later version may know.
    ///
    /// # Errors
    /// Text that is malformed.
    pub fn parse(text: &str) -> Result<Option<Self>, ElementError> {
        if text.len() < 2 {
            return Err(ElementError::Short);
        }
        let Some((sort, content)) = text.split_once(':').filter(|(sort, _)| sort.len() == 1) else {
            return Err(ElementError::NoColon(text.to_owned()));
        };
        let json = || serde_json::from_str(content).map_err(|error| ElementError::Content(error.to_string()));
        Ok(Some(match sort {
            "f" => Self::field(content),
            "v" => Self::Value(json()?),
            "k" => match json()? {
                Value::Object(keys) => Self::Key(keys.into_iter().map(|(name, value)| (name.into(), value)).collect()),
                other => return Err(ElementError::Content(format!("keys are no object: {other}"))),
            },
            "i" => Self::Index(content.parse().map_err(|_| {
                ElementError::Content(format!("strconv.Atoi: parsing {}: invalid syntax", quote(content)))
            })?),
            _ => return Ok(None),
        }))
    }

    /// The form of `FieldsV1`.
    pub fn to_key(&self) -> String {
        match self {
            Self::Field(name) => {
                let mut key = String::with_capacity(name.len() + 2);
                key.push_str("f:");
                key.push_str(name);
                key
            }
            Self::Key(keys) => {
                let mut key = String::from("k:{");
                for (index, (name, value)) in keys.iter().enumerate() {
                    if index > 0 {
                        key.push(',');
                    }
                    key.push_str(&json(&Value::from(&**name)));
                    key.push(':');
                    key.push_str(&json(value));
                }
                key.push('}');
                key
            }
            Self::Value(value) => format!("v:{}", json(value)),
            Self::Index(index) => format!("i:{index}"),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Field(_) => 0,
            Self::Key(_) => 1,
            Self::Value(_) => 2,
            Self::Index(_) => 3,
        }
    }
}

/// JSON as Go's encoder writes it: nothing that could be HTML.
fn json(value: &Value) -> String {
    let text = value.to_string();
    if !text.contains(['<', '>', '&', '\u{2028}', '\u{2029}']) {
        return text;
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => escaped.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => escaped.push(c),
        }
    }
    escaped
}

impl Ord for Element {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Field(a), Self::Field(b)) => a.cmp(b),
            (Self::Key(a), Self::Key(b)) => {
                let pairs = a.iter().zip(b.iter());
                let different = pairs
                    .map(|((an, av), (bn, bv))| an.cmp(bn).then_with(|| values::compare(av, bv)))
                    .find(|order| order.is_ne());
                different.unwrap_or_else(|| a.len().cmp(&b.len()))
            }
            (Self::Value(a), Self::Value(b)) => values::compare(a, b),
            (Self::Index(a), Self::Index(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Element {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Element {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Element {}

/// As errors name it: `.spec`, `[name="web"]`, `[="finalizer"]`, `[0]`.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Key(keys) => {
                f.write_str("[")?;
                for (index, (name, value)) in keys.iter().enumerate() {
                    let comma = if index > 0 { "," } else { "" };
                    write!(f, "{comma}{name}={}", values::display(value))?;
                }
                f.write_str("]")
            }
            Self::Value(value) => write!(f, "[={}]", values::display(value)),
            Self::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// A path as errors name it.
pub fn display_path(path: &[Element]) -> String {
    path.iter().map(ToString::to_string).collect()
}
