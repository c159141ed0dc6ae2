//! What differs between two versions of an object, as sets of fields.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::element::Element;
use super::set::{Branch, Set};
use super::typed::{Form, form, item_element};
use super::values::same;
use crate::schema::{ListType, Node};

/// No field is in more than one of the sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    pub removed: Set,
    /// In both, with different values.
    pub modified: Set,
    pub added: Set,
}

impl Comparison {
    pub fn is_same(&self) -> bool {
        self.removed.is_empty() && self.modified.is_empty() && self.added.is_empty()
    }

    /// Without some fields and everything below them.
    #[must_use]
    pub fn excluding(self, fields: &Set) -> Self {
        Self {
            removed: self.removed.recursive_difference(fields),
            modified: self.modified.recursive_difference(fields),
            added: self.added.recursive_difference(fields),
        }
    }
}

/// Compares two objects of the type at `node`.
pub fn compare(node: Node<'_>, old: &Value, new: &Value) -> Comparison {
    let parts = Pair {
        old: Some(old),
        new: Some(new),
    }
    .compare(node, 0);
    Comparison {
        removed: parts.removed.below,
        modified: parts.modified.below,
        added: parts.added.below,
    }
}

/// A place in the three sets: is it in the set itself, and what is below?
#[derive(Default)]
struct Part {
    member: bool,
    below: Set,
}

#[derive(Default)]
struct Parts {
    removed: Part,
    modified: Part,
    added: Part,
}

#[derive(Clone, Copy)]
struct Pair<'v> {
    old: Option<&'v Value>,
    new: Option<&'v Value>,
}

/// How deep equal subtrees are looked for before they are walked: status writes leave the whole of `spec` alone.
const EQUAL_DEPTH: usize = 2;

impl<'v> Pair<'v> {
    fn compare(self, node: Node<'_>, depth: usize) -> Parts {
        let mut parts = Parts::default();
        if depth < EQUAL_DEPTH && self.old == self.new {
            return parts;
        }
        let (old, new) = (form(node, self.old), form(node, self.new));
        let is_leaf = if self.new.is_none() {
            self.handle(node, old, depth, &mut parts)
        } else {
            if self.old.is_some() && !old.is_same_sort(new) {
                self.handle(node, old, depth, &mut parts);
            }
            self.handle(node, new, depth, &mut parts)
        };
        if !is_leaf {
            parts.added.member |= self.old.is_none();
            parts.removed.member |= self.old.is_some() && self.new.is_none();
        }
        parts
    }

    /// True if the place was compared as one value.
    fn handle(self, node: Node<'_>, form: Form<'_>, depth: usize, parts: &mut Parts) -> bool {
        match form {
            Form::Scalar | Form::Map { atomic: true } | Form::List(_, ListType::Atomic) => self.leaf(parts),
            Form::Map { .. } => {
                let [old, new] = [self.old, self.new].map(|value| value.and_then(Value::as_object));
                let is_empty = |map: Option<&Map<String, Value>>| map.is_none_or(Map::is_empty);
                if is_empty(old) && is_empty(new) {
                    return self.leaf(parts);
                }
                map_fields(node, old, new, depth, parts);
                false
            }
            Form::List(items, list) => {
                let [old, new] =
                    [self.old, self.new].map(|value| value.and_then(Value::as_array).map_or(&[][..], Vec::as_slice));
                if old.is_empty() && new.is_empty() {
                    return self.leaf(parts);
                }
                list_items(items, list, old, new, depth, parts);
                false
            }
        }
    }

    fn leaf(self, parts: &mut Parts) -> bool {
        match (self.old, self.new) {
            (None, _) => parts.added.member = true,
            (_, None) => parts.removed.member = true,
            (Some(old), Some(new)) => parts.modified.member |= !same(old, new),
        }
        true
    }
}

