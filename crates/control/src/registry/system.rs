//! Writes of the server itself to objects it keeps a status in: nothing is prepared or judged.

use super::update::Part;
use super::{Registry, Target, WriteOptions, codec_failed};
use catamaran_api::Status;
use serde_json::Value;

impl Registry {
    /// Changes an object as a tree; again, if somebody else wrote in between. Nothing is written if `change` says so by `false`.
    ///
    /// # Errors
    /// 404 if the object is not there.
    pub(crate) async fn rewrite_status(
        &self,
        target: &Target,
        change: &mut (dyn FnMut(&mut Value) -> bool + Send),
    ) -> Result<(), Status> {
        let options = WriteOptions {
            field_manager: "kube-apiserver".to_owned(),
            subresource: "status",
            ..WriteOptions::default()
        };
        self.change(target, Part::System, &options, &mut |_, old, _| {
            let mut tree = old.to_value().map_err(|error| codec_failed(&error))?;
            if !change(&mut tree) {
                return Ok(old.boxed_clone());
            }
            let mut new = target
                .resource
                .kind
                .decode(tree)
                .map_err(|error| codec_failed(&error))?;
            self.own_changed(target, new.as_mut(), old, &options)?;
            Ok(new)
        })
        .await
        .map(|_| ())
    }
}
