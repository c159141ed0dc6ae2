//! Log rotation: 10 MiB a file, five files a container, as the kubelet does.
//!
//! Renaming is ours, reopening is the pod shim's: it writes to the old file until it has opened the new one, so nothing
//! is lost in between.

use crate::layout::{Layout, PodKey};
use crate::local::{Sandboxed, Sandboxes};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const MAX_BYTES: u64 = 10 << 20;
const MAX_FILES: usize = 5;
const INTERVAL: Duration = Duration::from_secs(10);

/// Looks at the logs of running containers until shutdown.
pub(crate) async fn run(sandboxes: Sandboxes, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = shutdown.cancelled() => return,
        }
        for (uid, sandboxed) in sandboxes.all() {
            rotate_pod(&uid, &sandboxed).await;
        }
    }
}

async fn rotate_pod(uid: &str, sandboxed: &Sandboxed) {
    let dir = sandboxed.shim.state_dir().clone();
    let due = tokio::task::spawn_blocking(move || {
        let ids = dir.containers().unwrap_or_default();
        let states = ids.into_iter().filter_map(|id| dir.state(&id).ok().flatten());
        let logs = states.filter_map(|state| Some((state.config.id, state.config.log_path?)));
        logs.filter(|(_, log)| is_due(log)).collect::<Vec<_>>()
    });
    for (id, log) in due.await.unwrap_or_default() {
        let renamed = log.clone();
        let done = tokio::task::spawn_blocking(move || rotate(&renamed)).await;
        if let Ok(Err(error)) = done {
            tracing::warn!(pod = uid, log = %log.display(), %error, "cannot rotate a log");
            continue;
        }
        if let Err(error) = sandboxed.shim.reopen_log(&id).await {
            tracing::warn!(
                pod = uid,
                error = crate::chain(&error),
                "a pod shim did not reopen a log"
            );
        }
    }
}

fn is_due(log: &Path) -> bool {
    fs::metadata(log).is_ok_and(|metadata| metadata.len() > MAX_BYTES)
}

/// Moves the log aside and forgets the oldest ones. Blocking.
fn rotate(log: &Path) -> std::io::Result<()> {
    let stamp = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string();
    let mut aside = log.as_os_str().to_owned();
    aside.push(format!(".{stamp}"));
    fs::rename(log, PathBuf::from(aside))?;
    let old = rotated(log);
    for surplus in old.iter().take(old.len().saturating_sub(MAX_FILES - 1)) {
        fs::remove_file(surplus)?;
    }
    Ok(())
}

/// The rotated files of a log, oldest first.
pub(crate) fn rotated(log: &Path) -> Vec<PathBuf> {
    let (Some(directory), Some(name)) = (log.parent(), log.file_name().and_then(|name| name.to_str())) else {
        return Vec::new();
    };
    let prefix = format!("{name}.");
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            path.file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.starts_with(&prefix))
        })
        .collect();
    found.sort();
    found
}

/// The newest attempt of a container that has a log. Blocking.
pub(crate) fn latest_attempt(layout: &Layout, pod: &PodKey, container: &str) -> Option<u32> {
    let entries = fs::read_dir(layout.logs_dir(pod).join(container))
        .into_iter()
        .flatten()
        .flatten();
    entries
        .filter_map(|entry| crate::layout::attempt_of_log(&entry.path()))
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_newest_files() {
        let directory = tempfile::tempdir().expect("a directory");
        let log = directory.path().join("0.log");
        for day in 1..=6 {
            fs::write(directory.path().join(format!("0.log.2020010{day}-000000")), "old").expect("written");
        }
        fs::write(&log, "new").expect("written");
        rotate(&log).expect("rotated");
        let left = rotated(&log);
        assert_eq!(left.len(), MAX_FILES - 1);
        assert_eq!(fs::read_to_string(left.last().expect("one")).expect("readable"), "new");
        assert!(!log.exists(), "the shim makes the new one");
    }
}
