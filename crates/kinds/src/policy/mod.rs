//! Kinds of `policy/v1`.

pub(super) mod poddisruptionbudgets;
