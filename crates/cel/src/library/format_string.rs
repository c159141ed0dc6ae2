//! `"%s has %d".format([…])`.

use std::fmt::Write as _;

use super::{Answer, convert, text};
use crate::{Budget, EvalError, Value};

/// Most digits behind the point.
const MAX_PRECISION: usize = 1000;

pub(super) fn format<'a>(args: &[Value<'a>], budget: &mut Budget) -> Answer<'a> {
    let Value::List(values) = &args[1] else {
        return Err(EvalError::NoSuchOverload);
    };
    let values = values.to_vec(budget)?;
    let mut next = 0;
    let mut out = String::new();
    let mut rest = text(args, 0)?;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let value = values
            .get(next)
            .ok_or_else(|| EvalError::new(format!("index {next} out of range")))?;
        next += 1;
        let (precision, after) = precision(rest)?;
        let clause = after
            .chars()
            .next()
            .ok_or_else(|| EvalError::new("unexpected end of string"))?;
        rest = &after[clause.len_utf8()..];
        let written = clause_text(clause, precision, value)?;
        budget.work(written.len())?;
        out.push_str(&written);
    }
    out.push_str(rest);
    Ok(Value::string(out))
}

fn precision(text: &str) -> Result<(usize, &str), EvalError> {
    let Some(after) = text.strip_prefix('.') else {
        return Ok((6, text));
    };
    let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
    let precision: usize = after[..end]
        .parse()
        .map_err(|_| EvalError::new("error while parsing precision: error while converting precision to integer"))?;
    if precision > MAX_PRECISION {
        return Err(EvalError::new(format!(
            "precision {precision} exceeds maximum allowed precision {MAX_PRECISION}"
        )));
    }
    Ok((precision, &after[end..]))
}

fn clause_text(clause: char, precision: usize, value: &Value<'_>) -> Result<String, EvalError> {
    let refuse = |wanted: &str| {
        EvalError::new(format!(
            "error during formatting: {wanted} clause can only be used on {}, was given {}",
            match wanted {
                "decimal" => "integers",
                "binary" => "integers and bools",
                "hex" => "integers, byte buffers, and strings",
                "octal" => "integer",
                _ => "doubles",
            },
            value.type_name()
        ))
    };
    Ok(match (clause, value) {
        ('s', value) => shown(value),
        ('d', Value::Int(value)) => value.to_string(),
        ('d', Value::Uint(value)) => value.to_string(),
        ('d', Value::Double(value)) if !value.is_finite() => {
            convert::show_double(*value).trim_start_matches('+').to_owned()
        }
        ('d', _) => return Err(refuse("decimal")),
        ('f', value) => {
            let number = double(value).ok_or_else(|| refuse("fixed-point"))?;
            format!("{number:.precision$}")
        }
        ('e', value) => {
            let number = double(value).ok_or_else(|| refuse("scientific"))?;
            let text = format!("{number:.precision$e}");
            let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            let (sign, digits) = exponent
                .strip_prefix('-')
                .map_or(('+', exponent), |digits| ('-', digits));
            format!("{mantissa}e{sign}{digits:0>2}")
        }
        ('b', Value::Bool(value)) => u8::from(*value).to_string(),
        ('b', Value::Int(value)) => signed(*value, |magnitude| format!("{magnitude:b}")),
        ('b', Value::Uint(value)) => format!("{value:b}"),
        ('b', _) => return Err(refuse("binary")),
        ('o', Value::Int(value)) => signed(*value, |magnitude| format!("{magnitude:o}")),
        ('o', Value::Uint(value)) => format!("{value:o}"),
        ('o', _) => return Err(refuse("octal")),
        ('x', Value::Int(value)) => signed(*value, |magnitude| format!("{magnitude:x}")),
        ('X', Value::Int(value)) => signed(*value, |magnitude| format!("{magnitude:X}")),
        ('x', Value::Uint(value)) => format!("{value:x}"),
        ('X', Value::Uint(value)) => format!("{value:X}"),
        ('x' | 'X', Value::String(text)) => hex(text.as_bytes(), clause),
        ('x' | 'X', Value::Bytes(bytes)) => hex(bytes, clause),
        ('x' | 'X', _) => return Err(refuse("hex")),
        (other, _) => {
            return Err(EvalError::new(format!(
                "could not parse formatting clause: unrecognized formatting clause \"{other}\""
            )));
        }
    })
}

#[allow(
    clippy::cast_precision_loss,
    reason = "numbers of all types may be written as doubles"
)]
fn double(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Double(value) => Some(*value),
        Value::Int(value) => Some(*value as f64),
        Value::Uint(value) => Some(*value as f64),
        _ => None,
    }
}

fn signed(value: i64, write: impl Fn(u64) -> String) -> String {
    let sign = if value < 0 { "-" } else { "" };
    format!("{sign}{}", write(value.unsigned_abs()))
}

fn hex(bytes: &[u8], clause: char) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = if clause == 'x' {
            write!(text, "{byte:02x}")
        } else {
            write!(text, "{byte:02X}")
        };
    }
    text
}

/// `%s`: lists and maps show their parts.
fn shown(value: &Value<'_>) -> String {
    match value {
        Value::List(list) => {
            let items = (0..list.len()).filter_map(|index| list.get(index).ok().flatten());
            let items: Vec<String> = items.map(|item| shown(&item)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Map(map) => {
            let mut budget = Budget::default();
            let mut entries: Vec<String> = map
                .keys()
                .iter()
                .filter_map(|key| {
                    let value = map.get(key, &mut budget).ok().flatten()?;
                    Some(format!("{}: {}", shown(key), shown(&value)))
                })
                .collect();
            entries.sort();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => convert::show(other),
    }
}
