//! CustomResourceDefinition: a kind, in data. What becomes of it when it is written is the server's part; here is what it may say.

use super::{conversion, names, normal, versions};
use crate::checks::{immutable, reset_metadata_for_status};
use crate::{Kind, STATUS, Subresource, differs, name};
use catamaran_api::field::{Errors, Path, quote};
use catamaran_api::structural::formats;
use catamaran_api::table::Column;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceConversion, CustomResourceDefinition, CustomResourceDefinitionCondition,
    CustomResourceDefinitionNames, CustomResourceDefinitionSpec, CustomResourceDefinitionStatus, JSONSchemaProps,
    JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeSet;

pub(crate) struct CustomResourceDefinitions;

/// Holds a definition until its instances are gone.
const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";
/// Kubernetes' own groups need approval.
const APPROVAL: &str = "api-approved.kubernetes.io";

impl Kind for CustomResourceDefinitions {
    type Object = CustomResourceDefinition;
    const NAMESPACED: bool = false;
    const SHORT_NAMES: &'static [&'static str] = &["crd", "crds"];
    const CATEGORIES: &'static [&'static str] = &["api-extensions"];
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];
    const UNCONDITIONAL_UPDATE: bool = false;

    fn default(&self, object: &mut CustomResourceDefinition) {
        let spec = &mut object.spec;
        normal::form(spec);
        if spec.names.singular.as_deref().unwrap_or_default().is_empty() {
            spec.names.singular = Some(spec.names.kind.to_lowercase());
        }
        if spec.names.list_kind.as_deref().unwrap_or_default().is_empty() && !spec.names.kind.is_empty() {
            spec.names.list_kind = Some(format!("{}List", spec.names.kind));
        }
        let conversion = spec.conversion.get_or_insert_with(|| CustomResourceConversion {
            strategy: "None".to_owned(),
            webhook: None,
        });
        let client = conversion
            .webhook
            .as_mut()
            .and_then(|webhook| webhook.client_config.as_mut());
        if let Some(service) = client.and_then(|client| client.service.as_mut()) {
            service.port.get_or_insert(443);
        }
    }

    fn prepare_create(&self, object: &mut CustomResourceDefinition) {
        object.status = Some(CustomResourceDefinitionStatus {
            accepted_names: Some(CustomResourceDefinitionNames::default()),
            ..CustomResourceDefinitionStatus::default()
        });
        remember_storage(object);
    }

    fn prepare_update(&self, new: &mut CustomResourceDefinition, old: &CustomResourceDefinition) {
        new.status.clone_from(&old.status);
        remember_storage(new);
    }

    fn prepare_status(&self, new: &mut CustomResourceDefinition, old: &CustomResourceDefinition) {
        new.spec.clone_from(&old.spec);
        reset_metadata_for_status(&mut new.metadata, &old.metadata);
    }

    fn spec_changed(&self, new: &CustomResourceDefinition, old: &CustomResourceDefinition) -> Option<bool> {
        differs(&new.spec, &old.spec)
    }

    fn validate(&self, object: &CustomResourceDefinition, errors: &mut Errors) {
        let spec = &object.spec;
        validate_spec(spec, errors);
        validate_status_names(object, errors);
        validate_stored_versions(object, errors);
    }

    /// What it is called is judged once, and first.
    fn validate_create(&self, object: &CustomResourceDefinition, errors: &mut Errors) {
        let wanted = format!("{}.{}", object.spec.names.plural, object.spec.group);
        let metadata = Path::new("metadata");
        let detail = "must be spec.names.plural+\".\"+spec.group";
        let mut first = Errors::new();
        if let Some(prefix) = object
            .metadata
            .generate_name
            .as_deref()
            .filter(|prefix| !prefix.is_empty())
            && prefix != wanted
        {
            first.invalid(&metadata.child("generateName"), prefix, detail);
        }
        let found = object.metadata.name.as_deref().unwrap_or_default();
        if found != wanted {
            first.invalid(&metadata.child("name"), found, detail);
        }
        first.extend(std::mem::take(errors));
        *errors = first;
    }

    fn validate_update(&self, new: &CustomResourceDefinition, old: &CustomResourceDefinition, errors: &mut Errors) {
        let spec = Path::new("spec");
        let names = spec.child("names");
        if is_true(old, "Established") {
            immutable(&new.spec.scope, &old.spec.scope, &spec.child("scope"), errors);
            immutable(&new.spec.names.kind, &old.spec.names.kind, &names.child("kind"), errors);
        }
        immutable(&new.spec.group, &old.spec.group, &spec.child("group"), errors);
        immutable(
            &new.spec.names.plural,
            &old.spec.names.plural,
            &names.child("plural"),
            errors,
        );
    }

    fn validate_status(&self, new: &CustomResourceDefinition, _old: &CustomResourceDefinition, errors: &mut Errors) {
        validate_status_names(new, errors);
        validate_stored_versions(new, errors);
    }

    fn warnings(&self, new: &CustomResourceDefinition, old: Option<&CustomResourceDefinition>) -> Vec<String> {
        let known: BTreeSet<String> = old.map(noticed).unwrap_or_default().into_iter().collect();
        noticed(new).into_iter().filter(|text| !known.contains(text)).collect()
    }

    /// The first deletion only begins one: instances go first.
    fn holds_deletion(&self, object: &CustomResourceDefinition) -> bool {
        object.metadata.deletion_timestamp.is_none()
    }

    fn mark_deleted(&self, object: &mut CustomResourceDefinition) {
        let finalizers = object.metadata.finalizers.get_or_insert_with(Vec::new);
        if !finalizers.iter().any(|finalizer| finalizer == CLEANUP) {
            finalizers.push(CLEANUP.to_owned());
        }
        let since = object.metadata.deletion_timestamp.clone();
        let status = object
            .status
            .get_or_insert_with(CustomResourceDefinitionStatus::default);
        let conditions = status.conditions.get_or_insert_with(Vec::new);
        conditions.retain(|condition| condition.type_ != "Terminating");
        conditions.push(CustomResourceDefinitionCondition {
            type_: "Terminating".to_owned(),
            status: "True".to_owned(),
            reason: Some("InstanceDeletionPending".to_owned()),
            message: Some(
                "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon".to_owned(),
            ),
            last_transition_time: since,
            ..CustomResourceDefinitionCondition::default()
        });
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            Column::NAME,
            Column::string("Created At", "When the definition was created."),
        ];
        COLUMNS
    }

    fn row(&self, object: &CustomResourceDefinition, _now: Timestamp) -> Vec<Value> {
        let created = object.metadata.creation_timestamp.as_ref();
        vec![
            name(&object.metadata),
            serde_json::to_value(created).unwrap_or_default(),
        ]
    }
}

