//! DELETE, and how its outcomes are told.

use super::render;
use super::resource::{Call, format, read};
use crate::registry::{self, DeleteOptions, Deleted, Target};
use crate::watch_cache::Record;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use catamaran_api::{Status, body};
use http::StatusCode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as metav1;
use serde_json::Value;

impl Call<'_> {
    pub(super) async fn delete(&self, body: Body) -> Result<Response, Status> {
        let style = self.style()?;
        let options = self.delete_options(body).await?;
        let resource = &self.target.resource;
        let mut response = match self.app.registry.delete(&self.target, &options).await? {
            Deleted::Begun(json) => {
                // Only who says that nothing is to be orphaned is told that it is not over yet.
                let code = match options.orphan_dependents {
                    Some(false) => StatusCode::ACCEPTED,
                    _ => StatusCode::OK,
                };
                render::object(resource, style, code, json)?
            }
            Deleted::Gone(record) | Deleted::Going(record) if registry::answers_with_object(resource) => {
                render::object(resource, style, StatusCode::OK, record.json())?
            }
            Deleted::Gone(record) | Deleted::Going(record) => {
                let success = gone(&self.target, &record)?;
                render::respond(style.form, StatusCode::OK, Bytes::from(success.to_vec()))?
            }
        };
        self.settle().await;
        render::warn(&mut response, &registry::delete_warnings(resource, &options));
        Ok(response)
    }

    pub(super) async fn delete_collection(&self, body: Body) -> Result<Response, Status> {
        let resource = &self.target.resource;
        if resource.info.kind == "Namespace" && resource.info.group.is_empty() {
            return Err(Status::method_not_allowed());
        }
        let style = self.style()?;
        let list = self.list_options()?;
        let options = self.delete_options(body).await?;
        let chosen = self
            .app
            .registry
            .delete_collection(&self.target, &list, &options)
            .await?;
        render::list(resource, style, chosen).await
    }

    /// Options of a deletion: the body, or else the query.
    pub(super) async fn delete_options(&self, body: Body) -> Result<DeleteOptions, Status> {
        let bytes = read(&self.head.headers, body).await?;
        let options = if bytes.is_empty() {
            self.options_of_query()?
        } else {
            options_of_body(body::parse(format(&self.head.headers)?, &bytes)?.value)?
        };
        let mut options = DeleteOptions::from_body(options)?;
        options.caller = self.caller();
        Ok(options)
    }

    fn options_of_query(&self) -> Result<metav1::DeleteOptions, Status> {
        let query = &self.query;
        let text = |name: &str| {
            Some(query.get(name))
                .filter(|text| !text.is_empty())
                .map(ToOwned::to_owned)
        };
        let dry_run: Vec<String> = query.all("dryRun").map(ToOwned::to_owned).collect();
        let (uid, resource_version) = (text("uid"), text("resourceVersion"));
        Ok(metav1::DeleteOptions {
            dry_run: (!dry_run.is_empty()).then_some(dry_run),
            grace_period_seconds: query.number("gracePeriodSeconds")?,
            orphan_dependents: query.flag("orphanDependents"),
            preconditions: (uid.is_some() || resource_version.is_some())
                .then_some(metav1::Preconditions { uid, resource_version }),
            propagation_policy: text("propagationPolicy"),
            ..metav1::DeleteOptions::default()
        })
    }
}

/// `DeleteOptions` are the same in every group.
fn options_of_body(value: Value) -> Result<metav1::DeleteOptions, Status> {
    let kind = value.get("kind").and_then(Value::as_str).unwrap_or_default();
    if !matches!(kind, "" | "DeleteOptions") {
        return Err(Status::bad_request(
            "decoded object cannot be converted to DeleteOptions",
        ));
    }
    serde_json::from_value(value).map_err(|error| Status::bad_request(format!("the body is no DeleteOptions: {error}")))
}

/// Says who is gone.
fn gone(target: &Target, record: &Record) -> Result<Status, Status> {
    let value = render::parse(&record.json())?;
    let uid = value
        .pointer("/metadata/uid")
        .and_then(Value::as_str)
        .unwrap_or_default();
    Ok(Status::deleted(&target.resource.group_resource, record.name(), uid))
}
