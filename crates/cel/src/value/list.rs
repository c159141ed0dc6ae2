//! Lists: read in place where they come out of a document, and equal as their list type says.

use super::{List, Value};
use crate::decl::ListSemantics;
use crate::{Budget, EvalError};
use std::fmt;
use std::sync::Arc;

impl<'a> List<'a> {
    pub fn len(&self) -> usize {
        match self {
            List::Json(items, ..) => items.len(),
            List::Made(items) => items.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// # Errors
    /// The item is not of the declared type.
    pub fn get(&self, index: usize) -> Result<Option<Value<'a>>, EvalError> {
        match self {
            List::Json(items, decl, _) => items.get(index).map(|item| Value::from_json(item, decl)).transpose(),
            List::Made(items) => Ok(items.get(index).cloned()),
        }
    }

    /// All items.
    ///
    /// # Errors
    /// An item is not of the declared type.
    pub fn to_vec(&self, budget: &mut Budget) -> Result<Vec<Value<'a>>, EvalError> {
        budget.work(self.len())?;
        match self {
            List::Json(items, decl, _) => items.iter().map(|item| Value::from_json(item, decl)).collect(),
            List::Made(items) => Ok(items.to_vec()),
        }
    }

    pub(crate) fn contains(&self, wanted: &Value<'a>, budget: &mut Budget) -> Result<bool, EvalError> {
        for index in 0..self.len() {
            if let Some(item) = self.get(index)?
                && item.equals(wanted, budget)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Sets are equal in any order, lists of maps if the items with the same keys are.
    pub(super) fn equals(&self, other: &List<'a>, budget: &mut Budget) -> Result<bool, EvalError> {
        if self.len() != other.len() {
            return Ok(false);
        }
        let semantics = [self, other].into_iter().find_map(|list| match list {
            List::Json(_, _, semantics) if **semantics != ListSemantics::Atomic => Some(*semantics),
            _ => None,
        });
        match semantics {
            None => {
                for index in 0..self.len() {
                    let (Some(a), Some(b)) = (self.get(index)?, other.get(index)?) else {
                        return Ok(false);
                    };
                    if !a.equals(&b, budget)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Some(ListSemantics::Map(keys)) => {
                for index in 0..self.len() {
                    let Some(item) = self.get(index)? else { return Ok(false) };
                    match other.with_keys_of(&item, keys, budget)? {
                        Some(counterpart) if counterpart.equals(&item, budget)? => {}
                        _ => return Ok(false),
                    }
                }
                Ok(true)
            }
            Some(_) => {
                for index in 0..self.len() {
                    let Some(item) = self.get(index)? else { return Ok(false) };
                    if !other.contains(&item, budget)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
        }
    }

    fn with_keys_of(
        &self,
        item: &Value<'a>,
        keys: &[String],
        budget: &mut Budget,
    ) -> Result<Option<Value<'a>>, EvalError> {
        for index in 0..self.len() {
            if let Some(candidate) = self.get(index)?
                && same_keys(&candidate, item, keys, budget)?
            {
                return Ok(Some(candidate));
            }
        }
        Ok(None)
    }

    /// `a + b`: lists one after the other; sets and lists of maps merge, the right side winning.
    pub(crate) fn concat(&self, other: &List<'a>, budget: &mut Budget) -> Result<Value<'a>, EvalError> {
        let mut items = self.to_vec(budget)?;
        match self {
            List::Json(_, _, ListSemantics::Set) => {
                for item in other.to_vec(budget)? {
                    if !List::made(&items).contains(&item, budget)? {
                        items.push(item);
                    }
                }
            }
            List::Json(_, _, ListSemantics::Map(keys)) => {
                for item in other.to_vec(budget)? {
                    let mut counterpart = None;
                    for (index, candidate) in items.iter().enumerate() {
                        if same_keys(candidate, &item, keys, budget)? {
                            counterpart = Some(index);
                            break;
                        }
                    }
                    match counterpart {
                        Some(index) => items[index] = item,
                        None => items.push(item),
                    }
                }
            }
            _ => items.extend(other.to_vec(budget)?),
        }
        Ok(Value::list(items))
    }

    fn made(items: &[Value<'a>]) -> Self {
        List::Made(Arc::new(items.to_vec()))
    }
}

fn same_keys<'a>(a: &Value<'a>, b: &Value<'a>, keys: &[String], budget: &mut Budget) -> Result<bool, EvalError> {
    let (Value::Map(a), Value::Map(b)) = (a, b) else {
        return a.equals(b, budget);
    };
    for key in keys {
        let name = crate::escape(key).unwrap_or_else(|| key.clone());
        match (a.field(&name, budget)?, b.field(&name, budget)?) {
            (None, None) => {}
            (Some(a), Some(b)) if a.equals(&b, budget)? => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}

impl fmt::Debug for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            List::Json(items, ..) => f.debug_list().entries(*items).finish(),
            List::Made(items) => items.fmt(f),
        }
    }
}
