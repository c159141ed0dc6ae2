//! What an expression can cost at most, from the bounds of what it reads.
//!
//! The arithmetic is that of `cel-go`'s estimator with Kubernetes' prices for its own functions, because a definition that one
//! server takes the other has to take as well, and refuse with the same factor in the message.

mod actual;
mod bounds;
mod price;

pub(crate) use actual::actual;
pub use bounds::Bounds;
use price::{ArgsCost, price};

use std::sync::Arc;

use crate::decl::Decl;
use crate::env::Env;
use crate::lower::{ACCUMULATOR, is_bind};
use crate::node::{Call, Comprehension, Entry, Kind, Node, SelectKind};
use crate::types::{Type, opaque};
use crate::value::{Value, key_decl};

/// Price of walking one character of a string.
const TRAVERSAL: f64 = 0.1;
/// Price of one character of a regular expression.
const PATTERN: f64 = 0.25;
const LIST_BASE: u64 = 10;
const MAP_BASE: u64 = 30;
const STRUCT_BASE: u64 = 40;
/// Price of asking the authorizer.
const AUTHORIZER_CHECK: u64 = 350_000;

/// What is known about an expression.
#[derive(Clone, Debug)]
struct Known<'e> {
    cost: Bounds,
    size: Option<Bounds>,
    /// Sizes of keys and values of what it contains.
    entries: Option<Entries>,
    /// Where its value comes from.
    decl: Option<&'e Decl>,
}

#[derive(Clone, Copy, Debug)]
struct Entries {
    list: bool,
    key: Bounds,
    value: Bounds,
}

impl Entries {
    fn union(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        let (a, b) = (a?, b?);
        Some(Self {
            list: a.list,
            key: a.key.union(b.key),
            value: a.value.union(b.value),
        })
    }
}

impl<'e> Known<'e> {
    fn of(cost: Bounds) -> Self {
        Self {
            cost,
            size: None,
            entries: None,
            decl: None,
        }
    }

    fn size(&self) -> Bounds {
        self.size.unwrap_or(Bounds::UNKNOWN)
    }
}

/// The cost of a checked expression.
pub(crate) fn estimate(node: &Node, env: &Env) -> Bounds {
    let mut estimator = Estimator {
        env,
        scopes: Vec::new(),
    };
    estimator.node(node).cost
}

struct Estimator<'e> {
    env: &'e Env,
    scopes: Vec<(Arc<str>, Known<'e>)>,
}

impl<'e> Estimator<'e> {
    fn node(&mut self, node: &'e Node) -> Known<'e> {
        let mut known = match &node.kind {
            Kind::Const(value) => Known {
                size: Some(Bounds::fixed(constant_size(value))),
                ..Known::of(Bounds::default())
            },
            Kind::Ident(name) => self.identifier(name),
            Kind::Select(select) => {
                let operand = self.node(&select.operand);
                if select.kind == SelectKind::Test {
                    return Known {
                        size: Some(Bounds::fixed(1)),
                        ..Known::of(operand.cost)
                    };
                }
                let priced = match &select.operand.ty {
                    Type::Map(_) | Type::Object(_) | Type::Var(_) => 1,
                    Type::Opaque(name) => u64::from(!matches!(*name, opaque::IP | opaque::CIDR)),
                    _ => u64::from(select.kind == SelectKind::Optional),
                };
                Known {
                    decl: operand.decl.and_then(|decl| decl.field(&select.field)),
                    ..Known::of(operand.cost.plus(Bounds::fixed(priced)))
                }
            }
            Kind::Call(call) => self.call(call),
            Kind::List(elements) => self.list(elements),
            Kind::Map(entries) => self.map(entries),
            Kind::Comprehension(comprehension) if is_bind(comprehension) => self.bind(comprehension),
            Kind::Comprehension(comprehension) => self.comprehension(comprehension),
            Kind::Struct(_) => Known::of(Bounds::fixed(STRUCT_BASE)),
        };
        if known.size.is_none() {
            known.size = known.decl.map(|decl| Bounds::up_to(decl.max_elements));
        }
        if known.size.is_none() && node.ty.is_scalar() {
            known.size = Some(Bounds::fixed(1));
        }
        known
    }

    fn identifier(&self, name: &str) -> Known<'e> {
        let one = Bounds::fixed(1);
        if let Some((_, local)) = self.scopes.iter().rev().find(|(known, _)| &**known == name) {
            return Known {
                cost: one,
                ..local.clone()
            };
        }
        // Kubernetes takes the size of what it does not know, as the name of a type, for that of the value rules are about.
        let known = self.env.get(name);
        let size = match known {
            None => self.env.get("self").map(|root| Bounds::up_to(root.decl.max_elements)),
            Some(_) => None,
        };
        Known {
            decl: known.map(|variable| &*variable.decl),
            size,
            ..Known::of(one)
        }
    }

