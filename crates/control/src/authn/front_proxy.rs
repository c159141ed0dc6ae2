//! Whoever stands in front of the server and has asked for credentials already (an aggregating API server, say) states the
//! user in headers, and proves that it may by a certificate of a CA that signs for nothing else.
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/configure-aggregation-layer/>

use super::Identity;
use super::impersonation::{decode_key, text_of};
use catamaran_api::Status;
use http::{HeaderMap, HeaderName};

/// The common name of the certificate a front proxy shows.
pub(crate) const CLIENT: &str = "front-proxy-client";
pub(crate) const USER: &str = "x-remote-user";
pub(crate) const UID: &str = "x-remote-uid";
pub(crate) const GROUP: &str = "x-remote-group";
pub(crate) const EXTRA: &str = "x-remote-extra-";

/// Takes the identity out of the headers; `None` if they state none. One that cannot be read whole is nobody's.
pub(super) fn identity(headers: &mut HeaderMap) -> Result<Option<Identity>, Status> {
    let mut values = headers.iter().filter(|(name, _)| is_stated(name));
    if values.any(|(_, value)| text_of(value).is_none()) {
        return Err(Status::unauthorized("Unauthorized"));
    }
    let Some(user) = headers.get(USER).and_then(text_of).filter(|user| !user.is_empty()) else {
        return Ok(None);
    };
    let mut identity = Identity {
        user,
        uid: headers.get(UID).and_then(text_of).unwrap_or_default(),
        groups: headers.get_all(GROUP).iter().filter_map(text_of).collect(),
        ..Identity::default()
    };
    for (name, value) in headers.iter() {
        if let Some(key) = name.as_str().strip_prefix(EXTRA)
            && let Some(value) = text_of(value)
        {
            identity.extra.entry(decode_key(key)).or_default().push(value);
        }
    }
    let stated: Vec<HeaderName> = headers.keys().filter(|name| is_stated(name)).cloned().collect();
    for name in stated {
        headers.remove(name);
    }
    Ok(Some(identity.with_authenticated()))
}

fn is_stated(name: &HeaderName) -> bool {
    matches!(name.as_str(), USER | UID | GROUP) || name.as_str().starts_with(EXTRA)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_name_the_user_and_are_taken_out() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-remote-user", "jane"),
            ("x-remote-uid", "42"),
            ("x-remote-group", "devs"),
            ("x-remote-group", "ops"),
            ("x-remote-extra-acme.com%2fscope", "read"),
            ("accept", "*/*"),
        ] {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                http::HeaderValue::from_static(value),
            );
        }
        let identity = identity(&mut headers).unwrap().unwrap();
        assert_eq!((identity.user.as_str(), identity.uid.as_str()), ("jane", "42"));
        assert_eq!(identity.groups, ["devs", "ops", "system:authenticated"]);
        assert_eq!(identity.extra["acme.com/scope"], ["read"]);
        assert_eq!(headers.len(), 1);
    }

    #[test]
    fn what_cannot_be_read_is_nobody() {
        let mut headers = HeaderMap::new();
        headers.insert("x-remote-user", http::HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(identity(&mut headers).unwrap_err().code(), 401);
    }
}
