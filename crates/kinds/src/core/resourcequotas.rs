//! ResourceQuota: how much a namespace may use in all.

use crate::core::amounts;
use crate::{Kind, STATUS, Subresource, age, name, rules};
use catamaran_api::table::Column;
use catamaran_api::{Errors, Path};
use k8s_openapi::api::core::v1::{
    ResourceQuota, ResourceQuotaSpec, ResourceQuotaStatus, ScopedResourceSelectorRequirement,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Amount;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

pub(crate) struct ResourceQuotas;

impl Kind for ResourceQuotas {
    type Object = ResourceQuota;
    const NAMESPACED: bool = true;
    const SHORT_NAMES: &'static [&'static str] = &["quota"];
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];

    fn default(&self, object: &mut ResourceQuota) {
        object.spec.get_or_insert_default();
    }

    fn prepare_create(&self, object: &mut ResourceQuota) {
        object.status = Some(ResourceQuotaStatus::default());
    }

    fn prepare_update(&self, new: &mut ResourceQuota, old: &ResourceQuota) {
        new.status.clone_from(&old.status);
    }

    fn prepare_status(&self, new: &mut ResourceQuota, old: &ResourceQuota) {
        new.spec.clone_from(&old.spec);
    }

    fn validate(&self, object: &ResourceQuota, errors: &mut Errors) {
        if let Some(spec) = &object.spec {
            self::spec(spec, &Path::new("spec"), errors);
        }
    }

    fn validate_update(&self, new: &ResourceQuota, old: &ResourceQuota, errors: &mut Errors) {
        let scopes = |quota: &ResourceQuota| -> Vec<String> {
            let spec = quota.spec.as_ref();
            spec.and_then(|spec| spec.scopes.clone()).unwrap_or_default()
        };
        let set = |quota: &ResourceQuota| scopes(quota).into_iter().collect::<BTreeSet<_>>();
        if set(new) != set(old) {
            errors.invalid(&Path::new("spec").child("scopes"), scopes(new), rules::IMMUTABLE);
        }
    }

    fn validate_status(&self, new: &ResourceQuota, _old: &ResourceQuota, errors: &mut Errors) {
        let Some(status) = &new.status else { return };
        let path = Path::new("status");
        counted(status.hard.as_ref(), &path.child("hard"), errors);
        counted(status.used.as_ref(), &path.child("used"), errors);
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            Column::NAME,
            Column::string("Request", "What is used of what may be requested."),
            Column::string("Limit", "What is used of what limits may sum up to."),
            Column::AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &ResourceQuota, now: Timestamp) -> Vec<Value> {
        let no_status = ResourceQuotaStatus::default();
        let status = object.status.as_ref().unwrap_or(&no_status);
        let (mut requests, mut limits) = (Vec::new(), Vec::new());
        for (resource, hard) in status.hard.iter().flatten() {
            let used = status.used.as_ref().and_then(|used| used.get(resource));
            let used = used.map_or("0", |used| used.0.as_str());
            let list = if resource.starts_with("limits.") {
                &mut limits
            } else {
                &mut requests
            };
            list.push(format!("{resource}: {used}/{}", hard.0));
        }
        vec![
            name(&object.metadata),
            requests.join(", ").into(),
            limits.join(", ").into(),
            age(&object.metadata, now),
        ]
    }
}

fn counted(amounts: Option<&BTreeMap<String, Amount>>, path: &Path<'_>, errors: &mut Errors) {
    for (resource, amount) in amounts.into_iter().flatten() {
        let at = path.key(resource);
        amounts::quota_resource(resource, &at, errors);
        amounts::value(resource, amount, &at, errors);
    }
}

const SCOPES: &[&str] = &[
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "VolumeAttributesClass",
    "CrossNamespacePodAffinity",
];

/// Can a scope narrow what is counted of this?
fn fits(scope: &str, resource: &str) -> bool {
    let pods = resource == "pods";
    let compute = matches!(
        resource,
        "cpu" | "memory" | "limits.cpu" | "limits.memory" | "requests.cpu" | "requests.memory"
    );
    match scope {
        "BestEffort" => pods,
        "VolumeAttributesClass" => matches!(resource, "persistentvolumeclaims" | "requests.storage"),
        "Terminating" | "NotTerminating" | "NotBestEffort" | "PriorityClass" | "CrossNamespacePodAffinity" => {
            pods || compute
        }
        _ => true,
    }
}

fn spec(spec: &ResourceQuotaSpec, path: &Path<'_>, errors: &mut Errors) {
    counted(spec.hard.as_ref(), &path.child("hard"), errors);
    let hard: Vec<&String> = spec.hard.iter().flatten().map(|(resource, _)| resource).collect();
    let misfits = |scope: &str| {
        let counted = hard.iter().filter(|resource| amounts::is_counted(resource));
        counted.filter(|resource| !fits(scope, resource)).count()
    };
    let scopes = spec.scopes.as_deref().unwrap_or_default();
    let at = path.child("scopes");
    for scope in scopes {
        if !SCOPES.contains(&scope.as_str()) {
            errors.invalid(&at, scopes.to_vec(), "unsupported scope");
        }
        for _ in 0..misfits(scope) {
            errors.invalid(&at, scopes.to_vec(), "unsupported scope applied to resource");
        }
    }
    conflicting(scopes.iter().map(String::as_str), scopes, &at, errors);
    let Some(selector) = &spec.scope_selector else { return };
    let requirements = selector.match_expressions.as_deref().unwrap_or_default();
    let at = path.child("scopeSelector");
    let at = at.child("matchExpressions");
    for requirement in requirements {
        let scope = requirement.scope_name.as_str();
        if !SCOPES.contains(&scope) {
            errors.invalid(&at.child("scopeName"), scope, "unsupported scope");
        }
        for _ in 0..misfits(scope) {
            let shown = serde_json::to_value(selector).unwrap_or_default();
            errors.invalid(&at, shown, "unsupported scope applied to resource");
        }
        self::requirement(requirement, &at, errors);
    }
    let named = requirements.iter().map(|requirement| requirement.scope_name.as_str());
    conflicting(named, scopes, &at, errors);
}

fn conflicting<'s>(scopes: impl Iterator<Item = &'s str>, shown: &[String], path: &Path<'_>, errors: &mut Errors) {
    let scopes: BTreeSet<&str> = scopes.collect();
    for (one, other) in [("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")] {
        if scopes.contains(one) && scopes.contains(other) {
            errors.invalid(path, shown.to_vec(), "conflicting scopes");
        }
    }
}

fn requirement(requirement: &ScopedResourceSelectorRequirement, path: &Path<'_>, errors: &mut Errors) {
    let operator = requirement.operator.as_str();
    let only_exists = [
        "BestEffort",
        "NotBestEffort",
        "Terminating",
        "NotTerminating",
        "CrossNamespacePodAffinity",
    ];
    if only_exists.contains(&requirement.scope_name.as_str()) && operator != "Exists" {
        errors.invalid(
            &path.child("operator"),
            operator,
            "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, \
             ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity",
        );
    }
    let values = requirement.values.as_deref().unwrap_or_default();
    match operator {
        "In" | "NotIn" if values.is_empty() => errors.required(
            &path.child("values"),
            "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
        ),
        "Exists" | "DoesNotExist" if !values.is_empty() => errors.invalid(
            &path.child("values"),
            values.to_vec(),
            "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
        ),
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
    }
}
