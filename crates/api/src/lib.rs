//! Values every part of Catamaran shares: Kubernetes object metadata, selectors, quantities, patches, schemas.
//!
//! *Invariant:* nothing here does IO, is async or reads a clock. Each module is a pure vocabulary: text or JSON in, values or a
//! [`status::Status`] out. Objects are JSON ([`serde_json::Value`]) wherever code must keep what it does not know; the typed view
//! is `k8s-openapi`'s, decoded at the edge.
#![forbid(unsafe_code)]

pub mod body;
pub mod duration;
pub mod field;
pub mod gvk;
pub mod json;
pub mod meta;
pub mod names;
pub mod patch;
pub mod quantity;
pub mod resize;
pub mod schema;
pub mod selector;
pub mod status;
pub mod structural;
pub mod table;
pub mod unsupported;
pub mod yaml;

pub use field::{Errors, Path};
pub use gvk::{GroupKind, GroupResource, GroupVersion, GroupVersionKind, GroupVersionResource};
pub use meta::{Meta, Object};
pub use status::Status;
