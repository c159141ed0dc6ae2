//! Acting as somebody else: the headers name whom, and whoever asks must be allowed every single part of it.
//! <https://kubernetes.io/docs/reference/access-authn-authz/authentication/#user-impersonation>

use super::{ANONYMOUS, AUTHENTICATED, Identity, UNAUTHENTICATED, service_account_groups, split_service_account};
use crate::authz::{Attempt, AttemptedResource, Authorizer, Verdict, forbidden};
use catamaran_api::Status;
use http::{HeaderMap, HeaderName, HeaderValue};

const PREFIX: &str = "impersonate-";
const USER: &str = "impersonate-user";
const UID: &str = "impersonate-uid";
const GROUP: &str = "impersonate-group";
const EXTRA: &str = "impersonate-extra-";
const AUTHENTICATION: &str = "authentication.k8s.io";

/// Why somebody is not who they asked to be.
#[derive(Clone, Debug)]
pub(crate) enum Refused {
    /// Groups or the like without a user; the text names them. Kubernetes calls this an error of its own (500).
    Incomplete(String),
    Forbidden(Status),
    /// A value that cannot be read. To drop it would be to let the request run as whoever sent it.
    Unreadable(Status),
}

/// What the headers ask for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    user: String,
    uid: String,
    groups: Vec<String>,
    extra: Vec<(String, String)>,
}

/// Who the request is to be treated as, if its headers name somebody else. Takes those headers out.
pub(crate) fn impersonate(
    authorizer: &dyn Authorizer,
    identity: &Identity,
    headers: &mut HeaderMap,
) -> Result<Option<Identity>, Refused> {
    let asks = |name: &HeaderName| name.as_str().starts_with(PREFIX);
    if !headers.keys().any(asks) {
        return Ok(None);
    }
    let wanted = Wanted::read(headers)?;
    if wanted == Wanted::default() {
        return Ok(None);
    }
    if wanted.user.is_empty() {
        return Err(Refused::Incomplete(format!(
            "requested {} without impersonating a user",
            wanted.describe()
        )));
    }
    wanted.check(authorizer, identity)?;
    let names: Vec<HeaderName> = headers.keys().filter(|name| asks(name)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
    Ok(Some(wanted.identity()))
}

impl Wanted {
    fn read(headers: &HeaderMap) -> Result<Self, Refused> {
        let mut wanted = Wanted::default();
        let (mut user, mut uid) = (None, None);
        for (name, value) in headers.iter().filter(|(name, _)| name.as_str().starts_with(PREFIX)) {
            let text = text_of(value).ok_or_else(|| {
                let why = format!("the value of the header {name} is not valid UTF-8");
                Refused::Unreadable(Status::bad_request(why))
            })?;
            match name.as_str() {
                USER => drop(user.get_or_insert(text)),
                UID => drop(uid.get_or_insert(text)),
                GROUP => wanted.groups.push(text),
                other => {
                    if let Some(key) = other.strip_prefix(EXTRA) {
                        wanted.extra.push((decode_key(key), text));
                    }
                }
            }
        }
        wanted.user = user.unwrap_or_default();
        wanted.uid = uid.unwrap_or_default();
        Ok(wanted)
    }

    /// The parts, as a list of references in Go's notation.
    fn describe(&self) -> String {
        let mut parts = Vec::new();
        parts.extend(self.groups.iter().map(|group| format!("{{Group    {group}   }}")));
        parts.extend(
            self.extra
                .iter()
                .map(|(key, value)| format!("{{UserExtra  {value} authentication.k8s.io/v1  {key} }}")),
        );
        if !self.uid.is_empty() {
            parts.push(format!("{{UID  {} authentication.k8s.io/v1   }}", self.uid));
        }
        format!("[{}]", parts.join(" "))
    }

    fn check(&self, authorizer: &dyn Authorizer, identity: &Identity) -> Result<(), Refused> {
        let user = match split_service_account(&self.user) {
            Some((namespace, name)) => part("", "serviceaccounts", "", namespace, name),
            None => part("", "users", "", "", &self.user),
        };
        let groups = self.groups.iter().map(|group| part("", "groups", "", "", group));
        let extra = self
            .extra
            .iter()
            .map(|(key, value)| part(AUTHENTICATION, "userextras", key, "", value));
        let uid = (!self.uid.is_empty()).then(|| part(AUTHENTICATION, "uids", "", "", &self.uid));
        for resource in std::iter::once(user).chain(groups).chain(extra).chain(uid) {
            let attempt = Attempt {
                verb: "impersonate",
                resource: Some(resource),
                ..Attempt::new(identity)
            };
            if let Verdict::Denied { reason } = authorizer.decide(&attempt) {
                return Err(Refused::Forbidden(forbidden(&attempt, &reason)));
            }
        }
        Ok(())
    }

    fn identity(self) -> Identity {
        let mut identity = Identity {
            user: self.user,
            uid: self.uid,
            groups: self.groups,
            ..Identity::default()
        };
        if let Some((namespace, _)) = split_service_account(&identity.user)
            && identity.groups.is_empty()
        {
            identity.groups = service_account_groups(namespace);
        }
        for (key, value) in self.extra {
            identity.extra.entry(key).or_default().push(value);
        }
        if identity.user == ANONYMOUS {
            if !identity.is_in(UNAUTHENTICATED) {
                identity.groups.push(UNAUTHENTICATED.to_owned());
            }
        } else if !identity.is_in(AUTHENTICATED) && !identity.is_in(UNAUTHENTICATED) {
            identity.groups.push(AUTHENTICATED.to_owned());
        }
        identity
    }
}

fn part<'a>(
    group: &'a str,
    plural: &'a str,
    subresource: &'a str,
    namespace: &'a str,
    name: &'a str,
) -> AttemptedResource<'a> {
    let version = if group.is_empty() { "" } else { "v1" };
    AttemptedResource {
        group,
        version,
        plural,
        subresource,
        namespace,
        name,
        ..AttemptedResource::default()
    }
}

