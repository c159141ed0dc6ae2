//! The form of a kind that the registry works with: no type parameter, objects behind [`Object`].

use super::{FieldLabel, Hub, Kind, NameRule, SCALE, Subresource, Typed};
use catamaran_api::table::Column;
use catamaran_api::{Errors, GroupKind, GroupResource, GroupVersionKind};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;
use std::any::Any;
use std::borrow::Cow;
use std::sync::Arc;

/// Everything about a kind that is data. Made once at start; run-time kinds fill it from their definition.
#[derive(Clone, Debug)]
pub struct Info {
    /// Empty for the legacy group.
    pub group: Cow<'static, str>,
    pub version: Cow<'static, str>,
    pub kind: Cow<'static, str>,
    pub plural: Cow<'static, str>,
    pub singular: String,
    pub namespaced: bool,
    /// Kind of a list of these: `PodList`.
    pub list_kind: Cow<'static, str>,
    pub short_names: Vec<Cow<'static, str>>,
    pub categories: Vec<Cow<'static, str>>,
    pub subresources: Vec<Subresource>,
    pub field_selectors: Vec<FieldSelector>,
    pub unconditional_update: bool,
    pub create_on_update: bool,
    /// The `Warning` that every answer about this kind carries, if the version is on its way out.
    pub deprecation: Option<Cow<'static, str>>,
    pub name_rule: NameRule,
    /// Name of the type's schema: `io.k8s.api.core.v1.Pod`.
    pub schema: Cow<'static, str>,
}

/// A field by which objects can be selected, beside `metadata.name` and `metadata.namespace`. See [`FieldLabel`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldSelector {
    pub label: Cow<'static, str>,
    pub path: Cow<'static, str>,
    pub absent: Cow<'static, str>,
}

impl From<FieldLabel> for FieldSelector {
    fn from(field: FieldLabel) -> Self {
        FieldSelector {
            label: Cow::Borrowed(field.label),
            path: Cow::Borrowed(field.path),
            absent: Cow::Borrowed(field.absent),
        }
    }
}

impl Info {
    /// `v1`, `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// How errors name the type: `deployments.apps`.
    pub fn group_resource(&self) -> GroupResource {
        GroupResource {
            group: self.group.clone(),
            resource: self.plural.clone(),
        }
    }

    /// How validation errors name the type: `Deployment.apps`.
    pub fn group_kind(&self) -> GroupKind {
        GroupKind {
            group: self.group.clone(),
            kind: self.kind.clone(),
        }
    }

    /// The kind with all its names.
    pub fn gvk(&self) -> GroupVersionKind {
        GroupVersionKind {
            group: self.group.clone(),
            version: self.version.clone(),
            kind: self.kind.clone(),
        }
    }

    /// Does an object have this path below it?
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|subresource| subresource.name == name)
    }
}

/// Where in an object the numbers of its scale are, as dotted paths without a leading dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalePaths {
    pub spec_replicas: Cow<'static, str>,
    pub status_replicas: Cow<'static, str>,
    pub selector: Option<SelectorPath>,
}

