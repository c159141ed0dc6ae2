//! What the files of a configMap, secret, downwardAPI or projected volume are. Pure.

use crate::env::{Downward, Objects, field, missing_config_map, missing_secret};
use crate::resources;
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
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        let optional = source.optional == Some(true);
        config_map(
            &mut files,
            &source.name,
            source.items.as_deref(),
            optional,
            mode,
            objects,
        )?;
    } else if let Some(source) = &volume.secret {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        let name = source.secret_name.as_deref().unwrap_or_default();
        secret(
            &mut files,
            name,
            source.items.as_deref(),
            source.optional == Some(true),
            mode,
            objects,
        )?;
    } else if let Some(source) = &volume.downward_api {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        downward_files(&mut files, source.items.as_deref(), mode, downward)?;
    } else if let Some(projected) = &volume.projected {
        let mode = projected.default_mode.unwrap_or(DEFAULT_MODE);
        for source in projected.sources.iter().flatten() {
            if let Some(source) = &source.config_map {
                let optional = source.optional == Some(true);
                config_map(
                    &mut files,
                    &source.name,
                    source.items.as_deref(),
                    optional,
                    mode,
                    objects,
                )?;
            }
            if let Some(source) = &source.secret {
                let optional = source.optional == Some(true);
                secret(
                    &mut files,
                    &source.name,
                    source.items.as_deref(),
                    optional,
                    mode,
                    objects,
                )?;
            }
            if let Some(source) = &source.downward_api {
                downward_files(&mut files, source.items.as_deref(), mode, downward)?;
            }
        }
    } else {
        return Ok(None);
    }
    Ok(Some(files))
}

fn config_map(
    files: &mut Payload,
    name: &str,
    items: Option<&[KeyToPath]>,
    optional: bool,
    mode: i32,
    objects: &Objects,
) -> Result<(), String> {
    match objects.config_maps.get(name) {
        Some(map) => select(files, &config_map_data(map), items, optional, mode, "config"),
        None if optional => Ok(()),
        None => Err(missing_config_map(name)),
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

fn secret(
    files: &mut Payload,
    name: &str,
    items: Option<&[KeyToPath]>,
    optional: bool,
    mode: i32,
    objects: &Objects,
) -> Result<(), String> {
    match objects.secrets.get(name) {
        Some(secret) => select(files, &secret_data(secret), items, optional, mode, "secret"),
        None if optional => Ok(()),
        None => Err(missing_secret(name)),
    }
}

fn secret_data(secret: &Secret) -> BTreeMap<&str, &[u8]> {
    secret
        .data
        .iter()
        .flatten()
        .map(|(key, value)| (key.as_str(), value.0.as_slice()))
        .collect()
}

fn select(
    files: &mut Payload,
    data: &BTreeMap<&str, &[u8]>,
    items: Option<&[KeyToPath]>,
    optional: bool,
    mode: i32,
    kind: &str,
) -> Result<(), String> {
    match items.filter(|items| !items.is_empty()) {
        None => {
            for (key, bytes) in data {
                add(files, key, bytes, mode)?;
            }
        }
        Some(items) => {
            for item in items {
                match data.get(item.key.as_str()) {
                    Some(bytes) => add(files, &item.path, bytes, item.mode.unwrap_or(mode))?,
                    None if optional => {}
                    None => return Err(format!("references non-existent {kind} key: {}", item.key)),
                }
            }
        }
    }
    Ok(())
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
