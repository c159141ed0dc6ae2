//! What admission does and how long it takes, by step, by plugin, and by webhook and policy of the cluster's own.

use super::family::{Counters, Histograms, Text};
use std::time::Duration;

const SECONDS: &[f64] = &[0.005, 0.025, 0.1, 0.5, 1.0, 2.5];
const WEBHOOK_SECONDS: &[f64] = &[0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0];
const CHECK_SECONDS: &[f64] = &[0.000_000_5, 0.001, 0.01, 0.1, 1.0];
/// Codes of webhooks beyond this are all the same.
const HIGHEST_CODE: u16 = 600;

pub(crate) struct Admission {
    steps: Histograms,
    controllers: Histograms,
    webhooks: Histograms,
    webhook_requests: Counters,
    webhook_rejections: Counters,
    webhook_fail_open: Counters,
    checks: Counters,
    check_seconds: Histograms,
}

impl Default for Admission {
    fn default() -> Self {
        Admission {
            steps: Histograms::new(SECONDS),
            controllers: Histograms::new(SECONDS),
            webhooks: Histograms::new(WEBHOOK_SECONDS),
            webhook_requests: Counters::default(),
            webhook_rejections: Counters::default(),
            webhook_fail_open: Counters::default(),
            checks: Counters::default(),
            check_seconds: Histograms::new(CHECK_SECONDS),
        }
    }
}

/// A call of a webhook. Names of webhooks are DNS names, so that they need no escaping.
pub(crate) struct WebhookCall<'a> {
    pub(crate) name: &'a str,
    /// `admit` or `validating`.
    pub(crate) step: &'static str,
    pub(crate) operation: &'static str,
    pub(crate) elapsed: Duration,
    /// What it answered with; 0 where it was not its answer that failed.
    pub(crate) code: u16,
    /// Why the request is refused because of it: `no_error`, `calling_webhook_error`, `apiserver_internal_error`.
    pub(crate) rejection: Option<&'static str>,
}

impl Admission {
    /// All of a phase.
    pub(crate) fn step(&self, labels: &str, elapsed: Duration) {
        self.steps.observe(labels, elapsed.as_secs_f64());
    }

    /// One plugin.
    pub(crate) fn controller(&self, labels: &str, elapsed: Duration) {
        self.controllers.observe(labels, elapsed.as_secs_f64());
    }

    pub(crate) fn webhook(&self, call: &WebhookCall<'_>) {
        let WebhookCall {
            name, step, operation, ..
        } = call;
        let (code, rejected) = (call.code.min(HIGHEST_CODE), call.rejection.is_some());
        let labels = format!("name=\"{name}\",operation=\"{operation}\",rejected=\"{rejected}\",type=\"{step}\"");
        self.webhooks.observe(&labels, call.elapsed.as_secs_f64());
        let labels = format!(
            "code=\"{code}\",name=\"{name}\",operation=\"{operation}\",rejected=\"{rejected}\",type=\"{step}\""
        );
        self.webhook_requests.add(&labels, 1);
        if let Some(error) = call.rejection {
            let labels = format!(
                "error_type=\"{error}\",name=\"{name}\",operation=\"{operation}\",rejection_code=\"{code}\",type=\"{step}\""
            );
            self.webhook_rejections.add(&labels, 1);
        }
    }

    /// A webhook failed, and nobody minds.
    pub(crate) fn webhook_fail_open(&self, name: &str, step: &str) {
        let labels = format!("name=\"{name}\",type=\"{step}\"");
        self.webhook_fail_open.add(&labels, 1);
    }

    /// A policy said no. `action` is what came of it: `deny`, `audit`, `warn`.
    pub(crate) fn check(&self, policy: &str, binding: &str, error: &str, action: &str, elapsed: Duration) {
        let labels = format!(
            "enforcement_action=\"{action}\",error_type=\"{error}\",policy=\"{policy}\",policy_binding=\"{binding}\""
        );
        self.checks.add(&labels, 1);
        self.check_seconds.observe(&labels, elapsed.as_secs_f64());
    }

    pub(super) fn render(&self, text: &mut Text) {
        text.histograms(
            "apiserver_admission_step_admission_duration_seconds",
            "How long the steps of admission took.",
            &self.steps,
        );
        text.histograms(
            "apiserver_admission_controller_admission_duration_seconds",
            "How long each plugin of admission took.",
            &self.controllers,
        );
        text.histograms(
            "apiserver_admission_webhook_admission_duration_seconds",
            "How long each webhook took.",
            &self.webhooks,
        );
        text.counters(
            "apiserver_admission_webhook_request_total",
            "Calls of webhooks, by what came of them.",
            &self.webhook_requests,
        );
        text.counters(
            "apiserver_admission_webhook_rejection_count",
            "Requests that were refused because of a webhook.",
            &self.webhook_rejections,
        );
        text.counters(
            "apiserver_admission_webhook_fail_open_count",
            "Webhooks that failed without consequence.",
            &self.webhook_fail_open,
        );
        text.counters(
            "apiserver_validating_admission_policy_check_total",
            "Requests that a policy objected to, by what came of it.",
            &self.checks,
        );
        text.histograms(
            "apiserver_validating_admission_policy_check_duration_seconds",
            "How long the expressions of policies that objected took.",
            &self.check_seconds,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn under_the_names_that_dashboards_ask_for() {
        let admission = Admission::default();
        let call = WebhookCall {
            name: "h.example.org",
            step: "admit",
            operation: "CREATE",
            elapsed: Duration::from_millis(7),
            code: 999,
            rejection: Some("no_error"),
        };
        admission.webhook(&call);
        admission.webhook_fail_open("h.example.org", "validating");
        admission.check("p", "b", "no_error", "deny", Duration::from_millis(2));
        let mut text = Text::default();
        admission.render(&mut text);
        let text = text.finish();
        for line in [
            r#"apiserver_admission_webhook_request_total{code="600",name="h.example.org",operation="CREATE",rejected="true",type="admit"} 1"#,
            r#"apiserver_admission_webhook_rejection_count{error_type="no_error",name="h.example.org",operation="CREATE",rejection_code="600",type="admit"} 1"#,
            r#"apiserver_admission_webhook_admission_duration_seconds_bucket{name="h.example.org",operation="CREATE",rejected="true",type="admit",le="0.025"} 1"#,
            r#"apiserver_admission_webhook_fail_open_count{name="h.example.org",type="validating"} 1"#,
            r#"apiserver_validating_admission_policy_check_total{enforcement_action="deny",error_type="no_error",policy="p",policy_binding="b"} 1"#,
        ] {
            assert!(text.lines().any(|own| own == line), "{line} is not in\n{text}");
        }
    }
}
