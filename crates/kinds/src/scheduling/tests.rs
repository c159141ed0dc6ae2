use crate::golden;
use expect_test::expect;
use serde_json::json;

const CLASSES: &str = "priorityclasses.scheduling.k8s.io";

#[test]
fn priority_classes() {
    let class = |name: &str, value: i32| json!({"metadata": {"name": name}, "value": value});
    golden::create(CLASSES, class("high", 1_000_000_000), &expect![""]);
    golden::create(
        CLASSES,
        class("high", 1_000_000_001),
        &expect!["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"],
    );
    golden::create(
        CLASSES,
        class("system-mine", 1),
        &expect![
            "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: system-mine is not a known system priority class"
        ],
    );
    golden::create(
        CLASSES,
        class("system-node-critical", 1),
        &expect![
            "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: value of system-node-critical PriorityClass must be 2000001000"
        ],
    );
    golden::create(CLASSES, class("system-node-critical", 2_000_001_000), &expect![""]);
    golden::create(
        CLASSES,
        json!({"value": 1, "preemptionPolicy": "Sometimes"}),
        &expect![[
            r#"preemptionPolicy: Unsupported value: "Sometimes": supported values: "PreemptLowerPriority", "Never""#
        ]],
    );
    golden::update(
        CLASSES,
        class("a", 1),
        json!({"value": 2, "preemptionPolicy": "Never"}),
        &expect![[r#"
        value: Forbidden: may not be changed in an update.
        preemptionPolicy: Invalid value: "Never": field is immutable"#]],
    );
    golden::row(
        CLASSES,
        class("a", 7),
        &expect![[r#"
        Name: "a"
        Value: 7
        Global-Default: false
        Age: "<unknown>"
        PreemptionPolicy: "PreemptLowerPriority""#]],
    );
}
