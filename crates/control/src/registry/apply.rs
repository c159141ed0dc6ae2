//! Server-side apply: a declaration becomes part of the object, or the object.
//! <https://kubernetes.io/docs/reference/using-api/server-side-apply/>

use super::managed::{self, Tracking};
use super::resource::Resource;
use super::update::Part;
use super::{ATTEMPTS, Registry, Target, WriteOptions, Written, body};
use crate::authz::{self, Attempt, AttemptedResource, Authorizer as _, Verdict};
use crate::kinds::Object;
use catamaran_api::Status;
use catamaran_api::body::{self as text, Format};
use catamaran_api::patch::apply::{self, Applied, ApplyError, Managers};
use catamaran_api::schema::FieldValidation;
use serde_json::{Map, Value};

/// A declaration that was read.
struct Declaration {
    value: Value,
    /// Fields that its text has twice.
    duplicates: Vec<String>,
}

impl Registry {
    /// Applies a declaration, YAML or JSON. What is not there is created.
    pub(crate) async fn apply(
        &self,
        target: &Target,
        part: Part,
        patch: &[u8],
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        let declaration = Declaration::read(&target.resource, patch)?;
        for _ in 0..ATTEMPTS {
            let updated = self.apply_to_present(target, part, &declaration, options).await;
            match updated {
                Err(status) if status.code() == 404 && part == Part::Whole => {}
                other => return other,
            }
            match self.apply_to_nothing(target, &declaration, options).await {
                // Somebody else was faster.
                Err(status) if status.reason() == "AlreadyExists" => {}
                other => return other,
            }
        }
        Err(target.modified())
    }

    async fn apply_to_present(
        &self,
        target: &Target,
        part: Part,
        declaration: &Declaration,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        let served = self.served(target);
        let mut remake = |_: &_, old: &dyn Object, warnings: &mut Vec<String>| {
            let mut live = managed::bare(old)?;
            // The version counts only if the declaration states it.
            remove_version(&mut live);
            let managers = managed::decode(old.meta().managed_fields.as_deref()).unwrap_or_default();
            let write = served.write(&target.resource, &options.field_manager, options.subresource);
            let force = options.force == Some(true);
            let applied = apply::apply(&write, &live, &declaration.value, managers, force).map_err(refusal)?;
            warnings.extend(declaration.judge(options.validation)?);
            let Applied { object, managers } = applied;
            let mut new = match object {
                Some(object) => decode(target, object, warnings)?,
                None => old.boxed_clone(),
            };
            if declaration.value.pointer("/metadata/resourceVersion").is_none() {
                new.meta_mut().resource_version = None;
            }
            new.meta_mut().managed_fields = managers.encode();
            Ok(new)
        };
        self.change_tracked(target, part, options, Tracking::Done, &mut remake)
            .await
    }

    async fn apply_to_nothing(
        &self,
        target: &Target,
        declaration: &Declaration,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        self.may_create(target, options)?;
        if let Some(uid) = declaration.value.pointer("/metadata/uid").and_then(Value::as_str) {
            let why =
                format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
            return Err(Status::conflict(&target.resource.group_resource, &target.name, why));
        }
        let served = self.served(target);
        let applied = {
            let write = served.write(&target.resource, &options.field_manager, options.subresource);
            let empty = Value::Object(Map::new());
            apply::apply(&write, &empty, &declaration.value, Managers::default(), false).map_err(refusal)?
        };
        let mut warnings = declaration.judge(options.validation)?;
        let mut object = decode(target, applied.object.unwrap_or_default(), &mut warnings)?;
        check_name(target, object.meta().name.as_deref().unwrap_or_default())?;
        object.meta_mut().resource_version = None;
        object.meta_mut().managed_fields = applied.managers.encode();
        self.create_tracked(target, object, warnings, options, Tracking::Done)
            .await
    }

