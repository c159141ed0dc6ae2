//! What the agent itself leaves in a pod's state directory, so that the next agent can go on.
//!
//! Fields are only ever added; unknown ones are ignored.

use crate::layout::{Layout, RECORD, states_dir};
use crate::world::User;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

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
    /// The image as the pod named it.
    #[serde(default)]
    pub image: Option<String>,
    /// What may be in force: what the container was started with or changed to last; more than one while it is being changed.
    #[serde(default)]
    pub held: Vec<ResourceRequirements>,
    /// It was told to end so that it can be started again.
    #[serde(default)]
    pub rerun: bool,
}

/// Writes `value` so that a reader sees all of it or the old one, whoever else writes there.
pub(crate) fn write<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    replace(path, value, false)
}

/// The same, and a machine that loses its power does not lose it.
pub(crate) fn write_through<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    replace(path, value, true)
}

fn replace<T: Serialize>(path: &Path, value: &T, through: bool) -> io::Result<()> {
    static TURN: AtomicU64 = AtomicU64::new(0);
    let turn = TURN.fetch_add(1, Ordering::Relaxed);
    let temporary = path.with_extension(format!("{}-{turn}.tmp", std::process::id()));
    let mut file = fs::File::create(&temporary)?;
    let written = serde_json::to_vec(value)
        .map_err(io::Error::from)
        .and_then(|bytes| file.write_all(&bytes))
        .and_then(|()| if through { file.sync_all() } else { Ok(()) })
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Reads a record; `None` when it is not there or not readable.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

impl Layout {
    pub(crate) fn container_record(&self, uid: &str, id: &str) -> Option<ContainerRecord> {
        read(&self.bundle(uid, id).join(RECORD))
    }

    /// Changes what is noted of a container; nothing if nothing is. Blocking.
    pub(crate) fn amend_container(
        &self,
        uid: &str,
        id: &str,
        amend: impl FnOnce(&mut ContainerRecord),
    ) -> io::Result<()> {
        static TURN: Mutex<()> = Mutex::new(());
        let _turn = TURN.lock();
        let Some(mut record) = self.container_record(uid, id) else {
            return Ok(());
        };
        amend(&mut record);
        write(&self.bundle(uid, id).join(RECORD), &record)
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
