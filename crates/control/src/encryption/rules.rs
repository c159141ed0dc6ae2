//! Which values are sealed, and with what. Pure.

use super::envelope::{self, Key, SEALED};
use crate::registry::resource::ROOT;
use bytes::Bytes;
use ring::rand::SystemRandom;

/// How values are written, or may have been.
#[derive(Clone)]
pub(super) enum Provider {
    /// Sealed; the first key seals, all of them open.
    AesGcm(Vec<Key>),
    /// As they are.
    Identity,
}

/// The providers of all keys below a prefix; the first writes, all of them read.
#[derive(Clone)]
pub(super) struct Rule {
    pub(super) prefix: String,
    pub(super) providers: Vec<Provider>,
}

/// The first rule whose prefix a key has decides. Keys without a rule are neither sealed nor opened.
#[derive(Clone, Default)]
pub(super) struct Rules(pub(super) Vec<Rule>);

/// An opened value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Opened {
    pub(super) value: Bytes,
    /// It would be written differently today.
    pub(super) stale: bool,
}

/// Why a value cannot be sealed or opened.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum Failure {
    #[error("it is encrypted, but no encryption is configured for it")]
    Unconfigured,
    #[error("it was encrypted with the key {name:?}, which is not among the configured ones")]
    NoKey { name: String },
    #[error("it does not fit the key {name:?} it names: the key is another one, or the value was changed")]
    WrongKey { name: String },
    #[error("it was encrypted in a way this server does not know")]
    Foreign,
    #[error("it is not encrypted, but only encrypted values are configured for it")]
    Plain,
    #[error("the operating system has no random numbers")]
    Random,
}

impl Rules {
    /// Seals the objects of these resources with the first key; reads what any of the keys sealed, and plaintext.
    pub(super) fn sealing(resources: &[&str], keys: &[Key]) -> Rules {
        let rule = |resource: &&str| Rule {
            prefix: prefix(resource),
            providers: vec![Provider::AesGcm(keys.to_vec()), Provider::Identity],
        };
        Rules(resources.iter().map(rule).collect())
    }

    /// The prefixes of everything that may be sealed.
    pub(super) fn prefixes(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|rule| rule.prefix.as_str())
    }

    fn of(&self, place: &str) -> Option<&Rule> {
        self.0.iter().find(|rule| place.starts_with(&rule.prefix))
    }

    pub(super) fn seal(&self, random: &SystemRandom, place: &str, value: Bytes) -> Result<Bytes, Failure> {
        match self.of(place).and_then(|rule| rule.providers.first()) {
            Some(Provider::AesGcm(keys)) => match keys.first() {
                Some(key) => key.seal(random, place, &value).ok_or(Failure::Random),
                None => Ok(value),
            },
            Some(Provider::Identity) | None => Ok(value),
        }
    }

    pub(super) fn open(&self, place: &str, value: Bytes) -> Result<Opened, Failure> {
        let rule = self.of(place);
        if !value.starts_with(SEALED) {
            let Some(rule) = rule else {
                return Ok(Opened { value, stale: false });
            };
            let at = rule
                .providers
                .iter()
                .position(|provider| matches!(provider, Provider::Identity));
            return match at {
                Some(at) => Ok(Opened { value, stale: at > 0 }),
                None => Err(Failure::Plain),
            };
        }
        let rule = rule.ok_or(Failure::Unconfigured)?;
        let parsed = envelope::parse(&value).ok_or(Failure::Foreign)?;
        let mut failure = Failure::NoKey {
            name: parsed.key_name.to_owned(),
        };
        for (index, provider) in rule.providers.iter().enumerate() {
            let Provider::AesGcm(keys) = provider else { continue };
            for (number, key) in keys.iter().enumerate() {
                if key.name() != parsed.key_name {
                    continue;
                }
                match key.open(place, &parsed) {
                    Some(value) => {
                        let stale = index > 0 || number > 0;
                        return Ok(Opened { value, stale });
                    }
                    None => {
                        failure = Failure::WrongKey {
                            name: parsed.key_name.to_owned(),
                        }
                    }
                }
            }
        }
        Err(failure)
    }
}

