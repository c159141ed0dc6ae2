//! Regular expressions. Both RE2 and the `regex` crate run in time linear in the text.

use super::{Answer, Function, int, text};
use crate::{Budget, EvalError, Value};

/// Most bytes a compiled pattern takes.
const SIZE_LIMIT: usize = 1 << 20;

pub(super) fn function(name: &str) -> Option<Function> {
    Some(match name {
        "matches" => |args, _| Ok(Value::Bool(compile(text(args, 1)?)?.is_match(text(args, 0)?))),
        "find" => |args, _| {
            let found = compile(text(args, 1)?)?
                .find(text(args, 0)?)
                .map_or("", |found| found.as_str());
            Ok(Value::string(found))
        },
        "findAll" => find_all,
        _ => return None,
    })
}

fn compile(pattern: &str) -> Result<regex::Regex, EvalError> {
    regex::RegexBuilder::new(pattern)
        .size_limit(SIZE_LIMIT)
        .build()
        .map_err(|error| EvalError::new(format!("Illegal regex: {error}")))
}

fn find_all<'a>(args: &[Value<'a>], budget: &mut Budget) -> Answer<'a> {
    let limit = if args.len() > 2 { int(args, 2)? } else { -1 };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let subject = text(args, 0)?;
    budget.work(subject.len())?;
    let pattern = compile(text(args, 1)?)?;
    let found = pattern
        .find_iter(subject)
        .take(limit)
        .map(|found| Value::string(found.as_str()));
    Ok(Value::list(found.collect()))
}
