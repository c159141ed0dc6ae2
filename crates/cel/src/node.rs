//! The tree that is checked, priced and run.

use std::sync::Arc;

use crate::library::Function;
use crate::overloads::Overload;
use crate::types::Type;
use crate::value::Value;

/// One expression of the tree.
#[derive(Debug)]
pub(crate) struct Node {
    /// Byte offset in the source.
    pub(crate) at: usize,
    /// `Error` until checked.
    pub(crate) ty: Type,
    pub(crate) kind: Kind,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Const(Value<'static>),
    Ident(Arc<str>),
    Select(Box<Select>),
    Call(Box<Call>),
    /// Elements, and whether each is there only if its optional has a value.
    List(Vec<(Node, bool)>),
    Map(Vec<Entry>),
    Comprehension(Box<Comprehension>),
    /// A message of a named type: Kubernetes has none that could be made.
    Struct(String),
}

#[derive(Debug)]
pub(crate) struct Select {
    pub(crate) operand: Node,
    pub(crate) field: Arc<str>,
    pub(crate) kind: SelectKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SelectKind {
    /// `a.b`
    Value,
    /// `has(a.b)`
    Test,
    /// `a.?b`
    Optional,
}

#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) name: Arc<str>,
    /// `a.f(…)`: the first argument is the target.
    pub(crate) member: bool,
    pub(crate) args: Vec<Node>,
    /// The declarations that fit the types of the arguments.
    pub(crate) overloads: Vec<&'static Overload>,
    /// What runs; `None` for what the evaluator does itself (`&&`, `?:`…) and until checked.
    pub(crate) function: Option<Function>,
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: Node,
    pub(crate) value: Node,
    pub(crate) optional: bool,
}

/// `all`, `exists`, `map`… all are loops with an accumulator.
#[derive(Debug)]
pub(crate) struct Comprehension {
    pub(crate) range: Node,
    pub(crate) variable: Arc<str>,
    pub(crate) second: Option<Arc<str>>,
    pub(crate) accumulator: Arc<str>,
    pub(crate) init: Node,
    pub(crate) condition: Node,
    pub(crate) step: Node,
    pub(crate) result: Node,
}

impl Node {
    pub(crate) fn new(at: usize, kind: Kind) -> Self {
        Self {
            at,
            ty: Type::Error,
            kind,
        }
    }

    pub(crate) fn ident(at: usize, name: &str) -> Self {
        Self::new(at, Kind::Ident(name.into()))
    }

    pub(crate) fn call(at: usize, name: &str, args: Vec<Node>) -> Self {
        Self::new(
            at,
            Kind::Call(Box::new(Call {
                name: name.into(),
                member: false,
                args,
                overloads: Vec::new(),
                function: None,
            })),
        )
    }

    pub(crate) fn member(at: usize, name: &str, args: Vec<Node>) -> Self {
        let mut node = Self::call(at, name, args);
        if let Kind::Call(call) = &mut node.kind {
            call.member = true;
        }
        node
    }

    /// `a.b.c` as its names.
    pub(crate) fn qualified_name(&self) -> Option<String> {
        match &self.kind {
            Kind::Ident(name) => Some(name.to_string()),
            Kind::Select(select) if select.kind == SelectKind::Value => {
                Some(format!("{}.{}", select.operand.qualified_name()?, select.field))
            }
            _ => None,
        }
    }

    /// Children, in the order they are evaluated.
    pub(crate) fn children(&self) -> Vec<&Node> {
        match &self.kind {
            Kind::Const(_) | Kind::Ident(_) | Kind::Struct(_) => Vec::new(),
            Kind::Select(select) => vec![&select.operand],
            Kind::Call(call) => call.args.iter().collect(),
            Kind::List(elements) => elements.iter().map(|(element, _)| element).collect(),
            Kind::Map(entries) => entries.iter().flat_map(|entry| [&entry.key, &entry.value]).collect(),
            Kind::Comprehension(c) => vec![&c.range, &c.init, &c.condition, &c.step, &c.result],
        }
    }

    pub(crate) fn children_mut(&mut self) -> Vec<&mut Node> {
        match &mut self.kind {
            Kind::Const(_) | Kind::Ident(_) | Kind::Struct(_) => Vec::new(),
            Kind::Select(select) => vec![&mut select.operand],
            Kind::Call(call) => call.args.iter_mut().collect(),
            Kind::List(elements) => elements.iter_mut().map(|(element, _)| element).collect(),
            Kind::Map(entries) => entries
                .iter_mut()
                .flat_map(|entry| [&mut entry.key, &mut entry.value])
                .collect(),
            Kind::Comprehension(c) => vec![&mut c.range, &mut c.init, &mut c.condition, &mut c.step, &mut c.result],
        }
    }
}
