//! A request as webhooks and expressions see it: objects as JSON in the version they ask for, and what is known about the
//! request beside them.

use super::{Attributes, Operation, World};
use crate::kinds::Object;
use crate::registry::resource::Resource;
use catamaran_api::Status;
use catamaran_api::schema::FieldValidation;
use serde_json::{Map, Value, json};

/// Objects in one version. `Null` where there is none.
pub(super) struct View {
    pub(super) object: Value,
    pub(super) old: Value,
}

/// Both objects as `resource` has them.
pub(super) async fn view(
    world: &World<'_>,
    attributes: &Attributes<'_>,
    object: Option<&dyn Object>,
    resource: &Resource,
) -> Result<View, Status> {
    Ok(View {
        object: shown(world, attributes, object, resource).await?,
        old: shown(world, attributes, attributes.old, resource).await?,
    })
}

async fn shown(
    world: &World<'_>,
    attributes: &Attributes<'_>,
    object: Option<&dyn Object>,
    resource: &Resource,
) -> Result<Value, Status> {
    let Some(object) = object else { return Ok(Value::Null) };
    let tree = object.to_value().map_err(Status::internal)?;
    let own = &attributes.target.resource;
    if own.api_version == resource.api_version || has_own_kind(own, attributes.subresource) {
        return Ok(tree);
    }
    world.registry.converted(own, resource, tree).await
}

/// Has the subresource a kind of its own, like `Scale`?
pub(super) fn has_own_kind(resource: &Resource, subresource: &str) -> bool {
    let subresource = resource.info.subresource(subresource);
    subresource.is_some_and(|subresource| !subresource.kind.is_empty())
}

/// Group, version and kind of the body of a request.
fn kind(resource: &Resource, subresource: &str) -> Value {
    let info = &resource.info;
    let own = info.subresource(subresource).filter(|own| !own.kind.is_empty());
    let (api_version, kind) = match own {
        Some(own) if !own.api_version.is_empty() => (own.api_version, own.kind),
        Some(own) => (resource.api_version.as_str(), own.kind),
        None => (resource.api_version.as_str(), info.kind.as_ref()),
    };
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    json!({"group": group, "version": version, "kind": kind})
}

fn resource_of(resource: &Resource) -> Value {
    let info = &resource.info;
    json!({"group": info.group, "version": info.version, "resource": info.plural})
}

/// An `AdmissionRequest` without its uid and objects. `matched` is the resource by which the request was found.
pub(super) fn request(
    attributes: &Attributes<'_>,
    object: Option<&dyn Object>,
    matched: &Resource,
) -> Map<String, Value> {
    let target = attributes.target;
    let (own, subresource) = (&target.resource, attributes.subresource);
    let identity = &attributes.caller.identity;
    let mut request = Map::new();
    let mut put = |name: &str, value: Value| request.insert(name.to_owned(), value);
    put("kind", kind(matched, subresource));
    put("resource", resource_of(matched));
    put("requestKind", kind(own, subresource));
    put("requestResource", resource_of(own));
    if !subresource.is_empty() {
        put("subResource", subresource.into());
        put("requestSubResource", subresource.into());
    }
    let own_name = object
        .and_then(|object| object.meta().name.as_deref())
        .unwrap_or_default();
    let name = if target.name.is_empty() { own_name } else { &target.name };
    if !name.is_empty() {
        put("name", name.into());
    }
    let is_namespace = own.info.group.is_empty() && own.info.plural == "namespaces";
    let namespace = if is_namespace {
        Some(&target.name)
    } else {
        target.namespace.as_ref()
    };
    if let Some(namespace) = namespace.filter(|namespace| !namespace.is_empty()) {
        put("namespace", namespace.as_str().into());
    }
    put("operation", attributes.operation.as_str().into());
    let mut user = Map::new();
    user.insert("username".to_owned(), identity.user.as_str().into());
    if !identity.uid.is_empty() {
        user.insert("uid".to_owned(), identity.uid.as_str().into());
    }
    if !identity.groups.is_empty() {
        user.insert("groups".to_owned(), json!(identity.groups));
    }
    if !identity.extra.is_empty() {
        user.insert("extra".to_owned(), json!(identity.extra));
    }
    put("userInfo", Value::Object(user));
    put("dryRun", attributes.dry_run.into());
    put("options", options(attributes));
    request
}

/// `CreateOptions`, `UpdateOptions` or `DeleteOptions` of the request; null for connections.
fn options(attributes: &Attributes<'_>) -> Value {
    let kind = match attributes.operation {
        Operation::Create => "CreateOptions",
        Operation::Update => "UpdateOptions",
        Operation::Delete => "DeleteOptions",
        Operation::Connect => return Value::Null,
    };
    let mut options = attributes.delete_options.clone().unwrap_or_else(|| json!({}));
    let Some(fields) = options.as_object_mut() else {
        return Value::Null;
    };
    fields.insert("kind".to_owned(), kind.into());
    fields.insert("apiVersion".to_owned(), "meta.k8s.io/v1".into());
    if attributes.dry_run {
        fields.insert("dryRun".to_owned(), json!(["All"]));
    }
    if attributes.operation != Operation::Delete {
        let own = attributes.options;
        if !own.field_manager.is_empty() {
            fields.insert("fieldManager".to_owned(), own.field_manager.as_str().into());
        }
        match own.validation {
            FieldValidation::Strict => fields.insert("fieldValidation".to_owned(), "Strict".into()),
            FieldValidation::Ignore => fields.insert("fieldValidation".to_owned(), "Ignore".into()),
            FieldValidation::Warn => None,
        };
    }
    options
}
