//! events.k8s.io: the newer form of events.

#[expect(
    clippy::module_inception,
    reason = "the group and its only kind are both called events"
)]
pub(crate) mod events;

#[cfg(test)]
mod tests;
