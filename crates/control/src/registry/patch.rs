//! PATCH: an update whose new object is made from the present one.

use super::update::Part;
use super::{Registry, Target, WriteOptions, Written, body, tree};
use catamaran_api::body::{self as text, Body, Format};
use catamaran_api::patch::{self, PatchType};
use catamaran_api::{Errors, GroupKind, Path, Status};
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
            patch.language.apply(target, &mut value)?;
            if !patch.language.states_version()
                && value.pointer("/metadata/resourceVersion") == before.as_ref()
                && let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut)
            {
                metadata.remove("resourceVersion");
            }
            let shown = value.clone();
            let body = Body {
                value,
                duplicates: patch.duplicates.clone(),
            };
            body::decode(resource, body, options.validation, warnings)
                .map_err(|status| patch.language.unreadable(&resource.info.kind, &shown, status))
        })
        .await
    }
}

/// A patch that was read.
struct Patch<'a> {
    language: Language<'a>,
    /// Fields that its text has twice.
    duplicates: Vec<String>,
}

enum Language<'a> {
    Json(&'a [u8]),
    Merge(Value),
    Strategic(Value),
}

impl<'a> Patch<'a> {
    fn parse(patch_type: PatchType, bytes: &'a [u8]) -> Result<Self, Status> {
        let (prefix, language): (_, fn(Value) -> Language<'a>) = match patch_type {
            PatchType::Json => {
                return Ok(Patch {
                    language: Language::Json(bytes),
                    duplicates: Vec::new(),
                });
            }
            PatchType::Merge => ("error decoding patch: ", Language::Merge),
            PatchType::Strategic => ("", Language::Strategic),
            PatchType::Apply => {
                return Err(Status::internal(
                    "an apply patch is no change of the present object alone",
                ));
            }
        };
        let malformed = |why: &dyn std::fmt::Display| Status::bad_request(format!("{prefix}{why}"));
        let read = text::parse(Format::Json, bytes).map_err(|error| malformed(&error.reason()))?;
        if patch_type == PatchType::Merge && read.value.is_null() {
            return Err(Status::bad_request("Invalid JSON Patch"));
        }
        if let Some(sort) = patch::json::sort_unless_object(&read.value) {
            let why = format!("json: cannot unmarshal {sort} into Go value of type map[string]interface {{}}");
            return Err(malformed(&why));
        }
        Ok(Patch {
            language: language(read.value),
            duplicates: read.duplicates,
        })
    }
}

impl Language<'_> {
    fn states_version(&self) -> bool {
        match self {
            Language::Json(_) => false,
            Language::Merge(patch) | Language::Strategic(patch) => patch.pointer("/metadata/resourceVersion").is_some(),
        }
    }

    fn apply(&self, target: &Target, value: &mut Value) -> Result<(), Status> {
        match self {
            Language::Json(patch) => *value = patch::json::apply(value, patch)?,
            Language::Merge(patch) => patch::merge::apply(value, patch),
            Language::Strategic(patch) => *value = patch::strategic::apply(value, patch, target.resource.schema())?,
        }
        Ok(())
    }

    /// The refusal of a patched object that is none of its kind: the patch is what is wrong.
    fn unreadable(&self, kind: &str, patched: &Value, status: Status) -> Status {
        let Some((_, why)) = status.message().split_once(&format!("cannot be handled as a {kind}: ")) else {
            return status;
        };
        let mut errors = Errors::new();
        let path = Path::new("patch");
        match self {
            Language::Strategic(patch) => errors.invalid(&path, patch::strategic::show(patch), conversion_error(why)),
            Language::Json(_) | Language::Merge(_) => errors.invalid(&path, patched.to_string(), why),
        }
        Status::invalid(&GroupKind::from_static("", ""), "", &errors)
    }
}

/// After a strategic merge patch Kubernetes turns a tree into an object, and words what does not fit as that conversion does.
fn conversion_error(why: &str) -> String {
    let mismatch = why.strip_prefix("json: cannot unmarshal ");
    let Some((actual, expected)) = mismatch.and_then(|rest| Some((rest.split(' ').next()?, rest.rsplit(' ').next()?)))
    else {
        return why.to_owned();
    };
    let kind = match actual {
        "object" => "map",
        "array" => "slice",
        "number" => "int64",
        other => other,
    };
    if expected.starts_with("[]") {
        format!("cannot restore slice from {kind}")
    } else if expected.starts_with("map[") {
        format!("cannot restore map from {kind}")
    } else if expected.contains('.') {
        format!("cannot restore struct from: {kind}")
    } else {
        format!("unrecognized type: {expected}")
    }
}
