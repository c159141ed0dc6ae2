//! What fields a type has, compact enough to keep: for field validation, pruning, normal form, and merge keys.
//!
//! Typed decoding drops unknown fields without a word, and says "expected i32" where a user needs a path. So before an object is
//! decoded, one walk along its schema collects unknown fields, refuses wrong types in the words of Kubernetes' decoder, drops
//! what Go's types cannot tell from absence, and puts quantities into canonical form. The schemas come from `k8s-openapi`, read
//! while the program is built; descriptions are kept apart ([`published`]).

mod builtin;
mod presence;
pub mod protobuf;
pub mod published;
mod structural;
pub mod topology;
mod validation;
mod walk;

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use serde_json::Value;

pub use topology::{ListType, MapKey, Strategic};
pub use validation::FieldValidation;
pub use walk::TypeError;

/// Where references to definitions point, as in an OpenAPI document.
pub const DEFINITIONS: &str = "/components/schemas";

/// The compiled definitions of a set of types.
#[derive(Debug, Default)]
pub struct Schemas {
    definitions: Vec<Definition>,
    by_name: HashMap<String, usize>,
    /// The type of the whole, where the set is that of one custom resource.
    root: Option<usize>,
    /// Only unknown fields matter; types and nulls are somebody else's.
    lenient: bool,
}

#[derive(Clone, Debug, Default)]
struct Definition {
    /// `io.k8s.api.core.v1.PodSpec`; empty for an object within a custom resource.
    name: String,
    fields: BTreeMap<Box<str>, Type>,
    unknown: Unknown,
    /// Objects of this type are one value to server-side apply.
    atomic: bool,
    /// Fields whose absence is the same as an empty object, null, or the zero of a scalar: see [`Node::zero`].
    always: Vec<Box<str>>,
    /// Scalars of which zero says something else than absence.
    stated: Vec<Box<str>>,
    /// Fields that strategic merge patch does not treat like most.
    strategic: BTreeMap<Box<str>, Strategic>,
}

/// What becomes of fields that a definition does not name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Unknown {
    /// They are pruned, and server-side apply refuses them.
    #[default]
    Refused,
    /// They are pruned.
    Pruned,
    Kept,
}

#[derive(Clone, Debug, PartialEq)]
enum Type {
    /// Anything: kept as it is.
    Any,
    Object(usize),
    /// Atomic, if that is said of the field.
    Map(Box<Type>, bool),
    List(Box<Type>, ListType),
    String,
    Bytes,
    Time,
    Quantity,
    IntOrString,
    Int32,
    Int64,
    Number,
    Boolean,
}

impl Type {
    /// The definition that a place of this type, or what it holds, refers to.
    fn object_mut(&mut self) -> Option<&mut usize> {
        match self {
            Type::Object(index) => Some(index),
            Type::List(inner, _) | Type::Map(inner, _) => inner.object_mut(),
            _ => None,
        }
    }
}

impl Schemas {
    /// All types of the stable API, whichever of them the server one talks to has.
    pub fn builtin() -> &'static Self {
        static BUILTIN: LazyLock<Schemas> = LazyLock::new(|| builtin::read(builtin::TYPES));
        &BUILTIN
    }

    /// The types of a custom resource, from the structural `openAPIV3Schema` of one version of its definition. `apiVersion`, `kind`
    /// and `metadata` are those of every object, whatever the schema says of them.
    pub fn from_openapi(root: &Value) -> Self {
        structural::compile(root)
    }

    /// The type of the custom resource these are the types of.
    pub fn root(&self) -> Option<Node<'_>> {
        Some(self.definition_at(self.root?))
    }

    /// A type and those it uses, on their own.
    fn of_type(&self, name: &str) -> Self {
        let mut own = Self::default();
        if let Some(&index) = self.by_name.get(name) {
            self.copy_into(index, &mut own);
        }
        own
    }

    /// Returns where the definition is in `own`.
    fn copy_into(&self, index: usize, own: &mut Self) -> usize {
        let original = &self.definitions[index];
        if let Some(&there) = own.by_name.get(&original.name) {
            return there;
        }
        let there = own.definitions.len();
        own.by_name.insert(original.name.clone(), there);
        own.definitions.push(original.clone());
        for (field, ty) in &original.fields {
            let mut ty = ty.clone();
            if let Some(used) = ty.object_mut() {
                *used = self.copy_into(*used, own);
            }
            own.definitions[there].fields.insert(field.clone(), ty);
        }
        there
    }

    fn definition_at(&self, index: usize) -> Node<'_> {
        Node {
            schemas: self,
            at: At::Definition(index),
        }
    }

    /// The type with a definition's name, `io.k8s.api.core.v1.Pod`.
    pub fn node(&self, name: &str) -> Option<Node<'_>> {
        Some(self.definition_at(*self.by_name.get(name)?))
    }

    /// The type of a built-in top-level kind: for clients that know only what an object says.
    pub fn node_of_kind(&self, api_version: &str, kind: &str) -> Option<Node<'_>> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        if group.contains('.') && !group.ends_with(".k8s.io") {
            return None;
        }
        let node = self.node(&name_of_kind(group, version, kind))?;
        node.has_named_field("metadata").then_some(node)
    }
}

