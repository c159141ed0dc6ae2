//! PersistentVolumeClaim: storage that is asked for. What was asked is fixed; only more of it may be asked later.

mod validate;

use crate::defaulting::text;
use crate::{Kind, STATUS, Subresource, age, name};
use catamaran_api::table::Column;
use catamaran_api::{Errors, Path};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeClaimStatus, TypedLocalObjectReference,
    TypedObjectReference,
};
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

pub(crate) use validate::{
    access_modes as validate_access_modes, spec as validate_spec, template as validate_template,
};

/// Where the class stood before it was a field.
pub(crate) const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

pub(crate) struct PersistentVolumeClaims;

impl Kind for PersistentVolumeClaims {
    type Object = PersistentVolumeClaim;
    const NAMESPACED: bool = true;
    const SHORT_NAMES: &'static [&'static str] = &["pvc"];
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];

    fn default(&self, object: &mut PersistentVolumeClaim) {
        default(object);
    }

    fn prepare_create(&self, object: &mut PersistentVolumeClaim) {
        object.status = Some(PersistentVolumeClaimStatus {
            phase: Some("Pending".to_owned()),
            ..Default::default()
        });
        let spec = object.spec.get_or_insert_default();
        keep_known_source(spec);
        match_sources(spec);
    }

    fn prepare_update(&self, new: &mut PersistentVolumeClaim, old: &PersistentVolumeClaim) {
        new.status.clone_from(&old.status);
        let has_source =
            |spec: &PersistentVolumeClaimSpec| spec.data_source.is_some() || spec.data_source_ref.is_some();
        if !old.spec.as_ref().is_some_and(has_source) {
            keep_known_source(new.spec.get_or_insert_default());
        }
    }

    fn prepare_status(&self, new: &mut PersistentVolumeClaim, old: &PersistentVolumeClaim) {
        new.spec.clone_from(&old.spec);
    }

    fn validate(&self, object: &PersistentVolumeClaim, errors: &mut Errors) {
        let no_spec = PersistentVolumeClaimSpec::default();
        validate::spec(object.spec.as_ref().unwrap_or(&no_spec), &Path::new("spec"), errors);
    }

    fn validate_update(&self, new: &PersistentVolumeClaim, old: &PersistentVolumeClaim, errors: &mut Errors) {
        validate::update(new, old, errors);
    }

    fn validate_status(&self, new: &PersistentVolumeClaim, _old: &PersistentVolumeClaim, errors: &mut Errors) {
        validate::status(new, errors);
    }

    fn warnings(&self, new: &PersistentVolumeClaim, _old: Option<&PersistentVolumeClaim>) -> Vec<String> {
        let mut warnings = Vec::new();
        let annotations = new.metadata.annotations.as_ref();
        if annotations.is_some_and(|annotations| annotations.contains_key(CLASS_ANNOTATION)) {
            warnings.push(format!(
                r#"metadata.annotations[{CLASS_ANNOTATION}]: deprecated since v1.8; use "storageClassName" attribute instead"#
            ));
        }
        if let Some(spec) = &new.spec {
            warnings.extend(warn_about_spec(spec, &Path::new("spec")));
        }
        warnings
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            Column::NAME,
            Column::string("Status", "How far the claim is: Pending, Bound, Lost or Terminating."),
            Column::string("Volume", "The volume that serves the claim."),
            Column::string("Capacity", "What the volume holds."),
            Column::string("Access Modes", "How the volume may be mounted."),
            Column::string("StorageClass", "Class of the storage asked for."),
            Column::string("VolumeAttributesClass", "Class of the volume's attributes."),
            Column::AGE,
            Column::string("VolumeMode", "Whether there is a file system on it.").wide(),
        ];
        COLUMNS
    }

    fn row(&self, object: &PersistentVolumeClaim, now: Timestamp) -> Vec<Value> {
        let (no_spec, no_status) = (Default::default(), Default::default());
        let spec = object.spec.as_ref().unwrap_or(&no_spec);
        let status: &PersistentVolumeClaimStatus = object.status.as_ref().unwrap_or(&no_status);
        let phase = if object.metadata.deletion_timestamp.is_some() {
            "Terminating"
        } else {
            status.phase.as_deref().unwrap_or_default()
        };
        let volume = spec.volume_name.as_deref().unwrap_or_default();
        let (mut capacity, mut modes) = (String::new(), String::new());
        if !volume.is_empty() {
            let storage = status.capacity.as_ref().and_then(|capacity| capacity.get("storage"));
            capacity = storage.map_or_else(|| "0".to_owned(), |storage| storage.0.clone());
            modes = access_modes(status.access_modes.as_deref());
        }
        let annotations = object.metadata.annotations.as_ref();
        let class = annotations
            .and_then(|annotations| annotations.get(CLASS_ANNOTATION))
            .or(spec.storage_class_name.as_ref());
        let or_unset = |text: Option<&String>| Value::from(text.map_or("<unset>", String::as_str));
        vec![
            name(&object.metadata),
            phase.into(),
            volume.into(),
            capacity.into(),
            modes.into(),
            class.cloned().unwrap_or_default().into(),
            or_unset(spec.volume_attributes_class_name.as_ref()),
            age(&object.metadata, now),
            or_unset(spec.volume_mode.as_ref()),
        ]
    }
}

