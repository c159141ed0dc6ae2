//! How many there shall be, whatever it is: one small object in place of every kind that has replicas.

use crate::admission::{Attributes, Operation};
use crate::kinds::{Object, ScalePaths, SelectorPath};
use crate::registry::update::Part;
use crate::registry::{ATTEMPTS, Registry, Target, WriteOptions, Written, tree};
use crate::watch_cache::Record;
use bytes::Bytes;
use catamaran_api::selector::Selector;
use catamaran_api::{Errors, GroupKind, GroupResource, Path, Status};
use k8s_openapi::api::autoscaling::v1::{Scale, ScaleSpec, ScaleStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde_json::{Value, json};
use std::any::Any;

const KIND: GroupKind = GroupKind::from_static("autoscaling", "Scale");

/// The scale a request asks for, made from the present one.
pub(crate) type Wish<'a> = dyn Fn(&Value) -> Result<Scale, Status> + Send + Sync + 'a;

impl Registry {
    /// GET of a scale.
    pub(crate) async fn scale(&self, target: &Target) -> Result<Bytes, Status> {
        let record = self.get(target).await?;
        let scale = of_record(target, &record)?;
        serde_json::to_vec(&scale).map(Bytes::from).map_err(Status::internal)
    }

    /// Changes a scale, and with it the replicas of its object. If somebody else wrote in between it is done anew, unless the
    /// scale says which version it was made from.
    pub(crate) async fn change_scale(
        &self,
        target: &Target,
        wish: &Wish<'_>,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        for _ in 0..ATTEMPTS {
            let current = self.get(target).await?;
            let old = of_changed(target, &current)?;
            let present = serde_json::to_value(&old).map_err(Status::internal)?;
            let wanted = wish(&present)?;
            validate(target, &wanted)?;
            check_uid(target, &wanted, &old)?;
            let wanted = self.admit_scale(target, wanted, &old, options).await?;
            let version = wanted
                .metadata
                .resource_version
                .clone()
                .filter(|version| !matches!(version.as_str(), "" | "0"));
            if version
                .as_ref()
                .is_some_and(|version| *version != current.revision.to_string())
            {
                return Err(target.modified());
            }
            let replicas = wanted.spec.and_then(|spec| spec.replicas).unwrap_or(0);
            match self.set_replicas(target, &current, replicas, options).await {
                Err(status) if status.code() == 409 && version.is_none() => {}
                other => return other,
            }
        }
        Err(target.modified())
    }

    async fn admit_scale(
        &self,
        target: &Target,
        wanted: Scale,
        old: &Scale,
        options: &WriteOptions,
    ) -> Result<Scale, Status> {
        let attributes = Attributes::new(target, Operation::Update, Some(old), options);
        let mut object: Box<dyn Object> = Box::new(wanted);
        self.admission.mutate(&self.world(), &attributes, &mut object).await?;
        self.admission
            .validate(&self.world(), &attributes, Some(object.as_ref()))
            .await?;
        let any: Box<dyn Any> = object;
        let scale = any
            .downcast::<Scale>()
            .map_err(|_| Status::internal("admission returned something else"))?;
        Ok(*scale)
    }

    /// Writes the replicas into the object, if it is still the one that was read.
    async fn set_replicas(
        &self,
        target: &Target,
        read: &Record,
        replicas: i32,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        let paths = paths(target)?;
        let mut written = self
            .change(target, Part::Scale, options, &mut |current, _, _| {
                let mut value = tree(current)?;
                set(&mut value, &paths.spec_replicas, json!(replicas));
                value["metadata"]["resourceVersion"] = json!(read.revision.to_string());
                target.resource.kind.decode(value).map_err(Status::internal)
            })
            .await?;
        let value: Value = serde_json::from_slice(&written.json).map_err(Status::internal)?;
        let scale = of_value(&paths, &value)?;
        written.json = serde_json::to_vec(&scale).map(Bytes::from).map_err(Status::internal)?;
        Ok(written)
    }

    /// An apply patch to a scale is one to its object that declares the replicas and nothing else.
    pub(crate) async fn apply_scale(
        &self,
        target: &Target,
        declaration: &Value,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        let text = |field: &str| declaration.get(field).and_then(Value::as_str).unwrap_or_default();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        if api_version != "autoscaling/v1" || kind != "Scale" {
            let slash = if api_version.contains('/') { "" } else { "/" };
            return Err(Status::bad_request(format!(
                "invalid object type: {slash}{api_version}, Kind={kind}"
            )));
        }
        let mut scale: Scale = serde_json::from_value(declaration.clone())
            .map_err(|error| Status::bad_request(format!("error decoding YAML: {error}")))?;
        let paths = paths(target)?;
        let info = &target.resource.info;
        let mut own = json!({
            "apiVersion": target.resource.api_version,
            "kind": info.kind,
            "metadata": { "name": target.name },
        });
        if let Some(version) = &scale.metadata.resource_version {
            own["metadata"]["resourceVersion"] = json!(version);
        }
        scale.metadata.name = Some(target.name.clone());
        validate(target, &scale)?;
        // Admission judges, and may change, the scale as it would be.
        let current = self.get(target).await?;
        let old = of_record(target, &current)?;
        let declared = scale.spec.as_ref().and_then(|spec| spec.replicas);
        let mut result = old.clone();
        if declared.is_some() {
            result.spec = scale.spec;
        }
        let before = result.spec.as_ref().and_then(|spec| spec.replicas);
        let admitted = self.admit_scale(target, result, &old, options).await?;
        validate(target, &admitted)?;
        let replicas = admitted.spec.as_ref().and_then(|spec| spec.replicas);
        let replicas = if replicas == before {
            declared
        } else {
            Some(replicas.unwrap_or(0))
        };
        if let Some(replicas) = replicas {
            set(&mut own, &paths.spec_replicas, json!(replicas));
        }
        let body = serde_json::to_vec(&own).map_err(Status::internal)?;
        let mut written = self.apply(target, Part::Scale, &body, options).await?;
        let value: Value = serde_json::from_slice(&written.json).map_err(Status::internal)?;
        let scale = of_value(&paths, &value)?;
        written.json = serde_json::to_vec(&scale).map(Bytes::from).map_err(Status::internal)?;
        Ok(written)
    }
}

