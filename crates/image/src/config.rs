//! The image config document (OCI image-spec, config.md; docker's is a superset) turned into [`Config`].

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::image::Config;
use crate::manifest::null_is_default;
use crate::{Digest, Error};

/// The parts of a config that are acted on.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ImageConfig {
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) os: String,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) architecture: String,
    pub(crate) created: Option<String>,
    #[serde(deserialize_with = "null_is_default")]
    config: Raw,
    #[serde(deserialize_with = "null_is_default")]
    rootfs: RootFs,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RootFs {
    #[serde(deserialize_with = "null_is_default")]
    diff_ids: Vec<Digest>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Raw {
    entrypoint: Option<Words>,
    cmd: Option<Words>,
    #[serde(deserialize_with = "null_is_default")]
    env: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    user: String,
    #[serde(deserialize_with = "null_is_default")]
    working_dir: String,
    stop_signal: Option<String>,
    volumes: Option<BTreeMap<String, serde::de::IgnoredAny>>,
    exposed_ports: Option<BTreeMap<String, serde::de::IgnoredAny>>,
    labels: Option<BTreeMap<String, Option<String>>>,
}

/// Old builders wrote one string where a list belongs.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Words {
    List(Vec<String>),
    One(String),
}

impl Words {
    fn first(&self) -> Option<&str> {
        match self {
            Words::List(list) => list.first().map(String::as_str),
            Words::One(word) => Some(word),
        }
    }

    fn into_list(words: Option<Words>) -> Vec<String> {
        match words {
            Some(Words::List(list)) => list,
            Some(Words::One(word)) => vec![word],
            None => Vec::new(),
        }
    }
}

impl ImageConfig {
    pub(crate) fn parse(bytes: &[u8], what: &str) -> Result<ImageConfig, Error> {
        serde_json::from_slice(bytes).map_err(|source| Error::Json {
            what: format!("{what}: config"),
            source,
        })
    }

    /// Digests of the uncompressed layers, bottom first.
    pub(crate) fn diff_ids(&self) -> &[Digest] {
        &self.rootfs.diff_ids
    }

    /// The first word of what runs.
    pub(crate) fn program(&self) -> Option<&str> {
        let entrypoint = self.config.entrypoint.as_ref().and_then(Words::first);
        entrypoint.or_else(|| self.config.cmd.as_ref().and_then(Words::first))
    }

    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        self.config.labels.as_ref()?.get(name)?.as_deref()
    }

    /// The normal form for the rest of the program.
    pub(crate) fn into_config(self) -> Config {
        let raw = self.config;
        Config {
            entrypoint: Words::into_list(raw.entrypoint),
            cmd: Words::into_list(raw.cmd),
            env: raw.env,
            user: raw.user,
            working_dir: if raw.working_dir.is_empty() {
                "/".to_owned()
            } else {
                raw.working_dir
            },
            stop_signal: raw.stop_signal.filter(|signal| !signal.is_empty()),
            volumes: raw.volumes.unwrap_or_default().into_keys().collect(),
            exposed_ports: raw.exposed_ports.unwrap_or_default().into_keys().collect(),
            labels: raw
                .labels
                .unwrap_or_default()
                .into_iter()
                .map(|(name, value)| (name, value.unwrap_or_default()))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_absent_and_odd_spellings_are_normalised() {
        let config = ImageConfig::parse(
            br#"{"os":"linux","architecture":"amd64","rootfs":null,"config":{"Entrypoint":null,"Cmd":"sh","Env":null,
                "Volumes":{"/b":{},"/a":{}},"ExposedPorts":null,"Labels":{"x":null},"StopSignal":"","OnBuild":[]}}"#,
            "x",
        )
        .unwrap();
        assert_eq!(config.program(), Some("sh"));
        let config = config.into_config();
        assert_eq!(
            (config.cmd, config.working_dir.as_str(), config.stop_signal),
            (vec!["sh".to_owned()], "/", None)
        );
        assert_eq!(config.volumes, ["/a", "/b"]);
        assert_eq!(ImageConfig::parse(b"{}", "x").unwrap().into_config().working_dir, "/");
    }
}
