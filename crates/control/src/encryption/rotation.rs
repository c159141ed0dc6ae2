//! Rewriting everything with the newest key, and forgetting the old ones.
//!
//! A key may go only when nothing that can still be read needs it: not the present, and not the past that watches and
//! pages of lists are answered from. So the past is compacted after the rewriting. Every step may be the last one before
//! a `kill -9`; the key file then still has all keys, and the next start goes on.
//!
//! ```text
//!   new key in front (file, fsync) ─▶ rewrite stale values ─▶ none stale? ─▶ compact ─▶ old keys out of the file
//!            └────────────── killed anywhere here: the next start settles ──────────┘
//! ```

use super::key_file::KeyFile;
use super::sealed::{Sealed, opened};
use super::{Error, own_rules};
use catamaran_store::{Error as StoreError, Store};
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Values read at a time.
const PAGE: usize = 500;
/// Rewrites under way at a time, so that the store commits them together.
const TOGETHER: usize = 32;
/// Passes over the values before the rotation gives up. The second finds what was written with the old key while the
/// first was on its way.
const PASSES: usize = 4;

/// What a rotation did.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rotated {
    /// The key that seals from now on.
    pub key: String,
    /// How many values were rewritten.
    pub rewritten: usize,
    /// Keys that nothing needs any more.
    pub dropped: Vec<String>,
}

/// Brings all values to the first key of `keys`, then forgets the others.
pub(super) async fn settle(sealed: &Sealed, data_dir: &Path, keys: KeyFile) -> Result<Rotated, Error> {
    let mut rotated = Rotated {
        key: keys.keys()[0].name().to_owned(),
        rewritten: 0,
        dropped: Vec::new(),
    };
    let mut passes = 0;
    loop {
        let (stale, rewritten) = rewrite(sealed).await?;
        rotated.rewritten += rewritten;
        if stale == 0 {
            break;
        }
        passes += 1;
        if passes == PASSES {
            return Err(Error::Unfinished { left: stale });
        }
    }
    if keys.keys().len() > 1
        && let Some(last) = keys.primary_only()
    {
        sealed.compact(sealed.revision()).await?;
        last.write(data_dir)?;
        sealed.set_rules(own_rules(&last)).await?;
        rotated.dropped = keys.keys()[1..].iter().map(|key| key.name().to_owned()).collect();
    }
    Ok(rotated)
}

/// One pass over all values: how many were stale, and how many of those were rewritten here.
async fn rewrite(sealed: &Sealed) -> Result<(usize, usize), Error> {
    let rules = sealed.rules();
    let (mut stale, mut rewritten) = (0, 0);
    for prefix in rules.prefixes() {
        let mut after: Option<String> = None;
        loop {
            let page = sealed.inner().range(prefix, after.as_deref(), PAGE, None).await?;
            let mut writes = Vec::new();
            after = page.entries.last().map(|entry| entry.key.to_string());
            for entry in page.entries {
                let open = opened(&rules, &entry.key, entry.value)?;
                if open.stale {
                    writes.push((entry.key, open.value, entry.modified));
                }
            }
            stale += writes.len();
            let mut running = futures::stream::iter(writes)
                .map(async |(key, value, modified)| sealed.update(&key, value, modified).await)
                .buffer_unordered(TOGETHER);
            while let Some(outcome) = running.next().await {
                match outcome {
                    Ok(_) => rewritten += 1,
                    // Somebody else wrote it, or took it away: with the new key, if it was after the rules changed.
                    Err(StoreError::Conflict { .. } | StoreError::NotFound { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if !page.more {
                break;
            }
        }
    }
    Ok((stale, rewritten))
}