fn map_fields(
    node: Node<'_>,
    old: Option<&Map<String, Value>>,
    new: Option<&Map<String, Value>>,
    depth: usize,
    parts: &mut Parts,
) {
    static EMPTY: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
    let (has_old, has_new) = (old.is_some(), new.is_some());
    let (old, new) = (old.unwrap_or(&EMPTY), new.unwrap_or(&EMPTY));
    let mut level = Level::default();
    // Both are sorted: one pass over their union.
    let (mut olds, mut news) = (old.iter().peekable(), new.iter().peekable());
    loop {
        let name = match (olds.peek(), news.peek()) {
            (Some((old, _)), Some((new, _))) => (*old).min(*new),
            (Some((name, _)), None) | (None, Some((name, _))) => *name,
            (None, None) => break,
        };
        let mut pair = Pair {
            old: olds.next_if(|(old, _)| *old == name).map(|(_, value)| value),
            new: news.next_if(|(new, _)| *new == name).map(|(_, value)| value),
        };
        let Some(child) = node.field(name) else { continue };
        if let Some(zero) = node.zero(name) {
            pair.old = pair.old.or(has_old.then_some(zero));
            pair.new = pair.new.or(has_new.then_some(zero));
        }
        level.add(|| Element::field(name), pair.compare(child, depth + 1));
    }
    level.finish(parts);
}

/// What was found below a place.
#[derive(Default)]
struct Level {
    removed: Vec<Branch>,
    modified: Vec<Branch>,
    added: Vec<Branch>,
}

impl Level {
    /// The element is made only if something was found, and copied only if it is in more than one of the sets.
    fn add(&mut self, element: impl FnOnce() -> Element, parts: Parts) {
        let lists = [
            (&mut self.removed, parts.removed),
            (&mut self.modified, parts.modified),
            (&mut self.added, parts.added),
        ];
        let is_found = |(_, part): &(_, Part)| part.member || !part.below.is_empty();
        let mut found = lists.into_iter().filter(is_found).peekable();
        if found.peek().is_none() {
            return;
        }
        let mut own = Some(element());
        while let Some((branches, Part { member, below })) = found.next() {
            let element = if found.peek().is_some() {
                own.clone()
            } else {
                own.take()
            };
            branches.extend(element.map(|element| Branch { element, member, below }));
        }
    }

    fn finish(self, parts: &mut Parts) {
        let lists = [
            (self.removed, &mut parts.removed),
            (self.modified, &mut parts.modified),
            (self.added, &mut parts.added),
        ];
        for (branches, part) in lists {
            let below = Set::of_branches(branches);
            part.below = std::mem::take(&mut part.below).union(below);
        }
    }
}

fn list_items(items: Node<'_>, list: &ListType, old: &[Value], new: &[Value], depth: usize, parts: &mut Parts) {
    let mut pairs: BTreeMap<Element, [Vec<&Value>; 2]> = BTreeMap::new();
    for (side, values) in [old, new].into_iter().enumerate() {
        for value in values {
            if let Ok(element) = item_element(list, value) {
                pairs.entry(element).or_default()[side].push(value);
            }
        }
    }
    let mut level = Level::default();
    for (element, [old, new]) in pairs {
        let pair = |old: Option<&&Value>, new: Option<&&Value>| {
            let pair = Pair {
                old: old.copied(),
                new: new.copied(),
            };
            pair.compare(items, depth + 1)
        };
        let found = match (old.as_slice(), new.as_slice()) {
            ([] | [_], [] | [_]) => pair(old.first(), new.first()),
            // Duplicates are one value.
            ([_, _, ..], [_, _, ..]) => {
                let mut found = Parts::default();
                let is_same = old.len() == new.len() && old.iter().zip(&new).all(|(old, new)| same(old, new));
                found.modified.member = !is_same;
                found
            }
            ([_, _, ..], rest) => {
                let mut found = rest.first().map(|new| pair(None, Some(new))).unwrap_or_default();
                found.removed.member = true;
                found
            }
            (rest, _) => {
                let mut found = rest.first().map(|old| pair(Some(old), None)).unwrap_or_default();
                found.added.member = true;
                found
            }
        };
        level.add(|| element, found);
    }
    level.finish(parts);
}
