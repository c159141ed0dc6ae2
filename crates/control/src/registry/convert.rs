//! The edge between the version a request speaks and the version in which an object is kept.
//!
//! Everything in between (defaults, admission, validation, patches) happens in the version of the request; only what goes to
//! the store and what comes from it is converted. The caches hold objects as they were stored. Most kinds have one
//! version: for them the edge costs a comparison.

use super::resource::Resource;
use super::{Registry, codec_failed};
use crate::kinds::{ErasedKind, Hub, Object};
use crate::watch_cache::{Record, Step};
use async_trait::async_trait;
use bytes::Bytes;
use catamaran_api::Status;
use serde_json::Value;
use std::sync::Arc;

/// Takes objects of one kind from version to version.
#[async_trait]
pub(crate) trait Converter: Send + Sync {
    /// Converts whole objects, each from whatever version it states, to `api_version`: as many, in the same order.
    ///
    /// # Errors
    /// If any of them cannot be converted; then none is.
    async fn convert(&self, objects: Vec<Value>, api_version: &str) -> Result<Vec<Value>, Status>;
}

/// Between a compiled-in version and its hub.
pub(crate) struct BuiltinConverter {
    own: String,
    hub: Hub,
    hub_version: String,
}

impl BuiltinConverter {
    pub(crate) fn new(kind: &'static dyn ErasedKind, hub: Hub) -> Self {
        BuiltinConverter {
            own: kind.info().api_version(),
            hub_version: hub.kind.info().api_version(),
            hub,
        }
    }
}

#[async_trait]
impl Converter for BuiltinConverter {
    async fn convert(&self, objects: Vec<Value>, api_version: &str) -> Result<Vec<Value>, Status> {
        let step = if api_version == self.hub_version {
            self.hub.to
        } else if api_version == self.own {
            self.hub.from
        } else {
            return Err(Status::internal(format!("no conversion to {api_version}")));
        };
        let states = |object: &Value| object.get("apiVersion").and_then(Value::as_str) == Some(api_version);
        Ok(objects
            .into_iter()
            .map(|object| if states(&object) { object } else { step(object) })
            .collect())
    }
}

impl Registry {
    /// Records as `resource` serves them.
    pub(crate) async fn shown(
        &self,
        resource: &Resource,
        records: Vec<Arc<Record>>,
    ) -> Result<Vec<Arc<Record>>, Status> {
        shown(resource, records).await
    }

    /// One record as `resource` serves it.
    pub(crate) async fn shown_one(&self, resource: &Resource, record: Arc<Record>) -> Result<Arc<Record>, Status> {
        if fits(resource, &record) {
            return Ok(record);
        }
        let mut records = shown(resource, vec![record]).await?;
        records
            .pop()
            .ok_or_else(|| Status::internal("a conversion lost an object"))
    }

    /// An object of one version of a kind in another.
    pub(crate) async fn converted(&self, from: &Resource, to: &Resource, value: Value) -> Result<Value, Status> {
        let storage = from.storage();
        let stored = convert(from, vec![value], &storage.api_version).await?;
        let converted = convert(to, stored, &to.api_version).await?;
        converted
            .into_iter()
            .next()
            .ok_or_else(|| Status::internal("a conversion lost an object"))
    }

    /// The bytes to store for an object of `resource`, given in the form that [`Resource::encode`] makes.
    pub(super) async fn to_storage(&self, resource: &Resource, encoded: &Bytes) -> Result<Bytes, Status> {
        let storage = resource.storage();
        if storage.api_version == resource.api_version {
            return Ok(encoded.clone());
        }
        let value: Value = serde_json::from_slice(encoded).map_err(|error| codec_failed(&error))?;
        let converted = convert(resource, vec![value], &storage.api_version).await?;
        let mut object = first(storage, converted)?;
        storage.encode(object.as_mut()).map_err(|error| codec_failed(&error))
    }
}

/// Steps as `resource` serves them.
pub(super) async fn shown_steps(resource: &Resource, steps: Vec<Arc<Step>>) -> Result<Vec<Arc<Step>>, Status> {
    let fit = |step: &Arc<Step>| fits(resource, &step.new) && step.old.as_ref().is_none_or(|old| fits(resource, old));
    if steps.iter().all(fit) {
        return Ok(steps);
    }
    let mut records = Vec::with_capacity(steps.len() * 2);
    for step in &steps {
        records.push(Arc::clone(&step.new));
        records.extend(step.old.clone());
    }
    let mut records = shown(resource, records).await?.into_iter();
    let lost = || Status::internal("a conversion lost an object");
    steps
        .iter()
        .map(|step| {
            let new = records.next().ok_or_else(lost)?;
            let old = match &step.old {
                Some(_) => Some(records.next().ok_or_else(lost)?),
                None => None,
            };
            Ok(Arc::new(Step {
                change: step.change,
                old,
                new,
            }))
        })
        .collect()
}

/// Is the record in the version that is asked for?
pub(super) fn fits(resource: &Resource, record: &Record) -> bool {
    resource.converter.is_none() || *record.api_version == *resource.api_version || record.failure().is_some()
}

async fn shown(resource: &Resource, mut records: Vec<Arc<Record>>) -> Result<Vec<Arc<Record>>, Status> {
    let strange: Vec<usize> = (0..records.len())
        .filter(|index| !fits(resource, &records[*index]))
        .collect();
    if strange.is_empty() {
        return Ok(records);
    }
    let mut values = Vec::with_capacity(strange.len());
    for index in &strange {
        values.push(super::tree(&records[*index])?);
    }
    let converted = convert(resource, values, &resource.api_version).await?;
    for (index, value) in strange.into_iter().zip(converted) {
        let record = &records[index];
        let mut object = resource.kind.decode(value).map_err(|error| codec_failed(&error))?;
        let stored = resource.encode(object.as_mut()).map_err(|error| codec_failed(&error))?;
        let mut shown = Record::new(
            resource,
            Arc::clone(&record.key),
            &stored,
            record.revision,
            record.change(),
        )
        .map_err(|error| codec_failed(&error))?;
        shown.outdated = record.outdated;
        records[index] = Arc::new(shown);
    }
    Ok(records)
}

async fn convert(resource: &Resource, values: Vec<Value>, api_version: &str) -> Result<Vec<Value>, Status> {
    let Some(converter) = &resource.converter else {
        return Ok(values);
    };
    let count = values.len();
    let converted = converter.convert(values, api_version).await?;
    if converted.len() != count {
        return Err(Status::internal(format!(
            "a conversion of {count} objects to {api_version} answered with {}",
            converted.len()
        )));
    }
    Ok(converted)
}

fn first(resource: &Resource, values: Vec<Value>) -> Result<Box<dyn Object>, Status> {
    let value = values.into_iter().next().unwrap_or_default();
    resource.kind.decode(value).map_err(|error| codec_failed(&error))
}
