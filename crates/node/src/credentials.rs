//! Registry credentials from image pull secrets and a docker configuration file. Pure, but for reading that file.

use base64::Engine;
use catamaran_image::Credential;
use k8s_openapi::api::core::v1::Secret;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    auth: String,
    username: String,
    password: String,
    identitytoken: Option<String>,
}

/// Credentials of a pull secret (`kubernetes.io/dockerconfigjson` or `kubernetes.io/dockercfg`); none when it is neither.
pub(crate) fn from_secret(secret: &Secret) -> Vec<Credential> {
    let data = |key: &str| secret.data.as_ref().and_then(|data| data.get(key));
    if let Some(bytes) = data(".dockerconfigjson") {
        return from_docker_config(&bytes.0);
    }
    let Some(bytes) = data(".dockercfg") else {
        return Vec::new();
    };
    serde_json::from_slice(&bytes.0)
        .map(|auths| credentials(DockerConfig { auths }))
        .unwrap_or_default()
}

/// Credentials of a docker `config.json`; none when it cannot be read.
pub(crate) fn from_docker_config(bytes: &[u8]) -> Vec<Credential> {
    serde_json::from_slice(bytes).map(credentials).unwrap_or_default()
}

fn credentials(config: DockerConfig) -> Vec<Credential> {
    config
        .auths
        .into_iter()
        .filter_map(|(registry, auth)| credential(&registry, auth))
        .collect()
}

fn credential(registry: &str, auth: Auth) -> Option<Credential> {
    let (username, password) = match auth.auth.trim() {
        "" => (auth.username, auth.password),
        encoded => {
            let engine = base64::engine::general_purpose::STANDARD;
            let decoded = String::from_utf8(engine.decode(encoded).ok()?).ok()?;
            let (username, password) = decoded.split_once(':')?;
            (username.to_owned(), password.trim_end_matches('\0').to_owned())
        }
    };
    Some(Credential {
        registry: normalized(registry),
        username,
        password,
        identity_token: auth.identitytoken,
    })
}

/// `https://index.docker.io/v1/` is what docker writes for `docker.io`.
fn normalized(registry: &str) -> String {
    let host = registry
        .trim_start_matches("https://")
        .trim_start_matches("http://")
        .trim_end_matches('/');
    let host = host.trim_end_matches("/v1").trim_end_matches("/v2");
    match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        host => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_docker_writes() {
        let config = br#"{"auths": {"https://index.docker.io/v1/": {"auth": "dXNlcjpwYTpzcw=="},
            "127.0.0.1:5000": {"username": "a", "password": "b"}, "broken": {"auth": "!!"}}}"#;
        let found = from_docker_config(config);
        let shown: Vec<_> = found
            .iter()
            .map(|c| (c.registry.as_str(), c.username.as_str(), c.password.as_str()))
            .collect();
        assert_eq!(shown, [("127.0.0.1:5000", "a", "b"), ("docker.io", "user", "pa:ss")]);
        assert!(from_docker_config(b"not json").is_empty());
    }
}
