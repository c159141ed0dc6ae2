//! Choosing objects: by labels ([`Selector`]) and by fields ([`FieldSelector`]).
//!
//! Both arrive as query parameters and are evaluated for every object of every list and watch event, so they are parsed once and
//! then only compare borrowed strings.
//! <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors>

mod field;
mod label;

pub use field::{FieldRequirement, FieldSelector};
pub use label::{LabelSource, Operator, Requirement, Selector};

/// What is wrong with a selector, in Kubernetes' words; the API answers it as a `BadRequest`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(pub(crate) String);

impl From<ParseError> for crate::Status {
    fn from(error: ParseError) -> Self {
        Self::bad_request(error.0)
    }
}
