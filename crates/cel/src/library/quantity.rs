//! `quantity` and `semver`, which share the names of their comparisons.

use catamaran_api::quantity::Quantity;

use super::semver::{self, Semver};
use super::{Answer, Function, text};
use crate::value::Opaque;
use crate::{Budget, EvalError, Value};

pub(super) fn function(name: &str) -> Option<Function> {
    Some(match name {
        "quantity" => |args, _| Ok(Value::opaque(Opaque::Quantity(parse(text(args, 0)?)?))),
        "isQuantity" => |args, _| Ok(Value::Bool(parse(text(args, 0)?).is_ok())),
        "sign" => |args, _| {
            let sign = of(&args[0])?.nanos().signum();
            Ok(Value::Int(i64::try_from(sign).unwrap_or_default()))
        },
        "asApproximateFloat" => approximate,
        "asInteger" => as_integer,
        "isInteger" => |args, _| Ok(Value::Bool(whole(of(&args[0])?).is_some())),
        "add" => |args, _| Ok(Value::opaque(Opaque::Quantity(of(&args[0])? + operand(&args[1])?))),
        "sub" => |args, _| Ok(Value::opaque(Opaque::Quantity(of(&args[0])? - operand(&args[1])?))),
        "isGreaterThan" => |args, _| Ok(Value::Bool(compare(args)?.is_gt())),
        "isLessThan" => |args, _| Ok(Value::Bool(compare(args)?.is_lt())),
        "compareTo" => |args, _| Ok(Value::Int(compare(args)? as i64)),
        "semver" => |args, _| {
            Ok(Value::opaque(Opaque::Semver(semver::parse(
                text(args, 0)?,
                tolerant(args)?,
            )?)))
        },
        "isSemver" => |args, _| Ok(Value::Bool(semver::parse(text(args, 0)?, tolerant(args)?).is_ok())),
        "major" => |args, _| number(args, |version| version.major),
        "minor" => |args, _| number(args, |version| version.minor),
        "patch" => |args, _| number(args, |version| version.patch),
        _ => return None,
    })
}

fn parse(text: &str) -> Result<Quantity, EvalError> {
    Quantity::parse(text).map_err(|error| EvalError::new(error.to_string()))
}

fn of(value: &Value<'_>) -> Result<Quantity, EvalError> {
    match value {
        Value::Opaque(value) => match &**value {
            Opaque::Quantity(quantity) => Ok(*quantity),
            _ => Err(EvalError::NoSuchOverload),
        },
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn operand(value: &Value<'_>) -> Result<Quantity, EvalError> {
    match value {
        Value::Int(units) => parse(&units.to_string()),
        other => of(other),
    }
}

fn version<'v>(value: &'v Value<'_>) -> Option<&'v Semver> {
    match value {
        Value::Opaque(value) => match &**value {
            Opaque::Semver(version) => Some(version),
            _ => None,
        },
        _ => None,
    }
}

fn compare(args: &[Value<'_>]) -> Result<std::cmp::Ordering, EvalError> {
    if let (Some(a), Some(b)) = (version(&args[0]), version(&args[1])) {
        return Ok(a.precedence(b));
    }
    Ok(of(&args[0])?.cmp(&of(&args[1])?))
}

fn whole(quantity: Quantity) -> Option<i64> {
    let nanos = quantity.nanos();
    (nanos % 1_000_000_000 == 0).then(|| i64::try_from(nanos / 1_000_000_000).ok())?
}

fn as_integer<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    whole(of(&args[0])?)
        .map(Value::Int)
        .ok_or_else(|| EvalError::new("cannot convert value to integer"))
}

fn approximate<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    #[allow(clippy::cast_precision_loss, reason = "the function is called approximate")]
    let value = of(&args[0])?.nanos() as f64 / 1e9;
    Ok(Value::Double(value))
}

fn tolerant(args: &[Value<'_>]) -> Result<bool, EvalError> {
    match args.get(1) {
        None => Ok(false),
        Some(Value::Bool(tolerant)) => Ok(*tolerant),
        Some(_) => Err(EvalError::NoSuchOverload),
    }
}

fn number<'a>(args: &[Value<'a>], get: fn(&Semver) -> u64) -> Answer<'a> {
    let version = version(&args[0]).ok_or(EvalError::NoSuchOverload)?;
    Ok(Value::Int(i64::try_from(get(version)).unwrap_or(i64::MAX)))
}