    /// Who may change an object may not therefore create it.
    ///
    /// # Errors
    /// 403 if the caller may not.
    pub(super) fn may_create(&self, target: &Target, options: &WriteOptions) -> Result<(), Status> {
        let info = &target.resource.info;
        let attempt = Attempt {
            verb: "create",
            resource: Some(AttemptedResource {
                group: &info.group,
                version: &info.version,
                plural: &info.plural,
                namespace: target.namespace.as_deref().unwrap_or_default(),
                name: &target.name,
                ..AttemptedResource::default()
            }),
            ..Attempt::new(&options.caller.identity)
        };
        match self.authorizer.decide(&attempt) {
            Verdict::Allowed => Ok(()),
            Verdict::Denied { reason } => Err(authz::forbidden(&attempt, &reason)),
        }
    }
}

impl Declaration {
    fn read(resource: &Resource, patch: &[u8]) -> Result<Self, Status> {
        let undecodable = |why: &dyn std::fmt::Display| Status::bad_request(format!("error decoding YAML: {why}"));
        let read = text::parse(Format::Yaml, patch)
            .map_err(|error| undecodable(&format_args!("error converting YAML to JSON: {}", error.reason())))?;
        if let Some(sort) =
            catamaran_api::patch::json::sort_unless_object(&read.value).filter(|_| !read.value.is_null())
        {
            return Err(undecodable(&format_args!(
                "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {sort} into Go value of type \
                 map[string]interface {{}}"
            )));
        }
        let state = |field: &str| read.value.get(field).and_then(Value::as_str).unwrap_or_default();
        let (version, kind) = (state("apiVersion"), state("kind"));
        if version != resource.api_version || kind != resource.info.kind {
            let slash = if version.contains('/') { "" } else { "/" };
            return Err(Status::bad_request(format!(
                "invalid object type: {slash}{version}, Kind={kind}"
            )));
        }
        if read
            .value
            .pointer("/metadata/managedFields")
            .is_some_and(|fields| !fields.is_null())
        {
            return Err(Status::bad_request("metadata.managedFields must be nil"));
        }
        Ok(Declaration {
            value: read.value,
            duplicates: read.duplicates,
        })
    }

    /// What there is to say about fields that are there twice.
    fn judge(&self, validation: FieldValidation) -> Result<Vec<String>, Status> {
        if self.duplicates.is_empty() || validation == FieldValidation::Ignore {
            return Ok(Vec::new());
        }
        let lines: Vec<String> = self
            .duplicates
            .iter()
            .map(|path| {
                let key = path.rsplit('.').next().unwrap_or_default();
                format!("  key {} already set in map", catamaran_api::field::quote(key))
            })
            .collect();
        let text = format!(
            "error converting YAML to JSON: yaml: unmarshal errors:\n{}",
            lines.join("\n")
        );
        match validation {
            FieldValidation::Strict => Err(Status::bad_request(format!("error strict decoding YAML: {text}"))),
            _ => Ok(vec![text]),
        }
    }
}

fn refusal(error: ApplyError) -> Status {
    match error {
        ApplyError::Conflicts(conflicts) => conflicts.into_status(),
        other => Status::unknown(other.to_string()),
    }
}

/// The merged object, typed. What it does not know was refused before.
fn decode(target: &Target, object: Value, warnings: &mut Vec<String>) -> Result<Box<dyn Object>, Status> {
    body::decode(
        &target.resource,
        body::tree_body(object),
        FieldValidation::Ignore,
        warnings,
    )
}

fn remove_version(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("resourceVersion");
    }
}

fn check_name(target: &Target, name: &str) -> Result<(), Status> {
    if name.is_empty() {
        return Err(Status::bad_request(format!(
            "the name of the object ({} based on URL) was undeterminable: name must be provided",
            target.name
        )));
    }
    if name == target.name {
        return Ok(());
    }
    Err(Status::bad_request(format!(
        "the name of the object ({name}) does not match the name on the URL ({})",
        target.name
    )))
}
