//! PATCH: an update whose new object is made from the present one.

use super::update::Part;
use super::{Registry, Target, WriteOptions, Written, body, tree};
use catamaran_api::Status;
use catamaran_api::patch::{self, PatchType};
use serde_json::Value;

impl Registry {
    /// Applies a patch to the object, or to its `part`.
    pub(crate) async fn patch(
        &self,
        target: &Target,
        part: Part,
        patch_type: PatchType,
        patch: &[u8],
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        let resource = &target.resource;
        let patch = Patch::parse(patch_type, patch)?;
        self.change(target, part, options, &mut |current, _, warnings| {
            let mut value = tree(current)?;
            // The version the patch states, if it does, is the one it wants to find: the patched object keeps the
            // present one only as long as the patch is silent about it.
            let before = value.pointer("/metadata/resourceVersion").cloned();
            patch.apply(target, &mut value)?;
            if !patch.states_version()
                && value.pointer("/metadata/resourceVersion") == before.as_ref()
                && let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut)
            {
                metadata.remove("resourceVersion");
            }
            body::decode(resource, body::tree_body(value), options.validation, warnings)
        })
        .await
    }
}

/// A patch that was read.
enum Patch<'a> {
    Json(&'a [u8]),
    Merge(Value),
    Strategic(Value),
}

impl<'a> Patch<'a> {
    fn parse(patch_type: PatchType, bytes: &'a [u8]) -> Result<Self, Status> {
        let object = || match serde_json::from_slice(bytes) {
            Ok(Value::Object(patch)) => Ok(Value::Object(patch)),
            Ok(_) => Err(Status::bad_request("error decoding patch: it must be an object")),
            Err(error) => Err(Status::bad_request(format!("error decoding patch: {error}"))),
        };
        match patch_type {
            PatchType::Json => Ok(Patch::Json(bytes)),
            PatchType::Merge => object().map(Patch::Merge),
            PatchType::Strategic => object().map(Patch::Strategic),
            PatchType::Apply => Err(Status::internal(
                "an apply patch is no change of the present object alone",
            )),
        }
    }

    fn states_version(&self) -> bool {
        match self {
            Patch::Json(_) => false,
            Patch::Merge(patch) | Patch::Strategic(patch) => patch.pointer("/metadata/resourceVersion").is_some(),
        }
    }

    fn apply(&self, target: &Target, value: &mut Value) -> Result<(), Status> {
        match self {
            Patch::Json(patch) => *value = patch::json::apply(value, patch)?,
            Patch::Merge(patch) => patch::merge::apply(value, patch),
            Patch::Strategic(patch) => *value = patch::strategic::apply(value, patch, target.resource.schema())?,
        }
        Ok(())
    }
}
