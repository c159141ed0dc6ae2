//! JSON merge patch (RFC 7386): the patch language of kinds that have no merge keys, and of people.

use serde_json::{Map, Value};

/// Applies `patch` to `target`: objects merge, null removes, everything else replaces.
pub fn apply(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        target.clone_from(patch);
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(object) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            object.remove(key);
        } else {
            apply(object.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// The patch that a client-side apply sends: what `modified` says and `current` lacks, and null for what was in `last` and is in
/// `modified` no more. What others added to `current` stays.
pub fn three_way(
    last: &Map<String, Value>,
    modified: &Map<String, Value>,
    current: &Map<String, Value>,
) -> Map<String, Value> {
    let mut patch = Map::new();
    for (key, wanted) in modified {
        match (current.get(key), wanted) {
            (Some(now), wanted) if now == wanted => {}
            (Some(Value::Object(now)), Value::Object(wanted)) => {
                let empty = Map::new();
                let last = last.get(key).and_then(Value::as_object).unwrap_or(&empty);
                let inner = three_way(last, wanted, now);
                if !inner.is_empty() {
                    patch.insert(key.clone(), Value::Object(inner));
                }
            }
            _ => {
                patch.insert(key.clone(), wanted.clone());
            }
        }
    }
    for key in last
        .keys()
        .filter(|key| !modified.contains_key(*key) && current.contains_key(*key))
    {
        patch.insert(key.clone(), Value::Null);
    }
    patch
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::patch::tests::any_object;

    #[test]
    fn examples_of_the_rfc() {
        let table = [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (
                json!({"a": {"b": "c"}}),
                json!({"a": {"b": "d", "c": null}}),
                json!({"a": {"b": "d"}}),
            ),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a": "b"}), json!(["c"]), json!(["c"])),
            (json!({"a": "foo"}), Value::Null, Value::Null),
            (json!({"a": "foo"}), json!("bar"), json!("bar")),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ];
        for (mut target, patch, expected) in table {
            apply(&mut target, &patch);
            assert_eq!(target, expected);
        }
    }

    #[test]
    fn applying_keeps_what_others_wrote() {
        let object = |value: Value| value.as_object().unwrap().clone();
        let patch = three_way(
            &object(json!({"a": 1, "gone": 1, "m": {"x": 1, "y": 1}})),
            &object(json!({"a": 2, "m": {"x": 1}, "n": 1})),
            &object(json!({"a": 1, "gone": 1, "m": {"x": 1, "y": 1, "theirs": 1}, "theirs": 1})),
        );
        assert_eq!(
            Value::Object(patch),
            json!({"a": 2, "gone": null, "m": {"y": null}, "n": 1})
        );
    }

    proptest! {
        #[test]
        fn a_patch_from_current_to_modified_leads_there(current in any_object(), modified in any_object()) {
            let patch = three_way(&current, &modified, &current);
            let mut result = Value::Object(current);
            apply(&mut result, &Value::Object(patch));
            prop_assert_eq!(result, Value::Object(modified));
        }
    }
}
