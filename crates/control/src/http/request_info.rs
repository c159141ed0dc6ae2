//! What a path means, found out once.

use std::borrow::Cow;

/// A path below `/api/<version>/` or `/apis/<group>/<version>/`. With an empty `plural` it is the version itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestInfo {
    /// `v1`, `apps/v1`, or only `apps` for the group itself.
    pub(crate) api_version: String,
    pub(crate) namespace: Option<String>,
    pub(crate) plural: String,
    /// Empty for a collection.
    pub(crate) name: String,
    pub(crate) subresource: String,
    /// Is there more of the path below the subresource? Only `proxy` has that; it is not part of the name of the permission.
    pub(crate) deeper: bool,
}

/// Paths below a namespace that belong to the namespace object itself, and are no resources in it.
const NAMESPACE_SUBRESOURCES: &[&str] = &["finalize", "status"];

/// Segments that mean something: `apis/<group>/<version>/namespaces/<namespace>/<plural>/<name>/<subresource>`, and one more
/// to tell that there is one.
const LONGEST: usize = 9;

impl RequestInfo {
    /// `None` for paths that are not about resources.
    pub(crate) fn parse(path: &str) -> Option<RequestInfo> {
        let mut raw = path.split('/').filter(|segment| !segment.is_empty()).peekable();
        let mut segments = Vec::with_capacity(LONGEST);
        for segment in raw.by_ref().take(LONGEST) {
            // What is below a proxied object is not ours to read, so it need not be readable.
            match decode(segment) {
                Some(segment) => segments.push(segment),
                None if segments.iter().any(|before| before == "proxy") => segments.push(Cow::Borrowed(segment)),
                None => return None,
            }
        }
        let more = raw.peek().is_some();
        let mut segments: &[Cow<'_, str>] = &segments;
        let mut take = || {
            let (first, rest) = segments.split_first()?;
            segments = rest;
            Some(first.as_ref())
        };
        let api_version = match take()? {
            "api" => take()?.to_owned(),
            "apis" => {
                let group = take()?;
                match take() {
                    Some(version) => format!("{group}/{version}"),
                    None => group.to_owned(),
                }
            }
            _ => return None,
        };
        let mut info = RequestInfo {
            api_version,
            ..RequestInfo::default()
        };
        let rest: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
        match rest.as_slice() {
            [] => {}
            ["namespaces", name, subresource] if NAMESPACE_SUBRESOURCES.contains(subresource) => {
                info.set("namespaces", name, subresource);
            }
            ["namespaces", namespace, plural, rest @ ..] => {
                info.namespace = Some((*namespace).to_owned());
                info.tail(plural, rest);
            }
            [plural, rest @ ..] => info.tail(plural, rest),
        }
        info.deeper |= more;
        Some(info)
    }

    /// What follows the plural: name, subresource, and what is below that.
    fn tail(&mut self, plural: &str, rest: &[&str]) {
        let part = |index: usize| rest.get(index).copied().unwrap_or_default();
        self.set(plural, part(0), part(1));
        self.deeper = rest.len() > 2;
    }

    fn set(&mut self, plural: &str, name: &str, subresource: &str) {
        self.plural = plural.to_owned();
        self.name = name.to_owned();
        self.subresource = subresource.to_owned();
    }
}

/// Undoes percent-encoding. `None` if the result is no text or would be more than one segment.
pub(super) fn decode(segment: &str) -> Option<Cow<'_, str>> {
    if !segment.contains('%') {
        return Some(Cow::Borrowed(segment));
    }
    let bytes = segment.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        if bytes[index] == b'%' {
            let digits = segment.get(index + 1..index + 3)?;
            decoded.push(u8::from_str_radix(digits, 16).ok()?);
            index += 3;
        } else {
            decoded.push(bytes[index]);
            index += 1;
        }
    }
    let text = String::from_utf8(decoded).ok()?;
    (!text.contains('/')).then_some(Cow::Owned(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, expected: Option<(&str, Option<&str>, &str, &str, &str)>) {
        let expected = expected.map(|(api_version, namespace, plural, name, subresource)| RequestInfo {
            api_version: api_version.to_owned(),
            namespace: namespace.map(ToOwned::to_owned),
            plural: plural.to_owned(),
            name: name.to_owned(),
            subresource: subresource.to_owned(),
            deeper: path.contains("/proxy/"),
        });
        assert_eq!(RequestInfo::parse(path), expected, "{path}");
    }

    #[test]
    fn paths() {
        check("/healthz", None);
        check("/api/v1", Some(("v1", None, "", "", "")));
        check("/apis/apps", Some(("apps", None, "", "", "")));
        check("/apis/apps/v1", Some(("apps/v1", None, "", "", "")));
        check("/api/v1/pods", Some(("v1", None, "pods", "", "")));
        check("/api/v1/namespaces/a", Some(("v1", None, "namespaces", "a", "")));
        check(
            "/api/v1/namespaces/a/status",
            Some(("v1", None, "namespaces", "a", "status")),
        );
        check("/api/v1/namespaces/a/pods/b", Some(("v1", Some("a"), "pods", "b", "")));
        check(
            "/api/v1/namespaces/a/pods/b/log",
            Some(("v1", Some("a"), "pods", "b", "log")),
        );
        check(
            "/apis/apps/v1/namespaces/a/deployments/",
            Some(("apps/v1", Some("a"), "deployments", "", "")),
        );
        check("/api/v1/nodes/n1/status", Some(("v1", None, "nodes", "n1", "status")));
        check("/api/v1/nodes/a%20b", Some(("v1", None, "nodes", "a b", "")));
        check("/api/v1/nodes/a%2fb", None);
        let proxied = Some(("v1", Some("a"), "services", "https:b:c", "proxy"));
        check("/api/v1/namespaces/a/services/https:b:c/proxy/d/e/f%2fg/h", proxied);
        check("/api/v1/namespaces/a/services/https:b:c/proxy/f%2fg", proxied);
        check(
            "/api/v1/nodes/n:10250/proxy/pods",
            Some(("v1", None, "nodes", "n:10250", "proxy")),
        );
    }
}
