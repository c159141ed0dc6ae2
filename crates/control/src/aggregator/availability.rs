//! Is another server there? First whether its service has somewhere to go, then whether anybody answers.

use super::{Backend, Target};
use crate::authn::Identity;
use crate::registry::Registry;
use axum::body::Body;
use bytes::Bytes;
use catamaran_api::field::quote;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use k8s_openapi::api::core::v1::{Endpoints, Service, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use std::time::Duration;

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest document that is read.
const MAX_DOCUMENT: usize = 16 << 20;

/// Why a server is not available: reason and message of the condition.
#[derive(Debug, PartialEq)]
pub(super) struct Unavailable {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// What another server answered; `bytes` only of a success.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) etag: Option<HeaderValue>,
    pub(super) bytes: Bytes,
}

/// What the cache knows of a service.
pub(super) struct Known {
    pub(super) service: Option<Service>,
    pub(super) slices: Vec<EndpointSlice>,
    pub(super) endpoints: Option<Endpoints>,
}

impl Known {
    pub(super) fn of(registry: &Registry, target: &Target) -> Self {
        let read = |plural: &str| registry.peek("v1", plural, Some(&target.namespace), &target.service);
        let label = ("kubernetes.io/service-name", target.service.as_str());
        let slices = registry.peek_labelled("discovery.k8s.io/v1", "endpointslices", &target.namespace, label);
        Known {
            service: read("services").and_then(|record| serde_json::from_slice(&record.json()).ok()),
            slices: slices
                .iter()
                .filter_map(|record| serde_json::from_slice(&record.json()).ok())
                .collect(),
            endpoints: read("endpoints").and_then(|record| serde_json::from_slice(&record.json()).ok()),
        }
    }
}

/// Pure: has the service somewhere to go?
pub(super) fn check(target: &Target, known: &Known) -> Result<(), Unavailable> {
    let named = format!("service/{} in {}", target.service, quote(&target.namespace));
    let fail = |reason, message| Err(Unavailable { reason, message });
    let Some(service) = &known.service else {
        return fail("ServiceNotFound", format!("{named} is not present"));
    };
    let spec = service.spec.clone().unwrap_or_default();
    if spec.type_.as_deref().unwrap_or("ClusterIP") != "ClusterIP" {
        return Ok(());
    }
    let is_wanted = |port: &&ServicePort| port.port == i32::from(target.port);
    let Some(port) = spec.ports.iter().flatten().find(is_wanted) else {
        let message = format!("{named} is not listening on port {}", target.port);
        return fail("ServicePortError", message);
    };
    if known.slices.is_empty() && known.endpoints.is_none() {
        return fail("EndpointsNotFound", format!("cannot find endpointslices for {named}"));
    }
    let name = port.name.as_deref().unwrap_or_default();
    if !has_endpoint(known, name) {
        let message = format!(
            "endpointslices for {named} have no addresses with port name {}",
            quote(name)
        );
        return fail("MissingEndpoints", message);
    }
    Ok(())
}

fn has_endpoint(known: &Known, port: &str) -> bool {
    let ready = |slice: &EndpointSlice| {
        slice.endpoints.iter().any(|endpoint| {
            let conditions = endpoint.conditions.as_ref();
            conditions.is_none_or(|conditions| conditions.ready != Some(false))
        })
    };
    let names = |slice: &EndpointSlice| {
        let ports = slice.ports.iter().flatten();
        ports
            .into_iter()
            .any(|own| own.name.as_deref().unwrap_or_default() == port && own.port.is_some())
    };
    if !known.slices.is_empty() {
        return known.slices.iter().any(|slice| ready(slice) && names(slice));
    }
    let subsets = known
        .endpoints
        .iter()
        .flat_map(|endpoints| endpoints.subsets.iter().flatten());
    subsets.into_iter().any(|subset| {
        let addresses = subset.addresses.as_ref().is_some_and(|addresses| !addresses.is_empty());
        let ports = subset.ports.iter().flatten();
        addresses
            && ports
                .into_iter()
                .any(|own| own.name.as_deref().unwrap_or_default() == port)
    })
}

impl Backend {
    /// Asks for the group and version, which every server has to answer. Returns the answer.
    pub(super) async fn probe(&self) -> Result<Bytes, Unavailable> {
        let path = format!("/apis/{}", self.target.api_version());
        self.document(&path).await.map_err(|why| {
            let url = self.uri(&path).map(|uri| uri.to_string()).unwrap_or_default();
            Unavailable {
                reason: "FailedDiscoveryCheck",
                message: format!("failing or missing response from {url}: {why}"),
            }
        })
    }

    /// A document of the other server.
    pub(super) async fn document(&self, path: &str) -> Result<Bytes, String> {
        let answer = self.ask(path, None).await?;
        if answer.status.is_success() {
            return Ok(answer.bytes);
        }
        let url = self.uri(path).map(|uri| uri.to_string()).unwrap_or_default();
        Err(format!("bad status from {url}: {}", answer.status.as_u16()))
    }

    /// The same, if it is not the one with this tag.
    pub(super) async fn ask(&self, path: &str, etag: Option<&HeaderValue>) -> Result<Answer, String> {
        match tokio::time::timeout(PATIENCE, self.read(path, etag)).await {
            Ok(read) => read,
            Err(_) => Err(format!("Get {}: context deadline exceeded", quote(path))),
        }
    }

    async fn read(&self, path: &str, etag: Option<&HeaderValue>) -> Result<Answer, String> {
        let client = self.client.as_ref().map_err(Clone::clone)?;
        let uri = self.uri(path).map_err(|error| error.to_string())?;
        let url = uri.to_string();
        let mut request = Request::get(uri)
            .header(header::ACCEPT, "application/json")
            .body(Body::empty())
            .map_err(|error| error.to_string())?;
        if let Some(etag) = etag {
            request.headers_mut().insert(header::IF_NONE_MATCH, etag.clone());
        }
        let identity = Identity::authenticated("system:kube-aggregator", &["system:masters"]);
        super::authentication::state(&identity, request.headers_mut());
        let failed = |error: &(dyn std::error::Error + 'static)| {
            format!("Get {}: {}", quote(&url), crate::webhook_client::detail(error))
        };
        let answer = client.request(request).await.map_err(|error| failed(&error))?;
        let status = answer.status();
        let etag = answer.headers().get(header::ETAG).cloned();
        let bytes = match status.is_success() {
            true => {
                let body = Limited::new(answer.into_body(), MAX_DOCUMENT).collect().await;
                body.map_err(|error| format!("Get {}: {error}", quote(&url)))?
                    .to_bytes()
            }
            false => Bytes::new(),
        };
        Ok(Answer { status, etag, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn known(service: Value, slices: Value, endpoints: Value) -> Known {
        Known {
            service: serde_json::from_value(service).expect("a service"),
            slices: serde_json::from_value(slices).expect("slices"),
            endpoints: serde_json::from_value(endpoints).expect("endpoints"),
        }
    }

    #[test]
    fn services_that_lead_nowhere() {
        let target = Target {
            name: "v1.a".to_owned(),
            group: "a".to_owned(),
            version: "v1".to_owned(),
            namespace: "n".to_owned(),
            service: "s".to_owned(),
            port: 443,
            ca_bundle: Vec::new(),
            insecure: false,
        };
        let service = json!({"metadata": {}, "spec": {"type": "ClusterIP", "ports": [{"port": 443, "name": "https"}]}});
        let slice = |ready: bool, name: &str| {
            json!([{"metadata": {}, "addressType": "IPv4", "ports": [{"name": name, "port": 1}],
                "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": ready}}]}])
        };
        let none = || json!([]);
        let endpoints = json!({"metadata": {}, "subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"name": "https", "port": 1}]}]});
        let cases = [
            (
                known(Value::Null, none(), Value::Null),
                "ServiceNotFound: service/s in \"n\" is not present",
            ),
            (
                known(
                    json!({"metadata": {}, "spec": {"ports": [{"port": 80}]}}),
                    none(),
                    Value::Null,
                ),
                "ServicePortError: service/s in \"n\" is not listening on port 443",
            ),
            (
                known(service.clone(), none(), Value::Null),
                "EndpointsNotFound: cannot find endpointslices for service/s in \"n\"",
            ),
            (
                known(service.clone(), slice(false, "https"), Value::Null),
                "MissingEndpoints: endpointslices for service/s in \"n\" have no addresses with port name \"https\"",
            ),
            (
                known(service.clone(), slice(true, "http"), Value::Null),
                "MissingEndpoints: endpointslices for service/s in \"n\" have no addresses with port name \"https\"",
            ),
            (known(service.clone(), slice(true, "https"), Value::Null), ""),
            (known(service, none(), endpoints), ""),
            (
                known(
                    json!({"metadata": {}, "spec": {"type": "ExternalName"}}),
                    none(),
                    Value::Null,
                ),
                "",
            ),
        ];
        for (known, expected) in cases {
            let found = check(&target, &known).err();
            let found = found
                .map(|why| format!("{}: {}", why.reason, why.message))
                .unwrap_or_default();
            assert_eq!(found, expected);
        }
    }
}
