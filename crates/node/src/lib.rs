//! The node agent: turns pods bound to this node into running containers.
//!
//! ```text
//!  API server ──watch──▶ pods ──▶ worker (one per pod) ──decide──▶ machine ──▶ pod shim ──▶ containers
//!      ▲                            │      ▲                                      │
//!      └───────── status, events ───┘      └──────────── exits ───────────────────┘
//!      └── kubectl logs / exec / attach ──▶ server
//! ```
//!
//! Everything is driven by events: a change of an object, the end of a process, a clock a plan asked for. What to do is
//! decided by pure functions ([`decide`], [`status`], [`backoff`]); [`worker`] runs them; [`machine`] is the seam to the
//! kernel and to the API server.
//!
//! *Architecture invariants:* this crate speaks to the cluster by a `kube::Client` only, in-process or remote alike. The
//! agent may be killed at any instruction: what has to survive lies in state directories, and what lies there is either
//! adopted or removed at the next start. A pod's status has one writer, its worker.

#![deny(unsafe_code)]

mod adopt;
mod agent;
pub mod backoff;
pub mod decide;
mod env;
mod ephemeral;
mod eviction;
mod expand;
mod grants;
mod image_gc;
mod images;
mod layers;
mod layout;
mod lease;
mod local;
pub mod machine;
mod netfiles;
mod objects;
mod pods;
mod record;
mod registration;
mod reports;
pub mod resize;
mod resources;
mod rotate;
mod runtime;
mod server;
pub mod status;
#[allow(
    unsafe_code,
    reason = "registering a descriptor with the runtime promises that it stays open"
)]
mod sys;
mod tokens;
mod users;
mod volume;
pub mod worker;
pub mod world;

pub use agent::{Agent, Config, Error, ServerTls, Stop};
pub use layout::PodKey;
pub use record::addresses_in_use;
pub use volume::remove_mounts;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Container, Pod};
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use world::Role;

/// Makes native code of wasm modules; the binary lends the wasm shim's cache, so that this crate knows no engine.
#[async_trait]
pub trait WasmCompiler: Send + Sync + 'static {
    /// The native code of the module with this digest, compiled now or before.
    ///
    /// # Errors
    /// The module is not one this node can run; the message names why.
    async fn native(&self, digest: &str, module: &Path) -> Result<PathBuf, CompileError>;
}

/// Why a module cannot be run, as a container's waiting reason and message.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct CompileError {
    pub reason: String,
    pub message: String,
}

/// `name_namespace(uid)`, as kubelet messages name a pod.
fn pod_ref(pod: &Pod) -> String {
    let meta = &pod.metadata;
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    format!("{}_{}({})", part(&meta.name), part(&meta.namespace), part(&meta.uid))
}

/// Init containers in order, then the others, then those that were added later. The order of [`world::World::slots`].
fn containers(pod: &Pod) -> impl Iterator<Item = (Cow<'_, Container>, Role)> {
    let spec = pod.spec.as_ref();
    let init = spec
        .into_iter()
        .flat_map(|spec| spec.init_containers.iter().flatten())
        .map(|c| (Cow::Borrowed(c), Role::Init));
    let main = spec
        .into_iter()
        .flat_map(|spec| spec.containers.iter())
        .map(|c| (Cow::Borrowed(c), Role::Main));
    let ephemeral = ephemeral::containers(pod).map(|c| (Cow::Owned(c), Role::Ephemeral));
    init.chain(main).chain(ephemeral)
}

fn find_container<'a>(pod: &'a Pod, name: &str) -> Option<Cow<'a, Container>> {
    containers(pod)
        .map(|(container, _)| container)
        .find(|container| container.name == name)
}

/// An error with all its causes on one line: what a status or an event shows.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
