//! CSIDriver: what the cluster has to know about a driver for volumes.

use crate::checks::immutable;
use crate::{Kind, age, name};
use catamaran_api::table::Column;
use catamaran_api::{Errors, Path};
use k8s_openapi::api::storage::v1::{CSIDriver, CSIDriverSpec, TokenRequest};
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

pub(crate) struct CsiDrivers;

impl Kind for CsiDrivers {
    type Object = CSIDriver;
    const NAMESPACED: bool = false;
    const UNCONDITIONAL_UPDATE: bool = false;

    fn default(&self, object: &mut CSIDriver) {
        let spec = &mut object.spec;
        spec.attach_required.get_or_insert(true);
        spec.pod_info_on_mount.get_or_insert(false);
        spec.storage_capacity.get_or_insert(false);
        spec.fs_group_policy
            .get_or_insert_with(|| "ReadWriteOnceWithFSType".to_owned());
        let modes = spec.volume_lifecycle_modes.get_or_insert_default();
        if modes.is_empty() {
            modes.push("Persistent".to_owned());
        }
        spec.requires_republish.get_or_insert(false);
        spec.se_linux_mount.get_or_insert(false);
    }

    fn validate(&self, object: &CSIDriver, errors: &mut Errors) {
        let path = Path::new("spec");
        let spec = &object.spec;
        let policy = spec.fs_group_policy.as_deref().unwrap_or("None");
        let policies = ["File", "None", "ReadWriteOnceWithFSType"];
        if !policies.contains(&policy) {
            errors.not_supported(&path.child("fsGroupPolicy"), policy, &policies);
        }
        let requests = spec.token_requests.as_deref().unwrap_or_default();
        validate_token_requests(requests, &path.child("tokenRequests"), errors);
        for mode in spec.volume_lifecycle_modes.iter().flatten() {
            if !matches!(mode.as_str(), "Persistent" | "Ephemeral") {
                let supported = ["Persistent", "Ephemeral"];
                errors.not_supported(&path.child("volumeLifecycleModes"), mode.as_str(), &supported);
            }
        }
        if let Some(seconds) = spec
            .node_allocatable_update_period_seconds
            .filter(|seconds| *seconds < 10)
        {
            let at = path.child("nodeAllocatableUpdatePeriodSeconds");
            errors.invalid(&at, seconds, "must be greater than or equal to 10 seconds");
        }
        if let Some(in_secrets) = spec.service_account_token_in_secrets
            && requests.is_empty()
        {
            let at = path.child("serviceAccountTokenInSecrets");
            errors.invalid(&at, in_secrets, "must be unset if tokenRequests is unset or empty");
        }
    }

    fn validate_update(&self, new: &CSIDriver, old: &CSIDriver, errors: &mut Errors) {
        let path = Path::new("spec");
        let (new, old) = (&new.spec, &old.spec);
        let at = path.child("attachedRequired");
        immutable(&new.attach_required, &old.attach_required, &at, errors);
        let at = path.child("volumeLifecycleModes");
        immutable(&new.volume_lifecycle_modes, &old.volume_lifecycle_modes, &at, errors);
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            Column::NAME,
            Column::boolean(
                "AttachRequired",
                "Whether volumes are attached to nodes before they are mounted.",
            ),
            Column::boolean(
                "PodInfoOnMount",
                "Whether the driver is told which pod a volume is for.",
            ),
            Column::boolean(
                "StorageCapacity",
                "Whether the scheduler looks at the capacity the driver reports.",
            ),
            Column::string("TokenRequests", "Audiences of the tokens the driver gets."),
            Column::boolean(
                "RequiresRepublish",
                "Whether the driver is called again and again while a volume is mounted.",
            ),
            Column::string("Modes", "Kinds of volumes the driver can make."),
            Column::AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &CSIDriver, now: Timestamp) -> Vec<Value> {
        let spec = &object.spec;
        vec![
            name(&object.metadata),
            spec.attach_required.unwrap_or(true).into(),
            spec.pod_info_on_mount.unwrap_or_default().into(),
            spec.storage_capacity.unwrap_or_default().into(),
            audiences(spec).into(),
            spec.requires_republish.unwrap_or_default().into(),
            modes(spec).into(),
            age(&object.metadata, now),
        ]
    }
}

fn audiences(spec: &CSIDriverSpec) -> String {
    match &spec.token_requests {
        None => "<unset>".to_owned(),
        Some(requests) => {
            let audiences: Vec<&str> = requests.iter().map(|request| request.audience.as_str()).collect();
            audiences.join(",")
        }
    }
}

fn modes(spec: &CSIDriverSpec) -> String {
    match spec.volume_lifecycle_modes.as_deref() {
        None | Some([]) => "<none>".to_owned(),
        Some(modes) => modes.join(","),
    }
}

fn validate_token_requests(requests: &[TokenRequest], path: &Path<'_>, errors: &mut Errors) {
    for (index, request) in requests.iter().enumerate() {
        let at = path.index(index);
        if requests[..index].iter().any(|other| other.audience == request.audience) {
            errors.duplicate(&at.child("audience"), request.audience.as_str());
            continue;
        }
        let Some(seconds) = request.expiration_seconds else {
            continue;
        };
        if seconds < 600 {
            let detail = "may not specify a duration less than 10 minutes";
            errors.invalid(&at.child("expirationSeconds"), seconds, detail);
        }
        if seconds > 1 << 32 {
            let detail = "may not specify a duration larger than 2^32 seconds";
            errors.invalid(&at.child("expirationSeconds"), seconds, detail);
        }
    }
}
