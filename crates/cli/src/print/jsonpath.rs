//! kubectl's JSONPath templates: text with `{…}` in it.
//!
//! Inside braces stand a path (`.items[*].metadata.name`), a quoted text, or `range PATH` … `end`. Paths are translated
//! to RFC 9535 and evaluated by `serde_json_path`; kubectl's own dialect differs in the missing `$`, in `\.` for a dot
//! within a name, and in how several results are joined (by a blank).
//! Defined by <https://kubernetes.io/docs/reference/kubectl/jsonpath/>.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use serde_json_path::JsonPath;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Path(Path),
    Range(Path, Vec<Piece>),
}

#[derive(Clone, Debug)]
struct Path {
    source: String,
    compiled: JsonPath,
}

impl PartialEq for Path {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Path {}

impl Path {
    fn parse(source: &str) -> Result<Self> {
        let standard = to_rfc9535(source)?;
        let compiled =
            JsonPath::parse(&standard).with_context(|| format!("the JSONPath {{{source}}} cannot be read"))?;
        Ok(Self {
            source: source.to_owned(),
            compiled,
        })
    }
}

impl Template {
    /// Reads a template; a bare path without braces is one too.
    ///
    /// # Errors
    /// Unbalanced braces or quotes, an unclosed `range`, or a path that cannot be read.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let text = text
            .strip_prefix('\'')
            .and_then(|text| text.strip_suffix('\''))
            .unwrap_or(text);
        if !text.contains('{') {
            return Ok(Self(vec![Piece::Path(Path::parse(text)?)]));
        }
        let mut open: Vec<(Path, Vec<Piece>)> = Vec::new();
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find('{') {
            if start > 0 {
                pieces.push(Piece::Text(rest[..start].to_owned()));
            }
            let end =
                closing_brace(&rest[start..]).with_context(|| format!("unclosed '{{' in the template {text:?}"))?;
            let action = rest[start + 1..start + end].trim();
            rest = &rest[start + end + 1..];
            if let Some(path) = action.strip_prefix("range ") {
                open.push((Path::parse(path.trim())?, std::mem::take(&mut pieces)));
            } else if action == "end" {
                let (path, before) = open.pop().context("{end} without {range} in the template")?;
                let body = std::mem::replace(&mut pieces, before);
                pieces.push(Piece::Range(path, body));
            } else if let Some(quoted) = quoted(action) {
                pieces.push(Piece::Text(unescape(quoted)));
            } else {
                pieces.push(Piece::Path(Path::parse(action)?));
            }
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        if !open.is_empty() {
            bail!("{{range}} without {{end}} in the template {text:?}");
        }
        Ok(Self(pieces))
    }

    /// The text for one object. What is not there is empty, as with kubectl's default.
    pub(crate) fn render(&self, object: &Value) -> String {
        let mut text = String::new();
        render(&self.0, object, &mut text);
        text
    }

    /// What the template's only path finds (for `wait --for=jsonpath=…`, columns and sorting).
    pub(crate) fn values<'a>(&self, object: &'a Value) -> Vec<&'a Value> {
        self.0
            .iter()
            .flat_map(|piece| match piece {
                Piece::Path(path) => path.compiled.query(object).all(),
                _ => Vec::new(),
            })
            .collect()
    }
}

fn render(pieces: &[Piece], object: &Value, text: &mut String) {
    for piece in pieces {
        match piece {
            Piece::Text(literal) => text.push_str(literal),
            Piece::Path(path) => {
                let found: Vec<String> = path.compiled.query(object).all().into_iter().map(show).collect();
                text.push_str(&found.join(" "));
            }
            Piece::Range(path, body) => {
                for item in path.compiled.query(object).all() {
                    render(body, item, text);
                }
            }
        }
    }
}

pub(super) fn show(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// Where the brace that opens `text` closes, quotes respected.
fn closing_brace(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, character) in text.char_indices() {
        match (quote, character) {
            _ if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), _) if character == open => quote = None,
            (None, '"' | '\'') => quote = Some(character),
            (None, '}') => return Some(at),
            _ => {}
        }
    }
    None
}

fn quoted(action: &str) -> Option<&str> {
    ['"', '\'']
        .iter()
        .find_map(|quote| action.strip_prefix(*quote)?.strip_suffix(*quote))
}

