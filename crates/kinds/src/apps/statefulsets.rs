//! StatefulSet: numbered pods that keep their names and their storage.

use crate::core::persistentvolumeclaims;
use crate::core::pods::template;
use crate::defaulting::{given, text};
use crate::{Kind, SCALE, STATUS, Subresource, age, cells, differs, name, rules};
use catamaran_api::table::Column;
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::apps::v1::{
    RollingUpdateStatefulSetStrategy, StatefulSet, StatefulSetSpec, StatefulSetStatus, StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{PersistentVolumeClaimVolumeSource, Volume};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

pub(crate) struct StatefulSets;

impl Kind for StatefulSets {
    type Object = StatefulSet;
    const NAMESPACED: bool = true;
    const SHORT_NAMES: &'static [&'static str] = &["sts"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[SCALE, STATUS];
    const NAME_RULE: crate::NameRule = names::dns1123_label;

    fn default(&self, object: &mut StatefulSet) {
        let spec = object.spec.get_or_insert_default();
        template::default(&mut spec.template);
        text(&mut spec.pod_management_policy, "OrderedReady");
        let strategy = spec.update_strategy.get_or_insert_default();
        if given(strategy.type_.as_ref()).is_none() {
            strategy.rolling_update.get_or_insert_default();
        }
        text(&mut strategy.type_, "RollingUpdate");
        if let Some(rolling) = &mut strategy.rolling_update
            && strategy.type_.as_deref() == Some("RollingUpdate")
        {
            rolling.partition.get_or_insert(0);
            rolling.max_unavailable.get_or_insert(IntOrString::Int(1));
        }
        let policy = spec.persistent_volume_claim_retention_policy.get_or_insert_default();
        text(&mut policy.when_deleted, "Retain");
        text(&mut policy.when_scaled, "Retain");
        spec.replicas.get_or_insert(1);
        spec.revision_history_limit.get_or_insert(10);
        for claim in spec.volume_claim_templates.iter_mut().flatten() {
            persistentvolumeclaims::default(claim);
        }
    }

    fn prepare_create(&self, object: &mut StatefulSet) {
        object.status = Some(StatefulSetStatus {
            available_replicas: Some(0),
            ..Default::default()
        });
    }

    fn prepare_update(&self, new: &mut StatefulSet, old: &StatefulSet) {
        new.status.clone_from(&old.status);
    }

    fn prepare_status(&self, new: &mut StatefulSet, old: &StatefulSet) {
        new.spec.clone_from(&old.spec);
    }

    fn spec_changed(&self, new: &StatefulSet, old: &StatefulSet) -> Option<bool> {
        differs(&new.spec, &old.spec)
    }

    fn validate(&self, object: &StatefulSet, errors: &mut Errors) {
        let no_spec = StatefulSetSpec::default();
        spec(object.spec.as_ref().unwrap_or(&no_spec), &Path::new("spec"), errors);
    }

    fn validate_update(&self, new: &StatefulSet, old: &StatefulSet, errors: &mut Errors) {
        let (Some(new), Some(old)) = (&new.spec, &old.spec) else {
            return;
        };
        let with_allowed_changes = StatefulSetSpec {
            replicas: old.replicas,
            ordinals: old.ordinals.clone(),
            template: old.template.clone(),
            update_strategy: old.update_strategy.clone(),
            persistent_volume_claim_retention_policy: old.persistent_volume_claim_retention_policy.clone(),
            min_ready_seconds: old.min_ready_seconds,
            revision_history_limit: old.revision_history_limit,
            ..new.clone()
        };
        if with_allowed_changes != *old {
            errors.forbidden(
                &Path::new("spec"),
                "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', \
                 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
            );
        }
    }

    fn validate_status(&self, new: &StatefulSet, old: &StatefulSet, errors: &mut Errors) {
        let none = StatefulSetStatus::default();
        let (new, old) = (
            new.status.as_ref().unwrap_or(&none),
            old.status.as_ref().unwrap_or(&none),
        );
        status(new, old, &Path::new("status"), errors);
    }

    fn warnings(&self, new: &StatefulSet, old: Option<&StatefulSet>) -> Vec<String> {
        if old.is_some_and(|old| old.spec == new.spec) {
            return Vec::new();
        }
        let Some(spec) = &new.spec else { return Vec::new() };
        let path = Path::new("spec");
        let mut warnings = template::warn(&spec.template, &path.child("template"));
        let list = path.child("volumeClaimTemplates");
        for (index, claim) in spec.volume_claim_templates.iter().flatten().enumerate() {
            if let Some(spec) = &claim.spec {
                warnings.extend(persistentvolumeclaims::warn_about_spec(spec, &list.index(index)));
            }
        }
        if spec.revision_history_limit.is_some_and(|limit| limit < 0) {
            warnings.push(
                "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended"
                    .to_owned(),
            );
        }
        warnings
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            Column::NAME,
            Column::string("Ready", "Pods that are ready, of all that should be."),
            Column::AGE,
            cells::CONTAINERS,
            cells::IMAGES,
        ];
        COLUMNS
    }

    fn row(&self, object: &StatefulSet, now: Timestamp) -> Vec<Value> {
        let (no_spec, no_status) = (StatefulSetSpec::default(), StatefulSetStatus::default());
        let spec = object.spec.as_ref().unwrap_or(&no_spec);
        let status = object.status.as_ref().unwrap_or(&no_status);
        let [names, images] = cells::names_and_images(cells::containers(Some(&spec.template)));
        vec![
            name(&object.metadata),
            format!("{}/{}", status.ready_replicas.unwrap_or(0), spec.replicas.unwrap_or(0)).into(),
            age(&object.metadata, now),
            names.into(),
            images.into(),
        ]
    }
}

