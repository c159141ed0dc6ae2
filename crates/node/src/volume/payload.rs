//! What the files of a configMap, secret, downwardAPI or projected volume are. Pure.

use crate::env::{Downward, Objects, field, missing_config_map, missing_secret};
use crate::resources;
use crate::tokens::Wanted;
use k8s_openapi::api::core::v1::{ConfigMap, DownwardAPIVolumeFile, KeyToPath, Secret, Volume};
use std::collections::BTreeMap;
use std::path::{Component, Path};

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct File {
    pub(super) bytes: Vec<u8>,
    pub(super) mode: u32,
}

/// Relative path → file.
pub(super) type Payload = BTreeMap<String, File>;

const DEFAULT_MODE: i32 = 0o644;

/// The files of `volume`; `None` when it is of another type.
pub(super) fn payload(volume: &Volume, downward: &Downward<'_>, objects: &Objects) -> Result<Option<Payload>, String> {
    let mut files = Payload::new();
    if let Some(source) = &volume.config_map {
        let choice = Choice {
            kind: "config",
            items: source.items.as_deref(),
            optional: source.optional == Some(true),
            mode: source.default_mode.unwrap_or(DEFAULT_MODE),
        };
        choice.add_config_map(&mut files, &source.name, objects)?;
    } else if let Some(source) = &volume.secret {
        let choice = Choice {
            kind: "secret",
            items: source.items.as_deref(),
            optional: source.optional == Some(true),
            mode: source.default_mode.unwrap_or(DEFAULT_MODE),
        };
        choice.add_secret(&mut files, source.secret_name.as_deref().unwrap_or_default(), objects)?;
    } else if let Some(source) = &volume.downward_api {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        downward_files(&mut files, source.items.as_deref(), mode, downward)?;
    } else if let Some(projected) = &volume.projected {
        let mode = projected.default_mode.unwrap_or(DEFAULT_MODE);
        for source in projected.sources.iter().flatten() {
            if let Some(source) = &source.config_map {
                let choice = Choice {
                    kind: "config",
                    items: source.items.as_deref(),
                    optional: source.optional == Some(true),
                    mode,
                };
                choice.add_config_map(&mut files, &source.name, objects)?;
            }
            if let Some(source) = &source.secret {
                let choice = Choice {
                    kind: "secret",
                    items: source.items.as_deref(),
                    optional: source.optional == Some(true),
                    mode,
                };
                choice.add_secret(&mut files, &source.name, objects)?;
            }
            if let Some(source) = &source.downward_api {
                downward_files(&mut files, source.items.as_deref(), mode, downward)?;
            }
            if let Some(source) = &source.service_account_token {
                let token = objects.tokens.get(&Wanted::of(source)).ok_or("failed to fetch token")?;
                add(&mut files, &source.path, token.as_bytes(), token_mode(downward, mode))?;
            }
        }
    } else {
        return Ok(None);
    }
    Ok(Some(files))
}

/// A token is for whoever owns it, where the pod says who that is (its group is given the same below `fsGroup`).
fn token_mode(downward: &Downward<'_>, mode: i32) -> i32 {
    let spec = downward.pod.spec.as_ref();
    let group = spec.and_then(|spec| spec.security_context.as_ref()?.fs_group);
    if group.is_some() { 0o600 } else { mode }
}

/// What of an object a volume shows, and how.
struct Choice<'a> {
    /// As messages call the object's keys.
    kind: &'static str,
    /// All keys where absent or empty.
    items: Option<&'a [KeyToPath]>,
    /// Neither the object nor the chosen keys have to be there.
    optional: bool,
    mode: i32,
}

impl Choice<'_> {
    fn add_config_map(&self, files: &mut Payload, name: &str, objects: &Objects) -> Result<(), String> {
        let data = objects.config_maps.get(name).map(|map| config_map_data(map));
        self.add(files, data, || missing_config_map(name))
    }

    fn add_secret(&self, files: &mut Payload, name: &str, objects: &Objects) -> Result<(), String> {
        let data = objects.secrets.get(name).map(|secret| secret_data(secret));
        self.add(files, data, || missing_secret(name))
    }

    fn add(
        &self,
        files: &mut Payload,
        data: Option<BTreeMap<&str, &[u8]>>,
        missing: impl FnOnce() -> String,
    ) -> Result<(), String> {
        let data = match data {
            Some(data) => data,
            None if self.optional => return Ok(()),
            None => return Err(missing()),
        };
        let Some(items) = self.items.filter(|items| !items.is_empty()) else {
            return data
                .iter()
                .try_for_each(|(key, bytes)| add(files, key, bytes, self.mode));
        };
        for item in items {
            match data.get(item.key.as_str()) {
                Some(bytes) => add(files, &item.path, bytes, item.mode.unwrap_or(self.mode))?,
                None if self.optional => {}
                None => return Err(format!("references non-existent {} key: {}", self.kind, item.key)),
            }
        }
        Ok(())
    }
}

fn config_map_data(map: &ConfigMap) -> BTreeMap<&str, &[u8]> {
    let text = map
        .data
        .iter()
        .flatten()
        .map(|(key, value)| (key.as_str(), value.as_bytes()));
    let binary = map
        .binary_data
        .iter()
        .flatten()
        .map(|(key, value)| (key.as_str(), value.0.as_slice()));
    text.chain(binary).collect()
}

fn secret_data(secret: &Secret) -> BTreeMap<&str, &[u8]> {
    secret
        .data
        .iter()
        .flatten()
        .map(|(key, value)| (key.as_str(), value.0.as_slice()))
        .collect()
}

fn downward_files(
    files: &mut Payload,
    items: Option<&[DownwardAPIVolumeFile]>,
    mode: i32,
    downward: &Downward<'_>,
) -> Result<(), String> {
    for item in items.into_iter().flatten() {
        let text = if let Some(reference) = &item.field_ref {
            field(downward, &reference.field_path)?
        } else if let Some(reference) = &item.resource_field_ref {
            let name = reference.container_name.as_deref().unwrap_or_default();
            let container = crate::find_container(downward.pod, name).ok_or(format!("container {name} not found"))?;
            let requirements = container.resources.as_ref();
            let divisor = reference.divisor.as_ref();
            resources::field_value(requirements, &reference.resource, divisor, downward.allocatable)?
        } else {
            String::new()
        };
        add(files, &item.path, text.as_bytes(), item.mode.unwrap_or(mode))?;
    }
    Ok(())
}

fn add(files: &mut Payload, path: &str, bytes: &[u8], mode: i32) -> Result<(), String> {
    let plain = Path::new(path)
        .components()
        .all(|component| matches!(component, Component::Normal(_)));
    if path.is_empty() || !plain || path.starts_with("..") {
        return Err(format!(
            "invalid path \"{path}\": must be relative and must not contain '..'"
        ));
    }
    let mode = u32::try_from(mode).unwrap_or(0o644) & 0o777;
    files.insert(
        path.to_owned(),
        File {
            bytes: bytes.to_vec(),
            mode,
        },
    );
    Ok(())
}