/// Is a condition of the definition true?
fn is_true(object: &CustomResourceDefinition, condition: &str) -> bool {
    let conditions = object.status.as_ref().and_then(|status| status.conditions.as_deref());
    let mut conditions = conditions.unwrap_or_default().iter();
    conditions.any(|found| found.type_ == condition && found.status == "True")
}

/// What was ever stored stays listed until somebody has migrated it.
fn remember_storage(object: &mut CustomResourceDefinition) {
    let Some(storage) = object.spec.versions.iter().find(|version| version.storage) else {
        return;
    };
    let status = object
        .status
        .get_or_insert_with(CustomResourceDefinitionStatus::default);
    let stored = status.stored_versions.get_or_insert_with(Vec::new);
    if !stored.contains(&storage.name) {
        stored.push(storage.name.clone());
    }
}

fn validate_spec(spec: &CustomResourceDefinitionSpec, errors: &mut Errors) {
    let path = Path::new("spec");
    let group = path.child("group");
    let problems = catamaran_api::names::dns1123_subdomain(&spec.group);
    if spec.group.is_empty() {
        errors.required(&group, "");
    } else if !problems.is_empty() {
        errors.invalid(&group, spec.group.as_str(), problems.join(","));
    } else if !spec.group.contains('.') {
        errors.invalid(&group, spec.group.as_str(), "should be a domain with at least one dot");
    }
    let scope = path.child("scope");
    match spec.scope.as_str() {
        "" => errors.required(&scope, ""),
        "Cluster" | "Namespaced" => {}
        other => errors.not_supported(&scope, other, &["Cluster", "Namespaced"]),
    }
    versions::validate(&path, spec, errors);
    names::validate_required(&path.child("names"), &spec.names, errors);
    names::validate(&path.child("names"), &spec.names, errors);
    versions::validate_shared(&path, spec, errors);
    if let Some(conversion) = &spec.conversion {
        conversion::validate(&path.child("conversion"), conversion, errors);
    }
    if spec.preserve_unknown_fields == Some(true) {
        errors.invalid(
            &path.child("preserveUnknownFields"),
            true,
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
        );
    }
}