/// The name of the schema of a built-in top-level kind: `io.k8s.api.core.v1.Pod`.
pub fn name_of_kind(group: &str, version: &str, kind: &str) -> String {
    let origin = match group {
        "apiextensions.k8s.io" => "apiextensions-apiserver.pkg.apis",
        "apiregistration.k8s.io" => "kube-aggregator.pkg.apis",
        _ => "api",
    };
    let package = match group.split('.').next().unwrap_or_default() {
        "" => "core",
        package => package,
    };
    format!("io.k8s.{origin}.{package}.{version}.{kind}")
}

/// Enters what the table of merge keys and list types says.
fn add_topology(definitions: &mut Vec<Definition>) {
    let mut granular = Vec::new();
    for definition in &mut *definitions {
        let Some(row) = topology::row(&definition.name) else {
            continue;
        };
        definition.atomic = row.atomic;
        definition.always = row.always.iter().map(|field| (*field).into()).collect();
        for (field, cell) in &row.fields {
            match definition.fields.get_mut(*field) {
                Some(Type::List(_, list)) => list.clone_from(&cell.list),
                Some(Type::Map(_, atomic)) => *atomic = cell.atomic == Some(true),
                Some(Type::Object(index)) if cell.atomic == Some(false) => {
                    granular.push((definition.name.clone(), *field, *index));
                }
                _ => {}
            }
            if cell.strategic != Strategic::default() {
                definition.strategic.insert((*field).into(), cell.strategic.clone());
            }
        }
    }
    // A field whose objects are not one value, although others of their type are, has a type of its own.
    for (within, field, index) in granular {
        let own = Definition {
            atomic: false,
            ..definitions[index].clone()
        };
        definitions.push(own);
        let last = definitions.len() - 1;
        if let Some(definition) = definitions.iter_mut().find(|definition| definition.name == within) {
            definition.fields.insert(field.into(), Type::Object(last));
        }
    }
}

/// A place in a schema. Cheap to copy.
#[derive(Clone, Copy, Debug)]
pub struct Node<'s> {
    schemas: &'s Schemas,
    at: At<'s>,
}

/// What can be at a place, as far as merging is concerned.
#[derive(Clone, Copy, Debug)]
pub enum Shape<'s> {
    /// Anything; objects are granular and lists atomic.
    Any,
    Scalar(Scalar),
    List(Node<'s>, &'s ListType),
    /// An object or a map, which is one value or not.
    Map {
        atomic: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    Numeric,
    String,
    Boolean,
    /// A scalar that has more than one form.
    Untyped,
}

#[derive(Clone, Copy, Debug)]
enum At<'s> {
    Definition(usize),
    Type(&'s Type),
}

impl<'s> Node<'s> {
    fn of(schemas: &'s Schemas, ty: &'s Type) -> Self {
        match ty {
            Type::Object(index) => Self {
                schemas,
                at: At::Definition(*index),
            },
            other => Self {
                schemas,
                at: At::Type(other),
            },
        }
    }

