//! Where in an object something is wrong, and what is wrong with it, in the words Kubernetes uses.
//!
//! Clients show these sentences to people and tests of other projects match on them, so the wording is an interface. A [`Path`] is
//! a list of borrowed segments on the stack: a valid object, which is nearly every object, costs no allocation to check.

use std::fmt::{self, Write as _};

use serde::Serialize;
use serde_json::Value;

/// A place in an object: `spec.containers[0].image`, `metadata.labels[app]`.
#[derive(Clone, Copy, Debug)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    segment: Segment<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Segment<'a> {
    Root,
    Child(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    /// The object itself; its children are written without a leading dot.
    pub const ROOT: Path<'static> = Path {
        parent: None,
        segment: Segment::Root,
    };

    pub const fn new(name: &'a str) -> Self {
        Self {
            parent: None,
            segment: Segment::Child(name),
        }
    }

    pub const fn child<'b>(&'b self, name: &'b str) -> Path<'b> {
        Path {
            parent: Some(self),
            segment: Segment::Child(name),
        }
    }

    pub const fn index(&self, index: usize) -> Path<'_> {
        Path {
            parent: Some(self),
            segment: Segment::Index(index),
        }
    }

    pub const fn key<'b>(&'b self, key: &'b str) -> Path<'b> {
        Path {
            parent: Some(self),
            segment: Segment::Key(key),
        }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
            if matches!(self.segment, Segment::Child(_)) && !matches!(parent.segment, Segment::Root) {
                f.write_char('.')?;
            }
        }
        match self.segment {
            Segment::Root => Ok(()),
            Segment::Child(name) => f.write_str(name),
            Segment::Index(index) => write!(f, "[{index}]"),
            Segment::Key(key) => write!(f, "[{key}]"),
        }
    }
}

/// The machine-readable part of a [`FieldError`]; its name is the `reason` of a cause in `details.causes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
    TooFew,
    Internal,
    TypeInvalid,
}

impl Reason {
    /// The value of `causes[].reason`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TooFew => "FieldValueTooFew",
            Self::Internal => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::TooFew => "Too few",
            Self::Internal => "Internal error",
        }
    }

    const fn shows_value(self) -> bool {
        !matches!(self, Self::Required | Self::Forbidden | Self::TooLong | Self::Internal)
    }
}

/// One thing wrong with one field.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    pub reason: Reason,
    /// The rendered [`Path`].
    pub field: String,
    /// The offending value; `None` where it is not worth showing.
    pub value: Option<Value>,
    /// The value as it is printed, where it is an object whose fields have an order: that of Kubernetes' own type.
    pub shown: Option<Box<str>>,
    pub detail: String,
}

impl FieldError {
    pub fn new(reason: Reason, path: &Path<'_>, value: Option<Value>, detail: impl Into<String>) -> Self {
        Self {
            reason,
            field: path.to_string(),
            value,
            shown: None,
            detail: detail.into(),
        }
    }

    /// The message without the field's name, as it stands in `causes[].message`.
    pub fn body(&self) -> String {
        let mut body = self.reason.title().to_owned();
        if let Some(shown) = &self.shown {
            let _ = write!(body, ": {shown}");
        } else if let Some(value) = self.value.as_ref().filter(|_| self.reason.shows_value()) {
            let _ = write!(body, ": {}", Shown(value));
        }
        if !self.detail.is_empty() {
            let _ = write!(body, ": {}", self.detail);
        }
        body
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

struct Shown<'a>(&'a Value);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::String(text) => f.write_str(&quote(text)),
            Value::Array(_) | Value::Object(_) => f.write_str(&crate::json::without_markup(&self.0.to_string())),
            other => write!(f, "{other}"),
        }
    }
}

