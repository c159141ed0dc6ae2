//! Who is next, who waits for what. Pure: told the time, never asking for it.
//!
//! ```text
//!        add ──► active ──take──► in hand ──done──► (gone)
//!                  ▲  ▲              ├──wait──► waiting     (until the cluster gives hope)
//!                  │  └──hope────────┘             │
//!                  └───due──── backing off ◄──back_off──  (an API error: later, ever later)
//! ```

use crate::pod::PodKey;
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LAST_BACKOFF: Duration = Duration::from_secs(10);

/// Pods of higher priority first, then who came first.
type Rank = (Reverse<i32>, u64);

#[derive(Default)]
pub(crate) struct Queue {
    pods: HashMap<PodKey, Queued>,
    active: BTreeSet<(Rank, PodKey)>,
    backing_off: BTreeSet<(Instant, PodKey)>,
    arrivals: u64,
}

struct Queued {
    rank: Rank,
    place: Place,
    failures: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Active,
    InHand,
    Waiting,
    BackingOff(Instant),
}

impl Queue {
    /// A pod is new, or something about it changed: it is tried (again) now. One that is in hand stays there.
    pub(crate) fn add(&mut self, key: &PodKey, priority: i32) {
        match self.pods.get(key).map(|queued| queued.place) {
            None => {
                self.arrivals += 1;
                let queued = Queued {
                    rank: (Reverse(priority), self.arrivals),
                    place: Place::InHand,
                    failures: 0,
                };
                self.pods.insert(key.clone(), queued);
                self.put(key, Place::Active);
            }
            Some(Place::Waiting | Place::BackingOff(_)) => self.put(key, Place::Active),
            Some(Place::Active | Place::InHand) => {}
        }
    }

    /// A pod needs no place any more.
    pub(crate) fn remove(&mut self, key: &PodKey) {
        self.put(key, Place::InHand);
        self.pods.remove(key);
    }

    pub(crate) fn contains(&self, key: &PodKey) -> bool {
        self.pods.contains_key(key)
    }

    /// The next pod, which is in hand until one of `remove`, `wait` and `back_off`.
    pub(crate) fn take(&mut self) -> Option<PodKey> {
        let key = self.active.first()?.1.clone();
        self.put(&key, Place::InHand);
        Some(key)
    }

    /// There is no place for it now.
    pub(crate) fn wait(&mut self, key: &PodKey) {
        self.put(key, Place::Waiting);
    }

    /// It could not be placed for a reason outside the cluster's state.
    pub(crate) fn back_off(&mut self, key: &PodKey, now: Instant) {
        let Some(queued) = self.pods.get_mut(key) else {
            return;
        };
        let delay = FIRST_BACKOFF
            .saturating_mul(1 << queued.failures.min(10))
            .min(LAST_BACKOFF);
        queued.failures += 1;
        self.put(key, Place::BackingOff(now + delay));
    }

    /// The cluster changed: everyone waiting is tried again.
    pub(crate) fn hope(&mut self) {
        let waiting = self.pods.iter().filter(|(_, queued)| queued.place == Place::Waiting);
        let keys: Vec<PodKey> = waiting.map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.put(&key, Place::Active);
        }
    }

    /// When [`Queue::due`] will have something to do.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.backing_off.first().map(|(at, _)| *at)
    }

    /// Those who backed off long enough are tried again.
    pub(crate) fn due(&mut self, now: Instant) {
        while let Some((at, key)) = self.backing_off.first().cloned()
            && at <= now
        {
            self.put(&key, Place::Active);
        }
    }

    fn put(&mut self, key: &PodKey, place: Place) {
        let Some(queued) = self.pods.get_mut(key) else {
            return;
        };
        let rank = queued.rank;
        let before = std::mem::replace(&mut queued.place, place);
        match before {
            Place::Active => drop(self.active.remove(&(rank, key.clone()))),
            Place::BackingOff(at) => drop(self.backing_off.remove(&(at, key.clone()))),
            Place::InHand | Place::Waiting => {}
        }
        match place {
            Place::Active => drop(self.active.insert((rank, key.clone()))),
            Place::BackingOff(at) => drop(self.backing_off.insert((at, key.clone()))),
            Place::InHand | Place::Waiting => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> PodKey {
        PodKey {
            namespace: "default".into(),
            name: name.into(),
        }
    }

    fn take_all(queue: &mut Queue) -> Vec<String> {
        std::iter::from_fn(|| queue.take())
            .map(|key| key.name.to_string())
            .collect()
    }

    #[test]
    fn priority_first_then_arrival() {
        let mut queue = Queue::default();
        for (name, priority) in [("a", 0), ("b", 10), ("c", 0), ("d", 10), ("e", -5)] {
            queue.add(&key(name), priority);
        }
        assert_eq!(take_all(&mut queue), ["b", "d", "a", "c", "e"]);
    }

    #[test]
    fn hope_brings_back_the_waiting_in_their_order() {
        let mut queue = Queue::default();
        for name in ["a", "b", "c"] {
            queue.add(&key(name), 0);
        }
        take_all(&mut queue);
        queue.wait(&key("c"));
        queue.wait(&key("a"));
        assert_eq!(queue.take(), None);
        queue.hope();
        assert_eq!(take_all(&mut queue), ["a", "c"], "b is in hand and stays there");
    }

    #[test]
    fn failures_wait_longer_each_time_and_at_most_ten_seconds() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        queue.add(&key("a"), 0);
        let mut delays = Vec::new();
        for _ in 0..9 {
            queue.take().expect("a is active");
            queue.back_off(&key("a"), start);
            let due = queue.next_due().expect("a backs off");
            delays.push((due - start).as_millis());
            queue.hope();
            assert_eq!(queue.take(), None, "hope is for the waiting only");
            queue.due(due);
        }
        assert_eq!(delays, [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
    }

    #[test]
    fn removed_pods_are_in_no_place() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        for name in ["active", "waiting", "backing-off", "in-hand"] {
            queue.add(&key(name), 0);
        }
        take_all(&mut queue);
        queue.wait(&key("waiting"));
        queue.back_off(&key("backing-off"), start);
        queue.wait(&key("active"));
        queue.add(&key("active"), 0);
        for name in ["active", "waiting", "backing-off", "in-hand"] {
            queue.remove(&key(name));
        }
        queue.hope();
        queue.due(start + LAST_BACKOFF);
        assert_eq!(
            (queue.take(), queue.next_due(), queue.contains(&key("active"))),
            (None, None, false)
        );
    }
}
