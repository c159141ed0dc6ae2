//! What is refused about claims.

use super::CLASS_ANNOTATION;
use crate::{changes, rules};
use catamaran_api::quantity::Quantity;
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeClaimStatus, PersistentVolumeClaimTemplate,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub(crate) const ACCESS_MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

pub(crate) fn spec(spec: &PersistentVolumeClaimSpec, path: &Path<'_>, errors: &mut Errors) {
    access_modes(
        spec.access_modes.as_deref().unwrap_or_default(),
        "at least 1 access mode is required",
        path,
        errors,
    );
    if let Some(selector) = &spec.selector {
        rules::label_selector(selector, &path.child("selector"), errors);
    }
    let resources = path.child("resources");
    let at = resources.key("storage");
    let requests = spec
        .resources
        .as_ref()
        .and_then(|resources| resources.requests.as_ref());
    match requests.and_then(|requests| requests.get("storage")) {
        None => errors.required(&at, ""),
        Some(storage) => rules::positive_amount(storage, &at, errors),
    }
    subdomain(
        spec.storage_class_name.as_ref(),
        &path.child("storageClassName"),
        errors,
    );
    let mode = spec.volume_mode.as_deref();
    rules::one_of(mode, &["Block", "Filesystem"], &path.child("volumeMode"), errors);
    sources(spec, path, errors);
    let class = spec.volume_attributes_class_name.as_ref();
    subdomain(class, &path.child("volumeAttributesClassName"), errors);
}

/// The ways a volume may be mounted, of volumes and claims.
pub(crate) fn access_modes(modes: &[String], missing: &str, path: &Path<'_>, errors: &mut Errors) {
    let at = path.child("accessModes");
    if modes.is_empty() {
        errors.required(&at, missing);
    }
    for mode in modes {
        rules::one_of(Some(mode), ACCESS_MODES, &at, errors);
    }
    let known = |mode: &&String| ACCESS_MODES.contains(&mode.as_str());
    let single = modes.iter().any(|mode| mode == "ReadWriteOncePod");
    if single && modes.iter().filter(known).any(|mode| mode != "ReadWriteOncePod") {
        errors.forbidden(&at, "may not use ReadWriteOncePod with other access modes");
    }
}

fn subdomain(value: Option<&String>, path: &Path<'_>, errors: &mut Errors) {
    if let Some(value) = crate::defaulting::given(value) {
        errors.invalid_each(path, value, names::dns1123_subdomain(value));
    }
}

fn sources(spec: &PersistentVolumeClaimSpec, path: &Path<'_>, errors: &mut Errors) {
    if let Some(source) = &spec.data_source {
        let group = source.api_group.as_deref();
        self::source(&source.name, &source.kind, group, &path.child("dataSource"), errors);
    }
    let Some(reference) = &spec.data_source_ref else { return };
    let at = path.child("dataSourceRef");
    source(
        &reference.name,
        &reference.kind,
        reference.api_group.as_deref(),
        &at,
        errors,
    );
    let namespace = crate::defaulting::given(reference.namespace.as_ref());
    if let Some(namespace) = namespace {
        errors.invalid_each(&at.child("namespace"), namespace, names::dns1123_label(namespace));
    }
    let Some(source) = &spec.data_source else { return };
    let shown = path.child("dataSource").to_string();
    if namespace.is_some() {
        errors.invalid(
            path,
            shown,
            "may not be specified when dataSourceRef.namespace is specified",
        );
    } else if (&source.api_group, &source.kind, &source.name)
        != (&reference.api_group, &reference.kind, &reference.name)
    {
        errors.invalid(path, shown, "must match dataSourceRef");
    }
}

fn source(name: &str, kind: &str, group: Option<&str>, path: &Path<'_>, errors: &mut Errors) {
    if name.is_empty() {
        errors.required(&path.child("name"), "");
    }
    if kind.is_empty() {
        errors.required(&path.child("kind"), "");
    }
    let group = group.unwrap_or_default();
    if !group.is_empty() {
        errors.invalid_each(&path.child("apiGroup"), group, names::dns1123_subdomain(group));
    } else if kind != "PersistentVolumeClaim" {
        let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        errors.invalid(path, kind, detail);
    }
}

/// A claim in a pod: a spec, and of the metadata only labels and annotations.
pub(crate) fn template(template: &PersistentVolumeClaimTemplate, path: &Path<'_>, errors: &mut Errors) {
    if let Some(metadata) = &template.metadata {
        let at = path.child("metadata");
        rules::annotations(metadata.annotations.as_ref(), &at.child("annotations"), errors);
        rules::labels(metadata.labels.as_ref(), &at.child("labels"), errors);
        let rest = ObjectMeta {
            annotations: None,
            labels: None,
            ..metadata.clone()
        };
        let fields = serde_json::to_value(rest).unwrap_or_default();
        for field in fields.as_object().into_iter().flatten().map(|(field, _)| field) {
            errors.forbidden(&at.child(field), "cannot be set");
        }
    }
    spec(&template.spec, &path.child("spec"), errors);
}

fn storage(
    list: Option<&std::collections::BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>>,
) -> Quantity {
    let amount = list.and_then(|list| list.get("storage"));
    amount
        .and_then(|amount| Quantity::try_from(amount).ok())
        .unwrap_or_default()
}

