//! URLs, taken apart as Go's `net/url` takes them apart.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Answer, Function, text};
use crate::value::{Key, Map, Opaque, Str};
use crate::{Budget, EvalError, Value};

/// An absolute URL or path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    scheme: String,
    host: String,
    path: String,
    query: String,
    whole: String,
}

pub(super) fn function(name: &str) -> Option<Function> {
    Some(match name {
        "url" => |args, _| Ok(Value::opaque(Opaque::Url(parse(text(args, 0)?)?))),
        "isURL" => |args, _| Ok(Value::Bool(parse(text(args, 0)?).is_ok())),
        "getScheme" => |args, _| part(args, |url| url.scheme.clone()),
        "getHost" => |args, _| part(args, |url| url.host.clone()),
        "getHostname" => |args, _| part(args, |url| host_and_port(&url.host).0.to_owned()),
        "getPort" => |args, _| part(args, |url| host_and_port(&url.host).1.to_owned()),
        "getEscapedPath" => |args, _| part(args, |url| escape_path(&url.path)),
        "getQuery" => query,
        _ => return None,
    })
}

fn of<'v>(value: &'v Value<'_>) -> Result<&'v Url, EvalError> {
    match value {
        Value::Opaque(value) => match &**value {
            Opaque::Url(url) => Ok(url),
            _ => Err(EvalError::NoSuchOverload),
        },
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn part<'a>(args: &[Value<'a>], get: fn(&Url) -> String) -> Answer<'a> {
    Ok(Value::string(get(of(&args[0])?)))
}

/// What Go's `ParseRequestURI` accepts: an absolute URI, or an absolute path.
pub(crate) fn parse(text: &str) -> Result<Url, EvalError> {
    let refuse = |reason: &str| {
        EvalError::new(format!(
            "URL parse error during conversion from string: parse {}: {reason}",
            catamaran_api::field::quote(text)
        ))
    };
    if text.is_empty() {
        return Err(refuse("empty url"));
    }
    if text.chars().any(|c| c.is_ascii_control()) {
        return Err(refuse("net/url: invalid control character in URL"));
    }
    let (before_fragment, _) = text.split_once('#').unwrap_or((text, ""));
    let (scheme, rest) = split_scheme(before_fragment).map_err(&refuse)?;
    if scheme.is_empty() && !rest.starts_with('/') {
        return Err(refuse("invalid URI for request"));
    }
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let has_authority = rest.starts_with("//") && (!scheme.is_empty() || !rest.starts_with("///"));
    let (host, path) = match rest.strip_prefix("//").filter(|_| has_authority) {
        Some(authority) => authority.find('/').map_or((authority, ""), |at| authority.split_at(at)),
        None => ("", rest),
    };
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    check_host(host).map_err(|reason| refuse(&reason))?;
    check_escapes(path).map_err(|reason| refuse(&reason))?;
    if !scheme.is_empty() && host.is_empty() && !path.starts_with('/') && path.is_empty() {
        return Err(refuse("invalid URI for request"));
    }
    Ok(Url {
        scheme: scheme.to_ascii_lowercase(),
        host: host.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        whole: text.to_owned(),
    })
}

fn split_scheme(text: &str) -> Result<(&str, &str), &'static str> {
    for (at, c) in text.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if at > 0 => {}
            ':' if at > 0 => return Ok((&text[..at], &text[at + 1..])),
            ':' => return Err("missing protocol scheme"),
            _ => break,
        }
    }
    Ok(("", text))
}

fn check_host(host: &str) -> Result<(), String> {
    let after = if host.starts_with('[') {
        let end = host.find(']').ok_or("missing ']' in host")?;
        &host[end + 1..]
    } else {
        if let Some(bad) = host.chars().find(|c| " <>\"\\^`{|}".contains(*c)) {
            return Err(format!(
                "invalid character {} in host name",
                catamaran_api::field::quote(&bad.to_string())
            ));
        }
        host.rfind(':').map_or("", |at| &host[at..])
    };
    let port = after.strip_prefix(':').unwrap_or(after);
    if !port.bytes().all(|b| b.is_ascii_digit()) || (!after.is_empty() && !after.starts_with(':')) {
        return Err(format!(
            "invalid port {} after host",
            catamaran_api::field::quote(after)
        ));
    }
    Ok(())
}

fn check_escapes(path: &str) -> Result<(), String> {
    let bytes = path.as_bytes();
    for (at, _) in path.match_indices('%') {
        let digits = bytes.get(at + 1..at + 3);
        if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            let shown: String = path[at..].chars().take(3).collect();
            return Err(format!("invalid URL escape {}", catamaran_api::field::quote(&shown)));
        }
    }
    Ok(())
}

fn host_and_port(host: &str) -> (&str, &str) {
    if let Some(rest) = host.strip_prefix('[') {
        let (name, after) = rest.split_once(']').unwrap_or((rest, ""));
        return (name, after.strip_prefix(':').unwrap_or(""));
    }
    host.rsplit_once(':').unwrap_or((host, ""))
}

/// Escapes what may not stand in a path and is not escaped yet.
fn escape_path(path: &str) -> String {
    let mut escaped = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => escaped.push(char::from(byte)),
            b'-' | b'_' | b'.' | b'~' | b'$' | b'&' | b'+' | b',' | b'/' | b':' | b';' | b'=' | b'@' | b'%' | b'!'
            | b'\'' | b'(' | b')' | b'*' | b'[' | b']' => escaped.push(char::from(byte)),
            other => {
                use std::fmt::Write as _;
                let _ = write!(escaped, "%{other:02X}");
            }
        }
    }
    escaped
}

/// `%41+b` → `A b`.
fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (escape, bytes[at]) {
            (Some(byte), _) => {
                plain.push(byte);
                at += 3;
                continue;
            }
            (None, b'+') => plain.push(b' '),
            (None, byte) => plain.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&plain).into_owned()
}

fn query<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    let mut values: BTreeMap<String, Vec<Value<'a>>> = BTreeMap::new();
    for pair in of(&args[0])?
        .query
        .split('&')
        .filter(|pair| !pair.is_empty() && !pair.contains(';'))
    {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        values
            .entry(unescape(name))
            .or_default()
            .push(Value::string(unescape(value)));
    }
    let entries = values
        .into_iter()
        .map(|(name, values)| (Key::String(Str::Shared(name.into())), Value::list(values)));
    Ok(Value::Map(Map::Made(Arc::new(entries.collect()))))
}
