//! What a call costs at least and at most: one table for CEL's own functions, one for those that Kubernetes adds.

use super::{AUTHORIZER_CHECK, Bounds, Entries, Known, LIST_BASE, PATTERN, STRUCT_BASE, TRAVERSAL};
use crate::decl::Decl;
use crate::node::{Call, Kind};
use crate::overloads::Overload;
use crate::types::{Type, opaque};
use crate::value::Value;

/// Longest regular expression behind a named format.
const MAX_FORMAT_PATTERN: f64 = 128.0;
/// Longest name of a format.
const MAX_FORMAT: u64 = 64;

pub(super) enum ArgsCost {
    /// All arguments are always evaluated.
    Sum,
    /// The price says what they cost.
    Included,
}

pub(super) struct Price {
    pub(super) cost: Bounds,
    pub(super) args: ArgsCost,
    pub(super) size: Option<Bounds>,
    pub(super) entries: Option<Entries>,
}

impl From<Bounds> for Price {
    fn from(cost: Bounds) -> Self {
        Self {
            cost,
            args: ArgsCost::Sum,
            size: None,
            entries: None,
        }
    }
}

impl Price {
    fn sized(self, size: Bounds) -> Self {
        Self {
            size: Some(size),
            ..self
        }
    }
}

pub(super) fn price(call: &Call, overload: &Overload, args: &[Known<'_>], target: usize) -> Price {
    kubernetes_price(call, overload, args, target).unwrap_or_else(|| standard_price(call, overload, args))
}

/// Prices of the functions Kubernetes adds, by name.
fn kubernetes_price(call: &Call, overload: &Overload, args: &[Known<'_>], target: usize) -> Option<Price> {
    let one = Bounds::fixed(1);
    let size = |index: usize| args.get(index).map_or(Bounds::UNKNOWN, Known::size);
    let walked = |index: usize, times: f64| size(index).scaled(times * TRAVERSAL);
    let has_target = target == 1;
    Some(match &*call.name {
        "check" => Bounds::fixed(AUTHORIZER_CHECK).into(),
        "serviceAccount" | "path" | "group" | "resource" | "subresource" | "namespace" | "name" | "allowed"
        | "reason" | "error" | "errored" => one.into(),
        "fieldSelector" | "labelSelector" => selector_cost(size(1)).into(),
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" if has_target => match &call.args[0].ty {
            Type::List(items) => {
                let mut each = one;
                if matches!(**items, Type::String | Type::Bytes) {
                    let item = args[0].decl.and_then(Decl::items);
                    let item = item.map_or(Bounds::UNKNOWN, |decl| Bounds::up_to(decl.max_elements));
                    each = each.plus(item.scaled(TRAVERSAL));
                }
                size(0).times(each).into()
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
            Price::from(walked(0, 2.0)).sized(Bounds::up_to(limit))
        }
        "join" if has_target => {
            let list = size(0);
            let item = args[0]
                .decl
                .and_then(Decl::items)
                .map_or(Bounds::UNKNOWN, |decl| Bounds::up_to(decl.max_elements));
            let mut joined = list.times(item);
            if args.len() > 1 {
                let separators = Bounds {
                    min: list.min.saturating_sub(1),
                    max: list.max.saturating_sub(1),
                };
                joined = joined.plus(size(1).times(separators));
            }
            Price::from(joined.scaled(TRAVERSAL)).sized(joined)
        }
        "find" | "findAll" if has_target => {
            let text = size(0).plus(Bounds::fixed(1)).scaled(TRAVERSAL);
            let found = Bounds::up_to(size(0).max);
            Price::from(text.times(size(1).scaled(PATTERN))).sized(found)
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
            let mut cost = Bounds { min: 8, max: 32 }.scaled(TRAVERSAL);
            if overload.id == "cidr_contains_ip_string" {
                cost = cost.plus(walked(1, 1.0));
            }
            cost.into()
        }
        "containsCIDR" => {
            let address = Bounds { min: 4, max: 16 };
            let mut cost = address
                .plus(address)
                .scaled(TRAVERSAL)
                .plus(address.scaled(TRAVERSAL))
                .plus(one);
            if overload.id == "cidr_contains_cidr_string" {
                cost = cost.plus(walked(1, 1.0));
            }
            cost.into()
        }
        "validate" => walked(1, 1.0).scaled(MAX_FORMAT_PATTERN * PATTERN).into(),
        "_==_" => match (&call.args[0].ty, &call.args[1].ty) {
            (Type::Opaque(a), Type::Opaque(b)) if a == b => match *a {
                opaque::FORMAT => Bounds {
                    min: 1,
                    max: MAX_FORMAT,
                }
                .scaled(TRAVERSAL)
                .into(),
                opaque::URL => {
                    let max = args[1].size.map_or(1, |size| size.max);
                    Bounds { min: 1, max }.scaled(TRAVERSAL).into()
                }
                _ => one.into(),
            },
            _ => return None,
        },
        _ => return None,
    })
}

pub(super) fn selector_cost(length: Bounds) -> Bounds {
    #[allow(clippy::cast_precision_loss, reason = "two small constants")]
    let per_requirement = (LIST_BASE + STRUCT_BASE) as f64;
    Bounds::fixed(LIST_BASE)
        .plus(length.scaled(TRAVERSAL))
        .plus(length.scaled(0.5).scaled(per_requirement))
}

/// How long a text is after a replacement.
fn replaced(text: Bounds, old: Bounds, new: Bounds) -> Bounds {
    let (mut count, mut kept) = (Bounds::fixed(0), Bounds::fixed(0));
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
    let size = |index: usize| args.get(index).map_or(Bounds::UNKNOWN, Known::size);
    let walked = |index: usize| size(index).scaled(TRAVERSAL);
    match overload.id {
        "string_format" => walked(0).into(),
        "string_to_bytes" => Price::from(walked(0)).sized(Bounds {
            min: size(0).min,
            max: size(0).max.saturating_mul(4),
        }),
        "bytes_to_string" => Price::from(walked(0)).sized(Bounds {
            min: size(0).min / 4,
            max: size(0).max,
        }),
        "strings_quote" => Price::from(walked(0)).sized(Bounds {
            min: size(0).min.saturating_add(2),
            max: size(0).max.saturating_mul(2).saturating_add(2),
        }),
        "starts_with_string" | "ends_with_string" => walked(1).into(),
        "in_list" => size(1).scaled(1.0).into(),
        "matches_string" => {
            let text = size(0).plus(Bounds::fixed(1)).scaled(TRAVERSAL);
            text.times(size(1).scaled(PATTERN)).into()
        }
        "contains_string" => walked(0).times(walked(1)).into(),
        "logical_and" | "logical_or" => Price {
            args: ArgsCost::Included,
            ..Bounds {
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
            Price::from(sum.scaled(TRAVERSAL)).sized(sum)
        }
        "add_list" => Price {
            size: Some(size(0).plus(size(1))),
            entries: Entries::union(args[0].entries, args[1].entries),
            ..Bounds::fixed(1).into()
        },
        "equals" | "not_equals" => compared(size(0), size(1)).into(),
        id if id.ends_with("_string") || id.ends_with("_bytes") => match &*call.name {
            "_<_" | "_<=_" | "_>_" | "_>=_" => compared(size(0), size(1)).into(),
            _ => Bounds::fixed(1).into(),
        },
        _ => Bounds::fixed(1).into(),
    }
}

fn compared(a: Bounds, b: Bounds) -> Bounds {
    let max = a.max.min(b.max);
    Bounds {
        min: u64::from(max > 0),
        max,
    }
    .scaled(TRAVERSAL)
}
