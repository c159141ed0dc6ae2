//! Who we are at which registry.
//!
//! Two sources write the same thing differently: a docker `config.json` and image pull secrets. Which of them applies to
//! an image follows the kubelet's keyring: globs per host label, path prefixes, the most specific entry first.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use serde::Deserialize;

use crate::reference::DEFAULT_REGISTRY;
use crate::{Error, Reference};

/// What a registry may be shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credential {
    /// Pattern as in docker's `auths`: `[scheme://]host[:port][/path]`, host labels may be globs.
    pub registry: String,
    /// Empty, with no identity token: `password` names a credential helper, an external program that we do not run, but
    /// say so when it is missed.
    pub username: String,
    pub password: String,
    /// An OAuth2 refresh token that takes the place of name and password.
    pub identity_token: Option<String>,
}

/// Secrets stay out of logs.
impl fmt::Debug for Credential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Credential");
        shown
            .field("registry", &self.registry)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DockerConfig {
    auths: Option<BTreeMap<String, Auth>>,
    cred_helpers: Option<BTreeMap<String, String>>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
}

impl Credential {
    /// Parses a docker `config.json`, which is also the content of a `kubernetes.io/dockerconfigjson` secret, or the older
    /// `dockercfg` form, which is its `auths` alone. `what` names the source in errors.
    pub fn parse_docker_config(bytes: &[u8], what: &str) -> Result<Vec<Credential>, Error> {
        let json = |source| Error::Json {
            what: what.to_owned(),
            source,
        };
        let config: DockerConfig = match serde_json::from_slice::<serde_json::Value>(bytes).map_err(json)? {
            value
                if ["auths", "credHelpers", "credsStore"]
                    .iter()
                    .any(|key| value.get(key).is_some()) =>
            {
                serde_json::from_value(value).map_err(json)?
            }
            value => DockerConfig {
                auths: Some(serde_json::from_value(value).map_err(json)?),
                cred_helpers: None,
                creds_store: None,
            },
        };
        let mut credentials = Vec::new();
        for (registry, auth) in config.auths.unwrap_or_default() {
            let helper = config.creds_store.as_ref();
            credentials.extend(auth.into_credential(&registry, helper, what)?);
        }
        for (registry, helper) in config.cred_helpers.unwrap_or_default() {
            credentials.push(Credential {
                registry,
                password: helper,
                ..Credential::default()
            });
        }
        Ok(credentials)
    }

    pub(crate) fn helper(&self) -> Option<&str> {
        (self.username.is_empty() && self.identity_token.is_none()).then_some(self.password.as_str())
    }

    /// The credentials that apply to an image, the most specific first.
    pub fn matching<'a>(credentials: &'a [Credential], reference: &Reference) -> Vec<&'a Credential> {
        Credential::for_name(credentials, reference.registry(), reference.repository())
    }

    pub(crate) fn for_name<'a>(credentials: &'a [Credential], registry: &str, repository: &str) -> Vec<&'a Credential> {
        // Docker's own registry is known by three names.
        let hosts = if registry == DEFAULT_REGISTRY {
            vec![registry, "index.docker.io", "registry-1.docker.io"]
        } else {
            vec![registry]
        };
        let matches = |pattern: &str| hosts.iter().any(|host| pattern_matches(pattern, host, repository));
        let mut found: Vec<(String, &Credential)> = credentials
            .iter()
            .map(|credential| (normalise(&credential.registry), credential))
            .filter(|(pattern, _)| matches(pattern))
            .collect();
        found.sort_by(|(a, _), (b, _)| b.cmp(a));
        found.into_iter().map(|(_, credential)| credential).collect()
    }
}

impl Auth {
    fn into_credential(self, registry: &str, helper: Option<&String>, what: &str) -> Result<Option<Credential>, Error> {
        let mut credential = Credential {
            registry: registry.to_owned(),
            username: self.username,
            password: self.password,
            identity_token: (!self.identitytoken.is_empty()).then_some(self.identitytoken),
        };
        if !self.auth.is_empty() {
            let malformed = || Error::invalid(what, format!("auths[{registry:?}].auth is not base64 of user:password"));
            let decoded = base64::engine::general_purpose::STANDARD
                .decode(self.auth.trim())
                .map_err(|_| malformed())?;
            let decoded = String::from_utf8(decoded).map_err(|_| malformed())?;
            let (username, password) = decoded.split_once(':').ok_or_else(malformed)?;
            credential.username = username.to_owned();
            // Some tools pad the password with NULs.
            credential.password = password.trim_end_matches('\0').to_owned();
        }
        let empty = credential.username.is_empty() && credential.password.is_empty();
        if empty && credential.identity_token.is_none() {
            let Some(helper) = helper else { return Ok(None) };
            credential.password.clone_from(helper);
        }
        Ok(Some(credential))
    }
}

