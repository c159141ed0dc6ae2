//! `--sort-by`: the order of objects by what a JSONPath finds in them.

use super::jsonpath::Template;
use anyhow::Result;
use serde_json::Value;
use std::cmp::Ordering;

#[derive(Clone, Debug)]
pub(crate) struct Order(Template);

impl Order {
    /// Reads a JSONPath, with or without braces and leading dot.
    ///
    /// # Errors
    /// A path that cannot be read.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let path = text.trim().trim_start_matches('{').trim_end_matches('}');
        let dot = if path.starts_with(['.', '[', '$']) { "" } else { "." };
        Ok(Self(Template::parse(&format!("{{{dot}{path}}}"))?))
    }

    /// Stable; objects in which nothing is found come first.
    pub(crate) fn sort<T>(&self, things: &mut [T], object: impl Fn(&T) -> &Value) {
        things.sort_by(|a, b| {
            let [a, b] = [a, b].map(|thing| self.0.values(object(thing)).into_iter().next());
            match (a, b) {
                (Some(a), Some(b)) => compare(a, b),
                (a, b) => a.is_some().cmp(&b.is_some()),
            }
        });
    }
}

fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::String(a), Value::String(b)) => natural(a, b),
        _ => match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => a.total_cmp(&b),
            _ => a.to_string().cmp(&b.to_string()),
        },
    }
}

/// As people count: `pod-9` before `pod-10`.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let (Some(first), Some(second)) = (a.chars().next(), b.chars().next()) else {
            return a.len().cmp(&b.len());
        };
        let order = if first.is_ascii_digit() && second.is_ascii_digit() {
            let [left, right] = [&mut a, &mut b].map(take_number);
            left.len().cmp(&right.len()).then_with(|| left.cmp(right))
        } else {
            a = &a[first.len_utf8()..];
            b = &b[second.len_utf8()..];
            first.cmp(&second)
        };
        if order.is_ne() {
            return order;
        }
    }
}

/// Takes the digits at the beginning, and returns them without leading zeros.
fn take_number<'a>(text: &mut &'a str) -> &'a str {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    *text = rest;
    number.trim_start_matches('0')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_are_sorted_as_people_count() {
        let sorted = |path: &str| {
            let mut objects = [
                json!({"metadata": {"name": "pod-10"}, "n": 9}),
                json!({"metadata": {"name": "pod-9"}, "n": 10}),
                json!({"metadata": {"name": "a"}}),
            ];
            Order::parse(path).expect(path).sort(&mut objects, |object| object);
            objects.map(|object| object["metadata"]["name"].as_str().unwrap_or("").to_owned())
        };
        assert_eq!(sorted(".metadata.name"), ["a", "pod-9", "pod-10"]);
        assert_eq!(sorted("{.metadata.name}"), ["a", "pod-9", "pod-10"]);
        assert_eq!(sorted("metadata.name"), ["a", "pod-9", "pod-10"]);
        assert_eq!(sorted("n"), ["a", "pod-10", "pod-9"]);
        assert_eq!(natural("x01y", "x1y").then(natural("x2", "x")), Ordering::Greater);
    }
}
