//! Objects as block-style YAML, laid out as kubectl does: keys sorted, lists no deeper than their key, literal blocks for texts
//! of several lines, nothing folded.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Map, Value};

use super::scalar::Scalar;

/// Longer keys need the explicit form; readers look no further ahead for a colon.
const MAX_SIMPLE_KEY: usize = 500;

/// Writes one document.
///
/// # Errors
/// A value that has no JSON form.
pub fn to_string(value: &impl Serialize) -> Result<String, serde_json::Error> {
    let value = serde_json::to_value(value)?;
    let mut text = String::new();
    match &value {
        Value::Object(object) if !object.is_empty() => map(&mut text, object, 0, false),
        Value::Array(items) if !items.is_empty() => list(&mut text, items, 0, false),
        other => {
            leaf(&mut text, other, 0);
            text.push('\n');
        }
    }
    Ok(text)
}

/// `inline`: the first line has been begun by a dash.
fn map(text: &mut String, object: &Map<String, Value>, indent: usize, inline: bool) {
    for (index, (key, value)) in object.iter().enumerate() {
        if index > 0 || !inline {
            spaces(text, indent);
        }
        let mut written = String::new();
        if key.len() > MAX_SIMPLE_KEY || key.contains('\n') {
            double_quoted(&mut written, key);
        } else {
            line(&mut written, key);
        }
        // Escapes make a key longer than it is.
        if written.len() > MAX_SIMPLE_KEY {
            text.push_str("? ");
            text.push_str(&written);
            text.push('\n');
            spaces(text, indent);
        } else {
            text.push_str(&written);
        }
        text.push(':');
        match value {
            Value::Object(object) if !object.is_empty() => {
                text.push('\n');
                map(text, object, indent + 2, false);
            }
            Value::Array(items) if !items.is_empty() => {
                text.push('\n');
                list(text, items, indent, false);
            }
            other => {
                text.push(' ');
                leaf(text, other, indent);
                text.push('\n');
            }
        }
    }
}

fn list(text: &mut String, items: &[Value], indent: usize, inline: bool) {
    for (index, item) in items.iter().enumerate() {
        if index > 0 || !inline {
            spaces(text, indent);
        }
        text.push_str("- ");
        match item {
            Value::Object(object) if !object.is_empty() => map(text, object, indent + 2, true),
            Value::Array(items) if !items.is_empty() => list(text, items, indent + 2, true),
            other => {
                leaf(text, other, indent);
                text.push('\n');
            }
        }
    }
}

fn spaces(text: &mut String, count: usize) {
    text.extend(std::iter::repeat_n(' ', count));
}

/// A scalar or an empty collection. `indent` is that of the surrounding collection.
fn leaf(text: &mut String, value: &Value, indent: usize) {
    match value {
        Value::String(content) if is_block(content) => block(text, content, indent + 2),
        Value::String(content) => line(text, content),
        Value::Object(_) => text.push_str("{}"),
        Value::Array(_) => text.push_str("[]"),
        other => {
            let _ = write!(text, "{other}");
        }
    }
}

/// A text of several lines that a literal block holds without hints or escapes.
fn is_block(content: &str) -> bool {
    let first = content.chars().next();
    content.contains('\n')
        && first.is_some_and(|first| !first.is_whitespace())
        && content.chars().all(|c| c == '\n' || c == '\t' || is_printable(c))
        && content
            .trim_end_matches('\n')
            .lines()
            .all(|line| line.is_empty() || !line.trim().is_empty())
}

fn block(text: &mut String, content: &str, indent: usize) {
    let trimmed = content.trim_end_matches('\n');
    let breaks = content.len() - trimmed.len();
    text.push_str(match breaks {
        0 => "|-",
        1 => "|",
        _ => "|+",
    });
    for line in trimmed.split('\n') {
        text.push('\n');
        if !line.is_empty() {
            spaces(text, indent);
            text.push_str(line);
        }
    }
    text.extend(std::iter::repeat_n('\n', breaks.saturating_sub(1)));
}

/// A text on one line, in the plainest form that reads as that text again.
fn line(text: &mut String, content: &str) {
    if content.is_empty() || is_ambiguous(content) || !content.chars().all(is_printable) {
        double_quoted(text, content);
    } else if needs_quotes(content) {
        let _ = write!(text, "'{}'", content.replace('\'', "''"));
    } else {
        text.push_str(content);
    }
}

fn is_printable(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// Some reader takes it for a number, a time, a truth or nothing.
fn is_ambiguous(content: &str) -> bool {
    let bytes = content.as_bytes();
    let unsigned = content.strip_prefix(['+', '-']).unwrap_or(content);
    let number_of_base_60 = unsigned.starts_with(|first: char| first.is_ascii_digit())
        && unsigned.contains(':')
        && unsigned
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'_' | b':' | b'.'));
    let time = bytes.len() > 5 && bytes[..4].iter().all(u8::is_ascii_digit) && bytes[4] == b'-';
    !matches!(Scalar::plain(content), Scalar::Text(_))
        || matches!(content, "<<" | "=")
        || number_of_base_60
        || time
        || unsigned.replace('_', "").parse::<f64>().is_ok()
}

/// It would not be read as one scalar.
fn needs_quotes(content: &str) -> bool {
    let mut chars = content.chars();
    let (first, second) = (chars.next().unwrap_or(' '), chars.next().unwrap_or(' '));
    let indicator = match first {
        '-' | '?' | ':' => second.is_whitespace() || content.starts_with("---"),
        first => first.is_whitespace() || ",[]{}#&*!|>'\"%@`.".contains(first) && !(first == '.' && second != '.'),
    };
    indicator
        || content.ends_with([' ', ':', '\u{a0}'])
        || content.contains(": ")
        || content.contains(" #")
        || content.chars().any(|c| c.is_whitespace() && c != ' ')
}

fn double_quoted(text: &mut String, content: &str) {
    text.push('"');
    for c in content.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            '\r' => text.push_str("\\r"),
            c if is_printable(c) => text.push(c),
            c => {
                let _ = write!(text, "\\u{:04x}", u32::from(c));
            }
        }
    }
    text.push('"');
}
