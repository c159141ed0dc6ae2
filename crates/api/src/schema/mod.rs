//! What fields a type has, compact enough to keep: for field validation, pruning, normal form, and merge keys.
//!
//! Typed decoding drops unknown fields without a word, and says "expected i32" where a user needs a path. So before an object is
//! decoded, one walk along its schema collects unknown fields, refuses wrong types in the words of Kubernetes' decoder, drops
//! nulls, and puts quantities into canonical form. The schemas come from `k8s-openapi`; descriptions are left behind (the OpenAPI
//! documents have them).

pub mod protobuf;
mod validation;
mod walk;

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::Value;

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
}

#[derive(Debug)]
struct Definition {
    /// `io.k8s.api.core.v1.PodSpec`.
    name: String,
    fields: BTreeMap<Box<str>, Type>,
}

#[derive(Clone, Debug, PartialEq)]
enum Type {
    /// Anything: kept as it is.
    Any,
    Object(usize),
    Map(Box<Type>),
    List(Box<Type>),
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

    /// The core types and the workload types a client meets, whichever of them the server it talks to has.
    pub fn builtin() -> &'static Self {
        static BUILTIN: LazyLock<Schemas> = LazyLock::new(|| Schemas::new(add_builtin));
        &BUILTIN
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
        let definitions = names
            .into_iter()
            .map(|name| {
                let properties = source[name]["properties"].as_object().into_iter().flatten();
                let fields =
                    properties.map(|(field, schema)| (field.as_str().into(), compile(schema, source, &by_name)));
                Definition {
                    name: name.clone(),
                    fields: fields.collect(),
                }
            })
            .collect();
        Self { definitions, by_name }
    }

    /// The type with a definition's name, `io.k8s.api.core.v1.Pod`.
    pub fn node(&self, name: &str) -> Option<Node<'_>> {
        let index = *self.by_name.get(name)?;
        Some(Node {
            schemas: self,
            at: At::Definition(index),
        })
    }

    /// The type of a top-level kind, found by its last name and its version: for clients that know only what an object says.
    pub fn node_of_kind(&self, version: &str, kind: &str) -> Option<Node<'_>> {
        let suffix = format!(".{version}.{kind}");
        let is_top_level =
            |definition: &&Definition| definition.name.ends_with(&suffix) && definition.fields.contains_key("metadata");
        let mut found = self.definitions.iter().filter(is_top_level);
        let definition = found.next().filter(|_| found.next().is_none())?;
        self.node(&definition.name)
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
        ("array", _) => inner("items").map_or(Type::Any, Type::List),
        ("object", _) => inner("additionalProperties").map_or(Type::Any, Type::Map),
        _ => Type::Any,
    }
}

/// A place in a schema. Cheap to copy.
#[derive(Clone, Copy, Debug)]
pub struct Node<'s> {
    schemas: &'s Schemas,
    at: At<'s>,
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

    /// The name of the type's definition; `None` for lists, maps and scalars.
    pub fn definition(self) -> Option<&'s str> {
        self.described().map(|definition| definition.name.as_str())
    }

    /// The type of a field, or of the values of a map.
    pub fn field(self, name: &str) -> Option<Self> {
        match (self.described(), self.at) {
            (Some(definition), _) => definition.fields.get(name).map(|ty| Self::of(self.schemas, ty)),
            (None, At::Type(Type::Map(values))) => Some(Self::of(self.schemas, values)),
            _ => None,
        }
    }

    /// The type of a list's items.
    pub fn items(self) -> Option<Self> {
        match self.at {
            At::Type(Type::List(items)) => Some(Self::of(self.schemas, items)),
            _ => None,
        }
    }

    /// Brings an object into the form that is decoded and stored: unknown fields are removed and returned as paths
    /// (`spec.containers[0].foo`), nulls dropped, quantities made canonical.
    ///
    /// # Errors
    /// A value that is not of its field's type.
    pub fn normalise(self, value: &mut Value) -> Result<Vec<String>, TypeError> {
        walk::normalise(self, value)
    }
}

fn add_builtin(generator: &mut SchemaGenerator) {
    use k8s_openapi::api::{
        apps::v1 as apps, authentication::v1 as authentication, authorization::v1 as authorization,
        autoscaling::v2 as autoscaling, batch::v1 as batch, coordination::v1 as coordination, core::v1 as core,
        networking::v1 as networking, node::v1 as node, policy::v1 as policy, rbac::v1 as rbac, storage::v1 as storage,
    };
    macro_rules! add {
        ($($kind:ty),* $(,)?) => { $(generator.subschema_for::<$kind>();)* };
    }
    add!(
        k8s_openapi::apimachinery::pkg::apis::meta::v1::DeleteOptions,
        apps::DaemonSet,
        apps::Deployment,
        apps::ReplicaSet,
        apps::StatefulSet,
        authentication::SelfSubjectReview,
        authorization::LocalSubjectAccessReview,
        authorization::SelfSubjectAccessReview,
        authorization::SelfSubjectRulesReview,
        authorization::SubjectAccessReview,
        autoscaling::HorizontalPodAutoscaler,
        batch::CronJob,
        batch::Job,
        coordination::Lease,
        core::Binding,
        core::ConfigMap,
        core::Endpoints,
        core::Event,
        core::LimitRange,
        core::Namespace,
        core::Node,
        core::PersistentVolume,
        core::PersistentVolumeClaim,
        core::Pod,
        core::PodTemplate,
        core::ReplicationController,
        core::ResourceQuota,
        core::Secret,
        core::Service,
        core::ServiceAccount,
        networking::Ingress,
        networking::IngressClass,
        networking::NetworkPolicy,
        node::RuntimeClass,
        policy::PodDisruptionBudget,
        rbac::ClusterRole,
        rbac::ClusterRoleBinding,
        rbac::Role,
        rbac::RoleBinding,
        storage::StorageClass,
    );
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
        let found = Schemas::builtin().node_of_kind("v1", "Deployment").unwrap();
        assert_eq!(found.definition(), Some("io.k8s.api.apps.v1.Deployment"));
        assert!(Schemas::builtin().node_of_kind("v1", "PodSpec").is_none());
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
            Type::Map(Box::new(Type::Bytes))
        );
        assert_eq!(
            field("io.k8s.api.core.v1.ResourceRequirements", "limits"),
            Type::Map(Box::new(Type::Quantity))
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
