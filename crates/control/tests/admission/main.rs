//! What the cluster demands of requests: built-in plugins, policies, other people's webhooks.

mod builtin;
#[path = "../common/mod.rs"]
mod common;
mod policies;
mod server;
mod subresources;
mod webhooks;
