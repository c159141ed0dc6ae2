//! Semantic versions (<https://semver.org>), as the `semver()` function reads them.

use std::cmp::Ordering;

use crate::EvalError;

/// A version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Semver {
    pub(crate) major: u64,
    pub(crate) minor: u64,
    pub(crate) patch: u64,
    pre: Vec<Identifier>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Identifier {
    Number(u64),
    Text(String),
}

impl Semver {
    /// Which comes first; build metadata does not count, and a release comes after its pre-releases.
    pub(crate) fn precedence(&self, other: &Self) -> Ordering {
        let numbers = |version: &Self| (version.major, version.minor, version.patch);
        let pre = || match (self.pre.is_empty(), other.pre.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => self.pre.cmp(&other.pre),
        };
        numbers(self).cmp(&numbers(other)).then_with(pre)
    }
}

/// Reads a version. If `tolerant`, a leading `v`, leading zeros and missing parts are put up with.
pub(crate) fn parse(text: &str, tolerant: bool) -> Result<Semver, EvalError> {
    let invalid = || {
        EvalError::new(format!(
            "Invalid semantic version {}",
            catamaran_api::field::quote(text)
        ))
    };
    let normal = if tolerant { normalise(text) } else { text.to_owned() };
    let (normal, build) = normal
        .split_once('+')
        .map_or((normal.as_str(), None), |(n, b)| (n, Some(b)));
    if build.is_some_and(|build| !build.split('.').all(is_identifier)) {
        return Err(invalid());
    }
    let (core, pre) = normal
        .split_once('-')
        .map_or((normal, None), |(core, pre)| (core, Some(pre)));
    let mut numbers = core.split('.').map(number);
    let mut next = || numbers.next().flatten().ok_or_else(invalid);
    let (major, minor, patch) = (next()?, next()?, next()?);
    if numbers.next().is_some() {
        return Err(invalid());
    }
    let mut identifiers = Vec::new();
    for identifier in pre.into_iter().flat_map(|pre| pre.split('.')) {
        if !is_identifier(identifier) {
            return Err(invalid());
        }
        identifiers.push(if identifier.bytes().all(|b| b.is_ascii_digit()) {
            Identifier::Number(number(identifier).ok_or_else(invalid)?)
        } else {
            Identifier::Text(identifier.to_owned())
        });
    }
    Ok(Semver {
        major,
        minor,
        patch,
        pre: identifiers,
    })
}

fn number(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok())?
}

fn is_identifier(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn normalise(text: &str) -> String {
    let text = text.trim();
    let text = text.strip_prefix('v').unwrap_or(text);
    let end = text.find(['-', '+']).unwrap_or(text.len());
    let (core, rest) = text.split_at(end);
    let mut parts: Vec<&str> = core
        .split('.')
        .map(|part| match part.trim_start_matches('0') {
            "" if !part.is_empty() => "0",
            trimmed => trimmed,
        })
        .collect();
    // A suffix needs all three numbers before it.
    while parts.len() < 3 && rest.is_empty() {
        parts.push("0");
    }
    format!("{}{rest}", parts.join("."))
}
