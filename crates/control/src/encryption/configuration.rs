//! Rules from an `EncryptionConfiguration` (apiserver.config.k8s.io/v1), for those who keep their keys elsewhere.
//! <https://kubernetes.io/docs/tasks/administer-cluster/encrypt-data/>

use super::Error;
use super::envelope::Key;
use super::rules::{Provider, Rule, Rules, prefix};
use crate::files::reading;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::path::Path;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Configuration {
    api_version: String,
    kind: String,
    resources: Vec<Resources>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resources {
    resources: Vec<String>,
    providers: Vec<Named>,
}

/// Exactly one field is set.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    aesgcm: Option<Keys>,
    identity: Option<serde_json::Map<String, serde_json::Value>>,
    aescbc: Option<serde_json::Value>,
    secretbox: Option<serde_json::Value>,
    kms: Option<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    keys: Vec<NamedKey>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedKey {
    name: String,
    secret: String,
}

/// Reads a file.
pub(super) fn read(path: &Path) -> Result<Rules, Error> {
    let text = std::fs::read_to_string(path).map_err(reading(path))?;
    parse(&text).map_err(|reason| Error::Unusable {
        path: path.to_owned(),
        reason,
    })
}

fn parse(text: &str) -> Result<Rules, String> {
    let value = catamaran_api::body::parse(catamaran_api::body::Format::Yaml, text.as_bytes())
        .map_err(|error| error.to_string())?
        .value;
    let configuration: Configuration = serde_json::from_value(value).map_err(|error| error.to_string())?;
    if configuration.api_version != "apiserver.config.k8s.io/v1" || configuration.kind != "EncryptionConfiguration" {
        return Err("it is no EncryptionConfiguration of apiserver.config.k8s.io/v1".to_owned());
    }
    let mut rules = Rules::default();
    for entry in configuration.resources {
        if entry.resources.is_empty() || entry.providers.is_empty() {
            return Err("every entry needs resources and providers".to_owned());
        }
        let providers = entry
            .providers
            .into_iter()
            .map(provider)
            .collect::<Result<Vec<_>, _>>()?;
        rules.0.extend(entry.resources.iter().map(|resource| Rule {
            prefix: prefix(resource),
            providers: providers.clone(),
        }));
    }
    Ok(rules)
}

fn provider(named: Named) -> Result<Provider, String> {
    match named {
        Named {
            aesgcm: Some(keys),
            identity: None,
            aescbc: None,
            secretbox: None,
            kms: None,
        } => keys
            .keys
            .iter()
            .map(key)
            .collect::<Result<Vec<Key>, _>>()
            .and_then(|keys| match keys.is_empty() {
                true => Err("aesgcm needs at least one key".to_owned()),
                false => Ok(Provider::AesGcm(keys)),
            }),
        Named {
            aesgcm: None,
            identity: Some(_),
            aescbc: None,
            secretbox: None,
            kms: None,
        } => Ok(Provider::Identity),
        Named { aescbc: Some(_), .. } => Err(unsupported("aescbc")),
        Named { secretbox: Some(_), .. } => Err(unsupported("secretbox")),
        Named { kms: Some(_), .. } => Err(unsupported("kms")),
        _ => Err("a provider is exactly one of aesgcm and identity".to_owned()),
    }
}

fn unsupported(name: &str) -> String {
    format!("the provider {name} is not supported; use aesgcm with a key of 32 bytes")
}

fn key(named: &NamedKey) -> Result<Key, String> {
    let name = &named.name;
    if name.is_empty() || name.contains(':') {
        return Err(format!(
            "{name:?} can be no name of a key: it must not be empty or contain ':'"
        ));
    }
    let secret = STANDARD
        .decode(&named.secret)
        .map_err(|_| format!("the secret of the key {name:?} is not base64"))?;
    Key::new(name, &secret).ok_or_else(|| {
        format!(
            "the secret of the key {name:?} has {} bytes; it needs 32 or 16",
            secret.len()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(providers: &str, expected: &Expect) {
        let text = format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n\
             - resources: [secrets, '*.apps']\n  providers: {providers}\n"
        );
        let shown = match parse(&text) {
            Err(error) => error,
            Ok(rules) => rules
                .0
                .iter()
                .map(|rule| {
                    let providers = rule.providers.iter().map(|provider| match provider {
                        Provider::AesGcm(keys) => keys
                            .iter()
                            .map(|key| key.name().to_owned())
                            .collect::<Vec<_>>()
                            .join("+"),
                        Provider::Identity => "identity".to_owned(),
                    });
                    format!("{} {}", rule.prefix, providers.collect::<Vec<_>>().join(" "))
                })
                .collect::<Vec<_>>()
                .join("\n"),
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn configurations_are_read() {
        check(
            "[{aesgcm: {keys: [{name: b, secret: MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=}, \
             {name: a, secret: MDEyMzQ1Njc4OTAxMjM0NQ==}]}}, {identity: {}}]",
            &expect![[r#"
                /registry/core/secrets/ b+a identity
                /registry/apps/ b+a identity"#]],
        );
        check(
            "[{aesgcm: {keys: [{name: b, secret: MDEy}]}}]",
            &expect![[r#"the secret of the key "b" has 3 bytes; it needs 32 or 16"#]],
        );
        check(
            "[{kms: {name: x}}]",
            &expect!["the provider kms is not supported; use aesgcm with a key of 32 bytes"],
        );
        check(
            "[{identity: {}, aesgcm: {keys: []}}]",
            &expect!["a provider is exactly one of aesgcm and identity"],
        );
        check("[]", &expect!["every entry needs resources and providers"]);
    }
}
