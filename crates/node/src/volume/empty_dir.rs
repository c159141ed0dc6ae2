//! `emptyDir`: a directory of the pod, or a tmpfs.

use crate::resources;
use k8s_openapi::api::core::v1::EmptyDirVolumeSource;
use rustix::mount::{MountFlags, mount};
use std::ffi::CString;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

pub(super) fn create(source: &EmptyDirVolumeSource, directory: &Path) -> Result<(), String> {
    let say = |error: std::io::Error| format!("cannot create {}: {error}", directory.display());
    fs::create_dir_all(directory).map_err(say)?;
    match source.medium.as_deref().unwrap_or_default() {
        "" => {}
        "Memory" if !is_mount_point(directory) => {
            let size = source
                .size_limit
                .as_ref()
                .and_then(resources::units)
                .filter(|bytes| *bytes > 0);
            let options = size.map_or_else(String::new, |bytes| format!("size={bytes}"));
            let options = CString::new(options).map_err(|error| error.to_string())?;
            let flags = MountFlags::NOSUID | MountFlags::NODEV;
            mount("tmpfs", directory, "tmpfs", flags, options.as_c_str())
                .map_err(|error| format!("cannot mount tmpfs at {}: {error}", directory.display()))?;
        }
        "Memory" => return Ok(()),
        other => {
            return Err(format!(
                "emptyDir.medium \"{other}\" is not supported by this node agent"
            ));
        }
    }
    fs::set_permissions(directory, fs::Permissions::from_mode(0o777)).map_err(say)
}

fn is_mount_point(directory: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev());
    match (device(directory), directory.parent().map(device)) {
        (Ok(own), Some(Ok(parent))) => own != parent,
        _ => false,
    }
}
