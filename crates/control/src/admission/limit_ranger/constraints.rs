//! The single comparisons, and what is said when they fail.

use crate::kinds::quota::Amounts;
use catamaran_api::quantity::Quantity;

/// A comparison: (type, resource, bound, requests, limits) → complaint.
pub(super) type Checked = fn(&str, &str, Quantity, &Amounts, &Amounts) -> Option<String>;

pub(super) fn min(type_: &str, name: &str, bound: Quantity, requests: &Amounts, limits: &Amounts) -> Option<String> {
    let text = format!("minimum {name} usage per {type_} is {bound}");
    match (requests.get(name), limits.get(name)) {
        (None, _) => Some(format!("{text}.  No request is specified")),
        (Some(request), _) if *request < bound => Some(format!("{text}, but request is {request}")),
        (_, Some(limit)) if *limit < bound => Some(format!("{text}, but limit is {limit}")),
        _ => None,
    }
}

pub(super) fn max(type_: &str, name: &str, bound: Quantity, requests: &Amounts, limits: &Amounts) -> Option<String> {
    let text = format!("maximum {name} usage per {type_} is {bound}");
    match (requests.get(name), limits.get(name)) {
        (_, None) => Some(format!("{text}.  No limit is specified")),
        (_, Some(limit)) if *limit > bound => Some(format!("{text}, but limit is {limit}")),
        (Some(request), _) if *request > bound => Some(format!("{text}, but request is {request}")),
        _ => None,
    }
}

/// For what has no limits.
pub(super) fn max_request(type_: &str, name: &str, bound: Quantity, requests: &Amounts) -> Option<String> {
    let text = format!("maximum {name} usage per {type_} is {bound}");
    match requests.get(name) {
        None => Some(format!("{text}.  No request is specified")),
        Some(request) if *request > bound => Some(format!("{text}, but request is {request}")),
        Some(_) => None,
    }
}

pub(super) fn ratio(type_: &str, name: &str, bound: Quantity, requests: &Amounts, limits: &Amounts) -> Option<String> {
    let text = format!("{name} max limit to request ratio per {type_} is {bound}");
    let something = |amounts: &Amounts| amounts.get(name).copied().filter(|own| !own.is_zero());
    let Some(request) = something(requests) else {
        return Some(format!("{text}, but no request is specified or request is 0"));
    };
    let Some(limit) = something(limits) else {
        return Some(format!("{text}, but no limit is specified or limit is 0"));
    };
    let (limit, request, bound) = precise(limit, request, bound);
    let ratio = limit / request;
    (ratio > bound).then(|| format!("{text}, but provided ratio is {ratio:.6}"))
}

/// As floating numbers, which is how Kubernetes compares ratios: thousandths where they fit, else units.
#[expect(clippy::cast_precision_loss, reason = "Kubernetes' ratios are as precise")]
fn precise(limit: Quantity, request: Quantity, bound: Quantity) -> (f64, f64, f64) {
    let fits = |quantity: Quantity| quantity.units() < i64::MAX / 1000;
    let number = |quantity: Quantity| {
        if fits(limit) && fits(request) {
            quantity.millis() as f64
        } else {
            quantity.units() as f64
        }
    };
    (number(limit), number(request), bound.millis() as f64 / 1000.0)
}
