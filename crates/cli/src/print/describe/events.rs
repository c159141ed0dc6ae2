//! The table of events at the end of every page.

use super::{Facts, Page, age, text};
use serde_json::Value;

pub(super) fn write(page: &mut Page, facts: &Facts<'_>) {
    if facts.events.is_empty() {
        page.field(0, "Events", "<none>");
        return;
    }
    page.line(0, "Events:");
    page.line(1, "Type\tReason\tAge\tFrom\tMessage");
    page.line(1, "----\t------\t----\t----\t-------");
    for event in facts.events {
        let from = [&event["source"]["component"], &event["reportingComponent"]]
            .into_iter()
            .map(text);
        let from = from
            .into_iter()
            .find(|component| !component.is_empty())
            .unwrap_or_default();
        let message = text(&event["message"]).trim().replace('\n', " ");
        page.line(
            1,
            format!(
                "{}\t{}\t{}\t{from}\t{message}",
                text(&event["type"]),
                text(&event["reason"]),
                interval(event, facts)
            ),
        );
    }
}

/// `5s`, or `5s (x3 over 2m)` for what happened again and again.
fn interval(event: &Value, facts: &Facts<'_>) -> String {
    let pick = |names: [&str; 3]| {
        names
            .into_iter()
            .map(|name| &event[name])
            .find(|time| time.is_string())
            .cloned()
    };
    let last = pick(["lastTimestamp", "eventTime", "firstTimestamp"]).unwrap_or_default();
    let first = pick(["firstTimestamp", "eventTime", "lastTimestamp"]).unwrap_or_default();
    let count = event["series"]["count"]
        .as_i64()
        .or_else(|| event["count"].as_i64())
        .unwrap_or(1);
    let last = if event["series"]["lastObservedTime"].is_string() {
        &event["series"]["lastObservedTime"]
    } else {
        &last
    };
    match count {
        0 | 1 => age(last, facts.now),
        _ => format!("{} (x{count} over {})", age(last, facts.now), age(&first, facts.now)),
    }
}
