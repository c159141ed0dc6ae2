//! How each field merges, as the schema says. A list of which it says nothing is atomic: replaced as a whole.

use crate::schema::Node;

/// How two values of a field become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strategy<'s> {
    pub list: ListMerge<'s>,
    /// A patch of the object (or of an item of the list) says with `$retainKeys` which of its fields stay: unions, where setting
    /// one member must clear the others.
    pub retain_keys: bool,
    /// The new object replaces the old one.
    pub replace: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListMerge<'s> {
    /// The new list replaces the old one.
    Atomic,
    /// A set of scalars.
    Set,
    /// A map whose items are told apart by this field.
    ByKey(&'s str),
}

const ATOMIC: Strategy<'static> = Strategy {
    list: ListMerge::Atomic,
    retain_keys: false,
    replace: false,
};

/// The strategy of field `field` of the type at `node`.
pub fn strategy<'s>(node: Option<Node<'s>>, field: &str) -> Strategy<'s> {
    let Some(how) = node.and_then(|node| node.strategic(field)) else {
        return ATOMIC;
    };
    let list = match &how.merge_key {
        Some(key) => ListMerge::ByKey(key),
        None if how.merge => ListMerge::Set,
        None => ListMerge::Atomic,
    };
    Strategy {
        list,
        retain_keys: how.retain_keys,
        replace: how.replace,
    }
}