    fn list(&mut self, elements: &'e [(Node, bool)]) -> Known<'e> {
        let mut cost = Bounds::fixed(LIST_BASE);
        let mut item = Bounds {
            min: if elements.is_empty() { 0 } else { u64::MAX },
            max: 0,
        };
        for (element, _) in elements {
            let known = self.node(element);
            cost = cost.plus(known.cost);
            item = item.union(known.size());
        }
        Known {
            size: Some(Bounds::fixed(elements.len() as u64)),
            entries: Some(Entries {
                list: true,
                key: Bounds::fixed(1),
                value: item,
            }),
            ..Known::of(cost)
        }
    }

    fn map(&mut self, entries: &'e [Entry]) -> Known<'e> {
        let mut cost = Bounds::fixed(MAP_BASE);
        let none = Bounds {
            min: if entries.is_empty() { 0 } else { u64::MAX },
            max: 0,
        };
        let (mut key, mut value) = (none, none);
        for entry in entries {
            let (known_key, known_value) = (self.node(&entry.key), self.node(&entry.value));
            cost = cost.plus(known_key.cost).plus(known_value.cost);
            key = key.union(known_key.size());
            value = value.union(known_value.size());
        }
        Known {
            size: Some(Bounds::fixed(entries.len() as u64)),
            entries: Some(Entries {
                list: false,
                key,
                value,
            }),
            ..Known::of(cost)
        }
    }

    fn bind(&mut self, comprehension: &'e Comprehension) -> Known<'e> {
        let range = self.node(&comprehension.range);
        let init = self.node(&comprehension.init);
        let cost = range.cost.plus(init.cost);
        self.scopes.push((Arc::clone(&comprehension.accumulator), init));
        let result = self.node(&comprehension.result);
        self.scopes.pop();
        Known {
            cost: cost.plus(result.cost),
            decl: None,
            ..result
        }
    }

    fn comprehension(&mut self, comprehension: &'e Comprehension) -> Known<'e> {
        let range = self.node(&comprehension.range);
        let init = self.node(&comprehension.init);
        let mut cost = range.cost.plus(init.cost);
        let outside = self.scopes.len();
        // Only a made accumulator says something about its size, and a growing one nothing at all.
        let accumulator = Known {
            decl: None,
            size: init
                .size
                .filter(|_| matches!(comprehension.init.kind, Kind::Const(_)))
                .or(init.size),
            ..init.clone()
        };
        self.scopes.push((Arc::clone(&comprehension.accumulator), accumulator));
        let list = range
            .entries
            .map_or(matches!(comprehension.range.ty, Type::List(_)), |entries| entries.list);
        let local = |decl, size| Known {
            decl,
            size,
            ..Known::of(Bounds::default())
        };
        let decl = range.decl;
        let items = local(decl.and_then(Decl::items), range.entries.map(|entries| entries.value));
        let values = local(decl.and_then(Decl::values), range.entries.map(|entries| entries.value));
        let keys = local(
            decl.and_then(Decl::values).map(|_| key_decl()),
            range.entries.map(|entries| entries.key),
        );
        match &comprehension.second {
            Some(second) => {
                let indices = local(None, range.entries.map(|entries| entries.key));
                let (first, other) = if list { (indices, items) } else { (keys, values) };
                self.scopes.push((Arc::clone(&comprehension.variable), first));
                self.scopes.push((Arc::clone(second), other));
            }
            None => {
                let first = if list { items } else { keys };
                self.scopes.push((Arc::clone(&comprehension.variable), first));
            }
        }
        let condition = self.node(&comprehension.condition);
        let step = self.node(&comprehension.step);
        self.scopes.truncate(outside + 1);
        cost = cost.plus(self.node(&comprehension.result).cost);
        self.scopes.truncate(outside);
        let count = range.size();
        cost = cost.plus(count.times(step.cost.plus(condition.cost)));
        let (size, entries) = match comprehension.init.kind {
            Kind::Const(_) => (init.size, None),
            Kind::List(_) | Kind::Map(_) => (Some(count), step.entries),
            _ => (None, None),
        };
        Known {
            size,
            entries,
            ..Known::of(cost)
        }
    }

    fn call(&mut self, call: &'e Call) -> Known<'e> {
        let args: Vec<Known<'e>> = call.args.iter().map(|arg| self.node(arg)).collect();
        if &*call.name == "dyn" {
            let mut known = args.into_iter().next().unwrap_or_else(|| Known::of(Bounds::default()));
            known.cost = known.cost.plus(Bounds::fixed(1));
            known.decl = None;
            return known;
        }
        let target = usize::from(call.member);
        let sum = |args: &[Known<'_>]| args.iter().fold(Bounds::default(), |sum, arg| sum.plus(arg.cost));
        let mut cost = Bounds { min: u64::MAX, max: 0 };
        let mut result = Known::of(Bounds::default());
        for overload in &call.overloads {
            let priced = price(call, overload, &args, target);
            let own = match priced.args {
                ArgsCost::Sum => priced.cost.plus(sum(&args[target..])),
                ArgsCost::Included => priced.cost,
            };
            cost = cost.union(own);
            result.size = match (result.size, priced.size) {
                (Some(a), Some(b)) => Some(a.union(b)),
                (a, b) => a.or(b),
            };
            result.entries = result.entries.or(priced.entries);
            match overload.id {
                "index_list" => {
                    result.size = result.size.or(args[0].entries.map(|entries| entries.value));
                    result.decl = args[0].decl.and_then(Decl::items);
                }
                "index_map" => {
                    result.size = result.size.or(args[0].entries.map(|entries| entries.value));
                    result.decl = args[0].decl.and_then(Decl::values);
                }
                _ => {}
            }
        }
        result.cost = sum(&args[..target]).plus(cost);
        result
    }
}

fn constant_size(value: &Value<'_>) -> u64 {
    value.size().unwrap_or(1) as u64
}

/// Prices of what is no call.
pub(crate) mod prices {
    /// A variable, or one step of a selection.
    pub(crate) const STEP: u64 = 1;
    pub(crate) const LIST: u64 = super::LIST_BASE;
    pub(crate) const MAP: u64 = super::MAP_BASE;
    /// Is this the accumulator of a loop?
    pub(crate) fn is_accumulator(name: &str) -> bool {
        name == super::ACCUMULATOR
    }
}
