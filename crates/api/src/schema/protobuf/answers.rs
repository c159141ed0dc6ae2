//! Types that no OpenAPI document describes, as nobody creates them: what servers say about themselves, and metadata alone.

use std::sync::LazyLock;

use super::super::{Schemas, builtin};

/// Their definitions, and those they are made of.
pub(super) fn schemas() -> &'static Schemas {
    static SCHEMAS: LazyLock<Schemas> = LazyLock::new(|| builtin::read(builtin::ANSWERS));
    &SCHEMAS
}
