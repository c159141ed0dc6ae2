//! What changes in a request and its answer because there is something in between: pure.

use http::{HeaderMap, HeaderName, Uri, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};
use serde_json::Value;
use std::borrow::Cow;

/// Headers that are about one connection only.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A backend does not say who may read what this server answers.
const CORS: [&str; 6] = [
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-expose-headers",
    "access-control-max-age",
];

/// A path taken apart: that of the proxy itself, and what is below it, both as they were sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Split<'a> {
    pub(super) prefix: &'a str,
    /// Empty, or from the slash on.
    pub(super) below: &'a str,
}

/// Splits a path behind its `depth`th segment.
pub(super) fn split(path: &str, depth: usize) -> Split<'_> {
    let mut left = depth;
    let mut within = false;
    for (index, byte) in path.bytes().enumerate() {
        if byte != b'/' {
            within = true;
        } else if within {
            within = false;
            left -= 1;
            if left == 0 {
                let (prefix, below) = path.split_at(index);
                return Split { prefix, below };
            }
        }
    }
    Split {
        prefix: path,
        below: "",
    }
}

/// What is below the proxy once admission has seen it: as it was sent, if nobody changed it.
pub(super) fn admitted<'a>(sent: &'a str, options: &Value) -> Cow<'a, str> {
    let path = options["path"].as_str().unwrap_or_default();
    if path == sent {
        return Cow::Borrowed(sent);
    }
    // What the changed path says is not encoded.
    let encoded = percent_encoding::utf8_percent_encode(path.trim_start_matches('/'), IN_PATH);
    Cow::Owned(format!("/{encoded}"))
}

/// What a path has to say in another way: all but letters, digits, and what separates or is harmless.
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b',')
    .remove(b':')
    .remove(b';')
    .remove(b'=')
    .remove(b'@');

/// Headers of a request as they are passed on. Who asks is this server's business.
pub(super) fn request_headers(from: &HeaderMap, upgrades: bool) -> HeaderMap {
    let mut headers = without_hops(from, upgrades);
    headers.remove(header::AUTHORIZATION);
    let own: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("impersonate-"))
        .cloned()
        .collect();
    own.iter().for_each(|name| drop(headers.remove(name)));
    headers
}

pub(super) fn response_headers(from: &HeaderMap, upgrades: bool) -> HeaderMap {
    let mut headers = without_hops(from, upgrades);
    CORS.iter().for_each(|name| drop(headers.remove(*name)));
    headers
}

fn without_hops(from: &HeaderMap, upgrades: bool) -> HeaderMap {
    let named: Vec<String> = from
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(|name| name.trim().to_ascii_lowercase()))
        .collect();
    let mut headers = HeaderMap::with_capacity(from.len());
    for (name, value) in from {
        let kept_for_upgrade = upgrades && (name == header::CONNECTION || name == header::UPGRADE);
        let is_hop = HOP_BY_HOP.contains(&name.as_str()) || named.iter().any(|hop| hop == name.as_str());
        if kept_for_upgrade || !is_hop {
            headers.append(name.clone(), value.clone());
        }
    }
    headers
}

/// Where a redirect of the backend leads when one follows it through the proxy.
pub(super) fn location(target: &str, backend: &str, prefix: &str) -> String {
    let Ok(uri) = target.parse::<Uri>() else {
        return target.to_owned();
    };
    let elsewhere = uri.authority().is_some_and(|authority| authority.as_str() != backend);
    if elsewhere || !uri.path().starts_with('/') || target.is_empty() || target.starts_with('?') {
        return target.to_owned();
    }
    let tail = target
        .find(uri.path())
        .map_or("", |at| &target[at + uri.path().len()..]);
    if uri.path().starts_with(prefix) {
        return format!("{}{tail}", uri.path());
    }
    format!("{prefix}{}{tail}", uri.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admission_may_lead_elsewhere() {
        let admitted = |sent, options| admitted(sent, &options).into_owned();
        assert_eq!(admitted("/a%2fb", serde_json::json!({ "path": "/a%2fb" })), "/a%2fb");
        assert_eq!(admitted("", serde_json::json!({})), "");
        assert_eq!(
            admitted("/a", serde_json::json!({ "path": "/b c/?d/é" })),
            "/b%20c/%3Fd/%C3%A9"
        );
        assert_eq!(admitted("/a", serde_json::json!({ "path": "b" })), "/b");
        assert_eq!(admitted("/a", serde_json::json!({})), "/");
    }

    #[test]
    fn paths_are_split_where_the_proxy_ends() {
        let of = |path| {
            let Split { prefix, below } = split(path, 7);
            (prefix, below)
        };
        assert_eq!(
            of("/api/v1/namespaces/a/pods/b/proxy"),
            ("/api/v1/namespaces/a/pods/b/proxy", "")
        );
        assert_eq!(
            of("/api/v1/namespaces/a/pods/b/proxy/"),
            ("/api/v1/namespaces/a/pods/b/proxy", "/")
        );
        assert_eq!(
            of("/api/v1/namespaces/a/pods/proxy/proxy/x%2fy//z/"),
            ("/api/v1/namespaces/a/pods/proxy/proxy", "/x%2fy//z/")
        );
    }

    #[test]
    fn redirects_stay_within_the_proxy() {
        let of = |target| location(target, "10.0.0.1:80", "/p/proxy");
        assert_eq!(of("/login?next=/"), "/p/proxy/login?next=/");
        assert_eq!(of("http://10.0.0.1:80/a/"), "/p/proxy/a/");
        assert_eq!(of("https://example.com/a"), "https://example.com/a");
        assert_eq!(of("/p/proxy/a"), "/p/proxy/a");
        assert_eq!(of("relative"), "relative");
    }

    #[test]
    fn headers_of_one_connection_stay_there() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, x-mine"),
            ("x-mine", "1"),
            ("authorization", "Bearer t"),
            ("impersonate-user", "u"),
            ("upgrade", "websocket"),
            ("accept", "*/*"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        let passed = request_headers(&headers, false);
        assert_eq!(passed.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept"]);
        let passed = request_headers(&headers, true);
        assert!(passed.contains_key("upgrade") && passed.contains_key("connection"));
    }
}
