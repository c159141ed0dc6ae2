//! What an expression can cost at most, from the bounds of what it reads.
//!
//! The arithmetic is that of `cel-go`'s estimator with Kubernetes' prices for its own functions, because a definition that one
//! server takes the other has to take as well, and refuse with the same factor in the message.

use std::sync::Arc;

use crate::decl::Decl;
use crate::env::Env;
use crate::lower::{ACCUMULATOR, is_bind};
use crate::node::{Call, Comprehension, Entry, Kind, Node, SelectKind};
use crate::overloads::Overload;
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
/// Longest regular expression behind a named format.
const MAX_FORMAT_PATTERN: f64 = 128.0;
/// Longest name of a format.
const MAX_FORMAT: u64 = 64;

/// Least and most that an evaluation costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CostEstimate {
    pub min: u64,
    pub max: u64,
}

/// Least and most elements a value has: characters, bytes, items, entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeEstimate {
    pub min: u64,
    pub max: u64,
}

impl CostEstimate {
    const fn fixed(cost: u64) -> Self {
        Self { min: cost, max: cost }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            min: self.min.saturating_add(other.min),
            max: self.max.saturating_add(other.max),
        }
    }

    fn times(self, other: Self) -> Self {
        Self {
            min: self.min.saturating_mul(other.min),
            max: self.max.saturating_mul(other.max),
        }
    }

    fn union(self, other: Self) -> Self {
        Self {
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }

    fn scaled(self, factor: f64) -> Self {
        Self {
            min: scale(self.min, factor),
            max: scale(self.max, factor),
        }
    }
}

impl SizeEstimate {
    const UNKNOWN: Self = Self { min: 0, max: u64::MAX };

    const fn fixed(size: u64) -> Self {
        Self { min: size, max: size }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            min: self.min.saturating_add(other.min),
            max: self.max.saturating_add(other.max),
        }
    }

    fn times(self, other: Self) -> Self {
        Self {
            min: self.min.saturating_mul(other.min),
            max: self.max.saturating_mul(other.max),
        }
    }

    fn union(self, other: Self) -> Self {
        Self {
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }

    fn priced(self, factor: f64) -> CostEstimate {
        CostEstimate {
            min: scale(self.min, factor),
            max: scale(self.max, factor),
        }
    }

    fn times_cost(self, cost: CostEstimate) -> CostEstimate {
        CostEstimate {
            min: self.min.saturating_mul(cost.min),
            max: self.max.saturating_mul(cost.max),
        }
    }
}

/// `x · factor`, rounded up; the largest number instead of an overflow.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "prices are calculated in doubles, and casts saturate"
)]
pub(crate) fn scale(x: u64, factor: f64) -> u64 {
    (x as f64 * factor).ceil() as u64
}

/// What is known about an expression.
#[derive(Clone, Debug)]
struct Known<'e> {
    cost: CostEstimate,
    size: Option<SizeEstimate>,
    /// Sizes of keys and values of what it contains.
    entries: Option<Entries>,
    /// Where its value comes from.
    decl: Option<&'e Decl>,
}

#[derive(Clone, Copy, Debug)]
struct Entries {
    list: bool,
    key: SizeEstimate,
    value: SizeEstimate,
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
    fn of(cost: CostEstimate) -> Self {
        Self {
            cost,
            size: None,
            entries: None,
            decl: None,
        }
    }

    fn size(&self) -> SizeEstimate {
        self.size.unwrap_or(SizeEstimate::UNKNOWN)
    }
}

