//! Property names as CEL identifiers
//! (<https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#escaping>).

/// Words CEL's grammar keeps for itself.
const RESERVED: &[&str] = &[
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "null",
    "package",
    "return",
    "true",
    "var",
    "void",
    "while",
];

/// The identifier by which a property is selected; `None` if it cannot be.
pub fn escape(name: &str) -> Option<String> {
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if RESERVED.binary_search(&name).is_ok() {
        return Some(format!("__{name}__"));
    }
    let mut escaped = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("__") {
            escaped.push_str("__underscores__");
            rest = after;
            continue;
        }
        match c {
            '.' => escaped.push_str("__dot__"),
            '-' => escaped.push_str("__dash__"),
            '/' => escaped.push_str("__slash__"),
            c if c.is_ascii_alphanumeric() || c == '_' => escaped.push(c),
            _ => return None,
        }
        rest = &rest[c.len_utf8()..];
    }
    Some(escaped)
}

/// The property an identifier stands for; `None` if the identifier has an escape that does not exist.
pub fn unescape(identifier: &str) -> Option<String> {
    let mut name = String::with_capacity(identifier.len());
    let mut rest = identifier;
    while !rest.is_empty() {
        let escape = rest.strip_prefix("__").and_then(|after| {
            let end = after
                .find('_')
                .filter(|end| *end > 0 && after[*end..].starts_with("__"))?;
            Some((&after[..end], &after[end + 2..]))
        });
        let Some((word, after)) = escape else {
            let c = rest.chars().next()?;
            name.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        match word {
            "underscores" => name.push_str("__"),
            "dot" => name.push('.'),
            "dash" => name.push('-'),
            "slash" => name.push('/'),
            word if RESERVED.binary_search(&word).is_ok() && name.is_empty() && after.is_empty() => name.push_str(word),
            _ => return None,
        }
        rest = after;
    }
    Some(name)
}
