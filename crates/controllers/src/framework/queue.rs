//! Keys to be worked on: each at most once at a time, never forgotten, and after failures at growing intervals. Pure: the
//! time is an argument.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::time::{Duration, Instant};

/// The pause after the first failure; it doubles with each one that follows.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// No pause is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// A queue of keys.
#[derive(Debug)]
pub(crate) struct Queue<K> {
    ready: VecDeque<K>,
    /// By the time they are due.
    waiting: BTreeSet<(Instant, K)>,
    keys: HashMap<K, State>,
}

#[derive(Debug, Default)]
struct State {
    stage: Stage,
    /// While it runs: it was added again.
    again: bool,
    failures: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Idle,
    Ready,
    Waiting(Instant),
    Running,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        Queue {
            ready: VecDeque::new(),
            waiting: BTreeSet::new(),
            keys: HashMap::new(),
        }
    }
}

impl<K: Clone + Eq + Hash + Ord> Queue<K> {
    /// The key is to be worked on, as soon as it can be.
    pub(crate) fn add(&mut self, key: K) {
        let state = self.keys.entry(key.clone()).or_default();
        match state.stage {
            Stage::Ready => return,
            Stage::Running => {
                state.again = true;
                return;
            }
            Stage::Waiting(at) => {
                self.waiting.remove(&(at, key.clone()));
            }
            Stage::Idle => {}
        }
        state.stage = Stage::Ready;
        self.ready.push_back(key);
    }

    /// The key is to be worked on at that time, unless it is due before.
    pub(crate) fn add_at(&mut self, key: K, at: Instant) {
        let state = self.keys.entry(key.clone()).or_default();
        match state.stage {
            Stage::Idle => {}
            Stage::Waiting(before) if before > at => {
                self.waiting.remove(&(before, key.clone()));
            }
            Stage::Waiting(_) | Stage::Ready | Stage::Running => return,
        }
        state.stage = Stage::Waiting(at);
        self.waiting.insert((at, key));
    }

    /// When the first waiting key is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.waiting.first().map(|(at, _)| *at)
    }

    /// A key that nobody works on and that is due. It runs until [`succeeded`](Self::succeeded) or [`failed`](Self::failed).
    pub(crate) fn take(&mut self, now: Instant) -> Option<K> {
        while let Some((at, _)) = self.waiting.first()
            && *at <= now
            && let Some((_, key)) = self.waiting.pop_first()
        {
            if let Some(state) = self.keys.get_mut(&key) {
                state.stage = Stage::Ready;
            }
            self.ready.push_back(key);
        }
        let key = self.ready.pop_front()?;
        if let Some(state) = self.keys.get_mut(&key) {
            state.stage = Stage::Running;
        }
        Some(key)
    }

    pub(crate) fn succeeded(&mut self, key: &K) {
        let Some(state) = self.keys.get_mut(key) else { return };
        state.failures = 0;
        state.stage = Stage::Idle;
        if std::mem::take(&mut state.again) {
            self.add(key.clone());
        } else {
            self.keys.remove(key);
        }
    }

    /// It is tried again after a pause.
    pub(crate) fn failed(&mut self, key: &K, now: Instant) {
        let Some(state) = self.keys.get_mut(key) else { return };
        state.stage = Stage::Idle;
        state.again = false;
        let pause = FIRST_PAUSE
            .saturating_mul(1 << state.failures.min(20))
            .min(LONGEST_PAUSE);
        state.failures = state.failures.saturating_add(1);
        self.add_at(key.clone(), now + pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_runs_once_at_a_time_and_is_not_forgotten() {
        let now = Instant::now();
        let mut queue = Queue::default();
        queue.add(1);
        queue.add(1);
        assert_eq!(queue.take(now), Some(1));
        assert_eq!(queue.take(now), None);
        queue.add(1);
        assert_eq!(queue.take(now), None, "it is running");
        queue.succeeded(&1);
        assert_eq!(queue.take(now), Some(1), "it was added while it ran");
        queue.succeeded(&1);
        assert_eq!(queue.take(now), None);
        assert!(queue.keys.is_empty(), "nothing is remembered of what is done");
    }

    #[test]
    fn failures_wait_longer_and_longer() {
        let now = Instant::now();
        let mut queue = Queue::default();
        queue.add(1);
        let mut before = Duration::ZERO;
        for _ in 0..40 {
            assert_eq!(queue.take(now + LONGEST_PAUSE), Some(1));
            queue.failed(&1, now);
            let pause = queue.next_due().unwrap() - now;
            assert!(pause > before || pause == LONGEST_PAUSE);
            before = pause;
        }
        assert_eq!(queue.take(now), None);
        queue.add(1);
        assert_eq!(queue.take(now), Some(1), "news are a reason to try at once");
    }
}
