//! Where the content of a volume comes from, in pods and in persistent volumes. Most sources are for others to understand: what
//! is asked of them is that certain fields are there, which is a table; they are looked at as JSON, since the two kinds
//! have types of their own for the same fields.

use crate::core::pods::paths;
use crate::defaulting;
use crate::rules;
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::core::v1::AzureDiskVolumeSource;
use serde_json::{Map, Value};

/// Fields that must be there and not be empty.
const REQUIRED: &[(&str, &[&str])] = &[
    ("gcePersistentDisk", &["pdName"]),
    ("awsElasticBlockStore", &["volumeID"]),
    ("nfs", &["server", "path"]),
    ("glusterfs", &["endpoints", "path"]),
    ("rbd", &["monitors", "image"]),
    ("cinder", &["volumeID"]),
    ("cephfs", &["monitors"]),
    ("flexVolume", &["driver"]),
    ("azureFile", &["secretName", "shareName"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("vsphereVolume", &["volumePath"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
    ("storageos", &["volumeName"]),
    ("local", &["path"]),
    ("gitRepo", &["repository"]),
    ("iscsi", &["targetPortal", "iqn"]),
];

/// The one source that has the same type in pods and persistent volumes.
pub(super) fn default_azure_disk(source: &mut AzureDiskVolumeSource) {
    defaulting::text(&mut source.caching_mode, "ReadWrite");
    defaulting::text(&mut source.kind, "Shared");
    defaulting::text(&mut source.fs_type, "ext4");
    source.read_only.get_or_insert(false);
}

/// One source and no more. `volume` is the name of the persistent volume; `None` in a pod.
pub(crate) fn validate(sources: &Map<String, Value>, volume: Option<&str>, path: &Path<'_>, errors: &mut Errors) {
    if sources.is_empty() {
        errors.required(path, "must specify a volume type");
    }
    for (index, (kind, source)) in sources.iter().enumerate() {
        // The one source whose errors go by another name.
        let at = path.child(if kind == "gcePersistentDisk" {
            "persistentDisk"
        } else {
            kind
        });
        if index > 0 {
            errors.forbidden(&at, "may not specify more than 1 volume type");
        } else {
            self::source(kind, source, volume, &at, errors);
        }
    }
}

fn text<'v>(source: &'v Value, field: &str) -> &'v str {
    source.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn is_missing(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Array(list)) => list.is_empty(),
        Some(_) => false,
    }
}

fn require(source: &Value, fields: &[&str], path: &Path<'_>, errors: &mut Errors) {
    for field in fields {
        if is_missing(source.get(field)) {
            errors.required(&path.child(field), "");
        }
    }
}

fn source(kind: &str, source: &Value, volume: Option<&str>, path: &Path<'_>, errors: &mut Errors) {
    if let Some((_, fields)) = REQUIRED.iter().find(|(other, _)| *other == kind) {
        require(source, fields, path, errors);
    }
    match kind {
        "gcePersistentDisk" | "awsElasticBlockStore" => number(source, "partition", (1, 255), path, errors),
        "nfs" => {
            let place = text(source, "path");
            if !place.starts_with('/') {
                errors.invalid(&path.child("path"), place, "must be an absolute path");
            }
        }
        "hostPath" => host_path(source, path, errors),
        "local" => paths::no_parents(text(source, "path"), &path.child("path"), errors),
        "gitRepo" => paths::descending(text(source, "directory"), &path.child("directory"), errors),
        "iscsi" => iscsi(source, volume, path, errors),
        "fc" => fibre_channel(source, path, errors),
        "flocker" => flocker(source, path, errors),
        "quobyte" => quobyte(source, path, errors),
        "flexVolume" => flex_volume(source, path, errors),
        "azureDisk" => azure_disk(source, path, errors),
        "azureFile" if source.get("secretNamespace").and_then(Value::as_str) == Some("") => {
            errors.required(&path.child("secretNamespace"), "");
        }
        "glusterfs" => gluster_namespace(source, path, errors),
        "cinder" | "storageos" => secret_of_others(kind, source, volume.is_some(), path, errors),
        "csi" => csi(source, volume.is_some(), path, errors),
        _ => {}
    }
}

fn number(source: &Value, field: &str, (low, high): (i64, i64), path: &Path<'_>, errors: &mut Errors) {
    if let Some(number) = source.get(field).and_then(Value::as_i64)
        && !(0..=high).contains(&number)
    {
        errors.invalid(&path.child(field), number, names::inclusive_range(low, high));
    }
}

const HOST_PATH_TYPES: &[&str] = &[
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];

fn host_path(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    let place = text(source, "path");
    if place.is_empty() {
        errors.required(&path.child("path"), "");
        return;
    }
    paths::no_parents(place, &path.child("path"), errors);
    let kind = source.get("type").and_then(Value::as_str);
    rules::one_of(kind, HOST_PATH_TYPES, &path.child("type"), errors);
}

/// The three forms of names of iSCSI nodes.
fn is_iscsi_name(name: &str) -> bool {
    let alphanumeric = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if let Some(rest) = name.strip_prefix("eui.") {
        return rest.len() == 16 && alphanumeric(rest);
    }
    if let Some(rest) = name.strip_prefix("naa.") {
        return rest.len() == 32 && alphanumeric(rest);
    }
    let Some((date, rest)) = name.strip_prefix("iqn.").and_then(|rest| rest.split_at_checked(8)) else {
        return false;
    };
    let dated = date.bytes().enumerate().all(|(index, byte)| match index {
        4 => byte == b'-',
        7 => byte == b'.',
        _ => byte.is_ascii_digit(),
    });
    let Some((authority, unique)) = rest.split_once(':') else {
        return false;
    };
    let authority_fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
    let unique_fits = |c: char| !c.is_whitespace() && !",;*&$|^".contains(c);
    dated
        && !authority.is_empty()
        && authority.bytes().all(authority_fits)
        && !unique.is_empty()
        && unique.chars().all(unique_fits)
}

fn iscsi(source: &Value, volume: Option<&str>, path: &Path<'_>, errors: &mut Errors) {
    let initiator = source.get("initiatorName").and_then(Value::as_str);
    let portal = text(source, "targetPortal");
    if let Some(volume) = volume
        && initiator.is_some()
        && volume.len() + 1 + portal.len() > 64
    {
        errors.invalid(
            &path.child("targetportal"),
            portal,
            "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.",
        );
    }
    let node = Some(text(source, "iqn")).filter(|node| !node.is_empty());
    for (field, name) in [("iqn", node), ("initiatorname", initiator)] {
        let Some(name) = name.filter(|name| !is_iscsi_name(name)) else {
            continue;
        };
        let known = ["iqn", "eui", "naa"].iter().any(|prefix| name.starts_with(prefix));
        let detail = if known || volume.is_some() {
            "must be valid format"
        } else {
            "must be valid format starting with iqn, eui, or naa"
        };
        errors.invalid(&path.child(field), name, detail);
    }
    number(source, "lun", (0, 255), path, errors);
    let set = |field: &str| source.get(field).and_then(Value::as_bool) == Some(true);
    match source.get("secretRef") {
        None if set("chapAuthDiscovery") || set("chapAuthSession") => errors.required(&path.child("secretRef"), ""),
        Some(secret) if volume.is_some() => require(secret, &["name"], &path.child("secretRef"), errors),
        _ => {}
    }
}

fn fibre_channel(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    let at = path.child("targetWWNs");
    let (targets, ids) = (source.get("targetWWNs"), source.get("wwids"));
    match (is_missing(targets), is_missing(ids)) {
        (true, true) => errors.required(&at, "must specify either targetWWNs or wwids, but not both"),
        (false, false) => {
            let shown = targets.cloned().unwrap_or_default();
            errors.invalid(&at, shown, "targetWWNs and wwids can not be specified simultaneously");
        }
        _ => {}
    }
    if !is_missing(targets) {
        if source.get("lun").is_none() {
            errors.required(&path.child("lun"), "lun is required if targetWWNs is specified");
        }
        number(source, "lun", (0, 255), path, errors);
    }
}

fn flocker(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    let (name, id) = (text(source, "datasetName"), text(source, "datasetUUID"));
    match (name, id) {
        ("", "") => errors.required(path, "one of datasetName and datasetUUID is required"),
        ("", _) | (_, "") => {}
        _ => errors.invalid(
            path,
            "resource",
            "datasetName and datasetUUID can not be specified simultaneously",
        ),
    }
    if name.contains('/') {
        errors.invalid(&path.child("datasetName"), name, "must not contain '/'");
    }
}

fn quobyte(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    let detail = "must be a host:port pair or multiple pairs separated by commas";
    let registry = text(source, "registry");
    if registry.is_empty() {
        errors.required(&path.child("registry"), detail);
    } else if text(source, "tenant").len() >= 65 {
        let detail = "must be a UUID and may not exceed a length of 64 characters";
        errors.required(&path.child("tenant"), detail);
    } else {
        for _ in registry.split(',').filter(|pair| !pair.contains(':')) {
            errors.invalid(&path.child("registry"), registry, detail);
        }
    }
    require(source, &["volume"], path, errors);
}

fn flex_volume(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    let options = source.get("options").and_then(Value::as_object);
    let at = path.child("options");
    for key in options.into_iter().flatten().map(|(key, _)| key) {
        let namespace = key.split_once('/').map_or(key.as_str(), |(namespace, _)| namespace);
        let normalized = format!(".{}", namespace.to_lowercase());
        if normalized.ends_with(".kubernetes.io") || normalized.ends_with(".k8s.io") {
            let detail = "kubernetes.io and k8s.io namespaces are reserved";
            errors.invalid(&at.key(key), key.as_str(), detail);
        }
    }
}

fn azure_disk(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    let given = |field: &str| source.get(field).and_then(Value::as_str);
    let modes = ["None", "ReadOnly", "ReadWrite"];
    rules::one_of(given("cachingMode"), &modes, &path.child("cachingMode"), errors);
    let kinds = ["Dedicated", "Managed", "Shared"];
    rules::one_of(given("kind"), &kinds, &path.child("kind"), errors);
    let uri = text(source, "diskURI");
    let (prefix, form) = match given("kind") {
        None => return,
        Some("Managed") => (
            "/subscriptions/",
            "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}",
        ),
        Some(_) => (
            "https://",
            "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd",
        ),
    };
    if !uri.starts_with(prefix) {
        errors.not_supported(&path.child("diskURI"), uri, &[form]);
    }
}

fn gluster_namespace(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    let at = path.child("endpointsNamespace");
    match source.get("endpointsNamespace").and_then(Value::as_str) {
        None => {}
        Some("") => {
            let detail = "if the endpointnamespace is set, it must be a valid namespace name";
            errors.invalid(&at, "", detail);
        }
        Some(namespace) => errors.invalid_each(&at, namespace, names::dns1123_label(namespace)),
    }
}

fn secret_of_others(kind: &str, source: &Value, persistent: bool, path: &Path<'_>, errors: &mut Errors) {
    if kind == "storageos" {
        for field in ["volumeName", "volumeNamespace"] {
            let name = text(source, field);
            if !name.is_empty() {
                errors.invalid_each(&path.child(field), name, names::dns1123_label(name));
            }
        }
    }
    if let Some(secret) = source.get("secretRef") {
        let fields: &[&str] = if persistent { &["name", "namespace"] } else { &["name"] };
        require(secret, fields, &path.child("secretRef"), errors);
    }
}

fn csi(source: &Value, persistent: bool, path: &Path<'_>, errors: &mut Errors) {
    let driver = text(source, "driver");
    let at = path.child("driver");
    if driver.is_empty() {
        errors.required(&at, "");
    }
    if driver.len() > 63 {
        errors.too_long(&at, 63);
    }
    errors.invalid_each(&at, driver, names::dns1123_subdomain(&driver.to_lowercase()));
    if !persistent {
        if let Some(secret) = source.get("nodePublishSecretRef") {
            let name = text(secret, "name");
            if name.is_empty() {
                require(secret, &["name"], &path.child("nodePublishSecretRef"), errors);
            } else {
                errors.invalid_each(&path.child("name"), name, names::dns1123_subdomain(name));
            }
        }
        return;
    }
    require(source, &["volumeHandle"], path, errors);
    for field in [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ] {
        let Some(secret) = source.get(field) else { continue };
        let at = path.child(field);
        require(secret, &["name"], &at, errors);
        let name = text(secret, "name");
        if !name.is_empty() {
            errors.invalid_each(&at.child("name"), name, names::dns1123_subdomain(name));
        }
        require(secret, &["namespace"], &at, errors);
        let namespace = text(secret, "namespace");
        if !namespace.is_empty() {
            errors.invalid_each(&at.child("namespace"), namespace, names::dns1123_label(namespace));
        }
    }
}
