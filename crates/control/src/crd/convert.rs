//! Conversion between the versions of a defined kind.
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definition-versioning/>

use crate::registry::convert::Converter;
use crate::webhook_client::{ClientConfig, Endpoint, WebhookClient};
use async_trait::async_trait;
use bytes::Bytes;
use catamaran_api::Status;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, WebhookClientConfig,
};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;

/// How long a webhook has.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Versions differ in their name only.
pub(super) struct NoConversion;

#[async_trait]
impl Converter for NoConversion {
    async fn convert(&self, mut objects: Vec<Value>, api_version: &str) -> Result<Vec<Value>, Status> {
        for object in &mut objects {
            object["apiVersion"] = Value::from(api_version);
        }
        Ok(objects)
    }
}

/// A webhook knows how versions differ.
pub(super) struct WebhookConversion {
    client: Arc<WebhookClient>,
    config: ClientConfig,
    /// Of ConversionReview, the first that the webhook and we speak.
    review_version: Option<String>,
}

impl WebhookConversion {
    /// `None`: the definition does not ask for one.
    pub(super) fn of(definition: &CustomResourceDefinition, client: &Arc<WebhookClient>) -> Option<Self> {
        let conversion = definition.spec.conversion.as_ref()?;
        if conversion.strategy != "Webhook" {
            return None;
        }
        let webhook = conversion.webhook.as_ref()?;
        let mut versions = webhook.conversion_review_versions.iter();
        let review_version = versions
            .find(|version| matches!(version.as_str(), "v1" | "v1beta1"))
            .cloned();
        Some(WebhookConversion {
            client: Arc::clone(client),
            config: config(webhook.client_config.as_ref()?),
            review_version,
        })
    }

    async fn ask(&self, objects: &[Value], api_version: &str) -> Result<Vec<Value>, String> {
        let version = self
            .review_version
            .as_deref()
            .ok_or("no supported conversion review versions")?;
        let review_api = format!("apiextensions.k8s.io/{version}");
        let uid = uuid::Uuid::new_v4().to_string();
        let review = json!({
            "kind": "ConversionReview",
            "apiVersion": review_api,
            "request": {"uid": uid, "desiredAPIVersion": api_version, "objects": objects},
        });
        let body = Bytes::from(review.to_string());
        let answer = self
            .client
            .call(&self.config, body, TIMEOUT)
            .await
            .map_err(|error| error.to_string())?;
        let review: Value = serde_json::from_slice(&answer).map_err(|error| error.to_string())?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        if text(&review["apiVersion"]) != review_api || text(&review["kind"]) != "ConversionReview" {
            return Err(format!(
                "expected webhook response of {review_api}, Kind=ConversionReview, got {}, Kind={}",
                text(&review["apiVersion"]),
                text(&review["kind"])
            ));
        }
        let response = review["response"].as_object().ok_or("no response provided")?;
        let answered = response.get("uid").and_then(Value::as_str).unwrap_or_default();
        if version == "v1" && answered != uid {
            return Err(format!("expected response.uid=\"{uid}\", got \"{answered}\""));
        }
        let result = response.get("result").cloned().unwrap_or_default();
        if text(&result["status"]) != "Success" {
            let message = text(&result["message"]);
            return Err(if message.is_empty() {
                format!(
                    "response.result.status was '{}', not 'Success'",
                    text(&result["status"])
                )
            } else {
                message
            });
        }
        let converted = response.get("convertedObjects").and_then(Value::as_array);
        Ok(converted.cloned().unwrap_or_default())
    }
}

