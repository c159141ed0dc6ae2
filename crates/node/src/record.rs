//! What the agent itself leaves in a pod's state directory, so that the next agent can go on.
//!
//! Fields are only ever added; unknown ones are ignored.

use crate::layout::{Layout, RECORD, states_dir};
use crate::world::User;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;

/// `node.json` of a pod.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PodRecord {
    /// The object when the sandbox was made: enough to manage the pod while the API server is away.
    pub pod: Pod,
    pub ip: Ipv4Addr,
    pub start_time: Timestamp,
}

/// `node.json` of a container's bundle.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ContainerRecord {
    pub image_id: String,
    pub attempt: u32,
    pub stop_signal: i32,
    #[serde(default)]
    pub user: Option<User>,
}

/// Writes `value` so that a reader sees all of it or the old one.
pub(crate) fn write<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, serde_json::to_vec(value)?)?;
    fs::rename(&temporary, path)
}

/// Reads a record; `None` when it is not there or not readable.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

impl Layout {
    pub(crate) fn container_record(&self, uid: &str, id: &str) -> Option<ContainerRecord> {
        read(&self.bundle(uid, id).join(RECORD))
    }
}

/// Pod addresses recorded below `run_dir`: the network must not give them to others. Blocking.
pub fn addresses_in_use(run_dir: &Path) -> Vec<Ipv4Addr> {
    let entries = fs::read_dir(states_dir(run_dir)).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| read::<PodRecord>(&entry.path().join(RECORD)))
        .map(|record| record.ip)
        .collect()
}
