//! What a call did cost, counted while it runs against the budget of a request.

use super::bounds::scale;
use super::price::selector_cost;
use super::{AUTHORIZER_CHECK, Bounds, PATTERN, TRAVERSAL};
use crate::node::Call;
use crate::value::Value;

/// What a call cost, given its arguments and its result.
pub(crate) fn actual(call: &Call, args: &[Value<'_>], result: &Value<'_>) -> u64 {
    let size = |index: usize| args.get(index).map_or(1, Value::priced_size);
    let walked = |index: usize, times: f64| scale(size(index), times * TRAVERSAL);
    let pattern = |text: usize, pattern: usize| {
        scale(size(text).saturating_add(1), TRAVERSAL).saturating_mul(scale(size(pattern), PATTERN))
    };
    match &*call.name {
        "check" => AUTHORIZER_CHECK,
        "fieldSelector" | "labelSelector" => selector_cost(Bounds::fixed(size(1))).max,
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
