//! PersistentVolume: storage that is there. Where it is never changes.

use crate::core::persistentvolumeclaims::{CLASS_ANNOTATION, access_modes, validate_access_modes};
use crate::core::pods::{deprecated_node_label, validate_node_selector};
use crate::core::volume_sources;
use crate::defaulting::{given, text};
use crate::{Kind, STATUS, Subresource, age, changes, name, rules};
use catamaran_api::quantity::Quantity;
use catamaran_api::table::Column;
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeSpec, PersistentVolumeStatus, VolumeNodeAffinity};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value};

pub(crate) struct PersistentVolumes;

impl Kind for PersistentVolumes {
    type Object = PersistentVolume;
    const NAMESPACED: bool = false;
    const SHORT_NAMES: &'static [&'static str] = &["pv"];
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];

    fn default(&self, object: &mut PersistentVolume) {
        text(&mut object.status.get_or_insert_default().phase, "Pending");
        let spec = object.spec.get_or_insert_default();
        text(&mut spec.persistent_volume_reclaim_policy, "Retain");
        spec.volume_mode.get_or_insert_with(|| "Filesystem".to_owned());
        default_source(spec);
    }

    fn prepare_create(&self, object: &mut PersistentVolume) {
        object.status = Some(PersistentVolumeStatus {
            phase: Some("Pending".to_owned()),
            ..Default::default()
        });
    }

    fn prepare_update(&self, new: &mut PersistentVolume, old: &PersistentVolume) {
        new.status.clone_from(&old.status);
    }

    fn prepare_status(&self, new: &mut PersistentVolume, old: &PersistentVolume) {
        new.spec.clone_from(&old.spec);
    }

    fn validate(&self, object: &PersistentVolume, errors: &mut Errors) {
        let no_spec = PersistentVolumeSpec::default();
        let spec = object.spec.as_ref().unwrap_or(&no_spec);
        let name = object.metadata.name.as_deref().unwrap_or_default();
        self::spec(spec, name, &Path::new("spec"), errors);
    }

    fn validate_update(&self, new: &PersistentVolume, old: &PersistentVolume, errors: &mut Errors) {
        if let (Some(new), Some(old)) = (&new.spec, &old.spec) {
            update(new, old, errors);
        }
    }

    fn warnings(&self, new: &PersistentVolume, _old: Option<&PersistentVolume>) -> Vec<String> {
        warnings(new)
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            Column::NAME,
            Column::string("Capacity", "What the volume holds."),
            Column::string("Access Modes", "How it may be mounted."),
            Column::string("Reclaim Policy", "What becomes of it when its claim is gone."),
            Column::string("Status", "Whether it is free, bound or left over."),
            Column::string("Claim", "The claim it serves."),
            Column::string("StorageClass", "Class of the storage."),
            Column::string("VolumeAttributesClass", "Class of the volume's attributes."),
            Column::string("Reason", "Why it is in this state."),
            Column::AGE,
            Column::string("VolumeMode", "Whether there is a file system on it.").wide(),
        ];
        COLUMNS
    }

    fn row(&self, object: &PersistentVolume, now: Timestamp) -> Vec<Value> {
        let (no_spec, no_status) = (Default::default(), Default::default());
        let spec: &PersistentVolumeSpec = object.spec.as_ref().unwrap_or(&no_spec);
        let status: &PersistentVolumeStatus = object.status.as_ref().unwrap_or(&no_status);
        let claim = spec.claim_ref.as_ref().map(|claim| {
            let part = |text: &Option<String>| text.clone().unwrap_or_default();
            format!("{}/{}", part(&claim.namespace), part(&claim.name))
        });
        let phase = if object.metadata.deletion_timestamp.is_some() {
            "Terminating"
        } else {
            status.phase.as_deref().unwrap_or_default()
        };
        let annotations = object.metadata.annotations.as_ref();
        let class = annotations
            .and_then(|annotations| annotations.get(CLASS_ANNOTATION))
            .or(spec.storage_class_name.as_ref());
        let capacity = spec.capacity.as_ref().and_then(|capacity| capacity.get("storage"));
        let or_unset = |text: Option<&String>| Value::from(text.map_or("<unset>", String::as_str));
        vec![
            name(&object.metadata),
            capacity.map_or("0", |capacity| capacity.0.as_str()).into(),
            access_modes(spec.access_modes.as_deref()).into(),
            spec.persistent_volume_reclaim_policy.clone().unwrap_or_default().into(),
            phase.into(),
            claim.unwrap_or_default().into(),
            class.cloned().unwrap_or_default().into(),
            or_unset(spec.volume_attributes_class_name.as_ref()),
            status.reason.clone().unwrap_or_default().into(),
            age(&object.metadata, now),
            or_unset(spec.volume_mode.as_ref()),
        ]
    }
}

