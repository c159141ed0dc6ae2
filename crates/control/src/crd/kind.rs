//! One version of a defined kind, behind the trait the registry works with.

use super::columns::Columns;
use super::object::Custom;
use crate::kinds::{ErasedKind, FieldSelector, Hub, Info, Object, SCALE, STATUS, ScalePaths, SelectorPath};
use catamaran_api::field::{Errors, FieldError, Path, Reason};
use catamaran_api::schema::Schemas;
use catamaran_api::structural::{self, Schema};
use catamaran_api::table::Column;
use catamaran_cel::Budget;
use catamaran_cel::rules::RuleSet;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionSpec, CustomResourceDefinitionVersion,
    CustomResourceSubresourceScale,
};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use std::any::Any;
use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

/// A version of a kind that a definition defines.
pub(super) struct DefinedKind {
    info: Info,
    api_version: String,
    schema: Option<Schema>,
    /// The schema as it is published.
    openapi: Value,
    schemas: Option<Arc<Schemas>>,
    /// Compiled with the first object.
    rules: OnceLock<Option<RuleSet>>,
    columns: Columns,
    has_status: bool,
    scale: Option<CustomResourceSubresourceScale>,
}

impl DefinedKind {
    /// `None` if the schema cannot be used, which validation does not let happen.
    pub(super) fn new(
        definition: &CustomResourceDefinition,
        version: &CustomResourceDefinitionVersion,
    ) -> Option<Self> {
        let spec = &definition.spec;
        // Names that are not accepted (yet) are not served.
        let accepted = definition
            .status
            .as_ref()
            .and_then(|status| status.accepted_names.as_ref());
        let names = accepted.unwrap_or(&spec.names);
        let props = version
            .schema
            .as_ref()
            .and_then(|schema| schema.open_api_v3_schema.as_ref());
        let schema = match props {
            None => None,
            Some(props) => Some(Schema::new(props).ok()?),
        };
        let published = props.and_then(|props| serde_json::to_value(props).ok());
        let schemas = published
            .as_ref()
            .map(|openapi| Arc::new(Schemas::from_openapi(openapi)));
        let openapi =
            published.unwrap_or_else(|| json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true }));
        let subresources = version.subresources.as_ref();
        let has_status = subresources.is_some_and(|subresources| subresources.status.is_some());
        let scale = subresources.and_then(|subresources| subresources.scale.clone());
        let mut paths = Vec::new();
        paths.extend(has_status.then_some(STATUS));
        paths.extend(scale.as_ref().map(|_| SCALE));
        let selectable = version.selectable_fields.iter().flatten().map(|field| {
            let segments = structural::paths::segments(&field.json_path);
            FieldSelector {
                label: Cow::Owned(segments.join(".")),
                path: Cow::Owned(segments.join(".")),
                absent: Cow::Borrowed(""),
            }
        });
        let owned = |texts: &Option<Vec<String>>| texts.iter().flatten().cloned().map(Cow::Owned).collect();
        let deprecation = (version.deprecated == Some(true)).then(|| {
            let default = || default_deprecation(spec, &version.name, &names.kind);
            Cow::Owned(version.deprecation_warning.clone().unwrap_or_else(default))
        });
        let info = Info {
            group: Cow::Owned(spec.group.clone()),
            version: Cow::Owned(version.name.clone()),
            kind: Cow::Owned(names.kind.clone()),
            plural: Cow::Owned(names.plural.clone()),
            singular: names.singular.clone().unwrap_or_default(),
            namespaced: spec.scope == "Namespaced",
            list_kind: Cow::Owned(names.list_kind.clone().unwrap_or_else(|| format!("{}List", names.kind))),
            short_names: owned(&names.short_names),
            categories: owned(&names.categories),
            subresources: paths,
            field_selectors: selectable.collect(),
            unconditional_update: false,
            create_on_update: false,
            deprecation,
            name_rule: catamaran_api::names::dns1123_subdomain,
            schema: Cow::Owned(schema_name(&spec.group, &version.name, &names.kind)),
        };
        Some(DefinedKind {
            api_version: info.api_version(),
            info,
            schema,
            openapi,
            schemas,
            rules: OnceLock::new(),
            columns: Columns::of(version),
            has_status,
            scale,
        })
    }

    pub(super) fn schemas(&self) -> Option<Arc<Schemas>> {
        self.schemas.clone()
    }

    fn rules(&self) -> Option<&RuleSet> {
        let compile = || self.schema.as_ref().and_then(|schema| RuleSet::new(schema, true));
        self.rules.get_or_init(compile).as_ref()
    }

    fn check(&self, new: &Custom, old: Option<&Custom>, errors: &mut Errors) {
        let document = new.document();
        let before = old.map(Custom::document);
        let mut found = Errors::new();
        let Some(schema) = &self.schema else {
            return self.check_scale(&document, errors);
        };
        structural::validate(&Path::ROOT, schema, &document, before.as_ref(), &mut found);
        self.check_scale(&document, &mut found);
        let mut embedded = Errors::new();
        structural::validate_embedded(&Path::ROOT, &document, schema, false, &mut embedded);
        if !embedded.is_empty() && before.as_ref().is_none_or(|before| *before != document) {
            found.extend(embedded);
        }
        let mut former = Errors::new();
        if let Some(before) = &before {
            structural::check_lists(&Path::ROOT, schema, before, &mut former);
        }
        if former.is_empty() {
            structural::check_lists(&Path::ROOT, schema, &document, &mut found);
        }
        if let Some(rules) = self.rules() {
            let blocking = |error: &FieldError| {
                matches!(
                    error.reason,
                    Reason::Required | Reason::TooLong | Reason::TooMany | Reason::TypeInvalid
                )
            };
            if found.iter().any(blocking) {
                found.push(FieldError {
                    reason: Reason::Invalid,
                    field: "<nil>".to_owned(),
                    value: Some(Value::from("null")),
                    shown: None,
                    detail: "some validation rules were not checked because the object was invalid; correct the existing errors \
                             to complete validation"
                        .to_owned(),
                });
            } else {
                rules.check(
                    &Path::ROOT,
                    &document,
                    before.as_ref(),
                    &mut Budget::default(),
                    &mut found,
                );
            }
        }
        errors.extend(found);
    }

    /// Replicas are numbers that a scale can show.
    fn check_scale(&self, document: &Value, errors: &mut Errors) {
        let Some(scale) = &self.scale else { return };
        for path in [&scale.spec_replicas_path, &scale.status_replicas_path] {
            let segments = structural::paths::segments(path);
            let found = segments.iter().try_fold(document, |value, name| value.get(name));
            let Some(replicas) = found.filter(|value| !value.is_null()) else {
                continue;
            };
            let at = Path::new(path);
            match replicas.as_i64() {
                None => errors.invalid(&at, replicas.clone(), "should be a non-negative integer"),
                Some(count) if count < 0 => errors.invalid(&at, count, "should be a non-negative integer"),
                Some(count) if count > i64::from(i32::MAX) => {
                    errors.invalid(&at, count, format!("should be less than or equal to {}", i32::MAX));
                }
                Some(_) => {}
            }
        }
    }
}