/// Drops scheme and API version: `https://index.docker.io/v1/` is `index.docker.io`.
fn normalise(pattern: &str) -> String {
    let pattern = pattern
        .strip_prefix("https://")
        .or_else(|| pattern.strip_prefix("http://"))
        .unwrap_or(pattern);
    let (host, path) = pattern.split_once('/').unwrap_or((pattern, ""));
    let path = match path.split_once('/').unwrap_or((path, "")) {
        ("v1" | "v2", rest) => rest,
        _ => path,
    };
    if path.is_empty() {
        host.to_owned()
    } else {
        format!("{host}/{path}")
    }
}

fn pattern_matches(pattern: &str, registry: &str, repository: &str) -> bool {
    let (host, path) = pattern.split_once('/').unwrap_or((pattern, ""));
    let (host, port) = split_port(host);
    let (wanted, wanted_port) = split_port(registry);
    let labels: Vec<&str> = host.split('.').collect();
    let wanted: Vec<&str> = wanted.split('.').collect();
    port == wanted_port
        && labels.len() == wanted.len()
        && labels
            .iter()
            .zip(wanted)
            .all(|(glob, label)| glob_matches(glob.as_bytes(), label.as_bytes()))
        && repository.starts_with(path)
}

fn split_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, Some(port)),
        _ => (host, None),
    }
}

/// `*` and `?`; classes are not worth a host name. Both sides come from users, so only the last `*` is ever tried again:
/// what the ones before it took makes no difference to what is left.
fn glob_matches(glob: &[u8], text: &[u8]) -> bool {
    let (mut at, mut read) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while read < text.len() {
        match glob.get(at) {
            Some(b'*') => {
                star = Some((at, read));
                at += 1;
            }
            Some(wanted) if *wanted == b'?' || wanted.eq_ignore_ascii_case(&text[read]) => {
                at += 1;
                read += 1;
            }
            _ => {
                let Some((behind, taken)) = star else { return false };
                star = Some((behind, taken + 1));
                (at, read) = (behind + 1, taken + 1);
            }
        }
    }
    glob[at..].iter().all(|rest| *rest == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(config: &str, reference: &str) -> Vec<String> {
        let credentials = Credential::parse_docker_config(config.as_bytes(), "test").unwrap();
        let reference = Reference::parse(reference).unwrap();
        Credential::matching(&credentials, &reference)
            .iter()
            .map(|found| found.username.clone())
            .collect()
    }

    #[test]
    fn the_most_specific_entry_comes_first() {
        let config = r#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "aHViOnB3"},
            "*.example.com": {"username": "glob", "password": "p"},
            "r.example.com": {"username": "host", "password": "p"},
            "r.example.com/team": {"username": "team", "password": "p"},
            "r.example.com:5000": {"username": "port", "password": "p"},
            "empty.example.org": {}
        }}"#;
        assert_eq!(users(config, "nginx"), ["hub"]);
        assert_eq!(users(config, "r.example.com/team/app"), ["team", "host", "glob"]);
        assert_eq!(users(config, "r.example.com/other"), ["host", "glob"]);
        assert_eq!(users(config, "x.example.com/other"), ["glob"]);
        assert_eq!(users(config, "r.example.com:5000/x"), ["port"]);
        assert_eq!(
            users(config, "a.b.example.com/x"),
            Vec::<String>::new(),
            "a glob is one label"
        );
        assert_eq!(users(config, "empty.example.org/x"), Vec::<String>::new());
    }

    #[test]
    fn globs_match_and_take_no_time() {
        let matches = |glob: &str, text: &str| glob_matches(glob.as_bytes(), text.as_bytes());
        for (glob, text) in [
            ("*", ""),
            ("a*c", "abcbc"),
            ("?b*", "Ab"),
            ("*b*", "abc"),
            ("", ""),
            ("**", "x"),
            ("A", "a"),
        ] {
            assert!(matches(glob, text), "{glob} {text}");
        }
        for (glob, text) in [
            ("", "a"),
            ("?", ""),
            ("a*c", "ab"),
            ("*b", "bc"),
            ("a?", "a"),
            ("*bb", "b"),
        ] {
            assert!(!matches(glob, text), "{glob} {text}");
        }
        assert!(!matches(&"*a".repeat(30), &("a".repeat(200) + "b")));
    }

    #[test]
    fn older_form_tokens_and_helpers() {
        assert_eq!(
            users(r#"{"r.io": {"username": "old", "password": "p"}}"#, "r.io/a"),
            ["old"]
        );
        let parse = |text: &str| Credential::parse_docker_config(text.as_bytes(), "test");
        let token = parse(r#"{"auths": {"r.io": {"identitytoken": "t"}}}"#).unwrap();
        assert_eq!(token[0].identity_token.as_deref(), Some("t"));
        let helper = parse(r#"{"credHelpers": {"r.io": "gcloud"}}"#).unwrap();
        assert_eq!(helper[0].helper(), Some("gcloud"));
        assert!(parse(r#"{"auths": {"r.io": {"auth": "%%%"}}}"#).is_err());
        assert!(parse("[]").is_err());
        assert!(
            !format!(
                "{:?}",
                parse(r#"{"auths": {"r.io": {"auth": "YTpzZWNyZXQ="}}}"#).unwrap()
            )
            .contains("secret")
        );
    }
}
