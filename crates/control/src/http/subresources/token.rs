//! POST to `serviceaccounts/token`: a token for the account, bound to a pod, a Secret or a node if the request says so.
//! <https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-request-v1/>

use crate::admission::node_restriction;
use crate::authn::{Bound, Issue, Reference, service_account};
use crate::authz::node::name_of;
use crate::http::render;
use crate::http::resource::{Call, format, read};
use crate::registry::tree;
use axum::body::Body;
use axum::response::Response;
use catamaran_api::{Errors, GroupKind, GroupResource, Path, Status, body};
use http::{Method, StatusCode};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::BoundObjectReference;
use serde::Deserialize;
use serde_json::{Value, json};

const API_VERSION: &str = "authentication.k8s.io/v1";
const KIND: &str = "TokenRequest";
const DEFAULT_SECONDS: i64 = 60 * 60;
const SHORTEST_SECONDS: i64 = 10 * 60;
const LONGEST_SECONDS: i64 = 1 << 32;
/// What pods' own volumes ask for. Such tokens live much longer, but their use after this is worth a warning: clients that
/// never read their token again go on working.
const VOLUME_SECONDS: i64 = 60 * 60 + 7;
const EXTENDED_SECONDS: i64 = 365 * 24 * 60 * 60;

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    audiences: Option<Vec<String>>,
    bound_object_ref: Option<BoundObjectReference>,
    expiration_seconds: Option<i64>,
}

pub(super) async fn answer(call: &Call<'_>, body: Body) -> Result<Response, Status> {
    if call.head.method != Method::POST {
        return Err(Status::method_not_allowed());
    }
    let options = call.write_options("CreateOptions")?;
    let style = call.style()?;
    let bytes = read(&call.head.headers, body).await?;
    let mut object = body::parse(format(&call.head.headers)?, &bytes)?.value;
    check_type(&object)?;
    object["apiVersion"] = json!(API_VERSION);
    object["kind"] = json!(KIND);
    default(&mut object);
    let registry = &call.app.registry;
    let admitted = registry.mutate_body(&call.target, object, &options).await?;
    let (mut object, mut warnings) = (admitted.body, admitted.warnings);
    check_type(&object)?;
    let now = Timestamp::now();
    let spec = spec(&object)?;
    let account = Account::find(call).await?;
    account.check_name(&object)?;

    let tokens = call.app.authenticator.service_accounts();
    let audiences_asked = spec.audiences.clone().unwrap_or_default();
    let audiences = match audiences_asked.is_empty() {
        true => tokens.audiences().to_vec(),
        false => audiences_asked.clone(),
    };
    account.admit(call, &spec, &audiences_asked)?;
    let bound = match &spec.bound_object_ref {
        Some(reference) => account.bound(call, reference)?,
        None => Bound::Nothing,
    };
    let seconds = spec.expiration_seconds.unwrap_or(DEFAULT_SECONDS);
    let for_this_server = audiences.iter().all(|audience| tokens.audiences().contains(audience));
    let extended = matches!(bound, Bound::Pod(..)) && seconds == VOLUME_SECONDS && for_this_server;
    let issue = Issue {
        namespace: &account.namespace,
        account: account.reference.clone(),
        bound,
        audiences: &audiences,
        seconds: if extended { EXTENDED_SECONDS } else { seconds },
        warn_after: extended.then_some(seconds),
    };
    let until = now + SignedDuration::from_secs(seconds);
    object["metadata"]["name"] = json!(account.reference.name);
    object["metadata"]["namespace"] = json!(account.namespace);
    object["metadata"]["creationTimestamp"] = json!(seconds_only(now));
    object["spec"] = json!({
        "audiences": audiences,
        "expirationSeconds": seconds,
        "boundObjectRef": spec.bound_object_ref,
    });
    object["status"] = json!({ "token": "", "expirationTimestamp": null });
    warnings.extend(registry.validate_body(&call.target, object.clone(), &options).await?);
    let token = match options.dry_run {
        true => String::new(),
        false => tokens.issue(&issue, now).map_err(Status::internal)?,
    };
    object["status"] = json!({ "token": token, "expirationTimestamp": seconds_only(until) });
    let mut response = render::respond(style.form, StatusCode::CREATED, render::to_bytes(&object)?)?;
    render::warn(&mut response, &warnings);
    Ok(response)
}

/// What is not said is filled in before admission sees it.
fn default(object: &mut Value) {
    if object["spec"].is_null() {
        object["spec"] = json!({});
    }
    if let Some(spec) = object["spec"].as_object_mut() {
        let seconds = spec.entry("expirationSeconds").or_insert(Value::Null);
        if seconds.is_null() {
            *seconds = json!(DEFAULT_SECONDS);
        }
    }
}

