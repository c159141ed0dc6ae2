//! `x-kubernetes-validations`: rules that a schema states in expressions
//! (<https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-rules>).
//!
//! `declare` turns a schema into a declaration, whose sizes the cost estimate needs; `compile` compiles the rules of one place, and
//! says everything that a definition may be refused for; `run` holds an object against all rules of its schema.

mod compile;
mod declare;
mod run;

pub use compile::{CompiledRule, Rejection, compile_rules, estimated_cardinality};
pub use declare::declare;
pub use run::{RuleSet, RuleWarnings};

#[cfg(test)]
mod tests;