/// What the source of a volume leaves out.
pub(crate) fn default_source(spec: &mut PersistentVolumeSpec) {
    if let Some(source) = &mut spec.host_path {
        source.type_.get_or_insert_default();
    }
    if let Some(source) = &mut spec.iscsi {
        text(&mut source.iscsi_interface, "default");
    }
    if let Some(source) = &mut spec.rbd {
        text(&mut source.pool, "rbd");
        text(&mut source.user, "admin");
        text(&mut source.keyring, "/etc/ceph/keyring");
    }
    if let Some(source) = &mut spec.azure_disk {
        volume_sources::default_azure_disk(source);
    }
    if let Some(source) = &mut spec.scale_io {
        text(&mut source.storage_mode, "ThinProvisioned");
        text(&mut source.fs_type, "xfs");
    }
}

/// Fields of the spec that say nothing about where the storage is.
const NOT_SOURCES: &[&str] = &[
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

fn sources(spec: &PersistentVolumeSpec) -> Map<String, Value> {
    let Ok(Value::Object(mut fields)) = serde_json::to_value(spec) else {
        return Map::new();
    };
    fields.retain(|field, _| !NOT_SOURCES.contains(&field.as_str()));
    fields
}

fn spec(spec: &PersistentVolumeSpec, name: &str, path: &Path<'_>, errors: &mut Errors) {
    validate_access_modes(spec.access_modes.as_deref().unwrap_or_default(), "", path, errors);
    let at = path.child("capacity");
    let no_capacity = Default::default();
    let capacity = spec.capacity.as_ref().unwrap_or(&no_capacity);
    if capacity.is_empty() {
        errors.required(&at, "");
    }
    if capacity.len() != 1 || !capacity.contains_key("storage") {
        let shown = serde_json::to_value(&spec.capacity).unwrap_or_default();
        errors.not_supported(&at, shown, &["storage"]);
    }
    for (resource, amount) in capacity {
        let units = Quantity::try_from(amount).map_or(0, Quantity::units);
        if units < 0 {
            errors.invalid(&at.key(resource), units, "must be a valid resource quantity");
        }
        rules::positive_amount(amount, &at.key(resource), errors);
    }
    let policy = given(spec.persistent_volume_reclaim_policy.as_ref());
    let at = path.child("persistentVolumeReclaimPolicy");
    rules::one_of(policy, &["Delete", "Recycle", "Retain"], &at, errors);
    if let Some(affinity) = &spec.node_affinity {
        node_affinity(affinity, &path.child("nodeAffinity"), errors);
    }
    let sources = sources(spec);
    volume_sources::validate(&sources, Some(name), path, errors);
    if spec.local.is_some() && spec.node_affinity.is_none() {
        errors.required(&path.child("nodeAffinity"), "Local volume requires node affinity");
    }
    let is_root = spec.host_path.as_ref().is_some_and(|source| {
        source.path.starts_with('/') && source.path.split('/').all(|part| part.is_empty() || part == ".")
    });
    if is_root && policy == Some("Recycle") {
        errors.forbidden(&at, "may not be 'recycle' for a hostPath mount of '/'");
    }
    if let Some(class) = given(spec.storage_class_name.as_ref()) {
        errors.invalid_each(&path.child("storageClassName"), class, names::dns1123_subdomain(class));
    }
    let mode = spec.volume_mode.as_deref();
    rules::one_of(mode, &["Block", "Filesystem"], &path.child("volumeMode"), errors);
    if let Some(class) = &spec.volume_attributes_class_name {
        let at = path.child("volumeAttributesClassName");
        if class.is_empty() {
            errors.required(&at, "an empty string is disallowed");
        } else {
            errors.invalid_each(&at, class, names::dns1123_subdomain(class));
        }
        if spec.csi.is_none() {
            errors.required(
                &path.child("csi"),
                "has to be specified when using volumeAttributesClassName",
            );
        }
    }
}

fn node_affinity(affinity: &VolumeNodeAffinity, path: &Path<'_>, errors: &mut Errors) {
    let at = path.child("required");
    match &affinity.required {
        None => errors.required(&at, "must specify required node constraints"),
        Some(selector) => validate_node_selector(selector, &at, errors),
    }
}

fn update(new: &PersistentVolumeSpec, old: &PersistentVolumeSpec, errors: &mut Errors) {
    let mut is = sources(new);
    let was = sources(old);
    // A secret for growing the volume may be told later.
    let told = |sources: &Map<String, Value>| {
        sources
            .get("csi")
            .is_some_and(|csi| csi.get("controllerExpandSecretRef").is_some())
    };
    if was.contains_key("csi")
        && !told(&was)
        && let Some(csi) = is.get_mut("csi").and_then(Value::as_object_mut)
    {
        csi.remove("controllerExpandSecretRef");
    }
    if is != was {
        let path = Path::new("spec");
        let changed = changes::describe("spec", &is, &was);
        errors.forbidden(
            &path.child("persistentvolumesource"),
            format!("spec.persistentvolumesource is immutable after creation\n{changed}\n"),
        );
    }
    rules::immutable(&new.volume_mode, &old.volume_mode, &Path::new("volumeMode"), errors);
    if old.node_affinity.is_some() && with_new_labels(new) != with_new_labels(old) {
        let shown = serde_json::to_value(&new.node_affinity).unwrap_or_default();
        let detail = "field is immutable, except for updating from beta label to GA";
        errors.invalid(&Path::new("nodeAffinity"), shown, detail);
    }
    if old.volume_attributes_class_name.is_some() && new.volume_attributes_class_name.is_none() {
        let path = Path::new("spec");
        let detail = "update from non-nil value to nil is forbidden";
        errors.forbidden(&path.child("volumeAttributesClassName"), detail);
    }
}

/// The affinity with old labels of nodes replaced by the new ones, which is a change that is allowed.
fn with_new_labels(spec: &PersistentVolumeSpec) -> Option<VolumeNodeAffinity> {
    let mut affinity = spec.node_affinity.clone()?;
    let terms = affinity
        .required
        .iter_mut()
        .flat_map(|selector| &mut selector.node_selector_terms);
    for expression in terms.flat_map(|term| term.match_expressions.iter_mut().flatten()) {
        let key = match expression.key.as_str() {
            "beta.kubernetes.io/os" => "kubernetes.io/os",
            "beta.kubernetes.io/arch" => "kubernetes.io/arch",
            "failure-domain.beta.kubernetes.io/region" => "topology.kubernetes.io/region",
            "failure-domain.beta.kubernetes.io/zone" => "topology.kubernetes.io/zone",
            "beta.kubernetes.io/instance-type" => "node.kubernetes.io/instance-type",
            _ => continue,
        };
        key.clone_into(&mut expression.key);
    }
    Some(affinity)
}

fn warnings(object: &PersistentVolume) -> Vec<String> {
    let mut warnings = Vec::new();
    let annotations = object.metadata.annotations.as_ref();
    let has = |key: &str| annotations.is_some_and(|annotations| annotations.contains_key(key));
    if has(CLASS_ANNOTATION) {
        warnings.push(format!(
            r#"metadata.annotations[{CLASS_ANNOTATION}]: deprecated since v1.8; use "storageClassName" attribute instead"#
        ));
    }
    if has("volume.beta.kubernetes.io/mount-options") {
        warnings.push(
            r#"metadata.annotations[volume.beta.kubernetes.io/mount-options]: deprecated since v1.31; use "mountOptions" attribute instead"#
                .to_owned(),
        );
    }
    let Some(spec) = &object.spec else { return warnings };
    if spec.persistent_volume_reclaim_policy.as_deref() == Some("Recycle") {
        warnings.push(
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended \
             approach is to use dynamic provisioning."
                .to_owned(),
        );
    }
    let required = spec
        .node_affinity
        .as_ref()
        .and_then(|affinity| affinity.required.as_ref());
    for (index, term) in required
        .iter()
        .flat_map(|selector| &selector.node_selector_terms)
        .enumerate()
    {
        for (place, expression) in term.match_expressions.iter().flatten().enumerate() {
            if let Some(message) = deprecated_node_label(&expression.key) {
                warnings.push(format!(
                    "spec.nodeAffinity.required.nodeSelectorTerms[{index}].matchExpressions[{place}].key: {} is {message}",
                    expression.key
                ));
            }
        }
    }
    let old = [
        (
            spec.photon_persistent_disk.is_some(),
            "photonPersistentDisk",
            "deprecated in v1.11, non-functional in v1.16+",
        ),
        (
            spec.scale_io.is_some(),
            "scaleIO",
            "deprecated in v1.16, non-functional in v1.22+",
        ),
        (
            spec.storageos.is_some(),
            "storageOS",
            "deprecated in v1.22, non-functional in v1.25+",
        ),
        (
            spec.glusterfs.is_some(),
            "glusterfs",
            "deprecated in v1.25, non-functional in v1.26+",
        ),
        (
            spec.flocker.is_some(),
            "flocker",
            "deprecated in v1.22, non-functional in v1.25+",
        ),
        (
            spec.quobyte.is_some(),
            "quobyte",
            "deprecated in v1.22, non-functional in v1.25+",
        ),
        (
            spec.cephfs.is_some(),
            "cephfs",
            "deprecated in v1.28, non-functional in v1.31+",
        ),
        (
            spec.rbd.is_some(),
            "rbd",
            "deprecated in v1.28, non-functional in v1.31+",
        ),
    ];
    let old = old.into_iter().filter(|(set, _, _)| *set);
    warnings.extend(old.map(|(_, field, message)| format!("spec.{field}: {message}")));
    warnings
}
