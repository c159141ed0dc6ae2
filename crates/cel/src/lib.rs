//! The Common Expression Language as Kubernetes has it (<https://kubernetes.io/docs/reference/using-api/cel/>).
//!
//! Rules in custom resource definitions, admission policies and match conditions are programs of users that run inside the API
//! server, so two things are promised here that a plain interpreter does not give: an expression that is wrong is refused when it
//! is *written*, with the position and in the words of Kubernetes, and one that is right cannot cost more than its budget. The
//! text becomes a tree with the `cel` crate's parser; types, overloads, evaluation and both cost models (the estimate from a
//! schema's bounds, and the account kept while running) are ours, because the numbers of the account are part of the interface.
//!
//! ```text
//! text ──cel::Parser──▶ cel AST ──lower──▶ Node ──check──▶ typed Node = Program ──evaluate(Bindings, Budget)──▶ Value
//!                                                             └──estimate──▶ Bounds
//! ```
//!
//! *Invariant:* no IO and no clock. Values are read in place from `serde_json` documents; nothing is copied until an expression
//! makes something new.
#![forbid(unsafe_code)]

mod budget;
mod check;
mod cost;
mod decl;
mod env;
mod error;
mod escape;
mod eval;
mod library;
mod lower;
mod node;
mod overloads;
mod program;
pub mod rules;
mod types;
mod value;

pub use budget::{Budget, MATCH_CONDITIONS_BUDGET, PER_CALL_LIMIT, RUNTIME_BUDGET};
pub use cost::Bounds;
pub use decl::{Decl, Field, ListSemantics, MAX_REQUEST_BYTES, ObjectDecl, Shape};
pub use env::Env;
pub use error::{CompileError, EvalError, Issue};
pub use escape::{escape, unescape};
pub use library::authorizer::{AuthorizationQuery, Authorizer, Decision, SelectorText};
pub use program::Program;
pub use types::Type;
pub use value::{Bindings, Fields, List, Map, Opaque, Str, Value, to_json};

#[cfg(test)]
mod tests;
