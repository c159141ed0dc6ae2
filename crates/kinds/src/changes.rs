//! What an update changed that it must not, for the sentence that refuses it.

use serde::Serialize;
use serde_json::Value;

/// The fields that differ, one a line, with both values. `path` is where the values stand.
pub(crate) fn describe<T: Serialize>(path: &str, new: &T, old: &T) -> String {
    let fields = |value: &T| serde_json::to_value(value).unwrap_or_default();
    let mut lines = Vec::new();
    differences(&mut path.to_owned(), &fields(new), &fields(old), &mut lines);
    lines.join("\n")
}

fn differences(path: &mut String, new: &Value, old: &Value, lines: &mut Vec<String>) {
    if new == old {
        return;
    }
    let length = path.len();
    match (new, old) {
        (Value::Object(new), Value::Object(old)) => {
            let mut keys: Vec<&String> = new.keys().chain(old.keys()).collect();
            keys.sort_unstable();
            keys.dedup();
            for key in keys {
                path.push('.');
                path.push_str(key);
                let (new, old) = (
                    new.get(key).unwrap_or(&Value::Null),
                    old.get(key).unwrap_or(&Value::Null),
                );
                differences(path, new, old, lines);
                path.truncate(length);
            }
        }
        (Value::Array(new), Value::Array(old)) if new.len() == old.len() => {
            for (index, (new, old)) in new.iter().zip(old).enumerate() {
                path.push_str(&format!("[{index}]"));
                differences(path, new, old, lines);
                path.truncate(length);
            }
        }
        _ => lines.push(format!("  {path}: {old} -> {new}")),
    }
}
