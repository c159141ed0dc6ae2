//! Simple JSON paths: `.spec.replicas`, `.metadata.labels['app']`.

/// Why a path cannot be used. Displays as Kubernetes words it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    #[error("does not refer to a valid field")]
    NoSuchField,
    #[error("unexpected end of JSON path")]
    End,
    #[error("expected single quoted string but got {0}")]
    NotQuoted(String),
    #[error("invalid string literal: invalid escape char {0}")]
    Escape(String),
    #[error("expected ] but got {0}")]
    NotClosed(String),
    #[error("expected [ or . but got: {0}")]
    Start(String),
    #[error("array notation is not allowed")]
    Bracket,
}

use super::Schema;

/// Follows a path through a schema. Returns the path in the form of errors (`spec.replicas`, `metadata.labels[app]`) and what
/// is there.
///
/// # Errors
/// The path cannot be read, or names nothing in the schema.
pub fn follow<'s>(path: &str, schema: &'s Schema, brackets: bool) -> Result<(String, &'s Schema), PathError> {
    let mut tokens = tokens(path).into_iter();
    let mut here = schema;
    let mut shown = String::new();
    while let Some(token) = tokens.next() {
        match token {
            "." => {
                let name = tokens.next().ok_or(PathError::End)?;
                here = step(here, name, &mut shown)?;
            }
            "[" => {
                if !brackets {
                    return Err(PathError::Bracket);
                }
                let quoted = tokens.next().ok_or(PathError::End)?;
                let inner = quoted
                    .strip_prefix('\'')
                    .and_then(|rest| rest.strip_suffix('\''))
                    .ok_or_else(|| PathError::NotQuoted(quoted.to_owned()))?;
                here = step(here, &unescape(inner)?, &mut shown)?;
                match tokens.next().ok_or(PathError::End)? {
                    "]" => {}
                    other => return Err(PathError::NotClosed(other.to_owned())),
                }
            }
            other => return Err(PathError::Start(other.to_owned())),
        }
    }
    Ok((shown, here))
}

fn step<'s>(here: &'s Schema, name: &str, shown: &mut String) -> Result<&'s Schema, PathError> {
    if !here.properties.is_empty() {
        if !shown.is_empty() {
            shown.push('.');
        }
        shown.push_str(name);
        return here.properties.get(name).ok_or(PathError::NoSuchField);
    }
    shown.push('[');
    shown.push_str(name);
    shown.push(']');
    here.additional_schema().ok_or(PathError::NoSuchField)
}

/// Delimiters, quoted strings, and what is between.
fn tokens(path: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = path;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '.' | '[' | ']' => 1,
            '\'' => {
                let bytes = rest.as_bytes();
                let closing = (1..bytes.len()).find(|at| bytes[*at] == b'\'' && bytes[at - 1] != b'\\');
                closing.map_or(rest.len(), |at| at + 1)
            }
            _ => rest.find(['.', '[', ']']).unwrap_or(rest.len()),
        };
        let (token, after) = rest.split_at(length);
        tokens.push(token);
        rest = after;
    }
    tokens
}

fn unescape(text: &str) -> Result<String, PathError> {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        plain.push(match characters.next() {
            Some('a') => '\u{7}',
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('v') => '\u{b}',
            Some('\'') => '\'',
            Some('\\') => '\\',
            Some(other) => return Err(PathError::Escape(format!("\\{other}"))),
            None => return Err(PathError::Escape("\\".to_owned())),
        });
    }
    Ok(plain)
}

/// The names a path of definitions (`.spec.replicas`, `.metadata.labels.app`) goes through.
pub fn segments(path: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut tokens = tokens(path).into_iter();
    while let Some(token) = tokens.next() {
        match token {
            "." | "]" => {}
            "[" => {
                if let Some(quoted) = tokens.next() {
                    found.push(unescape(quoted.trim_matches('\'')).unwrap_or_default());
                }
            }
            name => found.push(name.to_owned()),
        }
    }
    found
}
