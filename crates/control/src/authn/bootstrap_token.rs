//! Bootstrap tokens: what a node shows before it has a certificate. Each is a Secret of kube-system.
//! <https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/>

use super::Identity;
use crate::registry::{Registry, tree};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use catamaran_api::names::dns1123_label;
use jiff::Timestamp;
use serde_json::Value;

const NAMESPACE: &str = "kube-system";
const TYPE: &str = "bootstrap.kubernetes.io/token";
const NAME_PREFIX: &str = "bootstrap-token-";
const GROUP: &str = "system:bootstrappers";

/// Id and secret of a token of this form.
pub(super) fn split(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let plain = |text: &str, length: usize| {
        text.len() == length
            && text
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    (plain(id, 6) && plain(secret, 16)).then_some((id, secret))
}

pub(super) fn prove(registry: &Registry, id: &str, secret: &str) -> Result<Identity, String> {
    let name = format!("{NAME_PREFIX}{id}");
    let record = registry
        .peek("v1", "secrets", Some(NAMESPACE), &name)
        .ok_or("invalid bearer token")?;
    let object = tree(&record).map_err(|_| "the secret cannot be read")?;
    judge(&object, id, secret, Timestamp::now())
}

/// Does the Secret say that this token holds now? Pure.
fn judge(object: &Value, id: &str, secret: &str, now: Timestamp) -> Result<Identity, String> {
    let data = |key: &str| -> String {
        let encoded = object["data"][key].as_str().unwrap_or_default();
        STANDARD
            .decode(encoded)
            .ok()
            // What is no text is not nothing: it is compared and refused.
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    };
    let refuse = |why: &str| Err(why.to_owned());
    if object["type"] != TYPE {
        return refuse("the secret is of another type");
    }
    if object["metadata"]["deletionTimestamp"].is_string() {
        return refuse("the secret is being deleted");
    }
    if !same(data("token-secret").as_bytes(), secret.as_bytes()) {
        return refuse("the secret does not match");
    }
    if data("token-id") != id {
        return refuse("the id does not match");
    }
    let expiration = data("expiration");
    if !expiration.is_empty() && expiration.parse::<Timestamp>().map_or(true, |until| until <= now) {
        return refuse("the token has expired");
    }
    if data("usage-bootstrap-authentication") != "true" {
        return refuse("the token is not for authentication");
    }
    let mut groups = vec![GROUP.to_owned()];
    let extra = data("auth-extra-groups");
    for group in extra.split(',').filter(|group| !group.is_empty()) {
        if !is_bootstrap_group(group) {
            return refuse("the token names groups it may not");
        }
        groups.push(group.to_owned());
    }
    groups.sort();
    groups.dedup();
    Ok(Identity {
        user: format!("system:bootstrap:{id}"),
        groups,
        ..Identity::default()
    }
    .with_authenticated())
}

/// `system:bootstrappers:` and one or more labels.
fn is_bootstrap_group(group: &str) -> bool {
    group
        .strip_prefix("system:bootstrappers:")
        .is_some_and(|rest| rest.split(':').all(|label| dns1123_label(label).is_empty()))
}

/// Compares without telling by the time it takes where the difference is.
pub(super) fn same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(changes: &[(&str, &str)]) -> Value {
        let mut data = json!({});
        let defaults = [
            ("token-id", "abcdef"),
            ("token-secret", "0123456789abcdef"),
            ("usage-bootstrap-authentication", "true"),
            ("auth-extra-groups", "system:bootstrappers:workers"),
            ("expiration", "2030-01-01T00:00:00Z"),
        ];
        for (key, value) in defaults.iter().chain(changes) {
            data[*key] = json!(STANDARD.encode(value));
        }
        json!({ "type": TYPE, "metadata": {}, "data": data })
    }

    fn check(changes: &[(&str, &str)]) -> Result<Identity, String> {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        judge(&object(changes), "abcdef", "0123456789abcdef", now)
    }

    #[test]
    fn a_token_holds_while_its_secret_says_so() {
        let identity = check(&[]).unwrap();
        assert_eq!(identity.user, "system:bootstrap:abcdef");
        let groups = [
            "system:bootstrappers",
            "system:bootstrappers:workers",
            "system:authenticated",
        ];
        assert_eq!(identity.groups, groups);
        for change in [
            ("token-secret", "0123456789abcdeg"),
            ("token-id", "abcdeg"),
            ("expiration", "2025-01-01T00:00:00Z"),
            ("expiration", "soon"),
            ("usage-bootstrap-authentication", "false"),
            ("auth-extra-groups", "system:masters"),
        ] {
            assert!(check(&[change]).is_err(), "{change:?}");
        }
    }

    #[test]
    fn an_expiration_that_nobody_can_read_is_over() {
        let mut object = object(&[]);
        object["data"]["expiration"] = json!(STANDARD.encode([0xff]));
        let judged = judge(&object, "abcdef", "0123456789abcdef", Timestamp::UNIX_EPOCH);
        assert_eq!(judged, Err("the token has expired".to_owned()));
    }

    #[test]
    fn forms() {
        assert_eq!(split("abcdef.0123456789abcdef"), Some(("abcdef", "0123456789abcdef")));
        for other in [
            "abcdef",
            "abcde.0123456789abcdef",
            "ABCDEF.0123456789abcdef",
            "abcdef.0123456789abcdef0",
        ] {
            assert_eq!(split(other), None);
        }
    }
}
