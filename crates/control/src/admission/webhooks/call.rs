//! One call of one webhook.

use super::super::Attributes;
use super::super::World;
use super::super::views::{request, view};
use super::review::{Answer, Unsound, answer, denial, question};
use super::{Hook, Trouble};
use crate::kinds::Object;
use crate::registry::resource::Resource;
use crate::webhook_client::CallError;
use catamaran_api::Status;
use serde_json::Value;

const BAD_REQUEST: u16 = 400;
pub(super) const UNAVAILABLE: u16 = 503;

impl Hook {
    /// Asks about an object in the version of `resource`. Warnings and annotations are passed on. Returns the answer of one who
    /// allows it, and the object that was sent.
    pub(super) async fn ask(
        &self,
        world: &World<'_>,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
        resource: &Resource,
        mutating: bool,
    ) -> Result<(Answer, Value), Trouble> {
        if attributes.dry_run && !self.bears_dry_run {
            let why = format!("admission webhook {:?} does not support dry run", self.name);
            return Err(Trouble::Refused(Status::bad_request(why)));
        }
        if self.review_version.is_empty() {
            let why = "could not create admission objects: webhook does not accept known AdmissionReview versions (v1, v1beta1)";
            return Err(Trouble::failed(BAD_REQUEST, why));
        }
        let view = view(world, attributes, object, resource)
            .await
            .map_err(Trouble::Refused)?;
        let uid = uuid::Uuid::new_v4().to_string();
        let request = request(attributes, object, resource);
        let body = question(self.review_version, &uid, request, view.object.clone(), view.old);
        let body = serde_json::to_vec(&body).map_err(|error| Trouble::Refused(Status::internal(error)))?;
        let said = world
            .registry
            .webhooks
            .call(&self.client, body.into(), self.timeout)
            .await;
        let said = said.map_err(|error| match error {
            CallError::Config(why) => Trouble::failed(BAD_REQUEST, format!("could not get REST client: {why}")),
            CallError::Answer { code, message } => Trouble::failed(code, format!("failed to call webhook: {message}")),
            other => Trouble::failed(UNAVAILABLE, format!("failed to call webhook: {other}")),
        })?;
        let answer = answer(&said, self.review_version, &uid, mutating).map_err(|unsound| match unsound {
            Unsound::Undecodable(why) => Trouble::failed(UNAVAILABLE, format!("failed to call webhook: {why}")),
            Unsound::Invalid(why) => Trouble::failed(UNAVAILABLE, format!("received invalid webhook response: {why}")),
        })?;
        for (key, value) in &answer.annotations {
            attributes.annotate(format!("{}/{key}", self.name), value.clone());
        }
        for warning in &answer.warnings {
            attributes.warn(warning.clone());
        }
        if answer.allowed {
            Ok((answer, view.object))
        } else {
            Err(Trouble::Denied(denial(&self.name, answer.status)))
        }
    }
}