/// Quotes as Go's `%q` does, which is how every Kubernetes message quotes names.
pub fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{b}' => quoted.push_str("\\v"),
            '\u{c}' => quoted.push_str("\\f"),
            c if (c as u32) < 0x20 || c == '\u{7f}' => {
                let _ = write!(quoted, "\\x{:02x}", c as u32);
            }
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", c as u32);
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Everything found wrong with one object, in the order of the fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Errors(Vec<FieldError>);

impl Errors {
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub const fn len(&self) -> usize {
        self.0.len()
    }

    pub fn iter(&self) -> std::slice::Iter<'_, FieldError> {
        self.0.iter()
    }

    pub fn push(&mut self, error: FieldError) {
        self.0.push(error);
    }

    fn add(&mut self, reason: Reason, path: &Path<'_>, value: Option<Value>, detail: impl Into<String>) {
        self.push(FieldError::new(reason, path, value, detail));
    }

    pub fn required(&mut self, path: &Path<'_>, detail: impl Into<String>) {
        self.add(Reason::Required, path, None, detail);
    }

    pub fn invalid(&mut self, path: &Path<'_>, value: impl Into<Value>, detail: impl Into<String>) {
        self.add(Reason::Invalid, path, Some(value.into()), detail);
    }

    /// An error about an object, which is shown with its fields in their order.
    pub fn ordered(&mut self, reason: Reason, path: &Path<'_>, value: &impl Serialize, detail: impl Into<String>) {
        let mut error = FieldError::new(reason, path, serde_json::to_value(value).ok(), detail);
        error.shown = serde_json::to_string(value).ok().map(Into::into);
        self.push(error);
    }

    /// One `invalid` error for each message, as the name checks of [`crate::names`] return them.
    pub fn invalid_each(&mut self, path: &Path<'_>, value: &str, messages: impl IntoIterator<Item = String>) {
        for message in messages {
            self.invalid(path, value, message);
        }
    }

    pub fn type_invalid(&mut self, path: &Path<'_>, value: impl Into<Value>, detail: impl Into<String>) {
        self.add(Reason::TypeInvalid, path, Some(value.into()), detail);
    }

    pub fn not_supported(&mut self, path: &Path<'_>, value: impl Into<Value>, supported: &[&str]) {
        let quoted: Vec<String> = supported.iter().map(|value| quote(value)).collect();
        let detail = if quoted.is_empty() {
            String::new()
        } else {
            format!("supported values: {}", quoted.join(", "))
        };
        self.add(Reason::NotSupported, path, Some(value.into()), detail);
    }

    pub fn forbidden(&mut self, path: &Path<'_>, detail: impl Into<String>) {
        self.add(Reason::Forbidden, path, None, detail);
    }

    pub fn duplicate(&mut self, path: &Path<'_>, value: impl Into<Value>) {
        self.add(Reason::Duplicate, path, Some(value.into()), "");
    }

    pub fn not_found(&mut self, path: &Path<'_>, value: impl Into<Value>) {
        self.add(Reason::NotFound, path, Some(value.into()), "");
    }

    pub fn too_long(&mut self, path: &Path<'_>, max_bytes: usize) {
        let unit = if max_bytes == 1 { "byte" } else { "bytes" };
        self.add(
            Reason::TooLong,
            path,
            None,
            format!("may not be more than {max_bytes} {unit}"),
        );
    }

    pub fn too_many(&mut self, path: &Path<'_>, actual: usize, max: usize) {
        let unit = if max == 1 { "item" } else { "items" };
        self.add(
            Reason::TooMany,
            path,
            Some(Value::from(actual)),
            format!("must have at most {max} {unit}"),
        );
    }

    pub fn internal(&mut self, path: &Path<'_>, detail: impl Into<String>) {
        self.add(Reason::Internal, path, None, detail);
    }

    /// One sentence for all: a single error as it is, several in brackets, each distinct text once.
    pub fn message(&self) -> String {
        let mut texts: Vec<String> = Vec::new();
        for error in &self.0 {
            let text = error.to_string();
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        match texts.len() {
            0 => String::new(),
            1 => texts.remove(0),
            _ => format!("[{}]", texts.join(", ")),
        }
    }
}