#[async_trait]
impl Converter for WebhookConversion {
    async fn convert(&self, mut objects: Vec<Value>, api_version: &str) -> Result<Vec<Value>, Status> {
        let asked: Vec<usize> = (0..objects.len())
            .filter(|index| objects[*index]["apiVersion"] != api_version)
            .collect();
        let Some(first) = asked.first() else { return Ok(objects) };
        let about = named(&objects[*first]);
        let wanted: Vec<Value> = asked.iter().map(|index| objects[*index].clone()).collect();
        let converted = self
            .ask(&wanted, api_version)
            .await
            .map_err(|why| Status::internal(format!("conversion webhook for {about} failed: {why}")))?;
        if converted.len() != wanted.len() {
            return Err(Status::internal(format!(
                "conversion webhook for {about} returned {} objects, expected {}",
                converted.len(),
                wanted.len()
            )));
        }
        let single = wanted.len() == 1;
        for (index, ((place, mut new), old)) in asked.into_iter().zip(converted).zip(wanted).enumerate() {
            check(&mut new, &old, api_version).map_err(|(what, why)| {
                let what = match (what, single) {
                    (Wrong::Type, true) => "invalid object at index 0".to_owned(),
                    (Wrong::Object, true) => "invalid object".to_owned(),
                    (Wrong::Metadata, true) => "invalid metadata".to_owned(),
                    (Wrong::Type | Wrong::Object, false) => format!("invalid converted object at index {index}"),
                    (Wrong::Metadata, false) => format!("invalid metadata in object at index {index}"),
                };
                Status::internal(format!("conversion webhook for {about} returned {what}: {why}"))
            })?;
            objects[place] = new;
        }
        Ok(objects)
    }
}

/// Group, version and kind, as errors name them.
fn named(object: &Value) -> String {
    let text = |field: &str| object[field].as_str().unwrap_or_default().to_owned();
    format!("{}, Kind={}", text("apiVersion"), text("kind"))
}

/// What of a converted object is not as it has to be.
enum Wrong {
    Type,
    Object,
    Metadata,
}

/// Only labels and annotations of the metadata may have changed; the rest is put back.
fn check(new: &mut Value, old: &Value, api_version: &str) -> Result<(), (Wrong, String)> {
    let received = new["apiVersion"].as_str().unwrap_or_default();
    if received != api_version {
        let why = format!("invalid groupVersion (expected {api_version}, received {received})");
        return Err((Wrong::Type, why));
    }
    let same = |pointer: &str, what: &str| {
        let (a, b) = (text_at(old, pointer), text_at(new, pointer));
        if a == b {
            Ok(())
        } else {
            Err((Wrong::Object, format!("must have the same {what}: {a} != {b}")))
        }
    };
    same("/kind", "kind")?;
    same("/metadata/name", "name")?;
    same("/metadata/namespace", "namespace")?;
    same("/metadata/uid", "UID")?;
    let Some(Value::Object(changed)) = new.get("metadata").cloned() else {
        return Err((Wrong::Metadata, "missing metadata in converted object".to_owned()));
    };
    let mut metadata: Map<String, Value> = old["metadata"].as_object().cloned().unwrap_or_default();
    for field in ["labels", "annotations"] {
        metadata.remove(field);
        match changed.get(field) {
            None | Some(Value::Null) => {}
            Some(Value::Object(texts)) => {
                if let Some((key, value)) = texts.iter().find(|(_, value)| !value.is_string()) {
                    return Err((
                        Wrong::Metadata,
                        format!(
                            "metadata.{field}[{key}] must be a string, but is {} in converted object",
                            go_type(value)
                        ),
                    ));
                }
                metadata.insert(field.to_owned(), Value::Object(texts.clone()));
            }
            Some(other) => {
                let why = format!(
                    "invalid metadata.{field} of type {} in converted object",
                    go_type(other)
                );
                return Err((Wrong::Metadata, why));
            }
        }
    }
    new["metadata"] = Value::Object(metadata);
    Ok(())
}

/// As Kubernetes' errors call the types of JSON.
fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

fn text_at(object: &Value, pointer: &str) -> String {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

fn config(client: &WebhookClientConfig) -> ClientConfig {
    let endpoint = match (&client.url, &client.service) {
        (_, Some(service)) => Endpoint::Service {
            namespace: service.namespace.clone(),
            name: service.name.clone(),
            path: service.path.clone().unwrap_or_default(),
            port: service.port.and_then(|port| u16::try_from(port).ok()).unwrap_or(443),
        },
        (url, None) => Endpoint::Url(url.clone().unwrap_or_default()),
    };
    ClientConfig {
        endpoint,
        ca_bundle: client
            .ca_bundle
            .as_ref()
            .map(|bundle| bundle.0.clone())
            .unwrap_or_default(),
    }
}
