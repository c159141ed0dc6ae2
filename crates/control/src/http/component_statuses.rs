//! `componentstatuses`: whether the parts of the control plane are well. They are all this one process, so whoever gets an
//! answer knows it already; what is left of the resource is two reads, for clients that still ask.
//! <https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/component-status-v1/>

use super::render;
use super::request_info::RequestInfo;
use super::resource::{Call, readable};
use crate::registry::List;
use crate::registry::resource::Resource;
use crate::watch_cache::Record;
use axum::response::Response;
use bytes::Bytes;
use catamaran_api::Status;
use http::StatusCode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as metav1;
use std::sync::Arc;

/// Those Kubernetes asks, under the names it gives them.
const COMPONENTS: [&str; 3] = ["controller-manager", "etcd-0", "scheduler"];

pub(super) fn are_meant(resource: &Resource) -> bool {
    resource.api_version == "v1" && resource.info.plural == "componentstatuses"
}

pub(super) async fn answer(call: &Call<'_>, info: &RequestInfo) -> Result<Response, Status> {
    if !readable(&call.head.method) {
        return Err(Status::method_not_allowed());
    }
    let resource = &call.target.resource;
    let style = call.style()?;
    if !info.name.is_empty() {
        let name = COMPONENTS.iter().find(|name| **name == info.name);
        let name = name.ok_or_else(|| unknown(&info.name))?;
        return render::object(resource, style, StatusCode::OK, well(name));
    }
    if call.query.flag("watch") == Some(true) {
        return Err(Status::method_not_supported(&resource.group_resource, "watch"));
    }
    let options = call.list_options()?;
    let mut records = Vec::with_capacity(COMPONENTS.len());
    for name in COMPONENTS {
        let record =
            Record::computed(resource, resource.key(None, name).into(), well(name)).map_err(Status::internal)?;
        if options.filter.matches(&record) {
            records.push(Arc::new(record));
        }
    }
    let list = List {
        records,
        revision: 0,
        continue_token: String::new(),
        remaining: None,
    };
    render::list(resource, style, list).await
}

/// The object of a component that is well.
fn well(name: &str) -> Bytes {
    let condition = r#"{"type":"Healthy","status":"True","message":"ok"}"#;
    Bytes::from(format!(
        r#"{{"kind":"ComponentStatus","apiVersion":"v1","metadata":{{"name":"{name}"}},"conditions":[{condition}]}}"#
    ))
}

/// Kubernetes has no better code for this either.
fn unknown(name: &str) -> Status {
    Status::from(metav1::Status {
        status: Some("Failure".to_owned()),
        code: Some(500),
        message: Some(format!("Component not found: {name}")),
        ..metav1::Status::default()
    })
}
