//! From events to objects.

use std::collections::{BTreeSet, HashMap};

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};
use serde_json::{Map, Value};

use super::YamlError;
use super::scalar::{CORE, Scalar};
use crate::body::{Body, Trail};

/// Collections within collections; as deep as JSON bodies may be.
const MAX_DEPTH: usize = 128;

/// What anchors may hold and aliases may repeat, in bytes of memory: a few lines of aliases to aliases would otherwise fill any.
const MAX_ALIASED_BYTES: usize = 16 << 20;

/// The documents of a stream, one by one; an error is the last item.
pub fn documents(text: &str) -> Documents<'_> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    Documents {
        reader: Some(Reader {
            parser: Parser::new_from_str(text),
            anchors: HashMap::new(),
            aliased_bytes: 0,
            trail: Trail::default(),
        }),
    }
}

/// See [`documents`].
pub struct Documents<'t> {
    reader: Option<Reader<'t>>,
}

impl Iterator for Documents<'_> {
    type Item = Result<Body, YamlError>;

    fn next(&mut self) -> Option<Self::Item> {
        let document = self.reader.as_mut()?.document();
        if !matches!(document, Some(Ok(_))) {
            self.reader = None;
        }
        document
    }
}

struct Reader<'t> {
    parser: Parser<'t, StrInput<'t>>,
    anchors: HashMap<usize, Value>,
    aliased_bytes: usize,
    trail: Trail,
}

impl<'t> Reader<'t> {
    fn document(&mut self) -> Option<Result<Body, YamlError>> {
        loop {
            match self.parser.next_event()? {
                Ok((Event::DocumentStart(_), _)) => {
                    self.anchors.clear();
                    return Some(self.root());
                }
                Ok((Event::StreamEnd, _)) => return None,
                Ok(_) => {}
                Err(error) => return Some(Err(error.into())),
            }
        }
    }

    fn root(&mut self) -> Result<Body, YamlError> {
        let value = self.next_node(0)?;
        // What is wrong with the rest of the document shows here.
        let (event, span) = self.event()?;
        if event != Event::DocumentEnd {
            return Err(at(span, "the document goes on after its value"));
        }
        Ok(Body {
            value,
            duplicates: std::mem::take(&mut self.trail).duplicates,
        })
    }

    fn event(&mut self) -> Result<(Event<'t>, Span), YamlError> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(error.into()),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn next_node(&mut self, depth: usize) -> Result<Value, YamlError> {
        let (event, span) = self.event()?;
        self.node(event, span, depth)
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Value, YamlError> {
        if depth > MAX_DEPTH {
            return Err(at(span, "collections are nested too deeply"));
        }
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let value = scalar(&text, style, tag.as_deref()).and_then(Scalar::into_json);
                (value.map_err(|reason| at(span, reason))?, anchor)
            }
            Event::SequenceStart(anchor, _) => (self.sequence(depth)?, anchor),
            Event::MappingStart(anchor, _) => (self.mapping(depth)?, anchor),
            Event::Alias(anchor) => (self.alias(anchor, span)?, 0),
            _ => return Err(at(span, "a value is missing")),
        };
        if anchor > 0 {
            self.spend(&value, span)?;
            self.anchors.insert(anchor, value.clone());
        }
        Ok(value)
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<Value, YamlError> {
        // An anchor is known when its value is complete, and forgotten with its document.
        let Some(value) = self.anchors.get(&anchor).cloned() else {
            return Err(at(
                span,
                "an alias stands inside its own anchor, or in another document",
            ));
        };
        self.spend(&value, span)?;
        Ok(value)
    }

    fn spend(&mut self, value: &Value, span: Span) -> Result<(), YamlError> {
        self.aliased_bytes += weight(value);
        if self.aliased_bytes > MAX_ALIASED_BYTES {
            return Err(at(span, "the document contains excessive aliasing"));
        }
        Ok(())
    }

