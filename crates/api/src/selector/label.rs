//! Label selectors, from their two notations: text (`app=web,tier in (a,b),!old`) and `LabelSelector` objects.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use serde_json::{Map, Value};

use super::ParseError;
use crate::field::{Errors, Path};
use crate::names;

/// Something that has labels.
pub trait LabelSource {
    fn label(&self, key: &str) -> Option<&str>;
}

impl LabelSource for BTreeMap<String, String> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

impl LabelSource for Map<String, Value> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }
}

impl<T: LabelSource> LabelSource for Option<T> {
    fn label(&self, key: &str) -> Option<&str> {
        self.as_ref()?.label(key)
    }
}

impl<T: LabelSource + ?Sized> LabelSource for &T {
    fn label(&self, key: &str) -> Option<&str> {
        (**self).label(key)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `=` and `==`.
    Equals,
    NotEquals,
    In,
    NotIn,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

/// One condition; `values` is sorted and without duplicates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    key: String,
    operator: Operator,
    values: Vec<String>,
}

impl Requirement {
    pub fn key(&self) -> &str {
        &self.key
    }

    pub fn operator(&self) -> Operator {
        self.operator
    }

    pub fn values(&self) -> &[String] {
        &self.values
    }

    fn new(key: String, operator: Operator, mut values: Vec<String>, errors: &mut Errors, path: &Path<'_>) -> Self {
        values.sort_unstable();
        values.dedup();
        let value_path = path.child("values");
        let key_messages = names::qualified_name(&key);
        if !key_messages.is_empty() {
            errors.invalid(&path.child("key"), key.as_str(), key_messages.join("; "));
        }
        let complaint = match (operator, values.len()) {
            (Operator::In | Operator::NotIn, 0) => "for 'in', 'notin' operators, values set can't be empty",
            (Operator::Exists | Operator::DoesNotExist, 1..) => {
                "values set must be empty for exists and does not exist"
            }
            _ => "",
        };
        if !complaint.is_empty() {
            errors.invalid(&value_path, values.clone(), complaint);
        }
        for (index, value) in values.iter().enumerate() {
            let at = value_path.index(index);
            if matches!(operator, Operator::GreaterThan | Operator::LessThan) && value.parse::<i64>().is_err() {
                errors.invalid(
                    &at,
                    value.as_str(),
                    "for 'Gt', 'Lt' operators, the value must be an integer",
                );
            }
            let messages = names::label_value(value);
            if !messages.is_empty() {
                errors.invalid(&at.key(&key), value.as_str(), messages.join("; "));
            }
        }
        Self { key, operator, values }
    }

    pub fn matches(&self, labels: &impl LabelSource) -> bool {
        let label = labels.label(&self.key);
        let listed = |label: &str| self.values.iter().any(|value| value == label);
        match self.operator {
            Operator::Equals | Operator::In => label.is_some_and(listed),
            Operator::NotEquals | Operator::NotIn => !label.is_some_and(listed),
            Operator::Exists => label.is_some(),
            Operator::DoesNotExist => label.is_none(),
            Operator::GreaterThan => self.compares(label, |label, bound| label > bound),
            Operator::LessThan => self.compares(label, |label, bound| label < bound),
        }
    }

    fn compares(&self, label: Option<&str>, holds: fn(i64, i64) -> bool) -> bool {
        let number = |text: &str| text.parse::<i64>().ok();
        let bound = self.values.first().and_then(|value| number(value));
        label
            .and_then(number)
            .zip(bound)
            .is_some_and(|(label, bound)| holds(label, bound))
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, values) = (&self.key, self.values.join(","));
        match self.operator {
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

/// Conditions that must all hold. The empty selector matches everything, [`Selector::nothing`] matches nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    requirements: Vec<Requirement>,
    never: bool,
}

impl Default for Selector {
    fn default() -> Self {
        Self::everything()
    }
}

impl Selector {
    pub const fn everything() -> Self {
        Self {
            requirements: Vec::new(),
            never: false,
        }
    }