fn seconds_only(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn check_type(object: &Value) -> Result<(), Status> {
    let stated = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
    let (kind, api_version) = (stated("kind"), stated("apiVersion"));
    let has_metadata = object
        .get("metadata")
        .is_none_or(|own| own.is_object() || own.is_null());
    if object.is_object() && has_metadata && matches!(kind, "" | KIND) && matches!(api_version, "" | API_VERSION) {
        return Ok(());
    }
    Err(Status::bad_request(format!(
        "the API version in the data ({api_version}) does not match the expected API version ({API_VERSION})"
    )))
}

fn spec(object: &Value) -> Result<Spec, Status> {
    let spec: Option<Spec> = serde_json::from_value(object["spec"].clone()).map_err(|error| {
        Status::bad_request(format!(
            "{KIND} in version \"v1\" cannot be handled as a {KIND}: {error}"
        ))
    })?;
    let spec = spec.unwrap_or_default();
    let mut errors = Errors::new();
    let path = Path::new("spec.expirationSeconds");
    match spec.expiration_seconds {
        Some(seconds) if seconds < SHORTEST_SECONDS => {
            errors.invalid(&path, seconds, "may not specify a duration less than 10 minutes");
        }
        Some(seconds) if seconds > LONGEST_SECONDS => {
            errors.invalid(&path, seconds, "may not specify a duration larger than 2^32 seconds");
        }
        _ => {}
    }
    if errors.is_empty() {
        return Ok(spec);
    }
    let kind = GroupKind::from_static("authentication.k8s.io", KIND);
    Err(Status::invalid(&kind, "", &errors))
}

/// The account a token is asked for.
struct Account {
    namespace: String,
    reference: Reference,
}

impl Account {
    async fn find(call: &Call<'_>) -> Result<Self, Status> {
        let record = call.app.registry.get(&call.target).await?;
        Ok(Account {
            namespace: call.target.namespace.clone().unwrap_or_default(),
            reference: Reference {
                name: call.target.name.clone(),
                uid: service_account::uid(&record),
            },
        })
    }

    fn check_name(&self, object: &Value) -> Result<(), Status> {
        let fits = |field: &str, own: &str| {
            object["metadata"][field]
                .as_str()
                .is_none_or(|stated| stated.is_empty() || stated == own)
        };
        if !fits("name", &self.reference.name) {
            return Err(Status::bad_request(format!(
                "metadata.name: Invalid value: {}: must match the service account name if specified",
                object["metadata"]["name"]
            )));
        }
        if !fits("namespace", &self.namespace) {
            return Err(Status::bad_request(format!(
                "metadata.namespace: Invalid value: {}: must match the service account namespace if specified",
                object["metadata"]["namespace"]
            )));
        }
        Ok(())
    }

    /// Nodes have tokens only for what they run.
    fn admit(&self, call: &Call<'_>, spec: &Spec, audiences: &[String]) -> Result<(), Status> {
        let caller = call.caller();
        if name_of(&caller.identity).is_none() {
            return Ok(());
        }
        let name = spec
            .bound_object_ref
            .as_ref()
            .and_then(|bound| bound.name.as_deref())
            .unwrap_or_default();
        let record = call.app.registry.peek("v1", "pods", Some(&self.namespace), name);
        let pod = record.and_then(|record| serde_json::from_slice(&record.json()).ok());
        let bound = spec.bound_object_ref.as_ref();
        node_restriction::admit_token(&caller.identity, bound, audiences, pod.as_ref(), &self.reference.name)
    }

    /// The object a token is to live and die with. The caches are fresh.
    fn bound(&self, call: &Call<'_>, wanted: &BoundObjectReference) -> Result<Bound, Status> {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (name, uid) = (text(&wanted.name), text(&wanted.uid));
        let (api_version, kind) = (text(&wanted.api_version), text(&wanted.kind));
        let (plural, namespace) = match (api_version.as_str(), kind.as_str()) {
            ("v1", "Pod") => ("pods", Some(self.namespace.as_str())),
            ("v1", "Secret") => ("secrets", Some(self.namespace.as_str())),
            ("v1", "Node") => ("nodes", None),
            _ => {
                return Err(Status::bad_request(format!(
                    "cannot bind token to object of type {api_version}, Kind={kind}"
                )));
            }
        };
        let resource = GroupResource::from_static("", plural);
        let registry = &call.app.registry;
        let record = registry.peek("v1", plural, namespace, &name);
        let record = record.ok_or_else(|| Status::not_found(&resource, &name))?;
        let object = tree(&record)?;
        let node = object["spec"]["nodeName"].as_str().filter(|node| !node.is_empty());
        if plural == "pods" && object["spec"]["serviceAccountName"] != *self.reference.name {
            let own = catamaran_api::field::quote(&self.reference.name);
            return Err(Status::bad_request(format!(
                "cannot bind token for serviceaccount {own} to pod running with different serviceaccount name."
            )));
        }
        let own_uid = object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        if !uid.is_empty() && uid != own_uid {
            return Err(Status::conflict(
                &resource,
                &name,
                format!(
                    "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
                ),
            ));
        }
        let reference = Reference { name, uid: own_uid };
        Ok(match plural {
            "pods" => {
                let node = node.map(|node| Reference {
                    name: node.to_owned(),
                    uid: registry
                        .peek("v1", "nodes", None, node)
                        .map(|node| service_account::uid(&node))
                        .unwrap_or_default(),
                });
                Bound::Pod(reference, node)
            }
            "secrets" => Bound::Secret(reference),
            _ => Bound::Node(reference),
        })
    }
}
