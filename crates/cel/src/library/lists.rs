//! Lists.

use std::cmp::Ordering;

use super::{Answer, Function, int, strings};
use crate::value::Map;
use crate::{Budget, EvalError, List, Value};

/// Longest list that `lists.range` makes.
const MAX_RANGE: i64 = 1_000_000;

pub(super) fn function(name: &str) -> Option<Function> {
    Some(match name {
        "isSorted" => is_sorted,
        "sum" => sum,
        "min" => |args, budget| extreme(args, "min", Ordering::Less, budget),
        "max" => |args, budget| extreme(args, "max", Ordering::Greater, budget),
        "indexOf" => |args, budget| index_of(args, false, budget),
        "lastIndexOf" => |args, budget| index_of(args, true, budget),
        "slice" => slice,
        "flatten" => flatten,
        "lists.range" => range,
        "reverse" => reverse,
        "distinct" => distinct,
        "sort" => |args, budget| {
            let keys = list(args)?.to_vec(budget)?;
            sorted(&keys, &keys, budget)
        },
        "@sortByAssociatedKeys" => |args, budget| {
            let Some(Value::List(keys)) = args.get(1) else {
                return Err(EvalError::NoSuchOverload);
            };
            let keys = keys.to_vec(budget)?;
            sorted(&list(args)?.to_vec(budget)?, &keys, budget)
        },
        "cel.@mapInsert" => insert,
        _ => return None,
    })
}

fn list<'v, 'a>(args: &'v [Value<'a>]) -> Result<&'v List<'a>, EvalError> {
    match args.first() {
        Some(Value::List(list)) => Ok(list),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn is_sorted<'a>(args: &[Value<'a>], budget: &mut Budget) -> Answer<'a> {
    let items = list(args)?.to_vec(budget)?;
    for pair in items.windows(2) {
        if pair[0].compare(&pair[1]).ok_or(EvalError::NoSuchOverload)?.is_gt() {
            return Ok(Value::Bool(false));
        }
    }
    Ok(Value::Bool(true))
}

fn sum<'a>(args: &[Value<'a>], budget: &mut Budget) -> Answer<'a> {
    let add = super::function("_+_").ok_or(EvalError::NoSuchOverload)?;
    let mut items = list(args)?.to_vec(budget)?.into_iter();
    let Some(mut total) = items.next() else {
        return Ok(Value::Int(0));
    };
    for item in items {
        total = add(&[total, item], budget)?;
    }
    Ok(total)
}

fn extreme<'a>(args: &[Value<'a>], name: &str, wanted: Ordering, budget: &mut Budget) -> Answer<'a> {
    let mut items = list(args)?.to_vec(budget)?.into_iter();
    let mut best = items
        .next()
        .ok_or_else(|| EvalError::new(format!("{name} called on empty list")))?;
    for item in items {
        if item.compare(&best).ok_or(EvalError::NoSuchOverload)? == wanted {
            best = item;
        }
    }
    Ok(best)
}

fn index_of<'a>(args: &[Value<'a>], last: bool, budget: &mut Budget) -> Answer<'a> {
    if matches!(args[0], Value::String(_)) {
        return strings::index_of(args, last);
    }
    let mut found = -1;
    for (index, item) in list(args)?.to_vec(budget)?.iter().enumerate() {
        if item.equals(&args[1], budget)? {
            found = i64::try_from(index).unwrap_or(i64::MAX);
            if !last {
                break;
            }
        }
    }
    Ok(Value::Int(found))
}

fn slice<'a>(args: &[Value<'a>], budget: &mut Budget) -> Answer<'a> {
    let (start, end) = (int(args, 1)?, int(args, 2)?);
    let items = list(args)?.to_vec(budget)?;
    let (Ok(from), Ok(to)) = (usize::try_from(start), usize::try_from(end)) else {
        return Err(EvalError::new(format!(
            "cannot slice({start}, {end}), negative indexes not supported"
        )));
    };
    if from > to {
        return Err(EvalError::new(format!(
            "cannot slice({start}, {end}), start index must be less than or equal to end index"
        )));
    }
    let part = items
        .get(from..to)
        .ok_or_else(|| EvalError::new(format!("cannot slice({start}, {end}), list is length {}", items.len())))?;
    Ok(Value::list(part.to_vec()))
}

