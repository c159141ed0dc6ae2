//! Volumes and what is projected into them.

use super::paths;
use super::validate::Place;
use crate::core::{persistentvolumeclaims, volume_sources};
use crate::rules;
use catamaran_api::quantity::Quantity;
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::core::v1::{
    ClusterTrustBundleProjection, DownwardAPIVolumeFile, KeyToPath, ObjectFieldSelector, PodCertificateProjection,
    PodSpec, ProjectedVolumeSource, ResourceFieldSelector, Volume,
};
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// The pod's volumes by name.
pub(super) type Volumes<'s> = HashMap<&'s str, &'s Volume>;

/// The volumes in which nothing is wrong; containers can mount no others. `pod` is the name of the pod, if it has one.
pub(super) fn validate<'s>(
    spec: &'s PodSpec,
    place: Place,
    pod: &str,
    path: &Path<'_>,
    errors: &mut Errors,
) -> Volumes<'s> {
    let mut good = Volumes::new();
    let made = |claim: &str| {
        let mut volumes = spec
            .volumes
            .iter()
            .flatten()
            .filter(|volume| volume.ephemeral.is_some());
        !pod.is_empty() && volumes.any(|volume| format!("{pod}-{}", volume.name) == claim)
    };
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        let at = path.index(index);
        let at_name = at.child("name");
        let before = errors.len();
        self::volume(volume, place, &at, errors);
        if volume.ephemeral.is_some() && !pod.is_empty() && !volume.name.is_empty() {
            let claim = format!("{pod}-{}", volume.name);
            for message in names::dns1123_subdomain(&claim) {
                let detail = format!("PVC name {}: {message}", catamaran_api::field::quote(&claim));
                errors.invalid(&at_name, volume.name.as_str(), detail);
            }
        }
        if volume.name.is_empty() {
            errors.required(&at_name, "");
        } else {
            errors.invalid_each(&at_name, &volume.name, names::dns1123_label(&volume.name));
        }
        if good.contains_key(volume.name.as_str()) {
            errors.duplicate(&at_name, volume.name.as_str());
        }
        if errors.len() == before {
            good.insert(&volume.name, volume);
        }
        if let Some(source) = &volume.persistent_volume_claim
            && made(&source.claim_name)
        {
            let at = at.child("persistentVolumeClaim");
            let detail = "must not reference a PVC that gets created for an ephemeral volume";
            errors.invalid(&at.child("claimName"), source.claim_name.as_str(), detail);
        }
    }
    good
}

