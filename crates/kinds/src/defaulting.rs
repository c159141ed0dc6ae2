//! Filling in what was left out. In Go's types an empty text and a zero mean "not given", and so they do here.

pub(crate) fn text(value: &mut Option<String>, default: &str) {
    if value.as_deref().unwrap_or_default().is_empty() {
        *value = Some(default.to_owned());
    }
}

/// For numbers, of which 0 means not set.
pub(crate) fn number(value: &mut Option<i32>, default: i32) {
    if value.unwrap_or(0) == 0 {
        *value = Some(default);
    }
}

/// A text that is there and not empty.
pub(crate) fn given(value: Option<&String>) -> Option<&str> {
    value.map(String::as_str).filter(|value| !value.is_empty())
}