/// The prefix of the keys of `secrets`, `deployments.apps`, `*.apps`, `*.` (the core group) or `*.*`.
pub(super) fn prefix(resource: &str) -> String {
    let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
    let group = if group.is_empty() { "core" } else { group };
    match (plural, group) {
        ("*", "*") => ROOT.to_owned(),
        ("*", group) => format!("{ROOT}{group}/"),
        (plural, group) => format!("{ROOT}{group}/{plural}/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "/registry/core/secrets/default/a";

    fn key(name: &str, byte: u8) -> Key {
        Key::new(name, &[byte; 32]).unwrap()
    }

    fn seal(rules: &Rules, place: &str) -> Bytes {
        rules
            .seal(&SystemRandom::new(), place, Bytes::from_static(b"{}"))
            .unwrap()
    }

    #[test]
    fn only_configured_resources_are_sealed() {
        let rules = Rules::sealing(&["secrets"], &[key("a", 1)]);
        assert!(seal(&rules, SECRET).starts_with(b"k8s:enc:aesgcm:v1:a:"));
        assert_eq!(seal(&rules, "/registry/core/configmaps/default/a"), b"{}"[..]);
        assert_eq!(seal(&rules, "/registry/core/secretsfoo/default/a"), b"{}"[..]);
    }

    #[test]
    fn older_keys_and_plaintext_are_read_and_known_to_be_stale() {
        let old = Rules::sealing(&["secrets"], &[key("a", 1)]);
        let new = Rules::sealing(&["secrets"], &[key("b", 2), key("a", 1)]);
        let open = |value: Bytes| new.open(SECRET, value).map(|opened| opened.stale);
        assert_eq!(open(seal(&new, SECRET)), Ok(false));
        assert_eq!(open(seal(&old, SECRET)), Ok(true));
        assert_eq!(open(Bytes::from_static(b"{}")), Ok(true));
        assert_eq!(
            old.open(SECRET, seal(&new, SECRET)),
            Err(Failure::NoKey { name: "b".into() })
        );
        let wrong = Rules::sealing(&["secrets"], &[key("b", 9)]);
        assert_eq!(
            wrong.open(SECRET, seal(&new, SECRET)),
            Err(Failure::WrongKey { name: "b".into() })
        );
        assert_eq!(
            Rules::default().open(SECRET, seal(&new, SECRET)),
            Err(Failure::Unconfigured)
        );
    }

    #[test]
    fn the_first_rule_decides() {
        let mut rules = Rules(vec![Rule {
            prefix: prefix("*.*"),
            providers: vec![Provider::AesGcm(vec![key("all", 1)])],
        }]);
        rules.0.insert(
            0,
            Rule {
                prefix: prefix("events"),
                providers: vec![Provider::Identity],
            },
        );
        assert!(seal(&rules, "/registry/apps/deployments/default/a").starts_with(b"k8s:enc:aesgcm:v1:all:"));
        let event = "/registry/core/events/default/a";
        assert_eq!(seal(&rules, event), b"{}"[..]);
        assert_eq!(
            rules.open("/registry/apps/deployments/default/a", Bytes::from_static(b"{}")),
            Err(Failure::Plain)
        );
    }

    #[test]
    fn resources_are_named_as_kubernetes_names_them() {
        assert_eq!(prefix("secrets"), "/registry/core/secrets/");
        assert_eq!(prefix("deployments.apps"), "/registry/apps/deployments/");
        assert_eq!(
            prefix("pandas.awesome.bears.example"),
            "/registry/awesome.bears.example/pandas/"
        );
        assert_eq!(prefix("*."), "/registry/core/");
        assert_eq!(prefix("*.apps"), "/registry/apps/");
        assert_eq!(prefix("*.*"), "/registry/");
    }
}
