//! How far back history is kept. Pure: told the time, it says which revision may be forgotten.
//!
//! Leases are renewed all day; without a rule of its own the file would grow with them. Young history is kept for
//! clients that come back after a short absence, and a hard count bounds the file under any load.

use crate::{Options, Revision};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How many points in time are remembered within `keep_history`.
const MARKS: u32 = 32;

pub(super) struct Retention {
    keep_history: Duration,
    keep_revisions: Revision,
    max_revisions: Revision,
    /// Which revision was the last at which time, oldest first.
    marks: VecDeque<(Instant, Revision)>,
    /// The newest revision that is older than `keep_history`.
    aged: Revision,
}

impl Retention {
    pub(super) fn new(options: &Options) -> Retention {
        Retention {
            keep_history: options.keep_history,
            keep_revisions: options.keep_revisions,
            max_revisions: options.max_revisions.max(1),
            marks: VecDeque::new(),
            aged: 0,
        }
    }

    /// The store is at `revision` now and compacted at `compacted`. Returns where to compact to, when it is worth it:
    /// each time costs a write, so it is done in steps.
    pub(super) fn target(&mut self, now: Instant, revision: Revision, compacted: Revision) -> Option<Revision> {
        self.note(now, revision);
        let aged = self.aged.min(revision.saturating_sub(self.keep_revisions));
        let target = aged.max(revision.saturating_sub(self.max_revisions));
        let step = (self.max_revisions / 16).clamp(1, 512);
        (target >= compacted + step).then_some(target)
    }

    fn note(&mut self, now: Instant, revision: Revision) {
        let apart = self.keep_history / MARKS;
        if self.marks.back().is_none_or(|(at, _)| now.duration_since(*at) >= apart) {
            self.marks.push_back((now, revision));
        }
        while let Some((at, marked)) = self.marks.front()
            && now.duration_since(*at) >= self.keep_history
        {
            self.aged = *marked;
            self.marks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retention() -> Retention {
        Retention::new(&Options {
            keep_history: Duration::from_secs(320),
            keep_revisions: 100,
            max_revisions: 1_600,
            ..Options::default()
        })
    }

    #[test]
    fn young_history_is_kept() {
        let (mut retention, start) = (retention(), Instant::now());
        assert_eq!(retention.target(start, 1_000, 0), None);
        assert_eq!(retention.target(start + Duration::from_secs(319), 1_500, 0), None);
    }

    #[test]
    fn aged_history_goes_but_the_last_revisions_stay() {
        let (mut retention, start) = (retention(), Instant::now());
        retention.target(start, 1_000, 0);
        assert_eq!(
            retention.target(start + Duration::from_secs(320), 1_500, 0),
            Some(1_000)
        );
        assert_eq!(retention.target(start + Duration::from_secs(321), 1_050, 0), Some(950));
    }

    #[test]
    fn a_burst_is_bounded_however_young() {
        let (mut retention, start) = (retention(), Instant::now());
        assert_eq!(retention.target(start, 10_000, 0), Some(8_400));
        assert_eq!(retention.target(start, 10_050, 8_400), None, "not worth a write yet");
        assert_eq!(retention.target(start, 10_100, 8_400), Some(8_500));
    }
}
