//! Lists as sets.

use super::{Answer, Function};
use crate::{Budget, EvalError, List, Value};

pub(super) fn function(name: &str) -> Option<Function> {
    Some(match name {
        "sets.contains" => |args, budget| {
            let (a, b) = lists(args)?;
            Ok(Value::Bool(contains(a, b, budget)?))
        },
        "sets.equivalent" => |args, budget| {
            let (a, b) = lists(args)?;
            Ok(Value::Bool(contains(a, b, budget)? && contains(b, a, budget)?))
        },
        "sets.intersects" => intersects,
        _ => return None,
    })
}

fn lists<'v, 'a>(args: &'v [Value<'a>]) -> Result<(&'v List<'a>, &'v List<'a>), EvalError> {
    match args {
        [Value::List(a), Value::List(b)] => Ok((a, b)),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn contains<'a>(whole: &List<'a>, part: &List<'a>, budget: &mut Budget) -> Result<bool, EvalError> {
    budget.charge((whole.len() as u64).saturating_mul(part.len() as u64))?;
    for item in part.to_vec(budget)? {
        if !whole.contains(&item, budget)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn intersects<'a>(args: &[Value<'a>], budget: &mut Budget) -> Answer<'a> {
    let (a, b) = lists(args)?;
    budget.charge((a.len() as u64).saturating_mul(b.len() as u64))?;
    for item in b.to_vec(budget)? {
        if a.contains(&item, budget)? {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}
