//! Kinds of `batch/v1`: pods that come to an end.

pub(super) mod cronjobs;
mod indexes;
pub(super) mod jobs;
mod schedule;
