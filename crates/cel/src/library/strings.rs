//! Strings, counted in characters.

use super::{Answer, Function, int, text};
use crate::{Budget, EvalError, Value};

pub(super) fn function(name: &str) -> Option<Function> {
    Some(match name {
        "contains" => |args, _| Ok(Value::Bool(text(args, 0)?.contains(text(args, 1)?))),
        "startsWith" => |args, _| Ok(Value::Bool(text(args, 0)?.starts_with(text(args, 1)?))),
        "endsWith" => |args, _| Ok(Value::Bool(text(args, 0)?.ends_with(text(args, 1)?))),
        "charAt" => char_at,
        "lowerAscii" => |args, _| Ok(Value::string(text(args, 0)?.to_ascii_lowercase())),
        "upperAscii" => |args, _| Ok(Value::string(text(args, 0)?.to_ascii_uppercase())),
        "trim" => |args, _| Ok(Value::string(text(args, 0)?.trim())),
        "replace" => replace,
        "split" => split,
        "substring" => substring,
        "strings.quote" => |args, _| Ok(Value::string(catamaran_api::field::quote(text(args, 0)?))),
        "join" => join,
        "format" => super::format_string::format,
        _ => return None,
    })
}

fn out_of_range(index: i64) -> EvalError {
    EvalError::new(format!("index out of range: {index}"))
}

fn char_at<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    let (subject, index) = (text(args, 0)?, int(args, 1)?);
    let position = usize::try_from(index).map_err(|_| out_of_range(index))?;
    match subject.chars().nth(position) {
        Some(c) => Ok(Value::string(c.to_string())),
        None if position == subject.chars().count() => Ok(Value::string("")),
        None => Err(out_of_range(index)),
    }
}

/// `indexOf` of a string.
pub(super) fn index_of<'a>(args: &[Value<'a>], last: bool) -> Answer<'a> {
    let (subject, wanted) = (text(args, 0)?, text(args, 1)?);
    let characters: Vec<char> = subject.chars().collect();
    let wanted: Vec<char> = wanted.chars().collect();
    let offset = match args.get(2) {
        None => None,
        Some(_) => {
            let offset = int(args, 2)?;
            let position = usize::try_from(offset).map_err(|_| out_of_range(offset))?;
            if position > characters.len() || (last && position == characters.len() && position > 0) {
                return Err(out_of_range(offset));
            }
            Some(position)
        }
    };
    let starts = characters.len().checked_sub(wanted.len());
    let Some(last_start) = starts else {
        return Ok(Value::Int(-1));
    };
    let fits = |start: &usize| characters[*start..*start + wanted.len()] == wanted;
    let found = if last {
        (0..=last_start.min(offset.unwrap_or(last_start))).rev().find(fits)
    } else {
        (offset.unwrap_or(0)..=last_start).find(fits)
    };
    Ok(Value::Int(found.map_or(-1, |at| i64::try_from(at).unwrap_or(i64::MAX))))
}

fn replace<'a>(args: &[Value<'a>], budget: &mut Budget) -> Answer<'a> {
    let (subject, old, new) = (text(args, 0)?, text(args, 1)?, text(args, 2)?);
    let limit = if args.len() > 3 { int(args, 3)? } else { -1 };
    let times = subject
        .chars()
        .count()
        .saturating_add(1)
        .min(usize::try_from(limit).unwrap_or(usize::MAX));
    budget.work(subject.len().saturating_add(times.saturating_mul(new.len())))?;
    Ok(Value::string(match usize::try_from(limit) {
        Ok(limit) => subject.replacen(old, new, limit),
        Err(_) => subject.replace(old, new),
    }))
}

fn split<'a>(args: &[Value<'a>], budget: &mut Budget) -> Answer<'a> {
    let (subject, separator) = (text(args, 0)?, text(args, 1)?);
    budget.work(subject.len())?;
    let limit = if args.len() > 2 { int(args, 2)? } else { -1 };
    let limit = match limit {
        0 => return Ok(Value::list(Vec::new())),
        limit => usize::try_from(limit).unwrap_or(usize::MAX),
    };
    let parts: Vec<Value<'a>> = if separator.is_empty() {
        let mut parts = Vec::new();
        let mut rest = subject;
        while let Some(c) = rest.chars().next() {
            if parts.len() + 1 == limit {
                break;
            }
            parts.push(Value::string(c.to_string()));
            rest = &rest[c.len_utf8()..];
        }
        if !rest.is_empty() {
            parts.push(Value::string(rest));
        }
        parts
    } else {
        subject.splitn(limit, separator).map(Value::string).collect()
    };
    Ok(Value::list(parts))
}

fn substring<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    let (subject, start) = (text(args, 0)?, int(args, 1)?);
    let length = i64::try_from(subject.chars().count()).unwrap_or(i64::MAX);
    let end = if args.len() > 2 { int(args, 2)? } else { length };
    if args.len() > 2 && start > end {
        return Err(EvalError::new(format!(
            "invalid substring range. start: {start}, end: {end}"
        )));
    }
    if !(0..=length).contains(&start) {
        return Err(out_of_range(start));
    }
    if !(0..=length).contains(&end) {
        return Err(out_of_range(end));
    }
    let count = usize::try_from(end - start).unwrap_or_default();
    let skipped = usize::try_from(start).unwrap_or_default();
    let part: String = subject.chars().skip(skipped).take(count).collect();
    Ok(Value::string(part))
}

fn join<'a>(args: &[Value<'a>], budget: &mut Budget) -> Answer<'a> {
    let Value::List(list) = &args[0] else {
        return Err(EvalError::NoSuchOverload);
    };
    let separator = if args.len() > 1 { text(args, 1)? } else { "" };
    let mut joined = String::new();
    for (index, item) in list.to_vec(budget)?.iter().enumerate() {
        let part = item
            .as_str()
            .ok_or_else(|| EvalError::new(format!("join: invalid input: {}", super::convert::show(item))))?;
        budget.work(part.len().saturating_add(separator.len()))?;
        if index > 0 {
            joined.push_str(separator);
        }
        joined.push_str(part);
    }
    Ok(Value::string(joined))
}
