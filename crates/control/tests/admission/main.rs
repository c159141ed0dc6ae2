//! What the cluster demands of requests: built-in plugins, policies, other people's webhooks.
#![allow(clippy::needless_pass_by_value, reason = "tests write their JSON where they use it")]

mod builtin;
#[path = "../common/mod.rs"]
mod common;
mod policies;
mod server;
mod subresources;
mod webhooks;
