use crate::golden;
use expect_test::expect;
use serde_json::{Value, json};

const EVENTS: &str = "events.events.k8s.io";

fn event() -> Value {
    json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e", "namespace": "a"},
        "regarding": {"kind": "Pod", "name": "p", "namespace": "a"}, "note": "text", "reason": "Started", "type": "Normal",
        "action": "Starting", "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "example.com/c",
        "reportingInstance": "i", "series": {"count": 3, "lastObservedTime": "2026-01-01T23:59:00.000000Z"},
    })
}

#[test]
fn events_are_kept_as_those_of_core() {
    let hub = golden::kind(EVENTS).hub().expect("a hub");
    let mut old = event();
    old["deprecatedSource"] = json!({"component": "c"});
    old["deprecatedCount"] = json!(2);
    old["deprecatedFirstTimestamp"] = json!("2026-01-01T00:00:00Z");
    old["deprecatedLastTimestamp"] = json!("2026-01-01T00:00:00Z");
    let kept = (hub.to)(old.clone());
    for (field, value) in [
        ("apiVersion", json!("v1")),
        ("message", json!("text")),
        ("count", json!(2)),
    ] {
        assert_eq!(kept[field], value);
    }
    assert_eq!(kept["involvedObject"]["name"], "p");
    assert_eq!(kept["reportingComponent"], "example.com/c");
    assert_eq!((hub.from)(kept), old);
}

#[test]
fn rules_are_stricter_than_those_of_core() {
    golden::create(EVENTS, event(), &expect![""]);
    golden::create(
        EVENTS,
        json!({"metadata": {"namespace": "a"}, "regarding": {"namespace": "b"}, "type": "Odd", "deprecatedCount": 1,
            "deprecatedSource": {"host": "h"}, "deprecatedFirstTimestamp": "2026-01-01T00:00:00Z"}),
        &expect![[r#"
            involvedObject.namespace: Invalid value: "b": does not match event.namespace
            eventTime: Required value
            type: Invalid value: "": has invalid value: Odd
            firstTimestamp: Invalid value: "": needs to be unset
            count: Invalid value: "": needs to be unset
            source: Invalid value: "": needs to be unset"#]],
    );
    golden::create(
        EVENTS,
        json!({"eventTime": "2026-01-01T00:00:00Z", "type": "Normal", "action": "a".repeat(129), "note": "n".repeat(1025),
            "reportingController": "a b", "series": {"count": 1, "lastObservedTime": "2026-01-01T23:59:00.000000Z"}}),
        &expect![[r#"
            involvedObject.namespace: Invalid value: "": does not match event.namespace
            reportingController: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            reportingInstance: Required value
            action: Invalid value: "": can have at most 128 characters
            reason: Required value
            message: Invalid value: "": can have at most 1024 characters
            series.count: Invalid value: "": should be at least 2"#]],
    );
    let mut other = event();
    other["note"] = json!("other");
    other["series"]["count"] = json!(4);
    golden::update(
        EVENTS,
        event(),
        other,
        &expect![[r#"message: Invalid value: "other": field is immutable"#]],
    );
}

#[test]
fn the_table_is_that_of_core() {
    golden::row(
        EVENTS,
        event(),
        &expect![[r#"
            Last Seen: "60s"
            Type: "Normal"
            Reason: "Started"
            Object: "pod/p"
            Subobject (wide): ""
            Source (wide): "example.com/c, i"
            Message: "text"
            First Seen (wide): "24h"
            Count (wide): 3
            Name (wide): "e""#]],
    );
}
