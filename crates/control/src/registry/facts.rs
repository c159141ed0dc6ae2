//! The few strings of an object that selectors ask for, read without building the object.
//!
//! A cached object is its bytes plus these. Parsing a pod into a tree takes ten times its size in memory, and only
//! writers and tables need the tree; they parse when they need it.

use catamaran_api::selector::LabelSource;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

/// What selectors see of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// `metadata.labels`, in the order of the keys.
    pub(crate) labels: Box<[(Box<str>, Box<str>)]>,
    /// Values of the kind's field selectors, in their order; empty where the object has none.
    pub(crate) fields: Box<[Box<str>]>,
}

impl Facts {
    /// Reads them from the JSON of an object.
    pub(crate) fn read(json: &[u8], paths: &[Cow<'static, str>]) -> Result<Facts, serde_json::Error> {
        let mut reader = Reader {
            labels: Vec::new(),
            fields: vec![Box::default(); paths.len()],
        };
        let wanted: Vec<(usize, &str)> = paths.iter().map(AsRef::as_ref).enumerate().collect();
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        Level {
            reader: &mut reader,
            wanted,
            depth: Depth::Object,
        }
        .deserialize(&mut deserializer)?;
        reader.labels.sort_unstable();
        Ok(Facts {
            labels: reader.labels.into_boxed_slice(),
            fields: reader.fields.into_boxed_slice(),
        })
    }

    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        let index = self.labels.binary_search_by(|(own, _)| own.as_ref().cmp(key)).ok()?;
        Some(&self.labels[index].1)
    }
}

impl LabelSource for Facts {
    fn label(&self, key: &str) -> Option<&str> {
        Facts::label(self, key)
    }
}

struct Reader {
    labels: Vec<(Box<str>, Box<str>)>,
    fields: Vec<Box<str>>,
}

/// Where in the object a map is, as far as the labels are concerned.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    Object,
    Metadata,
    Labels,
    Elsewhere,
}

/// One value, and the paths that lead through it: (index of the field, rest of its path).
struct Level<'a, 'p> {
    reader: &'a mut Reader,
    wanted: Vec<(usize, &'p str)>,
    depth: Depth,
}

impl<'de> DeserializeSeed<'de> for Level<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Level<'_, '_> {
    fn set(self, text: &str) {
        for (index, rest) in self.wanted {
            if rest.is_empty() {
                self.reader.fields[index] = text.into();
            }
        }
    }
}

impl<'de> Visitor<'de> for Level<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Key<'de>>()? {
            let key = key.0.as_ref();
            let depth = match (self.depth, key) {
                (Depth::Object, "metadata") => Depth::Metadata,
                (Depth::Metadata, "labels") => Depth::Labels,
                (Depth::Labels, _) => {
                    let value = map.next_value::<Option<Box<str>>>()?.unwrap_or_default();
                    self.reader.labels.push((key.into(), value));
                    continue;
                }
                _ => Depth::Elsewhere,
            };
            let wanted: Vec<(usize, &str)> = self
                .wanted
                .iter()
                .filter_map(|(index, path)| Some((*index, below(path, key)?)))
                .collect();
            if wanted.is_empty() && depth == Depth::Elsewhere {
                map.next_value::<IgnoredAny>()?;
            } else {
                map.next_value_seed(Level {
                    reader: &mut *self.reader,
                    wanted,
                    depth,
                })?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.set(text);
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.set(if value { "true" } else { "false" });
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.set(&value.to_string());
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.set(&value.to_string());
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// The rest of a dotted path below its first segment, if that is `key`.
fn below<'p>(path: &'p str, key: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(key)?;
    if rest.is_empty() {
        Some("")
    } else {
        rest.strip_prefix('.')
    }
}

#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] std::borrow::Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_labels_and_fields_and_nothing_else() {
        let json = br#"{"metadata":{"name":"x","labels":{"b":"2","a":"1\n"},"annotations":{"labels":"no"}},
            "spec":{"nodeName":"n1","hostNetwork":true,"containers":[{"nodeName":"wrong"}],"deep":{"nodeName":"wrong"}},
            "status":{"phase":"Running","count":3,"none":null}}"#;
        let facts = Facts::read(
            json,
            &[
                "spec.nodeName".into(),
                "spec.hostNetwork".into(),
                "status.phase".into(),
                "status.count".into(),
                "status.gone".into(),
            ],
        )
        .unwrap();
        assert_eq!(
            facts.fields.iter().map(AsRef::as_ref).collect::<Vec<&str>>(),
            ["n1", "true", "Running", "3", ""]
        );
        assert_eq!(facts.label("a"), Some("1\n"));
        assert_eq!(facts.label("b"), Some("2"));
        assert_eq!(facts.label("c"), None);
    }
}
