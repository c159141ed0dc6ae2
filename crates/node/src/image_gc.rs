//! Throwing images away: what has no name and no holder any more, and on a full disk what can be pulled again.
//!
//! Nothing is polled. A pull or the end of a pod may change what is needed; after such a moment, and a pause in which more
//! of them gather, there is one pass. Containers being started keep the collector out by a lock they share, so a pass that
//! comes at a bad time is put off by another pause.
//! <https://kubernetes.io/docs/concepts/architecture/garbage-collection/#containers-images>

use catamaran_image::Store;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// From the event to the pass.
const PAUSE: Duration = Duration::from_secs(30);
/// The kubelet's `imageGCHighThresholdPercent`, `imageGCLowThresholdPercent` and `imageMinimumGCAge`.
const HIGH_PERCENT: u64 = 85;
const LOW_PERCENT: u64 = 80;
const MIN_AGE: Duration = Duration::from_secs(120);

/// What the rest of the agent tells the collector.
#[derive(Debug, Default)]
pub(crate) struct Wake {
    event: Notify,
    /// Where the disk's fill level is read; `None` where nobody cares.
    disk: Option<PathBuf>,
}

impl Wake {
    pub(crate) fn new(disk: PathBuf) -> Self {
        Self {
            disk: Some(disk),
            ..Self::default()
        }
    }

    /// More is stored now.
    pub(crate) fn image_stored(&self) {
        self.look(false);
    }

    /// Somebody does not need an image any more; `named`: it still has a name.
    pub(crate) fn image_released(&self, named: bool) {
        self.look(!named);
    }

    fn look(&self, garbage: bool) {
        let full = || {
            self.disk
                .as_deref()
                .and_then(used_percent)
                .is_some_and(|used| used >= HIGH_PERCENT)
        };
        if garbage || full() {
            self.event.notify_one();
        }
    }

    /// Takes the event, if there is one.
    #[cfg(test)]
    pub(crate) fn take(&self) -> bool {
        futures::FutureExt::now_or_never(self.event.notified()).is_some()
    }
}

/// Waits for reasons, and acts on them, until shutdown.
pub(crate) async fn run(store: Arc<Store>, wake: Arc<Wake>, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = wake.event.notified() => {}
            () = shutdown.cancelled() => return,
        }
        loop {
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = shutdown.cancelled() => return,
            }
            match pass(&store, wake.disk.as_deref().map(|disk| move || used_percent(disk))).await {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(error = crate::chain(&error), "cannot throw unused images away");
                    break;
                }
            }
        }
    }
}

/// One look. False when it has to be tried again.
async fn pass(store: &Store, used_percent: Option<impl Fn() -> Option<u64>>) -> Result<bool, catamaran_image::Error> {
    if let Some(used) = used_percent
        && used().is_some_and(|used| used >= HIGH_PERCENT)
    {
        let gone = store
            .prune(MIN_AGE, || used().is_none_or(|used| used < LOW_PERCENT))
            .await?;
        if !gone.is_empty() {
            tracing::info!(
                images = gone.join(" "),
                "the disk is nearly full: unused images were removed"
            );
        }
    }
    let collected = store.collect().await?;
    if collected.blobs + collected.layers > 0 {
        tracing::debug!(
            collected.blobs,
            collected.layers,
            collected.bytes,
            "unused image content removed"
        );
    }
    Ok(!collected.postponed)
}

/// As `df` computes it: of what is not reserved.
fn used_percent(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    let used = stat.f_blocks.checked_sub(stat.f_bfree)?;
    let total = used + stat.f_bavail;
    (total > 0).then(|| used.saturating_mul(100).div_ceil(total))
}

#[cfg(test)]
mod tests {
    use super::*;
    use catamaran_image::{Options, PackSource};

    #[tokio::test]
    async fn a_pass_takes_garbage_but_nothing_that_only_this_machine_has() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(directory.path().join("images"), Options::default()).expect("a store");
        for name in ["one:1", "two:1"] {
            let module = directory.path().join(name);
            std::fs::write(&module, [b"\0asm\x01\0\0\0\0\x02\x01", &name.as_bytes()[..1]].concat()).expect("written");
            store.pack(&PackSource::Wasm(module), name).await.expect("packed");
        }
        let image = store.get("one:1").await.expect("readable").expect("present");
        store.hold(&image, "pod_c_0").await.expect("held");
        store.remove("one:1").await.expect("removed");
        store.release("pod_c_0").await.expect("released");
        let blobs = || {
            std::fs::read_dir(directory.path().join("images/blobs/sha256"))
                .expect("readable")
                .count()
        };
        let before = blobs();
        assert!(pass(&store, Some(|| Some(100))).await.expect("a pass"));
        assert!(blobs() < before);
        assert!(
            store.get("two:1").await.expect("readable").is_some(),
            "packed here: kept on a full disk too"
        );
    }

    #[test]
    fn the_disk_is_read_as_a_percentage() {
        assert!(used_percent(Path::new("/")).is_some_and(|used| used <= 100));
    }
}