    /// What an absent `LabelSelector` means.
    pub const fn nothing() -> Self {
        Self {
            requirements: Vec::new(),
            never: true,
        }
    }

    /// Reads the text notation of the `labelSelector` query parameter and of `kubectl -l`.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut requirements = Parser { rest: text }.selector().map_err(ParseError)?;
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self {
            requirements,
            never: false,
        })
    }

    /// Reads a `LabelSelector`; `path` is where it stands, for the errors.
    pub fn from_object(selector: &LabelSelector, path: &Path<'_>) -> Result<Self, Errors> {
        let mut errors = Errors::new();
        let mut requirements = Vec::new();
        for (key, value) in selector.match_labels.iter().flatten() {
            let at = path.child("matchLabels");
            requirements.push(Requirement::new(
                key.clone(),
                Operator::Equals,
                vec![value.clone()],
                &mut errors,
                &at,
            ));
        }
        for (index, expression) in selector.match_expressions.iter().flatten().enumerate() {
            let list = path.child("matchExpressions");
            requirements.extend(from_expression(expression, &list.index(index), &mut errors));
        }
        if errors.is_empty() {
            requirements.sort_by(|a, b| a.key.cmp(&b.key));
            Ok(Self {
                requirements,
                never: false,
            })
        } else {
            Err(errors)
        }
    }

    pub fn matches(&self, labels: &impl LabelSource) -> bool {
        !self.never && self.requirements.iter().all(|requirement| requirement.matches(labels))
    }

    /// Whether it matches whatever the labels are.
    pub fn is_everything(&self) -> bool {
        !self.never && self.requirements.is_empty()
    }

    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }
}

