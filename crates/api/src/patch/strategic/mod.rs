//! Strategic merge patch: a merge patch that knows which lists are maps.
//!
//! [`table`] says how a list is merged, [`apply`](mod@apply) carries out a patch with its directives, [`order`] is the sequence of
//! merged lists, [`diff`] writes the patch of a client-side apply.
//! <https://github.com/kubernetes/community/blob/master/contributors/devel/sig-api-machinery/strategic-merge-patch.md>

mod apply;
mod diff;
mod order;
mod table;

pub use apply::apply;
pub use diff::three_way;
pub use table::{ListMerge, Strategy, strategy};

/// A patch as errors show it.
pub fn show(patch: &serde_json::Value) -> String {
    crate::patch::apply::values::go_text(patch)
}

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ORDER: &str = "$setElementOrder/";
const DELETE_PRIMITIVES: &str = "$deleteFromPrimitiveList/";

#[cfg(test)]
mod tests;
