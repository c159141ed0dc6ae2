//! Where things of the agent lie. The only place that spells these paths.
//!
//! ```text
//! <run>/pods/<uid>/                     tmpfs, gone after a reboot, like the processes it describes
//!     sandbox.json containers/<id>/     the pod shim's
//!     node.json                         ours: the pod and its address, for re-adoption
//! <data>/agent/pods/<uid>/              volumes/<name> subpaths/ hosts hostname resolv.conf containers/<id>/{upper,work}
//!     granted.json                      ours: CPU and memory, for the next agent, also after a reboot
//! <data>/logs/pods/<ns>_<name>_<uid>/<container>/<attempt>.log
//! ```

use k8s_openapi::api::core::v1::Pod;
use std::path::{Path, PathBuf};

/// Identity of a pod for paths and messages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodKey {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

impl PodKey {
    /// `None` when the object has no name or uid, which no API server returns.
    pub fn of(pod: &Pod) -> Option<Self> {
        let meta = &pod.metadata;
        let uid = meta.uid.clone().filter(|uid| is_path_segment(uid))?;
        let namespace = meta.namespace.clone().filter(|namespace| is_path_segment(namespace))?;
        let name = meta.name.clone().filter(|name| is_path_segment(name))?;
        Some(Self { namespace, name, uid })
    }
}

/// A name that cannot leave its directory.
pub(crate) fn is_path_segment(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0'])
}

#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub data_dir: PathBuf,
    pub run_dir: PathBuf,
    pub instance: String,
}

impl Layout {
    pub(crate) fn pods_dir(&self) -> PathBuf {
        self.data_dir.join("agent/pods")
    }

    pub(crate) fn pod_dir(&self, uid: &str) -> PathBuf {
        self.pods_dir().join(uid)
    }

    pub(crate) fn volume(&self, uid: &str, volume: &str) -> PathBuf {
        self.pod_dir(uid).join("volumes").join(volume)
    }

    pub(crate) fn container_dir(&self, uid: &str, id: &str) -> PathBuf {
        self.pod_dir(uid).join("containers").join(id)
    }

    /// Present while an interrupted pod has to be run again at the next start.
    pub(crate) fn rerun_marker(&self, uid: &str) -> PathBuf {
        self.pod_dir(uid).join("rerun")
    }

    /// What the pod was granted of CPU and memory.
    pub(crate) fn granted(&self, uid: &str) -> PathBuf {
        self.pod_dir(uid).join("granted.json")
    }

    pub(crate) fn logs_root(&self) -> PathBuf {
        self.data_dir.join("logs/pods")
    }

    pub(crate) fn logs_dir(&self, pod: &PodKey) -> PathBuf {
        self.logs_root()
            .join(format!("{}_{}_{}", pod.namespace, pod.name, pod.uid))
    }

    pub(crate) fn log_file(&self, pod: &PodKey, container: &str, attempt: u32) -> PathBuf {
        self.logs_dir(pod).join(container).join(format!("{attempt}.log"))
    }

    pub(crate) fn states_dir(&self) -> PathBuf {
        states_dir(&self.run_dir)
    }

    pub(crate) fn state_dir(&self, uid: &str) -> PathBuf {
        self.states_dir().join(uid)
    }

    pub(crate) fn record(&self, uid: &str) -> PathBuf {
        self.state_dir(uid).join(RECORD)
    }

    pub(crate) fn bundle(&self, uid: &str, id: &str) -> PathBuf {
        self.state_dir(uid).join("containers").join(id)
    }

    /// Below every cgroup hierarchy's root.
    pub(crate) fn root_cgroup(&self) -> String {
        format!("/catamaran-{}", self.instance)
    }

    pub(crate) fn pod_cgroup(&self, uid: &str) -> String {
        format!("{}/pod{uid}", self.root_cgroup())
    }

    pub(crate) fn container_cgroup(&self, uid: &str, id: &str) -> String {
        format!("{}/{id}", self.pod_cgroup(uid))
    }
}

pub(crate) const RECORD: &str = "node.json";

pub(crate) fn states_dir(run_dir: &Path) -> PathBuf {
    run_dir.join("pods")
}

/// The attempt number in a log file's name (`3.log` or `3.log.<rotation>`).
pub(crate) fn attempt_of_log(path: &Path) -> Option<u32> {
    let name = path.file_name()?.to_str()?;
    name.split('.').next()?.parse().ok()
}