fn from_expression(expression: &LabelSelectorRequirement, path: &Path<'_>, errors: &mut Errors) -> Option<Requirement> {
    let values = expression.values.clone().unwrap_or_default();
    let operator = match expression.operator.as_str() {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        _ => {
            errors.invalid(
                &path.child("operator"),
                expression.operator.as_str(),
                "not a valid selector operator",
            );
            return None;
        }
    };
    match operator {
        Operator::In | Operator::NotIn if values.is_empty() => {
            errors.required(
                &path.child("values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            );
            return None;
        }
        Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
            errors.forbidden(
                &path.child("values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            );
            return None;
        }
        _ => {}
    }
    Some(Requirement::new(expression.key.clone(), operator, values, errors, path))
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.never {
            return f.write_str("<nothing>");
        }
        let texts: Vec<String> = self.requirements.iter().map(ToString::to_string).collect();
        f.write_str(&texts.join(","))
    }
}

impl std::str::FromStr for Selector {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(text)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Symbol(&'a str),
    End,
}

impl<'a> Token<'a> {
    fn text(self) -> &'a str {
        match self {
            Self::Word(text) | Self::Symbol(text) => text,
            Self::End => "",
        }
    }

    fn ends_requirement(self) -> bool {
        matches!(self, Token::End | Token::Symbol(","))
    }
}

/// Recursive descent without look-back. `in` and `notin` are words like any other, except where an operator is due.
struct Parser<'a> {
    rest: &'a str,
}

const SYMBOLS: &[&str] = &["==", "!=", "!", "=", "(", ")", ",", ">", "<"];

impl<'a> Parser<'a> {
    fn peek(&self) -> Token<'a> {
        Parser { rest: self.rest }.next()
    }

    fn next(&mut self) -> Token<'a> {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
        if self.rest.is_empty() {
            return Token::End;
        }
        if let Some(symbol) = SYMBOLS.iter().find(|symbol| self.rest.starts_with(**symbol)) {
            let (symbol, rest) = self.rest.split_at(symbol.len());
            self.rest = rest;
            return Token::Symbol(symbol);
        }
        let end = self
            .rest
            .find([' ', '\t', '\r', '\n', '=', '!', '(', ')', ',', '>', '<'])
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        Token::Word(word)
    }

    fn selector(&mut self) -> Result<Vec<Requirement>, String> {
        let mut requirements = Vec::new();
        loop {
            match self.peek() {
                Token::End => return Ok(requirements),
                Token::Word(_) | Token::Symbol("!") => {}
                Token::Symbol(found) => {
                    return Err(format!("found '{found}', expected: !, identifier, or 'end of string'"));
                }
            }
            requirements.push(
                self.requirement()
                    .map_err(|why| format!("unable to parse requirement: {why}"))?,
            );
            match self.next() {
                Token::End => return Ok(requirements),
                Token::Symbol(",") => {
                    let after = self.peek();
                    if !matches!(after, Token::Word(_) | Token::Symbol("!")) {
                        return Err(format!("found '{}', expected: identifier after ','", after.text()));
                    }
                }
                other => return Err(format!("found '{}', expected: ',' or 'end of string'", other.text())),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let negated = self.peek() == Token::Symbol("!");
        if negated {
            self.next();
        }
        let key = match self.next() {
            Token::Word(key) => key,
            other => return Err(format!("found '{}', expected: identifier", other.text())),
        };
        let messages = names::qualified_name(key);
        if !messages.is_empty() {
            let mut errors = Errors::new();
            errors.invalid(&Path::new("<nil>"), key, messages.join("; "));
            return Err(errors.message());
        }
        // As Kubernetes does: a '!' before a binary operator is dropped only at the end of the requirement.
        if negated || self.peek().ends_requirement() {
            let operator = if negated {
                Operator::DoesNotExist
            } else {
                Operator::Exists
            };
            return build(key, operator, Vec::new());
        }
        let operator = self.operator()?;
        let values = match operator {
            Operator::In | Operator::NotIn => self.values()?,
            _ => vec![self.value()?],
        };
        build(key, operator, values.into_iter().map(ToOwned::to_owned).collect())
    }

    fn operator(&mut self) -> Result<Operator, String> {
        Ok(match self.next() {
            Token::Word("in") => Operator::In,
            Token::Word("notin") => Operator::NotIn,
            Token::Symbol("=" | "==") => Operator::Equals,
            Token::Symbol("!=") => Operator::NotEquals,
            Token::Symbol(">") => Operator::GreaterThan,
            Token::Symbol("<") => Operator::LessThan,
            other => {
                return Err(format!(
                    "found '{}', expected: in, notin, =, ==, !=, gt, lt",
                    other.text()
                ));
            }
        })
    }

    fn value(&mut self) -> Result<&'a str, String> {
        if self.peek().ends_requirement() {
            return Ok("");
        }
        match self.next() {
            Token::Word(value) => Ok(value),
            other => Err(format!("found '{}', expected: identifier", other.text())),
        }
    }

    /// `(a,b)`; an empty place between commas is the empty value.
    fn values(&mut self) -> Result<Vec<&'a str>, String> {
        match self.next() {
            Token::Symbol("(") => {}
            other => return Err(format!("found '{}' expected: '('", other.text())),
        }
        let mut values = Vec::new();
        loop {
            let value = match self.peek() {
                Token::Word(word) => {
                    self.next();
                    word
                }
                Token::Symbol("," | ")") => "",
                other => return Err(format!("found '{}', expected: ',', ')' or identifier", other.text())),
            };
            values.push(value);
            match self.next() {
                Token::Symbol(",") => {}
                Token::Symbol(")") => return Ok(values),
                other => return Err(format!("found '{}', expected: ',' or ')'", other.text())),
            }
        }
    }
}

fn build(key: &str, operator: Operator, values: Vec<String>) -> Result<Requirement, String> {
    let mut errors = Errors::new();
    let requirement = Requirement::new(key.to_owned(), operator, values, &mut errors, &Path::ROOT);
    if errors.is_empty() {
        Ok(requirement)
    } else {
        Err(errors.message())
    }
}

#[cfg(test)]
mod tests;
