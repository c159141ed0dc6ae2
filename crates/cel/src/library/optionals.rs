//! Values that may be absent.

use std::sync::Arc;

use super::{Answer, Function};
use crate::{Budget, EvalError, Value};

pub(super) fn function(name: &str) -> Option<Function> {
    Some(match name {
        "optional.of" => |args, _| Ok(Value::Optional(Some(Arc::new(args[0].clone())))),
        "optional.ofNonZeroValue" => of_non_zero,
        "optional.none" => |_, _| Ok(Value::Optional(None)),
        "value" => value,
        "hasValue" => has_value,
        _ => return None,
    })
}

fn of_non_zero<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    let present = (!args[0].is_zero()).then(|| Arc::new(args[0].clone()));
    Ok(Value::Optional(present))
}

fn value<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    match &args[0] {
        Value::Optional(Some(inner)) => Ok((**inner).clone()),
        Value::Optional(None) => Err(EvalError::new("optional.none() dereference")),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn has_value<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    match &args[0] {
        Value::Optional(inner) => Ok(Value::Bool(inner.is_some())),
        _ => Err(EvalError::NoSuchOverload),
    }
}