fn validate_status_names(object: &CustomResourceDefinition, errors: &mut Errors) {
    validate_approval(object, errors);
    let accepted = object.status.as_ref().and_then(|status| status.accepted_names.as_ref());
    if let Some(accepted) = accepted {
        let status = Path::new("status");
        names::validate(&status.child("acceptedNames"), accepted, errors);
    }
}

fn validate_stored_versions(object: &CustomResourceDefinition, errors: &mut Errors) {
    let status = Path::new("status");
    let path = status.child("storedVersions");
    let stored = object
        .status
        .as_ref()
        .and_then(|status| status.stored_versions.as_deref());
    let stored = stored.unwrap_or_default();
    if stored.is_empty() {
        errors.invalid(&path, Value::Null, "must have at least one stored version");
        return;
    }
    let versions = &object.spec.versions;
    if let Some(storage) = versions
        .iter()
        .find(|version| version.storage && !stored.contains(&version.name))
    {
        let detail = format!("must have the storage version {}", storage.name);
        errors.invalid(&path, stored.to_vec(), detail);
    }
    for (index, name) in stored.iter().enumerate() {
        if !versions.iter().any(|version| version.name == *name) {
            let detail = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until \
                 a storage migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"
            );
            errors.invalid(&path.index(index), name.as_str(), detail);
        }
    }
}

/// Groups of the Kubernetes community may be used with approval only.
fn validate_approval(object: &CustomResourceDefinition, errors: &mut Errors) {
    let group = &object.spec.group;
    let is_protected = ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|domain| group == domain || group.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')));
    if !is_protected {
        return;
    }
    let metadata = Path::new("metadata");
    let annotations = metadata.child("annotations");
    let path = annotations.key(APPROVAL);
    let annotation = object.metadata.annotations.as_ref().and_then(|all| all.get(APPROVAL));
    let annotation = annotation.map_or("", String::as_str);
    let more = "see https://github.com/kubernetes/enhancements/pull/1111";
    let is_url = annotation
        .split_once("://")
        .is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty() && !rest.starts_with('/'));
    if annotation.is_empty() {
        let detail = format!(
            "protected groups must have approval annotation {}, {more}",
            quote(APPROVAL)
        );
        errors.required(&path, detail);
    } else if !annotation.starts_with("unapproved") && !is_url {
        let detail = format!(
            "protected groups must have approval annotation {} with either a URL or a reason starting with \"unapproved\", {more}",
            quote(APPROVAL)
        );
        errors.invalid(&path, annotation, detail);
    }
}

/// What is accepted but will not do what it says: formats of texts that nobody knows.
fn noticed(object: &CustomResourceDefinition) -> Vec<String> {
    let mut texts = Vec::new();
    for version in &object.spec.versions {
        let schema = version
            .schema
            .as_ref()
            .and_then(|schema| schema.open_api_v3_schema.as_ref());
        if let Some(schema) = schema {
            visit(schema, &mut |schema| {
                if let Some(format) = schema.format.as_deref().filter(|format| !format.is_empty()) {
                    let is_text = schema.type_.as_deref() == Some("string");
                    let known = !is_text || formats::is_known(format);
                    let text = format!("unrecognized format {}", quote(format));
                    if !known && !texts.contains(&text) {
                        texts.push(text);
                    }
                }
            });
        }
    }
    texts
}

/// Calls for a schema and everything below it.
pub(super) fn visit(schema: &JSONSchemaProps, see: &mut impl FnMut(&JSONSchemaProps)) {
    see(schema);
    match &schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => visit(items, see),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter().for_each(|items| visit(items, see)),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &schema.additional_properties {
        visit(values, see);
    }
    for property in schema.properties.iter().flat_map(|properties| properties.values()) {
        visit(property, see);
    }
    for parts in [&schema.all_of, &schema.any_of, &schema.one_of] {
        parts.iter().flatten().for_each(|part| visit(part, see));
    }
    if let Some(not) = &schema.not {
        visit(not, see);
    }
}