/// Fills in what a claim leaves out, also one in a template.
pub(crate) fn default(object: &mut PersistentVolumeClaim) {
    let status = object.status.get_or_insert_default();
    text(&mut status.phase, "Pending");
    let spec = object.spec.get_or_insert_default();
    spec.volume_mode.get_or_insert_with(|| "Filesystem".to_owned());
    spec.resources.get_or_insert_default();
}

/// Texts about amounts that are no whole bytes.
pub(crate) fn warn_about_spec(spec: &PersistentVolumeClaimSpec, path: &Path<'_>) -> Vec<String> {
    let Some(resources) = &spec.resources else {
        return Vec::new();
    };
    let path = path.child("resources");
    let lists = [("requests", &resources.requests), ("limits", &resources.limits)];
    let amounts = lists
        .into_iter()
        .filter_map(|(field, list)| Some((field, list.as_ref()?.get("storage")?)));
    amounts
        .filter_map(|(field, amount)| super::pods::fractional(amount, &path.child(field).key("storage")))
        .collect()
}

/// `RWO,ROX`: each mode once, in this order.
pub(crate) fn access_modes(modes: Option<&[String]>) -> String {
    const SHORT: [(&str, &str); 4] = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let modes = modes.unwrap_or_default();
    let present = SHORT.iter().filter(|(mode, _)| modes.iter().any(|other| other == mode));
    present.map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}

/// In the older of the two fields only claims and snapshots count; anything else is dropped.
fn keep_known_source(spec: &mut PersistentVolumeClaimSpec) {
    if spec.data_source_ref.is_some() {
        return;
    }
    let known = |source: &TypedLocalObjectReference| {
        let group = source.api_group.as_deref().unwrap_or_default();
        matches!(
            (source.kind.as_str(), group),
            ("PersistentVolumeClaim", "") | ("VolumeSnapshot", "snapshot.storage.k8s.io")
        )
    };
    if spec.data_source.as_ref().is_some_and(|source| !known(source)) {
        spec.data_source = None;
    }
}

/// The two fields for a source say the same if only one was given.
fn match_sources(spec: &mut PersistentVolumeClaimSpec) {
    match (&spec.data_source, &spec.data_source_ref) {
        (Some(source), None) => {
            spec.data_source_ref = Some(TypedObjectReference {
                api_group: source.api_group.clone(),
                kind: source.kind.clone(),
                name: source.name.clone(),
                namespace: None,
            });
        }
        (None, Some(source)) if crate::defaulting::given(source.namespace.as_ref()).is_none() => {
            spec.data_source = Some(TypedLocalObjectReference {
                api_group: source.api_group.clone(),
                kind: source.kind.clone(),
                name: source.name.clone(),
            });
        }
        _ => {}
    }
}
