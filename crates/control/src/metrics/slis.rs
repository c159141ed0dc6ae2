//! Indicators of the level of service: what came of every check of the server's health.
//! <https://kubernetes.io/docs/reference/instrumentation/slis/>

use super::family::{Counters, Gauges, Text};
use super::process;
use std::time::SystemTime;

/// Kept apart from other metrics, so that they can be asked for more often.
#[derive(Default)]
pub(crate) struct Slis {
    last: Gauges,
    all: Counters,
}

impl Slis {
    /// What came of one check. `kind` is the endpoint it was made for: `healthz`, `livez` or `readyz`.
    pub(crate) fn checked(&self, name: &str, kind: &str, well: bool) {
        self.last
            .set(&format!("name=\"{name}\",type=\"{kind}\""), i64::from(well));
        let status = if well { "success" } else { "error" };
        let labels = format!("name=\"{name}\",status=\"{status}\",type=\"{kind}\"");
        self.all.add(&labels, 1);
    }

    /// Forgets all.
    pub(crate) fn reset(&self) {
        self.last.clear();
        self.all.clear();
    }

    pub(super) fn render(&self, started: SystemTime) -> String {
        let mut text = Text::default();
        text.gauges(
            "kubernetes_healthcheck",
            "What came of a health check the last time: 1 if all was well.",
            &self.last,
        );
        text.counters(
            "kubernetes_healthchecks_total",
            "Health checks by what came of them.",
            &self.all,
        );
        process::render_start(&mut text, started);
        text.finish()
    }
}