fn flatten<'a>(args: &[Value<'a>], budget: &mut Budget) -> Answer<'a> {
    let depth = if args.len() > 1 { int(args, 1)? } else { 1 };
    if depth < 0 {
        return Err(EvalError::new("level must be non-negative"));
    }
    let mut flat = Vec::new();
    flatten_into(list(args)?, depth, &mut flat, budget)?;
    budget.charge(flat.len() as u64)?;
    Ok(Value::list(flat))
}

fn flatten_into<'a>(
    list: &List<'a>,
    depth: i64,
    flat: &mut Vec<Value<'a>>,
    budget: &mut Budget,
) -> Result<(), EvalError> {
    for item in list.to_vec(budget)? {
        match item {
            Value::List(inner) if depth > 0 => flatten_into(&inner, depth - 1, flat, budget)?,
            item => flat.push(item),
        }
    }
    Ok(())
}

fn range<'a>(args: &[Value<'a>], budget: &mut Budget) -> Answer<'a> {
    let count = int(args, 0)?;
    if count > MAX_RANGE {
        return Err(EvalError::CostLimit);
    }
    budget.charge(u64::try_from(count).unwrap_or_default())?;
    Ok(Value::list((0..count).map(Value::Int).collect()))
}

fn reverse<'a>(args: &[Value<'a>], budget: &mut Budget) -> Answer<'a> {
    let mut items = list(args)?.to_vec(budget)?;
    budget.charge(items.len() as u64)?;
    items.reverse();
    Ok(Value::list(items))
}

fn distinct<'a>(args: &[Value<'a>], budget: &mut Budget) -> Answer<'a> {
    let items = list(args)?.to_vec(budget)?;
    budget.charge((items.len() as u64).saturating_mul(items.len() as u64) / 2)?;
    let mut kept: Vec<Value<'a>> = Vec::new();
    'items: for item in items {
        for known in &kept {
            if known.equals(&item, budget)? {
                continue 'items;
            }
        }
        kept.push(item);
    }
    Ok(Value::list(kept))
}

/// `items` in the order of their keys.
fn sorted<'a>(items: &[Value<'a>], keys: &[Value<'a>], budget: &mut Budget) -> Answer<'a> {
    if items.len() != keys.len() {
        return Err(EvalError::new(format!(
            "@sortByAssociatedKeys() expected a list of the same size as the associated keys list, but got {} and {} elements respectively",
            items.len(),
            keys.len()
        )));
    }
    budget.charge((items.len() as u64).saturating_mul(items.len().max(2).ilog2().into()))?;
    if let Some((first, rest)) = keys.split_first() {
        for key in rest {
            if key.type_name() != first.type_name() {
                return Err(EvalError::new("list elements must have the same type"));
            }
        }
        first
            .compare(first)
            .ok_or_else(|| EvalError::new("list elements must be comparable"))?;
    }
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by(|a, b| keys[*a].compare(&keys[*b]).unwrap_or(Ordering::Equal));
    Ok(Value::list(
        order.into_iter().map(|index| items[index].clone()).collect(),
    ))
}

/// Loops over growing maps do this in place; this is for a map that is no accumulator.
fn insert<'a>(args: &[Value<'a>], budget: &mut Budget) -> Answer<'a> {
    let Some(Value::Map(map)) = args.first() else {
        return Err(EvalError::NoSuchOverload);
    };
    let mut made = std::collections::BTreeMap::new();
    budget.work(map.len())?;
    for key in map.keys() {
        if let (Some(known), Some(value)) = (crate::value::Key::of(&key), map.get(&key, budget)?) {
            made.insert(known, value);
        }
    }
    match &args[1..] {
        [key, value] => {
            let key = crate::value::Key::of(key).ok_or(EvalError::NoSuchOverload)?;
            made.insert(key, value.clone());
        }
        _ => return Err(EvalError::NoSuchOverload),
    }
    Ok(Value::Map(Map::Made(std::sync::Arc::new(made))))
}