impl Extend<FieldError> for Errors {
    fn extend<T: IntoIterator<Item = FieldError>>(&mut self, errors: T) {
        self.0.extend(errors);
    }
}

impl IntoIterator for Errors {
    type Item = FieldError;
    type IntoIter = std::vec::IntoIter<FieldError>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[allow(clippy::needless_pass_by_value, reason = "literals read best in place")]
    fn check(build: impl FnOnce(&mut Errors), expected: Expect) {
        let mut errors = Errors::new();
        build(&mut errors);
        let lines: Vec<String> = errors.iter().map(|e| format!("{} {e}", e.reason.as_str())).collect();
        expected.assert_eq(&lines.join("\n"));
    }

    #[test]
    fn errors_read_as_kubernetes_writes_them() {
        let spec = Path::new("spec");
        let containers = spec.child("containers");
        let first = containers.index(0);
        check(
            |errors| {
                errors.required(&containers, "");
                errors.required(&first.child("image"), "must have an image");
                errors.invalid(&first.child("name"), "A\n\"b\"", "must be a name");
                errors.invalid(&spec.child("replicas"), -1, "must be greater than or equal to 0");
                errors.invalid(&spec, serde_json::json!({"a": [1]}), "is odd");
                errors.not_supported(&spec.child("restartPolicy"), "Sometimes", &["Always", "Never"]);
                errors.forbidden(&spec, "pod updates may not change fields");
                errors.duplicate(&first.child("name"), "web");
                errors.not_found(&first.child("volumeMounts").index(1).child("name"), "data");
                errors.too_long(&Path::new("metadata").child("annotations"), 262_144);
                errors.too_many(&spec.child("hosts"), 5, 1);
                errors.invalid(&Path::new("metadata").child("labels").key("app"), Value::Null, "no");
                errors.required(&Path::ROOT.child("handler"), "");
                #[derive(Serialize)]
                #[serde(rename_all = "PascalCase")]
                struct Port {
                    name: &'static str,
                    app_protocol: Option<&'static str>,
                }
                let port = Port {
                    name: "x",
                    app_protocol: None,
                };
                errors.ordered(Reason::Duplicate, &spec.child("ports"), &port, "");
            },
            expect![[r#"
                FieldValueRequired spec.containers: Required value
                FieldValueRequired spec.containers[0].image: Required value: must have an image
                FieldValueInvalid spec.containers[0].name: Invalid value: "A\n\"b\"": must be a name
                FieldValueInvalid spec.replicas: Invalid value: -1: must be greater than or equal to 0
                FieldValueInvalid spec: Invalid value: {"a":[1]}: is odd
                FieldValueNotSupported spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "Never"
                FieldValueForbidden spec: Forbidden: pod updates may not change fields
                FieldValueDuplicate spec.containers[0].name: Duplicate value: "web"
                FieldValueNotFound spec.containers[0].volumeMounts[1].name: Not found: "data"
                FieldValueTooLong metadata.annotations: Too long: may not be more than 262144 bytes
                FieldValueTooMany spec.hosts: Too many: 5: must have at most 1 item
                FieldValueInvalid metadata.labels[app]: Invalid value: null: no
                FieldValueRequired handler: Required value
                FieldValueDuplicate spec.ports: Duplicate value: {"Name":"x","AppProtocol":null}"#]],
        );
    }

    #[test]
    fn several_errors_are_one_sentence_and_duplicates_are_said_once() {
        let mut errors = Errors::new();
        errors.required(&Path::new("a"), "");
        assert_eq!(errors.message(), "a: Required value");
        errors.required(&Path::new("a"), "");
        errors.required(&Path::new("b"), "");
        assert_eq!(errors.message(), "[a: Required value, b: Required value]");
    }
}