/// What is said of a deprecated version that has no text of its own: it names the newest one that is better.
fn default_deprecation(spec: &CustomResourceDefinitionSpec, version: &str, kind: &str) -> String {
    let newer = |a: &str, b: &str| crate::http::discovery::groups::newest_first(a, b);
    let better = spec
        .versions
        .iter()
        .filter(|other| other.served && other.deprecated != Some(true) && newer(&other.name, version).is_lt());
    let text = format!("{}/{version} {kind} is deprecated", spec.group);
    match better.min_by(|a, b| newer(&a.name, &b.name)) {
        Some(best) => format!("{text}; use {}/{} {kind}", spec.group, best.name),
        None => text,
    }
}

/// The name of the schema of a defined kind in OpenAPI documents: the group backwards, then version and kind.
fn schema_name(group: &str, version: &str, kind: &str) -> String {
    let mut reversed: Vec<&str> = group.split('.').collect();
    reversed.reverse();
    format!("{}.{version}.{kind}", reversed.join("."))
}

fn custom(object: &dyn Object) -> &Custom {
    let any: &dyn Any = object;
    any.downcast_ref()
        .expect("the registry gives a kind its own objects only")
}

fn custom_mut(object: &mut dyn Object) -> &mut Custom {
    let any: &mut dyn Any = object;
    any.downcast_mut()
        .expect("the registry gives a kind its own objects only")
}

impl ErasedKind for DefinedKind {
    fn info(&self) -> Info {
        self.info.clone()
    }

    fn openapi(&self) -> Option<Value> {
        Some(self.openapi.clone())
    }