fn unescape(text: &str) -> String {
    let mut plain = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (character, character == '\\') {
            (_, true) => match characters.next() {
                Some('n') => plain.push('\n'),
                Some('t') => plain.push('\t'),
                Some('r') => plain.push('\r'),
                Some(other) => plain.push(other),
                None => plain.push('\\'),
            },
            (other, false) => plain.push(other),
        }
    }
    plain
}

/// `.a.b\.c[*]` → `$['a']['b.c'][*]`. Brackets pass as they are, but for `(@.length-1)`, which is `-1` today.
fn to_rfc9535(source: &str) -> Result<String> {
    let mut rest = source.trim();
    rest = rest
        .strip_prefix('$')
        .or_else(|| rest.strip_prefix('@'))
        .unwrap_or(rest);
    let mut path = String::from("$");
    while let Some(first) = rest.chars().next() {
        match first {
            '.' if rest.starts_with("..") => {
                path.push_str("..");
                rest = &rest[2..];
                if !rest.starts_with('[') {
                    let (name, after) = take_name(rest);
                    path.push_str(&if name == "*" {
                        name
                    } else {
                        format!("['{}']", escape(&name))
                    });
                    rest = after;
                }
            }
            '.' => {
                let (name, after) = take_name(&rest[1..]);
                match name.as_str() {
                    "" => {}
                    "*" => path.push_str("[*]"),
                    _ => path.push_str(&format!("['{}']", escape(&name))),
                }
                rest = after;
            }
            '[' => {
                let end = closing_bracket(rest).with_context(|| format!("unclosed '[' in the JSONPath {source:?}"))?;
                path.push_str(&rest[..=end].replace("(@.length-1)", "-1"));
                rest = &rest[end + 1..];
            }
            _ => {
                let (name, after) = take_name(rest);
                if name.is_empty() || after.len() == rest.len() {
                    bail!("the JSONPath {source:?} cannot be read at {rest:?}");
                }
                path.push_str(&format!("['{}']", escape(&name)));
                rest = after;
            }
        }
    }
    Ok(path)
}

fn take_name(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => name.extend(characters.next().map(|(_, escaped)| escaped)),
            '.' | '[' => return (name, &text[at..]),
            _ => name.push(character),
        }
    }
    (name, "")
}

fn escape(name: &str) -> String {
    name.replace('\\', "\\\\").replace('\'', "\\'")
}

fn closing_bracket(text: &str) -> Option<usize> {
    let mut depth = 0;
    let mut quote = None;
    for (at, character) in text.char_indices() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(character),
            (None, '[') => depth += 1,
            (None, ']') => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn templates_render_as_in_kubectl() {
        let list = json!({"items": [
            {"metadata": {"name": "a", "labels": {"app.kubernetes.io/name": "x"}}, "status": {"n": 1, "ok": true}},
            {"metadata": {"name": "b"}, "status": {"n": 2, "ips": [{"ip": "1"}, {"ip": "2"}]}},
        ]});
        for (template, expected) in [
            ("{.items[*].metadata.name}", "a b"),
            (".items[0].metadata.name", "a"),
            (
                "{range .items[*]}{.metadata.name}={.status.n}{\"\\n\"}{end}",
                "a=1\nb=2\n",
            ),
            ("names: {.items[*]['metadata.name','status.n']}!", "names: !"),
            ("{.items[0].metadata.labels.app\\.kubernetes\\.io/name}", "x"),
            ("{.items[?(@.metadata.name==\"b\")].status.n}", "2"),
            ("{.items[-1].status.ips[*].ip}", "1 2"),
            ("{..ip}", "1 2"),
            ("{.items[0].status.ok} {.nothing}", "true "),
            (
                "{$.items[1].status}",
                "{\"ips\":[{\"ip\":\"1\"},{\"ip\":\"2\"}],\"n\":2}",
            ),
            ("{range .items[*]}{range .status.ips[*]}<{.ip}>{end}{end}", "<1><2>"),
        ] {
            let rendered = Template::parse(template).expect(template).render(&list);
            assert_eq!(rendered, expected, "{template}");
        }
    }

    #[test]
    fn broken_templates_say_what_is_broken() {
        for (template, complaint) in [
            ("{.a", "unclosed '{'"),
            ("{range .a}", "without {end}"),
            ("{end}", "without {range}"),
            ("{.a[}", "unclosed '['"),
        ] {
            let error = Template::parse(template).expect_err(template);
            assert!(format!("{error:#}").contains(complaint), "{template}: {error:#}");
        }
    }
}