    fn described(self) -> Option<&'s Definition> {
        match self.at {
            At::Definition(index) => self.schemas.definitions.get(index),
            At::Type(_) => None,
        }
    }

    /// A place where anything may be: the type of objects whose fields are not known.
    pub fn any() -> Node<'static> {
        static EMPTY: LazyLock<Schemas> = LazyLock::new(Schemas::default);
        static ANY: Type = Type::Any;
        Node {
            schemas: &EMPTY,
            at: At::Type(&ANY),
        }
    }

    /// The name of the type's definition; `None` for lists, maps, scalars and objects within custom resources.
    pub fn definition(self) -> Option<&'s str> {
        let name = self.described().map(|definition| definition.name.as_str());
        name.filter(|name| !name.is_empty())
    }

    /// The type of a field, or of the values of a map.
    pub fn field(self, name: &str) -> Option<Self> {
        match (self.described(), self.at) {
            (Some(definition), _) => match definition.fields.get(name) {
                Some(ty) => Some(Self::of(self.schemas, ty)),
                None => (definition.unknown != Unknown::Refused).then(Node::any),
            },
            (None, At::Type(Type::Map(values, _))) => Some(Self::of(self.schemas, values)),
            (None, At::Type(Type::Any)) => Some(self),
            _ => None,
        }
    }

    /// Is this a field that the type names, rather than a key of a map or an unknown field?
    pub fn has_named_field(self, name: &str) -> bool {
        self.described()
            .is_some_and(|definition| definition.fields.contains_key(name))
    }

    /// What Kubernetes' encoder writes for a field that nobody has set, where it never leaves it out: an empty object, null for
    /// lists and maps, the zero of a scalar. To whoever compares two objects such a field is neither added nor removed.
    pub fn zero(self, name: &str) -> Option<&'static Value> {
        let definition = self.described()?;
        if !definition.always.iter().any(|field| **field == *name) {
            return None;
        }
        definition.fields.get(name).map(presence::zero)
    }

    /// The type of a list's items.
    pub fn items(self) -> Option<Self> {
        match self.at {
            At::Type(Type::List(items, _)) => Some(Self::of(self.schemas, items)),
            _ => None,
        }
    }

    /// How a list merges in server-side apply; `None` for what is no list.
    pub fn list_type(self) -> Option<&'s ListType> {
        match self.at {
            At::Type(Type::List(_, list)) => Some(list),
            _ => None,
        }
    }

    /// The fields that tell the items of a list apart.
    pub fn map_keys(self) -> impl Iterator<Item = &'s str> {
        self.list_type().into_iter().flat_map(ListType::keys)
    }

    /// Is the object, map or list one value to server-side apply?
    pub fn is_atomic(self) -> bool {
        match self.shape() {
            Shape::List(_, list) => *list == ListType::Atomic,
            Shape::Map { atomic } => atomic,
            Shape::Any | Shape::Scalar(_) => false,
        }
    }

    /// How a field merges in a strategic merge patch; `None` for the way of most.
    pub fn strategic(self, field: &str) -> Option<&'s Strategic> {
        self.described()?.strategic.get(field)
    }

    pub fn shape(self) -> Shape<'s> {
        let ty = match self.at {
            At::Definition(index) => {
                let atomic = self.schemas.definitions[index].atomic;
                return Shape::Map { atomic };
            }
            At::Type(ty) => ty,
        };
        match ty {
            Type::Any => Shape::Any,
            Type::Object(index) => Shape::Map {
                atomic: self.schemas.definitions[*index].atomic,
            },
            Type::Map(_, atomic) => Shape::Map { atomic: *atomic },
            Type::List(items, list) => Shape::List(Self::of(self.schemas, items), list),
            Type::String | Type::Bytes => Shape::Scalar(Scalar::String),
            Type::Time | Type::Quantity | Type::IntOrString => Shape::Scalar(Scalar::Untyped),
            Type::Int32 | Type::Int64 | Type::Number => Shape::Scalar(Scalar::Numeric),
            Type::Boolean => Shape::Scalar(Scalar::Boolean),
        }
    }

    /// Brings an object into the form that is decoded and stored: unknown fields are removed and returned as paths
    /// (`spec.containers[0].foo`), nulls and what is as good as absent dropped, what is never absent filled in, quantities made
    /// canonical.
    ///
    /// # Errors
    /// A value that is not of its field's type.
    pub fn normalise(self, value: &mut Value) -> Result<Vec<String>, TypeError> {
        walk::normalise(self, value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let pod = Schemas::builtin().node("io.k8s.api.core.v1.Pod").unwrap();
        let container = pod.field("spec").unwrap().field("containers").unwrap().items().unwrap();
        assert_eq!(container.definition(), Some("io.k8s.api.core.v1.Container"));
        assert!(container.field("nonsense").is_none() && container.items().is_none());
        let labels = pod.field("metadata").unwrap().field("labels").unwrap();
        assert!(labels.definition().is_none() && labels.field("anything").is_some());
        let found = Schemas::builtin().node_of_kind("apps/v1", "Deployment").unwrap();
        assert_eq!(found.definition(), Some("io.k8s.api.apps.v1.Deployment"));
        assert!(Schemas::builtin().node_of_kind("v1", "PodSpec").is_none());
        let event = Schemas::builtin().node_of_kind("events.k8s.io/v1", "Event").unwrap();
        assert_eq!(event.definition(), Some("io.k8s.api.events.v1.Event"));
        assert!(
            Schemas::builtin()
                .node_of_kind("apps.example.com/v1", "Deployment")
                .is_none()
        );
    }

    #[test]
    fn special_types_are_recognised() {
        let schemas = Schemas::builtin();
        let field = |definition: &str, field: &str| {
            let index = schemas.by_name[definition];
            schemas.definitions[index].fields[field].clone()
        };
        assert_eq!(
            field("io.k8s.api.core.v1.Secret", "data"),
            Type::Map(Box::new(Type::Bytes), false)
        );
        assert_eq!(
            field("io.k8s.api.core.v1.ResourceRequirements", "limits"),
            Type::Map(Box::new(Type::Quantity), false)
        );
        assert_eq!(
            field("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", "creationTimestamp"),
            Type::Time
        );
        assert_eq!(field("io.k8s.api.core.v1.HTTPGetAction", "port"), Type::IntOrString);
        assert_eq!(field("io.k8s.api.core.v1.ContainerPort", "containerPort"), Type::Int32);
        assert_eq!(
            field("io.k8s.apimachinery.pkg.apis.meta.v1.ManagedFieldsEntry", "fieldsV1"),
            Type::Any
        );
    }
}
