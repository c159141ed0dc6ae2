//! Volumes and what is projected into them.

use super::paths;
use crate::core::{persistentvolumeclaims, volume_sources};
use catamaran_api::quantity::Quantity;
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, KeyToPath, ObjectFieldSelector, PodSpec, ProjectedVolumeSource, ResourceFieldSelector,
    Volume,
};
use serde_json::Value;
use std::collections::HashMap;

/// The pod's volumes by name.
pub(super) type Volumes<'s> = HashMap<&'s str, &'s Volume>;

pub(super) fn validate<'s>(spec: &'s PodSpec, path: &Path<'_>, errors: &mut Errors) -> Volumes<'s> {
    let mut seen = Volumes::new();
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        let at = path.index(index);
        self::volume(volume, &at, errors);
        if volume.name.is_empty() {
            errors.required(&at.child("name"), "");
            continue;
        }
        errors.invalid_each(&at.child("name"), &volume.name, names::dns1123_label(&volume.name));
        if seen.insert(&volume.name, volume).is_some() {
            errors.duplicate(&at.child("name"), volume.name.as_str());
        }
    }
    seen
}

fn volume(volume: &Volume, path: &Path<'_>, errors: &mut Errors) {
    let Ok(Value::Object(mut sources)) = serde_json::to_value(volume) else {
        return;
    };
    sources.remove("name");
    volume_sources::validate(&sources, None, path, errors);
    if let Some(source) = &volume.empty_dir
        && let Some(limit) = &source.size_limit
        && Quantity::try_from(limit).is_ok_and(Quantity::is_negative)
    {
        let at = path.child("emptyDir");
        errors.forbidden(
            &at.child("sizeLimit"),
            "SizeLimit field must be a valid resource quantity",
        );
    }
    if let Some(source) = &volume.config_map {
        let path = path.child("configMap");
        object_name(&source.name, &path.child("name"), errors);
        mode(source.default_mode, &path.child("defaultMode"), errors);
        items(source.items.as_deref(), &path.child("items"), errors);
    }
    if let Some(source) = &volume.secret {
        let path = path.child("secret");
        let name = source.secret_name.as_deref().unwrap_or_default();
        object_name(name, &path.child("secretName"), errors);
        mode(source.default_mode, &path.child("defaultMode"), errors);
        items(source.items.as_deref(), &path.child("items"), errors);
    }
    if let Some(source) = &volume.downward_api {
        let path = path.child("downwardAPI");
        mode(source.default_mode, &path.child("defaultMode"), errors);
        files(source.items.as_deref(), &path, errors);
    }
    if let Some(source) = &volume.projected {
        projected(source, &path.child("projected"), errors);
    }
    if let Some(source) = &volume.persistent_volume_claim
        && source.claim_name.is_empty()
    {
        errors.required(&path.child("persistentVolumeClaim").child("claimName"), "");
    }
    if let Some(source) = &volume.ephemeral {
        let at = path.child("ephemeral");
        let at = at.child("volumeClaimTemplate");
        match &source.volume_claim_template {
            None => errors.required(&at, ""),
            Some(template) => persistentvolumeclaims::validate_template(template, &at, errors),
        }
    }
}

fn object_name(name: &str, path: &Path<'_>, errors: &mut Errors) {
    if name.is_empty() {
        errors.required(path, "");
    }
}

fn mode(mode: Option<i32>, path: &Path<'_>, errors: &mut Errors) {
    if let Some(mode) = mode.filter(|mode| !(0..=0o777).contains(mode)) {
        errors.invalid(
            path,
            mode,
            "must be a number between 0 and 0777 (octal), both inclusive",
        );
    }
}

fn items(items: Option<&[KeyToPath]>, path: &Path<'_>, errors: &mut Errors) {
    for (index, item) in items.unwrap_or_default().iter().enumerate() {
        let at = path.index(index);
        if item.key.is_empty() {
            errors.required(&at.child("key"), "");
        }
        file_path(&item.path, &at.child("path"), errors);
        mode(item.mode, &at.child("mode"), errors);
    }
}

fn file_path(file: &str, path: &Path<'_>, errors: &mut Errors) {
    if file.is_empty() {
        errors.required(path, "");
        return;
    }
    paths::descending(file, path, errors);
    // The agent's own links in a volume begin like this.
    if file.starts_with("..") && !file.split('/').any(|part| part == "..") {
        errors.invalid(path, file, "must not start with '..'");
    }
}

const FILE_FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];

const FILE_RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

