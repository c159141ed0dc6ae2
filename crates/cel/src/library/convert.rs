//! Conversions between types, and how values are written.

use std::sync::Arc;

use super::{Answer, Function, time};
use crate::value::{Opaque, Str};
use crate::{Budget, EvalError, Value};

pub(super) fn function(name: &str) -> Option<Function> {
    Some(match name {
        "type" => |args, _| Ok(Value::Type(Str::Shared(args[0].type_name().into()))),
        "dyn" => |args, _| Ok(args[0].clone()),
        "bool" => to_bool,
        "bytes" => to_bytes,
        "double" => to_double,
        "int" => to_int,
        "uint" => to_uint,
        "string" => to_string,
        "duration" => to_duration,
        "timestamp" => to_timestamp,
        _ => return None,
    })
}

/// A failure in the words of Go's `strconv`.
fn syntax(function: &str, text: &str) -> EvalError {
    EvalError::new(format!(
        "strconv.{function}: parsing {}: invalid syntax",
        catamaran_api::field::quote(text)
    ))
}

fn range(ty: &str) -> EvalError {
    EvalError::new(match ty {
        "int" => "integer overflow",
        _ => "unsigned integer overflow",
    })
}

fn to_bool<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    match &args[0] {
        Value::Bool(value) => Ok(Value::Bool(*value)),
        Value::String(text) => match &**text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
            other => Err(syntax("ParseBool", other)),
        },
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn to_bytes<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    match &args[0] {
        Value::Bytes(bytes) => Ok(Value::Bytes(Arc::clone(bytes))),
        Value::String(text) => Ok(Value::Bytes(text.as_bytes().into())),
        _ => Err(EvalError::NoSuchOverload),
    }
}

#[allow(clippy::cast_precision_loss, reason = "that is what the conversion is")]
fn to_double<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(Value::Double(match &args[0] {
        Value::Double(value) => *value,
        Value::Int(value) => *value as f64,
        Value::Uint(value) => *value as f64,
        Value::String(text) => text.parse().map_err(|_| syntax("ParseFloat", text))?,
        _ => return Err(EvalError::NoSuchOverload),
    }))
}

fn to_int<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(Value::Int(match &args[0] {
        Value::Int(value) => *value,
        Value::Uint(value) => i64::try_from(*value).map_err(|_| range("int"))?,
        #[allow(clippy::cast_possible_truncation, reason = "checked to be within the range")]
        Value::Double(value) if value.abs() < 9_223_372_036_854_775_807.0 => value.trunc() as i64,
        Value::Double(_) => return Err(range("int")),
        Value::String(text) => text.parse().map_err(|_| syntax("ParseInt", text))?,
        Value::Timestamp(time) => time.as_second(),
        Value::Duration(duration) => i64::try_from(duration.as_nanos()).map_err(|_| range("int"))?,
        _ => return Err(EvalError::NoSuchOverload),
    }))
}

fn to_uint<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(Value::Uint(match &args[0] {
        Value::Uint(value) => *value,
        Value::Int(value) => u64::try_from(*value).map_err(|_| range("uint"))?,
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked to be within the range"
        )]
        Value::Double(value) if *value >= 0.0 && *value < 18_446_744_073_709_551_615.0 => value.trunc() as u64,
        Value::Double(_) => return Err(range("uint")),
        Value::String(text) => text.parse().map_err(|_| syntax("ParseUint", text))?,
        _ => return Err(EvalError::NoSuchOverload),
    }))
}

fn to_string<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(match &args[0] {
        Value::String(text) => Value::String(text.clone()),
        Value::Bytes(bytes) => {
            let text = std::str::from_utf8(bytes)
                .map_err(|_| EvalError::new("invalid UTF-8 in bytes, cannot convert to string"))?;
            Value::string(text)
        }
        Value::Bool(_)
        | Value::Int(_)
        | Value::Uint(_)
        | Value::Double(_)
        | Value::Timestamp(_)
        | Value::Duration(_) => Value::string(show(&args[0])),
        Value::Opaque(value) => match &**value {
            Opaque::Ip(address) => Value::string(address.to_string()),
            Opaque::Cidr(cidr) => Value::string(cidr.to_string()),
            _ => return Err(EvalError::NoSuchOverload),
        },
        _ => return Err(EvalError::NoSuchOverload),
    })
}

fn to_duration<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    match &args[0] {
        Value::Duration(duration) => Ok(Value::Duration(*duration)),
        Value::String(text) => time::parse_duration(text).map(Value::Duration),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn to_timestamp<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    match &args[0] {
        Value::Timestamp(timestamp) => Ok(Value::Timestamp(*timestamp)),
        Value::Int(seconds) => jiff::Timestamp::from_second(*seconds)
            .map(Value::Timestamp)
            .map_err(|_| EvalError::new("timestamp overflow")),
        Value::String(text) => time::parse_timestamp(text).map(Value::Timestamp),
        _ => Err(EvalError::NoSuchOverload),
    }
}

/// A value as `string()` writes it.
pub(crate) fn show(value: &Value<'_>) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Double(value) => show_double(*value),
        Value::String(text) | Value::Type(text) => (**text).to_owned(),
        Value::Timestamp(timestamp) => time::show_timestamp(*timestamp),
        Value::Duration(duration) => time::show_duration(*duration),
        other => crate::to_json(other).map_or_else(|| other.type_name().to_owned(), |json| json.to_string()),
    }
}

/// As Go's `%g` does with the shortest digits that tell the number.
pub(super) fn show_double(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    if value == 0.0 || (1e-4..1e21).contains(&value.abs()) {
        return value.to_string();
    }
    let text = format!("{value:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = exponent
        .strip_prefix('-')
        .map_or(('+', exponent), |digits| ('-', digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}
