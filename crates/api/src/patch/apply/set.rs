//! Sets of fields, as trees of [`Element`]s.
//!
//! Every branch is an element below which more may be in the set; whether it is in the set itself is a flag. Branches are sorted
//! and none is empty, so that sets are combined in one pass and equal sets are equal trees.
//! The JSON form is `FieldsV1`: <https://kubernetes.io/docs/reference/using-api/server-side-apply/#managedfields>

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::element::{Element, ElementError};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    branches: Vec<Branch>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Branch {
    pub(super) element: Element,
    /// Is the element itself in the set?
    pub(super) member: bool,
    pub(super) below: Set,
}

/// Why JSON is no set of fields.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldsError {
    #[error("fields are no object")]
    NoObject,
    #[error("parsing key as path element: {0}")]
    Element(#[from] ElementError),
}

impl Set {
    /// The set of some paths, whose steps are fields.
    pub fn of_fields(paths: &[&[&str]]) -> Self {
        let mut set = Self::default();
        for path in paths {
            let path: Vec<Element> = path.iter().map(|name| Element::field(name)).collect();
            set.insert(&path);
        }
        set
    }

    /// A set whose branches come in any order; none may be there twice.
    pub(super) fn of_branches(mut branches: Vec<Branch>) -> Self {
        if !branches.is_sorted_by(|a, b| a.element < b.element) {
            branches.sort_by(|a, b| a.element.cmp(&b.element));
        }
        Self { branches }
    }

    pub(super) fn branches_mut(&mut self) -> &mut [Branch] {
        &mut self.branches
    }

    pub fn is_empty(&self) -> bool {
        self.branches.is_empty()
    }

    fn position(&self, element: &Element) -> Result<usize, usize> {
        self.branches.binary_search_by(|branch| branch.element.cmp(element))
    }

    /// Adds one field. The empty path is nobody's.
    pub fn insert(&mut self, path: &[Element]) {
        let Some((first, rest)) = path.split_first() else {
            return;
        };
        let at = self.position(first).unwrap_or_else(|at| {
            let branch = Branch {
                element: first.clone(),
                member: false,
                below: Self::default(),
            };
            self.branches.insert(at, branch);
            at
        });
        let branch = &mut self.branches[at];
        if rest.is_empty() {
            branch.member = true;
        } else {
            branch.below.insert(rest);
        }
    }

    pub fn has(&self, path: &[Element]) -> bool {
        let Some((last, first)) = path.split_last() else {
            return false;
        };
        let mut set = self;
        for element in first {
            match set.below(element) {
                Some(below) => set = below,
                None => return false,
            }
        }
        set.has_member(last)
    }

    /// Is this element itself in the set?
    pub fn has_member(&self, element: &Element) -> bool {
        self.position(element).is_ok_and(|at| self.branches[at].member)
    }

    /// What is in the set below an element.
    pub fn below(&self, element: &Element) -> Option<&Self> {
        let below = &self.branches[self.position(element).ok()?].below;
        (!below.is_empty()).then_some(below)
    }

