//! Arithmetic and comparison. Nothing wraps: what does not fit is an error.

use std::cmp::Ordering;

use super::{Answer, Function};
use crate::value::Map;
use crate::{Budget, EvalError, Value};

pub(super) fn function(name: &str) -> Option<Function> {
    Some(match name {
        "!_" => not,
        "_==_" => |args, budget| Ok(Value::Bool(args[0].equals(&args[1], budget)?)),
        "_!=_" => |args, budget| Ok(Value::Bool(!args[0].equals(&args[1], budget)?)),
        "_<_" => |args, _| compare(args, Ordering::is_lt),
        "_<=_" => |args, _| compare(args, Ordering::is_le),
        "_>_" => |args, _| compare(args, Ordering::is_gt),
        "_>=_" => |args, _| compare(args, Ordering::is_ge),
        "_+_" => add,
        "_-_" => subtract,
        "_*_" => multiply,
        "_/_" => divide,
        "_%_" => modulo,
        "-_" => negate,
        "@in" => contains,
        "size" => size,
        _ => return None,
    })
}

fn overflow(kind: &str) -> EvalError {
    EvalError::new(format!("{kind} overflow"))
}

fn not<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    match args {
        [Value::Bool(value)] => Ok(Value::Bool(!value)),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn compare<'a>(args: &[Value<'a>], wanted: fn(Ordering) -> bool) -> Answer<'a> {
    let is_nan = |value: &Value<'_>| matches!(value, Value::Double(number) if number.is_nan());
    if args.iter().any(is_nan) && args.iter().all(Value::is_number) {
        return Err(EvalError::new("NaN values cannot be ordered"));
    }
    args[0]
        .compare(&args[1])
        .map(|order| Value::Bool(wanted(order)))
        .ok_or(EvalError::NoSuchOverload)
}

fn add<'a>(args: &[Value<'a>], budget: &mut Budget) -> Answer<'a> {
    Ok(match (&args[0], &args[1]) {
        (Value::Int(a), Value::Int(b)) => Value::Int(a.checked_add(*b).ok_or_else(|| overflow("integer"))?),
        (Value::Uint(a), Value::Uint(b)) => Value::Uint(a.checked_add(*b).ok_or_else(|| overflow("unsigned integer"))?),
        (Value::Double(a), Value::Double(b)) => Value::Double(a + b),
        (Value::String(a), Value::String(b)) => {
            budget.work(a.len().saturating_add(b.len()))?;
            Value::string(format!("{}{}", &**a, &**b))
        }
        (Value::Bytes(a), Value::Bytes(b)) => {
            budget.work(a.len().saturating_add(b.len()))?;
            Value::Bytes([&**a, &**b].concat().into())
        }
        (Value::List(a), Value::List(b)) => a.concat(b, budget)?,
        (Value::Duration(a), Value::Duration(b)) => {
            Value::Duration(a.checked_add(*b).ok_or_else(|| overflow("duration"))?)
        }
        (Value::Timestamp(time), Value::Duration(duration)) | (Value::Duration(duration), Value::Timestamp(time)) => {
            Value::Timestamp(time.checked_add(*duration).map_err(|_| overflow("timestamp"))?)
        }
        _ => return Err(EvalError::NoSuchOverload),
    })
}

fn subtract<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(match (&args[0], &args[1]) {
        (Value::Int(a), Value::Int(b)) => Value::Int(a.checked_sub(*b).ok_or_else(|| overflow("integer"))?),
        (Value::Uint(a), Value::Uint(b)) => Value::Uint(a.checked_sub(*b).ok_or_else(|| overflow("unsigned integer"))?),
        (Value::Double(a), Value::Double(b)) => Value::Double(a - b),
        (Value::Duration(a), Value::Duration(b)) => {
            Value::Duration(a.checked_sub(*b).ok_or_else(|| overflow("duration"))?)
        }
        (Value::Timestamp(a), Value::Timestamp(b)) => Value::Duration(a.duration_since(*b)),
        (Value::Timestamp(time), Value::Duration(duration)) => {
            Value::Timestamp(time.checked_sub(*duration).map_err(|_| overflow("timestamp"))?)
        }
        _ => return Err(EvalError::NoSuchOverload),
    })
}

fn multiply<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(match (&args[0], &args[1]) {
        (Value::Int(a), Value::Int(b)) => Value::Int(a.checked_mul(*b).ok_or_else(|| overflow("integer"))?),
        (Value::Uint(a), Value::Uint(b)) => Value::Uint(a.checked_mul(*b).ok_or_else(|| overflow("unsigned integer"))?),
        (Value::Double(a), Value::Double(b)) => Value::Double(a * b),
        _ => return Err(EvalError::NoSuchOverload),
    })
}

fn divide<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(match (&args[0], &args[1]) {
        (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) => {
            return Err(EvalError::new("division by zero"));
        }
        (Value::Int(a), Value::Int(b)) => Value::Int(a.checked_div(*b).ok_or_else(|| overflow("integer"))?),
        (Value::Uint(a), Value::Uint(b)) => Value::Uint(a / b),
        (Value::Double(a), Value::Double(b)) => Value::Double(a / b),
        _ => return Err(EvalError::NoSuchOverload),
    })
}

fn modulo<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(match (&args[0], &args[1]) {
        (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) => {
            return Err(EvalError::new("modulus by zero"));
        }
        (Value::Int(a), Value::Int(b)) => Value::Int(a.checked_rem(*b).ok_or_else(|| overflow("integer"))?),
        (Value::Uint(a), Value::Uint(b)) => Value::Uint(a % b),
        _ => return Err(EvalError::NoSuchOverload),
    })
}

fn negate<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(match &args[0] {
        Value::Int(value) => Value::Int(value.checked_neg().ok_or_else(|| overflow("integer"))?),
        Value::Double(value) => Value::Double(-value),
        _ => return Err(EvalError::NoSuchOverload),
    })
}

fn contains<'a>(args: &[Value<'a>], budget: &mut Budget) -> Answer<'a> {
    Ok(Value::Bool(match &args[1] {
        Value::List(list) => list.contains(&args[0], budget)?,
        Value::Map(map @ (Map::Json(..) | Map::Object(..) | Map::Made(_))) => map.get(&args[0], budget)?.is_some(),
        Value::Map(map) => args[0]
            .as_str()
            .is_some_and(|name| map.keys().iter().any(|key| key.as_str() == Some(name))),
        _ => return Err(EvalError::NoSuchOverload),
    }))
}

fn size<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    let size = args[0].size().ok_or(EvalError::NoSuchOverload)?;
    Ok(Value::Int(i64::try_from(size).unwrap_or(i64::MAX)))
}
