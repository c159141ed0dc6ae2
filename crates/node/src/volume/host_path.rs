//! `hostPath`: what has to lie there, made if the type says so.

use k8s_openapi::api::core::v1::HostPathVolumeSource;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

pub(super) fn check(source: &HostPathVolumeSource) -> Result<(), String> {
    let path = Path::new(&source.path);
    if !path.is_absolute() || path.components().any(|component| component.as_os_str() == "..") {
        return Err(format!(
            "hostPath \"{}\" must be absolute and must not contain '..'",
            source.path
        ));
    }
    let kind = source.type_.as_deref().unwrap_or_default();
    let found = fs::metadata(path).ok().map(|metadata| metadata.file_type());
    let refuse = |what: &str| Err(format!("hostPath type check failed: {} is not {what}", source.path));
    let say = |error: std::io::Error| format!("cannot create {}: {error}", source.path);
    match (kind, found) {
        ("", Some(_)) => Ok(()),
        // Without a type Docker and Kubernetes make a directory, as root.
        ("" | "DirectoryOrCreate", None) => fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(path)
            .map_err(say),
        ("FileOrCreate", None) => fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .open(path)
            .map(drop)
            .map_err(say),
        ("Directory" | "DirectoryOrCreate", found) if found.is_none_or(|kind| !kind.is_dir()) => refuse("a directory"),
        ("File" | "FileOrCreate", found) if found.is_none_or(|kind| !kind.is_file()) => refuse("a file"),
        ("Socket", found) if found.is_none_or(|kind| !kind.is_socket()) => refuse("a socket file"),
        ("CharDevice", found) if found.is_none_or(|kind| !kind.is_char_device()) => refuse("a character device"),
        ("BlockDevice", found) if found.is_none_or(|kind| !kind.is_block_device()) => refuse("a block device"),
        ("Directory" | "DirectoryOrCreate" | "File" | "FileOrCreate" | "Socket" | "CharDevice" | "BlockDevice", _) => {
            Ok(())
        }
        (other, _) => Err(format!("hostPath type \"{other}\" is not known")),
    }
}
