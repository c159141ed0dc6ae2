//! VolumeAttachment: a volume shall be attached to a node, or is.

use crate::checks::{csi_driver_name, reset_metadata_for_status, shown};
use crate::core::persistentvolumes::default_source;
use crate::{Kind, STATUS, Subresource, age, name};
use catamaran_api::table::Column;
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::storage::v1::{VolumeAttachment, VolumeAttachmentSource, VolumeAttachmentStatus, VolumeError};
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

pub(crate) struct VolumeAttachments;

/// What a driver may leave in `attachmentMetadata`, in bytes.
const MAX_METADATA: usize = 256 * 1024;
const MAX_MESSAGE: usize = 1024;

impl Kind for VolumeAttachments {
    type Object = VolumeAttachment;
    const NAMESPACED: bool = false;
    const UNCONDITIONAL_UPDATE: bool = false;
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];

    fn default(&self, object: &mut VolumeAttachment) {
        if let Some(spec) = &mut object.spec.source.inline_volume_spec {
            default_source(spec);
        }
    }

    fn prepare_create(&self, object: &mut VolumeAttachment) {
        object.status = Some(VolumeAttachmentStatus::default());
    }

    fn prepare_update(&self, new: &mut VolumeAttachment, old: &VolumeAttachment) {
        new.status.clone_from(&old.status);
    }

    fn prepare_status(&self, new: &mut VolumeAttachment, old: &VolumeAttachment) {
        new.spec.clone_from(&old.spec);
        reset_metadata_for_status(&mut new.metadata, &old.metadata);
    }

    fn validate(&self, object: &VolumeAttachment, errors: &mut Errors) {
        let path = Path::new("spec");
        if object.spec.attacher.is_empty() {
            errors.required(&path.child("attacher"), "");
        }
        validate_source(&object.spec.source, &path.child("source"), errors);
        let node = &object.spec.node_name;
        errors.invalid_each(&path.child("nodeName"), node, names::dns1123_subdomain(node));
        validate_status(object, errors);
        csi_driver_name(&object.spec.attacher, &path.child("attacher"), errors);
        if let Some(volume) = &object.spec.source.persistent_volume_name {
            let at = path.child("source");
            let at = at.child("persistentVolumeName");
            errors.invalid_each(&at, volume, names::dns1123_subdomain(volume));
        }
    }

    fn validate_update(&self, new: &VolumeAttachment, old: &VolumeAttachment, errors: &mut Errors) {
        if new.spec != old.spec {
            errors.invalid(&Path::new("spec"), shown(&new.spec), "field is immutable");
        }
    }

    fn validate_status(&self, new: &VolumeAttachment, _old: &VolumeAttachment, errors: &mut Errors) {
        validate_status(new, errors);
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            Column::NAME,
            Column::string("Attacher", "The driver that attaches the volume.").of_format("name"),
            Column::string("PV", "The volume."),
            Column::string("Node", "The node it is attached to."),
            Column::boolean("Attached", "Whether it is attached."),
            Column::AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &VolumeAttachment, now: Timestamp) -> Vec<Value> {
        let spec = &object.spec;
        vec![
            name(&object.metadata),
            spec.attacher.clone().into(),
            spec.source.persistent_volume_name.clone().unwrap_or_default().into(),
            spec.node_name.clone().into(),
            object.status.as_ref().is_some_and(|status| status.attached).into(),
            age(&object.metadata, now),
        ]
    }
}

fn validate_source(source: &VolumeAttachmentSource, path: &Path<'_>, errors: &mut Errors) {
    const EXACTLY_ONE: &str = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (&source.inline_volume_spec, &source.persistent_volume_name) {
        (None, None) => errors.required(path, EXACTLY_ONE),
        (Some(_), Some(_)) => errors.forbidden(path, EXACTLY_ONE),
        (None, Some(name)) if name.is_empty() => {
            let detail = "must specify non empty persistentVolumeName";
            errors.required(&path.child("persistentVolumeName"), detail);
        }
        _ => {}
    }
}

fn validate_status(object: &VolumeAttachment, errors: &mut Errors) {
    let Some(status) = &object.status else { return };
    let path = Path::new("status");
    let metadata = status.attachment_metadata.iter().flatten();
    if metadata.map(|(key, value)| key.len() + value.len()).sum::<usize>() > MAX_METADATA {
        errors.too_long(&path.child("attachmentMetadata"), MAX_METADATA);
    }
    validate_error(status.attach_error.as_ref(), &path.child("attachError"), errors);
    validate_error(status.detach_error.as_ref(), &path.child("detachError"), errors);
}

fn validate_error(error: Option<&VolumeError>, path: &Path<'_>, errors: &mut Errors) {
    let Some(error) = error else { return };
    if error
        .message
        .as_ref()
        .is_some_and(|message| message.len() > MAX_MESSAGE)
    {
        // The number is the one Kubernetes names, although it compares with another.
        errors.too_long(&path.child("message"), MAX_METADATA);
    }
    if let Some(code) = error.error_code.filter(|code| *code < 0) {
        let detail = names::inclusive_range(0, i32::MAX.into());
        errors.invalid(&path.child("errorCode"), code, detail);
    }
}