/// Where the selector of the scaled pods is, and in which form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SelectorPath {
    /// A label selector.
    Selector(Cow<'static, str>),
    /// Labels that have to be as they are there.
    Labels(Cow<'static, str>),
    /// A query string.
    Text(Cow<'static, str>),
}

/// An object of a kind that is not known here.
pub trait Object: Any + Send + Sync {
    fn meta(&self) -> &ObjectMeta;
    fn meta_mut(&mut self) -> &mut ObjectMeta;

    /// JSON of the object. `apiVersion`, `kind` and `metadata` come first, in this order.
    fn encode(&self) -> Result<Vec<u8>, serde_json::Error>;

    /// The object as untyped JSON.
    fn to_value(&self) -> Result<Value, serde_json::Error>;

    fn boxed_clone(&self) -> Box<dyn Object>;
}

impl<T: Typed> Object for T {
    fn meta(&self) -> &ObjectMeta {
        self.metadata()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.metadata_mut()
    }

    fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        catamaran_api::json::typed_to_vec(self)
    }

    fn to_value(&self) -> Result<Value, serde_json::Error> {
        serde_json::to_value(self)
    }

    fn boxed_clone(&self) -> Box<dyn Object> {
        Box::new(self.clone())
    }
}

/// A kind for as long as somebody needs it: compiled in, or defined while the server runs.
#[derive(Clone)]
pub enum KindRef {
    Builtin(&'static dyn ErasedKind),
    Defined(Arc<dyn ErasedKind>),
}

impl std::ops::Deref for KindRef {
    type Target = dyn ErasedKind;

    fn deref(&self) -> &Self::Target {
        match self {
            KindRef::Builtin(kind) => *kind,
            KindRef::Defined(kind) => kind.as_ref(),
        }
    }
}

/// [`Kind`] without its type; the documentation is there. Every method panics if it is given an object of another kind,
/// which only a bug in the registry could do.
pub trait ErasedKind: Send + Sync {
    fn info(&self) -> Info;
    /// The schema of a kind that is defined at run time: an OpenAPI v3 schema of one version, as it is to be published. `None`: the
    /// kind is compiled in, and its schema is that of its type.
    fn openapi(&self) -> Option<Value> {
        None
    }
    /// Stored bytes as they are to be read, where that differs: what a schema got since they were written (defaults, fields that
    /// went) shows at once.
    fn as_read(&self, _stored: &[u8]) -> Option<Vec<u8>> {
        None
    }
    fn decode(&self, value: Value) -> Result<Box<dyn Object>, serde_json::Error>;
    fn decode_slice(&self, json: &[u8]) -> Result<Box<dyn Object>, serde_json::Error>;
    fn default(&self, object: &mut dyn Object);
    fn prepare_create(&self, object: &mut dyn Object);
    fn prepare_update(&self, new: &mut dyn Object, old: &dyn Object);
    fn prepare_status(&self, new: &mut dyn Object, old: &dyn Object);
    fn spec_changed(&self, new: &dyn Object, old: &dyn Object) -> Option<bool>;
    fn validate(&self, object: &dyn Object, errors: &mut Errors);
    /// Errors of a new object only: kinds defined at run time judge a change by what it changes.
    fn validate_create(&self, _object: &dyn Object, _errors: &mut Errors) {}
    fn validate_update(&self, new: &dyn Object, old: &dyn Object, errors: &mut Errors);
    fn validate_status(&self, new: &dyn Object, old: &dyn Object, errors: &mut Errors);
    fn prepare_part(&self, _part: &str, _new: &mut dyn Object, _old: &dyn Object) {}
    fn validate_part(&self, _part: &str, _new: &dyn Object, _old: &dyn Object, _errors: &mut Errors) {}
    fn warnings(&self, new: &dyn Object, old: Option<&dyn Object>) -> Vec<String>;
    /// Where the replicas are; `None` for a kind without a scale.
    fn scale_paths(&self) -> Option<ScalePaths> {
        None
    }
    fn deletion_grace(&self, object: &dyn Object, requested: Option<i64>) -> Option<i64>;
    fn holds_deletion(&self, object: &dyn Object) -> bool;
    fn mark_deleted(&self, object: &mut dyn Object);
    fn columns(&self) -> &[Column];
    fn hub(&self) -> Option<Hub>;
    fn row(&self, object: &dyn Object, now: Timestamp) -> Vec<Value>;
}

impl<K: Kind> ErasedKind for K {
    fn info(&self) -> Info {
        Info {
            group: Cow::Borrowed(<K::Object as k8s_openapi::Resource>::GROUP),
            version: Cow::Borrowed(<K::Object as k8s_openapi::Resource>::VERSION),
            kind: Cow::Borrowed(<K::Object as k8s_openapi::Resource>::KIND),
            plural: Cow::Borrowed(<K::Object as k8s_openapi::Resource>::URL_PATH_SEGMENT),
            singular: <K::Object as k8s_openapi::Resource>::KIND.to_lowercase(),
            namespaced: K::NAMESPACED,
            list_kind: Cow::Owned(format!("{}List", <K::Object as k8s_openapi::Resource>::KIND)),
            short_names: K::SHORT_NAMES.iter().copied().map(Cow::Borrowed).collect(),
            categories: K::CATEGORIES.iter().copied().map(Cow::Borrowed).collect(),
            subresources: K::SUBRESOURCES.to_vec(),
            field_selectors: K::FIELD_SELECTORS.iter().copied().map(FieldSelector::from).collect(),
            unconditional_update: K::UNCONDITIONAL_UPDATE,
            create_on_update: K::CREATE_ON_UPDATE,
            deprecation: K::DEPRECATION.map(Cow::Borrowed),
            name_rule: K::NAME_RULE,
            schema: Cow::Owned(catamaran_api::schema::name_of_kind(
                <K::Object as k8s_openapi::Resource>::GROUP,
                <K::Object as k8s_openapi::Resource>::VERSION,
                <K::Object as k8s_openapi::Resource>::KIND,
            )),
        }
    }

    /// By way of text: the code that reads a type out of a tree would be in the program a second time, for each of them, and is
    /// hardly faster.
    fn decode(&self, value: Value) -> Result<Box<dyn Object>, serde_json::Error> {
        let text = serde_json::to_vec(&value)?;
        self.decode_slice(&text).map_err(|error| without_place(&error))
    }

    fn decode_slice(&self, json: &[u8]) -> Result<Box<dyn Object>, serde_json::Error> {
        Ok(Box::new(serde_json::from_slice::<K::Object>(json)?))
    }

    fn default(&self, object: &mut dyn Object) {
        Kind::default(self, typed_mut::<K>(object));
    }

    fn prepare_create(&self, object: &mut dyn Object) {
        Kind::prepare_create(self, typed_mut::<K>(object));
    }

    fn prepare_update(&self, new: &mut dyn Object, old: &dyn Object) {
        Kind::prepare_update(self, typed_mut::<K>(new), typed::<K>(old));
    }

    fn prepare_status(&self, new: &mut dyn Object, old: &dyn Object) {
        Kind::prepare_status(self, typed_mut::<K>(new), typed::<K>(old));
    }

    fn spec_changed(&self, new: &dyn Object, old: &dyn Object) -> Option<bool> {
        Kind::spec_changed(self, typed::<K>(new), typed::<K>(old))
    }

    fn validate(&self, object: &dyn Object, errors: &mut Errors) {
        Kind::validate(self, typed::<K>(object), errors);
    }

    fn validate_update(&self, new: &dyn Object, old: &dyn Object, errors: &mut Errors) {
        Kind::validate_update(self, typed::<K>(new), typed::<K>(old), errors);
    }

    fn validate_status(&self, new: &dyn Object, old: &dyn Object, errors: &mut Errors) {
        Kind::validate_status(self, typed::<K>(new), typed::<K>(old), errors);
    }

    fn validate_create(&self, object: &dyn Object, errors: &mut Errors) {
        Kind::validate_create(self, typed::<K>(object), errors);
    }

    fn prepare_part(&self, part: &str, new: &mut dyn Object, old: &dyn Object) {
        Kind::prepare_part(self, part, typed_mut::<K>(new), typed::<K>(old));
    }

    fn validate_part(&self, part: &str, new: &dyn Object, old: &dyn Object, errors: &mut Errors) {
        Kind::validate_part(self, part, typed::<K>(new), typed::<K>(old), errors);
    }

    fn warnings(&self, new: &dyn Object, old: Option<&dyn Object>) -> Vec<String> {
        Kind::warnings(self, typed::<K>(new), old.map(typed::<K>))
    }

    fn scale_paths(&self) -> Option<ScalePaths> {
        K::SUBRESOURCES.contains(&SCALE).then(|| {
            // The one kind older than label selectors.
            let plain = <K::Object as k8s_openapi::Resource>::KIND == "ReplicationController";
            let path = Cow::Borrowed("spec.selector");
            ScalePaths {
                spec_replicas: Cow::Borrowed("spec.replicas"),
                status_replicas: Cow::Borrowed("status.replicas"),
                selector: Some(if plain {
                    SelectorPath::Labels(path)
                } else {
                    SelectorPath::Selector(path)
                }),
            }
        })
    }

    fn deletion_grace(&self, object: &dyn Object, requested: Option<i64>) -> Option<i64> {
        Kind::deletion_grace(self, typed::<K>(object), requested)
    }

    fn holds_deletion(&self, object: &dyn Object) -> bool {
        Kind::holds_deletion(self, typed::<K>(object))
    }

    fn mark_deleted(&self, object: &mut dyn Object) {
        Kind::mark_deleted(self, typed_mut::<K>(object));
    }

    fn hub(&self) -> Option<Hub> {
        K::HUB
    }

    fn columns(&self) -> &[Column] {
        Kind::columns(self)
    }

    fn row(&self, object: &dyn Object, now: Timestamp) -> Vec<Value> {
        Kind::row(self, typed::<K>(object), now)
    }
}

/// An error without where in the text it is: the text is nobody's.
fn without_place(error: &serde_json::Error) -> serde_json::Error {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    serde::de::Error::custom(text.strip_suffix(&place).unwrap_or(&text))
}

fn typed<K: Kind>(object: &dyn Object) -> &K::Object {
    let any: &dyn Any = object;
    any.downcast_ref()
        .expect("the registry gives a kind its own objects only")
}

fn typed_mut<K: Kind>(object: &mut dyn Object) -> &mut K::Object {
    let any: &mut dyn Any = object;
    any.downcast_mut()
        .expect("the registry gives a kind its own objects only")
}