fn spec(spec: &StatefulSetSpec, path: &Path<'_>, errors: &mut Errors) {
    let at = path.child("podManagementPolicy");
    match spec.pod_management_policy.as_deref().unwrap_or_default() {
        "" => errors.required(&at, ""),
        "OrderedReady" | "Parallel" => {}
        other => errors.invalid(&at, other, "must be 'OrderedReady' or 'Parallel'"),
    }
    let no_strategy = StatefulSetUpdateStrategy::default();
    let strategy = spec.update_strategy.as_ref().unwrap_or(&no_strategy);
    update_strategy(strategy, &path.child("updateStrategy"), errors);
    if let Some(policy) = &spec.persistent_volume_claim_retention_policy {
        let at = path.child("persistentVolumeClaimRetentionPolicy");
        for (field, value) in [
            ("whenDeleted", &policy.when_deleted),
            ("whenScaled", &policy.when_scaled),
        ] {
            let value = Some(value.as_deref().unwrap_or_default());
            rules::one_of(value, &["Retain", "Delete"], &at.child(field), errors);
        }
    }
    rules::nonnegative_fields(
        [
            ("replicas", spec.replicas.map(i64::from)),
            ("minReadySeconds", spec.min_ready_seconds.map(i64::from)),
            (
                "ordinals.start",
                spec.ordinals
                    .as_ref()
                    .and_then(|ordinals| ordinals.start)
                    .map(i64::from),
            ),
        ],
        path,
        errors,
    );
    if let Some(service) = given(spec.service_name.as_ref()) {
        errors.invalid_each(&path.child("serviceName"), service, names::dns1035_label(service));
    }
    template::validate_selector(&spec.selector, &spec.template, path, errors);
    let at = path.child("template");
    template::validate_with_volumes(&spec.template, &claimed_volumes(spec), &at, errors);
    template::validate_endless(&spec.template, "StatefulSet", &at, errors);
    let list = path.child("volumeClaimTemplates");
    for (index, claim) in spec.volume_claim_templates.iter().flatten().enumerate() {
        if let Some(spec) = &claim.spec {
            persistentvolumeclaims::validate_spec(spec, &list.index(index).child("spec"), errors);
        }
    }
}

/// Every claim in the set is a volume of each of its pods, and hides one of that name in the template.
fn claimed_volumes(spec: &StatefulSetSpec) -> Vec<Volume> {
    let own = spec.template.spec.as_ref().and_then(|spec| spec.volumes.as_deref());
    let own: Vec<&str> = own
        .unwrap_or_default()
        .iter()
        .map(|volume| volume.name.as_str())
        .collect();
    let claims = spec.volume_claim_templates.iter().flatten();
    let names = claims.filter_map(|claim| given(claim.metadata.name.as_ref()));
    names
        .filter(|name| !own.contains(name))
        .map(|name| Volume {
            name: name.to_owned(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: name.to_owned(),
                read_only: None,
            }),
            ..Default::default()
        })
        .collect()
}

fn update_strategy(strategy: &StatefulSetUpdateStrategy, path: &Path<'_>, errors: &mut Errors) {
    let shown = || serde_json::to_value(strategy).unwrap_or_default();
    match (strategy.type_.as_deref().unwrap_or_default(), &strategy.rolling_update) {
        ("", _) => errors.required(path, ""),
        ("OnDelete", Some(rolling)) => {
            let shown = serde_json::to_value(rolling).unwrap_or_default();
            let detail = "only allowed for updateStrategy 'RollingUpdate'";
            errors.invalid(&path.child("rollingUpdate"), shown, detail);
        }
        ("RollingUpdate", Some(rolling)) => rolling_update(rolling, &path.child("rollingUpdate"), errors),
        ("OnDelete" | "RollingUpdate", None) => {}
        _ => errors.invalid(path, shown(), "must be 'RollingUpdate' or 'OnDelete'"),
    }
}

fn rolling_update(rolling: &RollingUpdateStatefulSetStrategy, path: &Path<'_>, errors: &mut Errors) {
    rules::nonnegative_fields([("partition", rolling.partition.map(i64::from))], path, errors);
    let at = path.child("maxUnavailable");
    if let Some(unavailable) = &rolling.max_unavailable {
        rules::int_or_percent(unavailable, &at, errors);
        if rules::int_or_percent_value(unavailable) == 0 {
            errors.invalid(&at, rules::shown(unavailable), "cannot be 0");
        }
        rules::at_most_100_percent(unavailable, &at, errors);
    }
}

fn status(status: &StatefulSetStatus, old: &StatefulSetStatus, path: &Path<'_>, errors: &mut Errors) {
    let parts = [
        ("readyReplicas", status.ready_replicas),
        ("currentReplicas", status.current_replicas),
        ("updatedReplicas", status.updated_replicas),
        ("availableReplicas", status.available_replicas),
    ];
    rules::nonnegative(status.replicas, &path.child("replicas"), errors);
    rules::nonnegative_fields(parts.map(|(field, count)| (field, count.map(i64::from))), path, errors);
    rules::nonnegative_fields(
        [
            ("observedGeneration", status.observed_generation),
            ("collisionCount", status.collision_count.map(i64::from)),
        ],
        path,
        errors,
    );
    for (field, count) in parts {
        if let Some(count) = count.filter(|count| *count > status.replicas) {
            errors.invalid(&path.child(field), count, "cannot be greater than status.replicas");
        }
    }
    let available = status.available_replicas.unwrap_or(0);
    if available > status.ready_replicas.unwrap_or(0) {
        let detail = "cannot be greater than status.readyReplicas";
        errors.invalid(&path.child("availableReplicas"), available, detail);
    }
    let at = path.child("collisionCount");
    rules::not_decremented(status.collision_count, old.collision_count, &at, errors);
}
