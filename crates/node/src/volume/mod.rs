//! Volumes: one small file per kind of work, one match arm per volume type.
//!
//! A volume is a directory (or, for `hostPath`, whatever lies there) that containers get by bind mount. Nothing is
//! mounted on the host except tmpfs for `emptyDir.medium: Memory` and the pinned targets of `subPath`; both lie below
//! the pod's directory, where [`unmount_below`] finds them whatever happened before.

mod atomic;
mod empty_dir;
mod host_path;
mod ownership;
mod payload;
mod subpath;

pub(crate) use subpath::pin;

use crate::env::{Downward, Objects, References};
use crate::layout::Layout;
use k8s_openapi::api::core::v1::{Pod, Volume};
use std::io;
use std::path::{Path, PathBuf};

/// A volume that cannot be set up: the text of a `FailedMount` event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume \"{volume}\" : {message}")]
pub(crate) struct Error {
    pub volume: String,
    pub message: String,
}

/// ConfigMaps and Secrets the pod's volumes show.
pub(crate) fn references(pod: &Pod) -> References {
    let mut found = References::default();
    for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        found
            .config_maps
            .extend(volume.config_map.iter().map(|source| source.name.clone()));
        found
            .secrets
            .extend(volume.secret.iter().filter_map(|source| source.secret_name.clone()));
        for source in volume
            .projected
            .iter()
            .flat_map(|projected| projected.sources.iter().flatten())
        {
            found
                .config_maps
                .extend(source.config_map.iter().map(|source| source.name.clone()));
            found
                .secrets
                .extend(source.secret.iter().map(|source| source.name.clone()));
        }
    }
    found
}

/// Makes every volume of the pod, or brings those that show objects up to date. Idempotent. Blocking.
///
/// # Errors
/// The first volume that cannot be made.
pub(crate) fn set_up(layout: &Layout, uid: &str, downward: &Downward<'_>, objects: &Objects) -> Result<(), Error> {
    let spec = downward.pod.spec.as_ref();
    let fs_group = spec
        .and_then(|spec| spec.security_context.as_ref())
        .and_then(|security| security.fs_group);
    for volume in spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        let fail = |message: String| Error {
            volume: volume.name.clone(),
            message,
        };
        let directory = layout.volume(uid, &volume.name);
        set_up_one(volume, &directory, fs_group, downward, objects).map_err(fail)?;
    }
    Ok(())
}

fn set_up_one(
    volume: &Volume,
    directory: &Path,
    fs_group: Option<i64>,
    downward: &Downward<'_>,
    objects: &Objects,
) -> Result<(), String> {
    if let Some(source) = &volume.host_path {
        return host_path::check(source);
    }
    let say = |what: &str, error: &io::Error| format!("{what} {}: {error}", directory.display());
    if let Some(source) = &volume.empty_dir {
        empty_dir::create(source, directory)?;
    } else if let Some(payload) = payload::payload(volume, downward, objects)? {
        atomic::write(directory, &payload).map_err(|error| say("cannot write", &error))?;
    }
    match fs_group.and_then(|gid| u32::try_from(gid).ok()) {
        Some(gid) => {
            let security = downward
                .pod
                .spec
                .as_ref()
                .and_then(|spec| spec.security_context.as_ref());
            let policy = security.and_then(|security| security.fs_group_change_policy.as_deref());
            ownership::give(directory, gid, policy == Some("OnRootMismatch"))
                .map_err(|e| say("cannot set fsGroup on", &e))
        }
        None => Ok(()),
    }
}

/// Where the content of a volume lies on the host.
pub(crate) fn source(layout: &Layout, uid: &str, volume: &Volume) -> PathBuf {
    match &volume.host_path {
        Some(source) => PathBuf::from(&source.path),
        None => layout.volume(uid, &volume.name),
    }
}

/// Whether content comes from an object and containers must not write it.
pub(crate) fn is_read_only(volume: &Volume) -> bool {
    volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.downward_api.is_some()
        || volume.projected.is_some()
}

/// Takes off whatever an agent that was killed left mounted for the pods of a data directory. Blocking. Only for when no
/// agent and no pod uses it any more.
pub fn remove_mounts(data_dir: &Path) {
    unmount_below(&data_dir.join("agent/pods"));
}

/// Unmounts everything below `directory`, deepest first. Blocking.
pub(crate) fn unmount_below(directory: &Path) {
    let Ok(table) = std::fs::read_to_string("/proc/self/mountinfo") else {
        return;
    };
    let mut targets: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|target| PathBuf::from(unescape(target)))
        .filter(|target| target.starts_with(directory))
        .collect();
    targets.sort();
    for target in targets.iter().rev() {
        if let Err(error) = rustix::mount::unmount(target, rustix::mount::UnmountFlags::DETACH) {
            tracing::warn!(target = %target.display(), %error, "cannot unmount");
        }
    }
}

/// Undoes the octal escapes of mountinfo.
fn unescape(text: &str) -> String {
    ["\\040", "\\011", "\\012", "\\134"]
        .iter()
        .zip([" ", "\t", "\n", "\\"])
        .fold(text.to_owned(), |text, (code, plain)| text.replace(code, plain))
}