fn paths(target: &Target) -> Result<ScalePaths, Status> {
    target.resource.kind.scale_paths().ok_or_else(Status::unknown_path)
}

fn of_record(target: &Target, record: &Record) -> Result<Scale, Status> {
    of_value(&paths(target)?, &tree(record)?)
}

/// The scale of an object that is about to be scaled: one that does not say how many has none.
fn of_changed(target: &Target, record: &Record) -> Result<Scale, Status> {
    let (paths, mut value) = (paths(target)?, tree(record)?);
    if at(&value, &paths.spec_replicas).is_none() {
        set(&mut value, &paths.spec_replicas, json!(0));
    }
    of_value(&paths, &value)
}

/// The scale of an object.
fn of_value(paths: &ScalePaths, value: &Value) -> Result<Scale, Status> {
    let number = |path: &str| {
        let number = at(value, path).and_then(Value::as_i64)?;
        i32::try_from(number).ok()
    };
    let Some(replicas) = number(&paths.spec_replicas) else {
        let path = &paths.spec_replicas;
        return Err(Status::internal(format!(
            "the spec replicas field \".{path}\" does not exist"
        )));
    };
    let metadata: ObjectMeta = serde_json::from_value(value["metadata"].clone()).map_err(Status::internal)?;
    Ok(Scale {
        metadata: ObjectMeta {
            name: metadata.name,
            namespace: metadata.namespace,
            uid: metadata.uid,
            resource_version: metadata.resource_version,
            creation_timestamp: metadata.creation_timestamp,
            ..ObjectMeta::default()
        },
        spec: Some(ScaleSpec {
            replicas: (replicas != 0).then_some(replicas),
        }),
        status: Some(ScaleStatus {
            replicas: number(&paths.status_replicas).unwrap_or(0),
            selector: selector(paths, value)?.filter(|selector| !selector.is_empty()),
        }),
    })
}

/// The selector as a query string.
fn selector(paths: &ScalePaths, value: &Value) -> Result<Option<String>, Status> {
    match &paths.selector {
        None => Ok(None),
        Some(SelectorPath::Text(path)) => Ok(at(value, path).and_then(Value::as_str).map(ToOwned::to_owned)),
        Some(SelectorPath::Labels(path)) => {
            let labels = at(value, path).and_then(Value::as_object).into_iter().flatten();
            let pairs = labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
            Ok(Some(pairs.collect::<Vec<_>>().join(",")))
        }
        Some(SelectorPath::Selector(path)) => {
            let Some(selector) = at(value, path) else {
                return Ok(None);
            };
            let selector: LabelSelector = serde_json::from_value(selector.clone()).map_err(Status::internal)?;
            let selector = Selector::from_object(&selector, &Path::new("spec"))
                .map_err(|errors| Status::internal(errors.message()))?;
            Ok(Some(selector.to_string()))
        }
    }
}

fn at<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').try_fold(value, |value, segment| value.get(segment))
}

fn set(value: &mut Value, path: &str, new: Value) {
    let mut place = value;
    for segment in path.split('.') {
        if !place.is_object() {
            *place = json!({});
        }
        place = &mut place[segment];
    }
    *place = new;
}

fn validate(target: &Target, scale: &Scale) -> Result<(), Status> {
    let mut errors = Errors::new();
    let replicas = scale.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0);
    if replicas < 0 {
        let path = Path::new("spec");
        errors.invalid(&path.child("replicas"), replicas, "must be greater than or equal to 0");
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(&KIND, &target.name, &errors))
}

fn check_uid(target: &Target, wanted: &Scale, old: &Scale) -> Result<(), Status> {
    let own = old.metadata.uid.as_deref().unwrap_or_default();
    match wanted.metadata.uid.as_deref() {
        None | Some("") => Ok(()),
        Some(uid) if uid == own => Ok(()),
        Some(uid) => {
            let resource = &target.resource.group_resource;
            let scales = GroupResource {
                group: resource.group.clone(),
                resource: format!("{}/scale", resource.resource).into(),
            };
            let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {own}");
            Err(Status::conflict(&scales, &target.name, why))
        }
    }
}
