//! Comparison of numbers of different types, without rounding.

use super::Value;
use std::cmp::Ordering;

/// Order of two numbers of whatever types; `None` if one is no number or not a number.
pub(super) fn compare_numbers(a: &Value<'_>, b: &Value<'_>) -> Option<Ordering> {
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        (Some(a), None) => compare_double(*double(b)?, a).map(Ordering::reverse),
        (None, Some(b)) => compare_double(*double(a)?, b),
        (None, None) => double(a)?.partial_cmp(double(b)?),
    }
}

fn whole(value: &Value<'_>) -> Option<i128> {
    match value {
        Value::Int(value) => Some(i128::from(*value)),
        Value::Uint(value) => Some(i128::from(*value)),
        _ => None,
    }
}

fn double<'v>(value: &'v Value<'_>) -> Option<&'v f64> {
    match value {
        Value::Double(value) => Some(value),
        _ => None,
    }
}

fn compare_double(double: f64, whole: i128) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    // 2^64: beyond every integer, so that the conversion below is exact.
    if double.abs() >= 18_446_744_073_709_551_616.0 {
        return Some(if double > 0.0 {
            Ordering::Greater
        } else {
            Ordering::Less
        });
    }
    #[allow(clippy::cast_possible_truncation, reason = "checked above to be within the range")]
    let floor = double.floor() as i128;
    Some(floor.cmp(&whole).then(if double.fract() == 0.0 {
        Ordering::Equal
    } else {
        Ordering::Greater
    }))
}
