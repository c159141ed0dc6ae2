//! Kinds of `autoscaling`: version 2 is what is kept, version 1 is its older form.

pub(super) mod horizontalpodautoscalers;
pub(super) mod v1;
mod validate;