    /// Calls `visit` with every path: the elements of a level before what is below them.
    pub fn each<'s>(&'s self, visit: &mut impl FnMut(&[&'s Element])) {
        self.each_below(&mut Vec::new(), visit);
    }

    fn each_below<'s>(&'s self, path: &mut Vec<&'s Element>, visit: &mut impl FnMut(&[&'s Element])) {
        for branch in self.branches.iter().filter(|branch| branch.member) {
            path.push(&branch.element);
            visit(path);
            path.pop();
        }
        for branch in &self.branches {
            path.push(&branch.element);
            branch.below.each_below(path, visit);
            path.pop();
        }
    }

    /// All paths, in the order of [`each`](Self::each).
    pub fn paths(&self) -> Vec<Vec<Element>> {
        let mut paths = Vec::new();
        self.each(&mut |path| paths.push(path.iter().map(|element| (*element).clone()).collect()));
        paths
    }

    /// What is in either.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        if self.is_empty() || other.is_empty() {
            return if self.is_empty() { other } else { self };
        }
        let mut branches = Vec::with_capacity(self.branches.len().max(other.branches.len()));
        let mut theirs = other.branches.into_iter().peekable();
        for mut ours in self.branches {
            while let Some(branch) = theirs.next_if(|their| their.element < ours.element) {
                branches.push(branch);
            }
            if let Some(branch) = theirs.next_if(|their| their.element == ours.element) {
                ours.member |= branch.member;
                ours.below = ours.below.union(branch.below);
            }
            branches.push(ours);
        }
        branches.extend(theirs);
        Self { branches }
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let mut branches = Vec::new();
        for (ours, theirs) in self.shared(other) {
            let below = ours.below.intersection(&theirs.below);
            let member = ours.member && theirs.member;
            if member || !below.is_empty() {
                branches.push(Branch {
                    element: ours.element.clone(),
                    member,
                    below,
                });
            }
        }
        Self { branches }
    }

    /// Without the fields of another set. What is below those stays.
    #[must_use]
    pub fn difference(self, other: &Self) -> Self {
        self.without(other, false)
    }

    /// Without the fields of another set and everything below them.
    #[must_use]
    pub fn recursive_difference(self, other: &Self) -> Self {
        self.without(other, true)
    }

    fn without(mut self, other: &Self, recursive: bool) -> Self {
        if other.is_empty() || self.is_empty() {
            return self;
        }
        let mut at = 0;
        self.branches.retain_mut(|ours| {
            while other.branches.get(at).is_some_and(|their| their.element < ours.element) {
                at += 1;
            }
            let Some(their) = other.branches.get(at).filter(|their| their.element == ours.element) else {
                return true;
            };
            if recursive && their.member {
                return false;
            }
            ours.member &= !their.member;
            ours.below = std::mem::take(&mut ours.below).without(&their.below, recursive);
            ours.member || !ours.below.is_empty()
        });
        self
    }

    fn shared<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (&'a Branch, &'a Branch)> {
        let mut theirs = other.branches.iter().peekable();
        self.branches.iter().filter_map(move |ours| {
            while theirs.next_if(|their| their.element < ours.element).is_some() {}
            match theirs.peek() {
                Some(their) if their.element.cmp(&ours.element) == Ordering::Equal => Some((ours, *their)),
                _ => None,
            }
        })
    }

    /// Reads `FieldsV1`.
    ///
    /// # Errors
    /// What is no object, or has keys that are no elements.
    pub fn from_fields(fields: &Value) -> Result<Self, FieldsError> {
        Ok(read(fields)?.1)
    }

    /// `FieldsV1` as a tree.
    pub fn to_fields(&self) -> Value {
        let mut fields = Map::new();
        for branch in &self.branches {
            let mut below = branch.below.to_fields();
            if let Value::Object(below) = &mut below
                && branch.member
                && !below.is_empty()
            {
                below.insert(".".to_owned(), Value::Object(Map::new()));
            }
            fields.insert(branch.element.to_key(), below);
        }
        Value::Object(fields)
    }

    /// `FieldsV1` as text, in the sequence in which structured-merge-diff writes it.
    pub fn to_json(&self) -> String {
        let mut text = String::new();
        self.write(false, &mut text);
        text
    }

    fn write(&self, member: bool, text: &mut String) {
        text.push('{');
        if member && !self.is_empty() {
            text.push_str(r#"".":{}"#);
        }
        for branch in &self.branches {
            if !text.ends_with('{') {
                text.push(',');
            }
            text.push_str(&Value::String(branch.element.to_key()).to_string());
            text.push(':');
            branch.below.write(branch.member, text);
        }
        text.push('}');
    }
}

/// Is the place itself in the set, and what is below it?
fn read(fields: &Value) -> Result<(bool, Set), FieldsError> {
    let Value::Object(fields) = fields else {
        return Err(FieldsError::NoObject);
    };
    let mut member = false;
    let mut branches = Vec::with_capacity(fields.len());
    for (key, fields) in fields {
        if key == "." {
            member = true;
            continue;
        }
        let Some(element) = Element::parse(key)? else {
            continue;
        };
        let (member, below) = read(fields)?;
        branches.push(Branch { element, member, below });
    }
    let mut set = Set::of_branches(branches);
    // Two texts may be one element: `{"a":1}` and `{"a":1.0}`.
    set.branches.dedup_by(|second, first| {
        let is_same = first.element == second.element;
        if is_same {
            first.member |= second.member;
            first.below = std::mem::take(&mut first.below).union(std::mem::take(&mut second.below));
        }
        is_same
    });
    Ok((member || set.is_empty(), set))
}
