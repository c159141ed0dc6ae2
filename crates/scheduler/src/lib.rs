//! Places pods on nodes: watches, an immutable snapshot, filter, score, bind.
//!
//! A pod waits for exactly one hop: its watch event is turned into a decision and a binding request in the same turn of
//! the loop. What makes that safe is the *assumed* pod: from the moment a binding is sent, the snapshot counts the pod
//! on its node, so that the next decision does not need the answer of the one before, and a hundred bindings can share
//! one commit of the store.
//!
//! ```text
//!   pods, nodes ──watch──► cluster ──snapshot──► cycle::decide ──► binding  (assumed until the watch shows it)
//!                             ▲                        └─────────► PodScheduled=False, event; waits for a change
//!                             └──── outcome of a binding ◄──┘
//! ```
//!
//! | file | its one concern |
//! |---|---|
//! | `driver.rs` | the loop: what happened → what to do next |
//! | [`cluster`] | pods and nodes as watched and assumed; hands out snapshots |
//! | [`cycle`] | pure: one pod, one snapshot, one decision |
//! | [`plugins`] | one file per rule that filters or scores |
//! | `queue.rs` | pure: who is next, who waits for what |
//! | [`pod`], [`node`], [`resources`] | what a decision needs to know, taken from the API objects once |
//! | `write.rs`, `events.rs` | requests to the API: binding and condition; events |
//!
//! *Architecture invariant:* `cycle`, `plugins` and `queue` do no IO and read no clock.
#![forbid(unsafe_code)]

pub mod cluster;
pub mod cycle;
mod driver;
mod events;
pub mod node;
pub mod plugins;
pub mod pod;
mod queue;
pub mod resources;
mod write;

use tokio_util::sync::CancellationToken;

/// What a scheduler needs to know.
pub struct Config {
    pub client: kube::Client,
    /// Pods with this `spec.schedulerName` are ours; also the reporter of our events. Usually `default-scheduler`.
    pub name: String,
}

/// Why a scheduler stopped before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A watch never ends by itself; when it does, going on would be deciding on old facts.
    #[error("the watch on {what} ended")]
    WatchEnded { what: &'static str },
}

/// Schedules until `shutdown` is cancelled. API errors are retried, so this fails only when it cannot go on.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    driver::run(config, shutdown).await
}