pub(super) fn update(new: &PersistentVolumeClaim, old: &PersistentVolumeClaim, errors: &mut Errors) {
    let (no_spec, no_status) = (
        PersistentVolumeClaimSpec::default(),
        PersistentVolumeClaimStatus::default(),
    );
    let status = old.status.as_ref().unwrap_or(&no_status);
    let (new_spec, old_spec) = (
        new.spec.as_ref().unwrap_or(&no_spec),
        old.spec.as_ref().unwrap_or(&no_spec),
    );
    let path = Path::new("spec");
    let allowed = with_allowed_changes(new, old, new_spec, old_spec, status, errors);
    if allowed != *old_spec {
        let changed = changes::describe("spec", &allowed, old_spec);
        errors.forbidden(
            &path,
            format!(
                "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound \
                 claims\n{changed}\n"
            ),
        );
    }
    let asked = |spec: &PersistentVolumeClaimSpec| {
        storage(
            spec.resources
                .as_ref()
                .and_then(|resources| resources.requests.as_ref()),
        )
    };
    if asked(new_spec) < asked(old_spec) && asked(new_spec) <= storage(status.capacity.as_ref()) {
        let at = path.child("resources");
        let at = at.child("requests");
        errors.forbidden(&at.child("storage"), "field can not be less than status.capacity");
    }
    rules::immutable(
        &new_spec.volume_mode,
        &old_spec.volume_mode,
        &Path::new("volumeMode"),
        errors,
    );
    attributes_class(new_spec, old_spec, status, &path, errors);
}

/// The new spec with the fields that may change set back.
fn with_allowed_changes(
    new: &PersistentVolumeClaim,
    old: &PersistentVolumeClaim,
    new_spec: &PersistentVolumeClaimSpec,
    old_spec: &PersistentVolumeClaimSpec,
    status: &PersistentVolumeClaimStatus,
    errors: &mut Errors,
) -> PersistentVolumeClaimSpec {
    let mut allowed = new_spec.clone();
    let is_given = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    if !is_given(&old_spec.volume_name) {
        allowed.volume_name.clone_from(&old_spec.volume_name);
    }
    let class = |claim: &PersistentVolumeClaim| {
        claim
            .metadata
            .annotations
            .as_ref()
            .and_then(|annotations| annotations.get(CLASS_ANNOTATION))
            .cloned()
    };
    let (was, is) = (class(old), class(new));
    let from_none = old_spec.storage_class_name.is_none() && new_spec.storage_class_name.is_some();
    let moved = from_none && was.is_some() && new_spec.storage_class_name == was && (is.is_none() || is == was);
    if !moved && was.clone().unwrap_or_default() != is.clone().unwrap_or_default() {
        let annotations = Path::new("metadata");
        let annotations = annotations.child("annotations");
        let shown = is.unwrap_or_default();
        errors.invalid(&annotations.child(CLASS_ANNOTATION), shown, rules::IMMUTABLE);
    }
    if moved || (from_none && (was.is_none() || was == new_spec.storage_class_name)) {
        allowed.storage_class_name = None;
    }
    if status.phase.as_deref() == Some("Bound") {
        allowed
            .volume_attributes_class_name
            .clone_from(&old_spec.volume_attributes_class_name);
        let requested = old_spec
            .resources
            .as_ref()
            .and_then(|resources| resources.requests.as_ref())
            .and_then(|requests| requests.get("storage"));
        let requests = allowed
            .resources
            .as_mut()
            .and_then(|resources| resources.requests.as_mut());
        if let (Some(requests), Some(requested)) = (requests, requested) {
            requests.insert("storage".to_owned(), requested.clone());
        }
    }
    allowed
}

fn attributes_class(
    new: &PersistentVolumeClaimSpec,
    old: &PersistentVolumeClaimSpec,
    status: &PersistentVolumeClaimStatus,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    let (new, old) = (&new.volume_attributes_class_name, &old.volume_attributes_class_name);
    if new == old || status.current_volume_attributes_class_name.is_none() {
        return;
    }
    let at = path.child("volumeAttributesClassName");
    let to = match new.as_deref() {
        None => "nil",
        Some("") => "empty string",
        Some(_) => return,
    };
    errors.forbidden(
        &at,
        format!("update to {to} is forbidden when status.currentVolumeAttributesClassName is not nil"),
    );
}

const RESIZE_STATUSES: &[&str] = &[
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
];

pub(super) fn status(new: &PersistentVolumeClaim, errors: &mut Errors) {
    let Some(status) = &new.status else { return };
    let path = Path::new("status");
    let at = path.child("capacity");
    for (name, amount) in status.capacity.iter().flatten() {
        rules::nonnegative_amount(amount, &at.key(name), errors);
    }
    let at = path.child("allocatedResourceStatuses");
    for (name, state) in status.allocated_resource_statuses.iter().flatten() {
        resource_key(name, &at, errors);
        if !RESIZE_STATUSES.contains(&state.as_str()) {
            errors.not_supported(&at, name.as_str(), RESIZE_STATUSES);
        }
    }
    let at = path.child("allocatedResources");
    for (name, amount) in status.allocated_resources.iter().flatten() {
        resource_key(name, &at, errors);
        rules::nonnegative_amount(amount, &at.key(name), errors);
    }
}

/// Of Kubernetes' own resources a claim has storage only.
fn resource_key(name: &str, path: &Path<'_>, errors: &mut Errors) {
    errors.invalid_each(path, name, names::qualified_name(name));
    let native = !name.contains('/') || name.contains("kubernetes.io/");
    if native && name != "storage" {
        errors.not_supported(path, name, &["storage"]);
    }
}
