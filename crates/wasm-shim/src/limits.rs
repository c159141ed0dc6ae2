//! Memory limits inside the sandbox.
//!
//! The cgroup stops a container that uses too much, but it does so by killing it. The limiter refuses `memory.grow`
//! first, so that the guest's allocator can fail in the guest's own way, and says so once in the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use wasmtime::ResourceLimiter;

/// Table elements are pointers on the host.
const TABLE_ELEMENT_BYTES: u64 = 8;

/// What all instances of one container may use together.
#[derive(Debug)]
pub(crate) struct Budget {
    /// Bytes; `u64::MAX` means no limit.
    limit: u64,
    used: AtomicU64,
    reported: AtomicBool,
}

impl Budget {
    pub(crate) fn new(limit: Option<u64>) -> Arc<Budget> {
        Arc::new(Budget {
            limit: limit.unwrap_or(u64::MAX),
            used: AtomicU64::new(0),
            reported: AtomicBool::new(false),
        })
    }

    /// Whether one memory of this size, bytes, is within the limit at all.
    pub(crate) fn check_first(&self, bytes: u64) -> wasmtime::Result<()> {
        if bytes <= self.limit {
            Ok(())
        } else {
            Err(wasmtime::Error::msg(self.refusal(bytes)))
        }
    }

    fn take(&self, bytes: u64) -> bool {
        let within = |used: u64| used.checked_add(bytes).filter(|total| *total <= self.limit);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, within)
            .is_ok()
    }

    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn report(&self, wanted: u64) {
        if !self.reported.swap(true, Ordering::Relaxed) {
            eprintln!("catamaran: {}", self.refusal(wanted));
        }
    }

    fn refusal(&self, wanted: u64) -> String {
        let used = self.used.load(Ordering::Relaxed);
        format!(
            "memory limit exceeded: the program asked for {} in addition to {}, the container's limit is {}",
            size(wanted),
            size(used),
            size(self.limit)
        )
    }
}

/// The share of one store. Gives everything back when dropped.
#[derive(Debug)]
pub(crate) struct Limiter {
    budget: Arc<Budget>,
    held: u64,
    last: u64,
}

impl Limiter {
    pub(crate) fn new(budget: &Arc<Budget>) -> Limiter {
        Limiter {
            budget: Arc::clone(budget),
            held: 0,
            last: 0,
        }
    }

    fn grow(&mut self, bytes: u64) -> bool {
        if self.budget.take(bytes) {
            self.held += bytes;
            self.last = bytes;
            return true;
        }
        self.budget.report(bytes);
        false
    }

    /// The engine could not grow after all.
    fn undo(&mut self) {
        self.budget.give_back(self.last);
        self.held -= self.last;
        self.last = 0;
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        self.budget.give_back(self.held);
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        Ok(self.grow(desired.saturating_sub(current) as u64))
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.undo();
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        Ok(self.grow(desired.saturating_sub(current) as u64 * TABLE_ELEMENT_BYTES))
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.undo();
        Ok(())
    }
}

fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")];
    match UNITS.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) if bytes.is_multiple_of(*unit) => format!("{}{name}", bytes / unit),
        Some((unit, name)) => format!("{:.1}{name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_share_one_budget_and_give_back() {
        let budget = Budget::new(Some(1 << 20));
        let mut first = Limiter::new(&budget);
        let mut second = Limiter::new(&budget);
        assert!(first.memory_growing(0, 768 << 10, None).expect("decided"));
        assert!(!second.memory_growing(0, 512 << 10, None).expect("decided"));
        drop(first);
        assert!(second.memory_growing(0, 512 << 10, None).expect("decided"));
        assert_eq!(budget.used.load(Ordering::Relaxed), 512 << 10);
    }

    #[test]
    fn failed_growth_is_given_back() {
        let budget = Budget::new(Some(1 << 20));
        let mut limiter = Limiter::new(&budget);
        assert!(limiter.memory_growing(0, 1 << 20, None).expect("decided"));
        limiter
            .memory_grow_failed(wasmtime::Error::msg("no address space"))
            .expect("noted");
        assert!(limiter.memory_growing(0, 1 << 20, None).expect("decided"));
    }

    #[test]
    fn a_guests_own_maximum_is_not_our_limit() {
        let budget = Budget::new(None);
        let mut limiter = Limiter::new(&budget);
        assert!(!limiter.memory_growing(0, 131_072, Some(65_536)).expect("decided"));
        assert!(!budget.reported.load(Ordering::Relaxed));
    }

    #[test]
    fn sizes_read_as_kubernetes_quantities() {
        assert_eq!(size(64 << 20), "64Mi");
        assert_eq!(size((1 << 20) + (512 << 10)), "1.5Mi");
        assert_eq!(size(12), "12 bytes");
    }
}
