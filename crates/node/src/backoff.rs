//! Crash-loop and image-pull clocks, as values: no timer lives here.
//!
//! The rules are the kubelet's: the first retry is immediate, then 10 s doubling to 5 min, and a container that ran for
//! twice the maximum since its last start begins anew.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

const INITIAL: SignedDuration = SignedDuration::from_secs(10);
const MAX: SignedDuration = SignedDuration::from_secs(300);
const RESET_AFTER: SignedDuration = SignedDuration::from_secs(600);

/// The back-off of one container (or of one container's image).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Backoff {
    /// Seconds to wait after the next failure; 0 before the first retry.
    pub delay_secs: i64,
    /// When the delay was last raised.
    pub raised_at: Option<Timestamp>,
}

impl Backoff {
    /// The earliest instant for another try after a failure at `failed_at`.
    pub fn ready_at(&self, failed_at: Timestamp) -> Timestamp {
        if self.expired(failed_at) {
            failed_at
        } else {
            failed_at + self.delay()
        }
    }

    /// The delay a failure at `failed_at` meets, in whole seconds.
    pub fn delay_after(&self, failed_at: Timestamp) -> i64 {
        if self.expired(failed_at) { 0 } else { self.delay_secs }
    }

    /// A retry begins at `now`, after a failure at `failed_at`: the next one waits longer.
    #[must_use]
    pub fn raised(&self, failed_at: Timestamp, now: Timestamp) -> Self {
        let delay = if self.delay_secs == 0 || self.expired(failed_at) {
            INITIAL
        } else {
            SignedDuration::from_secs(self.delay_secs.saturating_mul(2)).min(MAX)
        };
        Self {
            delay_secs: delay.as_secs(),
            raised_at: Some(now),
        }
    }

    /// What the clock stands at for a container that was already restarted `restarts` times, last at `started_at`:
    /// an agent that comes back continues instead of starting over.
    pub fn recovered(restarts: u32, started_at: Timestamp) -> Self {
        if restarts == 0 {
            return Self::default();
        }
        let doubled = INITIAL.as_secs() << (restarts - 1).min(5);
        Self {
            delay_secs: doubled.min(MAX.as_secs()),
            raised_at: Some(started_at),
        }
    }

    fn delay(&self) -> SignedDuration {
        SignedDuration::from_secs(self.delay_secs)
    }

    fn expired(&self, failed_at: Timestamp) -> bool {
        self.raised_at
            .is_none_or(|raised| failed_at.duration_since(raised) > RESET_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).expect("in range")
    }

    #[test]
    fn first_retry_is_immediate_then_doubles_to_five_minutes() {
        let mut backoff = Backoff::default();
        let mut now = at(0);
        let mut waits = Vec::new();
        for _ in 0..8 {
            let ready = backoff.ready_at(now);
            waits.push(ready.duration_since(now).as_secs());
            backoff = backoff.raised(now, ready);
            now = ready;
        }
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn a_long_run_resets() {
        let backoff = Backoff {
            delay_secs: 160,
            raised_at: Some(at(0)),
        };
        assert_eq!(backoff.delay_after(at(600)), 160);
        assert_eq!(backoff.delay_after(at(601)), 0);
        assert_eq!(backoff.raised(at(601), at(601)).delay_secs, 10);
    }

    #[test]
    fn recovery_continues_the_sequence() {
        let delays: Vec<_> = (0..9)
            .map(|restarts| Backoff::recovered(restarts, at(0)).delay_secs)
            .collect();
        assert_eq!(delays, [0, 10, 20, 40, 80, 160, 300, 300, 300]);
    }

    proptest! {
        #[test]
        fn never_waits_longer_than_the_maximum_nor_into_the_past(gaps in prop::collection::vec(0i64..2_000, 1..40)) {
            let mut backoff = Backoff::default();
            let mut now = at(0);
            for gap in gaps {
                let failed = now + SignedDuration::from_secs(gap);
                let ready = backoff.ready_at(failed);
                prop_assert!(ready >= failed && ready.duration_since(failed) <= MAX);
                backoff = backoff.raised(failed, ready);
                now = ready;
            }
        }
    }
}