/// The value of a header that says who somebody is: names may have any letters.
pub(super) fn text_of(value: &HeaderValue) -> Option<String> {
    std::str::from_utf8(value.as_bytes()).ok().map(ToOwned::to_owned)
}

/// The key of an extra header: lower case, percent-encoded where a header's name could not carry it.
pub(super) fn decode_key(key: &str) -> String {
    let decoded = percent_encoding::percent_decode_str(key).decode_utf8();
    decoded.map_or_else(|_| key.to_owned(), |key| key.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::AllowAll;

    #[track_caller]
    fn check(headers: &[(&'static str, &'static str)], user: &str, groups: &[&str]) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), http::HeaderValue::from_static(value));
        }
        let identity = impersonate(&AllowAll, &Identity::system(), &mut map).unwrap().unwrap();
        assert_eq!(identity.user, user);
        assert_eq!(identity.groups, groups);
        assert!(map.is_empty());
    }

    #[test]
    fn groups_of_the_impersonated() {
        check(&[(USER, "bob")], "bob", &["system:authenticated"]);
        check(
            &[(USER, "bob"), (GROUP, "a"), (GROUP, "b")],
            "bob",
            &["a", "b", "system:authenticated"],
        );
        check(
            &[(USER, "bob"), (GROUP, "system:unauthenticated")],
            "bob",
            &["system:unauthenticated"],
        );
        check(
            &[(USER, "system:anonymous")],
            "system:anonymous",
            &["system:unauthenticated"],
        );
        let account = "system:serviceaccount:ns:sa";
        let groups = [
            "system:serviceaccounts",
            "system:serviceaccounts:ns",
            "system:authenticated",
        ];
        check(&[(USER, account)], account, &groups);
    }

    #[test]
    fn letters_beyond_ascii_name_somebody_and_other_bytes_nobody() {
        for (name, value, user) in [
            (USER, "jos\u{e9}".as_bytes(), Some("jos\u{e9}")),
            (USER, b"\xff".as_slice(), None),
            (GROUP, b"\xff".as_slice(), None),
            ("impersonate-extra-scope", b"\xff".as_slice(), None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, http::HeaderValue::from_bytes(value).unwrap());
            match (impersonate(&AllowAll, &Identity::system(), &mut headers), user) {
                (Ok(Some(identity)), Some(user)) => assert_eq!(identity.user, user),
                (Err(Refused::Unreadable(status)), None) => assert_eq!(status.code(), 400),
                (other, _) => panic!("{name}: {other:?}"),
            }
        }
    }

    #[test]
    fn nobody_is_only_a_group() {
        let mut headers = HeaderMap::new();
        headers.insert(GROUP, http::HeaderValue::from_static("a"));
        let refused = impersonate(&AllowAll, &Identity::system(), &mut headers);
        assert!(matches!(refused, Err(Refused::Incomplete(_))));
    }
}
