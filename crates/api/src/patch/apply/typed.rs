//! Objects along their schema: which fields they have, and whether they can have them.
//!
//! [`check`] refuses what cannot be owned field by field (unknown fields, items without keys, duplicates); [`fields`] is the set of
//! all fields of an object that was checked.

use serde_json::Value;

use super::element::Element;
use super::set::{Branch, Set};
use super::values;
use crate::field::quote;
use crate::schema::{ListType, MapKey, Node, Scalar, Shape};

/// What is wrong with a value, and where: `.spec.foo: field not declared in schema`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TypedErrors(Vec<(String, String)>);

impl std::error::Error for TypedErrors {}

impl TypedErrors {
    pub(super) fn push(&mut self, text: String) {
        self.0.push((String::new(), text));
    }

    pub(super) fn into_result(self) -> Result<(), Self> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl std::fmt::Display for TypedErrors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let line = |(path, text): &(String, String)| {
            if path.is_empty() {
                text.clone()
            } else {
                format!("{path}: {text}")
            }
        };
        if let [only] = self.0.as_slice() {
            return f.write_str(&line(only));
        }
        f.write_str("errors:")?;
        self.0.iter().try_for_each(|error| write!(f, "\n  {}", line(error)))
    }
}

/// What a value is at a place where more than one form is allowed.
#[derive(Clone, Copy)]
pub(super) enum Form<'s> {
    Map { atomic: bool },
    Scalar,
    List(Node<'s>, &'s ListType),
}

impl Form<'_> {
    pub(super) fn is_same_sort(self, other: Self) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other)
    }
}

/// The form of a value; where it is missing or null anything goes, and it counts as a map.
pub(super) fn form<'s>(node: Node<'s>, value: Option<&Value>) -> Form<'s> {
    match node.shape() {
        Shape::Map { atomic } => Form::Map { atomic },
        Shape::Scalar(_) => Form::Scalar,
        Shape::List(items, list) => Form::List(items, list),
        Shape::Any => match value {
            Some(Value::Array(_)) => Form::List(node, &ListType::Atomic),
            Some(Value::Object(_) | Value::Null) | None => Form::Map { atomic: false },
            Some(_) => Form::Scalar,
        },
    }
}

/// The element by which an item of a set or map list is owned.
pub(super) fn item_element(list: &ListType, item: &Value) -> Result<Element, String> {
    match (list, item) {
        (ListType::Atomic, _) => Err("invalid indexing of non-associative list".to_owned()),
        (ListType::Set, Value::Object(_)) => {
            Err("associative list without keys has an element that's a map type".to_owned())
        }
        (ListType::Set, Value::Array(_)) => Err("not supported: associative list with lists as elements".to_owned()),
        (ListType::Set, Value::Null) => {
            Err("associative list without keys has an element that's an explicit null".to_owned())
        }
        (ListType::Set, value) => Ok(Element::Value(value.clone())),
        (ListType::Map(_), Value::Null) => Err("associative list with keys may not have a null element".to_owned()),
        (ListType::Map(keys), Value::Object(fields)) => {
            let value = |key: &MapKey| fields.get(&*key.name).or(key.default.as_ref()).cloned();
            let mut own: Vec<(Box<str>, Value)> = keys
                .iter()
                .filter_map(|key| Some((key.name.clone(), value(key)?)))
                .collect();
            if own.is_empty() {
                let names: Vec<String> = keys.iter().map(|key| quote(&key.name)).collect();
                return Err(format!(
                    "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for \
                     any key fields)",
                    names.join(" ")
                ));
            }
            own.sort_by(|a, b| a.0.cmp(&b.0));
            Ok(Element::Key(own.into()))
        }
        (ListType::Map(_), _) => Err("associative list with keys may not have non-map elements".to_owned()),
    }
}

/// Can the value be owned field by field?
///
/// # Errors
/// Everything that is wrong with it. Duplicate items of sets and maps are an error unless they are allowed.
pub fn check(node: Node<'_>, value: &Value, allow_duplicates: bool) -> Result<(), TypedErrors> {
    let mut checker = Checker {
        allow_duplicates,
        path: Vec::new(),
        errors: TypedErrors::default(),
    };
    checker.value(node, value);
    checker.errors.into_result()
}

struct Checker {
    allow_duplicates: bool,
    path: Vec<Element>,
    errors: TypedErrors,
}

impl Checker {
    fn error(&mut self, text: impl Into<String>) {
        self.errors
            .0
            .push((super::element::display_path(&self.path), text.into()));
    }

    fn below(&mut self, element: Element, visit: impl FnOnce(&mut Self)) {
        self.path.push(element);
        visit(self);
        self.path.pop();
    }