    /// Pruned and with defaults, if it is stored in this version; of what is stored in another one, that one's schema would
    /// have to say.
    fn as_read(&self, stored: &[u8]) -> Option<Vec<u8>> {
        let schema = self.schema.as_ref()?;
        let mut document: Value = serde_json::from_slice(stored).ok()?;
        if document["apiVersion"] != self.api_version {
            return None;
        }
        let pruned = structural::prune(&mut document, schema, true);
        let before = document.clone();
        structural::drop_nulls(&mut document, Some(schema));
        structural::apply_defaults(&mut document, schema);
        if pruned.is_empty() && document == before {
            return None;
        }
        let object = Custom::new(document, &self.api_version, &self.info.kind).ok()?;
        object.encode().ok()
    }

    fn decode(&self, value: Value) -> Result<Box<dyn Object>, serde_json::Error> {
        Ok(Box::new(Custom::new(value, &self.api_version, &self.info.kind)?))
    }

    fn decode_slice(&self, json: &[u8]) -> Result<Box<dyn Object>, serde_json::Error> {
        self.decode(serde_json::from_slice(json)?)
    }

    fn default(&self, object: &mut dyn Object) {
        let Some(schema) = &self.schema else { return };
        let object = custom_mut(object);
        let mut document = Value::Object(std::mem::take(&mut object.fields));
        structural::drop_nulls(&mut document, Some(schema));
        structural::apply_defaults(&mut document, schema);
        object.set_fields(document);
    }

    fn prepare_create(&self, object: &mut dyn Object) {
        if self.has_status {
            custom_mut(object).fields.remove("status");
        }
    }

    fn prepare_update(&self, new: &mut dyn Object, old: &dyn Object) {
        if !self.has_status {
            return;
        }
        let (new, old) = (custom_mut(new), custom(old));
        match old.fields.get("status") {
            Some(status) => new.fields.insert("status".to_owned(), status.clone()),
            None => new.fields.remove("status"),
        };
    }

    fn prepare_status(&self, new: &mut dyn Object, old: &dyn Object) {
        let (new, old) = (custom_mut(new), custom(old));
        let status = new.fields.remove("status");
        new.fields.clone_from(&old.fields);
        match status {
            Some(status) => new.fields.insert("status".to_owned(), status),
            None => new.fields.remove("status"),
        };
        new.metadata_from(old);
    }

    fn spec_changed(&self, new: &dyn Object, old: &dyn Object) -> Option<bool> {
        let (new, old) = (&custom(new).fields, &custom(old).fields);
        if !self.has_status {
            return Some(new != old);
        }
        let rest = |name: &&String| name.as_str() != "status";
        let same = new
            .keys()
            .filter(rest)
            .chain(old.keys().filter(rest))
            .all(|name| new.get(name) == old.get(name));
        Some(!same)
    }

    fn scale_paths(&self) -> Option<ScalePaths> {
        let scale = self.scale.as_ref()?;
        let path = |path: &str| Cow::Owned(path.trim_start_matches('.').to_owned());
        Some(ScalePaths {
            spec_replicas: path(&scale.spec_replicas_path),
            status_replicas: path(&scale.status_replicas_path),
            selector: scale
                .label_selector_path
                .as_deref()
                .map(|text| SelectorPath::Text(path(text))),
        })
    }

    /// What holds of new and changed objects alike depends on what a change left alone: see below.
    fn validate(&self, _object: &dyn Object, _errors: &mut Errors) {}

    fn validate_create(&self, object: &dyn Object, errors: &mut Errors) {
        self.check(custom(object), None, errors);
    }

    fn validate_update(&self, new: &dyn Object, old: &dyn Object, errors: &mut Errors) {
        self.check(custom(new), Some(custom(old)), errors);
    }

    fn validate_status(&self, new: &dyn Object, old: &dyn Object, errors: &mut Errors) {
        self.check(custom(new), Some(custom(old)), errors);
    }

    /// Rules that were broken before.
    fn warnings(&self, new: &dyn Object, old: Option<&dyn Object>) -> Vec<String> {
        let (Some(rules), Some(old)) = (self.rules(), old) else {
            return Vec::new();
        };
        let (new, old) = (custom(new).document(), custom(old).document());
        rules.check(
            &Path::ROOT,
            &new,
            Some(&old),
            &mut Budget::default(),
            &mut Errors::new(),
        )
    }

    fn deletion_grace(&self, _object: &dyn Object, _requested: Option<i64>) -> Option<i64> {
        None
    }

    fn holds_deletion(&self, _object: &dyn Object) -> bool {
        false
    }

    fn mark_deleted(&self, _object: &mut dyn Object) {}

    fn columns(&self) -> &[Column] {
        &self.columns.headers
    }

    fn hub(&self) -> Option<Hub> {
        None
    }

    fn row(&self, object: &dyn Object, now: Timestamp) -> Vec<Value> {
        self.columns.row(&custom(object).document(), now)
    }
}
