//! Writes that admission makes itself: the usage of quotas.

use super::{Registry, Target, WriteOptions, codec_failed};
use crate::kinds::Object;
use crate::watch_cache::Record;
use catamaran_api::Status;
use std::sync::Arc;

impl Registry {
    /// Replaces an object by what was made of `current`, unless somebody wrote it since. It is not admitted or validated again.
    /// False if it was not replaced.
    pub(crate) async fn replace_if_current(
        &self,
        api_version: &str,
        plural: &str,
        current: &Arc<Record>,
        mut new: Box<dyn Object>,
    ) -> Result<bool, Status> {
        let resource = self.resource(api_version, plural).ok_or_else(Status::unknown_path)?;
        let old = resource
            .kind
            .decode_slice(&current.json())
            .map_err(|error| codec_failed(&error))?;
        let target = Target {
            resource,
            namespace: current.namespace().map(ToOwned::to_owned),
            name: current.name().to_owned(),
        };
        let options = WriteOptions::default();
        let written = self
            .replace(&target, new.as_mut(), old.as_ref(), current, None, &options)
            .await?;
        Ok(written.is_some())
    }
}
