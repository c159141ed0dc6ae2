//! Where a bearer token may be in a request: the `Authorization` header, or, as browsers cannot set headers of websockets,
//! one of the protocols they offer.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, header};

/// What such a protocol starts with; the token follows in base64url without padding.
const PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

/// Takes the token out of the headers. Other schemes than `Bearer` are nobody's here, and left alone.
pub(super) fn take(headers: &mut HeaderMap) -> Option<String> {
    if let Some(token) = headers.get(header::AUTHORIZATION).and_then(bearer) {
        let token = token.to_owned();
        headers.remove(header::AUTHORIZATION);
        return Some(token);
    }
    take_protocol(headers)
}

/// Removes what [`take`] would have taken.
pub(super) fn forget(headers: &mut HeaderMap) {
    take(headers);
}

fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, rest) = value.to_str().ok()?.trim().split_once(' ')?;
    let token = rest.trim_start().split(' ').next().unwrap_or_default();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// The other protocols the client offers stay.
fn take_protocol(headers: &mut HeaderMap) -> Option<String> {
    let mut token = None;
    let mut left = Vec::new();
    for value in headers.get_all(header::SEC_WEBSOCKET_PROTOCOL) {
        for protocol in value.to_str().ok()?.split(',').map(str::trim) {
            match protocol.strip_prefix(PROTOCOL) {
                Some(encoded) if token.is_none() => {
                    token = Some(String::from_utf8(URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()?);
                }
                _ => left.push(protocol.to_owned()),
            }
        }
    }
    // A lone token protocol is none the server could agree to.
    let token = token.filter(|token| !token.is_empty() && !left.is_empty())?;
    headers.insert(
        header::SEC_WEBSOCKET_PROTOCOL,
        HeaderValue::from_str(&left.join(", ")).ok()?,
    );
    Some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: header::HeaderName, value: &str, expected: Option<&str>, left: Option<&str>) {
        let mut headers = HeaderMap::new();
        headers.insert(name.clone(), HeaderValue::from_str(value).unwrap());
        assert_eq!(take(&mut headers).as_deref(), expected, "{value}");
        assert_eq!(headers.get(name).map(|value| value.to_str().unwrap()), left, "{value}");
    }

    #[test]
    fn tokens_are_taken_out() {
        let authorization = || header::AUTHORIZATION;
        check(authorization(), "Bearer a.b.c", Some("a.b.c"), None);
        check(authorization(), "bearer   a.b.c", Some("a.b.c"), None);
        check(authorization(), "Basic Zm9v", None, Some("Basic Zm9v"));
        check(authorization(), "Bearer ", None, Some("Bearer "));
        let protocol = || header::SEC_WEBSOCKET_PROTOCOL;
        let offered = "v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.dG9rZW4, v4.channel.k8s.io";
        check(
            protocol(),
            offered,
            Some("token"),
            Some("v5.channel.k8s.io, v4.channel.k8s.io"),
        );
        let alone = "base64url.bearer.authorization.k8s.io.dG9rZW4";
        check(protocol(), alone, None, Some(alone));
    }
}