fn volume(volume: &Volume, place: Place, path: &Path<'_>, errors: &mut Errors) {
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
    if let Some(source) = &volume.image {
        let at = path.child("image");
        if place == Place::Pod && source.reference.as_deref().unwrap_or_default().is_empty() {
            errors.required(&at.child("reference"), "");
        }
        let policy = source.pull_policy.as_deref().unwrap_or_default();
        let supported = ["Always", "IfNotPresent", "Never"];
        rules::one_of_required(policy, &supported, &at.child("pullPolicy"), errors);
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
    let mut taken = HashSet::new();
    for (index, source) in source.sources.iter().flatten().enumerate() {
        let at = list.index(index);
        let mut count = 0;
        let mut take = |file: &str, shown: &str, errors: &mut Errors| {
            if !file.is_empty() && !taken.insert(file.to_owned()) {
                errors.invalid(path, shown, "conflicting duplicate paths");
            }
        };
        if let Some(source) = &source.secret {
            count += 1;
            let at = at.child("secret");
            object_name(&source.name, &at.child("name"), errors);
            items(source.items.as_deref(), &at.child("items"), errors);
            for item in source.items.iter().flatten() {
                take(&item.path, &source.name, errors);
            }
        }
        if let Some(source) = &source.config_map {
            count += 1;
            let at = at.child("configMap");
            object_name(&source.name, &at.child("name"), errors);
            items(source.items.as_deref(), &at.child("items"), errors);
            for item in source.items.iter().flatten() {
                take(&item.path, &source.name, errors);
            }
        }
        if let Some(source) = &source.downward_api {
            count += 1;
            files(source.items.as_deref(), &at.child("downwardAPI"), errors);
            for item in source.items.iter().flatten() {
                take(&item.path, &item.path, errors);
            }
        }
        if let Some(token) = &source.service_account_token {
            count += 1;
            let at = at.child("serviceAccountToken");
            let seconds = token.expiration_seconds.unwrap_or(0);
            let expiration = at.child("expirationSeconds");
            if seconds < 600 {
                errors.invalid(&expiration, seconds, "may not specify a duration less than 10 minutes");
            }
            if seconds > 1 << 32 {
                errors.invalid(
                    &expiration,
                    seconds,
                    "may not specify a duration larger than 2^32 seconds",
                );
            }
            file_path(&token.path, &path.child("path"), errors);
        }
        if let Some(bundle) = &source.cluster_trust_bundle {
            count += 1;
            trust_bundle(bundle, &at.child("clusterTrustBundle"), errors);
            take(&bundle.path, &bundle.path, errors);
        }
        if let Some(certificate) = &source.pod_certificate {
            count += 1;
            pod_certificate(certificate, &at.child("podCertificate"), errors);
            let files = [
                &certificate.credential_bundle_path,
                &certificate.key_path,
                &certificate.certificate_chain_path,
            ];
            for file in files.into_iter().flatten() {
                take(file, file, errors);
            }
        }
        if count > 1 {
            errors.forbidden(&at, "may not specify more than 1 volume type per source");
        }
    }
}

fn trust_bundle(bundle: &ClusterTrustBundleProjection, path: &Path<'_>, errors: &mut Errors) {
    match (&bundle.name, &bundle.signer_name) {
        (Some(_), Some(_)) => {
            let shown = serde_json::to_value(bundle).unwrap_or_default();
            errors.invalid(path, shown, "only one of name and signerName may be used");
        }
        (Some(name), None) => {
            let at = path.child("name");
            if name.is_empty() {
                errors.required(&at, "must be a valid object name");
            }
            // What stands before the last colon is the signer, with its slash written as a colon.
            let last = name.rsplit(':').next().unwrap_or_default();
            for message in names::dns1123_subdomain(last) {
                errors.invalid(
                    &at,
                    name.as_str(),
                    format!("not a valid clustertrustbundlename: {message}"),
                );
            }
            if let Some(selector) = &bundle.label_selector {
                let shown = serde_json::to_value(selector).unwrap_or_default();
                let detail = "labelSelector must be unset if name is specified";
                errors.invalid(&path.child("labelSelector"), shown, detail);
            }
        }
        (None, Some(signer)) => {
            if signer.is_empty() {
                errors.required(&path.child("signerName"), "must be a valid signer name");
            }
            signer_name(signer, &path.child("signerName"), errors);
            if let Some(selector) = &bundle.label_selector {
                rules::label_selector(selector, &path.child("labelSelector"), errors);
            }
        }
        (None, None) => errors.required(path, "either name or signerName must be specified"),
    }
    file_path(&bundle.path, &path.child("path"), errors);
}

fn signer_name(signer: &str, path: &Path<'_>, errors: &mut Errors) {
    if signer.is_empty() {
        errors.required(path, "");
    } else if signer
        .split_once('/')
        .is_none_or(|(domain, rest)| domain.is_empty() || rest.is_empty())
    {
        let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        errors.invalid(path, signer, detail);
    }
}

const KEY_TYPES: &[&str] = &["RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"];

fn pod_certificate(certificate: &PodCertificateProjection, path: &Path<'_>, errors: &mut Errors) {
    signer_name(&certificate.signer_name, &path.child("signerName"), errors);
    rules::one_of(Some(&certificate.key_type), KEY_TYPES, &path.child("keyType"), errors);
    if let Some(seconds) = certificate.max_expiration_seconds {
        let at = path.child("maxExpirationSeconds");
        // A day for signers of Kubernetes' own, 91 days for others.
        let own = certificate.signer_name.starts_with("kubernetes.io/");
        let most = if own { 24 * 60 * 60 } else { 91 * 24 * 60 * 60 };
        if seconds < 3600 {
            errors.invalid(&at, seconds, "if provided, maxExpirationSeconds must be >= 3600");
        }
        if seconds > most {
            errors.invalid(
                &at,
                seconds,
                format!("if provided, maxExpirationSeconds must be <= {most}"),
            );
        }
    }
    let files = [
        ("credentialBundlePath", &certificate.credential_bundle_path),
        ("keyPath", &certificate.key_path),
        ("certificateChainPath", &certificate.certificate_chain_path),
    ];
    let mut given = 0;
    for (field, file) in files {
        if let Some(file) = crate::defaulting::given(file.as_ref()) {
            given += 1;
            file_path(file, &path.child(field), errors);
        }
    }
    if given == 0 {
        let detail = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath";
        errors.required(path, detail);
    }
}

/// A field of the pod. `metadata.labels['x']` and annotations take a subscript.
pub(super) fn field_ref(field: &ObjectFieldSelector, supported: &[&str], path: &Path<'_>, errors: &mut Errors) {
    if field.api_version.as_deref().unwrap_or_default().is_empty() {
        errors.required(&path.child("apiVersion"), "");
        return;
    }
    let name = field.field_path.as_str();
    let at = path.child("fieldPath");
    if name.is_empty() {
        errors.required(&at, "");
        return;
    }
    if let Err(why) = known_field(field.api_version.as_deref().unwrap_or_default(), name) {
        errors.invalid(&at, name, format!("error converting fieldPath: {why}"));
        return;
    }
    let name = if name == "spec.host" { "spec.nodeName" } else { name };
    let subscripted = name.strip_suffix("']").and_then(|name| name.split_once("['"));
    match subscripted {
        Some(("metadata.annotations", key)) => {
            errors.invalid_each(path, key, names::qualified_name(&key.to_lowercase()));
        }
        Some(("metadata.labels", key)) => errors.invalid_each(path, key, names::qualified_name(key)),
        Some((name, _)) => errors.invalid(path, name, "does not support subscript"),
        None if !supported.contains(&name) => errors.not_supported(&at, name, supported),
        None => {}
    }
}

/// Fields of a pod by the names that containers may ask for them, whether or not at this place.
fn known_field(api_version: &str, name: &str) -> Result<(), String> {
    const KNOWN: &[&str] = &[
        "metadata.annotations",
        "metadata.labels",
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "spec.host",
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.serviceAccountName",
        "spec.schedulerName",
        "status.phase",
        "status.hostIP",
        "status.hostIPs",
        "status.podIP",
        "status.podIPs",
    ];
    if api_version != "v1" {
        return Err(format!("unsupported pod version: {api_version}"));
    }
    match name.strip_suffix("']").and_then(|name| name.split_once("['")) {
        Some(("metadata.annotations" | "metadata.labels", _)) => Ok(()),
        Some(_) => Err(format!("field label does not support subscript: {name}")),
        None if KNOWN.contains(&name) => Ok(()),
        None => Err(format!("field label not supported: {name}")),
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
