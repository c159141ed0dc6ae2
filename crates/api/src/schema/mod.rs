//! What fields a type has, compact enough to keep: for field validation, pruning, normal form, and merge keys.
//!
//! Typed decoding drops unknown fields without a word, and says "expected i32" where a user needs a path. So before an object is
//! decoded, one walk along its schema collects unknown fields, refuses wrong types in the words of Kubernetes' decoder, drops
//! what Go's types cannot tell from absence, and puts quantities into canonical form. The schemas come from `k8s-openapi`; descriptions are left behind (the OpenAPI
//! documents have them).

mod builtin;
mod presence;
pub mod protobuf;
mod structural;
pub mod topology;
mod validation;
mod walk;

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::Value;

pub use topology::{ListType, MapKey, Strategic};
pub use validation::FieldValidation;
pub use walk::TypeError;

/// Where references to definitions point, as in an OpenAPI document.
pub const DEFINITIONS: &str = "/components/schemas";

/// A generator whose definitions suit both [`Schemas`] and OpenAPI v3.
pub fn generator() -> SchemaGenerator {
    let settings = SchemaSettings::default().with(|settings| {
        settings.definitions_path = DEFINITIONS.into();
        settings.meta_schema = None;
        settings.transforms = Vec::new();
    });
    settings.into_generator()
}

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

impl Schemas {
    /// `add` asks the generator for the schema of every top-level type.
    pub fn new(add: impl FnOnce(&mut SchemaGenerator)) -> Self {
        let mut generator = generator();
        add(&mut generator);
        Self::compile(&generator.take_definitions(false))
    }

    /// All types of the stable API, whichever of them the server one talks to has.
    pub fn builtin() -> &'static Self {
        static BUILTIN: LazyLock<Schemas> = LazyLock::new(|| Schemas::new(builtin::add_all));
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

    fn definition_at(&self, index: usize) -> Node<'_> {
        Node {
            schemas: self,
            at: At::Definition(index),
        }
    }

    fn compile(source: &serde_json::Map<String, Value>) -> Self {
        let is_object = |schema: &Value| schema.get("properties").is_some();
        let names: Vec<&String> = source
            .iter()
            .filter(|(_, schema)| is_object(schema))
            .map(|(name, _)| name)
            .collect();
        let by_name: HashMap<String, usize> = names
            .iter()
            .enumerate()
            .map(|(index, name)| ((*name).clone(), index))
            .collect();
        let mut definitions: Vec<Definition> = names
            .into_iter()
            .map(|name| {
                let properties = source[name]["properties"].as_object().into_iter().flatten();
                let fields =
                    properties.map(|(field, schema)| (field.as_str().into(), compile(schema, source, &by_name)));
                Definition {
                    name: name.clone(),
                    fields: fields.collect(),
                    ..Definition::default()
                }
            })
            .collect();
        add_topology(&mut definitions);
        for definition in &mut definitions {
            definition.stated = presence::stated(&definition.name);
        }
        Self {
            definitions,
            by_name,
            ..Self::default()
        }
    }

    /// The type with a definition's name, `io.k8s.api.core.v1.Pod`.
    pub fn node(&self, name: &str) -> Option<Node<'_>> {
        Some(self.definition_at(*self.by_name.get(name)?))
    }

    /// The type of a built-in top-level kind: for clients that know only what an object says.
    pub fn node_of_kind(&self, api_version: &str, kind: &str) -> Option<Node<'_>> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let package = match group.strip_suffix(".k8s.io") {
            Some(group) => group.split('.').next()?,
            None if group.is_empty() => "core",
            None => group,
        };
        let suffix = format!(".{package}.{version}.{kind}");
        let is_top_level =
            |definition: &&Definition| definition.name.ends_with(&suffix) && definition.fields.contains_key("metadata");
        self.node(&self.definitions.iter().find(is_top_level)?.name)
    }
}

fn compile(schema: &Value, source: &serde_json::Map<String, Value>, by_name: &HashMap<String, usize>) -> Type {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        let name = reference.rsplit('/').next().unwrap_or_default();
        return match (name.rsplit('.').next().unwrap_or_default(), by_name.get(name)) {
            ("Quantity", None) => Type::Quantity,
            (_, Some(&index)) => Type::Object(index),
            (_, None) => source
                .get(name)
                .map_or(Type::Any, |schema| compile(schema, source, by_name)),
        };
    }
    if schema.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
        return Type::IntOrString;
    }
    let inner = |key: &str| schema.get(key).map(|schema| Box::new(compile(schema, source, by_name)));
    let format = schema.get("format").and_then(Value::as_str).unwrap_or_default();
    match (schema.get("type").and_then(Value::as_str).unwrap_or_default(), format) {
        ("string", "byte") => Type::Bytes,
        ("string", "date-time") => Type::Time,
        ("string", _) => Type::String,
        ("integer", "int32") => Type::Int32,
        ("integer", _) => Type::Int64,
        ("number", _) => Type::Number,
        ("boolean", _) => Type::Boolean,
        ("array", _) => inner("items").map_or(Type::Any, |items| Type::List(items, ListType::Atomic)),
        ("object", _) => inner("additionalProperties").map_or(Type::Any, |values| Type::Map(values, false)),
        _ => Type::Any,
    }
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