/// The cost of a checked expression.
pub(crate) fn estimate(node: &Node, env: &Env) -> CostEstimate {
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
                size: Some(SizeEstimate::fixed(constant_size(value))),
                ..Known::of(CostEstimate::default())
            },
            Kind::Ident(name) => self.identifier(name),
            Kind::Select(select) => {
                let operand = self.node(&select.operand);
                if select.kind == SelectKind::Test {
                    return Known {
                        size: Some(SizeEstimate::fixed(1)),
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
                    ..Known::of(operand.cost.plus(CostEstimate::fixed(priced)))
                }
            }
            Kind::Call(call) => self.call(call),
            Kind::List(elements) => self.list(elements),
            Kind::Map(entries) => self.map(entries),
            Kind::Comprehension(comprehension) if is_bind(comprehension) => self.bind(comprehension),
            Kind::Comprehension(comprehension) => self.comprehension(comprehension),
            Kind::Struct(_) => Known::of(CostEstimate::fixed(STRUCT_BASE)),
        };
        if known.size.is_none() {
            known.size = known.decl.map(|decl| SizeEstimate {
                min: 0,
                max: decl.max_elements,
            });
        }
        if known.size.is_none() && node.ty.is_scalar() {
            known.size = Some(SizeEstimate::fixed(1));
        }
        known
    }

    fn identifier(&self, name: &str) -> Known<'e> {
        let one = CostEstimate::fixed(1);
        if let Some((_, local)) = self.scopes.iter().rev().find(|(known, _)| &**known == name) {
            return Known {
                cost: one,
                ..local.clone()
            };
        }
        // Kubernetes takes the size of what it does not know, as the name of a type, for that of the value rules are about.
        let known = self.env.get(name);
        let size = match known {
            None => self.env.get("self").map(|root| SizeEstimate {
                min: 0,
                max: root.decl.max_elements,
            }),
            Some(_) => None,
        };
        Known {
            decl: known.map(|variable| &*variable.decl),
            size,
            ..Known::of(one)
        }
    }

    fn list(&mut self, elements: &'e [(Node, bool)]) -> Known<'e> {
        let mut cost = CostEstimate::fixed(LIST_BASE);
        let mut item = SizeEstimate {
            min: if elements.is_empty() { 0 } else { u64::MAX },
            max: 0,
        };
        for (element, _) in elements {
            let known = self.node(element);
            cost = cost.plus(known.cost);
            item = item.union(known.size());
        }
        Known {
            size: Some(SizeEstimate::fixed(elements.len() as u64)),
            entries: Some(Entries {
                list: true,
                key: SizeEstimate::fixed(1),
                value: item,
            }),
            ..Known::of(cost)
        }
    }

    fn map(&mut self, entries: &'e [Entry]) -> Known<'e> {
        let mut cost = CostEstimate::fixed(MAP_BASE);
        let none = SizeEstimate {
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
            size: Some(SizeEstimate::fixed(entries.len() as u64)),
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
            ..Known::of(CostEstimate::default())
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
        cost = cost.plus(count.times_cost(step.cost.plus(condition.cost)));
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
            let mut known = args
                .into_iter()
                .next()
                .unwrap_or_else(|| Known::of(CostEstimate::default()));
            known.cost = known.cost.plus(CostEstimate::fixed(1));
            known.decl = None;
            return known;
        }
        let target = usize::from(call.member);
        let sum = |args: &[Known<'_>]| args.iter().fold(CostEstimate::default(), |sum, arg| sum.plus(arg.cost));
        let mut cost = CostEstimate { min: u64::MAX, max: 0 };
        let mut result = Known::of(CostEstimate::default());
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

enum ArgsCost {
    /// All arguments are always evaluated.
    Sum,
    /// The price says what they cost.
    Included,
}

struct Price {
    cost: CostEstimate,
    args: ArgsCost,
    size: Option<SizeEstimate>,
    entries: Option<Entries>,
}

impl From<CostEstimate> for Price {
    fn from(cost: CostEstimate) -> Self {
        Self {
            cost,
            args: ArgsCost::Sum,
            size: None,
            entries: None,
        }
    }
}

impl Price {
    fn sized(self, size: SizeEstimate) -> Self {
        Self {
            size: Some(size),
            ..self
        }
    }
}

fn price(call: &Call, overload: &Overload, args: &[Known<'_>], target: usize) -> Price {
    kubernetes_price(call, overload, args, target).unwrap_or_else(|| standard_price(call, overload, args))
}

/// Prices of the functions Kubernetes adds, by name.
fn kubernetes_price(call: &Call, overload: &Overload, args: &[Known<'_>], target: usize) -> Option<Price> {
    let one = CostEstimate::fixed(1);
    let size = |index: usize| args.get(index).map_or(SizeEstimate::UNKNOWN, Known::size);
    let walked = |index: usize, times: f64| size(index).priced(times * TRAVERSAL);
    let has_target = target == 1;
    Some(match &*call.name {
        "check" => CostEstimate::fixed(AUTHORIZER_CHECK).into(),
        "serviceAccount" | "path" | "group" | "resource" | "subresource" | "namespace" | "name" | "allowed"
        | "reason" | "error" | "errored" => one.into(),
        "fieldSelector" | "labelSelector" => selector_cost(size(1)).into(),
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" if has_target => match &call.args[0].ty {
            Type::List(items) => {
                let mut each = one;
                if matches!(**items, Type::String | Type::Bytes) {
                    let item = args[0].decl.and_then(Decl::items);
                    let item = item.map_or(SizeEstimate::UNKNOWN, |decl| SizeEstimate {
                        min: 0,
                        max: decl.max_elements,
                    });
                    each = each.plus(item.priced(TRAVERSAL));
                }
                size(0).times_cost(each).into()
            }
            _ => walked(0, 1.0).into(),
        },
        "url" => Price::from(walked(0, 1.0)).sized(size(0)),
        "lowerAscii" | "upperAscii" | "substring" | "trim" if has_target => Price::from(walked(0, 1.0)).sized(size(0)),
        "replace" if has_target => Price::from(walked(0, 2.0)).sized(replaced(size(0), size(1), size(2))),
        "split" if has_target => {
            let limit = match call.args.get(2).map(|arg| &arg.kind) {
                Some(Kind::Const(Value::Int(limit))) => u64::try_from(*limit).unwrap_or(u64::MAX),
                _ => size(0).max,
            };
            Price::from(walked(0, 2.0)).sized(SizeEstimate { min: 0, max: limit })
        }
        "join" if has_target => {
            let list = size(0);
            let item = args[0]
                .decl
                .and_then(Decl::items)
                .map_or(SizeEstimate::UNKNOWN, |decl| SizeEstimate {
                    min: 0,
                    max: decl.max_elements,
                });
            let mut joined = list.times(item);
            if args.len() > 1 {
                let separators = SizeEstimate {
                    min: list.min.saturating_sub(1),
                    max: list.max.saturating_sub(1),
                };
                joined = joined.plus(size(1).times(separators));
            }
            Price::from(joined.priced(TRAVERSAL)).sized(joined)
        }
        "find" | "findAll" if has_target => {
            let text = size(0).plus(SizeEstimate::fixed(1)).priced(TRAVERSAL);
            let found = SizeEstimate {
                min: 0,
                max: size(0).max,
            };
            Price::from(text.times(size(1).priced(PATTERN))).sized(found)
        }
        "ip" if overload.id == "cidr_ip" => one.into(),
        "cidr" | "isIP" | "isCIDR" | "ip" | "quantity" | "isQuantity" | "semver" | "isSemver" => walked(0, 1.0).into(),
        "ip.isCanonical" => walked(0, 2.0).into(),
        "masked"
        | "prefixLength"
        | "family"
        | "isUnspecified"
        | "isLoopback"
        | "isLinkLocalMulticast"
        | "isLinkLocalUnicast"
        | "isGlobalUnicast"
        | "format.named"
        | "sign"
        | "asInteger"
        | "isInteger"
        | "asApproximateFloat"
        | "isGreaterThan"
        | "isLessThan"
        | "compareTo"
        | "add"
        | "sub"
        | "major"
        | "minor"
        | "patch"
        | "getScheme"
        | "getHostname"
        | "getHost"
        | "getPort"
        | "getEscapedPath"
        | "getQuery" => one.into(),
        "containsIP" => {
            let mut cost = SizeEstimate { min: 8, max: 32 }.priced(TRAVERSAL);
            if overload.id == "cidr_contains_ip_string" {
                cost = cost.plus(walked(1, 1.0));
            }
            cost.into()
        }
        "containsCIDR" => {
            let address = SizeEstimate { min: 4, max: 16 };
            let mut cost = address
                .plus(address)
                .priced(TRAVERSAL)
                .plus(address.priced(TRAVERSAL))
                .plus(one);
            if overload.id == "cidr_contains_cidr_string" {
                cost = cost.plus(walked(1, 1.0));
            }
            cost.into()
        }
        "validate" => walked(1, 1.0).scaled(MAX_FORMAT_PATTERN * PATTERN).into(),
        "_==_" => match (&call.args[0].ty, &call.args[1].ty) {
            (Type::Opaque(a), Type::Opaque(b)) if a == b => match *a {
                opaque::FORMAT => CostEstimate {
                    min: 1,
                    max: MAX_FORMAT,
                }
                .scaled(TRAVERSAL)
                .into(),
                opaque::URL => {
                    let max = args[1].size.map_or(1, |size| size.max);
                    CostEstimate { min: 1, max }.scaled(TRAVERSAL).into()
                }
                _ => one.into(),
            },
            _ => return None,
        },
        _ => return None,
    })
}

fn selector_cost(length: SizeEstimate) -> CostEstimate {
    #[allow(clippy::cast_precision_loss, reason = "two small constants")]
    let per_requirement = (LIST_BASE + STRUCT_BASE) as f64;
    CostEstimate::fixed(LIST_BASE)
        .plus(length.priced(TRAVERSAL))
        .plus(length.priced(0.5).scaled(per_requirement))
}

/// How long a text is after a replacement.
fn replaced(text: SizeEstimate, old: SizeEstimate, new: SizeEstimate) -> SizeEstimate {
    let (mut count, mut kept) = (SizeEstimate::fixed(0), SizeEstimate::fixed(0));
    if old.min == 0 {
        count.max = text.max.saturating_add(1);
        kept.max = text.max;
    } else if new.max <= old.min {
        kept.max = text.max;
    } else {
        count.max = text.max.div_ceil(old.min);
    }
    if old.max == 0 {
        count.min = text.min.saturating_add(1);
        kept.min = text.min;
    } else if old.max <= new.min {
        kept.min = text.min;
    } else {
        count.min = text.min.div_ceil(old.max);
    }
    count.times(new).plus(kept)
}

/// Prices of CEL's own functions, by overload.
fn standard_price(call: &Call, overload: &Overload, args: &[Known<'_>]) -> Price {
    let size = |index: usize| args.get(index).map_or(SizeEstimate::UNKNOWN, Known::size);
    let walked = |index: usize| size(index).priced(TRAVERSAL);
    match overload.id {
        "string_format" => walked(0).into(),
        "string_to_bytes" => Price::from(walked(0)).sized(SizeEstimate {
            min: size(0).min,
            max: size(0).max.saturating_mul(4),
        }),
        "bytes_to_string" => Price::from(walked(0)).sized(SizeEstimate {
            min: size(0).min / 4,
            max: size(0).max,
        }),
        "strings_quote" => Price::from(walked(0)).sized(SizeEstimate {
            min: size(0).min.saturating_add(2),
            max: size(0).max.saturating_mul(2).saturating_add(2),
        }),
        "starts_with_string" | "ends_with_string" => walked(1).into(),
        "in_list" => size(1).priced(1.0).into(),
        "matches_string" => {
            let text = size(0).plus(SizeEstimate::fixed(1)).priced(TRAVERSAL);
            text.times(size(1).priced(PATTERN)).into()
        }
        "contains_string" => walked(0).times(walked(1)).into(),
        "logical_and" | "logical_or" => Price {
            args: ArgsCost::Included,
            ..CostEstimate {
                min: args[0].cost.min,
                max: args[0].cost.plus(args[1].cost).max,
            }
            .into()
        },
        "conditional" => Price {
            args: ArgsCost::Included,
            size: Some(size(1).union(size(2))),
            entries: Entries::union(args[1].entries, args[2].entries),
            ..args[0].cost.plus(args[1].cost.union(args[2].cost)).into()
        },
        "add_string" | "add_bytes" => {
            let sum = size(0).plus(size(1));
            Price::from(sum.priced(TRAVERSAL)).sized(sum)
        }
        "add_list" => Price {
            size: Some(size(0).plus(size(1))),
            entries: Entries::union(args[0].entries, args[1].entries),
            ..CostEstimate::fixed(1).into()
        },
        "equals" | "not_equals" => compared(size(0), size(1)).into(),
        id if id.ends_with("_string") || id.ends_with("_bytes") => match &*call.name {
            "_<_" | "_<=_" | "_>_" | "_>=_" => compared(size(0), size(1)).into(),
            _ => CostEstimate::fixed(1).into(),
        },
        _ => CostEstimate::fixed(1).into(),
    }
}

fn compared(a: SizeEstimate, b: SizeEstimate) -> CostEstimate {
    let max = a.max.min(b.max);
    CostEstimate {
        min: u64::from(max > 0),
        max,
    }
    .scaled(TRAVERSAL)
}

/// What a call cost, given its arguments and its result.
pub(crate) fn actual(call: &Call, args: &[Value<'_>], result: &Value<'_>) -> u64 {
    let size = |index: usize| args.get(index).map_or(1, Value::priced_size);
    let walked = |index: usize, times: f64| scale(size(index), times * TRAVERSAL);
    let pattern = |text: usize, pattern: usize| {
        scale(size(text).saturating_add(1), TRAVERSAL).saturating_mul(scale(size(pattern), PATTERN))
    };
    match &*call.name {
        "check" => AUTHORIZER_CHECK,
        "fieldSelector" | "labelSelector" => selector_cost(SizeEstimate::fixed(size(1))).max,
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => args.first().map_or(0, traversal),
        "url" | "lowerAscii" | "upperAscii" | "substring" | "trim" | "cidr" | "isIP" | "isCIDR" | "quantity"
        | "isQuantity" | "semver" | "isSemver" | "startsWith" | "endsWith" | "format" | "strings.quote" => {
            walked(0, 1.0)
        }
        "replace" | "split" | "ip.isCanonical" => walked(0, 2.0),
        "join" => scale(result.priced_size(), 2.0 * TRAVERSAL),
        "find" | "findAll" => pattern(0, 1),
        "matches" if call.member => pattern(0, 1),
        "ip" => match args.first() {
            Some(Value::String(_)) => walked(0, 1.0),
            _ => 1,
        },
        "containsIP" => {
            1 + if matches!(args.get(1), Some(Value::String(_))) {
                walked(1, 1.0)
            } else {
                0
            }
        }
        "containsCIDR" => {
            3 + if matches!(args.get(1), Some(Value::String(_))) {
                walked(1, 1.0)
            } else {
                0
            }
        }
        "validate" => match args.first() {
            Some(Value::Opaque(format)) => match &**format {
                crate::Opaque::Format(format) => {
                    scale(size(1).saturating_add(1), TRAVERSAL).saturating_mul(scale(format.pattern_length, PATTERN))
                }
                _ => 1,
            },
            _ => 1,
        },
        "string" | "bytes" => match args.first() {
            Some(Value::Bytes(_)) if &*call.name == "string" => walked(0, 1.0),
            Some(Value::String(_)) if &*call.name == "bytes" => walked(0, 1.0),
            _ => 1,
        },
        "@in" => match args.get(1) {
            Some(Value::List(_)) => size(1),
            _ => 1,
        },
        "contains" => walked(0, 1.0).saturating_mul(walked(1, 1.0)),
        "_==_" if matches!(args.first(), Some(Value::Opaque(_))) => 1,
        "_==_" | "_!=_" => scale(size(0).min(size(1)), TRAVERSAL),
        "_<_" | "_<=_" | "_>_" | "_>=_" => match args.first() {
            Some(Value::String(_) | Value::Bytes(_)) => scale(size(0).min(size(1)), TRAVERSAL),
            _ => 1,
        },
        "_+_" => match args.first() {
            Some(Value::String(_) | Value::Bytes(_)) => scale(size(0).saturating_add(size(1)), TRAVERSAL),
            _ => 1,
        },
        _ => 1,
    }
}

/// The price of walking a whole value once.
fn traversal(value: &Value<'_>) -> u64 {
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a length of bytes, as a price"
    )]
    let floor = |length: usize| (length as f64 * TRAVERSAL) as u64;
    match value {
        Value::String(text) => floor(text.len()),
        Value::Bytes(bytes) => floor(bytes.len()),
        Value::List(list) => (0..list.len())
            .filter_map(|index| list.get(index).ok().flatten())
            .fold(0, |sum, item| sum.saturating_add(traversal(&item))),
        _ => 1,
    }
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