    fn sequence(&mut self, depth: usize) -> Result<Value, YamlError> {
        let mut list = Vec::new();
        loop {
            let (event, span) = self.event()?;
            if event == Event::SequenceEnd {
                return Ok(Value::Array(list));
            }
            let length = self.trail.enter_index(list.len());
            list.push(self.node(event, span, depth + 1)?);
            self.trail.leave(length);
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Value, YamlError> {
        let mut object = Map::new();
        // To set a key anew that came from elsewhere is what merging is for.
        let mut merged = BTreeSet::new();
        loop {
            let (event, span) = self.event()?;
            if event == Event::MappingEnd {
                return Ok(Value::Object(object));
            }
            if is_merge(&event) {
                let value = self.next_node(depth + 1)?;
                merge(&mut object, &mut merged, value).map_err(|reason| at(span, reason))?;
                continue;
            }
            let key = self.key(event, span)?;
            let length = self.trail.enter_key(&key);
            if !merged.remove(&key) && object.contains_key(&key) {
                self.trail.note_duplicate();
            }
            let value = self.next_node(depth + 1)?;
            self.trail.leave(length);
            object.insert(key, value);
        }
    }

    fn key(&mut self, event: Event<'t>, span: Span) -> Result<String, YamlError> {
        let error = |reason: String| at(span, reason);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let key = scalar(&text, style, tag.as_deref()).map_err(error)?;
                if anchor > 0 {
                    let value = key.clone().into_json().map_err(error)?;
                    self.spend(&value, span)?;
                    self.anchors.insert(anchor, value);
                }
                key.into_key().map_err(error)
            }
            Event::Alias(anchor) => match self.alias(anchor, span)? {
                Value::String(text) => Ok(text),
                value @ (Value::Bool(_) | Value::Number(_)) => Ok(value.to_string()),
                _ => Err(at(span, "a key must be a scalar")),
            },
            _ => Err(at(span, "a key must be a scalar")),
        }
    }
}

impl From<ScanError> for YamlError {
    fn from(error: ScanError) -> Self {
        let place = *error.marker();
        at(Span::empty(place), error.info().replace('\n', " "))
    }
}

fn at(span: Span, reason: impl Into<String>) -> YamlError {
    YamlError {
        reason: reason.into(),
        line: span.start.line(),
        column: span.start.col() + 1,
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Scalar, String> {
    match (tag, style) {
        (Some(tag), _) => Scalar::tagged(&format!("{}{}", tag.handle, tag.suffix), text),
        (None, ScalarStyle::Plain) => Ok(Scalar::plain(text)),
        (None, _) => Ok(Scalar::Text(text.to_owned())),
    }
}

fn is_merge(event: &Event<'_>) -> bool {
    match event {
        Event::Scalar(text, style, _, tag) if text == "<<" => match tag {
            None => *style == ScalarStyle::Plain,
            Some(tag) => tag.handle == CORE && tag.suffix == "merge",
        },
        _ => false,
    }
}

/// What is merged wins over the keys before it, not over those after it, and earlier maps of a list win over later ones.
fn merge(object: &mut Map<String, Value>, merged: &mut BTreeSet<String>, value: Value) -> Result<(), &'static str> {
    let maps = match value {
        Value::Array(maps) => maps,
        map => vec![map],
    };
    for map in maps.into_iter().rev() {
        let Value::Object(map) = map else {
            return Err("a map merge requires a map or a sequence of maps as its value");
        };
        merged.extend(map.keys().cloned());
        object.extend(map);
    }
    Ok(())
}

/// Bytes of memory, roughly.
fn weight(value: &Value) -> usize {
    const NODE: usize = size_of::<Value>();
    NODE + match value {
        Value::String(text) => text.len(),
        Value::Array(list) => list.iter().map(weight).sum(),
        Value::Object(object) => object.iter().map(|(key, value)| NODE + key.len() + weight(value)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}
