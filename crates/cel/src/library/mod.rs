//! The functions, by the names expressions use. One file per library of the Kubernetes documentation.

pub(crate) mod authorizer;
pub(crate) mod cidr;
pub(crate) mod convert;
pub(crate) mod format;
mod format_string;
mod lists;
mod operators;
mod optionals;
mod quantity;
mod regex;
pub(crate) mod semver;
mod sets;
mod strings;
pub(crate) mod time;
pub(crate) mod url;

use crate::types::opaque;
use crate::value::Opaque;
use crate::{Budget, EvalError, Value};

/// A function over evaluated arguments; the target of a method is the first.
pub(crate) type Function = for<'a, 'r, 's> fn(&'r [Value<'a>], &'s mut Budget) -> Result<Value<'a>, EvalError>;

/// The result of a function.
pub(crate) type Answer<'a> = Result<Value<'a>, EvalError>;

/// Names of the types that libraries bring.
pub(crate) const OPAQUE_TYPES: &[&str] = &[
    opaque::URL,
    opaque::IP,
    opaque::CIDR,
    opaque::QUANTITY,
    opaque::SEMVER,
    opaque::FORMAT,
];

/// What runs a function. `None` for what the evaluator does itself.
pub(crate) fn function(name: &str) -> Option<Function> {
    operators::function(name)
        .or_else(|| convert::function(name))
        .or_else(|| strings::function(name))
        .or_else(|| lists::function(name))
        .or_else(|| sets::function(name))
        .or_else(|| optionals::function(name))
        .or_else(|| time::function(name))
        .or_else(|| regex::function(name))
        .or_else(|| url::function(name))
        .or_else(|| cidr::function(name))
        .or_else(|| quantity::function(name))
        .or_else(|| format::function(name))
        .or_else(|| authorizer::function(name))
}

/// Equality of values of the library's types.
pub(crate) fn opaque_equals(a: &Opaque<'_>, b: &Opaque<'_>) -> bool {
    match (a, b) {
        (Opaque::Url(a), Opaque::Url(b)) => a == b,
        (Opaque::Ip(a), Opaque::Ip(b)) => a == b,
        (Opaque::Cidr(a), Opaque::Cidr(b)) => a == b,
        (Opaque::Quantity(a), Opaque::Quantity(b)) => a == b,
        (Opaque::Semver(a), Opaque::Semver(b)) => a.precedence(b).is_eq(),
        (Opaque::Format(a), Opaque::Format(b)) => a.name == b.name,
        (Opaque::Decision(a), Opaque::Decision(b)) => a == b,
        _ => false,
    }
}

/// The text of an argument.
pub(crate) fn text<'v>(args: &'v [Value<'_>], index: usize) -> Result<&'v str, EvalError> {
    args.get(index).and_then(Value::as_str).ok_or(EvalError::NoSuchOverload)
}

/// The whole number of an argument.
pub(crate) fn int(args: &[Value<'_>], index: usize) -> Result<i64, EvalError> {
    match args.get(index) {
        Some(Value::Int(value)) => Ok(*value),
        _ => Err(EvalError::NoSuchOverload),
    }
}