    fn value(&mut self, node: Node<'_>, value: &Value) {
        match (node.shape(), value) {
            (Shape::Any, _) | (_, Value::Null) => {}
            (Shape::Scalar(scalar), value) => self.scalar(scalar, value),
            (Shape::List(items, list), Value::Array(values)) => self.list(items, list, values),
            (Shape::List(..), other) => self.error(format!("expected list, got &{{{}}}", values::go_text(other))),
            (Shape::Map { .. }, Value::Object(fields)) => {
                for (name, value) in fields {
                    match node.field(name) {
                        Some(child) => self.below(Element::field(name), |walk| walk.value(child, value)),
                        None => self.below(Element::field(name), |walk| walk.error("field not declared in schema")),
                    }
                }
            }
            (Shape::Map { .. }, other) => self.error(format!("expected map, got &{{{}}}", values::go_text(other))),
        }
    }

    fn scalar(&mut self, scalar: Scalar, value: &Value) {
        let text = match (scalar, value) {
            (Scalar::Numeric, Value::Number(_))
            | (Scalar::String, Value::String(_))
            | (Scalar::Boolean, Value::Bool(_))
            | (Scalar::Untyped, Value::Number(_) | Value::String(_) | Value::Bool(_)) => return,
            (Scalar::Numeric, other) => format!("expected numeric (int or float), got {}", values::go_type(other)),
            (Scalar::String, other) => format!(
                "expected string, got &value.valueUnstructured{{Value:{}}}",
                values::go_literal(other)
            ),
            (Scalar::Boolean, other) => format!("expected boolean, got &{{{}}}", values::go_text(other)),
            (Scalar::Untyped, other) => format!("expected any scalar, got &{{{}}}", values::go_text(other)),
        };
        self.error(text);
    }

    fn list(&mut self, items: Node<'_>, list: &ListType, values: &[Value]) {
        let mut seen: Vec<Element> = Vec::new();
        for (index, value) in values.iter().enumerate() {
            let element = match list {
                ListType::Atomic => Element::Index(i64::try_from(index).unwrap_or(i64::MAX)),
                _ => match item_element(list, value) {
                    Ok(element) => element,
                    Err(text) => return self.error(format!("element {index}: {text}")),
                },
            };
            if *list != ListType::Atomic && !self.allow_duplicates {
                match seen.binary_search(&element) {
                    Ok(_) => self.error(format!("duplicate entries for key {element}")),
                    Err(at) => seen.insert(at, element.clone()),
                }
            }
            self.below(element, |walk| walk.value(items, value));
        }
    }
}

/// The set of all fields of a value that was checked.
pub fn fields(node: Node<'_>, value: &Value) -> Set {
    own_fields(node, value).1
}

/// Is the place itself a field, and which are below it?
fn own_fields(node: Node<'_>, value: &Value) -> (bool, Set) {
    match (form(node, Some(value)), value) {
        (Form::Scalar | Form::List(_, ListType::Atomic) | Form::Map { atomic: true }, _) => (true, Set::default()),
        (Form::List(items, list), Value::Array(values)) => (false, list_fields(items, list, values)),
        (Form::Map { .. }, Value::Object(map)) => {
            let branch = |(name, value): (&String, &Value)| {
                let (own, below) = own_fields(node.field(name)?, value);
                let is_empty = value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
                let member = own || is_empty || !node.has_named_field(name);
                (member || !below.is_empty()).then(|| Branch {
                    element: Element::field(name),
                    member,
                    below,
                })
            };
            (false, Set::of_branches(map.iter().filter_map(branch).collect()))
        }
        _ => (false, Set::default()),
    }
}

fn list_fields(items: Node<'_>, list: &ListType, values: &[Value]) -> Set {
    let elements = values
        .iter()
        .filter_map(|value| Some((item_element(list, value).ok()?, value)));
    let mut branches: Vec<Branch> = elements
        .map(|(element, value)| Branch {
            element,
            member: true,
            below: own_fields(items, value).1,
        })
        .collect();
    branches.sort_by(|a, b| a.element.cmp(&b.element));
    // Of duplicates only the fact that they are there is owned.
    branches.dedup_by(|second, first| {
        let is_same = second.element == first.element;
        if is_same {
            first.below = Set::default();
        }
        is_same
    });
    Set::of_branches(branches)
}

/// With every field of a type that has something of the set below it: whoever owns `a.b` owns `a`.
pub(super) fn with_named_fields(mut set: Set, node: Node<'_>) -> Set {
    add_named_fields(&mut set, Some(node));
    set
}

fn add_named_fields(set: &mut Set, node: Option<Node<'_>>) {
    for branch in set.branches_mut() {
        let child = match (&branch.element, node) {
            (Element::Field(name), Some(node)) => {
                branch.member |= node.has_named_field(name);
                node.field(name)
            }
            (_, Some(node)) => node.items(),
            (_, None) => None,
        };
        add_named_fields(&mut branch.below, child);
    }
}

/// What was owned field by field and has become one value since is owned as one value.
pub(super) fn reconcile(set: &mut Set, node: Node<'_>) {
    for branch in set.branches_mut() {
        let child = match &branch.element {
            Element::Field(name) => node.field(name),
            _ => node.items(),
        };
        let Some(child) = child.filter(|_| !branch.below.is_empty()) else {
            continue;
        };
        if child.is_atomic() {
            branch.member = true;
            branch.below = Set::default();
        } else {
            reconcile(&mut branch.below, child);
        }
    }
}