fn files(files: Option<&[DownwardAPIVolumeFile]>, path: &Path<'_>, errors: &mut Errors) {
    for file in files.unwrap_or_default() {
        file_path(&file.path, &path.child("path"), errors);
        mode(file.mode, &path.child("mode"), errors);
        if let Some(field) = &file.field_ref {
            field_ref(field, FILE_FIELDS, &path.child("fieldRef"), errors);
            if file.resource_field_ref.is_some() {
                errors.invalid(
                    path,
                    "resource",
                    "fieldRef and resourceFieldRef can not be specified simultaneously",
                );
            }
        } else if let Some(resource) = &file.resource_field_ref {
            resource_ref(resource, FILE_RESOURCES, true, &path.child("resourceFieldRef"), errors);
        } else {
            errors.required(path, "one of fieldRef and resourceFieldRef is required");
        }
    }
}

fn projected(source: &ProjectedVolumeSource, path: &Path<'_>, errors: &mut Errors) {
    mode(source.default_mode, &path.child("defaultMode"), errors);
    let list = path.child("sources");
    for (index, source) in source.sources.iter().flatten().enumerate() {
        let at = list.index(index);
        let mut count = 0;
        if let Some(source) = &source.secret {
            count += 1;
            let at = at.child("secret");
            object_name(&source.name, &at.child("name"), errors);
            items(source.items.as_deref(), &at.child("items"), errors);
        }
        if let Some(source) = &source.config_map {
            count += 1;
            let at = at.child("configMap");
            object_name(&source.name, &at.child("name"), errors);
            items(source.items.as_deref(), &at.child("items"), errors);
        }
        if let Some(source) = &source.downward_api {
            count += 1;
            files(source.items.as_deref(), &at.child("downwardAPI"), errors);
        }
        if let Some(token) = &source.service_account_token {
            count += 1;
            let at = at.child("serviceAccountToken");
            file_path(&token.path, &at.child("path"), errors);
            if let Some(seconds) = token.expiration_seconds.filter(|seconds| *seconds < 600) {
                errors.invalid(
                    &at.child("expirationSeconds"),
                    seconds,
                    "may not specify a duration less than 10 minutes",
                );
            }
        }
        count += usize::from(source.cluster_trust_bundle.is_some()) + usize::from(source.pod_certificate.is_some());
        if count > 1 {
            errors.forbidden(&at, "may not specify more than 1 volume type per source");
        }
    }
}

/// A field of the pod. `metadata.labels['x']` and annotations take a subscript.
pub(super) fn field_ref(field: &ObjectFieldSelector, supported: &[&str], path: &Path<'_>, errors: &mut Errors) {
    if field.api_version.as_deref().unwrap_or_default().is_empty() {
        errors.required(&path.child("apiVersion"), "");
        return;
    }
    let name = field.field_path.as_str();
    if name.is_empty() {
        errors.required(&path.child("fieldPath"), "");
        return;
    }
    let subscripted = name.strip_suffix("']").and_then(|name| name.split_once("['"));
    match subscripted {
        Some(("metadata.annotations", key)) => {
            errors.invalid_each(path, key, names::qualified_name(&key.to_lowercase()));
        }
        Some(("metadata.labels", key)) => errors.invalid_each(path, key, names::qualified_name(key)),
        Some((name, _)) => errors.invalid(path, name, "does not support subscript"),
        None if !supported.contains(&name) => errors.not_supported(&path.child("fieldPath"), name, supported),
        None => {}
    }
}

const CPU_DIVISORS: &[&str] = &["1m", "1"];
const BYTE_DIVISORS: &[&str] = &[
    "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei",
];

/// An amount from a container's resources. A file, unlike a variable, must say of which container.
pub(super) fn resource_ref(
    resource: &ResourceFieldSelector,
    supported: &[&str],
    in_file: bool,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    let name = resource.resource.as_str();
    let hugepages = name.starts_with("limits.hugepages-") || name.starts_with("requests.hugepages-");
    if in_file && resource.container_name.as_deref().unwrap_or_default().is_empty() {
        errors.required(&path.child("containerName"), "");
    } else if name.is_empty() {
        errors.required(&path.child("resource"), "");
    } else if !supported.contains(&name) && !hugepages {
        errors.not_supported(&path.child("resource"), name, supported);
    }
    let divisor = resource.divisor.as_ref().map_or("0", |divisor| divisor.0.as_str());
    if divisor == "0" {
        return;
    }
    let (allowed, what) = match name.split_once('.').map_or("", |(_, what)| what) {
        "cpu" => (CPU_DIVISORS, "1m and 1 are supported with the cpu resource"),
        "memory" => (
            BYTE_DIVISORS,
            "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the memory resource",
        ),
        "ephemeral-storage" => (
            BYTE_DIVISORS,
            "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the local ephemeral storage resource",
        ),
        _ => return,
    };
    if !allowed.contains(&divisor) {
        errors.invalid(&path.child("divisor"), name, format!("only divisor's values {what}"));
    }
}
