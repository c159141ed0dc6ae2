//! `emptyDir.sizeLimit` on disk: nothing refuses a write, so usage is measured and a pod that exceeds it is evicted.
//!
//! Only pods that set a limit are measured, as often as the kubelet does it at most, one volume at a time, and big trees
//! less often: measuring never takes more than a small share of one disk's and one CPU's time. Volumes in memory are
//! mounts of that size.
//! <https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/#local-ephemeral-storage>

use crate::layout::Layout;
use crate::resources;
use crate::worker::Message;
use k8s_openapi::api::core::v1::Pod;
use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc};

/// The kubelet's monitoring interval.
const INTERVAL: Duration = Duration::from_secs(10);
/// A measurement is followed by a pause of at least this many times its own length.
const REST: u32 = 20;
/// What `stat` counts blocks in, whatever the file system has.
const BLOCK_BYTES: u64 = 512;

/// A volume with a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limited {
    volume: String,
    directory: PathBuf,
    /// As the spec has it.
    limit: String,
    bytes: u64,
}

/// The pod's volumes on disk that have a limit.
pub(crate) fn limited_volumes(layout: &Layout, pod: &Pod) -> Vec<Limited> {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let limited = volumes.filter_map(|volume| {
        let source = volume.empty_dir.as_ref()?;
        let on_disk = source.medium.as_deref().unwrap_or_default().is_empty();
        let limit = source.size_limit.as_ref().filter(|_| on_disk)?;
        let bytes = resources::units(limit).and_then(|bytes| u64::try_from(bytes).ok())?;
        (bytes > 0).then(|| Limited {
            volume: volume.name.clone(),
            directory: layout.volume(uid, &volume.name),
            limit: limit.0.clone(),
            bytes,
        })
    });
    limited.collect()
}

/// Measures until a volume is too big; tells the worker then.
pub(crate) async fn watch(volumes: Vec<Limited>, turns: Arc<Semaphore>, worker: mpsc::UnboundedSender<Message>) {
    let mut pause = INTERVAL;
    loop {
        tokio::time::sleep(pause).await;
        let Ok(turn) = turns.clone().acquire_owned().await else {
            return;
        };
        let begin = Instant::now();
        let looked_at = volumes.clone();
        // The turn goes with the work: an aborted watch must not let another one begin beside it.
        let measure = move || {
            let _turn = turn;
            exceeded(&looked_at)
        };
        match tokio::task::spawn_blocking(measure).await {
            Ok(Some(message)) => {
                let _ = worker.send(Message::Evict { message });
                return;
            }
            Ok(None) => {}
            Err(_) => return,
        }
        pause = INTERVAL.max(begin.elapsed() * REST);
    }
}

/// The kubelet's message for the first volume that is too big. Blocking.
fn exceeded(volumes: &[Limited]) -> Option<String> {
    volumes
        .iter()
        .find(|volume| usage(&volume.directory, volume.bytes) > volume.bytes)
        .map(|volume| {
            let Limited { volume, limit, .. } = volume;
            format!("Usage of EmptyDir volume \"{volume}\" exceeds the limit \"{limit}\". ")
        })
}

/// Bytes that a tree takes on its disk, as `du -x` counts; stops counting beyond `enough`. What vanishes meanwhile takes
/// nothing.
fn usage(directory: &Path, enough: u64) -> u64 {
    let Ok(root) = fs::symlink_metadata(directory) else {
        return 0;
    };
    let mut total = 0;
    let mut linked = HashSet::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            // Never follows links.
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.dev() != root.dev()
                || (metadata.nlink() > 1 && !metadata.is_dir() && !linked.insert(metadata.ino()))
            {
                continue;
            }
            total += metadata.blocks() * BLOCK_BYTES;
            if total > enough {
                return total;
            }
            if metadata.is_dir() {
                pending.push(entry.path());
            }
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_limits_on_disk_are_measured() {
        let layout = Layout {
            data_dir: "/d".into(),
            run_dir: "/r".into(),
            instance: "i".to_owned(),
        };
        let pod: Pod = serde_json::from_value(json!({"metadata": {"uid": "u"}, "spec": {"containers": [], "volumes": [
            {"name": "free", "emptyDir": {}},
            {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            {"name": "disk", "emptyDir": {"sizeLimit": "2Mi"}}]}}))
        .expect("a pod");
        let found = limited_volumes(&layout, &pod);
        let shown: Vec<_> = found
            .iter()
            .map(|volume| (&*volume.volume, &*volume.limit, volume.bytes))
            .collect();
        assert_eq!(shown, [("disk", "2Mi", 2 << 20)]);
        assert_eq!(found[0].directory, Path::new("/d/agent/pods/u/volumes/disk"));
    }

    #[test]
    fn usage_is_what_the_disk_gives() {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path();
        fs::create_dir(root.join("sub")).expect("made");
        fs::write(root.join("sub/file"), vec![1; 1 << 20]).expect("written");
        fs::hard_link(root.join("sub/file"), root.join("again")).expect("linked");
        std::os::unix::fs::symlink("/usr", root.join("elsewhere")).expect("linked");
        fs::File::create(root.join("sparse"))
            .and_then(|file| file.set_len(1 << 30))
            .expect("made");
        let used = usage(root, u64::MAX);
        assert!(((1 << 20)..(3 << 19)).contains(&used), "{used}");
        assert_eq!(usage(&root.join("missing"), u64::MAX), 0);

        let limited = |bytes| Limited {
            volume: "data".to_owned(),
            directory: root.to_owned(),
            limit: "1Mi".to_owned(),
            bytes,
        };
        assert_eq!(exceeded(&[limited(2 << 20)]), None);
        assert_eq!(
            exceeded(&[limited(2 << 20), limited(1 << 19)]).as_deref(),
            Some("Usage of EmptyDir volume \"data\" exceeds the limit \"1Mi\". ")
        );
    }
}
